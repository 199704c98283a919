"""A batch of signals over what is stored: what to look up, what to write. Pure.

PostgreSQL (`alerting.store`) and the ledger on the local disk (`alerting.disk_ledger`) both work
in these steps, and differ only in how they look up and write:

    wanted() -> [look up] -> fold() -> [look up the members to name] -> follow() -> [write]
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple, Protocol

from alerting import carriers, rows
from alerting.book import Book
from alerting.carriers import Silences, Tally
from alerting.corroborate import KINDS
from alerting.incident import key_of
from alerting.member import member_name
from alerting.model import (
    INCIDENT_KINDS,
    Beside,
    Effect,
    Heard,
    Incident,
    Key,
    Member,
    Nature,
    Place,
    Placed,
    Recorded,
    Silent,
    Transition,
)
from alerting.place import NOWHERE
from alerting.rows import Write
from sizao.errors import Permanent, Refused
from sizao.signal import Kind, Signal

MEMBERS_SHOWN = 20
"""Members of an incident that a notice names, first come first."""
MESSAGES_MAX = 5_000
"""Pages of one batch, 15 MB of words. A batch with more is stored record by record."""

Partition = tuple[str, int]


class OffsetMoved(Permanent):
    """These records are stored already, by whomever; read the offsets again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """Consumed offset of one partition: from (None: no row yet), to, arrival of the newest."""

    expected: int | None
    next_offset: int
    arrived_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """A signal to store; `arrived_us`: when the log had it; `place`: of whom it is about."""

    signal: Signal
    nature: Nature
    arrived_us: int
    place: Place = NOWHERE

    @property
    def key(self) -> Key:
        """Of the incidents that it concerns."""
        return key_of(Heard(signal=self.signal, nature=self.nature))


@dataclass(frozen=True, slots=True, kw_only=True)
class Composed:
    """What follows from one transition: the record for Kafka ("" for none), rows of `message`.

    `left_out`: how many more would have been told; `unrouted`: a fire that reaches nobody.
    """

    record: str
    messages: Sequence[rows.Row]
    left_out: int = 0
    unrouted: bool = False


Compose = Callable[[Incident, Transition, Sequence[Member], int], Composed]
"""(incident after, transition, members to name, arrival of its signal) -> what follows."""


class World(Protocol):
    """A `Compose` that knows where devices stand."""

    def __call__(
        self, incident: Incident, transition: Transition, members: Sequence[Member], arrived_us: int
    ) -> Composed:
        """As Compose."""

    def place(self, signal: Signal) -> Place:
        """Where the subject of a signal stands."""


@dataclass(slots=True, kw_only=True)
class Followed:
    """What followed from the transitions of a batch: counts."""

    messages: int = 0
    left_out: int = 0
    unrouted: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """What a batch did: for counting, after the commit."""

    recorded: tuple[Recorded, ...]
    transitions: tuple[Transition, ...]
    followed: Followed


