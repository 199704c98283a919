"""Who is offline, and when it is the gateway and not its 200 devices. Pure.

A carrier counts as offline, as one condition, when as many of its devices are as `limit` says: half
of those that are awaited, and three at least (two that are quiet are two). Their own signals are
kept and marked `under_carrier`. It is over when fewer than half of that many are left, so that it
does not come and go with one device. Nothing says when the carrier itself fell silent: it is given
the time of the first of its devices that is.

A platform that carries a district's devices, which speak once a day, is known to be away only after
a day or two of theirs; its own heartbeat is nobody's device.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field

from alerting.member import member_name
from alerting.model import Nature, Place, Silenced, Silent
from sizao import signal as signals
from sizao.signal import Kind, Phase, Signal, Subject, SubjectType, Tier

RULE = "carrier_offline"
VERSION = 1
LEAST = 3
SHARE = 0.5


def limit(roster: int) -> int:
    """So many silent devices of `roster` make the carrier silent."""
    return max(LEAST, math.ceil(roster * SHARE))


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """Devices of a carrier that are silent: how many, and since when, the first ones in order: all,
    or as many as a batch can take away and one more.
    """

    count: int = 0
    oldest: tuple[int, ...] = ()

    def with_one(self, since_us: int) -> Tally:
        """One more that is silent."""
        known = self.oldest
        if len(known) == self.count or since_us < known[-1]:
            known = tuple(sorted((*known, since_us)))
        return Tally(count=self.count + 1, oldest=known)

    def without_one(self, since_us: int) -> Tally:
        """One less; who is first then must not hang on how the signals came in batches."""
        known = list(self.oldest)
        if since_us in known:
            known.remove(since_us)
        return Tally(count=max(self.count - 1, 0), oldest=tuple(known))


@dataclass(slots=True, kw_only=True)
class Silences:
    """What is known of the carriers of a batch: `silent` subjects by name and nature, tallies by
    carrier and nature.
    """

    silent: dict[tuple[str, Nature], Silent] = field(default_factory=dict)
    tallies: dict[tuple[str, Nature], Tally] = field(default_factory=dict)

    def hear(
        self, signal: Signal, nature: Nature, place: Place
    ) -> tuple[Silenced | None, Signal | None]:
        """Fold one offline signal: the row that it changes, and what follows of its carrier.

        A detector that began anew says a silence again as another onset; the newer one counts.
        """
        name, carrier = member_name(signal), place.carrier
        old, over = self.silent.get((name, nature)), signal.phase is Phase.CLEAR
        is_news = signal.onset_us > old.onset_us if old and not over else old or not over
        is_stale = old is not None and signal.onset_us < old.onset_us
        if not carrier or not is_news or is_stale:
            return None, None
        now = Silent(carrier=carrier, onset=signal.onset, onset_us=signal.onset_us)
        row = Silenced(
            name=name,
            nature=nature,
            device=signal.device,
            silent=now,
            ended_us=signal.event_us if over else None,
        )
        if over:
            del self.silent[name, nature]
        else:
            self.silent[name, nature] = now
        if not signal.device:
            return row, None
        tally = self.tallies.get((carrier, nature), Tally())
        if old is not None:
            tally = tally.without_one(old.onset_us)
        self.tallies[carrier, nature] = tally if over else tally.with_one(signal.onset_us)
        counts = over or old is None
        return row, self._follow(signal, nature, place, over=over) if counts else None

    def stands(self, carrier: str, nature: Nature) -> Silent | None:
        """The carrier's own condition, if it has one."""
        return self.silent.get((carrier_name(carrier), nature))

    def _follow(self, signal: Signal, nature: Nature, place: Place, *, over: bool) -> Signal | None:
        key = place.carrier, nature
        tally, stood = self.tallies[key], self.stands(*key)
        wanted = limit(place.roster)
        if stood is None and not over and tally.count >= wanted:
            return _said(signal, place, tally, Phase.RAISE, tally.oldest[0])
        if stood is not None and over and tally.count * 2 < wanted:
            return _said(signal, place, tally, Phase.CLEAR, stood.onset_us)
        return None


def carrier_name(carrier: str) -> str:
    """As `member_name` of a signal about it."""
    return f"{SubjectType.CARRIER}:{carrier}"


def names_of(offline: Iterable[tuple[Signal, Place]]) -> list[str]:
    """Subjects whose silence matters to these signals: devices, and their carriers."""
    found = {member_name(signal) for signal, _ in offline}
    return sorted(found | {carrier_name(place.carrier) for _, place in offline if place.carrier})


def _said(signal: Signal, place: Place, tally: Tally, phase: Phase, onset_us: int) -> Signal:
    """What is said of the carrier, because of what its device says."""
    return signals.make(
        rule=RULE,
        rule_version=VERSION,
        kind=Kind.OFFLINE,
        tier=Tier.ALARM,
        phase=phase,
        subject=Subject(type=SubjectType.CARRIER, id=place.carrier),
        site=place.carrier_site or signal.site,
        device=0,
        onset_us=onset_us,
        event_us=signal.event_us,
        received_us=signal.received_us,
        generation=signal.generation,
        evidence={
            "quantity": "heard",
            "unit": "1",
            "silent_count": tally.count,
            "roster_count": place.roster,
            "limit_count": limit(place.roster),
            "because": signal.id,
        },
    )
