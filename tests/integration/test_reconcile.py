"""The ledger merged into a real PostgreSQL: as if that had never been away."""

from __future__ import annotations

import contextlib
import random
from functools import partial

import pytest
from fix_alerting import T0, compose, get_database, items, make_signal

from alerting import mirror, outbox, reconcile, store
from alerting.disk_ledger import DiskLedger
from alerting.fold import Move
from alerting.incident import incident_id
from alerting.ledger import Answer, Outcome
from alerting.model import Action, Verdict, What
from sizao import db
from sizao.db import connected, migrate
from sizao.errors import Retriable
from sizao.signal import Kind, Phase, Tier

pytestmark = pytest.mark.slow
S = 1_000_000
WORDS = compose()
LANE = ("sizao.signals.v1", 0)
ACCEPTED = Answer(outcome=Outcome.ACCEPTED, status=204)
DOWN = Answer(outcome=Outcome.UNREACHABLE)
TABLES = {
    "incident": "to_jsonb(t)",
    "incident_device": "to_jsonb(t)",
    "signal": "to_jsonb(t)",
    "transition": "to_jsonb(t)",
    "silence": "to_jsonb(t)",
    "outbox": "to_jsonb(t) - 'seq'",
    "message": "jsonb_build_array(id, transition, incident, responder, channel, body, urgency)",
}


@pytest.fixture
async def database(servers, postgres_db, tmp_path):
    found = get_database(servers, postgres_db, tmp_path)
    async with connected(found, "test") as connection:
        await migrate(connection)
    return found


@pytest.fixture
async def connection(database):
    async with connected(database, "test") as found:
        yield found


@pytest.fixture
def ledger(tmp_path):
    with contextlib.closing(DiskLedger(tmp_path / "ledger.sqlite", 16)) as found:
        yield found


async def dump(connection):
    found = {}
    for table, shape in TABLES.items():
        cursor = await connection.execute(f"SELECT {shape} FROM {table} t ORDER BY 1".encode())
        found[table] = [row[0] for row in await cursor.fetchall()]
    found["offsets"] = await store.offsets(connection)
    return found


async def empty(connection):
    for table in ("message_attempt", *reversed(TABLES), "alert_offset"):
        await connection.execute(f"DELETE FROM {table}".encode())


def stream(rng, count=40):
    """Seconds of a district: onsets, refreshes, clears, repeats, of two kinds and three sites."""
    found, onsets = [], []
    for number in range(count):
        at = T0 + number * 20 * S
        device, site = rng.randint(1, 5), rng.randint(1, 3)
        kind = rng.choice([Kind.FIRE, Kind.FIRE, Kind.FIRE, Kind.GAS, Kind.OFFLINE, Kind.WATER])
        if onsets and rng.random() < 0.4:
            one = rng.choice(onsets)
            phase = rng.choice([Phase.REFRESH, Phase.CLEAR])
            found.append(make_signal(
                one.device, at=at, onset=one.onset_us, tier=one.tier, phase=phase, kind=one.kind,
                site=one.site, subject=one.subject.id,
            ))  # fmt: skip
        else:
            # A point belongs to one device, site and quantity for life: so do the ids made of it.
            name = f"{device}.{site}.{kind}"
            tier = rng.choice(list(Tier))
            found.append(make_signal(
                device, at=at, tier=tier, kind=kind, site=site, subject=name
            ))  # fmt: skip
            onsets.append(found[-1])
        if rng.random() < 0.1:
            found.append(rng.choice(found))
    return found


def cut(rng, found):
    """In batches, each with its move."""
    batches, at = [], 0
    while at < len(found):
        size = rng.randint(1, 8)
        move = Move(expected=at or None, next_offset=min(at + size, len(found)), arrived_ms=5)
        batches.append(({LANE: move}, items(*found[at : at + size])))
        at += size
    return batches


async def look(connection, ledger, *, whole=True):
    seen = await mirror.look(connection, ledger.known(), T0, whole=whole)
    ledger.renew(seen)


async def merge(connection, ledger, holder="a0", step=lambda: None):
    """As `Keeper` does; `step` is called between any two steps."""
    while (what := reconcile.told(ledger.ask)).signals:
        step()
        assert await reconcile.merge(connection, what, WORDS, holder, T0) == []
        step()
        ledger.merged([row["id"] for row in what.signals])
        step()
    await reconcile.hand_over(
        connection,
        delivery=ledger.ask(reconcile.DELIVERY),
        attempts=ledger.ask(reconcile.ATTEMPTS),
        offsets=ledger.offsets(),
        holder=holder,
        now_us=T0,
    )
    step()
    ledger.handed_over()
    step()
    await look(connection, ledger)


def now(moves):
    return T0 + moves[LANE].next_offset * 20 * S


