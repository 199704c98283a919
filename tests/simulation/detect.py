"""detect: the real folds, snapshots and places to begin, in the order of `detectors/detect.py`."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec
from simulation import place
from simulation.bridge import BRIDGE
from simulation.clockwork import Clockwork, Task
from simulation.log import Log, pairs

from detectors import begin as places
from detectors import record as records_of
from detectors import rules, snapshot
from detectors import state as folds
from detectors.detect import _outgoing
from detectors.placing import WARM_UP_S
from detectors.snapshot import KEPT, RefusedError
from detectors.state import Setup, State
from sizao.errors import BadRecord
from sizao.kafka import Incoming, Outgoing, Partition
from sizao.signal import Signal

PAIRS = pairs(*records_of.TOPICS)


def setup() -> Setup:
    return folds.setup_of(rules.discover(), [BRIDGE])


@dataclass
class Fold:
    state: State
    speak_from: int = 0


class Detect:
    """`snapshots` is the disk, newest last. `warmed_late`: a warm-up could not reach the start of
    its log, so what it says may differ from an uninterrupted fold.
    """

    NAME = "detect"

    def __init__(self, work: Clockwork, log: Log, flaws: frozenset[str]) -> None:
        self.work, self.log, self.flaws = work, log, flaws
        self.setup = setup()
        self.registry = place.registry()
        self.snapshots: dict[Partition, list[bytes]] = {pair: [] for pair in PAIRS}
        self.late_until_us = dict.fromkeys(PAIRS, 0)
        self.folds: dict[Partition, Fold] = {}
        self.busy = False
        self.warmed_late = False

    def start(self) -> None:
        self.folds = {}
        self.work.spawn(self.NAME, self._run())

    def crash(self) -> None:
        self.work.kill(self.NAME)
        self.folds = {}

    @property
    def idle(self) -> bool:
        if self.busy or len(self.folds) < len(PAIRS):
            return False
        return all(f.state.next_offset >= self.log.end(pair) for pair, f in self.folds.items())

    # -- begin

    def _place(self, pair: Partition) -> None:
        fold = self._restored(pair)
        committed = self.log.committed.get(pair)
        begin = places.begin(
            kept=fold.state.next_offset if fold else None,
            committed=committed,
            first=0,
            end=self.log.end(pair),
        )
        assert begin.gap is None, "the modelled log loses nothing"
        lane = records_of.LANES[pair[0]]
        if fold is None:
            fold = Fold(records_of.cold(lane, pair[1], self.registry, self.setup))
        seek = begin.seek
        if begin.warm:
            fold.speak_from = begin.seek
            seek = self._warm_from(pair, begin.seek)
            self.work.note(f"detect warms up {pair[0]}/{pair[1]}: {begin.seek - seek} records")
        fold.state.next_offset = seek
        self.folds[pair] = fold

    def _restored(self, pair: Partition) -> Fold | None:
        for content in reversed(self.snapshots[pair]):
            try:
                state, cold = snapshot.unpack(content, self.registry, self.setup)
            except RefusedError:
                continue
            assert cold == []
            return Fold(state)
        return None

    def _warm_from(self, pair: Partition, committed: int) -> int:
        lane = records_of.LANES[pair[0]]
        back_s = max([WARM_UP_S, *(rule.MEMORY_S for rule in self.setup.of(lane))])
        at_ms = self.log.records[pair][committed - 1].timestamp_ms
        found = self.log.offset_at(pair, max(0, at_ms - back_s * 1000))
        seek = committed if found is None else min(found, committed)
        self.warmed_late |= seek > 0
        return seek

    # -- the loop

    def _run(self) -> Task:
        rng = self.work.rng
        while not self.log.up:
            yield 0.5
        for pair in PAIRS:
            self._place(pair)
        commit_due_s, snapshot_due_s = 0.0, self.work.now_s + rng.uniform(1, 30)
        while True:
            records = self._fetch()
            self.busy = bool(records)
            if records:
                yield from self._apply(records)
                self.busy = False
            yield 0
            if self.work.now_s >= commit_due_s and self.log.up:
                commit_due_s = self.work.now_s + 2
                self._commit()
            if self.work.now_s >= snapshot_due_s:
                snapshot_due_s = self.work.now_s + rng.uniform(1, 30)
                yield from self._pack(rng.choice(PAIRS))
            yield 0 if records else rng.uniform(0.5, 2)

    def _fetch(self) -> list[Incoming]:
        """Some of each partition in order; which comes first, and how much, is chance."""
        rng, found = self.work.rng, []
        for pair in rng.sample(PAIRS, len(PAIRS)):
            if self.work.now_us >= self.late_until_us[pair]:
                limit = rng.choice([1, 7, 200])
                found += self.log.read(pair, self.folds[pair].state.next_offset, limit)
        return found

    def _apply(self, records: list[Incoming]) -> Task:
        signals: list[tuple[int, Signal]] = []
        for one in records:
            fold = self.folds[one.topic, one.partition]
            if one.offset < fold.state.next_offset:
                continue
            try:
                frame = records_of.read(one)
            except BadRecord:
                folds.skip(fold.state, one.offset)
            else:
                said = records_of.judge(fold.state, frame, one.offset, self.registry)
                if one.offset >= fold.speak_from:
                    signals += [(one.partition, each) for each in said]
            if self.work.rng.random() < 0.2:
                yield 0
        if "commit before the signals" in self.flaws:
            self._commit()
            yield from self._pack()
        yield from self.log.send([self._outgoing(number, said) for number, said in signals])

    def _outgoing(self, number: int, said: Signal) -> Outgoing:
        if "read a wall clock" in self.flaws:
            said = msgspec.structs.replace(said, received_us=self.work.now_us)
        return _outgoing(number, said)

    def _commit(self) -> None:
        for pair, fold in self.folds.items():
            kept = self.log.committed.get(pair, -1)
            self.log.committed[pair] = max(kept, fold.state.next_offset)

    def _pack(self, *only: Partition) -> Task:
        """Packed here, on disk a little later: killed in between, there is none."""
        for pair in only or PAIRS:
            fold = self.folds[pair]
            if fold.state.next_offset >= fold.speak_from:
                content = snapshot.pack(fold.state)
                yield 0.1
                self.snapshots[pair] = [*self.snapshots[pair], content][-KEPT:]

    def damage_disk(self) -> str:
        """A bit flips in the newest snapshots, or all are gone. Only while it is down."""
        if self.work.rng.random() < 0.5:
            self.snapshots = {pair: [] for pair in PAIRS}
            return "all snapshots are gone"
        for pair, kept in self.snapshots.items():
            if kept:
                flipped = bytearray(kept[-1])
                flipped[self.work.rng.randrange(len(flipped))] ^= 1
                self.snapshots[pair] = [*kept[:-1], bytes(flipped)]
        return "the newest snapshots are damaged"
