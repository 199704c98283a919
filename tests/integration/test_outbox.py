"""Claims, repeats and the exchange's records against a real PostgreSQL."""

from __future__ import annotations

import pytest
from fix_alerting import compose, get_database, items, make_signal, view

from alerting import compose as composing
from alerting import fold, outbox, store
from alerting.compose import Composer
from alerting.incident import incident_id
from alerting.ledger import Answer, MessageState, Outcome
from alerting.model import Action, What
from alerting.responders import EMPTY
from sizao.db import connected, migrate, translated
from sizao.errors import Refused, Retriable
from sizao.signal import Tier

pytestmark = pytest.mark.slow
T0 = 1_760_000_000_000_000
S = 1_000_000
FIRE = [
    make_signal(1, tier=Tier.EARLY),
    make_signal(1, at=T0 + S),
    make_signal(2, at=T0 + 2 * S),
]
ACCEPTED = Answer(outcome=Outcome.ACCEPTED, status=204)
DOWN = Answer(outcome=Outcome.SERVER_ERROR, status=500)


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


def action(version, what=What.ACKNOWLEDGED, name="press"):
    return Action(id=name, actor="duty", what=what, expected_version=version)


async def claimed(connection, now=T0, holder="a0", limit=10):
    return await outbox.claim(connection, holder, now_us=now, lease_us=15 * S, limit=limit)


async def stored(connection, *found, names=("station",)):
    await store.take(connection, {}, items(*found), T0, compose(*names))


async def test_early_pages_go_one_at_a_time_in_the_order_of_their_making(connection):
    # Of a rule whose early words together make no alarm (alerting/corroborate.py).
    each = (make_signal(n, tier=Tier.EARLY, rule="heat_zone") for n in (1, 2, 3))
    await stored(connection, *each, names="ab")
    cursor = await connection.execute("SELECT responder, id FROM message ORDER BY responder, seq")
    made = await cursor.fetchall()
    first, seen = await claimed(connection), []
    assert sorted(one.responder for one in first) == ["a", "b"]
    assert await claimed(connection, holder="a1") == []
    while first:
        for one in first:
            seen.append((one.responder, one.id))
            following = await outbox.record(connection, one, "a0", ACCEPTED, T0)
            assert following.state is MessageState.ACCEPTED
        first = await claimed(connection)
    assert sorted(seen, key=lambda one: one[0]) == made


async def test_the_first_page_of_a_fire_waits_for_no_other(connection):
    """Five urgent pages to a receiver that hangs kept the sixth fire waiting for 150 s."""
    await stored(connection, *(make_signal(n, tier=Tier.URGENT, site=n) for n in range(1, 6)))
    hanging = await claimed(connection)
    assert len(hanging) == 5
    await stored(connection, make_signal(6, site=6))
    (sixth,) = await claimed(connection)
    assert (sixth.attempt, sixth.id not in {one.id for one in hanging}) == (1, True)


async def test_repeats_go_one_at_a_time_and_never_before_a_first_page(connection):
    await stored(connection, *(make_signal(n, tier=Tier.URGENT, site=n) for n in range(1, 6)))
    for one in await claimed(connection):
        await outbox.record(connection, one, "a0", DOWN, T0)
    await stored(connection, make_signal(6, site=6))
    first, repeat = await claimed(connection, now=T0 + 2 * S)
    assert (first.attempt, repeat.attempt) == (1, 2)
    assert await claimed(connection, now=T0 + 2 * S) == []


async def test_receivers_that_hang_leave_the_others_their_places(connection):
    await stored(connection, *(make_signal(n, site=n) for n in range(1, 21)), names="a")
    assert {one.responder for one in await claimed(connection, limit=4)} == {"a"}
    await stored(connection, make_signal(21, site=21), names="b")
    (first, *_) = sorted(await claimed(connection, limit=1), key=lambda one: one.responder)
    assert first.responder == "b"


async def test_a_repeat_goes_beside_first_pages_that_hang(connection):
    await stored(connection, make_signal(1, site=1))
    (failed,) = await claimed(connection)
    await outbox.record(connection, failed, "a0", DOWN, T0)
    await stored(connection, make_signal(2, site=2))
    assert [one.attempt for one in await claimed(connection)] == [1]
    (again,) = await claimed(connection, now=T0 + 2 * S)
    assert (again.id, again.attempt) == (failed.id, 2)


async def test_a_storm_of_first_pages_has_a_bound_for_one_receiver(connection):
    fires = [make_signal(n, site=n) for n in range(1, outbox.LANE_MAX + 5)]
    await stored(connection, *fires)
    first = await claimed(connection, limit=1000)
    assert len(first) == outbox.LANE_MAX
    assert await claimed(connection, limit=1000) == []
    await outbox.record(connection, first[0], "a0", ACCEPTED, T0)
    assert len(await claimed(connection, limit=1000)) == 1


