"""`sizao alert` without PostgreSQL: killed, or holding every connection and saying nothing."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal as os_signal
import sqlite3
import urllib.error
from pathlib import Path

import pytest
from fix_alerting import make_signal, process, receiver
from fix_house import get

from alerting.disk_ledger import DiskLedger
from sizao import clock
from sizao.signal import Kind, Phase, Tier

pytestmark = pytest.mark.slow
IN_ALL_S = 6.0  # two to find out, and R-5
NEW_LIFE_S = 15.0
BACK_S = 5.0


def family(pid):
    """A process and its children, which are sessions of their own."""
    found = [pid]
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            parent = int(stat.read_text().rpartition(")")[2].split()[1])
            if parent == pid:
                found.append(int(stat.parent.name))
    return found


@contextlib.contextmanager
def frozen(server):
    """Half-open: the kernel still takes what is said to it, and nobody answers."""
    held = family(server.child.pid)
    for pid in held:
        os.kill(pid, os_signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in held:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, os_signal.SIGCONT)


def readyz(log):
    page = re.findall(r'"http": "(http[^"]+)"', log.read_text())[-1]
    try:
        return json.loads(get(f"{page}/readyz"))
    except urllib.error.HTTPError as error:
        with error:
            return json.loads(error.read())


async def ready(log, what):
    """Poll until the facts say so; returns them."""
    for _ in range(400):
        with contextlib.suppress(IndexError, urllib.error.URLError):
            facts = readyz(log)
            if what(facts):
                return facts
        await asyncio.sleep(0.05)
    raise AssertionError(readyz(log))


def kinds(got):
    return [(e["type"].split(".")[3], e["data"]["kind"]) for e in (json.loads(g.body) for g in got)]


def once(got):
    """Without the repeats: at most one more for each kill, under the same id."""
    return list({one.headers["webhook-id"]: one for one in got}.values())


async def second_fire_in_the_absence(house, station, first):
    """A device more, and the known one again: seconds until the page of the first of them."""
    went_s = clock.monotonic_s()
    onset = first.onset_us
    again = house.fire(at=onset + 60_000_000, onset=onset, phase=Phase.REFRESH)
    await house.say(again, house.fire("heat-2"))
    got = station.wait(2)
    assert got[1].headers["sizao-dedup"] == "unknown"
    return got[1].at_s - went_s


async def life_that_begins_in_the_absence(house, station, config, log):
    """Seconds from its start until the page of a fire that nobody has read yet."""
    await house.say(house.fire(kind=Kind.GAS))
    began_s = clock.monotonic_s()
    with process("alert", "--config", config, log=log):
        while ("opened", "gas") not in kinds(station.got):
            assert clock.monotonic_s() - began_s < NEW_LIFE_S
            await asyncio.sleep(0.05)
        took_s = clock.monotonic_s() - began_s
        facts = await ready(log, lambda found: found.get("ledger"))
        assert facts["database_away"]
        assert facts["responders"] == 1
        await house.say(house.fire("heat-2", tier=Tier.EARLY))
    return took_s


async def test_a_fire_in_the_absence_pages_at_once_and_once_and_is_stored_after(house, servers):
    await house.start_here()
    log, first = house.folder / "log", house.fire()
    with receiver() as station:
        await house.respond(station.url, kinds=["fire", "gas"])
        config = house.configure()
        with process("alert", "--config", config, log=log) as alert:
            await house.say(first)
            station.wait(1)
            await house.until("SELECT count(*) = 1 FROM message WHERE state = 'accepted'")
            with frozen(servers.postgres):
                took_s = await second_fire_in_the_absence(house, station, first)
                facts = readyz(log)
                alert.send_signal(os_signal.SIGKILL)
                alert.wait()
                new_life_s = await life_that_begins_in_the_absence(house, station, config, log)
        with process("alert", "--config", config, log=log):
            await house.until("SELECT count(*) = 5 FROM signal", 40)
            await ready(log, lambda found: found["ready"]["database"])
            await house.until("SELECT count(*) = 0 FROM message WHERE state = 'due'")
            await house.until("SELECT count(*) = 0 FROM outbox")
    assert facts["ledger"]["in_force"]
    assert facts["ready"]["database"] is False
    assert took_s <= IN_ALL_S
    (house.folder / "figures").write_text(f"{took_s:.2f} s, new life {new_life_s:.2f} s")
    told = kinds(once(station.got))
    assert told == [("opened", "fire"), ("raised", "fire"), ("opened", "gas")]
    assert len(station.got) <= len(told) + 2
    rows = await house.ask("SELECT kind, version, members, tier FROM incident ORDER BY kind")
    assert rows == [("fire", 2, 2, "urgent"), ("gas", 1, 1, "alarm")]
    became = await house.ask("SELECT became, count(*) FROM signal GROUP BY 1 ORDER BY 1")
    assert became == [("opened", 2), ("raised", 1), ("same", 2)]
    assert await house.ask("SELECT state, count(*) FROM message GROUP BY 1") == [("accepted", 3)]


async def test_it_comes_back_to_a_database_that_does_without_a_restart(house, servers):
    await house.start_here()
    log = house.folder / "log"
    with receiver() as station:
        await house.respond(station.url)
        with process("alert", "--config", house.configure(), log=log) as alert:
            await house.say(house.fire("test-3"))
            await house.until("SELECT count(*) = 1 FROM signal")
            servers.postgres.kill()
            try:
                await house.say(house.fire())
                station.wait(1)
            finally:
                servers.postgres.start()
            back_s = clock.monotonic_s()
            await house.until("SELECT count(*) = 1 FROM message WHERE state = 'accepted'")
            back_s = clock.monotonic_s() - back_s
            await ready(log, lambda found: found["ready"]["database"])
            await house.say(house.fire("heat-2"))
            got = station.wait(2)
            await house.until("SELECT count(*) = 2 FROM message WHERE state = 'accepted'")
            assert alert.poll() is None
    assert "sizao-dedup" not in got[1].headers, "that one PostgreSQL knows of"
    assert back_s <= BACK_S
    assert kinds(got) == [("opened", "fire"), ("raised", "fire")]


async def test_a_ledger_without_room_costs_the_normal_path_nothing_and_is_told(house):
    await house.start_here()
    log = house.folder / "log"
    config = house.configure(ledger_mib=4)
    path = house.folder / "state" / "alert" / "ledger-a0.sqlite"
    with contextlib.closing(DiskLedger(path, 4)) as ledger:
        fill(ledger)
    with receiver() as station:
        await house.respond(station.url)
        with process("alert", "--config", config, log=log):
            now = clock.now_us()
            await house.say(*(make_signal(n, site=n, at=now) for n in range(100, 160)))
            await house.until("SELECT count(*) = 60 FROM message WHERE state = 'accepted'")
            facts = await ready(log, lambda found: "ledger_mib is 4" in str(found.get("ledger")))
            assert all(facts["ready"].values())
            page = re.findall(r'"http": "(http[^"]+)"', log.read_text())[-1]
            full = re.search(
                r'ledger_faults_total{reason="full"} ([0-9.]+)', get(f"{page}/metrics")
            )
            assert float(full[1]) > 0


def fill(ledger):
    one = ledger._connection
    one.execute("CREATE TABLE ballast (x BLOB)")
    with contextlib.suppress(sqlite3.OperationalError):
        while True:
            one.execute("INSERT INTO ballast VALUES (zeroblob(40000))")
