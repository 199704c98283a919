"""The third task of `sizao archive`: keeps the raw readings around incidents for a year.

    fetch transitions -> windows and offsets, one transaction; every 30 s: copy by slices of arrival

It ends nothing: whatever disturbs it is told, and it begins again at the stored offsets and at what
each window has copied, so an outage is made up for as long as the raw readings are there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from ingest import evidence
from ingest.archive_store import Moved
from ingest.evidence import SKIPS, Said, Span, Window
from ingest.evidence_store import EvidenceStore
from sizao import clock
from sizao.db import DatabaseSettings
from sizao.errors import BadRecord, Retriable, SizaoError, TooSlow
from sizao.kafka import Incoming, KafkaSettings, Partition, Reader
from sizao.service import Service
from sizao.topics import INCIDENTS

Result = TypeVar("Result")

_SECOND_US = 1_000_000
_MINUTE_US = 60 * _SECOND_US
_HOUR_US = 60 * _MINUTE_US
_DAY_US = 24 * _HOUR_US
_WAIT_MS = 1_000
_RECORDS_MAX = 500
_AGAIN_S = 5.0
_EXPIRE_EACH_S = 600.0
_EXPIRED_MAX = 20  # incidents of a transaction: each may have millions of rows
_TURN_S = 60.0  # then transitions are looked for again, and old evidence
_SLICE_US = 60 * _SECOND_US  # of arrivals: 2.4 million readings at 40,000 a second
_REST, _REST_S_MAX = 3.0, 30.0
"""After each slice, times what it took: three quarters of the time the database is for others."""
_SLICE_US_MIN = _SECOND_US
_MARGIN_US = 60 * _SECOND_US
"""Bridges' clocks differ, and their frames are stored in no order of arrival."""


class EvidenceSection(BaseModel):
    """`archive.evidence:` of the settings file."""

    model_config = ConfigDict(extra="forbid")

    before_min: int = Field(default=30, ge=0, le=1_440, description="before the first signal")
    after_min: int = Field(default=30, ge=0, le=1_440, description="after the incident closed")
    longest_h: int = Field(default=24, ge=1, le=240, description="from the first to the last event")
    late_min: int = Field(
        default=60, ge=0, le=2_880, description="late readings are awaited so long after the end"
    )
    rows_max: int = Field(
        default=2_000_000, ge=1_000, le=100_000_000, description="of an incident; beyond it no more"
    )
    natures: list[Literal["real", "drill", "test", "canary"]] = Field(
        default=["real"], description="of incidents that are kept"
    )
    kept_days: int = Field(default=365, ge=1, le=4_000, description="older incidents are deleted")
    each_s: float = Field(default=30.0, gt=0, le=600, description="readings are copied so often")

    def span(self) -> Span:
        """How much of an incident is kept."""
        return Span(
            before_us=self.before_min * _MINUTE_US,
            after_us=self.after_min * _MINUTE_US,
            longest_us=self.longest_h * _HOUR_US,
        )


class _Series:
    """What /metrics shows."""

    def __init__(self, service: Service) -> None:
        metrics = service.metrics
        self.rows = metrics.counter("evidence_rows", "raw readings kept for incidents")
        self.full = metrics.counter("evidence_full", "incidents with more rows than `rows_max`")
        self.skipped = metrics.reasons(
            "evidence_records_skipped", "records that are no transition", "reason", SKIPS
        )
        self.again = metrics.counter("evidence_restarts", "times that it began again")
        self.expired = metrics.counter("evidence_expired", "incidents older than `kept_days`")
        self.behind = metrics.gauge("evidence_behind_seconds", "of the window copied least")


