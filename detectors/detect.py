"""detect: frames from the log into signals.

    fetch -> fold -> signals to Kafka, acknowledged -> commit (2 s), snapshot (30 s)

The order of effects, for each batch of records:

1. fold them in log order (memory only);
2. write their signals, each to the partition of its source, and wait until Kafka has them;
3. only then pack snapshots, which cover nothing unsaid, and hand the next offsets to be committed.

Killed after 1 or 2: the snapshot, or the committed offset, lies before the batch; it is folded
again and says the same signals under the same ids.
"""

from __future__ import annotations

import asyncio
from functools import partial

from detectors import parameters, rules
from detectors import record as records_of
from detectors import state as folds
from detectors.fold import Fold
from detectors.keep import Offsets, Snapshots
from detectors.placing import Placing
from detectors.series import Series
from detectors.settings import DetectSettings, shard_of
from sizao import clock, signal
from sizao import kafka as log_of
from sizao.errors import BadRecord, Retriable
from sizao.frame import Frame
from sizao.kafka import Incoming, OffsetGone, Outgoing, Partition, Producer, Reader
from sizao.registry.model import View
from sizao.registry.source import Source
from sizao.service import Service
from sizao.signal import Signal
from sizao.system.tell import Teller, district_in

_WAIT_MS = 500
_RECORDS_MAX = 200  # of one batch: 200 frames of 40,000 rows take 0.4 s, and the pages must answer
_GENERATION_WAIT_S = 10.0
_PREPARE_S = 0.25
_GROUP = "sizao-detect"


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
        self._placing = Placing(service, settings, self._series, self._setup, self._source)
        self._offsets = Offsets(service, self._series, settings.detect)
        self._snapshots = Snapshots(service, self._series, settings.detect)
        self._wanted: list[Partition] = []
        self._folds: dict[Partition, Fold] = {}
        self._placed = False  # every wanted fold knows where it reads
        self._clean = True  # every signal of the folded records is acknowledged
        self._missed_generation = 0

    async def run(self) -> None:
        """Detect for ever."""
        await self._source.open()
        try:
            await self._service.patiently("kafka", self._producer.start)
            async with asyncio.TaskGroup() as group:
                group.create_task(self._source.follow(), name="registry")
                group.create_task(self._prepare(), name="prepare")
                group.create_task(self._snapshots.run(), name="snapshots")
                group.create_task(self._offsets.run(), name="offsets")
                group.create_task(self._detect(), name="detect")
                group.create_task(self._teller().run(), name="system")
        finally:
            if self._clean:
                self._snapshots.last(self._folds.values())
            await self._close_reader()
            await self._producer.stop()

    async def _detect(self) -> None:
        while True:
            try:
                await self._open()
                await self._place(self._wanted)
                await self._follow()
            except Retriable as disturbed:
                self._service.logger.warning("reading begins again", fault=str(disturbed))

    async def _close_reader(self) -> None:
        self._placed = False
        await self._offsets.leave()
        if self._reader is not None:
            await self._reader.stop()
            self._reader = None

    # --- begin, or begin again -----------------------------------------------------------------

    def _new_reader(self) -> Reader:
        return Reader(self._settings.kafka, self._wanted, client_id="sizao-detect", group=_GROUP)

    async def _open(self) -> None:
        """A reader of the partitions that the district has now, under the watchdog's eyes."""
        await self._close_reader()
        self._moved()
        self._wanted = shard_of(self._settings.detect.shard, self._source.current.partitions)
        self._folds = {pair: fold for pair, fold in self._folds.items() if pair in self._wanted}
        self._service.facts["partitions"] = [f"{topic}/{number}" for topic, number in self._wanted]
        self._reader = self._new_reader()
        await self._service.patiently("kafka", self._reader.start)

    async def _place(self, pairs: list[Partition]) -> None:
        assert self._reader is not None
        self._placed = False
        await self._offsets.leave()
        committed = await self._placing.place(self._reader, self._folds, pairs, self._moved)
        self._offsets.follow(self._reader, committed)
        self._placed = True

    def _moved(self) -> None:
        """Something got through while the folds are placed, and the next is waited for. (Left
        idle, the stage would never be found stuck: seen with a group that answered no question.)
        """
        self._reading.moved()
        self._reading.begin()

    # --- the loop ------------------------------------------------------------------------------

    async def _follow(self) -> None:
        """Until the district's number of partitions changes: the first import may fix it."""
        assert self._reader is not None
        count = self._source.current.partitions
        while count == self._source.current.partitions:
            self._reading.begin()
            try:
                records = await self._reader.fetch(_WAIT_MS, _RECORDS_MAX)
            except OffsetGone as gone:
                # Also said once of the committed offset that the client tried before our seek.
                await self._place(gone.partitions)
                continue
            if records:
                self._reading.moved()
                self._service.ready["kafka"] = True
                await self._apply(records)
            self._settle()

    async def _apply(self, records: list[Incoming]) -> None:
        """Steps 1 and 2. Raises Retriable where the log is not the one that was read."""
        signals: list[tuple[int, Signal]] = []
        self._clean = False
        for record in records:
            fold = self._folds[record.topic, record.partition]
            if not fold.passes_over(record):
                fold.join(record.offset)
                said = await self._judge(fold, record)
                if record.offset >= fold.speak_from:
                    signals += [(record.partition, each) for each in said]
                fold.join(record.offset + 1)
        for topic, lane in records_of.LANES.items():
            if any(record.topic == topic for record in records):
                self._service.passed(f"{lane}.in")
        if signals:
            await self._say(signals)
        self._clean = True
        replaced = [pair for pair, fold in self._folds.items() if fold.replaced]
        if replaced:
            raise Retriable(f"another record stands where one was read: {replaced}")

    async def _judge(self, fold: Fold, record: Incoming) -> list[Signal]:
        try:
            frame = records_of.read(record)
        except BadRecord as error:
            self._series.skipped.add(error.reason)
            folds.skip(fold.state, record.offset)
            return []
        if frame.generation > max(self._source.current.generation, fold.state.view.generation):
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
        self._service.passed("signals.out")
        now_us = clock.now_us()
        for _, said in signals:
            self._series.said(said, now_us)

    def _settle(self) -> None:
        """Step 3, as far as this loop goes."""
        self._offsets.acknowledged(
            {pair: fold.state.next_offset for pair, fold in self._folds.items()}
        )
        self._snapshots.pack_one(self._folds.values(), clock.monotonic_s())

    # --- beside the loop -----------------------------------------------------------------------

    def _teller(self) -> Teller:
        section = self._settings.detect
        return Teller(
            self._service,
            self._settings.kafka,
            stage=f"detect.{section.shard}",
            district=district_in(self._source),
            own={"detect": section.state},
            watch=self._settings.watch_disks,
        )

    async def _prepare(self) -> None:
        """Build the view of a new generation before the first frame carries it (1 s at 400,000)."""
        prepared: tuple[int, list[Partition]] | None = None
        while True:
            registry, wanted = self._source.current, self._wanted
            if (registry.generation, wanted) != prepared:
                prepared = registry.generation, wanted
                view = await asyncio.to_thread(registry.at, registry.generation)
                self._tell_ignored(view)
                # Where a fold had to make it, all waited: 0.1 to 0.4 s.
                await asyncio.to_thread(getattr, view, "device_in_service")
                for topic, number in wanted:
                    await asyncio.to_thread(view.fold, records_of.LANES[topic], number)
            await asyncio.sleep(_PREPARE_S)

    def _tell_ignored(self, view: View) -> None:
        ignored = parameters.ignored(parameters.rows_of(view), self._setup.rules)
        self._series.parameters_ignored.set(len(ignored))
        if ignored:
            self._service.logger.error(
                "parameters that these rules do not take are without effect: sizao rules show",
                rows=len(ignored), first=f"{ignored[0].rule} {ignored[0].parameter}",
            )  # fmt: skip

    async def _read_probe(self) -> None:
        """For the watchdog: returns only if Kafka answers, and has what we do not get."""
        fresh, answers = self._new_reader(), False
        try:
            await fresh.start()
            ends = await fresh.ends()
            answers = True
        finally:
            self._service.ready["kafka"] = answers
            await fresh.stop()
        if self._placed and all(
            fold.state.next_offset >= ends[pair] for pair, fold in self._folds.items()
        ):
            self._moved()
            raise Retriable("nothing to read")


async def body(settings: DetectSettings, service: Service) -> None:
    """The process's work, for `sizao.service.run`."""
    await Detect(service, settings).run()
