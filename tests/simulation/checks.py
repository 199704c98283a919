"""What must be true of every run. Each checker answers with what is wrong, in words; [] is good."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from simulation import place
from simulation.detect import setup
from simulation.fleet import Row, Sent
from simulation.world import DRAIN_S, World

from alerting.book import Book
from alerting.incident import key_of, nature_of
from alerting.ledger import MessageState
from alerting.model import CauseKind, Nature, State, Transition, What
from alerting.place import place_of
from detectors.offline import fold_records
from ingest import rejects
from sizao import frame, signal
from sizao.kafka import Incoming
from sizao.signal import MINUTE_US, Kind, Signal, Tier
from sizao.topics import ALARMS, CONDITIONS, INCIDENTS, READINGS, REJECTS, SIGNALS

Wrong = list[str]


def _signals(world: World) -> Iterator[tuple[Incoming, Signal]]:
    for one in world.log.all(SIGNALS, CONDITIONS):
        yield one, signal.decode(one.value, one.headers)


# -- the bridge


def acknowledged_is_kept(world: World) -> Wrong:
    """Whatever was acknowledged, by the bridge or in the eyes of the broker, was in Kafka when the
    PUBACK left: its rows, or byte-exact its reject.

    A row is known by its point, value and time: the device's, or one of the message's arrivals.
    """
    rows, letters = _kept(world)
    marks: dict[int, list[int]] = {}
    for session in world.broker.sessions.values():
        for token, mark in session.done.items():
            marks.setdefault(token, []).append(mark)
    for token, times in world.bridge.acknowledged.items():
        marks.setdefault(token, []).append(min(mark for _, mark in times))
    wrong = []
    for token, found in marks.items():
        sent, arrivals, mark = world.fleet.sent[token], world.bridge.arrivals[token], min(found)
        kept = all(_is_in(row, rows, arrivals, mark) for row in sent.rows)
        names = [(sent.topic, sent.payload, at_us) for at_us in arrivals]
        dead = any(letters.get(name, _NEVER) <= mark for name in names)
        good = (kept or dead) if sent.reject is None else kept and (dead or not sent.reject)
        if not good:
            wrong.append(f"acknowledged, and not in Kafka by then: {sent}")
    return wrong


_NEVER = 1 << 62
Rows = dict[tuple[int, int, float], int]
Letters = dict[tuple[bytes, bytes, int], int]


def _kept(world: World) -> tuple[Rows, Letters]:
    """Every row and dead letter of the log, with the order of its first append."""
    rows: Rows = {}
    letters: Letters = {}
    for one in world.log.all(READINGS, ALARMS):
        found, order = frame.decode(one.value, one.headers), _order(world, one)
        columns = (found.point.tolist(), found.event_us.tolist(), found.value.tolist())
        for row in zip(*columns, strict=True):
            rows[row] = min(rows.get(row, _NEVER), order)
    for one in world.log.all(REJECTS):
        letter, order = rejects.read(one.value, one.headers), _order(world, one)
        name = letter.topic, letter.payload, letter.arrived_us
        letters[name] = min(letters.get(name, _NEVER), order)
    return rows, letters


def _order(world: World, one: Incoming) -> int:
    return world.log.order[(one.topic, one.partition), one.offset]


def _is_in(row: Row, rows: Rows, arrivals: list[int], mark: int) -> bool:
    times = arrivals if row.event_us is None else [row.event_us]
    return any(rows.get((row.point, at_us, row.value), _NEVER) <= mark for at_us in times)


def unread_is_told(world: World) -> Wrong:
    """Of each acknowledged alarm-lane message that nobody can read, a signal of the same minute or
    the one before tells.
    """
    told: dict[tuple[str, str], list[int]] = {}
    for _, one in _signals(world):
        if one.kind is Kind.UNREAD:
            subject = (str(one.subject.type), one.subject.id)
            told.setdefault(subject, []).append(one.event_us)

    def is_told(sent: Sent, arrived_us: int) -> bool:
        times = told.get(sent.unread or ("", ""), [])
        return any(arrived_us - MINUTE_US <= at_us <= arrived_us for at_us in times)

    return [
        f"unread and untold: {world.fleet.sent[token]}"
        for token, times in world.bridge.acknowledged.items()
        if world.fleet.sent[token].unread is not None
        and not all(is_told(world.fleet.sent[token], at_us) for at_us, _ in times)
    ]


# -- detect


def signals_are_the_offline_fold(world: World) -> Wrong:
    """Without repeats, what was said is what an uninterrupted fold of the same log says, byte for
    byte. Nothing of that is promised where a warm-up could not reach the start of its log.
    """
    said: dict[str, bytes | None] = {}
    wrong: Wrong = []
    if world.detect.warmed_late:
        return wrong
    for record, one in _signals(world):
        if said.setdefault(one.id, record.value) != record.value:
            wrong.append(f"two contents of signal {one.id}: {one}")
    records = world.log.all(READINGS, ALARMS)
    offline = {
        one.id: signal.encode(one) for one in fold_records(records, place.registry(), setup())
    }
    said = {one.id: said[one.id] for _, one in _signals(world) if one.kind is not Kind.UNREAD}
    wrong += [f"never said: {offline[name]!r}" for name in offline if name not in said]
    wrong += [f"said, but not in the fold: {said[name]!r}" for name in said if name not in offline]
    both = offline.keys() & said.keys()
    return wrong + [f"other bytes: {said[name]!r}" for name in both if said[name] != offline[name]]


def one_reading_is_no_fire(world: World) -> Wrong:
    """However often a message is delivered: whoever was hot in one message only is not urgent."""
    limits_c, hot = place.limits_c(), dict.fromkeys(place.limits_c(), 0)
    for sent in world.fleet.sent.values():
        for row in sent.rows:
            if row.value >= limits_c.get(row.point, _NEVER):
                hot[row.point] += 1
    return [
        f"urgent after {hot[int(one.subject.id)]} hot messages: {one}"
        for _, one in _signals(world)
        if one.rule == "heat_fixed" and hot[int(one.subject.id)] < 2
    ]


# -- alert


def the_tables_hold(world: World) -> Wrong:
    """Never two open incidents of one site, kind and nature; no signal and no transition twice."""
    store = world.alert.store
    keys = [one.key for one in store.incidents.values() if one.state is not State.CLOSED]
    return store.broken + [f"two open at the end: {k}" for k in set(keys) if keys.count(k) > 1]


def natures_stay_apart(world: World) -> Wrong:
    """Each signal lies in an incident of the nature that its device's mark and words give it; each
    member was brought by such a signal; each page went to somebody who takes that nature.
    """
    store, wrong = world.alert.store, []
    for row in store.signals.values():
        one = row.signal
        nature = nature_of(place.MARK.get(one.device, ""), self_test=one.self_test)
        if row.nature is not nature:
            wrong.append(f"{row.nature}, but it is {nature}: {one}")
        if row.incident and store.incidents[row.incident].key != key_of(row):
            wrong.append(f"in an incident of {store.incidents[row.incident].key}: {one}")
    lab = {place.MARK[place.DEVICE[key]] for key in ("h-test", "h-canary")}
    return wrong + [
        f"a {page.row['nature']} page to {page.row['responder']}"
        for page in store.pages.values()
        if (page.row["nature"] in lab) != (page.row["responder"] == "lab")
    ]


def every_fire_is_paged(world: World) -> Wrong:
    """Each real device that said fire, or was hot in run after run, has an incident of its site and
    a page that somebody accepted; so has every real signal of a fire at alarm or urgent tier.
    """
    store, wrong = world.alert.store, []
    pages = [page for page in store.pages.values() if page.state is MessageState.ACCEPTED]
    paged = {page.row["incident"] for page in pages if page.row["id"] in world.responders.accepted}
    heard: set[tuple[str, str]] = set()
    for row in store.signals.values():
        one = row.signal
        if row.nature is Nature.REAL and one.kind is Kind.FIRE and one.tier is not Tier.EARLY:
            if row.incident in paged:
                heard.add((one.rule, one.subject.id))
            elif row.incident or one.phase != "clear":
                wrong.append(f"nobody was told: {row}")
    fires = [("heat_fixed", str(point)) for point in sorted(world.fleet.hot)]
    fires += [("direct", str(point)) for point in sorted(world.fleet.alarming)]
    return wrong + [f"a fire that nobody heard of: {fire}" for fire in fires if fire not in heard]


def all_is_drained(world: World) -> Wrong:
    """Faults stopped: within a bounded time nothing is under way, and no page is given up."""
    wrong = []
    if world.drained_us is None:
        wrong.append(f"not drained {DRAIN_S} s after the last fault")
    if len(world.bridge.acknowledged) != len(world.broker.published):
        lost = len(world.broker.published) - len(world.bridge.acknowledged)
        wrong.append(f"{lost} messages never acknowledged")
    return wrong + [
        f"page {page.row['id']} ended as {page.state}"
        for page in world.alert.store.pages.values()
        if page.state not in {MessageState.ACCEPTED, MessageState.CANCELLED}
    ]


def a_page_is_one_page(world: World) -> Wrong:
    """The same id comes with the same words; the same words never under two ids."""
    words: dict[str, str] = {}
    ids: dict[tuple[str, str], str] = {}
    wrong = []
    for got in world.responders.got:
        if words.setdefault(got.id, got.body) != got.body:
            wrong.append(f"page {got.id} with other words: {got.body}")
        told = got.responder, json.loads(got.body)["id"]
        if ids.setdefault(told, got.id) != got.id:
            wrong.append(f"{told} under the ids {ids[told]} and {got.id}")
    return wrong


def _is_news_to_a_person(one: Transition) -> bool:
    settled = one.before.get("state") == State.ACKNOWLEDGED or one.before.get("verdict") is not None
    return one.what is What.RENEWED and settled


def transitions_are_those_of_a_quiet_alert(world: World) -> Wrong:
    """An alert without faults that reads the same signals makes the same transitions.

    Compared by id, partition after partition: the signals of one site lie in one partition, so how
    partitions mix changes no id. What may differ: order and time between incidents, what is shown
    as late, and whatever came after a person closed one (the moment of closing decides), so keys
    with a closed incident are left out; and that a device which has risen is news (renewed) once a
    person has acknowledged or judged.
    """
    store, book = world.alert.store, Book()
    closed = {
        store.incidents[one.incident].key
        for one in store.transitions.values()
        if one.what is What.CLOSED
    }
    quiet: dict[str, Transition] = {}
    for record, one in _signals(world):
        nature = nature_of(place.MARK.get(one.device, ""), self_test=one.self_test)
        if (one.site, one.kind, nature) in closed:
            continue
        where = place_of(world.alert.view, one)
        for effect in book.hear(one, nature, record.timestamp_ms * 1000, where):
            if isinstance(effect, Transition):
                quiet[effect.id] = effect
    made = {
        one.id: one
        for one in store.transitions.values()
        if one.cause_kind is CauseKind.SIGNAL and store.incidents[one.incident].key not in closed
    }
    wrong = [f"never made: {quiet[name]}" for name in quiet if name not in made]
    more = [made[name] for name in made if name not in quiet]
    wrong += [f"made by no signal: {one}" for one in more if not _is_news_to_a_person(one)]
    changed = [n for n in made.keys() & quiet.keys() if made[n].what is not quiet[n].what]
    return wrong + [f"{made[name].what}, not {quiet[name].what}: {name}" for name in changed]


def the_exchange_has_all(world: World) -> Wrong:
    """Each real transition is in the incidents' topic, an incident's versions in rising order."""
    store, seen, wrong = world.alert.store, set(), []
    newest: dict[str, int] = {}
    for one in world.log.all(INCIDENTS):
        name = dict(one.headers)["ce_id"].decode()
        if name in seen:
            continue
        seen.add(name)
        made = store.transitions[name]
        if made.version <= newest.get(made.incident, 0):
            wrong.append(f"version {made.version} of {made.incident} came too late")
        newest[made.incident] = made.version
    real = {n for n, t in store.transitions.items() if _nature(world, t) is Nature.REAL}
    return wrong + [f"not in the exchange, or not real: {name}" for name in sorted(real ^ seen)]


def _nature(world: World, transition: Transition) -> Nature:
    return world.alert.store.incidents[transition.incident].key.nature


CHECKERS: tuple[Callable[[World], Wrong], ...] = (
    acknowledged_is_kept,
    unread_is_told,
    signals_are_the_offline_fold,
    one_reading_is_no_fire,
    the_tables_hold,
    natures_stay_apart,
    every_fire_is_paged,
    all_is_drained,
    a_page_is_one_page,
    transitions_are_those_of_a_quiet_alert,
    the_exchange_has_all,
)


@dataclass(frozen=True)
class Verdict:
    """What the checkers say about one run."""

    seed: int
    wrong: dict[str, Wrong]
    notes: tuple[str, ...]

    def __str__(self) -> str:
        lines = [f"seed {self.seed}: {', '.join(self.wrong) or 'good'}"]
        for name, faults in self.wrong.items():
            lines += [f"  {name}: {len(faults)}", *(f"    {fault[:600]}" for fault in faults[:5])]
        lines += ["  what happened last:", *(f"    {note}" for note in self.notes[-30:])]
        again = ".venv/bin/python -m pytest tests/simulation/test_simulation.py"
        lines += ["again with:", f"  SIZAO_SEED={self.seed} {again}"]
        return "\n".join(lines)


def judge(world: World) -> Verdict:
    found = {check.__name__: check(world) for check in CHECKERS}
    wrong = {name: faults for name, faults in found.items() if faults}
    return Verdict(world.seed, wrong, tuple(world.work.notes))
