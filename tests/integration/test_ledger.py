"""`sizao alert` without PostgreSQL: killed, or holding every connection and saying nothing."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal as os_signal
import urllib.error
from pathlib import Path

import pytest
from fix_alerting import process, receiver
from fix_house import get

from sizao import clock
from sizao.signal import Kind, Phase, Tier

pytestmark = pytest.mark.slow
IN_ALL_S = 6.0
AFTER_DETECTION_S = 3.0


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
def away(server, how):
    """PostgreSQL is gone, or frozen: the kernel still takes what is said to it."""
    if how == "gone":
        server.kill()
        try:
            yield
        finally:
            server.start()
        return
    frozen = family(server.child.pid)
    for pid in frozen:
        os.kill(pid, os_signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in frozen:
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


@pytest.mark.parametrize("how", ["gone", "frozen"])
async def test_a_fire_in_the_absence_pages_at_once_and_once_and_is_stored_after(
    house, servers, how
):
    await house.start_here()
    log = house.folder / "log"
    first = house.fire()
    with receiver() as station:
        await house.respond(station.url, kinds=["fire", "gas"])
        config = house.configure()
        with process("alert", "--config", config, log=log) as alert:
            await house.say(first)
            station.wait(1)
            await house.until("SELECT count(*) = 1 FROM message WHERE state = 'accepted'")
            with away(servers.postgres, how):
                went_s = clock.monotonic_s()
                second = house.fire("heat-2")
                more = house.fire(at=first.onset_us + 60_000_000, onset=first.onset_us,
                                  phase=Phase.REFRESH)  # fmt: skip
                await house.say(more, second)
                got = station.wait(2)
                took_s = got[1].at_s - went_s
                facts = readyz(log)
                told = json.loads(next(x for x in log.read_text().splitlines() if "away" in x))
                assert facts["ledger"]["in_force"]
                assert facts["ready"]["database"] is False
                assert got[1].headers["sizao-dedup"] == "unknown"
                assert took_s <= IN_ALL_S, f"{took_s:.1f} s after it went, {told}"

                alert.send_signal(os_signal.SIGKILL)
                alert.wait()
                third = house.fire(kind=Kind.GAS)
                await house.say(third)
                again_s = clock.monotonic_s()
                with process("alert", "--config", config, log=log):
                    station.wait(3, 30)
                    again_s = station.got[2].at_s - again_s
                    facts = await ready(log, lambda found: found.get("ledger"))
                    assert facts["database_away"]
                    assert facts["responders"] == 1
                    await house.say(house.fire("heat-2", tier=Tier.EARLY))
            with process("alert", "--config", config, log=log) as alert:
                await house.until("SELECT count(*) = 5 FROM signal", 40)
                await ready(log, lambda found: found["ready"]["database"])
                await house.until("SELECT count(*) = 0 FROM message WHERE state = 'due'")
                await house.until("SELECT count(*) = 0 FROM outbox")
                assert alert.poll() is None
    print(f"{how}: paged {took_s:.2f} s after it went; a new life after {again_s:.2f} s")
    assert kinds(station.got) == [("opened", "fire"), ("raised", "fire"), ("opened", "gas")]
    rows = await house.ask("SELECT kind, version, members, tier FROM incident ORDER BY kind")
    assert rows == [("fire", 2, 2, "urgent"), ("gas", 1, 1, "alarm")]
    became = await house.ask("SELECT became, count(*) FROM signal GROUP BY 1 ORDER BY 1")
    assert became == [("opened", 2), ("raised", 1), ("same", 2)]
    sent = await house.ask("SELECT state, attempts FROM message")
    assert sent == [("accepted", 1)] * 3
