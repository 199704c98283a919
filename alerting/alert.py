"""The process `sizao alert`: signals in, incidents decided and stored, people told.

It only puts the parts together: one consumer for each topic of signals (`consume`), the delivery of
pages (`deliver`), the exchange (`publish`). They meet in the store alone (`keeper`): PostgreSQL, or
the ledger on the local disk while that is away.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from alerting import channels, keeper, responders, responders_cache
from alerting.compose import Composer
from alerting.consume import Consumer
from alerting.deliver import Channel, Deliverer, DeliverySettings
from alerting.handover import OFF, Handover
from alerting.intake import Marks
from alerting.keeper import Keeper
from alerting.publish import Publisher
from alerting.responders import Directory
from alerting.series import Series
from sizao import db, http, topics
from sizao.db import DatabaseSettings, Pool, enduring
from sizao.errors import Retriable
from sizao.kafka import KafkaSettings
from sizao.registry.source import Source
from sizao.service import Service
from sizao.settings import HttpSettings, WatchDisks
from sizao.system.tell import Teller, district_in
from sizao.topics import Topic

_DIRECTORY_POLL_S = 2.0
_POOL_SIZE = 8


class HandoverSettings(BaseModel):
    """What bridges sign with when they hand over past Kafka."""

    model_config = ConfigDict(extra="forbid")

    secret_file: Path = Field(description="whsec_ and base64, the same as the bridges'")


class AlertSettings(BaseModel):
    """Section `alert`."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(default="a0", pattern=r"^[a-z0-9-]{1,32}$", description="one per process")
    http: HttpSettings = HttpSettings()
    handover: HandoverSettings | None = Field(
        default=None, description="left out, bridges cannot hand over (docs/design.md, section 2)"
    )
    delivery: DeliverySettings = DeliverySettings()
    batch_records: int = Field(default=500, ge=1, le=5000, description="signals per transaction")
    ledger_mib: int = Field(
        default=256, ge=4, le=65536, description="bound of the ledger for PostgreSQL's absence"
    )
    utc_offset_min: int = Field(default=480, ge=-720, le=840, description="of the district's clock")


class Settings(BaseModel):
    """What `sizao alert` needs of the settings file."""

    model_config = ConfigDict(extra="forbid")

    kafka: KafkaSettings = KafkaSettings()
    database: DatabaseSettings = DatabaseSettings()
    alert: AlertSettings = AlertSettings()
    watch_disks: WatchDisks = WatchDisks()


