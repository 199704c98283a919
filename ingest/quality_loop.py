"""The second task of `sizao archive`: counts what each device said, and says which stay bad.

    fetch -> fold (readings, dead letters) -> every 10 min: counts, state, offsets, one transaction

It has a reader and a connection of its own and ends nothing: whatever disturbs it is told and
begins again at the stored offsets, while the storing of readings goes on beside it. Heavy steps run
in a thread; a long fetch gives way after every 20,000 rows.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, Field

from ingest import quality, rejects
from ingest.archive_store import Moved
from ingest.quality import Roster, State
from ingest.quality_clock import DAY_US, SECOND_US
from ingest.quality_fault import FAULTS_MAX, Params, judge
from ingest.quality_keep import pack, unpack
from ingest.quality_rows import build, roster
from ingest.quality_store import Kept, Move, QualityStore
from sizao import clock, frame, signal
from sizao.db import DatabaseSettings
from sizao.errors import BadRecord, Retriable, SizaoError
from sizao.kafka import Incoming, KafkaSettings, Outgoing, Partition, Producer, Reader
from sizao.service import Service
from sizao.signal import Signal
from sizao.topics import READINGS, REJECTS

Result = TypeVar("Result")

GAPS = ("expired", "shorter")
_FETCH_BYTES_MIN = 512 * 1024
_WAIT_MS = 1_000
_TURN_ROWS = 20_000
_REJECTS_MAX = 100_000  # (day, device, reason) held until a flush
_ROSTER_EACH_S = 10.0  # a generation that does not come is not asked for at every frame
_AGAIN_S = 5.0
_JUDGED_DAYS_MAX = 7


class QualitySection(BaseModel):
    """`archive.quality:` of the settings file."""

    model_config = ConfigDict(extra="forbid")

    flush_s: float = Field(default=600.0, gt=0, le=3_600, description="figures are so old at most")
    utc_offset_min: int = Field(default=480, ge=-720, le=840, description="of the district's clock")
    kept_days: int = Field(default=400, ge=7, le=4_000, description="older days are deleted")


class _Series:
    """What /metrics shows."""

    def __init__(self, service: Service) -> None:
        metrics = service.metrics
        self.rows = metrics.counter("quality_rows", "readings counted")
        self.unknown = metrics.counter("quality_rows_unknown", "of points that are not known here")
        self.bad = metrics.counter("quality_records_bad", "records that are none of ours")
        self.gaps = metrics.reasons("quality_gaps", "log and place disagreed", "reason", GAPS)
        self.again = metrics.counter("quality_restarts", "times that it began again")
        self.signals = metrics.counter("quality_signals", "raised, refreshed or cleared faults")
        self.flush = metrics.seconds("quality_flush_seconds", "one transaction: counts and state")


class Quality:
    """One shard. Cancelled at any point it leaves whole transactions or none."""

    def __init__(
        self,
        service: Service,
        kafka: KafkaSettings,
        database: DatabaseSettings,
        section: QualitySection,
        shard: str,
    ) -> None:
        """Connects in `run`. `shard`: i/n, as the archive's."""
        self._service = service
        self._kafka = kafka
        self._section = section
        self._shard = shard
        self._offset_us = section.utc_offset_min * 60 * SECOND_US
        self._store = QualityStore(database)
        self._series = _Series(service)
        self._reader: Reader | None = None
        self._producer: Producer | None = None
        self._next: dict[Partition, int] = {}
        self._stored: dict[Partition, int] = {}
        self._judged: dict[int, int | None] = {}
        self._roster_s = 0.0

    async def run(self) -> None:
        """Count for ever."""
        try:
            while True:
                try:
                    state = await self._resume()
                    await self._follow(state)
                except (SizaoError, TimeoutError) as disturbed:
                    self._series.again.inc()
                    self._service.facts["quality"] = str(disturbed)
                    self._service.logger.warning("quality begins again", fault=str(disturbed))
                    await asyncio.sleep(_AGAIN_S if not isinstance(disturbed, Moved) else 0)
        finally:
            await self._close()

    async def _close(self) -> None:
        for client in (self._reader, self._producer):
            if client is not None:
                await client.stop()
        self._reader = self._producer = None
        await self._store.close()

    # --- begin, or begin again -----------------------------------------------------------------

    async def _resume(self) -> State:
        """Read on at the stored offsets, with what was not to be forgotten."""
        await self._close()
        count = await self._patiently(self._store.partitions)
        index, of = (int(part) for part in self._shard.split("/"))
        numbers = [number for number in range(count) if number % of == index]
        pairs = [(topic.name, number) for topic in (READINGS, REJECTS) for number in numbers]
        reader = self._reader = Reader(
            self._kafka, pairs, client_id="sizao-quality", fetch_bytes_min=_FETCH_BYTES_MIN
        )
        await self._patiently(reader.start)
        firsts = await self._patiently(reader.starts)
        ends = await self._patiently(reader.ends)
        await self._patiently(partial(self._store.params, Params()))
        kept = await self._patiently(partial(self._store.kept, firsts))
        state = self._restored(await self._roster(), numbers, kept)
        self._judged = {number: kept[READINGS.name, number].judged for number in numbers}
        self._stored = {pair: kept[pair].next_offset for pair in pairs}
        self._next = dict(self._stored)
        for pair in pairs:
            if not firsts[pair] <= self._next[pair] <= ends[pair]:
                self._mend(pair, firsts[pair], ends[pair])
            reader.seek(pair, self._next[pair])
        self._service.facts["quality"] = "counts"
        return state

    def _restored(
        self, roster: Roster, numbers: list[int], kept: Mapping[Partition, Kept]
    ) -> State:
        """With what was not to be forgotten; if another program wrote that, counting begins now."""
        packed = {
            number: content
            for (topic, number), one in kept.items()
            if topic == READINGS.name and (content := one.state) is not None
        }
        state = quality.start(roster, numbers, self._section.utc_offset_min)
        try:
            unpack(state, packed)
        except BadRecord as bad:
            self._service.logger.error("gaps are counted from now on", fault=str(bad))
            state = quality.start(roster, numbers, self._section.utc_offset_min)
        return state

    def _mend(self, pair: Partition, first: int, end: int) -> None:
        """The log is not where it was. Figures are no evidence: what is gone is not sought."""
        expired = self._next[pair] < first
        self._series.gaps.add(GAPS[0] if expired else GAPS[1])
        self._service.logger.error("quality lost its place", partition=pair, stood=self._next[pair])
        self._next[pair] = first if expired else end

    async def _roster(self) -> Roster:
        self._roster_s = clock.monotonic_s()
        tables = await self._patiently(self._store.tables)
        return await asyncio.to_thread(roster, tables)

    async def _patiently(self, attempt: Callable[[], Awaitable[Result]]) -> Result:
        return await self._service.patiently("quality", attempt)

    # --- the loop ------------------------------------------------------------------------------

    async def _follow(self, state: State) -> None:
        """Fetch, fold and flush until something disturbs."""
        assert self._reader is not None
        due_s = clock.monotonic_s() + self._section.flush_s
        heard_s = clock.monotonic_s()
        while True:
            records = await self._reader.fetch(_WAIT_MS)
            now_s = clock.monotonic_s()
            if records:
                heard_s = now_s
            silent = now_s - heard_s > self._section.flush_s
            await self._take(state, records)
            full = len(state.rejects) > _REJECTS_MAX or state.closed
            if full or silent or clock.monotonic_s() >= due_s:
                await self._flush(state)
                await self._judge(state)
                due_s = clock.monotonic_s() + self._section.flush_s
            if silent:  # only now: else what came last was never judged, reader after reader
                raise Retriable("nothing came for a whole flush; a new reader looks again")

    async def _take(self, state: State, records: Sequence[Incoming]) -> None:
        turn = 0
        for record in records:
            try:
                if record.topic == READINGS.name:
                    found = frame.decode(record.value, record.headers)
                    await self._know(state, found.generation)
                    quality.fold(state, record.partition, found, record.offset)
                    self._series.rows.inc(found.rows)
                    turn += found.rows
                else:
                    quality.reject(state, rejects.read(record.value, record.headers))
            except BadRecord:
                self._series.bad.inc()
            self._next[record.topic, record.partition] = record.offset + 1
            turn += 100  # a record without rows costs something too
            if turn >= _TURN_ROWS:
                turn = 0
                await asyncio.sleep(0)

    async def _know(self, state: State, generation: int) -> None:
        """Have the registry of a frame; one that is not there within reason is not waited for."""
        since_s = clock.monotonic_s() - self._roster_s
        if generation > state.roster.generation and since_s > _ROSTER_EACH_S:
            quality.adopt(state, await self._roster())

    async def _flush(self, state: State) -> None:
        """Store what is counted, however long the database is away."""
        began_s = clock.monotonic_s()
        reached = {pair: _reached(state, pair, after) for pair, after in self._next.items()}
        moved = [pair for pair, offset in reached.items() if offset != self._stored[pair]]
        if not moved:
            return
        days, states = await asyncio.to_thread(_settled, state)
        moves = {
            pair: Move(
                expected=self._stored[pair],
                next_offset=reached[pair],
                state=states[pair[1]] if pair[0] == READINGS.name else None,
            )
            for pair in moved
        }
        flush = partial(self._store.flush, moves, days, dict(state.rejects))
        await self._patiently(flush)
        quality.stored(state)
        self._stored = reached
        self._series.unknown.inc(state.unknown)
        state.unknown = 0
        self._series.flush.observe(clock.monotonic_s() - began_s)

    # --- faults --------------------------------------------------------------------------------

    async def _judge(self, state: State) -> None:
        """Judge the days that ended: once every shard has had time to count its dead letters."""
        grace_us = round(self._section.flush_s * 1.5 * SECOND_US)
        while True:
            due = [
                (day, number)
                for number, part in state.parts.items()
                if (day := self._due(number, part.day)) < part.day
                and part.clock_us >= (day + 1) * DAY_US - self._offset_us + grace_us
            ]
            if not due:
                return
            day = min(due)[0]
            await self._judge_day(state, day, [number for at, number in due if at == day])

    def _due(self, number: int, running: int) -> int:
        """The next day to judge. Those long gone are let go: the log keeps two."""
        judged = self._judged[number]
        if judged is None or judged > running:
            return running - 1
        return max(judged + 1, running - _JUDGED_DAYS_MAX)

    async def _judge_day(self, state: State, day: int, numbers: list[int]) -> None:
        ask = partial(self._store.judged, day, FAULTS_MAX)
        days, since = await self._patiently(ask)
        if len(days) >= FAULTS_MAX:
            self._service.logger.error("more devices are bad than are told", told=FAULTS_MAX)
        place = state.roster.partition

        def mine(device: int) -> bool:
            """A device without a place is partition 0's, so that its fault ends."""
            return max(int(place[min(device, len(place) - 1)]), 0) in numbers

        verdicts = judge(
            state.roster,
            day,
            {device: one for device, one in days.items() if mine(device)},
            {device: at for device, at in since.items() if mine(device)},
            self._offset_us,
        )
        if verdicts.signals:
            await self._say([_record(state.roster, one) for one in verdicts.signals])
        kept_days = self._section.kept_days
        before_of = {number: self._judged[number] for number in numbers}
        settle = partial(self._store.settle, READINGS.name, before_of, day, verdicts, kept_days)
        await self._patiently(settle)
        self._judged.update(dict.fromkeys(numbers, day))

    async def _say(self, records: list[Outgoing]) -> None:
        """Returns when Kafka has them: only then is the day judged."""
        if self._producer is None:
            producer = Producer(self._kafka, client_id="sizao-quality")
            await self._patiently(producer.start)
            self._producer = producer
        await self._patiently(partial(self._producer.send, records))
        self._series.signals.inc(len(records))


def _reached(state: State, pair: Partition, after: int) -> int:
    topic, number = pair
    return state.parts[number].next_offset(after) if topic == READINGS.name else after


def _settled(state: State) -> tuple[list[bytes], dict[int, bytes]]:
    """COPYs of what is to be added, and the state of each partition behind it."""
    copies = list(build(quality.settle(state)))
    return copies, {number: pack(state, number) for number in state.parts}


def _record(roster: Roster, said: Signal) -> Outgoing:
    value = signal.encode(said)
    device = min(said.device, roster.devices - 1)
    return Outgoing(
        topic=signal.topic_of(said.kind).name,
        partition=max(int(roster.partition[device]), 0),
        key=said.subject.id.encode(),
        value=value,
        headers=signal.headers(said, value, "archive"),
        timestamp_ms=said.received_us // 1000,
    )
