"""`sizao migrate` with TimescaleDB's functions stood in for: what is called, once, and when."""

import psycopg
import pytest
from fix_archive import archiving
from fix_timescale import COLUMNSTORE, VERSIONS, called, install

from ingest import timescale
from ingest.retention import KeepSection
from ingest.retention_loop import Retention
from ingest.timescale_migrate import step
from sizao import db, log
from sizao.cli import steps
from sizao.errors import BadInput
from sizao.metrics import Metrics
from sizao.service import Service

ONCE = [
    "create_hypertable reading by received 01:00:00",
    "columnstore",
    "add_columnstore_policy 72:00:00",
    "add_retention_policy 720:00:00",
]


@pytest.fixture(autouse=True)
def columnstore(monkeypatch):
    """See fix_timescale; the statement itself is read by PostgreSQL in a test below."""
    monkeypatch.setattr(timescale, "COLUMNSTORE", COLUMNSTORE)


@pytest.fixture
def config(tmp_path):
    file = tmp_path / "settings.yaml"
    file.write_text("database: {timescale: auto}\n", encoding="utf-8")
    return file


@pytest.mark.parametrize("version", VERSIONS)
async def test_before_the_first_reading_it_makes_a_hypertable_once(connection, config, version):
    await install(connection, version)
    assert "TimescaleDB " + version in await step(config, connection)
    assert await called(connection) == ONCE
    await step(config, connection)
    assert await called(connection) == ONCE


async def test_other_days_take_the_place_of_the_old(connection, config):
    await install(connection, "2.28.3")
    await step(config, connection)
    config.write_text("archive: {keep: {days: 7}}\n", encoding="utf-8")
    for _ in range(2):
        await step(config, connection)
    assert await called(connection) == [
        *ONCE, "remove_retention_policy", "add_retention_policy 168:00:00"
    ]  # fmt: skip


async def test_the_archive_writes_into_it_and_makes_no_hours(place, config):
    """Offsets, rows that come again, names for people: all as on hours of our own."""
    async with db.connected(place.settings.database, "test") as connection:
        await install(connection, "2.28.3")
        await step(config, connection)
    async with archiving(place.settings):
        await place.send(16)
        await place.caught_up()
    assert await place.query("SELECT FROM pg_inherits WHERE inhparent = 'reading'::regclass") == []
    service = Service("archive", log.setup("archive"), Metrics("archive"))
    await Retention(service, place.settings.database, KeepSection(days=1)).round()
    assert service.facts["kept"] == "by TimescaleDB"
    assert await place.count() == len(place.sent)
    assert await place.query("SELECT count(*) FROM reading_named") == [(0,)]  # no such points


async def test_a_database_that_gains_it_later_is_told_how_to_change_over(connection, config):
    """A partitioned table cannot become a hypertable: nothing happens until somebody says so."""
    await connection.execute("SELECT reading_cover(ARRAY[now()])")
    await connection.execute("INSERT INTO reading VALUES (now(), now(), 1, 20, 0)")
    await install(connection, "2.28.3")
    assert "reading_set_aside" in await step(config, connection)
    assert await called(connection) == []

    require = config.with_name("require.yaml")
    require.write_text("database: {timescale: require}\n", encoding="utf-8")
    with pytest.raises(BadInput, match="require: the table reading has rows"):
        await step(require, connection)

    ((aside,),) = await (await connection.execute("SELECT reading_set_aside()")).fetchall()
    await step(require, connection)
    assert await called(connection) == ONCE
    for table, rows in ((aside, 1), ("reading", 0), ("reading_named", 0)):
        found = await (await connection.execute(f"SELECT count(*) FROM {table}")).fetchall()
        assert found == [(rows,)]


async def test_names_for_people_follow_the_new_table(connection, config):
    await install(connection, "2.28.3")
    await step(config, connection)
    plan = await (await connection.execute("EXPLAIN SELECT * FROM reading_named")).fetchall()
    assert any("on reading r" in line for (line,) in plan)
    again = "SELECT indexdef FROM pg_indexes WHERE tablename = 'reading' ORDER BY 1"
    indexes = [line for (line,) in await (await connection.execute(again)).fetchall()]
    assert "brin (received) WITH (autosummarize='on')" in indexes[1]
    assert "btree (point, event) WHERE" in indexes[0]
    with pytest.raises(psycopg.errors.CheckViolation):
        await connection.execute("INSERT INTO reading VALUES (now(), now(), 1, 'NaN', 0)")


async def test_without_it_nothing_changes_and_require_fails(connection, config):
    assert (await step(config, connection)).startswith("raw readings: hours of our own: ")
    config.write_text("database: {timescale: require}\n", encoding="utf-8")
    with pytest.raises(BadInput, match=r"database\.timescale: require"):
        await step(config, connection)


async def test_postgresql_reads_the_statement_that_no_stand_in_takes(connection, monkeypatch):
    """Its syntax is right, its table and columns are there; only the name space is unknown here."""
    monkeypatch.undo()
    await connection.execute(timescale.SET_ASIDE)
    with pytest.raises(psycopg.errors.InvalidParameterValue, match='namespace "timescaledb"'):
        await connection.execute(timescale.COLUMNSTORE)


def test_migrate_takes_the_step():
    assert step in steps()
