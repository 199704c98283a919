"""detect: frames from the log into signals.

    fetch -> fold -> signals to Kafka, acknowledged -> commit (2 s), snapshot (30 s)

The order of effects, for each batch of records:

1. fold them in log order (memory only);
2. write their signals, each to the partition of its source, and wait until Kafka has them;
3. only then commit the next offsets, and pack snapshots, which cover nothing unsaid.

Killed after 1 or 2: the snapshot, or the committed offset, lies before the batch; it is folded
again and says the same signals under the same ids.
"""

from __future__ import annotations

import asyncio
import threading
from dataclasses import dataclass
from functools import partial

from detectors import begin as places
from detectors import record as records_of
from detectors import rules, snapshot
from detectors import state as folds
from detectors.begin import Begin
from detectors.series import Series
from detectors.settings import DetectSettings, shard_of
from detectors.state import State
from sizao import clock, signal
from sizao import kafka as log_of
from sizao.errors import BadRecord, Retriable
from sizao.frame import Frame
from sizao.kafka import Incoming, OffsetGone, Outgoing, Partition, Producer, Reader
from sizao.registry.source import Source
from sizao.service import Service
from sizao.signal import Signal

WARM_UP_S = 1800
_WAIT_MS = 500
_RECORDS_MAX = 200  # of one batch: 200 frames of 40,000 rows take 0.4 s, and the pages must answer
_GENERATION_WAIT_S = 10.0
_PREPARE_S = 0.25
_PEEK_DEADLINE_S = 10.0
_GROUP = "sizao-detect"


@dataclass(slots=True)
class Fold:
    """One partition's state, and what the loop remembers about it."""

    state: State
    speak_from: int = 0
    snapshot_due_s: float = 0.0


def _outgoing(partition: int, said: Signal) -> Outgoing:
    value = signal.encode(said)
    return Outgoing(
        topic=signal.topic_of(said.kind).name,
        partition=partition,
        key=said.subject.id.encode(),
        value=value,
        headers=signal.headers(said, value),
    )


