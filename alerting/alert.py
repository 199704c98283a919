"""The process `sizao alert`: signals in, incidents decided and stored, people told.

Fetch, decode, store (the decision is inside its transaction), wake the delivery. Offsets live in
PostgreSQL and move with what was stored, so Kafka's group is not needed. What is no signal is
counted by reason and skipped; what the database refuses is tried alone, counted and skipped: one
record never decides the fate of another.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from alerting import channels, contacts, outbox, store
from alerting.compose import Composer
from alerting.contacts import Directory
from alerting.deliver import Deliverer, DeliverySettings
from alerting.incident import nature_of
from alerting.intake import Batch, decode, mark_of
from alerting.model import Became, What
from alerting.publish import Publisher
from alerting.store import Item, Taken
from sizao import clock, db, http, kafka, topics
from sizao.db import DatabaseSettings, Pool, translated
from sizao.errors import BadRecord, Permanent, Retriable
from sizao.kafka import Incoming, KafkaSettings, OffsetGone, Partition, Reader
from sizao.registry.source import Source
from sizao.service import Service
from sizao.settings import HttpSettings
from sizao.signal import Kind, SignalFault, Tier

FETCH_WAIT_MS = 500
_LOOK_S = 5.0  # without a record, before Kafka is asked whether it is there
_GENERATION_WAIT_S = 2.2  # the registry is polled each 2 s
_BACK_MS = 300_000  # a log that came back shorter is read again from five minutes before
_DIRECTORY_POLL_S = 2.0
_POOL_SIZE = 6
STORE_REFUSED = "store_refused"


class AlertSettings(BaseModel):
    """Section `alert`."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(default="a0", pattern=r"^[a-z0-9-]{1,32}$", description="one per process")
    http: HttpSettings = HttpSettings()
    delivery: DeliverySettings = DeliverySettings()
    batch_records: int = Field(default=500, ge=1, le=5000, description="signals per transaction")
    utc_offset_min: int = Field(default=480, ge=-720, le=840, description="of the district's clock")


class Settings(BaseModel):
    """What `sizao alert` needs of the settings file."""

    model_config = ConfigDict(extra="forbid")

    kafka: KafkaSettings = KafkaSettings()
    database: DatabaseSettings = DatabaseSettings()
    alert: AlertSettings = AlertSettings()


