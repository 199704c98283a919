"""What follows the acknowledgement: offsets for the group, and snapshots on disk.

Both in tasks of their own, so that neither holds up detection: Kafka may bring records while the
group's coordinator is away (each commit then waits for 5 s), and a disk may hang or be full.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterable, Mapping

from detectors import snapshot
from detectors.fold import Fold
from detectors.series import Series
from detectors.settings import DetectSection
from sizao.errors import Retriable
from sizao.kafka import Partition, Reader
from sizao.service import Service


class Offsets:
    """Commits the newest acknowledged offsets while a reader is at hand."""

    def __init__(self, service: Service, series: Series, section: DetectSection) -> None:
        """Nothing is committed before `follow`."""
        self._service, self._series = service, series
        self._every_s = section.commit_s
        self._reader: Reader | None = None
        self._committed: dict[Partition, int] = {}
        self._acknowledged: dict[Partition, int] = {}
        self._under_way = asyncio.Lock()

    def follow(self, reader: Reader, committed: Mapping[Partition, int]) -> None:
        """Commit through `reader` whatever lies behind `committed`."""
        self._reader = reader
        self._committed |= committed

    async def leave(self) -> None:
        """Let go of the reader, once a commit under way (5 s at most) has ended."""
        self._reader, self._acknowledged = None, {}
        async with self._under_way:
            return

    def acknowledged(self, offsets: dict[Partition, int]) -> None:
        """Next offsets of which all that was to be said is said."""
        self._acknowledged = offsets

    async def run(self) -> None:
        """Commit for ever."""
        while True:
            await asyncio.sleep(self._every_s)
            async with self._under_way:
                await self._commit()

    async def _commit(self) -> None:
        moved = {
            pair: offset
            for pair, offset in self._acknowledged.items()
            if offset > self._committed[pair]
        }
        if not moved or self._reader is None:
            return
        try:
            await self._reader.commit(moved)
        except Retriable as error:
            self._series.commits_failed.inc()
            self._service.logger.warning("offsets not committed", fault=str(error))
        else:
            self._committed |= moved


class Snapshots:
    """Packs in the loop, one at a time, so that none holds up; writes in a thread."""

    def __init__(self, service: Service, series: Series, section: DetectSection) -> None:
        """Writes into the section's state folder."""
        self._service, self._series, self._section = service, series, section
        self._writing = threading.Lock()  # the last snapshots wait for the one under way
        self._to_write: asyncio.Queue[tuple[Fold, bytes]] = asyncio.Queue(maxsize=1)

    def pack_one(self, folds: Iterable[Fold], now_s: float) -> None:
        """Hand the most overdue snapshot to the writer, if it is free."""
        fold = min(folds, key=lambda fold: fold.snapshot_due_s, default=None)
        if fold is None or fold.snapshot_due_s > now_s or not self._to_write.empty():
            return
        fold.snapshot_due_s = now_s + self._section.snapshot_s
        if fold.speaks:
            self._to_write.put_nowait((fold, snapshot.pack(fold.state)))

    async def run(self) -> None:
        """Write for ever what is handed over."""
        while True:
            fold, content = await self._to_write.get()
            await asyncio.to_thread(self._write, fold, content)

    def last(self, folds: Iterable[Fold]) -> None:
        """At an orderly end: the next start needs no replay."""
        for fold in folds:
            if fold.speaks:
                self._write(fold, snapshot.pack(fold.state))

    def _write(self, fold: Fold, content: bytes) -> None:
        state = fold.state
        try:
            with self._writing:
                snapshot.write(self._section.state, state.lane, state.partition, content)
        except OSError as error:
            self._series.snapshots_failed.inc()
            self._service.logger.error("snapshot not written", fault=str(error))
