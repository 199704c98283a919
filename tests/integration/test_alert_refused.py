"""Records, schemas and registries that are at fault: none of them costs a fire its page."""

from __future__ import annotations

import json
import re

import pytest
from fix_alerting import ids, make_signal, process, receiver
from fix_house import get

from sizao import clock
from sizao.db import connected
from sizao.registry.write import Change, DeviceRow, apply

pytestmark = pytest.mark.slow


async def test_poison_is_counted_and_the_fire_behind_it_pages(house):
    await house.start_here()
    nul = house.fire("heat-2", evidence={"text\u0000": "a\u0000b"})
    big = make_signal(1 << 40, at=clock.now_us())
    with receiver() as station:
        await house.respond(station.url)
        log = house.folder / "log"
        with process("alert", "--config", house.configure(), log=log):
            await house.say(b"not json", big, nul, house.fire())
            station.wait(2)
            await house.until("SELECT count(*) = 2 FROM signal")
            page = re.search(r'"http": "(http[^"]+)"', log.read_text())[1]
            series = get(f"{page}/metrics")
            assert 'sizao_alert_bad_records_total{reason="headers"} 1.0' in series
            assert 'sizao_alert_bad_records_total{reason="bounds"} 1.0' in series
            assert 'sizao_alert_attempts_total{outcome="gone"} 0.0' in series
            assert "sizao_alert_signal_to_first_send_seconds_count 2.0" in series
            ready = json.loads(get(f"{page}/readyz"))
            assert ready["responders"] == 1


async def test_what_the_database_refuses_costs_nobody_else_a_page(house):
    """Whole, alone, without its evidence; only then passed by."""
    await house.start_here()
    await house.ask("ALTER TABLE signal ADD CHECK (NOT evidence ? 'bad')", run=True)
    await house.ask("ALTER TABLE signal ADD CHECK (subject <> 'worse')", run=True)
    worse = house.fire("heat-2", subject="worse")
    with receiver() as station:
        await house.respond(station.url)
        log = house.folder / "log"
        with process("alert", "--config", house.configure(), log=log):
            await house.say(worse, house.fire(evidence={"bad": 1}), house.fire("heat-2"))
            station.wait(2)
            await house.until("SELECT count(*) = 2 FROM signal")
            page = re.search(r'"http": "(http[^"]+)"', log.read_text())[1]
            series = get(f"{page}/metrics")
    assert 'sizao_alert_bad_records_total{reason="store_refused"} 1.0' in series
    assert "sizao_alert_stored_bare_total 1.0" in series


async def test_a_fault_of_the_schema_costs_no_fire_its_page(house):
    """To the ledger it is an absence: the page goes out, and is stored when that is mended."""
    await house.start_here()
    with receiver() as station:
        await house.respond(station.url)
        log = house.folder / "log"
        with process("alert", "--config", house.configure(), log=log) as running:
            await house.say(house.fire("test-3"))
            await house.until("SELECT count(*) = 1 FROM signal")
            await house.ask("ALTER TABLE message RENAME COLUMN why TO gone", run=True)
            await house.say(house.fire())
            await house.told(log, "PostgreSQL is away: the ledger decides")
            station.wait(1)
            await house.ask("ALTER TABLE message RENAME COLUMN gone TO why", run=True)
            await house.until("SELECT count(*) = 1 FROM message WHERE state = 'accepted'")
            assert running.poll() is None
    assert len(station.got) == 1


async def test_a_test_device_of_this_very_moment_does_not_page_as_a_real_one(house):
    await house.start_here()
    with receiver() as station:
        await house.respond(station.url)
        log = house.folder / "log"
        with process("alert", "--config", house.configure(), log=log):
            await house.say(house.fire("test-3"))
            await house.until("SELECT count(*) = 1 FROM signal")
            async with connected(house.database, "test") as connection:
                new = DeviceRow("new-5", "gw", "heat", "S1", mark="test")
                applied = await apply(connection, Change(devices=[new]), cause="test", partitions=4)
                _, devices = await ids(connection)
            await house.say(
                make_signal(devices["new-5"], at=clock.now_us(), site=house.site, generation=2)
            )
            await house.until("SELECT count(*) = 2 FROM signal")
    assert applied
    assert await house.ask("SELECT DISTINCT nature FROM signal") == [("test",)]
    assert not station.got
