"""One partition as the loop holds it: the state, and what is to be remembered while it reads.

A snapshot may lack blocks: those of a rule, or of features, of another version. They are warmed up
as a whole fold is without a snapshot: a cold state folds the records before the snapshot's place in
silence, and its blocks then join those that the snapshot kept. So an onset that is on stays on, and
a new version of a rule does not sleep for its first ten minutes.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from detectors import record as records_of
from detectors import state as folds
from detectors.record import Record
from detectors.state import State
from sizao.errors import BadRecord


@dataclass(slots=True)
class Fold:
    """`speak_from`: what lies before it is folded in silence.

    `kept`: the snapshot whose blocks `cold` are warmed up in `state`. `check`: the first record to
    come is the one that was folded last; `replaced`: it was another one.
    """

    state: State
    speak_from: int = 0
    kept: State | None = None
    cold: list[str] = field(default_factory=list)
    check: bool = False
    replaced: bool = False
    snapshot_due_s: float = 0.0

    @property
    def speaks(self) -> bool:
        """Whether the warm-up is over; only then is there something to keep."""
        return self.state.next_offset >= self.speak_from

    def passes_over(self, record: Record) -> bool:
        """Whether a record is not to be folded: it was before, or the log is not the one we read.

        A log that came back shorter and has grown past our place since looks whole.
        """
        before = record.offset < self.state.next_offset
        if before and self.check and record.offset == self.state.next_offset - 1:
            self.replaced = _is_another(self.state, record)
        self.check = False
        return before or self.replaced

    def join(self, reached: int) -> None:
        """Where the warm-up is over: put the blocks that were cold among those that were kept."""
        warmed, kept = self.state, self.kept
        if kept is None or reached < self.speak_from:
            return
        newest = max(warmed.view, kept.view, key=lambda view: view.generation)
        for each in (warmed, kept):
            if each.view.generation < newest.generation:
                folds.adopt(each, newest)
        for name in self.cold:
            kept.blocks[name] = warmed.blocks[name]
        self.replaced = None not in {warmed.last, kept.last} and warmed.last != kept.last
        self.forget_warming()

    def forget_warming(self) -> None:
        """Go on with what was kept."""
        if self.kept is not None:
            self.state, self.kept, self.cold = self.kept, None, []


def _is_another(state: State, record: Record) -> bool:
    """Whether a record is not the frame that was folded last; one that cannot be read tells not."""
    if state.last is None or record.value is None:
        return False
    try:
        return folds.last_of(records_of.read(record)) != state.last
    except BadRecord:
        return True
