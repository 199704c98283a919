"""Pages to receivers that misbehave; responders and test pages at the command line."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import subprocess
import sys
import threading
from functools import partial

import pytest
import standardwebhooks
import structlog
from fix_alerting import (
    SECRET,
    get_database,
    ids,
    make_district,
    make_signal,
    receiver,
)

from alerting import channels, deliver, responders, store
from alerting.compose import Composer
from alerting.deliver import Deliverer, DeliverySettings
from alerting.fold import Item
from alerting.keeper import Keeper
from alerting.ledger import Outcome
from alerting.model import Nature
from alerting.outbox import Claim
from alerting.series import Series
from sizao import clock, db, http
from sizao.db import connected, migrate
from sizao.errors import Retriable
from sizao.metrics import Metrics
from sizao.registry.load import load
from sizao.service import Service
from sizao.signal import Tier

pytestmark = pytest.mark.slow


@pytest.fixture
async def database(servers, postgres_db, tmp_path):
    found = get_database(servers, postgres_db, tmp_path)
    async with connected(found, "test") as connection:
        await migrate(connection)
        await make_district(connection)
    return found


def entry(name, url, **more):
    return {
        "name": name,
        "area": "C1",
        "kinds": ["fire"],
        "min_tier": "early",
        "channels": [{"channel": "webhook", "url": url, "secret_file": "key"}],
        **more,
    }


class Rig:
    """A deliverer, and signals for it."""

    def __init__(self, database, pool, directory, view, site, devices, wake):
        self.database, self.pool, self.directory, self.wake = database, pool, directory, wake
        self.site, self.devices = site, devices
        self.compose = Composer(
            view=lambda: view,
            directory=lambda: directory,
            renderers={"webhook": channels.module("webhook").make(http.Client())},
            utc_offset_min=480,
        )

    async def fire(self, tier, device=None, site=None):
        device = device or self.devices["heat-1"]
        now = clock.now_us()
        signal = make_signal(device, at=now, site=site or self.site, tier=tier)
        items = [Item(signal=signal, nature=Nature.REAL, arrived_us=now)]
        async with self.pool.connection() as connection:
            await store.take(connection, {}, items, now, self.compose)
        self.wake.set()
        return clock.monotonic_s()

    async def ask(self, query):
        async with self.pool.connection() as connection:
            return await (await connection.execute(query)).fetchall()

    async def until(self, query):
        for _ in range(1000):
            if rows := await self.ask(query):
                return rows
            await asyncio.sleep(0.02)
        raise AssertionError(query)

    async def until_done(self):
        await self.until("SELECT 1 WHERE NOT EXISTS (SELECT 1 FROM message WHERE state = 'due')")


@contextlib.asynccontextmanager
async def rig(database, folder, *entries):
    (folder / "key").write_text(SECRET)
    file = folder / "r.yaml"
    file.write_text(json.dumps({"responders": entries}))
    async with db.pool(database, "test") as pool, http.Client() as client:
        async with pool.connection() as connection:
            await responders.store(connection, responders.read(file, {"C1"}))
            directory = await responders.load(connection)
            view = (await load(connection, 4)).newest
            site, devices = await ids(connection)
        wake = asyncio.Event()
        service = Service("alert", structlog.get_logger(), Metrics("alert"))
        keeper = Keeper(
            service=service,
            database=database,
            pool=pool,
            ledger=(folder / "ledger.sqlite", 4),
            holder="a0",
            compose=None,
            series=Series(service.metrics),
            news=wake.set,
        )
        await keeper.open()
        deliverer = Deliverer(
            service=service,
            keeper=keeper,
            channels={"webhook": channels.module("webhook").make(client)},
            directory=lambda: directory,
            settings=DeliverySettings(attempt_deadline_s=1, poll_s=0.1),
            wake=wake,
            probe=partial(db.probe, database),
        )
        running = asyncio.get_running_loop().create_task(deliverer.run())
        try:
            yield Rig(database, pool, directory, view, site, devices, wake)
        finally:
            running.cancel()
            await asyncio.wait([running])


async def test_names_that_do_not_resolve_hold_up_nobody_else(monkeypatch):
    """The event loop's own threads, six on a small machine, were all waiting for a name server."""
    real, over = socket.getaddrinfo, threading.Event()

    def resolve(host, *rest, **more):
        if "slow" in str(host):
            over.wait(20)
        return real(host, *rest, **more)

    monkeypatch.setattr(socket, "getaddrinfo", resolve)

    async def post(url, deadline_s):
        return await client.post(url, body=b"{}", headers={}, deadline_s=deadline_s)

    async def fail(number):
        with pytest.raises(Retriable):
            await post(f"http://slow{number}.invalid/", 0.5)

    with receiver() as station:
        async with http.Client() as client:
            try:
                async with asyncio.TaskGroup() as group:
                    for number in range(40):
                        group.create_task(fail(number))
                answer = await post(f"http://localhost:{station.port}/", 5)
            finally:
                over.set()
    assert answer.status == 204


