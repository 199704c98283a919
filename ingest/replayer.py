"""`sizao rejects replay`: dead letters through today's registry into the log, each reading once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field

from pydantic import BaseModel

from ingest import log_span, rejects, replay_store
from ingest.reject_search import Where
from ingest.replay import WRITER, Batch, Case, Id, Tally, replay
from ingest.replay_store import Unfinished
from ingest.routes import District, district
from sizao import clock, frame
from sizao.clock import Rising
from sizao.db import Connection, DatabaseSettings, connected
from sizao.errors import BadRecord, Retriable
from sizao.kafka import Incoming, KafkaSettings, Producer
from sizao.registry.load import load
from sizao.topics import PARTITIONS_DEFAULT, REJECTS

REJECTS_MAX = 500
BYTES_MAX = 4 << 20
"""Of one batch; one dead letter may have a mebibyte, and a batch of readings 8,000 rows."""
_SEND_DEADLINE_S = 60.0
_CLOCKS_APART_US = 300_000_000  # of the bridges, whose frames surround ours


class RejectSettings(BaseModel):
    """What the commands on dead letters read of the settings file."""

    kafka: KafkaSettings = KafkaSettings()
    database: DatabaseSettings = DatabaseSettings()


@dataclass(slots=True)
class Report:
    """What a replay has done, or would do; `unreadable` records were passed over."""

    tally: Tally = field(default_factory=Tally)
    unreadable: int = 0


async def run(
    settings: RejectSettings,
    asked: Where,
    since_us: int,
    *,
    dry_run: bool,
    step: Callable[[str], None] = lambda _: None,
) -> Report:
    """Replay what is asked for. Raises Retriable; a batch then is whole in the log, or doubtful."""
    async with connected(settings.database, "replay") as connection:
        await replay_store.begin(connection, clock.now_us())
        step("reading the registry")
        registry = await load(connection, PARTITIONS_DEFAULT)
        today = await asyncio.to_thread(district, registry.newest)
        one = _Run(settings.kafka, connection, today, Report())
        if dry_run:
            await one.follow(asked, since_us, None, step)
        else:
            async with _producing(settings.kafka) as producer:
                await one.recover(step)
                await one.follow(asked, since_us, producer, step)
    return one.report


@asynccontextmanager
async def _producing(settings: KafkaSettings) -> AsyncIterator[Producer]:
    producer = Producer(settings, client_id=WRITER)
    await producer.start()
    try:
        yield producer
    finally:
        await producer.stop()


@dataclass(slots=True)
class _Run:
    """One run, under the lock."""

    kafka: KafkaSettings
    connection: Connection
    today: District
    report: Report

    async def recover(self, step: Callable[[str], None]) -> None:
        """Acknowledge the batches of a killed replay that are whole in the log."""
        for batch in await replay_store.unfinished(self.connection):
            step("looking for what a killed replay has written")
            if await _written(self.kafka, self.today.view.partitions, batch):
                await replay_store.acknowledge(self.connection, batch.first_sequence)

    async def follow(
        self, asked: Where, since_us: int, producer: Producer | None, step: Callable[[str], None]
    ) -> None:
        """Batch by batch; without a producer only count."""
        ids = await replay_store.ids_of(self.connection, sorted(asked.devices))
        waiting: list[Case] = []
        size = 0
        partitions = self.today.view.partitions
        async with aclosing(log_span.read(self.kafka, REJECTS.name, partitions, since_us)) as span:
            async for records in span:
                for record in records:
                    case = self._case(record, asked, ids, since_us)
                    if case is None:
                        continue
                    if len(waiting) >= REJECTS_MAX or size > BYTES_MAX:
                        await self._batch(waiting, producer)
                        waiting, size = [], 0
                    waiting.append(case)
                    size += len(case.reject.payload)
                step(f"{self.report.tally.rejects + len(waiting):,} rejects")
        if waiting:
            await self._batch(waiting, producer)

    def _case(
        self, record: Incoming, asked: Where, ids: Collection[int], since_us: int
    ) -> Case | None:
        try:
            reject = rejects.read(record.value, record.headers)
        except BadRecord:
            self.report.unreadable += 1
            return None
        if reject.arrived_us < since_us or not asked.takes(reject, ids):
            return None
        return Case(id=Id(record.partition, record.offset, reject.arrived_us), reject=reject)

    async def _batch(self, cases: list[Case], producer: Producer | None) -> None:
        known = await replay_store.noted(self.connection, [case.id for case in cases])
        cases = [
            Case(
                id=case.id,
                reject=case.reject,
                noted=known[case.id].readings,
                doubtful=known[case.id].doubtful,
            )
            if case.id in known
            else case
            for case in cases
        ]
        sequence, received_us = await replay_store.newest(self.connection)
        # A bridge's clock may run ahead of ours; a reading never comes before its message.
        stamp = Rising(max(received_us, *(case.reject.arrived_us for case in cases))).now_us
        batch = replay(self.today, cases, sequence=max(sequence, stamp()), stamp=stamp)
        if producer is not None and batch.frames:
            await self._write(batch, producer)
        self.report.tally.add(batch.tally)

    async def _write(self, batch: Batch, producer: Producer) -> None:
        number = await replay_store.note(self.connection, batch)
        try:
            async with asyncio.timeout(_SEND_DEADLINE_S):
                await producer.send(batch.records)
        except TimeoutError as error:
            raise Retriable(f"Kafka took nothing for {_SEND_DEADLINE_S:g} s") from error
        await replay_store.acknowledge(self.connection, number)


async def _written(kafka: KafkaSettings, partitions: int, batch: Unfinished) -> bool:
    """Whether all frames of a batch are in the log, where they must be if they are."""
    missing = set(batch.frames)
    until_us = batch.began_us + int(_SEND_DEADLINE_S * 1e6) + _CLOCKS_APART_US
    for topic in sorted({topic for topic, _, _ in batch.frames}):
        span = log_span.read(kafka, topic, partitions, batch.began_us, until_us)
        async with aclosing(span):
            async for records in span:
                missing.difference_update(filter(None, map(_ours, records)))
    return not missing


def _ours(record: Incoming) -> tuple[str, int, int] | None:
    """What names a frame of a replay; None for any other record."""
    try:
        one = frame.decode(record.value, record.headers)
    except BadRecord:
        return None
    return (record.topic, record.partition, one.sequence) if one.writer == WRITER else None
