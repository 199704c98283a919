"""All three servers together: started at the same time, stopped together whatever happens."""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from deploy.local.failure import ServerError
from deploy.local.kafka import Kafka
from deploy.local.mosquitto import Mosquitto
from deploy.local.places import RunLock
from deploy.local.postgres import Postgres
from deploy.local.process import Child


class Server(Protocol):
    """What the three have in common."""

    child: Child

    def start(self) -> None:
        """Start and wait until ready."""

    def stop(self) -> None:
        """Stop in an orderly way."""

    def kill(self) -> None:
        """End as a crash would."""


@dataclass(frozen=True, kw_only=True)
class Addresses:
    """Where the servers listen, all on the loopback."""

    mqtt_host: str
    mqtt_port: int
    kafka_bootstrap: str
    postgres_host: str
    postgres_port: int
    postgres_user: str
    postgres_password: str = field(repr=False)


class Servers:
    """Mosquitto, Kafka and PostgreSQL in one folder.

    Use it as a context manager. On exit, exception, Ctrl-C or death of this process every server
    is stopped (the last by its guard). Logs stay in the folder; data too, and are used again
    unless `fresh`.
    """

    def __init__(self, folder: Path, *, fresh: bool = False) -> None:
        self.folder = folder
        self._fresh = fresh
        self._lock: RunLock | None = None
        folder.mkdir(parents=True, exist_ok=True)
        self.mosquitto = Mosquitto(folder / "mosquitto")
        self.kafka = Kafka(folder / "kafka")
        self.postgres = Postgres(folder / "postgres")
        self.all: tuple[Server, ...] = (self.mosquitto, self.kafka, self.postgres)

    @property
    def addresses(self) -> Addresses:
        """Where they listen; valid once started."""
        return Addresses(
            mqtt_host=self.mosquitto.host,
            mqtt_port=self.mosquitto.port,
            kafka_bootstrap=self.kafka.bootstrap,
            postgres_host=self.postgres.host,
            postgres_port=self.postgres.port,
            postgres_user=self.postgres.superuser,
            postgres_password=self.postgres.password,
        )

    def start(self) -> Addresses:
        """Start all three at once. If one fails, the others are stopped and its failure raised."""
        self._lock = RunLock(self.folder)
        try:
            self.recover()
            self._start_all()
        except BaseException:
            self.stop()
            raise
        return self.addresses

    def _start_all(self) -> None:
        """Start them in threads; the first failure, or a Ctrl-C here, makes the others give up."""
        for server in self.all:
            server.child.abandon(given_up=False)
        with ThreadPoolExecutor(len(self.all), "start") as pool:
            starts = [pool.submit(server.start) for server in self.all]
            try:
                for one in as_completed(starts):
                    one.result()
            except BaseException:
                for server in self.all:
                    server.child.abandon()
                raise

    def recover(self) -> bool:
        """Stop what a killed run left behind; return whether there was anything."""
        with ThreadPoolExecutor(len(self.all), "recover") as pool:
            found = list(pool.map(lambda server: server.child.recover(), self.all))
        if self._fresh:
            for name in ("mosquitto", "kafka", "postgres"):
                shutil.rmtree(self.folder / name, ignore_errors=True)
                (self.folder / name).mkdir()
        return any(found)

    def stop(self) -> None:
        """Stop all three at once. A second call does nothing."""
        with ThreadPoolExecutor(len(self.all), "stop") as pool:
            stops = [pool.submit(server.stop) for server in self.all]
        failed = [one.exception() for one in stops if one.exception()]
        if self._lock:
            self._lock.release()
            self._lock = None
        if failed:
            raise ServerError(f"not everything could be stopped: {failed}")

    def __enter__(self) -> Self:
        """Start."""
        self.start()
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        """Stop."""
        self.stop()
