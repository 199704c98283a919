"""alert: the real intake, book, composer and ladder; people at their buttons; who is paged."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field, replace

from simulation import place
from simulation.clockwork import Clockwork, Task
from simulation.log import Log, pairs
from simulation.store import Store

from alerting.channels.webhook import Webhook
from alerting.compose import Composer
from alerting.fold import Item, OffsetMoved
from alerting.incident import message_id, nature_of
from alerting.intake import Batch, decode, mark_of
from alerting.ledger import Answer, MessageState, Outcome, outcome_of, retry_after_s
from alerting.model import Action, Conflict, Nature, NotAllowed, State, Verdict, What
from alerting.outbox import Claim
from alerting.place import place_of
from alerting.publish import outgoing
from sizao.kafka import Partition
from sizao.topics import CONDITIONS, SIGNALS

HOLDER = "a0"
PAIRS = pairs(SIGNALS, CONDITIONS)
_ATTEMPT_S = 5.0
_MOODS = ("well", "refuse", "500", "429", "404", "302", "mute", "deaf")


@dataclass(frozen=True)
class Got:
    """A page that reached a responder."""

    id: str
    body: str
    at_us: int
    responder: str


@dataclass
class Responders:
    """The other side of the webhooks. `mood`: how it answers while it misbehaves."""

    work: Clockwork
    mood: str = "well"
    got: list[Got] = field(default_factory=list)
    accepted: set[str] = field(default_factory=set)

    def receive(self, claim: Claim, name: str) -> Answer:
        """What comes back of one attempt, after the bytes left."""
        mood = self.mood
        if mood == "mixed":
            mood = self.work.rng.choice(_MOODS)
        if mood == "refuse":
            return Answer(outcome=Outcome.UNREACHABLE)
        if mood == "deaf":  # lost on the way, and nobody knows
            return Answer(outcome=Outcome.UNKNOWN)
        self.got.append(Got(name, claim.body, self.work.now_us, claim.responder))
        if mood in {"well", "mute"}:
            self.accepted.add(name)
        if mood == "mute":  # it has it, the answer is lost
            return Answer(outcome=Outcome.UNKNOWN)
        status = 204 if mood == "well" else int(mood)
        wait = retry_after_s("7") if status == 429 else None
        return Answer(outcome=outcome_of(status), status=status, retry_after_s=wait)


class Alert:
    """The process, with the console's people."""

    NAME = "alert"

    def __init__(
        self, work: Clockwork, log: Log, responders: Responders, flaws: frozenset[str]
    ) -> None:
        self.work, self.log, self.responders, self.flaws = work, log, responders, flaws
        self.store = Store(flaws)
        self.view = place.registry().newest
        directory = place.directory(work.rng.randrange(4))
        self.compose = Composer(
            view=lambda: self.view,
            directory=lambda: directory,
            renderers={"webhook": Webhook(None)},
            utc_offset_min=480,
        )
        self.late_until_us = dict.fromkeys(PAIRS, 0)
        self.database_away_until_us = 0
        self.next: dict[Partition, int | None] = {}
        self.stalled: Batch | None = None
        self._presses = itertools.count(1)

    def start(self) -> None:
        self.work.spawn(self.NAME, self._consume())
        self.work.spawn(self.NAME, self._deliver())
        self.work.spawn(self.NAME, self._publish())

    def crash(self) -> None:
        """Now and then the old life was only stalled: what it had fetched it stores later."""
        self.work.kill(self.NAME)
        if self.stalled is not None and self.work.rng.random() < 0.5:
            self.work.spawn("ghost", self._ghost(self.stalled), self.work.rng.uniform(0.1, 30))
        self.stalled = None

    @property
    def idle(self) -> bool:
        read = all(self.store.offsets.get(pair, 0) >= self.log.end(pair) for pair in PAIRS)
        return read and not self.store.due() and not self.store.outbox

    # -- signals in

    def _consume(self) -> Task:
        rng = self.work.rng
        self.next = {pair: self.store.offsets.get(pair) for pair in PAIRS}
        while True:
            batch = self._fetch()
            if not batch.moves:
                yield rng.uniform(0.1, 1)
                continue
            self.stalled = batch
            if "offset apart from the incidents" in self.flaws:
                for pair, move in batch.moves.items():
                    self.store.offsets[pair] = move.next_offset
                yield rng.choice([0, 0.05, 1])
                for pair, move in batch.moves.items():
                    self.store.offsets[pair] = move.expected
            else:
                yield rng.choice([0, 0.05, 1])
            yield from self._database()
            try:
                self._store(batch)
            except OffsetMoved:
                self.work.note("alert: offsets moved, read again")
                self.next = {pair: self.store.offsets.get(pair) for pair in PAIRS}
            self.stalled = None
            yield 0

    def _fetch(self) -> Batch:
        """Some of each partition in order; which comes first, and how much, is chance."""
        rng, batch = self.work.rng, Batch()
        for pair in rng.sample(PAIRS, len(PAIRS)):
            if self.work.now_us < self.late_until_us[pair]:
                continue
            for one in self.log.read(pair, self.next[pair] or 0, rng.choice([1, 3, 50])):
                batch.move(one, self.next[pair])
                found = decode(one)
                nature = nature_of(mark_of(self.view, found.device), self_test=found.self_test)
                if "merge the natures" in self.flaws:
                    nature = Nature.REAL
                arrived_us = one.timestamp_ms * 1000
                where = place_of(self.view, found)
                batch.items.append(
                    Item(signal=found, nature=nature, arrived_us=arrived_us, place=where)
                )
        return batch

    def _database(self) -> Task:
        while self.work.now_us < self.database_away_until_us:
            yield 0.5

    def _store(self, batch: Batch) -> None:
        self.store.take(batch.moves, batch.items, self.work.now_us, self.compose)
        if self.work.rng.random() < 0.02:  # committed, but the answer was lost: tried again
            self.store.take(batch.moves, batch.items, self.work.now_us, self.compose)
        for pair, move in batch.moves.items():
            self.next[pair] = move.next_offset

    def _ghost(self, batch: Batch) -> Task:
        try:
            self.store.take(batch.moves, batch.items, self.work.now_us, self.compose)
            self.work.note("a stalled alert stored first")
        except OffsetMoved:
            self.work.note("a stalled alert came too late")
        yield 0

    # -- pages out

    def _deliver(self) -> Task:
        holder = HOLDER
        yield from self._database()
        self.store.release(holder, self.work.now_us)
        while True:
            yield from self._database()
            for claim in self.store.claim(holder, self.work.now_us, 8):
                self.work.spawn(self.NAME, self._send(claim, holder), self.work.rng.uniform(0, 0.3))
            yield self.work.rng.uniform(0.2, 1)

    def _send(self, claim: Claim, holder: str) -> Task:
        if "accepted before it is sent" in self.flaws:
            self.store.record(claim, holder, Answer(outcome=Outcome.ACCEPTED), self.work.now_us)
            yield 0
        name = claim.id
        if "a new message id for each attempt" in self.flaws:
            transition = str(self.store.pages[claim.id].row["transition"])
            name = message_id(transition, claim.responder, claim.channel, claim.attempt)
        if "words anew for each attempt" in self.flaws:
            claim = replace(claim, body=claim.body + " " * claim.attempt)
        answer = self.responders.receive(claim, name)
        waits = answer.outcome is Outcome.UNKNOWN
        yield _ATTEMPT_S if waits else self.work.rng.uniform(0, 0.5)
        yield from self._database()
        self.store.record(claim, holder, answer, self.work.now_us)

    def _publish(self) -> Task:
        while True:
            yield from self._database()
            records = self.store.outbox[:200]
            if records:
                yield from self.log.send([outgoing(one, place.PARTITIONS) for one in records])
                gone = {one.seq for one in records}
                self.store.outbox = [one for one in self.store.outbox if one.seq not in gone]
            yield self.work.rng.uniform(0.2, 2)

    # -- people

    def people(self) -> Task:
        """Act on incidents of which a page has arrived, sometimes twice, sometimes on old news."""
        rng = self.work.rng
        while True:
            yield rng.uniform(3, 25)
            known = {
                str(page.row["incident"])
                for page in self.store.pages.values()
                if page.state is MessageState.ACCEPTED
            }
            found = [
                one
                for one in self.store.incidents.values()
                if one.id in known and one.state is not State.CLOSED
            ]
            if found:
                self._press(rng.choice(found))

    def _press(self, incident) -> None:
        rng = self.work.rng
        what = What.ACKNOWLEDGED
        if incident.state is State.ACKNOWLEDGED:
            what = What.CLOSED if incident.verdict is not None else What.VERDICT
        action = Action(
            id=f"press-{next(self._presses)}",
            actor="duty",
            what=what,
            expected_version=incident.version - (rng.random() < 0.1),
            verdict=rng.choice(list(Verdict)) if what is What.VERDICT else None,
            cause="seen",
        )
        for _ in range(rng.choice([1, 2])):
            try:
                self.store.act(incident.id, action, self.work.now_us, self.compose)
            except (Conflict, NotAllowed):
                self.work.note(f"refused: {what}")