async def test_a_test_page_holds_up_no_fire_and_is_never_sent_again(connection):
    await stored(connection, make_signal(1))
    cursor = await connection.execute("SELECT to_jsonb(m) - 'seq' FROM message m")
    ((row,),) = await cursor.fetchall()
    test = {**row, "id": "0" * 32, "nature": "test", "transition": None, "incident": None}
    once = await outbox.begin_once(connection, test, T0)
    (fire,) = await claimed(connection)
    assert fire.id == row["id"]
    assert await claimed(connection, now=T0 + 3600 * S) != [once]
    await outbox.end_once(connection, once, ACCEPTED, T0)
    cursor = await connection.execute("SELECT state FROM message WHERE nature = 'test'")
    assert await cursor.fetchall() == [("accepted",)]


async def test_a_transition_is_told_to_a_bounded_number(connection, monkeypatch):
    monkeypatch.setattr(composing, "RECIPIENTS_MAX", 3)
    people = [f"p{n}" for n in range(5)]
    taken = await store.take(connection, {}, items(make_signal(1)), T0, compose(*people))
    assert (taken.taken.followed.messages, taken.taken.followed.left_out) == (3, 2)


async def test_more_pages_than_a_batch_may_make_are_refused_as_one(connection, monkeypatch):
    monkeypatch.setattr(fold, "MESSAGES_MAX", 1)
    with pytest.raises(Refused, match="pages in one batch"):
        await store.take(connection, {}, items(*FIRE), T0, compose())
    cursor = await connection.execute("SELECT count(*) FROM signal")
    assert await cursor.fetchone() == (0,)


async def test_a_fire_that_nobody_can_be_told_of_is_counted(connection):
    nobody = Composer(view=view, directory=lambda: EMPTY, renderers={}, utc_offset_min=480)
    fires = items(make_signal(1, tier=Tier.EARLY), make_signal(1, at=T0 + 1))
    taken = await store.take(connection, {}, fires, T0, nobody)
    assert taken.taken.followed.unrouted == 1


async def test_a_row_beyond_the_server_s_limits_is_refused_not_repeated(connection):
    with pytest.raises(Refused), translated():
        await connection.execute("SELECT repeat('a', 1 << 30)")


async def test_a_failing_page_holds_up_no_other(connection):
    await store.take(connection, {}, items(FIRE[0]), T0, compose())
    (one,) = await claimed(connection)
    assert (await outbox.record(connection, one, "a0", DOWN, T0)).at_us == T0 + S
    await store.take(connection, {}, items(FIRE[1]), T0, compose())
    (other,) = await claimed(connection)
    assert other.id != one.id


async def test_a_lapsed_claim_is_taken_over_and_its_attempt_is_unknown(connection):
    await store.take(connection, {}, items(FIRE[0]), T0, compose())
    (lost,) = await claimed(connection)
    assert await claimed(connection, now=T0 + 14 * S, holder="a1") == []
    (taken,) = await claimed(connection, now=T0 + 15 * S, holder="a1")
    assert (taken.id, taken.attempt) == (lost.id, 2)
    await outbox.record(connection, lost, "a0", ACCEPTED, T0 + 16 * S)
    cursor = await connection.execute("SELECT state, lease_holder FROM message")
    assert await cursor.fetchall() == [("due", "a1")]
    await outbox.record(connection, taken, "a1", ACCEPTED, T0 + 17 * S)
    cursor = await connection.execute("SELECT attempt, outcome FROM message_attempt ORDER BY 1")
    assert await cursor.fetchall() == [(1, "accepted"), (2, "accepted")]


async def test_closing_stops_the_pages(connection):
    await store.take(connection, {}, items(FIRE[0]), T0, compose("a", "b"))
    one, _ = await claimed(connection)
    wanted = incident_id(FIRE[0].id)
    await store.act(connection, wanted, action(1), T0, compose())
    verdict = Action(id="v", actor="duty", what=What.VERDICT, expected_version=2, verdict="fire")
    await store.act(connection, wanted, verdict, T0, compose())
    await store.act(connection, wanted, action(3, What.CLOSED, "c"), T0, compose())
    following = await outbox.record(connection, one, "a0", DOWN, T0)
    assert following.state is MessageState.CANCELLED


async def test_the_outbox_keeps_order_and_forgets_nothing_that_was_not_taken(connection):
    await store.take(connection, {}, items(*FIRE), T0, compose())
    seen = []

    async def fails(records):
        seen.extend(records)
        raise Retriable("away")

    async def works(records):
        seen.extend(records)

    with pytest.raises(Retriable):
        await outbox.drain(connection, fails)
    assert await outbox.drain(connection, works) == 3
    assert await outbox.drain(connection, works) == 0
    assert [one.what for one in seen] == ["opened", "raised", "raised"] * 2
    assert await outbox.depth(connection, T0 + S) == (0, 3, 1.0)
