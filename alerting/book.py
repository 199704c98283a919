"""The incidents that a batch of signals touches, and the fold of the batch over them. Pure.

The store fills a book from the database, folds, and writes the effects back; a test, or a ledger
on the local disk, may keep one for ever.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from alerting.incident import decide, key_of
from alerting.model import Effect, Heard, Incident, Key, Nature, Recorded
from sizao.signal import Signal


@dataclass(slots=True)
class Book:
    """`newest`: the open incident of a key, or the one closed last. `holders`: which incident holds
    an onset, by nature. `seen`: record ids; a record that came before changes nothing.
    """

    newest: dict[Key, Incident] = field(default_factory=dict)
    holders: dict[tuple[str, Nature], str] = field(default_factory=dict)
    seen: set[str] = field(default_factory=set)

    def hear(self, signal: Signal, nature: Nature, now_us: int) -> tuple[Effect, ...]:
        """Fold one record; () when it was seen before."""
        if signal.id in self.seen:
            return ()
        self.seen.add(signal.id)
        holder = self.holders.get((signal.onset, nature), "")
        heard = Heard(signal=signal, nature=nature, holder=holder)
        key = key_of(heard)
        stands, effects = decide(self.newest.get(key), heard, now_us)
        if stands is not None:
            self.newest[key] = stands
        for effect in effects:
            if isinstance(effect, Recorded) and effect.incident:
                self.holders[signal.onset, nature] = effect.incident
        return effects
