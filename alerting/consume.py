"""One topic of signals into the store: fetch, decode, decide and store in one transaction.

Offsets live beside what was stored and move with it, so Kafka's group is not needed. What is no
signal is counted by reason and skipped. What the database refuses for its content is tried record
by record, then without its evidence, then counted and skipped: one record never decides the fate of
another. Any other fault of the database (rights, schema, a disk that is full) is waited out, and
nothing is skipped: the fire behind it is as good as ever when somebody has mended that.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from alerting.fold import OffsetMoved
from alerting.intake import Batch, Marks, bare, decode
from alerting.keeper import Keeper
from alerting.series import STORE_REFUSED, Series
from sizao import clock, kafka
from sizao.errors import BadRecord, Refused, Retriable
from sizao.kafka import Incoming, KafkaSettings, OffsetGone, Partition, Reader
from sizao.registry.source import Source
from sizao.service import Service
from sizao.topics import Topic

FETCH_WAIT_MS = 500
_LOOK_S = 5.0  # without a record, before Kafka is asked whether it is there
_BACK_MS = 300_000  # a log that came back shorter is read again from five minutes before


class Consumer:
    """Reads one topic for ever. Cancelled: what is not stored then is read again.

    Each topic has one of its own, so that thousands of offline signals never stand before a fire.
    """

    def __init__(
        self,
        topic: Topic,
        *,
        service: Service,
        kafka_settings: KafkaSettings,
        client_id: str,
        batch_records: int,
        keeper: Keeper,
        source: Source,
        series: Series,
    ) -> None:
        """Connects in `run`."""
        self._topic = topic
        self._lane = topic.name.split(".")[1]
        self._service = service
        self._settings = kafka_settings
        self._client_id = f"{client_id}-{self._lane}"
        self._batch_records = batch_records
        self._keeper = keeper
        self._source = source
        self._series = series
        self._next: dict[Partition, int | None] = {}
        self._marks = Marks(source)
        self._storing = f"store.{self._lane}"
        self._stage = service.stage(self._storing, keeper.probe)
        self._reading = service.stage(f"read.{self._lane}", partial(kafka.probe, kafka_settings))
        self._heard_s = 0.0
        service.needs("kafka", self._storing)

    async def run(self) -> None:
        """Read and store; a new reader whenever its offsets have to be found anew."""
        while True:
            reader = await self._start_reader()
            try:
                await self._read(reader)
            except (OffsetGone, OffsetMoved) as error:
                self._service.logger.warning("offsets are read again", error=str(error))
            finally:
                self._reading.moved()
                await reader.stop()

    # ---- begin, or begin again

    async def _start_reader(self) -> Reader:
        """A reader at the stored offsets. A partition never read begins at its start; an offset
        outside its log is sought by the arrival of the newest stored record.
        """
        count = self._source.current.partitions
        wanted = [(self._topic.name, number) for number in range(count)]
        stored = await self._service.patiently(self._storing, self._keeper.offsets)
        self._next = {one: stored[one][0] if one in stored else None for one in wanted}

        async def start() -> Reader:
            reader = Reader(self._settings, wanted, client_id=self._client_id)
            await reader.start()
            try:
                starts, ends = await reader.starts(), await reader.ends()
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

    # ---- the loop

    async def _read(self, reader: Reader) -> None:
        """Until the district's number of partitions changes: the very first apply fixes it."""
        count = self._source.current.partitions

        async def fetch() -> Sequence[Incoming]:
            records = await reader.fetch(FETCH_WAIT_MS, self._batch_records)
            if records:
                self._heard_s = clock.monotonic_s()
                self._reading.moved()
                self._service.passed(f"{self._lane}.in")
            elif clock.monotonic_s() - self._heard_s >= _LOOK_S:
                await self._look(reader)
            return records

        while count == self._source.current.partitions:
            records = await self._service.patiently("kafka", fetch)
            if records:
                await self._handle(records)

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

    # ---- store

    async def _handle(self, records: Sequence[Incoming]) -> None:
        """Store what was fetched; whole, or record by record when the database refuses it."""
        batch = await self._batch(records)
        try:
            await self._store(batch)
        except (Refused, ValueError) as error:
            self._service.logger.error("batch refused, tried singly", error=str(error))
            for record in records:
                await self._alone(record)
        self._service.passed(f"{self._lane}.out")

    async def _alone(self, record: Incoming) -> None:
        """Store one record: as it is, else without its evidence, else pass it by."""
        batch = await self._batch([record], count=False)
        try:
            await self._store(batch)
            return
        except (Refused, ValueError) as error:
            fault = str(error)
        try:
            if batch.items:
                await self._store(
                    Batch(moves=batch.moves, items=[bare(one) for one in batch.items])
                )
                self._series.bare.inc()
                self._told(record, "stored without its evidence", fault)
                return
        except (Refused, ValueError) as error:
            fault = str(error)
        self._series.bad.add(STORE_REFUSED)
        self._told(record, "skipped", fault)
        await self._store(Batch(moves=batch.moves))

    def _told(self, record: Incoming, done: str, fault: str) -> None:
        self._service.logger.error(
            "record refused by the database",
            done=done,
            topic=record.topic,
            partition=record.partition,
            offset=record.offset,
            error=fault,
        )

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
        batch.items = await self._marks.items(decoded)
        return batch

    async def _store(self, batch: Batch) -> None:
        """Store a batch, however long nothing serves. Raises Refused, OffsetMoved."""
        await self._service.patiently(self._storing, partial(self._attempt, batch))
        for one, move in batch.moves.items():
            self._next[one] = move.next_offset

    async def _attempt(self, batch: Batch) -> None:
        self._stage.begin()
        try:
            await self._keeper.take(batch.items, batch.moves)
        finally:
            self._stage.moved()  # each attempt is a wait of its own: what is refused is not stuck
