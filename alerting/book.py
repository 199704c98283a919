"""The incidents that a batch of signals touches, and the fold of the batch over them. Pure.

The store fills a book from the database, folds, and writes the effects back; a test, or a ledger
on the local disk, may keep one for ever.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from alerting.carriers import Silences
from alerting.corroborate import beside
from alerting.incident import decide, key_of
from alerting.model import Became, Beside, Effect, Heard, Incident, Key, Nature, Place, Recorded
from alerting.place import NOWHERE
from sizao.signal import Kind, Phase, Signal


@dataclass(slots=True, kw_only=True)
class Book:
    """`newest`: the open incident of a key, or the one closed last. `holders`: which incident holds
    an onset, by nature. `seen`: record ids; a record that came before changes nothing. `beside`:
    what may matter to a fire. `silences`: who is offline. `more`: what follows from what was heard,
    to be heard next.
    """

    newest: dict[Key, Incident] = field(default_factory=dict)
    holders: dict[tuple[str, Nature], str] = field(default_factory=dict)
    seen: set[str] = field(default_factory=set)
    beside: list[tuple[Nature, Beside]] = field(default_factory=list)
    silences: Silences = field(default_factory=Silences)
    more: list[tuple[Signal, Place]] = field(default_factory=list)

    def hear(
        self, signal: Signal, nature: Nature, now_us: int, place: Place = NOWHERE
    ) -> tuple[Effect, ...]:
        """Fold one record; () when it was seen before."""
        if signal.id in self.seen:
            return ()
        self.seen.add(signal.id)
        heard = Heard(
            signal=signal,
            nature=nature,
            holder=self.holders.get((signal.onset, nature), ""),
            place=place,
            beside=self._beside(signal, nature),
        )
        key = key_of(heard)
        stands, effects = decide(self.newest.get(key), heard, now_us)
        if stands is not None:
            self.newest[key] = stands
        for effect in effects:
            if isinstance(effect, Recorded) and effect.incident:
                self.holders[signal.onset, nature] = effect.incident
        if signal.kind is Kind.OFFLINE:
            return self._silence(heard, effects)
        return effects

    def _beside(self, signal: Signal, nature: Nature) -> tuple[Beside, ...]:
        """What matters to a fire signal; what matters to others is remembered."""
        if signal.kind is Kind.FIRE:
            return tuple(one for of, one in self.beside if of is nature and one.site == signal.site)
        matters = beside(signal)
        if matters is not None:
            self.beside.append((nature, matters))
        return ()

    def _silence(self, heard: Heard, effects: tuple[Effect, ...]) -> tuple[Effect, ...]:
        """What the carrier of a silent device has to do with it."""
        row, more = self.silences.hear(heard.signal, heard.nature, heard.place)
        if row is not None:
            effects = (*effects, row)
        if more is not None:
            site = heard.place.carrier_site
            self.more.append((more, Place(carrier=heard.place.carrier, carrier_site=site)))
        begins = more is not None and more.phase is Phase.RAISE
        if begins or self.silences.stands(heard.place.carrier, heard.nature):
            effects = tuple(_under_carrier(effect, heard.signal) for effect in effects)
        return effects


def _under_carrier(effect: Effect, signal: Signal) -> Effect:
    """A device's word among those of its carrier; the carrier's own is a matter by itself."""
    if signal.device and isinstance(effect, Recorded) and effect.became is Became.SLOW:
        return replace(effect, became=Became.UNDER_CARRIER)
    return effect
