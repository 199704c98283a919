"""The store against a real PostgreSQL: cut at any statement, told twice, raced."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace

import psycopg
import pytest
from fix_alerting import BODY, compose, get_database, items, make_signal

from alerting import store
from alerting.disk_ledger import DiskLedger
from alerting.disk_rows import look_up
from alerting.fold import Item, Move, OffsetMoved, wanted
from alerting.incident import incident_id
from alerting.model import Action, Conflict, Nature, Place, What
from sizao import db
from sizao.db import connected, migrate, translated
from sizao.errors import Refused, Retriable
from sizao.signal import Kind, Phase, Tier

pytestmark = pytest.mark.slow
T0 = 1_760_000_000_000_000
S = 1_000_000
LANE = ("sizao.signals.v1", 0)


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


def move(expected, following):
    return {LANE: Move(expected=expected, next_offset=following, arrived_ms=T0 // 1000)}


STREAM = [
    make_signal(1, tier=Tier.EARLY),
    make_signal(1, at=T0 + S),
    make_signal(2, at=T0 + 2 * S),
    make_signal(1, at=T0 + 60 * S, onset=T0 + S, phase=Phase.REFRESH),
    make_signal(2, at=T0 + 90 * S, onset=T0 + 2 * S, phase=Phase.CLEAR),
    make_signal(1, at=T0 + 91 * S, kind=Kind.OFFLINE),
    make_signal(3, at=T0 + 92 * S, kind=Kind.GAS),
]
TABLES = ["incident", "incident_device", "signal", "transition", "silence", "message", "outbox"]


async def dump(connection):
    """Everything but times of storing and sequence numbers."""
    found = {}
    for table in TABLES:
        cursor = await connection.execute(
            f"SELECT to_jsonb(t) - 'seq' FROM {table} t ORDER BY 1".encode()
        )
        found[table] = [row[0] for row in await cursor.fetchall()]
    return found


async def test_a_stream_becomes_rows(connection):
    taken = await store.take(connection, move(None, 7), items(*STREAM), T0, compose())
    assert [str(one.became) for one in taken.taken.recorded] == [
        "opened", "raised", "raised", "same", "cleared", "slow", "opened",
    ]  # fmt: skip
    rows = await dump(connection)
    fire = next(row for row in rows["incident"] if row["kind"] == "fire")
    assert (fire["id"], fire["tier"], fire["members"]) == (incident_id(STREAM[0].id), "urgent", 2)
    assert fire["version"] == 3
    assert len(rows["message"]) == len(rows["outbox"]) == len(rows["transition"]) == 4
    assert {row["body"] for row in rows["message"]} == {BODY}
    cleared = {row["member"]: row["cleared_us"] for row in rows["incident_device"]}
    assert cleared["device:2"] == T0 + 90 * S
    assert await store.offsets(connection) == {LANE: (7, T0 // 1000)}


@pytest.mark.parametrize("size", [1, 2, 3, 7])
async def test_redelivery_of_any_prefix_changes_nothing(connection, size):
    at = None
    for start in range(0, len(STREAM), size):
        batch = items(*STREAM[start : start + size])
        await store.take(connection, move(at, start + size), batch, T0, compose())
        at = start + size
        before = await dump(connection)
        again = items(*STREAM[: start + size])
        taken = await store.take(connection, {}, again, T0 + S, compose())
        assert taken.taken.recorded == ()
        assert await dump(connection) == before
    whole = await dump(connection)
    assert sorted(row["id"] for row in whole["incident"]) == sorted(
        [incident_id(STREAM[0].id), incident_id(STREAM[6].id)]
    )


class Cut:
    """A connection that is killed before its n-th statement of a transaction."""

    def __init__(self, connection, statements):
        self._connection, self._left = connection, statements

    def __getattr__(self, name):
        return getattr(self._connection, name)

    async def execute(self, *arguments):
        if not self._left:
            self._connection.pgconn.finish()
        self._left -= 1
        return await self._connection.execute(*arguments)


async def test_a_crash_between_any_two_steps_leaves_nothing_and_the_next_life_everything(database):
    async with connected(database, "test") as connection:
        cut = 0
        while True:
            try:
                async with connected(database, "cut") as victim:
                    await store.take(Cut(victim, cut), move(None, 7), items(*STREAM), T0, compose())
                break
            except Retriable:
                assert not any((await dump(connection)).values()), f"cut before statement {cut}"
                assert await store.offsets(connection) == {}
            cut += 1
        assert cut > 8
        assert len((await dump(connection))["transition"]) == 4


async def test_two_alerts_racing_store_each_record_once(database):
    async def race(name):
        done = 0
        async with connected(database, name) as connection:
            for number, one in enumerate(STREAM):
                try:
                    await store.take(
                        connection, move(number or None, number + 1), items(one), T0, compose()
                    )
                    done += 1
                except OffsetMoved:
                    pass
        return done

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(race(name)) for name in ("a", "b")]
    assert sum(task.result() for task in tasks) >= len(STREAM)
    async with connected(database, "test") as connection:
        rows = await dump(connection)
        assert len(rows["signal"]) == len(STREAM)
        assert len(rows["transition"]) == 4
        assert (await store.offsets(connection))[LANE][0] == len(STREAM)


async def test_offsets_that_moved_store_nothing(connection):
    await store.take(connection, move(None, 5), [], T0, compose())
    for expected in (None, 4, 6):
        with pytest.raises(OffsetMoved):
            await store.take(connection, move(expected, 9), items(STREAM[0]), T0, compose())
    assert not (await dump(connection))["signal"]


async def test_the_database_itself_refuses_a_second_open_incident(connection):
    await store.take(connection, {}, items(STREAM[0]), T0, compose())
    with pytest.raises(psycopg.errors.UniqueViolation):
        await connection.execute(
            "INSERT INTO incident SELECT (jsonb_populate_record(i, %s)).* FROM incident i",
            ('{"id": "' + "0" * 32 + '"}',),
        )


async def test_what_the_database_cannot_hold_is_refused(connection):
    with pytest.raises(Refused):
        await store.take(connection, {}, items(make_signal(1 << 40)), T0, compose())


def action(version, what=What.ACKNOWLEDGED, name="press"):
    return Action(id=name, actor="duty", what=what, expected_version=version)


async def test_two_people_at_once_one_wins(database):
    async with connected(database, "test") as connection:
        await store.take(connection, {}, items(STREAM[0]), T0, compose())
    wanted = incident_id(STREAM[0].id)

    async def press(name):
        async with connected(database, name) as connection:
            try:
                await store.act(connection, wanted, action(1, name=name), T0, compose())
            except Conflict as error:
                return error.now.version
        return 0

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(press(name)) for name in ("a", "b")]
    assert sorted(task.result() for task in tasks) == [0, 2]


async def test_whoever_stands_still_inside_a_transaction_loses_its_locks(database, monkeypatch):
    """A console frozen between two statements would hold up the pages of the whole district."""
    monkeypatch.setattr(db, "_IDLE_MS", 200)
    async with db.pool(database, "test") as pool, connected(database, "test") as other:
        await store.take(other, {}, items(STREAM[0]), T0, compose())

        async def freeze():
            with translated():
                async with pool.connection() as frozen, frozen.transaction():
                    await frozen.execute("SELECT 1 FROM incident FOR UPDATE")
                    await store.take(other, {}, items(STREAM[2]), T0, compose())
                    await frozen.execute("SELECT 1")

        with pytest.raises(Retriable, match="idle"):
            await freeze()


def at_home(device=1, **more):
    return Place(floor=device, carrier="gw", carrier_site=4, roster=6, **more)


def fault(device, at, site, quantity="fault_state"):
    said = {"quantity": quantity}
    return make_signal(
        device,
        at=at,
        kind=Kind.FAULT,
        tier=Tier.EARLY,
        rule="condition",
        evidence=said,
        site=site,
    )


JOINED = [
    (make_signal(1, tier=Tier.EARLY), at_home(1), "opened"),
    (make_signal(3, at=T0 + S, tier=Tier.EARLY), at_home(3), "joined"),
    (make_signal(2, at=T0 + 2 * S, tier=Tier.EARLY), at_home(2), "raised"),  # over 1, under 3
    (make_signal(9, at=T0 + 3 * S, kind=Kind.WATER), at_home(9), "raised"),
    (fault(5, T0 + 4 * S, 2, "battery_state"), at_home(5), "slow"),
    (fault(6, T0 + 5 * S, 3), at_home(6), "slow"),
    (make_signal(5, at=T0 + S, tier=Tier.EARLY, site=2), at_home(5), "opened"),
    (make_signal(6, at=T0 + S, tier=Tier.EARLY, site=3), at_home(6), "opened"),  # at alarm tier
    *((make_signal(n, at=T0 + 9 * S, kind=Kind.OFFLINE, tier=Tier.EARLY), at_home(n), became)
      for n, became in ((11, "slow"), (12, "slow"), (13, "under_carrier"), (14, "under_carrier"))),
]  # fmt: skip


@pytest.mark.parametrize("size", [1, 3, len(JOINED)])
async def test_what_is_joined_is_found_again_whatever_the_batch(connection, size):
    one_by_one = [
        Item(signal=signal, nature=Nature.REAL, arrived_us=T0, place=place)
        for signal, place, _ in JOINED
    ]
    became, tiers = {}, {}
    for start in range(0, len(JOINED), size):
        batch = one_by_one[start : start + size]
        taken = await store.take(connection, {}, batch, T0 + 60 * S, compose())
        became |= {one.signal.id: str(one.became) for one in taken.taken.recorded}
    assert [became.pop(signal.id) for signal, _, _ in JOINED] == [row[2] for row in JOINED]
    assert list(became.values()) == ["joined"]  # the gateway, at home in the fire
    cursor = await connection.execute("SELECT site, tier FROM incident ORDER BY site")
    tiers = dict(await cursor.fetchall())
    assert tiers == {2: "early", 3: "alarm", 4: "urgent"}
    cursor = await connection.execute(
        "SELECT subject, carrier, device, ended_us FROM silence ORDER BY device, subject"
    )
    rows = [("carrier:gw", "gw", 0, None), *((f"device:{n}", "gw", n, None) for n in range(11, 15))]
    assert await cursor.fetchall() == rows
    back = [
        make_signal(n, at=T0 + 99 * S, onset=T0 + 9 * S, kind=Kind.OFFLINE, tier=Tier.EARLY,
                    phase=Phase.CLEAR)
        for n in (11, 12, 13)
    ]  # fmt: skip
    for signal in back:
        one = Item(signal=signal, nature=Nature.REAL, arrived_us=T0, place=at_home())
        await store.take(connection, {}, [one], T0 + 99 * S, compose())
    cursor = await connection.execute("SELECT subject FROM silence WHERE ended_us IS NULL")
    assert await cursor.fetchall() == [("device:14",)]


@pytest.mark.parametrize("kept", ["database", "ledger"])
async def test_a_gateway_of_a_fire_that_comes_back_is_no_longer_silent_there(
    connection, tmp_path, kept
):
    """Whose fire it was had been asked of what was in the batch alone, and it is made there."""
    lost = [(n, T0 + n * S, Phase.RAISE, T0 + 9 * S) for n in range(11, 15)]
    back = [(n, since, Phase.CLEAR, T0 + 99 * S) for n, since, _, _ in lost]
    steps = [*lost[:2], back[0], *lost[2:], *back[1:]]
    fire = Item(signal=make_signal(1), nature=Nature.REAL, arrived_us=T0, place=at_home(1))
    found = []
    with contextlib.closing(DiskLedger(tmp_path / "ledger", 16)) as ledger:
        batches = [[fire]]
        for n, onset, phase, at in steps:
            one = make_signal(n, at=at, onset=onset, phase=phase, kind=Kind.OFFLINE)
            batches.append([replace(fire, signal=one, place=at_home(n))])
        for batch in batches:
            if kept == "ledger":
                changes = ledger.take({}, batch, T0 + 100 * S, compose())
            else:
                changes = await store.take(connection, {}, batch, T0 + 100 * S, compose())
            found += [one for one in changes.taken.recorded if not one.signal.device]
    assert [(one.signal.onset_us, str(one.became)) for one in found] == [
        (lost[1][1], "joined"),
        (lost[1][1], "cleared"),
    ]


async def test_a_late_fire_of_a_batch_does_not_bring_two_days_of_water(connection, tmp_path):
    water = [make_signal(9, at=T0 + n * 900 * S, kind=Kind.WATER) for n in range(192)]
    late, fresh = make_signal(1, at=T0 + 400 * S), make_signal(2, at=water[-1].event_us, site=5)
    about = wanted(items(late, fresh))
    with contextlib.closing(DiskLedger(tmp_path / "ledger", 16)) as ledger:
        ledger.take({}, items(*water), T0, compose())
        await store.take(connection, {}, items(*water), T0, compose())
        both = [await store._look_up(connection, about), look_up(ledger._connection, about)]
    assert [len(found.beside) for found in both] == [1, 1]
    assert {one.at_us for found in both for _, one in found.beside} <= {T0, T0 + 900 * S}


@pytest.mark.parametrize("first", ["fire", "loss"])
async def test_a_fire_and_a_loss_of_two_topics_at_once_are_joined(database, first):
    """Neither had seen the other, since neither was committed: an early fire whose sensor burnt
    stayed early.
    """
    both = [(make_signal(6, at=T0, tier=Tier.EARLY), at_home(6)), (fault(6, T0 + S, 4), at_home(6))]
    one, other = both if first == "fire" else both[::-1]

    def item(signal, place):
        return [Item(signal=signal, nature=Nature.REAL, arrived_us=T0, place=place)]

    async with (
        connected(database, "one") as early,
        connected(database, "other") as late,
        asyncio.TaskGroup() as group,
    ):
        async with early.transaction():
            await store.take(early, {}, item(*one), T0 + S, compose())
            waits = group.create_task(store.take(late, {}, item(*other), T0 + S, compose()))
            await asyncio.wait({waits}, timeout=0.3)
        await waits
        cursor = await early.execute("SELECT tier FROM incident")
        assert await cursor.fetchall() == [("alarm",)]
