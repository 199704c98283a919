"""What two sets of rules say of the same readings: the same, moved, missed, raised.

    same      the onset of the same id: rule, version, subject, tier and time
    moved     the same device, kind and tier within some minutes: seconds earlier or later
    missed    only the rules in force say it
    raised    only the changed ones do

Pairs are made in the order of time, the same rule's first; a raise is in one pair at most. What
people said of an incident counts for every raise of its site and kind from the same minutes before
it began to after it was last heard of: so also for raises that nobody has heard.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from statistics import median
from typing import Any, NamedTuple

from sizao.signal import Phase, Signal, Tier

SECOND_US = 1_000_000
YEAR_S = 365.25 * 86_400


class What(StrEnum):
    """What became of a raise."""

    SAME = "same"
    MOVED = "moved"
    MISSED = "missed"
    RAISED = "raised"


class Raise(NamedTuple):
    """One onset, as far as it is compared. `subject` as `point:17`."""

    onset: str
    onset_us: int
    rule: str
    kind: str
    tier: str
    subject: str
    site: int
    device: int
    self_test: bool


class Pair(NamedTuple):
    """A raise of the rules in force, and the changed rules' one that it became."""

    old: Raise | None
    new: Raise | None

    @property
    def what(self) -> What:
        """What became of it."""
        if self.new is None:
            return What.MISSED
        if self.old is None:
            return What.RAISED
        return What.SAME if self.old.onset == self.new.onset else What.MOVED

    @property
    def one(self) -> Raise:
        """The old raise, else the new one."""
        found = self.old or self.new
        assert found is not None
        return found

    @property
    def later_s(self) -> float:
        """Seconds by which the changed rules are later; 0 where there are no two."""
        if self.old is None or self.new is None:
            return 0.0
        return (self.new.onset_us - self.old.onset_us) / SECOND_US


def raises(said: Iterable[Signal]) -> list[Raise]:
    """The onsets that begin among these signals."""
    return [
        Raise(
            onset=one.onset,
            onset_us=one.onset_us,
            rule=one.rule,
            kind=one.kind.value,
            tier=one.tier.value,
            subject=f"{one.subject.type}:{one.subject.id}",
            site=one.site,
            device=one.device,
            self_test=one.self_test,
        )
        for one in said
        if one.phase is Phase.RAISE
    ]


# --- pairs --------------------------------------------------------------------------------------


def compare(old: Sequence[Raise], new: Sequence[Raise], within_s: float) -> list[Pair]:
    """Every raise of both in one pair, in order of time."""
    again = {one.onset: one for one in new}
    pairs = [Pair(one, again.pop(one.onset)) for one in old if one.onset in again]
    same = {pair.one.onset for pair in pairs}
    left = [one for one in old if one.onset not in same]
    rest = list(again.values())
    for key in (_by_rule, _by_device):
        found, left, rest = _matched(left, rest, within_s, key)
        pairs += found
    pairs += [Pair(one, None) for one in left] + [Pair(None, one) for one in rest]
    return sorted(pairs, key=lambda pair: (pair.one.onset_us, pair.one.onset))


def _by_device(one: Raise) -> tuple[Any, ...]:
    about = f"device:{one.device}" if one.device else one.subject
    return about, one.kind, one.tier, one.self_test


def _by_rule(one: Raise) -> tuple[Any, ...]:
    return one.rule, one.subject, *_by_device(one)


def _matched(
    old: Sequence[Raise],
    new: Sequence[Raise],
    within_s: float,
    key: Callable[[Raise], tuple[Any, ...]],
) -> tuple[list[Pair], list[Raise], list[Raise]]:
    """Pairs of a key's raises, the first with the first that is near enough; and who is left."""
    theirs: dict[tuple[Any, ...], list[Raise]] = defaultdict(list)
    for one in sorted(new, key=lambda one: one.onset_us):
        theirs[key(one)].append(one)
    pairs: list[Pair] = []
    alone: list[Raise] = []
    place: dict[tuple[Any, ...], int] = defaultdict(int)
    within_us = within_s * SECOND_US
    taken: set[str] = set()
    for one in sorted(old, key=lambda one: one.onset_us):
        same, at = theirs.get(key(one), []), place[key(one)]
        while at < len(same) and same[at].onset_us < one.onset_us - within_us:
            at += 1
        if at < len(same) and same[at].onset_us <= one.onset_us + within_us:
            pairs.append(Pair(one, same[at]))
            taken.add(same[at].onset)
            at += 1
        else:
            alone.append(one)
        place[key(one)] = at
    return pairs, alone, [one for one in new if one.onset not in taken]


# --- incidents ----------------------------------------------------------------------------------


