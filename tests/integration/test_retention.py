"""Old hours go from the real table, and nobody who reads or writes it is held up."""

import asyncio
from functools import partial

import psycopg
import pytest
from fix_archive import ROWS, archiving, until, value_of

from ingest.retention import HOUR_US, KeepSection
from ingest.retention_loop import Retention
from sizao import clock, log
from sizao.errors import TooSlow
from sizao.metrics import Metrics
from sizao.service import Service

LEFT = """
    SELECT c.relname FROM pg_class c WHERE c.relkind = 'r' AND starts_with(c.relname, 'reading_2')
    ORDER BY 1"""
AGED = "COMMENT ON TABLE {} IS 'made 1'"
HOURS = [80, 79, 78, 30, 29]  # of age; beside them the archive makes those of now


@pytest.fixture
async def aged(place):
    """Hours of raw readings that were made when they were new, and a table that is no hour."""
    now_us = clock.now_us() // HOUR_US * HOUR_US
    async with archiving(place.settings):
        for age in HOURS:
            await place.send(2, received_us=now_us - age * HOUR_US)
        await place.send(2)
        await place.caught_up()
    for (name,) in await place.query(LEFT):
        await place.query(AGED.format(name))
    await place.query("CREATE TABLE reading_evidence (LIKE reading)")
    await place.query("INSERT INTO reading_evidence SELECT * FROM reading")
    return place


def retention(place, volume=None, **keep):
    async def told(_connection):
        return volume

    service = Service("archive", log.setup("archive"), Metrics("archive"))
    return service, Retention(service, place.settings.database, KeepSection(**keep), told)


async def left(place):
    return [name for (name,) in await place.query(LEFT)]


async def test_old_hours_go_and_evidence_stays(aged):
    before = await left(aged)
    service, kept = retention(aged, days=3)
    await kept.round()
    assert [name for name in before if name not in await left(aged)] == before[:3]
    assert value_of(service, "partitions_dropped_total", reason="age") == 3
    assert value_of(service, "partitions") == len(await left(aged))
    assert service.facts["kept"].startswith("by age alone")
    ((rows,),) = await aged.query("SELECT count(*) FROM reading_evidence")
    assert rows == len(aged.sent)
    assert await aged.count() < rows


async def test_a_full_volume_lets_the_oldest_go_and_never_the_newest(aged):
    before = await left(aged)
    service, kept = retention(aged, volume=1, days=365)
    await kept.round()
    assert (await left(aged))[0] == before[len(HOURS)]
    assert value_of(service, "partitions_dropped_total", reason="volume") == len(HOURS)
    assert value_of(service, "volume_bytes") == 1


async def test_the_file_system_is_asked_for_the_size_of_a_volume_on_this_machine(place):
    service = Service("archive", log.setup("archive"), Metrics("archive"))
    await Retention(service, place.settings.database, KeepSection()).round()
    assert value_of(service, "volume_bytes") > value_of(service, "database_bytes") > 0
    assert service.facts["kept"] == "by age and volume"


async def test_a_long_reader_delays_it_and_holds_up_no_writer(aged, monkeypatch):
    """Beside a reader of the whole table: rows are stored, a new hour begins, the reader reads on.
    What a round was stopped in, the next one ends.
    """
    before = await left(aged)
    service, kept = retention(aged, days=3)
    async with await psycopg.AsyncConnection.connect(aged.dsn) as reader:
        await reader.execute("SELECT count(*) FROM reading")
        monkeypatch.setattr("ingest.retention_loop._DETACH_MS", 300)
        with pytest.raises(TooSlow):
            await kept.round()
        assert await aged.query("SELECT 1 FROM pg_inherits WHERE inhdetachpending")
        monkeypatch.setattr("ingest.retention_loop._FINALIZE_MS", 20_000)
        async with asyncio.TaskGroup() as group:
            again = group.create_task(kept.round())
            await until(partial(waits, aged))
            async with archiving(aged.settings):
                await aged.send(4)
                await aged.send(4, received_us=clock.now_us() + 2 * HOUR_US)
                await until(partial(stored, aged, 8 * ROWS))
            ((seen,),) = await (await reader.execute("SELECT count(*) FROM reading")).fetchall()
            assert seen >= 8 * ROWS
            assert not again.done()
            await reader.rollback()
    assert [name for name in before[:3] if name in await left(aged)] == []
    assert value_of(service, "partitions_dropped_total", reason="age") == 2


async def waits(place):
    finalize = (
        "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query ~ 'FINALIZE'"
    )
    return await place.query(finalize)


async def stored(place, rows):
    newest = "SELECT count(*) FROM reading WHERE received > now() - interval '1 minute'"
    return (await place.query(newest))[0][0] >= rows


async def test_what_a_person_detached_stays_and_what_we_left_half_done_goes(aged):
    before = await left(aged)
    for name, comment in ((before[3], "mine"), (before[4], "going")):
        await aged.query(f"ALTER TABLE reading DETACH PARTITION {name}")
        await aged.query(f"COMMENT ON TABLE {name} IS '{comment}'")
    _, kept = retention(aged, days=30)
    await kept.round()
    assert [name for name in before if name not in await left(aged)] == [before[4]]