class Evidence:
    """One shard of the transitions. Cancelled at any point it leaves whole transactions or none."""

    def __init__(
        self,
        service: Service,
        kafka: KafkaSettings,
        database: DatabaseSettings,
        section: EvidenceSection,
        shard: str,
    ) -> None:
        """Connects in `run`. `shard`: i/n, as the archive's."""
        self._service = service
        self._kafka = kafka
        self._section = section
        self._shard = shard
        self._store = EvidenceStore(database)
        self._series = _Series(service)
        self._reader: Reader | None = None
        self._stored: dict[Partition, int] = {}
        self._slice_us = _SLICE_US
        self._expire_s = 0.0

    async def run(self) -> None:
        """Keep for ever."""
        try:
            while True:
                try:
                    await self._resume()
                    await self._follow()
                except (SizaoError, TimeoutError) as disturbed:
                    self._series.again.inc()
                    self._service.facts["evidence"] = str(disturbed)
                    self._service.logger.warning("evidence begins again", fault=str(disturbed))
                    await asyncio.sleep(_AGAIN_S if not isinstance(disturbed, Moved) else 0)
        finally:
            await self._close()

    async def _close(self) -> None:
        if self._reader is not None:
            await self._reader.stop()
            self._reader = None
        await self._store.close()

    async def _patiently(self, attempt: Callable[[], Awaitable[Result]]) -> Result:
        return await self._service.patiently("evidence", attempt)

    async def _resume(self) -> None:
        """Read on at the stored offsets; where the log does not fit them, from its beginning: an
        older version of what is known changes nothing.
        """
        await self._close()
        count = await self._patiently(self._store.partitions)
        index, of = (int(part) for part in self._shard.split("/"))
        pairs = [(INCIDENTS.name, number) for number in range(count) if number % of == index]
        reader = self._reader = Reader(self._kafka, pairs, client_id="sizao-evidence")
        await self._patiently(reader.start)
        firsts = await self._patiently(reader.starts)
        ends = await self._patiently(reader.ends)
        self._stored = await self._patiently(partial(self._store.offsets, pairs))
        for pair in pairs:
            fits = firsts[pair] <= self._stored[pair] <= ends[pair]
            reader.seek(pair, self._stored[pair] if fits else firsts[pair])
        self._service.facts["evidence"] = "keeps"

    async def _follow(self) -> None:
        assert self._reader is not None
        due_s = clock.monotonic_s()
        while True:
            records = await self._reader.fetch(_WAIT_MS, _RECORDS_MAX)
            if records:
                await self._take(records)
            now_s = clock.monotonic_s()
            if now_s >= due_s and not await self._turn():
                due_s = now_s + self._section.each_s
            await self._expire(now_s)

    async def _take(self, records: Sequence[Incoming]) -> None:
        """Keep what transitions say, and how far they are read."""
        after: dict[Partition, int] = {}
        heard: list[Said] = []
        for record in records:
            after[record.topic, record.partition] = record.offset + 1
            try:
                heard.append(evidence.read(record.value, record.headers))
            except BadRecord as bad:
                self._series.skipped.add(bad.reason)
        wanted = [one for one in heard if one.nature in self._section.natures and one.site > 0]
        ask = partial(self._store.known, [one.incident for one in wanted])
        windows: dict[str, Window] = await self._patiently(ask)
        span = self._section.span()
        for one in wanted:
            windows[one.incident] = evidence.window(windows.get(one.incident), one, span)
        moves = {pair: (self._stored[pair], offset) for pair, offset in after.items()}
        await self._patiently(partial(self._store.keep, moves, list(windows.values())))
        self._stored.update(after)

    async def _turn(self) -> bool:
        """Copy what has come since; True where more is waiting already."""
        unfinished = partial(self._store.copying, self._section.late_min * _MINUTE_US)
        until_s = clock.monotonic_s() + _TURN_S
        while clock.monotonic_s() < until_s:
            windows = await self._patiently(unfinished)
            stored_us = await self._patiently(self._store.stored_us)
            now_us = clock.now_us()
            self._behind(windows, now_us)
            slices = [
                evidence.next_slice(
                    those, self._limit_us(stored_us, number, now_us), self._slice_us
                )
                for number, those in windows.items()
            ]
            wanted = [one for one in slices if one is not None]
            for one in wanted:
                began_s = clock.monotonic_s()
                await self._copy(one)
                took_s = clock.monotonic_s() - began_s
                await asyncio.sleep(min(took_s * _REST, _REST_S_MAX))
            if not any(one.until_us - one.since_us >= self._slice_us for one in wanted):
                return False
        return True

    def _limit_us(self, stored_us: dict[int, int], number: int, now_us: int) -> int:
        """Up to which arrival a partition is copied. A place that nobody knows has no readings."""
        if number < 0:
            return now_us
        return min(stored_us.get(number, 0), now_us) - _MARGIN_US

    def _behind(self, windows: dict[int, list[Window]], now_us: int) -> None:
        least = min((one.copied_us for those in windows.values() for one in those), default=now_us)
        self._series.behind.set(max(0, now_us - least) / 1e6)

    async def _copy(self, one: evidence.Slice) -> None:
        try:
            rows, full = await self._store.copy(one, self._section.rows_max)
        except TooSlow as slow:
            if self._slice_us <= _SLICE_US_MIN:
                raise
            self._slice_us = max(self._slice_us // 2, _SLICE_US_MIN)
            self._service.logger.warning("evidence is copied in smaller slices", fault=str(slow))
            return
        self._series.rows.inc(rows)
        if full:
            self._series.full.inc(full)
            self._service.logger.error("incidents have more evidence than is kept", incidents=full)

    async def _expire(self, now_s: float) -> None:
        if now_s < self._expire_s:
            return
        self._expire_s = now_s + _EXPIRE_EACH_S
        before_us = clock.now_us() - self._section.kept_days * _DAY_US
        try:
            self._series.expired.inc(await self._store.expire(before_us, _EXPIRED_MAX))
        except Retriable as busy:
            self._service.logger.warning("old evidence stays for now", fault=str(busy))