class Incident(NamedTuple):
    """What people made of a fire; times of its events. `verdict` "" where nobody has said."""

    id: str
    site: int
    kind: str
    nature: str
    verdict: str
    onset_us: int
    last_us: int


class Verdicts:
    """Incidents by site and kind."""

    def __init__(self, incidents: Iterable[Incident], within_s: float) -> None:
        """`within_s`: before the first and after the last that was heard of an incident."""
        self._within_us = within_s * SECOND_US
        self._known: dict[tuple[int, str], list[Incident]] = defaultdict(list)
        for one in incidents:
            self._known[one.site, one.kind].append(one)

    def of(self, one: Raise) -> Incident | None:
        """The incident of a raise; of several, one with a verdict, then the nearest onset."""
        fits = [
            known
            for known in self._known.get((one.site, one.kind), ())
            if known.onset_us - self._within_us <= one.onset_us <= known.last_us + self._within_us
        ]
        return min(
            fits,
            key=lambda known: (not known.verdict, abs(known.onset_us - one.onset_us)),
            default=None,
        )


@dataclass(slots=True)
class Judged:
    """First alarms, or higher tiers, of an incident, by either set; `early`: its first word."""

    incident: Incident
    alarm_us: list[int | None] = field(default_factory=lambda: [None, None])
    early_us: list[int | None] = field(default_factory=lambda: [None, None])

    def add(self, side: int, one: Raise) -> None:
        """Count a raise of one side (0: in force, 1: changed)."""
        for first_us in (self.early_us, *([self.alarm_us] if one.tier != Tier.EARLY else [])):
            first_us[side] = min(one.onset_us, first_us[side] or one.onset_us)

    @property
    def missed(self) -> bool:
        """Whether the rules in force alarm (or only warn), and the changed ones do not."""
        if self.alarm_us[0] is not None:
            return self.alarm_us[1] is None
        return self.early_us[0] is not None and self.early_us[1] is None

    @property
    def later_s(self) -> float | None:
        """Seconds by which the changed rules' first alarm is later; None without two."""
        before, after = self.alarm_us
        return None if before is None or after is None else (after - before) / SECOND_US


def judged(pairs: Iterable[Pair], verdicts: Verdicts) -> list[Judged]:
    """Every incident that a raise of either set belongs to, in order of time."""
    found: dict[str, Judged] = {}
    for pair in pairs:
        for side, one in enumerate(pair):
            incident = None if one is None else verdicts.of(one)
            if one is not None and incident is not None:
                found.setdefault(incident.id, Judged(incident)).add(side, one)
    return sorted(found.values(), key=lambda one: (one.incident.onset_us, one.incident.id))


# --- counts -------------------------------------------------------------------------------------


@dataclass(slots=True)
class Tally:
    """Raises of one rule and tier in one community. `later_s`: of those that moved."""

    in_force: int = 0
    changed: int = 0
    raised: int = 0
    missed: int = 0
    later_s: list[float] = field(default_factory=list)

    def add(self, pair: Pair) -> None:
        """Count a pair: a missed one, and a moved one, under the old rule."""
        self.in_force += pair.old is not None
        self.changed += pair.new is not None
        self.raised += pair.what is What.RAISED
        self.missed += pair.what is What.MISSED
        if pair.what is What.MOVED:
            self.later_s.append(pair.later_s)

    def plain(self, device_years: float) -> dict[str, Any]:
        """Counts, and rates a device-year."""
        earlier = [-one for one in self.later_s if one < 0]
        later = [one for one in self.later_s if one >= 0]
        return {
            "in_force": self.in_force,
            "changed": self.changed,
            "raised": self.raised,
            "missed": self.missed,
            "earlier": len(earlier),
            "earlier_s_median": median(earlier) if earlier else None,
            "later": len(later),
            "later_s_median": median(later) if later else None,
            "in_force_per_device_year": self.in_force / device_years if device_years else None,
            "changed_per_device_year": self.changed / device_years if device_years else None,
        }


Row = tuple[str, str, str]
"""Community, rule and tier; a rule's sum bears no tier, a community's no rule."""


def tallies(pairs: Iterable[Pair], community: Mapping[int, str]) -> dict[Row, Tally]:
    """Counts by community (of each site), rule and tier, and their sums over rules, and over all
    (community "").
    """
    found: dict[Row, Tally] = defaultdict(Tally)
    for pair in pairs:
        one = pair.one
        for row in _rows(community[one.site], one):
            found[row].add(pair)
    return dict(sorted(found.items()))


def _rows(community: str, one: Raise) -> Iterator[Row]:
    for place in dict.fromkeys((community, "")):
        yield place, "", ""
        yield place, one.rule, one.tier
