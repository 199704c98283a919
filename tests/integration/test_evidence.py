"""Evidence against real Kafka and PostgreSQL: what an incident's site said outlives the table."""

import asyncio
import json
import sys
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import numpy as np
import pytest
from fix_rollups import MINUTE_US, PARTITIONS, archiving, until, value_of
from typer.testing import CliRunner

from ingest import evidence_loop
from ingest.commands import app
from ingest.evidence_loop import Evidence, EvidenceSection
from sizao import clock, frame, log
from sizao.errors import BadInput
from sizao.kafka import Outgoing
from sizao.metrics import Metrics
from sizao.service import Service
from sizao.topics import INCIDENTS

SITE = "site-2"
RUN = """
import sys, pathlib, ingest.archive as archive, ingest.evidence_loop as loop
loop._MARGIN_US = 0
archive.process(pathlib.Path(sys.argv[1]))
"""


@pytest.fixture(autouse=True)
def no_margin(monkeypatch):
    """Here one writer sends in order; a minute of waiting would show nothing more."""
    monkeypatch.setattr(evidence_loop, "_MARGIN_US", 0)


@asynccontextmanager
async def keeping(district, **section):
    service = Service("archive", log.setup("archive"), Metrics("archive"))
    settings = district.settings
    kept = EvidenceSection(each_s=0.1, **section)
    async with asyncio.TaskGroup() as group:
        runs = Evidence(service, settings.kafka, settings.database, kept, "0/1").run()
        task = group.create_task(runs)
        yield service
        task.cancel()


def name_of(district):
    """One test reads the transitions of the others: they are not of its incident."""
    return f"{int(district.dsn.rsplit('/t_')[-1][:12], 16):032x}"


def iso(at_us):
    return datetime.fromtimestamp(at_us / 1e6, UTC).isoformat()


async def transition(district, version, *, onset_us, closed_us=None, incident=None, **more):
    ((site,),) = await district.query("SELECT id FROM area WHERE code = %s", SITE)
    incident = incident or name_of(district)
    facts = {
        "incident": incident,
        "version": version,
        "nature": "real",
        "state": "open" if closed_us is None else "closed",
        "site": {"id": site, "code": SITE},
        "times": {"onset": iso(onset_us), "decided": iso(closed_us or onset_us)},
        **more,
    }
    value = json.dumps(facts).encode()
    number = int(incident, 16) % PARTITIONS
    record = Outgoing(
        topic=INCIDENTS.name, partition=number, value=value, headers=frame.headers(value)
    )
    await district.producer.send([record])


async def expected(district, onset_us, until_us):
    """The definition, by one query over everything."""
    return await district.query(
        """SELECT DISTINCT r.point, r.event, r.received, r.value, r.flags
        FROM reading r JOIN point p ON p.id = r.point JOIN area a ON a.id = p.site
        WHERE a.code = %s AND r.event >= to_timestamp(%s) AND r.event <= to_timestamp(%s)
        ORDER BY 1, 2, 3, 4""",
        SITE, (onset_us - 30 * MINUTE_US) / 1e6, until_us / 1e6,
    )  # fmt: skip


async def kept(district, incident=None):
    return await district.query(
        """SELECT point, event, received, value, flags FROM incident_reading
        WHERE incident = %s ORDER BY 1, 2, 3, 4""",
        incident or name_of(district),
    )


async def state(district, wanted):
    async def there():
        found = await district.query(
            "SELECT state FROM evidence_window WHERE incident = %s", name_of(district)
        )
        return found == [(wanted,)]

    await until(there)


