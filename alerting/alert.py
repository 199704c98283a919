"""The process `sizao alert`: signals in, incidents decided and stored, people told.

It only puts the parts together: one consumer for each topic of signals (`consume`), the delivery of
pages (`deliver`), the exchange (`publish`). They meet in the database alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from alerting import channels, contacts, outbox, store
from alerting.compose import Composer
from alerting.consume import Consumer
from alerting.contacts import Directory
from alerting.deliver import Channel, Deliverer, DeliverySettings
from alerting.handover import OFF, Handover, Take
from alerting.intake import Marks
from alerting.publish import Publisher
from alerting.series import Series
from alerting.store import Item, Taken
from sizao import clock, db, http, topics
from sizao.db import DatabaseSettings, Pool, enduring, translated
from sizao.kafka import KafkaSettings
from sizao.registry.source import Source
from sizao.service import Service
from sizao.settings import HttpSettings
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
    utc_offset_min: int = Field(default=480, ge=-720, le=840, description="of the district's clock")


class Settings(BaseModel):
    """What `sizao alert` needs of the settings file."""

    model_config = ConfigDict(extra="forbid")

    kafka: KafkaSettings = KafkaSettings()
    database: DatabaseSettings = DatabaseSettings()
    alert: AlertSettings = AlertSettings()


class Alert:
    """The running process."""

    def __init__(self, service: Service, settings: Settings, state: Path) -> None:
        """`state` keeps the registry's cache."""
        self._service = service
        service.needs("database", "kafka")
        self._settings = settings
        self._pool: Pool = db.pool(settings.database, service.name, size_max=_POOL_SIZE)
        self._source = Source(service, settings.database, state)
        self._directory: Directory = contacts.EMPTY
        self._series = Series(service.metrics)
        self._wake = asyncio.Event()
        self._publish = asyncio.Event()

    async def run(self) -> None:
        """Work until cancelled; what is not stored then is read again."""
        service = self._service
        await service.patiently("database", partial(db.probe, self._settings.database))
        await self._pool.open(wait=False)
        try:
            async with http.Client() as client:
                ways = {name: channels.module(name).make(client) for name in channels.names()}
                await self._source.open()
                await service.patiently("database", self._read_directory)
                await self._work(ways)
        finally:
            await self._pool.close()

    async def _work(self, ways: Mapping[str, Channel]) -> None:
        compose = Composer(
            view=lambda: self._source.current.newest,
            directory=lambda: self._directory,
            renderers=ways,
            utc_offset_min=self._settings.alert.utc_offset_min,
        )
        self._open_handover(partial(self._take, compose))
        async with asyncio.TaskGroup() as group:
            group.create_task(self._source.follow(), name="registry")
            group.create_task(self._follow_directory(), name="responders")
            group.create_task(self._deliverer(ways).run(), name="deliver")
            group.create_task(self._publisher().run(), name="publish")
            group.create_task(self._gauge(), name="gauge")
            for topic in (topics.SIGNALS, topics.CONDITIONS):
                group.create_task(self._consumer(topic, compose).run(), name=topic.name)

    def _open_handover(self, take: Take) -> None:
        settings = self._settings.alert.handover
        if settings is None:
            self._service.facts["handover"] = OFF
            self._service.logger.warning("no hand-over", why=OFF)
            return
        Handover(
            service=self._service,
            secret_file=settings.secret_file,
            marks=Marks(self._source),
            take=take,
            series=self._series,
        ).open()

    async def _take(self, compose: Composer, items: Sequence[Item]) -> Taken:
        """Signals that no log brought: stored as the consumers' are, without an offset to move."""
        with translated():
            async with self._pool.connection() as connection:
                taken = await store.take(connection, {}, items, clock.now_us(), compose)
        self._series.took(taken)
        if taken.transitions:
            self._news()
        return taken

    def _consumer(self, topic: Topic, compose: Composer) -> Consumer:
        settings = self._settings
        return Consumer(
            topic,
            service=self._service,
            kafka_settings=settings.kafka,
            client_id=f"{self._service.name}-{settings.alert.name}",
            batch_records=settings.alert.batch_records,
            pool=self._pool,
            source=self._source,
            series=self._series,
            compose=compose,
            news=self._news,
        )

    def _deliverer(self, ways: Mapping[str, Channel]) -> Deliverer:
        return Deliverer(
            service=self._service,
            pool=self._pool,
            holder=self._settings.alert.name,
            channels=ways,
            directory=lambda: self._directory,
            settings=self._settings.alert.delivery,
            wake=self._wake,
            probe=partial(db.probe, self._settings.database),
        )

    def _publisher(self) -> Publisher:
        return Publisher(
            service=self._service,
            pool=self._pool,
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

    async def _read_directory(self) -> None:
        with enduring():
            async with self._pool.connection() as connection:
                self._directory = await contacts.load(connection, self._directory)
        self._service.facts["responders"] = len(self._directory.responders)

    async def _follow_directory(self) -> None:
        while True:
            await asyncio.sleep(_DIRECTORY_POLL_S)
            await self._service.patiently("database", self._read_directory)

    async def _gauge(self) -> None:
        while True:

            async def read() -> tuple[int, int, float]:
                with enduring():
                    async with self._pool.connection() as connection:
                        return await outbox.depth(connection, clock.now_us())

            waiting, due, oldest_s = await self._service.patiently("database", read)
            self._series.outbox.set(waiting)
            self._series.due.set(due)
            self._series.oldest.set(oldest_s)
            await asyncio.sleep(self._settings.alert.delivery.poll_s)
