"""What archive says of itself, and of the broker: the second watcher, alive while no bridge is.

archive holds no registry. The district's id is asked for and kept beside its settings, for the
database is away when there is most to say.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

from ingest.broker import number_of
from ingest.broker_watch import BrokerWatch
from ingest.kept import keep
from ingest.mqtt.settings import MqttSettings
from sizao.db import DatabaseSettings, connected, enduring
from sizao.errors import Retriable
from sizao.kafka import KafkaSettings
from sizao.registry.load import district_at
from sizao.service import Service
from sizao.settings import WatchDisks
from sizao.system.tell import District, Teller

_ASK_S = 60.0
_ASK_DEADLINE_S = 10.0


class Whose:
    """The district, as the database last had it."""

    def __init__(self, settings: DatabaseSettings, state: Path) -> None:
        """Read from disk what an earlier life knew."""
        self._settings = settings
        self._file = state / "district"
        self.now = District(0, 0)
        try:
            numbers = map(number_of, self._file.read_bytes().split())
            self.now = District(*(number or 0 for number in numbers))
        except (OSError, TypeError):
            pass

    async def follow(self) -> None:
        """Ask for ever, unhurried: a district changes its id never, its generation in passing."""
        while True:
            try:
                with enduring():
                    async with (
                        asyncio.timeout(_ASK_DEADLINE_S),
                        connected(self._settings, "archive") as connection,
                    ):
                        found = District(*await district_at(connection))
                if found != self.now:
                    self.now = found
                    keep(self._file, f"{found.site} {found.generation}")
            except (Retriable, OSError):  # TimeoutError is one; archive's own stages tell of it
                pass
            await asyncio.sleep(_ASK_S)


async def system(
    service: Service,
    kafka: KafkaSettings,
    database: DatabaseSettings,
    mqtt: MqttSettings | None,
    shard: str,
    state: Path,
    watch: WatchDisks,
) -> None:
    """All of it until cancelled. Without `mqtt:` in the settings there is no broker to watch."""
    whose = Whose(database, state)
    teller = Teller(
        service,
        kafka,
        stage=f"archive.{shard}",
        district=lambda: whose.now,
        own={"archive": state},
        watch=watch,
    )
    async with asyncio.TaskGroup() as group:
        group.create_task(teller.run(), name="system")
        group.create_task(whose.follow(), name="district")
        if mqtt is not None:
            group.create_task(BrokerWatch(service, mqtt, state).run(), name="broker")
