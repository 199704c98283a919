"""PostgreSQL as `alerting/store.py` and `alerting/outbox.py` use it: rows and transactions.

Every public method is one transaction. What the schema's unique indexes would refuse is noted in
`broken` instead, for the checkers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from simulation.clockwork import SECOND_US

from alerting.book import Book
from alerting.corroborate import KINDS, beside
from alerting.fold import MEMBERS_SHOWN, Compose, Item, Move, OffsetMoved
from alerting.incident import decide
from alerting.ledger import Answer, MessageState, Outcome, next_attempt
from alerting.member import member_name
from alerting.model import (
    INCIDENT_KINDS,
    Action,
    Effect,
    Incident,
    Member,
    NotAllowed,
    Placed,
    Recorded,
    State,
    Transition,
    What,
)
from alerting.outbox import LANE_MAX, Claim, Record
from alerting.policy import PRESSING
from alerting.rows import Row
from sizao.kafka import Partition

_LEASE_US = 15 * SECOND_US


@dataclass
class Page:
    """A row of `message` that lives: its content, and where its delivery stands."""

    row: Row
    seq: int
    state: MessageState = MessageState.DUE
    next_us: int | None = 0
    attempts: int = 0
    first_us: int | None = None
    holder: str | None = None
    lease_until_us: int = 0
    outcomes: dict[int, Outcome | None] = field(default_factory=dict)

    @property
    def lane(self) -> tuple[object, object]:
        return self.row["responder"], self.row["channel"]

    @property
    def urgency(self) -> int:
        return int(str(self.row["urgency"]))


@dataclass
class Store:
    """The tables."""

    flaws: frozenset[str]
    offsets: dict[Partition, int] = field(default_factory=dict)
    signals: dict[str, Recorded] = field(default_factory=dict)
    incidents: dict[str, Incident] = field(default_factory=dict)
    members: dict[str, dict[str, Member]] = field(default_factory=dict)
    transitions: dict[str, Transition] = field(default_factory=dict)
    pages: dict[str, Page] = field(default_factory=dict)
    outbox: list[Record] = field(default_factory=list)
    exchanged: set[str] = field(default_factory=set)
    actions: dict[str, str] = field(default_factory=dict)
    broken: list[str] = field(default_factory=list)
    _seq: int = 0

    # -- signals

    def take(
        self,
        moves: Mapping[Partition, Move],
        items: Sequence[Item],
        now_us: int,
        compose: Compose,
    ) -> None:
        """As `alerting.store.take`. Raises OffsetMoved, and then nothing is stored."""
        for pair, move in moves.items():
            if self.offsets.get(pair) != move.expected:
                raise OffsetMoved(f"{pair} is no longer at {move.expected}")
        self.offsets |= {pair: move.next_offset for pair, move in moves.items()}
        if "skip the record id" not in self.flaws:
            items = [item for item in items if item.signal.id not in self.signals]
        book = self._book(items)
        effects: list[Effect] = []
        for item in items:
            if "skip the record id" in self.flaws:
                book.seen.discard(item.signal.id)
            done = book.hear(item.signal, item.nature, now_us, item.place)
            effects += done
            key = item.key
            self._write(book.newest.get(key), done)
            for effect in done:
                if isinstance(effect, Transition):
                    self._follow(book.newest[key], effect, item.arrived_us, compose)

    def _book(self, items: Sequence[Item]) -> Book:
        book = Book()
        about = [item for item in items if item.signal.kind in INCIDENT_KINDS | KINDS]
        names = {member_name(item.signal) for item in about}
        for key in {item.key: None for item in about}:
            mine = [one for one in self.incidents.values() if one.key == key]
            opened = [one for one in mine if one.closed_us is None]
            found = opened or sorted(mine, key=lambda one: one.closed_us)[-1:]
            if found:
                held = self.members.get(found[0].id, {})
                early = found[0].is_early_fire
                known = {name: held[name] for name in held if early or name in names}
                book.newest[key] = replace(found[0], known=known)
        for row in self.signals.values():
            if row.incident:
                book.holders[row.signal.onset, row.nature] = row.incident
            matters = beside(row.signal)
            if matters is not None:
                book.beside.append((row.nature, matters))
        return book

    def _write(self, stands: Incident | None, effects: Sequence[Effect]) -> None:
        if stands is not None and effects:
            self.incidents[stands.id] = stands
            rivals = [
                one.id
                for one in self.incidents.values()
                if one.key == stands.key and one.state is not State.CLOSED
            ]
            if len(rivals) > 1:
                self.broken.append(f"two open incidents of {stands.key}: {rivals}")
        for effect in effects:
            if isinstance(effect, Placed):
                self.members.setdefault(effect.incident, {})[effect.member.name] = effect.member
            elif isinstance(effect, Recorded):
                if effect.signal.id in self.signals:
                    self.broken.append(f"signal {effect.signal.id} stored twice")
                self.signals.setdefault(effect.signal.id, effect)
            elif isinstance(effect, Transition):
                if effect.id in self.transitions:
                    self.broken.append(f"transition {effect.id} stored twice")
                self.transitions[effect.id] = effect

    def _follow(
        self, stands: Incident, transition: Transition, arrived_us: int, compose: Compose
    ) -> None:
        held = sorted(self.members.get(stands.id, {}).values(), key=lambda m: (m.joined_us, m.name))
        composed = compose(stands, transition, held[:MEMBERS_SHOWN], arrived_us)
        self._seq += 1
        if composed.record:
            self.exchanged.add(transition.id)
            self.outbox.append(
                Record(
                    seq=self._seq,
                    transition=transition.id,
                    incident=transition.incident,
                    what=transition.what,
                    event_us=transition.event_us,
                    at_us=transition.at_us,
                    value=composed.record,
                )
            )
        for row in composed.messages:
            self._seq += 1
            page = Page(row=row, seq=self._seq, next_us=int(str(row["next_us"])))
            self.pages.setdefault(str(row["id"]), page)

    # -- people

    def act(self, incident: str, action: Action, now_us: int, compose: Compose) -> None:
        """As `alerting.store.act`; raises NotAllowed or Conflict."""
        if action.id in self.actions:
            if self.actions[action.id] != incident:
                raise NotAllowed("done to another incident")
            return
        stands, effects = decide(self.incidents[incident], action, now_us)
        self.actions[action.id] = incident
        self._write(stands, effects)
        for effect in effects:
            if stands is not None and isinstance(effect, Transition):
                self._follow(stands, effect, 0, compose)
        if action.what is What.CLOSED:
            for page in self.pages.values():
                mine = page.row["incident"] == incident and page.holder is None
                if mine and page.state is MessageState.DUE:
                    page.state = MessageState.CANCELLED

    # -- delivery

    def due(self) -> list[Page]:
        return [page for page in self.pages.values() if page.state is MessageState.DUE]

    def claim(self, holder: str, now_us: int, limit: int) -> list[Claim]:
        """As `alerting.outbox.claim`: repeats one per responder's channel, the most urgent first;
        first attempts of what nobody may delay beside them.
        """
        due = self.due()
        busy = Counter(page.lane for page in due if page.lease_until_us > now_us)
        repeats = Counter(
            page.lane
            for page in due
            if page.lease_until_us > now_us and (page.attempts > 1 or page.urgency < PRESSING)
        )
        ready = [
            page
            for page in due
            if page.next_us is not None and page.next_us <= now_us >= page.lease_until_us
        ]
        wanted: list[Page] = []
        room = {page.lane: LANE_MAX - busy[page.lane] for page in ready}
        for page in sorted(ready, key=lambda page: (-page.urgency, page.seq)):
            if page.attempts == 0 and page.urgency >= PRESSING and room[page.lane] > 0:
                room[page.lane] -= 1
                wanted.append(page)
        heads: dict[tuple[object, object], Page] = {}
        for page in ready:
            head = heads.get(page.lane)
            repeat = page.attempts > 0 or page.urgency < PRESSING
            leads = head is None or _order(page) < _order(head)
            if repeat and leads and not repeats[page.lane]:
                heads[page.lane] = page
        wanted += heads.values()
        claims = []
        for page in wanted[:limit]:
            page.attempts += 1
            page.first_us = now_us if page.first_us is None else page.first_us
            page.holder, page.lease_until_us = holder, now_us + _LEASE_US
            self._cut_off(page)
            page.outcomes[page.attempts] = None
            row = page.row
            claims.append(
                Claim(
                    id=str(row["id"]),
                    responder=str(row["responder"]),
                    channel=str(row["channel"]),
                    body=str(row["body"]),
                    attempt=page.attempts,
                    first_us=page.first_us,
                    signal_us=int(str(row["signal_us"])),
                )
            )
        return claims

    @staticmethod
    def _cut_off(page: Page) -> None:
        for attempt, outcome in page.outcomes.items():
            if outcome is None:
                page.outcomes[attempt] = Outcome.UNKNOWN

    def release(self, holder: str, now_us: int) -> None:
        for page in self.due():
            if page.holder == holder:
                page.holder, page.lease_until_us, page.next_us = None, 0, now_us
                self._cut_off(page)

    def record(self, done: Claim, holder: str, answer: Answer, now_us: int) -> None:
        page = self.pages[done.id]
        closed = self.incidents[str(page.row["incident"])].closed_us is not None
        following = next_attempt(
            answer,
            attempts=done.attempt,
            first_us=done.first_us,
            now_us=now_us,
            incident_closed=closed,
        )
        page.outcomes[done.attempt] = answer.outcome
        if (page.holder, page.attempts) == (holder, done.attempt):
            page.state, page.next_us = following.state, following.at_us
            page.holder, page.lease_until_us = None, 0


def _order(page: Page) -> tuple[int, int, int]:
    return -page.urgency, page.next_us or 0, page.seq
