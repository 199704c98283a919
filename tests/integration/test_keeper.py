"""The keeper over a real PostgreSQL that is busy, broken or held by somebody."""

from __future__ import annotations

import asyncio
import contextlib
import io

import pytest
from fix_alerting import compose, get_database, items, make_signal

from alerting import keeper as keepers
from alerting.disk_ledger import DiskLedger
from alerting.keeper import Keeper
from alerting.series import Series
from sizao import clock, db, log
from sizao.db import connected, migrate
from sizao.metrics import Metrics
from sizao.service import Service

pytestmark = pytest.mark.slow
WORDS = compose()


@pytest.fixture
async def database(servers, postgres_db, tmp_path):
    found = get_database(servers, postgres_db, tmp_path)
    async with connected(found, "test") as connection:
        await migrate(connection)
    return found


@contextlib.asynccontextmanager
async def kept(database, path):
    """A keeper that is open, and not run yet."""
    service = Service("alert", log.setup("alert", io.StringIO()), Metrics("alert"))
    pool = db.pool(database, "alert", size_max=4, answer_s=keepers.ANSWER_S)
    await pool.open(wait=False)
    made = Keeper(
        service=service,
        database=database,
        pool=pool,
        ledger=(path, 64),
        holder="a0",
        compose=WORDS,
        series=Series(service.metrics),
        news=lambda: None,
    )
    try:
        await made.open()
        yield made
    finally:
        made._disk.close()
        await pool.close()


async def test_beside_a_storm_of_pages_the_mirror_is_renewed(database, tmp_path):
    async with kept(database, tmp_path / "ledger.sqlite") as keeper:
        over = False

        async def pages():
            while not over:
                keeper._disk.tell(lambda one: one.ended("m"))
                await asyncio.sleep(0.001)  # the pace of the storm

        async with asyncio.TaskGroup() as group:
            group.create_task(pages())
            await keeper.take(items(make_signal(1)))
            for _ in range(20):
                await keeper._renew()
                if not keeper._disk.whole:
                    break
            over = True
        assert not keeper._disk.whole
        waiting = await keeper._disk.do(lambda one: one.known().incidents)
    assert len(waiting) == 1


async def test_what_was_stored_beside_a_look_stands_behind_it(database, tmp_path, monkeypatch):
    async with kept(database, tmp_path / "ledger.sqlite") as keeper:
        await keeper._renew()
        look = keepers.mirror.look

        async def slow(*given, **named):
            seen = await look(*given, **named)
            await keeper.take(items(make_signal(1)))
            return seen

        monkeypatch.setattr(keepers.mirror, "look", slow)
        await keeper._renew()
        known = await keeper._disk.do(DiskLedger.known)
    assert len(known.incidents) == 1
    assert known.messages


async def test_a_district_that_is_silent_leaves_the_ledger_room_and_time(database, tmp_path):
    async with connected(database, "test") as connection:
        await connection.execute(
            "INSERT INTO silence"
            " SELECT 'device:' || n, 'real', 'platform', n, 'o' || n, n, NULL::bigint"
            " FROM generate_series(1, 30000) n UNION ALL"
            " SELECT 'carrier:platform', 'real', 'platform', 0, 'o', 0, NULL"
        )
    async with kept(database, tmp_path / "ledger.sqlite") as keeper:
        await keeper._renew()
        assert keeper._disk.primed
        query = "SELECT count(*) AS number, min(device) AS carrier, max(device) AS newest"
        (row,) = await keeper._disk.do(lambda one: one.ask(f"{query} FROM silence"))
    assert row == {"number": keepers.mirror.SILENT_MAX, "carrier": 0, "newest": 30000}


async def test_a_broken_table_is_an_absence_and_not_the_end(database, tmp_path):
    async with (
        kept(database, tmp_path / "ledger.sqlite") as keeper,
        connected(database, "test") as person,
    ):
        await keeper._renew()
        await person.execute("ALTER TABLE outbox RENAME TO outbox_away")
        began_s = clock.monotonic_s()
        assert await keeper.depth() == (0, 0, 0.0)
        assert keeper.away
        assert clock.monotonic_s() - began_s < 2 * keepers.AWAY_S


async def test_a_new_life_does_not_wait_for_a_table_that_somebody_holds(database, tmp_path):
    path = tmp_path / "ledger.sqlite"
    async with kept(database, path) as keeper:
        await keeper._renew()
    async with connected(database, "test") as person, person.transaction():
        await person.execute("LOCK TABLE alert_offset")
        began_s = clock.monotonic_s()
        async with kept(database, path) as keeper:
            assert len((await keeper.take(items(make_signal(1)))).transitions) == 1
            assert clock.monotonic_s() - began_s < 2 * keepers.AWAY_S


async def test_a_ledger_whose_pages_are_damaged_is_made_anew(database, tmp_path):
    path = tmp_path / "ledger.sqlite"
    async with kept(database, path) as keeper:
        await keeper.take(items(make_signal(1)))
        await keeper._renew()
    keeper._disk._thread.shutdown()  # the file is closed, and its log is in it
    with path.open("r+b") as file:
        file.seek(4096)  # behind the page that says what it is
        file.write(b"x" * (path.stat().st_size - 4096))
    async with kept(database, path) as keeper:
        await keeper._disk.open()  # as `run` does while it is not there
        await keeper._renew()
        assert keeper._disk.primed
        assert len((await keeper._disk.do(DiskLedger.known)).incidents) == 1
    assert path.with_suffix(".damaged").exists()


async def test_an_hour_s_deliveries_are_handed_over_however_many(database, tmp_path):
    """A receiver that hung in the absence: each page has its attempts."""
    async with (
        kept(database, tmp_path / "ledger.sqlite") as keeper,
        connected(database, "test") as person,
    ):
        await keeper.take(items(make_signal(1)))
        await person.execute(
            "INSERT INTO message OVERRIDING SYSTEM VALUE"
            " SELECT m.* FROM message o, generate_series(1, 20000) n, LATERAL"
            " jsonb_populate_record(o, jsonb_build_object("
            "'id', lpad(n::text, 32, '0'), 'seq', 100000 + n)) m"
        )
        await keeper._renew()
        keeper._left("for the test")
        await keeper._disk.do(many_attempts)
        await keeper._return()
        cursor = await person.execute(
            "SELECT count(*), (SELECT count(*) FROM message_attempt) FROM message"
            " WHERE state = 'expired'"
        )
        assert await cursor.fetchone() == (DEAD, DEAD * ATTEMPTS)
        assert not keeper.away


DEAD, ATTEMPTS = 10_000, 10


def many_attempts(ledger):
    with ledger._transaction(lasting=False) as one:
        one.execute(
            "UPDATE message SET state = 'expired', touched = 1, attempts = ?, ended_us = 9,"
            " next_us = NULL WHERE id IN (SELECT id FROM message WHERE id LIKE '000%' LIMIT ?)",
            (ATTEMPTS, DEAD),
        )
        one.execute("UPDATE message SET touched = 1")
        one.execute(
            "INSERT INTO message_attempt SELECT m.id, n.value, 1, 2, 'unknown', NULL, 'x'"
            " FROM message m, json_each(?) n WHERE state = 'expired'",
            (str(list(range(1, ATTEMPTS + 1))),),
        )