@pytest.mark.parametrize("seed", range(6))
async def test_an_absence_anywhere_leaves_the_rows_that_there_would_have_been(
    connection, ledger, seed
):
    rng = random.Random(seed)
    batches = cut(rng, stream(rng))
    for moves, some in batches:
        await store.take(connection, moves, some, now(moves), WORDS)
    expected = await dump(connection)
    await empty(connection)
    away = False
    await look(connection, ledger)
    for moves, some in batches:
        if rng.random() < 0.3:
            away = not away
            if not away:
                await merge(connection, ledger)
        if away:
            ledger.take(moves, some, now(moves), WORDS)
        else:
            changes = await store.take(connection, moves, some, now(moves), WORDS)
            ledger.mirror(changes)
    await merge(connection, ledger)
    assert await dump(connection) == expected
    assert ledger.waiting() == 0
    assert ledger.offsets() == expected["offsets"]


class Cut:
    """A connection that is gone before its n-th statement."""

    def __init__(self, connection, left):
        self._connection, self._left = connection, left

    def __getattr__(self, name):
        return getattr(self._connection, name)

    async def execute(self, *arguments):
        self.count()
        return await self._connection.execute(*arguments)

    def count(self):
        if not self._left:
            self._connection.pgconn.finish()
            raise Retriable("cut")
        self._left -= 1


async def test_a_kill_at_any_step_of_the_merge_leaves_it_to_be_done_again(
    database, connection, tmp_path
):
    """Before each statement, and between any two steps; pages that were sent stay sent."""
    one, two, three = make_signal(1), make_signal(2, at=T0 + S), make_signal(3, at=T0 + 2 * S)
    cuts, pages, expected = 0, None, None
    while True:
        await empty(connection)
        path = tmp_path / f"cut{cuts}.sqlite"
        with contextlib.closing(DiskLedger(path, 16)) as ledger:
            changes = await store.take(connection, {}, items(one), T0, WORDS)
            await look(connection, ledger)
            assert len(changes.taken.transitions) == 1
            ledger.take({LANE: Move(expected=None, next_offset=3, arrived_ms=1)},
                        items(two), T0 + S, WORDS)  # fmt: skip
            ledger.take({}, items(three), T0 + 2 * S, WORDS)
            claims = ledger.claim("a0", now_us=T0 + 3 * S, lease_us=15 * S, limit=9)
            assert len(claims) == 3
            ledger.record(claims[0], ACCEPTED, T0 + 3 * S)
            ledger.record(claims[1], DOWN, T0 + 3 * S)
            whole = False
            with contextlib.suppress(Retriable):
                async with connected(database, "cut") as victim:
                    cutting = Cut(victim, cuts)
                    await merge(cutting, ledger, step=cutting.count)
                    whole = True
        with contextlib.closing(DiskLedger(path, 16)) as ledger:
            await merge(connection, ledger)
            cursor = await connection.execute(
                "SELECT m.id, m.state, m.attempts, m.lease_holder, a.outcome FROM message m"
                " JOIN message_attempt a ON a.message = m.id"
            )
            pages = {row[0]: row[1:] for row in await cursor.fetchall()}
            rows = await dump(connection)
            expected = expected or rows
            assert rows == expected, f"cut before step {cuts}"
            assert pages == {
                claims[0].id: ("accepted", 1, None, "accepted"),
                claims[1].id: ("due", 1, None, "unreachable"),
                claims[2].id: ("due", 1, "a0", None),
            }, f"cut before step {cuts}"
            assert ledger.ask("SELECT 1 FROM message WHERE own OR touched") == []
        if whole:
            break
        cuts += 1
    assert cuts > 20
    assert len(rows["incident"]) == 1


async def test_a_person_s_last_action_that_the_mirror_missed_shifts_versions_and_pages_once(
    connection, ledger
):
    """Acknowledged within the two seconds between looks; then a second device, in the absence."""
    one, two = make_signal(1), make_signal(2, at=T0 + S)
    await store.take(connection, {}, items(one), T0, WORDS)
    await look(connection, ledger)
    wanted = incident_id(one.id)
    press = Action(id="press", actor="duty", what=What.ACKNOWLEDGED, expected_version=1)
    await store.act(connection, wanted, press, T0, WORDS)
    ledger.take({}, items(two), T0 + S, WORDS)
    (opened, joined) = ledger.claim("a0", now_us=T0 + S, lease_us=S, limit=9)
    ledger.record(opened, ACCEPTED, T0 + S)
    ledger.record(joined, ACCEPTED, T0 + S)
    await merge(connection, ledger)
    cursor = await connection.execute("SELECT version, what FROM transition ORDER BY version")
    assert await cursor.fetchall() == [(1, "opened"), (2, "acknowledged"), (3, "raised")]
    cursor = await connection.execute("SELECT state, count(*) FROM message GROUP BY state")
    assert await cursor.fetchall() == [("accepted", 2)]
    cursor = await connection.execute("SELECT detail FROM message_attempt")
    assert await cursor.fetchall() == [("dedup=unknown",), ("dedup=unknown",)]