async def test_it_is_woken_at_the_commit(database, tmp_path):
    with receiver() as station:
        async with rig(database, tmp_path, entry("a", station.url)) as one:
            await one.fire(Tier.EARLY)  # the first opens connections
            await asyncio.to_thread(station.wait, 1)
            await one.until_done()
            took = []
            for device in range(1001, 1007):  # unknown to the registry: each one joins
                began = await one.fire(Tier.EARLY, device)
                got = await asyncio.to_thread(station.wait, len(station.got) + 1)
                took.append(got[-1].at_s - began)
                await one.until_done()
            assert min(took) < 0.05


async def test_a_failing_receiver_gets_the_same_page_again_until_it_takes_it(database, tmp_path):
    answers = [500, "reset", 204]
    with receiver(lambda number, _: answers[number - 1]) as station:
        async with rig(database, tmp_path, entry("a", station.url)) as one:
            await one.fire(Tier.ALARM)
            got = await asyncio.to_thread(station.wait, 3)
            await one.until_done()
            ledger = await one.ask(
                "SELECT attempt, outcome, status FROM message_attempt ORDER BY 1"
            )
    assert ledger == [(1, "server_error", 500), (2, "unknown", None), (3, "accepted", 204)]
    assert len({each.headers["webhook-id"] for each in got}) == 1
    assert len({each.body for each in got}) == 1
    for each in got:
        standardwebhooks.Webhook(SECRET).verify(each.body, each.headers)
    assert got[1].at_s - got[0].at_s >= 1.0
    assert got[2].at_s - got[1].at_s >= 2.0


async def test_gone_is_final(database, tmp_path):
    with receiver(lambda *_: 410) as station:
        async with rig(database, tmp_path, entry("a", station.url)) as one:
            await one.fire(Tier.ALARM)
            await one.until_done()
            assert await one.ask("SELECT state, attempts FROM message") == [("refused", 1)]
    assert len(station.got) == 1


async def test_a_hanging_receiver_holds_up_nobody_else(database, tmp_path):
    """The one that is well comes last by name, so that it would be the last to be claimed."""
    with receiver(lambda *_: "hang") as dead, receiver() as alive:
        people = [entry(f"dead{n}", dead.url) for n in range(5)] + [entry("well", alive.url)]
        async with rig(database, tmp_path, *people) as one:
            began = await one.fire(Tier.ALARM)
            (got,) = await asyncio.to_thread(alive.wait, 1)
            assert got.at_s - began < 1.0


async def test_a_receiver_that_hangs_keeps_no_fire_waiting_behind_another(database, tmp_path):
    with receiver(lambda *_: "hang") as dead:
        async with rig(database, tmp_path, entry("a", dead.url)) as one:
            began = await one.fire(Tier.URGENT)
            for site in (1, 2, 3):
                await one.fire(Tier.ALARM, site=site)
            got = await asyncio.to_thread(dead.wait, 4)
            assert max(each.at_s for each in got[:4]) - began < 1.0
            assert len({each.headers["webhook-id"] for each in got[:4]}) == 4