async def test_readings_around_an_incident_are_kept_when_the_table_is_gone(district):
    rng = np.random.default_rng(8)
    begin_us = district.now_us
    onset_us = begin_us + 2 * MINUTE_US
    async with archiving(district.settings), keeping(district, after_min=1, late_min=2) as service:
        for _ in range(4):  # before it is known, of a time before the onset too
            await district.send(rng, frames=16, rows=40)
            await district.send(rng, late_us=40 * MINUTE_US)
            await district.reach(district.now_us + MINUTE_US)
        await transition(district, 1, onset_us=onset_us)
        await transition(district, 1, onset_us=onset_us, incident="2" * 32, nature="drill")
        await until(lambda: kept(district))
        await district.send(rng, frames=16, rows=40)
        closed_us = district.now_us
        until_us = closed_us + MINUTE_US
        await transition(district, 2, onset_us=onset_us, closed_us=closed_us)
        await district.reach(until_us + MINUTE_US)
        await district.send(rng, late_us=MINUTE_US)  # late, and still awaited
        await district.reach(until_us + 2 * MINUTE_US + 1)
        await state(district, "done")
        wanted = await expected(district, onset_us, until_us)
        assert len(wanted) > 20
        assert await kept(district) == wanted
        assert value_of(service, "evidence_rows_total") == len(wanted)
        for (name,) in await district.query(
            "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'reading'::regclass"
        ):
            await district.query(f"DROP TABLE {name}")
        assert await kept(district) == wanted
        assert await kept(district, "2" * 32) == []
        told = json.loads(await show(district, name_of(district), "--json"))
        assert (told["state"], told["site"], len(told["readings"])) == ("done", SITE, len(wanted))
        assert SITE in await show(district, name_of(district), "--limit", "3")
        with pytest.raises(BadInput, match="no evidence is kept"):
            await show(district, "2" * 32)


async def show(district, *words):
    command = [*("evidence", "show"), *words, "--config", str(district.config)]
    done = await asyncio.to_thread(CliRunner().invoke, app, command)
    if done.exception is not None:
        raise done.exception
    return done.output


async def test_killed_while_it_copies_it_keeps_each_reading_once(district):
    rng = np.random.default_rng(9)
    onset_us = district.now_us + MINUTE_US
    text = json.loads(district.config.read_text())
    text["archive"]["evidence"] = {"each_s": 0.05, "after_min": 1, "late_min": 0}
    district.config.write_text(json.dumps(text))
    await transition(district, 1, onset_us=onset_us)
    for _ in range(2):
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", RUN, str(district.config), stderr=asyncio.subprocess.DEVNULL
        )
        before = len(await kept(district))
        async with asyncio.timeout(30):
            while len(await kept(district)) == before:
                await district.send(rng, rows=20)
                await district.reach(district.now_us + 500_000)  # never comes to now
        process.kill()
        await process.wait()
    closed_us = district.now_us
    await transition(district, 2, onset_us=onset_us, closed_us=closed_us)
    await district.send(rng, rows=20)
    async with archiving(district.settings), keeping(district, after_min=1, late_min=0):
        await district.reach(closed_us + MINUTE_US + 1)
        await state(district, "done")
    wanted = await expected(district, onset_us, closed_us + MINUTE_US)
    assert await kept(district) == wanted


async def test_evidence_is_bounded_and_ends_after_a_year(district):
    rng = np.random.default_rng(10)
    onset_us = district.now_us
    await transition(district, 1, onset_us=onset_us)
    old_us = clock.now_us() - 367 * 24 * 60 * MINUTE_US
    await district.query(
        """INSERT INTO evidence_window (incident, site, onset_us, from_us, until_us, version,
            copied_us, state) VALUES ('old', 1, %s, %s, %s, 1, 0, 'done')""",
        old_us, old_us, old_us,
    )  # fmt: skip
    await district.query("INSERT INTO incident_reading VALUES ('old', 1, now(), now(), 1, 0)")
    async with archiving(district.settings), keeping(district, rows_max=1_000) as service:
        for _ in range(10):
            await district.send(rng, frames=8, rows=400)
            await district.reach(district.now_us + 10_000_000)
        await state(district, "full")
        assert value_of(service, "evidence_full_total") == 1
        assert len(await kept(district)) >= 1_000
    assert await kept(district, "old") == []


async def test_a_lost_place_reads_all_transitions_again_and_bad_ones_are_counted(district):
    rng = np.random.default_rng(11)
    onset_us = district.now_us
    bad = Outgoing(topic=INCIDENTS.name, partition=1, value=b"hello")
    await district.producer.send([bad])
    await transition(district, 1, onset_us=onset_us)
    async with archiving(district.settings), keeping(district) as service:
        await district.send(rng, frames=16, rows=40)
        await district.reach(district.now_us + MINUTE_US)
        await until(lambda: kept(district))
        assert value_of(service, "evidence_records_skipped_total", reason="crc_missing") == 1
    before = await kept(district)
    await district.query("UPDATE evidence_offset SET next_offset = next_offset + 1000")
    async with archiving(district.settings), keeping(district):
        await district.send(rng, frames=16, rows=40)
        await district.reach(district.now_us + MINUTE_US)

        async def more():
            return len(await kept(district)) > len(before)

        await until(more)
    found = await kept(district)
    assert len(set(found)) == len(found)
