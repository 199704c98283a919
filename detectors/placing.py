"""Put each fold to where it begins to read, or begins anew."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from detectors import begin as places
from detectors import record as records_of
from detectors import snapshot
from detectors.begin import Begin
from detectors.fold import Fold
from detectors.series import Series
from detectors.settings import DetectSettings
from detectors.state import Setup
from sizao import clock
from sizao.errors import Retriable
from sizao.kafka import OffsetGone, Partition, Reader
from sizao.registry.source import Source
from sizao.service import Service

WARM_UP_S = 1800


class Placing:
    """Uses a reader; keeps nothing."""

    def __init__(
        self,
        service: Service,
        settings: DetectSettings,
        series: Series,
        setup: Setup,
        source: Source,
    ) -> None:
        """All of it is the loop's."""
        self._service = service
        self._settings = settings
        self._series = series
        self._setup = setup
        self._source = source

    async def place(
        self,
        reader: Reader,
        folds: dict[Partition, Fold],
        pairs: list[Partition],
        placed: Callable[[], None],
    ) -> dict[Partition, int]:
        """Seek to where the state at hand ends: in memory, in a snapshot, or warmed up anew.

        Fills `folds`, calls `placed` after each, and returns what is committed of each, -1 where
        that does not count. However long Kafka is away.
        """
        patiently = self._service.patiently
        firsts = await patiently("kafka", reader.starts)
        ends = await patiently("kafka", reader.ends)
        committed = await patiently("kafka", reader.committed)
        counted: dict[Partition, int] = {}
        for pair in pairs:
            known = folds.get(pair)
            fold = known or self._restored(pair)
            begin = places.begin(
                kept=fold.state.next_offset if fold else None,
                committed=committed[pair],
                first=firsts[pair],
                end=ends[pair],
                replaced=fold.replaced if fold else False,
            )
            warm = begin.warm or (known is None and fold is not None and fold.kept is not None)
            folds[pair] = fold = fold or self._cold(pair)
            counted[pair] = -1 if begin.gap else committed[pair] or -1
            if begin.gap is not None:
                self._mend(pair, fold, begin)
            elif warm:
                await self._warm(reader, pair, fold, begin.seek, firsts[pair])
            fold.check = begin.check and fold.state.last is not None
            reader.seek(pair, fold.state.next_offset - fold.check)
            placed()
        return counted

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
        if found.state is None:
            return None
        if not found.cold:
            return Fold(found.state)
        self._service.logger.warning("rules start cold", partition=pair, blocks=found.cold)
        fold = self._cold(pair)
        fold.state.next_offset = found.state.next_offset
        fold.kept, fold.cold = found.state, found.cold
        return fold

    def _mend(self, pair: Partition, fold: Fold, begin: Begin) -> None:
        """The state at hand goes on at the start of a log that is not the one it has read."""
        assert begin.gap is not None
        self._series.gaps.add(begin.gap)
        self._service.logger.error(
            "the wanted offset is not in the log: reading from its start",
            partition=pair, gap=begin.gap, wanted=fold.state.next_offset, read_from=begin.seek,
        )  # fmt: skip
        fold.forget_warming()
        fold.speak_from, fold.replaced = 0, False
        fold.state.next_offset, fold.state.last = begin.seek, None

    async def _warm(
        self, reader: Reader, pair: Partition, fold: Fold, speak_from: int, first: int
    ) -> None:
        fold.speak_from = speak_from
        if speak_from > first:
            fold.state.next_offset = await self._warm_from(reader, pair, speak_from, first)
        self._service.logger.info(
            "warming up", partition=pair, silent_records=speak_from - fold.state.next_offset
        )
        fold.join(fold.state.next_offset)  # where there is nothing to warm up with

    async def _warm_from(self, reader: Reader, pair: Partition, before: int, first: int) -> int:
        """Offset so far before `before` that the rules know again what they remembered."""
        at_ms = await self._time_of(pair, before - 1)
        memory_s = [rule.MEMORY_S for rule in self._setup.of(records_of.LANES[pair[0]])]
        wanted = {pair: max(0, at_ms - max([WARM_UP_S, *memory_s]) * 1000)}
        found = await self._service.patiently("kafka", partial(reader.offsets_at, wanted))
        offset = found[pair]
        return before if offset is None else min(max(offset, first), before)

    async def _time_of(self, pair: Partition, offset: int) -> int:
        """Arrival of a record, in ms; now, if it cannot be had."""
        reader = Reader(self._settings.kafka, [pair], client_id="sizao-detect-peek")
        try:
            await self._service.patiently("kafka", reader.start)
            record = await reader.at(offset)
        except (Retriable, OffsetGone):
            record = None
        finally:
            await reader.stop()
        return clock.now_us() // 1000 if record is None else record.timestamp_ms
