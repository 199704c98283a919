"""What the archive does about roll-ups between two flushes: fold, close minutes, drop old days."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from functools import partial

from pydantic import BaseModel, ConfigDict, Field

from ingest import rollup
from ingest.archive_place import Place
from ingest.archive_store import Move
from ingest.rollup import Heard, Pair, State
from ingest.rollup_store import RollupStore
from ingest.rows import storable
from sizao import clock, frame
from sizao.errors import BadRecord, Retriable
from sizao.kafka import Incoming
from sizao.service import Service

_SECOND_US = 1_000_000
_DAY_US = 86_400 * _SECOND_US
_DROP_EACH_S = 3_600.0
_FIRST_CLOSE_S = 2.0  # after a start, until everybody's heartbeat has come


class RollupSection(BaseModel):
    """`archive.rollups:` of the settings file."""

    model_config = ConfigDict(extra="forbid")

    grace_s: float = Field(
        default=1.0, ge=0, le=60, description="from a minute's end to its closing; late data after"
    )
    kept_days: int = Field(default=400, ge=3, le=4_000, description="older days are dropped")


class _Series:
    """What /metrics shows."""

    def __init__(self, service: Service) -> None:
        metrics = service.metrics
        self.minutes = metrics.counter("rollup_closings", "times that minutes were closed")
        self.parts = metrics.counter("rollup_parts", "sums of a point and a minute stored")
        self.salvaged = metrics.counter("rollup_salvaged", "times open minutes came from the table")
        self.seconds = metrics.seconds("rollup_seconds", "closing minutes, one transaction")
        self.lag = metrics.gauge("rollup_lag_seconds", "a minute's end to its closing")
        self.dropped = metrics.counter("rollup_days_dropped", "days older than `kept_days`")


class Rollups:
    """Of one shard. Used by the archive's task, between its transactions, on its connection."""

    def __init__(self, service: Service, store: RollupStore, section: RollupSection) -> None:
        """Begins in `begin`."""
        self._service = service
        self._store = store
        self._section = section
        self._series = _Series(service)
        self._state: State = rollup.start({})
        self._behind: dict[Pair, int] = {}
        self._began_s = 0.0
        self._drop_s = 0.0

    async def begin(
        self, stored: Mapping[Pair, Place], firsts: Mapping[Pair, int]
    ) -> dict[Pair, int]:
        """Forget all; returns where each partition is to be read from, for what is not settled."""
        ask = partial(self._store.rollups, stored)
        places = await self._service.patiently("database", ask)
        gone = [pair for pair, place in places.items() if place.held < firsts[pair]]
        for pair in gone:
            await self.salvage(pair, stored[pair].next_offset)
        if gone:
            places = await self._service.patiently("database", ask)
        self._state = rollup.start(places)
        self._behind = {
            pair: stored[pair].next_offset
            for pair, place in places.items()
            if place.held < stored[pair].next_offset
        }
        self._began_s = clock.monotonic_s()
        return {pair: place.held for pair, place in places.items()}

    async def salvage(self, pair: Pair, next_offset: int, move: Move | None = None) -> None:
        """What is not settled of this partition can no longer be read: make it from the table.

        `move`: of the archive's own place, in the same transaction.
        """
        self._series.salvaged.inc()
        ask = partial(self._store.salvage, pair, move, next_offset)
        await self._service.patiently("database", ask)

    def again(self, record: Incoming, place: Place) -> None:
        """A record whose rows were stored by an earlier life."""
        pair = (record.topic, record.partition)
        roll = self._state.places[pair]
        if record.offset < roll.held:
            return
        if record.offset + 1 >= self._behind.get(pair, 0):
            self._behind.pop(pair, None)
        try:
            found = frame.decode(record.value, record.headers)
        except BadRecord:
            return
        repair = place.repair
        stored_before = repair is not None and found.sequence <= repair.writers.get(
            found.writer, -1
        )
        if storable(found) and not stored_before:
            fresh = rollup.again(roll, record.offset, found)
            self.take([Heard(pair, record.offset, fresh)])

    def take(self, heard: Sequence[Heard]) -> None:
        """Frames that are stored now."""
        rollup.take(self._state, heard, clock.monotonic_s())

    async def turn(self) -> None:
        """Close what can be closed, however long the database is away. Raises Moved."""
        now_s = clock.monotonic_s()
        if self._behind or now_s - self._began_s < _FIRST_CLOSE_S:
            return
        grace_us = round(self._section.grace_s * _SECOND_US)
        until_us = rollup.due_us(self._state, now_s, clock.now_us(), grace_us)
        if until_us:
            await self._settle(until_us)
            self._series.minutes.inc()
            self._series.lag.set((clock.now_us() - until_us) / 1e6)
            await self._drop(now_s)
        elif late_us := rollup.overdue_us(self._state):
            await self._settle(late_us)

    async def _settle(self, until_us: int) -> None:
        began_s = clock.monotonic_s()
        done = await asyncio.to_thread(rollup.settle, self._state, until_us)
        store = partial(self._store.settle, self._state.places, done.places, done.parts)
        await self._service.patiently("database", store)
        rollup.settled(self._state, done)
        self._series.parts.inc(sum(len(one) for one in done.parts))
        self._series.seconds.observe(clock.monotonic_s() - began_s)

    async def _drop(self, now_s: float) -> None:
        """Old days, at most once an hour. A reader in the way is no reason to wait."""
        if now_s < self._drop_s:
            return
        self._drop_s = now_s + _DROP_EACH_S
        try:
            dropped = await self._store.drop_minutes(
                clock.now_us() - self._section.kept_days * _DAY_US
            )
        except Retriable as busy:
            self._service.logger.warning("old roll-ups stay for an hour", fault=str(busy))
        else:
            self._series.dropped.inc(dropped)