class Alert:
    """The running process."""

    def __init__(self, service: Service, settings: Settings, state: Path) -> None:
        """`state` keeps the caches of registry and responders, and the ledger."""
        self._service = service
        service.needs("kafka", "responders")
        self._settings = settings
        self._state = state
        self._pool: Pool = db.pool(
            settings.database, service.name, size_max=_POOL_SIZE, answer_s=keeper.ANSWER_S
        )
        self._source = Source(service, settings.database, state)
        self._directory: Directory = responders.EMPTY
        self._series = Series(service.metrics)
        self._wake = asyncio.Event()
        self._publish = asyncio.Event()

    async def run(self) -> None:
        """Work until cancelled; what is not stored then is read again."""
        await self._pool.open(wait=False)
        try:
            async with http.Client() as client:
                ways = {name: channels.module(name).make(client) for name in channels.names()}
                async with asyncio.TaskGroup() as group:  # each may take its while to find out
                    group.create_task(self._source.open(), name="registry")
                    group.create_task(self._open_directory(), name="responders")
                keeping = self._keeper(ways)
                await keeping.open()
                self._open_handover(keeping)
                await self._work(ways, keeping)
        finally:
            await self._pool.close()

    async def _work(self, ways: Mapping[str, Channel], keeping: Keeper) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(keeping.run(), name="keeper")
            group.create_task(self._source.follow(), name="registry")
            group.create_task(self._follow_directory(), name="responders")
            group.create_task(self._deliverer(ways, keeping).run(), name="deliver")
            group.create_task(self._publisher(keeping).run(), name="publish")
            group.create_task(self._gauge(keeping), name="gauge")
            group.create_task(self._teller().run(), name="system")
            for topic in (topics.SIGNALS, topics.CONDITIONS):
                group.create_task(self._consumer(topic, keeping).run(), name=topic.name)

    def _keeper(self, ways: Mapping[str, Channel]) -> Keeper:
        settings, own = self._settings, self._settings.alert
        compose = Composer(
            view=lambda: self._source.current.newest,
            directory=lambda: self._directory,
            renderers=ways,
            utc_offset_min=own.utc_offset_min,
        )
        return Keeper(
            service=self._service,
            database=settings.database,
            pool=self._pool,
            ledger=(
                self._state / f"ledger-{settings.alert.name}.sqlite",
                settings.alert.ledger_mib,
            ),
            holder=settings.alert.name,
            compose=compose,
            series=self._series,
            news=self._news,
        )

    def _open_handover(self, keeping: Keeper) -> None:
        settings = self._settings.alert.handover
        if settings is None:
            self._service.facts["handover"] = OFF
            self._service.logger.warning("no hand-over", why=OFF)
            return
        Handover(
            service=self._service,
            secret_file=settings.secret_file,
            marks=Marks(self._source),
            take=keeping.take,
            series=self._series,
        ).open()

    def _consumer(self, topic: Topic, keeping: Keeper) -> Consumer:
        settings = self._settings
        return Consumer(
            topic,
            service=self._service,
            kafka_settings=settings.kafka,
            client_id=f"{self._service.name}-{settings.alert.name}",
            batch_records=settings.alert.batch_records,
            keeper=keeping,
            source=self._source,
            series=self._series,
        )

    def _deliverer(self, ways: Mapping[str, Channel], keeping: Keeper) -> Deliverer:
        return Deliverer(
            service=self._service,
            keeper=keeping,
            channels=ways,
            directory=lambda: self._directory,
            settings=self._settings.alert.delivery,
            wake=self._wake,
            probe=partial(db.probe, self._settings.database),
        )

    def _teller(self) -> Teller:
        settings = self._settings
        return Teller(
            self._service,
            settings.kafka,
            stage=f"alert.{settings.alert.name}",
            district=district_in(self._source),
            own={"alert": self._state},
            watch=settings.watch_disks,
        )

    def _publisher(self, keeping: Keeper) -> Publisher:
        return Publisher(
            service=self._service,
            keeper=keeping,
            settings=self._settings.kafka,
            partitions=lambda: self._source.current.partitions,
            poll_s=self._settings.alert.delivery.poll_s,
            wake=self._publish,
        )

    def _news(self) -> None:
        """Something was stored that may have to be sent and published."""
        self._wake.set()
        self._publish.set()

    # ---- responders

    async def _open_directory(self) -> None:
        """From the database; from the cache if that does not answer, else wait for it."""
        try:
            await self._read_directory()
            self._service.ready["responders"] = True
        except Retriable as error:
            cached = await asyncio.to_thread(responders_cache.restore, self._state)
            if cached is None:
                await self._service.patiently("responders", self._read_directory)
                return
            self._directory = cached
            self._service.facts["responders"] = len(cached.responders)
            self._service.logger.warning(
                "responders from cache", version=cached.version, error=str(error)
            )

    async def _read_directory(self) -> None:
        with enduring():
            async with self._pool.connection() as connection:
                found = await responders.load(connection, self._directory)
        if found is self._directory:
            return
        try:
            await asyncio.to_thread(responders_cache.save, found, self._state)
        except OSError as error:
            self._service.logger.error("responders not cached", error=str(error))
        self._directory = found
        self._service.facts["responders"] = len(found.responders)

    async def _follow_directory(self) -> None:
        while True:
            await asyncio.sleep(_DIRECTORY_POLL_S)
            await self._service.patiently("responders", self._read_directory)

    async def _gauge(self, keeping: Keeper) -> None:
        while True:
            waiting, due, oldest_s = await self._service.patiently("pages", keeping.depth)
            self._series.outbox.set(waiting)
            self._series.due.set(due)
            self._series.oldest.set(oldest_s)
            await asyncio.sleep(self._settings.alert.delivery.poll_s)
