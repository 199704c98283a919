"""archive: raw readings from the log into the table `reading`, each exactly once.

    fetch (512 kB or 0.5 s) -> decode -> batch (40,000 rows) -> offsets and COPY, one transaction

Whatever disturbs it ends the same way: forget the batch, read the stored offsets, read on there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, field_validator

from ingest import archive_place as places
from ingest.archive_batch import Batch
from ingest.archive_place import SKIPS, Gap, Place
from ingest.archive_store import Culprit, Load, Move, Moved, Outcome
from ingest.archive_system import system
from ingest.evidence_loop import Evidence, EvidenceSection
from ingest.mqtt.settings import MqttSettings
from ingest.quality_loop import Quality, QualitySection
from ingest.retention import HOUR_US, KeepSection
from ingest.retention_loop import Retention
from ingest.rollup_loop import Rollups, RollupSection
from ingest.rollup_store import RollupStore
from sizao import clock, db
from sizao.db import DatabaseSettings
from sizao.errors import Refused, Retriable
from sizao.kafka import Incoming, KafkaSettings, OffsetGone, Partition, Reader
from sizao.service import Service, Stage, run
from sizao.settings import HttpSettings, WatchDisks, load_or_last_good, state_folder
from sizao.topics import ALARMS, READINGS

_LANES = {READINGS.name: "readings", ALARMS.name: "alarms"}  # as /progress calls them
_FETCH_BYTES_MIN = 512 * 1024  # Kafka waits for so much, or half a second: it costs by request
_WAIT_MS = 1_000


class ArchiveSection(BaseModel):
    """`archive:` of the settings file."""

    model_config = ConfigDict(extra="forbid")

    http: HttpSettings = HttpSettings()
    shard: str = Field(default="0/1", pattern=r"^\d{1,4}/[1-9]\d{0,3}$", description="i/n, from 0")
    batch_rows: int = Field(default=40_000, ge=1, le=1_000_000)
    idle_s: float = Field(
        default=5.0, ge=0, le=60, description="heartbeats move the offset so often"
    )
    quality: QualitySection = QualitySection()
    keep: KeepSection = KeepSection()
    rollups: RollupSection = RollupSection()
    evidence: EvidenceSection = EvidenceSection()

    @field_validator("shard")
    @classmethod
    def _below(cls, shard: str) -> str:
        index, of = (int(part) for part in shard.split("/"))
        if index >= of:
            raise ValueError(f"{shard}: expected i/n with i from 0 and below n, such as 0/4")
        return shard


class ArchiveSettings(BaseModel):
    """What `sizao archive` reads of the settings file."""

    kafka: KafkaSettings = KafkaSettings()
    database: DatabaseSettings = DatabaseSettings()
    mqtt: MqttSettings | None = None
    archive: ArchiveSection = ArchiveSection()
    watch_disks: WatchDisks = WatchDisks()


def shard_of(shard: str, partitions: int) -> list[Partition]:
    """The partitions of both topics that shard `i/n` reads."""
    index, of = (int(part) for part in shard.split("/"))
    numbers = [number for number in range(partitions) if number % of == index]
    return [(topic.name, number) for topic in (READINGS, ALARMS) for number in numbers]


class _Series:
    """What /metrics shows."""

    def __init__(self, service: Service) -> None:
        metrics = service.metrics
        self.rows = metrics.counter("rows", "readings stored")
        self.frames = metrics.counter("frames", "frames with readings stored")
        self.refused = metrics.reasons(
            "rows_refused", "readings that are no row", "reason", ("bounds", "database")
        )
        self.again = metrics.reasons(
            "rows_again", "readings delivered again", "outcome", ("stored", "found", "untimed")
        )
        self.skipped = metrics.reasons(
            "records_skipped", "records that gave no rows", "reason", SKIPS
        )
        self.gaps = metrics.reasons("gaps", "log and database disagreed", "reason", tuple(Gap))
        self.lost = metrics.counter("records_lost", "records that left the log before being read")
        self.moved = metrics.counter("offsets_moved", "another archive was faster")
        self.seconds = metrics.seconds("store_seconds", "one transaction: offsets and rows")
        self.lag = metrics.gauge("lag_seconds", "age of the newest frame when it was stored")


class Archive:
    """One shard. Cancelled at any point it leaves whole transactions or none."""

    def __init__(self, service: Service, settings: ArchiveSettings) -> None:
        """Connects in `run`."""
        self._service = service
        service.needs("database", "kafka")
        self._settings = settings
        self._store = RollupStore(settings.database, self._stepped)
        self._rollups = Rollups(service, self._store, settings.archive.rollups)
        self._series = _Series(service)
        self._reading = service.stage("read", self._read_probe)
        self._storing: Stage = service.stage("store", partial(db.probe, settings.database))
        self._reader: Reader | None = None
        self._wanted: list[Partition] = []
        self._batch = Batch(places={})
        self._checks: set[Partition] = set()
        self._stored_s = 0.0

    async def run(self) -> None:
        """Archive for ever."""
        try:
            count = await self._service.patiently("database", self._store.partitions)
            self._wanted = shard_of(self._settings.archive.shard, count)
            read = [f"{topic}/{number}" for topic, number in self._wanted]
            self._service.facts["partitions"] = read
            while True:
                try:
                    await self._resume()
                    await self._follow()
                except Moved as moved:
                    self._series.moved.inc()
                    self._service.logger.warning(
                        "offsets moved by another archive", fault=str(moved)
                    )
                except (OffsetGone, Retriable) as disturbed:
                    self._service.logger.warning("reading begins again", fault=str(disturbed))
        finally:
            await self._close()

    async def _close(self) -> None:
        if self._reader is not None:
            await self._reader.stop()
            self._reader = None
        await self._store.close()

    # --- begin, or begin again -----------------------------------------------------------------

    async def _resume(self) -> None:
        """Read on at the stored offsets, put right where the log does not fit them."""
        if self._reader is not None:
            await self._reader.stop()
        reader = self._reader = Reader(
            self._settings.kafka,
            self._wanted,
            client_id="sizao-archive",
            fetch_bytes_min=_FETCH_BYTES_MIN,
        )
        self._reading.moved()
        self._reading.begin()  # a client that is stuck here is as stuck as one that brings nothing
        await self._service.patiently("kafka", reader.start)
        firsts = await self._service.patiently("kafka", reader.starts)
        ends = await self._service.patiently("kafka", reader.ends)
        self._reading.moved()
        stored = await self._service.patiently("database", partial(self._store.places, firsts))
        self._checks = set()
        seeks = {}
        for pair in self._wanted:
            begin = places.start(stored[pair], firsts[pair], ends[pair])
            if begin.gap is not None:
                stored[pair] = await self._mend(pair, stored[pair], begin.gap, firsts[pair])
                begin = places.Start(seek=stored[pair].next_offset)
            if begin.check:
                self._checks.add(pair)
            seeks[pair] = begin.seek
        held = await self._rollups.begin(stored, firsts)
        for pair, seek in seeks.items():
            reader.seek(pair, min(seek, held[pair]))
        self._forget(Batch(places=stored))

    def _forget(self, batch: Batch) -> None:
        """Begin a batch; nothing is read and not stored."""
        self._batch = batch
        for lane in _LANES.values():
            self._service.holds(lane, None)

    async def _mend(self, pair: Partition, place: Place, gap: Gap, first: int) -> Place:
        """Move a stored offset to where the log can be read on; returns the new place."""
        assert self._reader is not None
        self._series.gaps.add(gap)
        if gap is Gap.EXPIRED:
            lost = first - place.next_offset
            self._series.lost.inc(lost)
            mended = places.expired(place, first)
            self._service.logger.error("records expired unread", partition=pair, records=lost)
        else:
            from_ms = places.repair_from_ms(place)
            ask = partial(self._reader.offsets_at, {pair: from_ms})
            at = (await self._service.patiently("kafka", ask))[pair]
            # No record so new, as after a bridge whose clock stood in 2099: from the beginning.
            # From the end, all of another log was left out; what is stored is known by its writer.
            firsts = await self._service.patiently("kafka", self._reader.starts)
            mended = places.repaired(place, firsts[pair] if at is None else at)
            self._service.logger.error(
                "log is not the one that was read: reading again",
                partition=pair, gap=gap, stored=place.next_offset, read_from=mended.next_offset,
            )  # fmt: skip
        move = Move(expected=place.next_offset, place=mended)
        await self._rollups.salvage(pair, mended.next_offset, move)
        return mended

    # --- the loop ------------------------------------------------------------------------------

    async def _follow(self) -> None:
        """Fetch and store until something disturbs."""
        assert self._reader is not None
        while True:
            self._reading.begin()
            records = await self._reader.fetch(_WAIT_MS)
            if records:
                self._reading.moved()
                # Else a probe during an outage would have had the last word in a quiet district.
                self._service.ready["kafka"] = True
            for lane in {_LANES[record.topic] for record in records}:
                self._service.passed(f"{lane}.in")
            for record in records:
                if not await self._checked(record):
                    return
                self._count(record)
                if self._batch.rows >= self._settings.archive.batch_rows:
                    await self._flush()
            idle_s = clock.monotonic_s() - self._stored_s
            if self._batch.rows or (self._batch.began and idle_s >= self._settings.archive.idle_s):
                await self._flush()
            if not self._batch.rows:  # heartbeats: a minute need not wait for their offsets
                self._rollups.take(self._batch.heard)
                self._batch.heard = []
            await self._rollups.turn()

    def _count(self, record: Incoming) -> None:
        place = self._batch.places[record.topic, record.partition]
        if record.offset < place.next_offset:
            self._rollups.again(record, place)  # stored already: read for what is not closed
            return
        lane = _LANES[record.topic]
        if self._service.oldest[lane] is None:
            self._service.holds(lane, clock.monotonic_s())
        reason = self._batch.take(record)
        if reason:
            self._series.skipped.add(reason)

    async def _checked(self, record: Incoming) -> bool:
        """False when another record stands where the one that was stored last stood."""
        pair = (record.topic, record.partition)
        place = self._batch.places[pair]
        if pair not in self._checks or record.offset < place.next_offset - 1:
            return True
        self._checks.remove(pair)
        if places.same(place, record):
            return True
        await self._mend(pair, place, Gap.REPLACED, 0)
        return False

    async def _flush(self) -> None:
        """Store the batch, however long the database is away."""
        self._reading.moved()
        load, untimed = self._batch.load()
        outcome = await self._service.patiently("database", partial(self._attempt, load))
        self._rollups.take(self._batch.heard)
        self._stored_s = clock.monotonic_s()
        for lane in {_LANES[topic] for topic, _ in self._batch.began}:
            self._service.passed(f"{lane}.out")
            self._service.holds(lane, None)
        if self._batch.frames:
            newest_us = max(frame.received_us for frame in self._batch.frames)
            self._series.lag.set((clock.now_us() - newest_us) / 1e6)
            self._series.frames.inc(len(self._batch.frames))
        self._series.rows.inc(outcome.stored)
        self._series.again.add("stored", outcome.again)
        self._series.again.add("found", outcome.found)
        self._series.again.add("untimed", untimed)
        self._tell_refused(load.plain.refused + load.again.refused, outcome.culprits)
        self._batch.stored()

    def _tell_refused(self, beyond: int, culprits: Sequence[Culprit]) -> None:
        """Count readings that are no row; one line a batch, whatever is wrong with how many."""
        self._series.refused.add("bounds", beyond)
        self._series.refused.add("database", len(culprits))
        if beyond or culprits:
            first = asdict(culprits[0]) if culprits else None
            self._service.logger.error(
                "readings refused", beyond_bounds=beyond, by_the_table=len(culprits), first=first
            )

    async def _attempt(self, load: Load) -> Outcome:
        began_s = clock.monotonic_s()
        try:
            try:
                outcome = await self._once(load, careful=False)
            except Refused as error:
                self._service.logger.warning("looking for what is refused", error=str(error))
                outcome = await self._once(load, careful=True)
        except Refused as error:  # no row alone is at fault: wait for a person, and lose nothing
            raise Retriable(str(error)) from error
        finally:
            # Each attempt is a wait of its own: a database that was away long is no stuck stage.
            self._storing.moved()
        self._series.seconds.observe(clock.monotonic_s() - began_s)
        return outcome

    async def _once(self, load: Load, *, careful: bool) -> Outcome:
        """After an error the store has forgotten which partitions are there: retention, or a
        person, may have dropped one.
        """
        self._storing.begin()
        if self._batch.frames:
            await self._store.cover(self._batch.hours(clock.now_us()), HOUR_US)
        some = load if self._batch.frames else None
        return await self._store.store(self._batch.moves(), some, careful=careful)

    def _stepped(self) -> None:
        """The server has answered one of several steps.

        Roll-ups and repairs use the same connection outside of an attempt; begun there, the wait
        never ended, and an archive that had nothing to store for 15 s was taken for stuck.
        """
        if self._storing.waiting_since_s is not None:
            self._storing.moved()
            self._storing.begin()

    async def _read_probe(self) -> None:
        """For the watchdog: returns only if there is something to read that we do not get."""
        fresh = Reader(self._settings.kafka, self._wanted, client_id="sizao-archive-probe")
        answers = False
        try:
            await fresh.start()
            ends = await fresh.ends()
            answers = True
        finally:
            self._service.ready["kafka"] = answers
            await fresh.stop()
        places_now = self._batch.places
        if places_now and all(places_now[pair].next_offset >= end for pair, end in ends.items()):
            self._reading.moved()
            self._reading.begin()
            raise Retriable("nothing to read")


def process(config: Path) -> int:
    """The whole process, from its settings file to its exit code. Raises BadInput."""
    state = state_folder(config, "archive")
    settings, wrong = load_or_last_good(config, ArchiveSettings, state)

    async def body(service: Service) -> None:
        section = settings.archive
        state.mkdir(parents=True, exist_ok=True)
        counts = Quality(service, settings.kafka, settings.database, section.quality, section.shard)
        kept = Evidence(service, settings.kafka, settings.database, section.evidence, section.shard)
        async with asyncio.TaskGroup() as group:
            group.create_task(Archive(service, settings).run(), name="archive")
            group.create_task(counts.run(), name="quality")
            group.create_task(kept.run(), name="evidence")
            if section.shard.startswith("0/"):  # one of a district's archives is enough
                keeping = Retention(service, settings.database, section.keep)
                group.create_task(keeping.run(), name="retention")
            away = settings.kafka, settings.database, settings.mqtt
            own = system(service, *away, section.shard, state, settings.watch_disks)
            group.create_task(own, name="system")

    return run("archive", settings.archive.http, body, wrong)