class Series:
    """What alert counts."""

    def __init__(self, service: Service) -> None:
        """Every label value at once."""
        metrics = service.metrics
        self.kinds = metrics.reasons("signals", "Signals stored, by kind", "kind", Kind)
        self.tiers = metrics.reasons("signals_by_tier", "Signals stored, by tier", "tier", Tier)
        self.became = metrics.reasons("signals_became", "What stored signals did", "became", Became)
        self.bad = metrics.reasons(
            "bad_records", "Records skipped", "reason", [*SignalFault, STORE_REFUSED]
        )
        self.whats = metrics.reasons("transitions", "Transitions by signals", "what", What)
        self.unrouted = metrics.counter(
            "unrouted", "Paging transitions of real incidents that reached nobody"
        )
        self.outbox = metrics.gauge("outbox_records", "Transitions waiting for Kafka")
        self.due = metrics.gauge("messages_due", "Pages without an end yet")
        self.oldest = metrics.gauge("oldest_undelivered_seconds", "Age of the oldest due page")


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
        self._series = Series(service)
        self._wake = asyncio.Event()
        self._publish = asyncio.Event()
        self._next: dict[Partition, int | None] = {}
        self._waited_generation = 0
        self._stage = service.stage("store", self._probe)
        self._reading = service.stage("read", partial(kafka.probe, settings.kafka))
        self._heard_s = 0.0

    async def _probe(self) -> None:
        await db.probe(self._settings.database)

    async def run(self) -> None:
        """Work until cancelled; what is not stored then is read again."""
        service, settings = self._service, self._settings
        await service.patiently("database", self._probe)
        await self._pool.open(wait=False)
        try:
            async with http.Client() as client:
                ways = {name: channels.module(name).make(client) for name in channels.names()}
                await self._source.open()
                await service.patiently("database", self._read_directory)
                compose = Composer(
                    view=lambda: self._source.current.newest,
                    directory=lambda: self._directory,
                    renderers=ways,
                    utc_offset_min=settings.alert.utc_offset_min,
                    unrouted=self._series.unrouted.inc,
                )
                deliverer = Deliverer(
                    service=service,
                    pool=self._pool,
                    holder=settings.alert.name,
                    channels=ways,
                    directory=lambda: self._directory,
                    settings=settings.alert.delivery,
                    wake=self._wake,
                    probe=self._probe,
                )
                publisher = Publisher(
                    service=service,
                    pool=self._pool,
                    settings=settings.kafka,
                    partitions=lambda: self._source.current.partitions,
                    poll_s=settings.alert.delivery.poll_s,
                    wake=self._publish,
                )
                async with asyncio.TaskGroup() as group:
                    group.create_task(self._source.follow(), name="registry")
                    group.create_task(self._follow_directory(), name="responders")
                    group.create_task(deliverer.run(), name="deliver")
                    group.create_task(publisher.run(), name="publish")
                    group.create_task(self._gauge(), name="gauge")
                    await self._consume(compose)
        finally:
            await self._pool.close()

    # ---- signals in

    async def _consume(self, compose: Composer) -> None:
        """Read and store for ever; a new reader whenever its offsets have to be found anew."""
        while True:
            reader = await self._start_reader()
            try:
                await self._read(reader, compose)
            except (OffsetGone, store.OffsetMoved) as error:
                self._service.logger.warning("offsets are read again", error=str(error))
            finally:
                self._reading.moved()
                await reader.stop()

    async def _start_reader(self) -> Reader:
        """A reader at the stored offsets. A partition never read begins at its start; an offset
        outside its log is sought by the arrival of the newest stored record.
        """
        count = self._source.current.partitions
        wanted = [
            (topic.name, number)
            for topic in (topics.SIGNALS, topics.CONDITIONS)
            for number in range(count)
        ]

        async def start() -> Reader:
            name = f"{self._service.name}-{self._settings.alert.name}"
            reader = Reader(self._settings.kafka, wanted, client_id=name)
            await reader.start()
            try:
                stored = await self._offsets()
                starts, ends = await reader.starts(), await reader.ends()
                self._next = {one: stored[one][0] if one in stored else None for one in wanted}
                for one in wanted:
                    place = starts[one] if one not in stored else stored[one][0]
                    if not starts[one] <= place <= ends[one]:
                        place = await self._seek_by_arrival(
                            reader, one, stored[one][1], starts[one]
                        )
                    reader.seek(one, place)
            except BaseException:
                await reader.stop()
                raise
            return reader

        return await self._service.patiently("kafka", start)

    async def _seek_by_arrival(
        self, reader: Reader, one: Partition, arrived_ms: int, start: int
    ) -> int:
        found = await reader.offsets_at({one: max(arrived_ms - _BACK_MS, 0)})
        place = found[one]
        where = start if place is None else place
        self._service.logger.error("the log is not where it was", partition=one, offset=where)
        return where

    async def _offsets(self) -> dict[Partition, tuple[int, int]]:
        with translated():
            async with self._pool.connection() as connection:
                return await store.offsets(connection)

    async def _read(self, reader: Reader, compose: Composer) -> None:
        """Until the district's number of partitions changes: the very first apply fixes it."""
        limit, count = self._settings.alert.batch_records, self._source.current.partitions

        async def fetch() -> Sequence[Incoming]:
            records = await reader.fetch(FETCH_WAIT_MS, limit)
            if records:
                self._heard_s = clock.monotonic_s()
                self._reading.moved()
            elif clock.monotonic_s() - self._heard_s >= _LOOK_S:
                await self._look(reader)
            return records

        while count == self._source.current.partitions:
            records = await self._service.patiently("kafka", fetch)
            if records:
                await self._handle(records, compose)

    async def _look(self, reader: Reader) -> None:
        """A fetch without records looks the same in a quiet district, with the broker away, and in
        a client that is stuck: ask which. Raises Retriable when the broker is away; the stage goes
        on waiting when there is something to read that we do not get.
        """
        self._reading.begin()
        try:
            starts, ends = await reader.starts(), await reader.ends()
        except Retriable:
            self._reading.moved()
            raise
        self._heard_s = clock.monotonic_s()
        if all(max(self._next[one] or 0, starts[one]) >= end for one, end in ends.items()):
            self._reading.moved()

    async def _handle(self, records: Sequence[Incoming], compose: Composer) -> None:
        """Store what was fetched; whole, or record by record when the database refuses it."""
        batch = await self._batch(records)
        try:
            await self._store(batch, compose)
        except store.OffsetMoved:
            raise
        except (Permanent, ValueError) as error:
            self._service.logger.error("batch refused, tried singly", error=str(error))
            for record in records:
                await self._alone(record, compose)
        self._service.passed("signals")

    async def _alone(self, record: Incoming, compose: Composer) -> None:
        batch = await self._batch([record], count=False)
        try:
            await self._store(batch, compose)
        except store.OffsetMoved:
            raise
        except (Permanent, ValueError) as error:
            self._series.bad.add(STORE_REFUSED)
            self._service.logger.error(
                "record refused by the database, skipped",
                topic=record.topic,
                partition=record.partition,
                offset=record.offset,
                error=str(error),
            )
            await self._store(Batch(moves=batch.moves), compose)

    async def _batch(self, records: Sequence[Incoming], *, count: bool = True) -> Batch:
        decoded = []
        batch = Batch()
        for record in records:
            batch.move(record, self._next.get((record.topic, record.partition)))
            try:
                decoded.append((decode(record), record.timestamp_ms * 1000))
            except BadRecord as error:
                if count:
                    self._series.bad.add(error.reason)
        await self._know(max((found.generation for found, _ in decoded), default=0))
        view = self._source.current.newest
        for found, arrived_us in decoded:
            nature = nature_of(mark_of(view, found.device), self_test=found.self_test)
            batch.items.append(Item(signal=found, nature=nature, arrived_us=arrived_us))
        return batch

    async def _know(self, generation: int) -> None:
        """Give a registry that is just changing one poll, once per generation: a test device must
        not page as a real one because its row came with the same apply.
        """
        if generation > max(self._source.current.generation, self._waited_generation):
            self._waited_generation = generation
            await self._source.wait_for(generation, _GENERATION_WAIT_S)

    async def _store(self, batch: Batch, compose: Composer) -> None:
        async def attempt() -> Taken:
            with translated():
                async with self._pool.connection() as connection:
                    return await store.take(
                        connection, batch.moves, batch.items, clock.now_us(), compose
                    )

        self._stage.begin()
        taken = await self._service.patiently("database", attempt)
        self._stage.moved()
        for one, move in batch.moves.items():
            self._next[one] = move.next_offset
        if taken.messages:
            self._wake.set()
        if taken.transitions:
            self._publish.set()
        self._count(batch, taken)

    def _count(self, batch: Batch, taken: Taken) -> None:
        for item in batch.items:
            self._series.kinds.add(item.signal.kind)
            self._series.tiers.add(item.signal.tier)
        for became in taken.became:
            self._series.became.add(became)
        for transition in taken.transitions:
            self._series.whats.add(transition.what)

    # ---- responders

    async def _read_directory(self) -> None:
        with translated():
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
                with translated():
                    async with self._pool.connection() as connection:
                        return await outbox.depth(connection, clock.now_us())

            waiting, due, oldest_s = await self._service.patiently("database", read)
            self._series.outbox.set(waiting)
            self._series.due.set(due)
            self._series.oldest.set(oldest_s)
            await asyncio.sleep(self._settings.alert.delivery.poll_s)