class Detect:
    """One shard. Cancelled at any point it has acknowledged nothing that is not said."""

    def __init__(self, service: Service, settings: DetectSettings) -> None:
        """Connects in `run`."""
        self._service = service
        service.needs("kafka")
        self._settings = settings
        self._series = Series(service.metrics)
        self._setup = folds.setup_of(rules.discover(), settings.detect.bridges)
        self._source = Source(service, settings.database, settings.detect.state)
        self._producer = Producer(settings.kafka, client_id="sizao-detect")
        self._reader: Reader | None = None
        self._reading = service.stage("read", self._read_probe)
        self._saying = service.stage("say", partial(log_of.probe, settings.kafka))
        self._folds: dict[Partition, Fold] = {}
        self._clean = True  # every signal of the folded records is acknowledged
        self._missed_generation = 0
        self._committed: dict[Partition, int] = {}
        self._commit_due_s = 0.0
        self._writing = threading.Lock()  # the last snapshots wait for the one under way
        self._to_write: asyncio.Queue[tuple[Fold, bytes]] = asyncio.Queue(maxsize=1)

    async def run(self) -> None:
        """Detect for ever."""
        registry = await self._source.open()
        wanted = shard_of(self._settings.detect.shard, registry.partitions)
        self._service.facts["partitions"] = [f"{topic}/{number}" for topic, number in wanted]
        try:
            await self._service.patiently("kafka", self._producer.start)
            async with asyncio.TaskGroup() as group:
                group.create_task(self._source.follow(), name="registry")
                group.create_task(self._prepare(wanted), name="prepare")
                group.create_task(self._write_snapshots(), name="snapshots")
                group.create_task(self._detect(wanted), name="detect")
        finally:
            self._last_snapshots()
            await self._close_reader()
            await self._producer.stop()

    async def _detect(self, wanted: list[Partition]) -> None:
        while True:
            try:
                await self._open(wanted)
                await self._place(wanted)
                await self._follow()
            except Retriable as disturbed:
                self._service.logger.warning("reading begins again", fault=str(disturbed))

    async def _close_reader(self) -> None:
        if self._reader is not None:
            await self._reader.stop()
            self._reader = None

    # --- begin, or begin again -----------------------------------------------------------------

    def _new_reader(self, wanted: list[Partition]) -> Reader:
        return Reader(self._settings.kafka, wanted, client_id="sizao-detect", group=_GROUP)

    async def _open(self, wanted: list[Partition]) -> None:
        self._reading.moved()
        await self._close_reader()
        self._reader = self._new_reader(wanted)
        await self._service.patiently("kafka", self._reader.start)

    async def _place(self, pairs: list[Partition]) -> None:
        """Seek to where the state at hand ends: in memory, in a snapshot, or warmed up anew."""
        assert self._reader is not None
        patiently = self._service.patiently
        firsts = await patiently("kafka", self._reader.starts)
        ends = await patiently("kafka", self._reader.ends)
        committed = await patiently("kafka", self._reader.committed)
        for pair in pairs:
            fold = self._folds.get(pair) or self._restored(pair)
            begin = places.begin(
                kept=fold.state.next_offset if fold else None,
                committed=committed[pair],
                first=firsts[pair],
                end=ends[pair],
            )
            self._folds[pair] = fold = fold or self._cold(pair)
            self._committed[pair] = -1 if begin.gap else committed[pair] or -1
            await self._go(pair, fold, begin, firsts[pair])

    def _cold(self, pair: Partition) -> Fold:
        lane = records_of.LANES[pair[0]]
        return Fold(records_of.cold(lane, pair[1], self._source.current, self._setup))

    def _restored(self, pair: Partition) -> Fold | None:
        lane = records_of.LANES[pair[0]]
        folder, registry = self._settings.detect.state, self._source.current
        found = snapshot.restore(folder, lane, pair[1], registry, self._setup)
        for name, error in found.refused:
            self._series.snapshots_refused.add(error.reason)
            self._service.logger.error("snapshot refused", file=name, fault=str(error))
        if found.cold:
            self._service.logger.warning("rules start cold", partition=pair, blocks=found.cold)
        return None if found.state is None else Fold(found.state)

    async def _go(self, pair: Partition, fold: Fold, begin: Begin, first: int) -> None:
        assert self._reader is not None
        seek = begin.seek
        if begin.gap is not None:
            self._series.gaps.add(begin.gap)
            self._service.logger.error(
                "the wanted offset is not in the log: reading from its start",
                partition=pair, gap=begin.gap, wanted=fold.state.next_offset, read_from=seek,
            )  # fmt: skip
            fold.speak_from = 0
        if begin.warm:
            fold.speak_from = begin.seek
            seek = await self._warm_from(pair, begin.seek, first)
            self._service.logger.info(
                "no snapshot: warming up", partition=pair, silent_records=begin.seek - seek
            )
        fold.state.next_offset = seek
        self._reader.seek(pair, seek)

    async def _warm_from(self, pair: Partition, committed: int, first: int) -> int:
        """Offset so far before `committed` that the rules know again what they remembered."""
        assert self._reader is not None
        at_ms = await self._time_of(pair, committed - 1)
        memory_s = [rule.MEMORY_S for rule in self._setup.of(records_of.LANES[pair[0]])]
        wanted = {pair: max(0, at_ms - max([WARM_UP_S, *memory_s]) * 1000)}
        reader = self._reader
        found = await self._service.patiently("kafka", partial(reader.offsets_at, wanted))
        offset = found[pair]
        return committed if offset is None else min(max(offset, first), committed)

    async def _time_of(self, pair: Partition, offset: int) -> int:
        """Arrival of a record, in ms; now, if it cannot be had."""
        reader = Reader(self._settings.kafka, [pair], client_id="sizao-detect-peek")
        try:
            await self._service.patiently("kafka", reader.start)
            reader.seek(pair, offset)
            async with asyncio.timeout(_PEEK_DEADLINE_S):
                while not (records := await reader.fetch(_WAIT_MS, 1)):
                    pass
            return records[0].timestamp_ms
        except (TimeoutError, OffsetGone):
            return clock.now_us() // 1000
        finally:
            await reader.stop()

    # --- the loop ------------------------------------------------------------------------------

    async def _follow(self) -> None:
        assert self._reader is not None
        while True:
            self._reading.begin()
            try:
                records = await self._reader.fetch(_WAIT_MS, _RECORDS_MAX)
            except OffsetGone as gone:
                # Also said once of the committed offset that the client tried before our seek.
                await self._place(gone.partitions)
                continue
            if records:
                self._reading.moved()
                await self._apply(records)
            await self._settle()

    async def _apply(self, records: list[Incoming]) -> None:
        """Steps 1 and 2."""
        signals: list[tuple[int, Signal]] = []
        self._clean = False
        for record in records:
            fold = self._folds[record.topic, record.partition]
            if record.offset < fold.state.next_offset:
                continue  # read again after a new beginning: already folded
            said = await self._judge(fold, record)
            if record.offset >= fold.speak_from:
                signals += [(record.partition, each) for each in said]
        for topic, lane in records_of.LANES.items():
            if any(record.topic == topic for record in records):
                self._service.passed(str(lane))
        if signals:
            await self._say(signals)
        self._clean = True

    async def _judge(self, fold: Fold, record: Incoming) -> list[Signal]:
        try:
            frame = records_of.read(record)
        except BadRecord as error:
            self._series.skipped.add(error.reason)
            folds.skip(fold.state, record.offset)
            return []
        if frame.generation > self._source.current.generation:
            await self._wait_for(frame)
        said = records_of.judge(fold.state, frame, record.offset, self._source.current)
        self._series.count(fold.state, frame)
        return said

    async def _wait_for(self, frame: Frame) -> None:
        """Give the registry 10 s to bring a generation; once for each that never comes."""
        if frame.generation <= self._missed_generation:
            return
        self._reading.moved()
        if not await self._source.wait_for(frame.generation, _GENERATION_WAIT_S):
            self._missed_generation = frame.generation
            self._series.generations_missed.inc()
            self._service.logger.error(
                "frames carry a generation that the registry does not bring",
                carried=frame.generation, known=self._source.current.generation,
            )  # fmt: skip

    async def _say(self, signals: list[tuple[int, Signal]]) -> None:
        """Write signals, each with its partition, until Kafka has them, however long it is away."""
        outgoing = [_outgoing(partition, said) for partition, said in signals]

        async def attempt() -> None:
            self._saying.begin()
            try:
                await self._producer.send(outgoing)
            finally:
                self._saying.moved()

        await self._service.patiently("kafka", attempt)
        self._service.passed("signals")
        now_us = clock.now_us()
        for _, said in signals:
            self._series.said(said, now_us)

    # --- what follows the acknowledgement ------------------------------------------------------

    async def _settle(self) -> None:
        """Step 3."""
        now_s = clock.monotonic_s()
        if now_s >= self._commit_due_s:
            self._commit_due_s = now_s + self._settings.detect.commit_s
            await self._commit()
        if self._to_write.empty():
            self._pack_one(now_s)

    async def _commit(self) -> None:
        assert self._reader is not None
        moved = {
            pair: fold.state.next_offset
            for pair, fold in self._folds.items()
            if fold.state.next_offset > self._committed[pair]
        }
        if not moved:
            return
        try:
            await self._reader.commit(moved)
        except Retriable as error:
            self._series.commits_failed.inc()
            self._service.logger.warning("offsets not committed", fault=str(error))
        else:
            self._committed |= moved

    def _pack_one(self, now_s: float) -> None:
        """Hand the most overdue snapshot to the writer: one at a time, so that none holds up."""
        fold = min(self._folds.values(), key=lambda fold: fold.snapshot_due_s, default=None)
        if fold is None or fold.snapshot_due_s > now_s:
            return
        fold.snapshot_due_s = now_s + self._settings.detect.snapshot_s
        if fold.state.next_offset >= fold.speak_from:
            self._to_write.put_nowait((fold, snapshot.pack(fold.state)))

    async def _write_snapshots(self) -> None:
        """Write what is handed over; a disk that hangs or is full never holds up detection."""
        while True:
            fold, content = await self._to_write.get()
            await asyncio.to_thread(self._write, fold, content)

    def _write(self, fold: Fold, content: bytes) -> None:
        folder, state = self._settings.detect.state, fold.state
        try:
            with self._writing:
                snapshot.write(folder, state.lane, state.partition, content)
        except OSError as error:
            self._series.snapshots_failed.inc()
            self._service.logger.error("snapshot not written", fault=str(error))

    def _last_snapshots(self) -> None:
        """At an orderly end: the next start needs no replay."""
        for fold in self._folds.values() if self._clean else ():
            if fold.state.next_offset >= fold.speak_from:
                self._write(fold, snapshot.pack(fold.state))

    async def _prepare(self, wanted: list[Partition]) -> None:
        """Build the view of a new generation before the first frame carries it (1 s at 400,000)."""
        prepared = -1
        while True:
            registry = self._source.current
            if registry.generation != prepared:
                prepared = registry.generation
                view = await asyncio.to_thread(registry.at, prepared)
                for topic, number in wanted:
                    await asyncio.to_thread(view.fold, records_of.LANES[topic], number)
            await asyncio.sleep(_PREPARE_S)

    async def _read_probe(self) -> None:
        """For the watchdog: returns only if there is something to read that we do not get."""
        self._service.ready["kafka"] = False
        fresh = self._new_reader(list(self._folds))
        try:
            await fresh.start()
            ends = await fresh.ends()
        finally:
            await fresh.stop()
        self._service.ready["kafka"] = True
        if all(fold.state.next_offset >= ends[pair] for pair, fold in self._folds.items()):
            self._reading.moved()
            self._reading.begin()
            raise Retriable("nothing to read")


async def body(settings: DetectSettings, service: Service) -> None:
    """The process's work, for `sizao.service.run`."""
    await Detect(service, settings).run()