class Fire(NamedTuple):
    """Of a fire signal, what tells what lies beside it."""

    site: int
    nature: Nature
    device: int
    onset_us: int
    event_us: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What a batch has to know. Sorted, so that two batches lock in one order.

    `fires`: for what lies beside each. (Looked for between the first and the last of a batch, one
    late fire found two days of water at every site.)
    `silent`: subjects, `carriers`: of those that fell silent.
    """

    keys: list[Key]
    names: list[str]
    onsets: list[str]
    fires: list[Fire]
    silent: list[str]
    carriers: list[str]

    @property
    def oldest_max(self) -> int:
        """Silences of a carrier to look up: one is left when all of the batch are taken away."""
        return len(self.silent) + 1

    def onsets_with(self, silent: Mapping[tuple[str, Nature], Silent]) -> list[str]:
        """Onsets whose holders are asked: of a carrier that is silent too, which may be over."""
        return sorted({*self.onsets, *(one.onset for one in silent.values())})


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """The answer: of each key the open incident or the one closed last, each with those of its
    members that were asked about, and of an early fire the newest others too; which incident holds
    an onset; what lies beside the fires; who of the asked is silent, and how many of each carrier.
    """

    incidents: Sequence[Incident] = ()
    members: Mapping[str, Mapping[str, Member]] = field(default_factory=dict)
    holders: Mapping[tuple[str, Nature], str] = field(default_factory=dict)
    beside: Sequence[tuple[Nature, Beside]] = ()
    silent: Mapping[tuple[str, Nature], Silent] = field(default_factory=dict)
    tallies: Mapping[tuple[str, Nature], Tally] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Folded:
    """What the batch did: incidents new or changed, effects in order, and per transition how its
    incident stood after it and when its signal arrived.
    """

    changed: Sequence[Incident]
    effects: Sequence[Effect]
    stands: Mapping[str, Incident] = field(default_factory=dict)
    arrivals: Mapping[str, int] = field(default_factory=dict)

    @property
    def transitions(self) -> tuple[Transition, ...]:
        """Lines of the time line, in order."""
        return tuple(one for one in self.effects if isinstance(one, Transition))

    @property
    def recorded(self) -> tuple[Recorded, ...]:
        """The signals, in order."""
        return tuple(one for one in self.effects if isinstance(one, Recorded))

    @property
    def told(self) -> list[str]:
        """Incidents with transitions, whose first members are to be looked up."""
        return sorted({one.incident for one in self.transitions})


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """All rows of a batch, and what to count once they are committed."""

    writes: Sequence[Write]
    taken: Taken
    moves: Mapping[Partition, Move] = field(default_factory=dict)


def wanted(items: Iterable[Item]) -> Wanted | None:
    """None where no item is of a kind that makes incidents, or may matter to one."""
    about = [item for item in items if item.signal.kind in INCIDENT_KINDS | KINDS]
    if not about:
        return None
    fires = {
        Fire(one.site, item.nature, one.device, one.onset_us, one.event_us)
        for item in about
        if (one := item.signal).kind is Kind.FIRE
    }
    offline = [(item.signal, item.place) for item in about if item.signal.kind is Kind.OFFLINE]
    silent = carriers.names_of(offline)
    return Wanted(
        keys=sorted({one.key for one in about} | _homes(about)),
        names=sorted({member_name(one.signal) for one in about} | set(silent)),
        onsets=sorted({one.signal.onset for one in about}),
        fires=sorted(fires),
        silent=silent,
        carriers=sorted({place.carrier for _, place in offline if place.carrier}),
    )


def _homes(items: Sequence[Item]) -> set[Key]:
    """Fires at the sites of the carriers that may turn out to be silent."""
    return {
        Key(item.place.carrier_site, Kind.FIRE, item.nature)
        for item in items
        if item.signal.kind is Kind.OFFLINE and item.place.carrier_site
    }


def fold(found: Found, items: Iterable[Item], now_us: int) -> Folded:
    """Decide every item, in order."""
    stood = [replace(one, known=found.members.get(one.id, {})) for one in found.incidents]
    book = Book(
        newest={one.key: one for one in stood},
        holders=dict(found.holders),
        beside=list(found.beside),
        silences=Silences(silent=dict(found.silent), tallies=dict(found.tallies)),
    )
    before = {one.id: one for one in stood}
    effects: list[Effect] = []
    arrivals: dict[str, int] = {}
    stands: dict[str, Incident] = {}
    waiting = deque(items)
    while waiting:
        item = waiting.popleft()
        done = book.hear(item.signal, item.nature, now_us, item.place)
        effects += done
        for effect in done:
            if isinstance(effect, Transition):
                arrivals[effect.id] = item.arrived_us
                stands[effect.id] = book.newest[item.key]
        for signal, place in book.more:
            waiting.appendleft(replace(item, signal=signal, place=place))
        book.more.clear()
    changed = [one for one in book.newest.values() if before.get(one.id) is not one]
    return Folded(changed=changed, effects=effects, stands=stands, arrivals=arrivals)


def follow(
    folded: Folded,
    shown: Mapping[str, Sequence[Member]],
    now_us: int,
    compose: Compose,
    moves: Mapping[Partition, Move] | None = None,
) -> Changes:
    """The rows. `shown`: of each told incident, the first members as stored before the batch.

    Raises Refused for more than MESSAGES_MAX pages of several transitions.
    """
    first = _first_members(folded, shown)
    transitions = folded.transitions
    followed = Followed()
    records: list[rows.Row] = []
    messages: list[rows.Row] = []
    for one in transitions:
        arrived_us = folded.arrivals.get(one.id, 0)
        composed = compose(folded.stands[one.id], one, first[one.incident], arrived_us)
        messages += composed.messages
        followed.left_out += composed.left_out
        followed.unrouted += composed.unrouted
        if len(messages) > MESSAGES_MAX and len(transitions) > 1:
            raise Refused(f"{len(messages)} pages in one batch, {MESSAGES_MAX} fit")
        if composed.record:
            records.append(rows.outbox_row(one, composed.record))
    followed.messages = len(messages)
    return Changes(
        writes=rows.writes(folded.changed, folded.effects, now_us, records, messages),
        taken=Taken(recorded=folded.recorded, transitions=transitions, followed=followed),
        moves=moves or {},
    )


def _first_members(
    folded: Folded, shown: Mapping[str, Sequence[Member]]
) -> dict[str, list[Member]]:
    """As the store would show them after the batch: nobody's time of joining ever changes."""
    found: dict[str, dict[str, Member]] = {
        incident: {one.name: one for one in shown.get(incident, ())} for incident in folded.told
    }
    for effect in folded.effects:
        if isinstance(effect, Placed) and effect.incident in found:
            found[effect.incident][effect.member.name] = effect.member
    return {
        incident: sorted(members.values(), key=lambda one: (one.joined_us, one.name))[
            :MEMBERS_SHOWN
        ]
        for incident, members in found.items()
    }