async def test_a_closed_incident_that_the_mirror_took_for_open_becomes_a_new_one_that_pages(
    connection, ledger
):
    one = make_signal(1)
    await store.take(connection, {}, items(one), T0, WORDS)
    (claim,) = await outbox.claim(connection, "a0", now_us=T0, lease_us=S, limit=9)
    await outbox.record(connection, claim, "a0", ACCEPTED, T0)
    await look(connection, ledger)
    for version, what in enumerate([What.ACKNOWLEDGED, What.VERDICT, What.CLOSED], 1):
        verdict = Verdict.FIRE if what is What.VERDICT else None
        press = Action(id=what, actor="duty", what=what, expected_version=version, verdict=verdict)
        await store.act(connection, incident_id(one.id), press, T0 + version, WORDS)
    again = make_signal(1, at=T0 + 60 * S)
    ledger.take({}, items(again), T0 + 60 * S, WORDS)
    assert ledger.claim("a0", now_us=T0 + 60 * S, lease_us=S, limit=9) == [], "silent: it is open"
    await merge(connection, ledger)
    (claim,) = await outbox.claim(connection, "a0", now_us=T0 + 70 * S, lease_us=S, limit=9)
    cursor = await connection.execute("SELECT count(*) FROM incident WHERE closed_us IS NULL")
    assert await cursor.fetchone() == (1,)


async def test_an_incident_that_another_alert_opened_takes_ours_in(connection, ledger):
    """Two alerts without PostgreSQL, or a mirror that is behind: one open incident comes of it."""
    theirs, ours = make_signal(1), make_signal(2, at=T0 + S)
    await look(connection, ledger)
    ledger.take({}, items(ours), T0 + S, WORDS)
    (claim,) = ledger.claim("a0", now_us=T0 + S, lease_us=S, limit=9)
    ledger.record(claim, ACCEPTED, T0 + S)
    await store.take(connection, {}, items(theirs), T0, WORDS)
    await merge(connection, ledger)
    rows = await dump(connection)
    assert [row["members"] for row in rows["incident"]] == [2]
    cursor = await connection.execute(
        "SELECT m.state, t.what FROM message m JOIN transition t ON t.id = m.transition"
        " ORDER BY t.version"
    )
    assert await cursor.fetchall() == [("due", "opened"), ("accepted", "raised")]


async def test_two_alerts_that_decided_the_same_send_it_under_one_id(connection, tmp_path):
    found = make_signal(1)
    names = set()
    with contextlib.ExitStack() as opened:
        both = [
            opened.enter_context(contextlib.closing(DiskLedger(tmp_path / name, 16)))
            for name in ("a0", "a1")
        ]
        for holder, ledger in zip(("a0", "a1"), both, strict=True):
            await look(connection, ledger)
            ledger.take({}, items(found), T0, WORDS)
            (claim,) = ledger.claim(holder, now_us=T0, lease_us=S, limit=9)
            ledger.record(claim, ACCEPTED if holder == "a1" else DOWN, T0)
            names.add(claim.id)
        for holder, ledger in zip(("a0", "a1"), both, strict=True):
            await merge(connection, ledger, holder)
    assert len(names) == 1
    cursor = await connection.execute("SELECT state, lease_holder FROM message")
    assert await cursor.fetchall() == [("accepted", None)]


async def test_offsets_go_forward_in_time_and_back_with_a_log_that_came_back_shorter(connection):
    there = {0: (500, 10), 1: (500, 10), 2: (500, 10), 3: (500, 10)}
    ours = {0: (21, 20), 1: (21, 9), 2: (501, 10), 3: (499, 10)}

    async def hand_over(found):
        places = {(LANE[0], number): place for number, place in found.items()}
        await reconcile.hand_over(
            connection, delivery=[], attempts=[], offsets=places, holder="a0", now_us=T0
        )

    await hand_over(there)
    await hand_over(ours)
    found = {pair[1]: place for pair, place in (await store.offsets(connection)).items()}
    assert found == {0: (21, 20), 1: (500, 10), 2: (501, 10), 3: (500, 10)}


async def test_a_look_brings_what_others_did_and_only_that(connection, ledger):
    fires = [make_signal(n, site=n) for n in range(1, 6)]
    await store.take(connection, {}, items(*fires), T0, WORDS)
    await look(connection, ledger)
    press = Action(id="p", actor="duty", what=What.ACKNOWLEDGED, expected_version=1)
    await store.act(connection, incident_id(fires[0].id), press, T0, WORDS)
    seen = await mirror.look(connection, ledger.known(), T0, whole=False)
    assert [[row["id"] for row in w.rows] for w in seen.writes if w.table == "incident"] == [
        [incident_id(fires[0].id)]
    ]
    ledger.renew(seen)
    state = partial(ledger.ask, "SELECT state FROM incident WHERE id = ?")
    assert state([incident_id(fires[0].id)]) == [{"state": "acknowledged"}]


async def test_a_server_that_leaves_a_statement_without_an_answer_is_cut(database):
    began = db.asyncio.get_running_loop().time()
    async with connected(database, "test", answer_s=0.3) as connection:
        with pytest.raises(Retriable), db.translated():
            await connection.execute("SELECT pg_sleep(5)")
    assert db.asyncio.get_running_loop().time() - began < 2