async def test_a_channel_that_overruns_its_deadline_gives_its_place_back(monkeypatch):
    class Endless:
        async def send(self, *_):
            await asyncio.Event().wait()

    monkeypatch.setattr(deliver, "_OVERRUN_S", 0.05)
    directory = responders.Directory(
        version=1, responders=(), addresses={("a", "w"): {"channel": "w", "name": "w"}}
    )
    claim = Claim(
        id="0" * 32, responder="a", channel="w", body="", attempt=1, first_us=0, signal_us=0
    )
    answer = await deliver.send({"w": Endless()}, directory, claim, now_us=0, deadline_s=0.05)
    assert answer.outcome is Outcome.UNKNOWN


async def test_a_missing_secret_is_an_attempt_with_its_reason(database, tmp_path):
    with receiver() as station:
        async with rig(database, tmp_path, entry("a", station.url)) as one:
            (tmp_path / "key").unlink()
            await one.fire(Tier.ALARM)
            rows = await one.until(
                "SELECT outcome, detail FROM message_attempt WHERE ended_us IS NOT NULL"
            )
            (tmp_path / "key").write_text(SECRET)
            await asyncio.to_thread(station.wait, 1)
    assert rows[0][0] == "no_address"
    assert SECRET not in rows[0][1]


def sizao(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "sizao.cli", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


async def test_the_command_line_imports_and_pages(database, tmp_path):
    (tmp_path / "key").write_text(SECRET)
    config = tmp_path / "sizao.yaml"
    config.write_text(json.dumps({"database": database.model_dump()}))
    file = tmp_path / "responders.yaml"
    ours = ["--config", str(config)]
    with receiver(lambda number, _: 204 if number == 1 else 503) as station:
        file.write_text(json.dumps({"responders": [entry("station", station.url)]}))
        first, again = (sizao("responders", "import", str(file), *ours) for _ in range(2))
        assert "1 added or changed" in first.stdout, first.stderr
        assert "0 added or changed" in again.stdout
        good = sizao("page", "test", "station", *ours)
        assert (good.returncode, good.stdout) == (
            0,
            "station over webhook: accepted (status 204)\n",
        )
        bad = sizao("page", "test", "station", *ours)
        assert bad.returncode == 1
        assert "server_error (status 503)" in bad.stdout
        event = standardwebhooks.Webhook(SECRET).verify(station.got[0].body, station.got[0].headers)
    assert event["data"]["nature"] == "test"
    assert event["data"]["text"]["zh"].startswith("测试,无需出动。")
    wrong = sizao("page", "test", "staton", *ours)
    assert (wrong.returncode, wrong.stderr) == (2, "no responder 'staton'; nearest: station\n")
    file.write_text(json.dumps({"responders": [entry("x", station.url, area="C9")]}))
    refused = sizao("responders", "import", str(file), *ours)
    assert refused.returncode == 2
    assert "responders.yaml:1: responders.0.area: unknown 'C9'" in refused.stderr
    async with connected(database, "test") as connection:
        cursor = await connection.execute(
            "SELECT m.state, m.why, a.outcome FROM message m JOIN message_attempt a"
            " ON a.message = m.id ORDER BY m.seq"
        )
        assert await cursor.fetchall() == [
            ("accepted", "asked", "accepted"), ("cancelled", "asked", "server_error"),
        ]  # fmt: skip
        assert len((await responders.load(connection)).responders) == 1


async def test_an_import_adds_and_replaces_only_when_told(database, tmp_path):
    (tmp_path / "key").write_text(SECRET)
    file = tmp_path / "r.yaml"

    def entries(*names):
        people = [entry(name, "http://127.0.0.1:1/") for name in names]
        file.write_text(json.dumps({"responders": people}))
        return responders.read(file, {"C1"})

    async with connected(database, "test") as connection:
        assert await responders.store(connection, entries("a", "b")) == (2, 0)
        first = await responders.load(connection)
        assert await responders.store(connection, entries("a")) == (0, 0)
        assert await responders.load(connection, first) is first
        assert await responders.store(connection, entries("b", "c"), replace=True) == (1, 1)
        names = [one.name for one in (await responders.load(connection, first)).responders]
        assert names == ["b", "c"]
