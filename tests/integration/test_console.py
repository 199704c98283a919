"""The console over a real PostgreSQL."""

from __future__ import annotations

import json
import re

import httpx
import pytest
from fix_alerting import get_database, ids, make_district, make_signal, process, view

from alerting import store
from alerting.compose import Composer
from alerting.console import guard, queries
from alerting.console.app import Console, make
from alerting.console.guard import Guard, loopback
from alerting.fold import Item
from alerting.model import Nature
from alerting.responders import EMPTY
from sizao import clock, db
from sizao.db import connected, migrate
from sizao.errors import BadInput
from sizao.registry.load import load
from sizao.signal import Kind, Tier

pytestmark = pytest.mark.slow


def compose():
    return Composer(
        view=view,
        directory=lambda: EMPTY,
        renderers={},
        utc_offset_min=480,
    )


PORT = 8080


class Desk:
    """A console with three incidents, and a client of it."""

    def __init__(self, client):
        self.client = client
        self.url = str(client.base_url).rstrip("/")

    async def listing(self, **filters):
        answer = await self.client.get("/api/incidents", params=filters)
        return answer.json()["incidents"]

    async def first(self):
        return (await self.listing(kind="fire", nature="real"))[0]

    async def act(self, verb, incident=None, **more):
        incident = incident or await self.first()
        body = {"action": f"act-{clock.now_us()}", "expected_version": incident["version"], **more}
        return await self.client.post(f"/api/incidents/{incident['id']}/{verb}", json=body)

    async def form(self, verb, fields, **headers):
        url = f"/api/incidents/{(await self.first())['id']}/{verb}"
        return await self.client.post(url, data=fields, headers=headers)


async def fill(database):
    async with connected(database, "test") as connection:
        await migrate(connection)
        await make_district(connection)
        site, devices = await ids(connection)
        now = clock.now_us()
        found = [
            (make_signal(devices["heat-1"], at=now - 9, site=site), Nature.REAL),
            (make_signal(devices["heat-1"], at=now - 8, site=site, kind=Kind.CO), Nature.REAL),
            (make_signal(devices["test-3"], at=now - 7, site=site, tier=Tier.URGENT), Nature.TEST),
        ]
        items = [Item(signal=one, nature=nature, arrived_us=now) for one, nature in found]
        await store.take(connection, {}, items, now, compose())
        return (await load(connection, 4)).newest


@pytest.fixture
async def desk(servers, postgres_db, tmp_path):
    """The application behind its guard, without a process around it."""
    database = get_database(servers, postgres_db, tmp_path)
    shown = await fill(database)
    async with db.pool(database, "test") as pool:
        console = Console(
            pool=pool, view=lambda: shown, compose=compose(), actor="duty", utc_offset_min=480
        )
        transport = httpx.ASGITransport(Guard(make(console), PORT))
        async with httpx.AsyncClient(
            transport=transport, base_url=f"http://127.0.0.1:{PORT}"
        ) as client:
            one = Desk(client)
            one.pool = pool
            yield one


async def test_in_a_storm_the_counts_are_true_and_every_incident_shows_its_newest_pages(
    desk, monkeypatch
):
    monkeypatch.setattr(queries, "LIST_MAX", 2)
    page = (await desk.client.get("/")).text
    counts = re.findall(r"<li>.*?<b>(\d+|\?)</b></li>", page)
    assert counts == ["0", "2", "0", "2"]  # urgent, alarm, early, not acknowledged
    assert "Only the first" not in page
    monkeypatch.setattr(queries, "LIST_MAX", 1)
    page = (await desk.client.get("/")).text
    assert re.findall(r"<li>.*?<b>(\d+|\?)</b></li>", page) == counts
    assert "Only the first 1 of 2 are shown" in page


async def test_of_each_incident_the_newest_lines_are_read(desk):
    for _ in range(3):
        await desk.act("verdict", verdict="fire")
    first = await desk.first()
    async with desk.pool.connection() as connection:
        found = await queries.timeline(connection, [first["id"]], each=2)
    assert [line["version"] for line in found] == [3, 4]


async def test_from_the_list_to_the_close(desk):
    shown = await desk.listing()
    assert [(one["kind"], one["nature"]) for one in shown] == [
        ("fire", "real"), ("co", "real"), ("fire", "test"),
    ]  # fmt: skip
    assert shown[0]["place"]["zh"] == "坂田街道岗头社区中心围五巷8号3楼302"
    assert shown[0]["evidence"]["values"]["rise_k"] == 6.4
    assert (await desk.listing(nature="test"))[0]["tier"] == "urgent"
    assert await desk.listing(site=12345) == []
    done = await desk.act("acknowledge", actor="wang")
    assert (done.status_code, done.json()["state"]) == (200, "acknowledged")
    done = await desk.act("verdict", verdict="false_alarm", cause="cooking", devices=[1])
    assert done.json()["verdict_devices"] == [1]
    done = (await desk.act("close")).json()
    assert done["state"] == "closed"
    assert [(line["what"], line["actor"]) for line in done["timeline"]] == [
        ("opened", "detect"), ("acknowledged", "wang"), ("verdict", "duty"), ("closed", "duty"),
    ]  # fmt: skip
    assert done["signals"][0]["evidence"]["baseline"] == 21.5
    assert len(await desk.listing()) == 2
    assert (await desk.listing(state="closed"))[0]["id"] == done["id"]
    assert "误报" in (await desk.client.get("/")).text


async def test_whoever_acts_on_old_news_learns_what_changed(desk):
    old = await desk.first()
    assert (await desk.act("acknowledge", old, actor="wang")).status_code == 200
    refused = await desk.act("verdict", old, verdict="fire")
    assert refused.status_code == 409
    answer = refused.json()
    assert answer["error"] == "conflict"
    assert [line["actor"] for line in answer["since"]] == ["wang"]
    assert answer["incident"]["version"] == 2
    assert (await desk.first())["verdict"] is None


async def test_the_same_press_twice_is_one_act(desk):
    old = await desk.first()
    for _ in range(2):
        assert (await desk.act("acknowledge", old, action="press-1")).status_code == 200
    assert (await desk.first())["version"] == 2
    other = (await desk.listing(kind="co"))[0]
    assert (await desk.act("acknowledge", other, action="press-1")).status_code == 409


async def test_wrong_actions_are_refused_with_their_reason(desk):
    for verb, more, status, said in [
        ("close", {}, 409, "cannot be closed"),
        ("verdict", {"verdict": "maybe"}, 422, "verdict"),
        ("verdict", {"verdict": "false_alarm"}, 409, "needs its cause"),
        ("acknowledge", {"surplus": 1}, 422, "surplus"),
        ("acknowledge", {"action": ""}, 422, "action"),
        ("acknowledge", {"action": "a\u0000"}, 422, "action"),
        ("acknowledge", {"actor": "a\u0000"}, 422, "actor"),
        ("verdict", {"verdict": "fire", "devices": [1 << 31]}, 422, "devices"),
        ("explode", {}, 404, "one of"),
    ]:
        refused = await desk.act(verb, **more)
        assert refused.status_code == status
        assert said in refused.json()["reason"]
        assert (await desk.first())["version"] == 1


async def test_an_unknown_incident_is_404(desk):
    assert (await desk.client.get("/api/incidents/nope")).status_code == 404
    assert (await desk.act("close", {"id": "nope", "version": 1})).status_code == 404


async def test_the_page_works_without_scripts(desk):
    page = (await desk.client.get("/")).text
    action = re.search(r'action="(/api/incidents/\w+/acknowledge)"', page)[1]
    fields = dict(re.findall(r'name="(action|expected_version)" value="(\w+)"', page))
    done = await desk.client.post(
        action, data={**fields, "expected_version": "1"}, headers={"origin": desk.url}
    )
    assert (done.status_code, done.headers["location"]) == (303, "/")
    again = await desk.client.post(
        action, data={"action": "x", "expected_version": "1"}, headers={"origin": desk.url}
    )
    assert again.status_code == 409
    assert "没有执行" in again.text
    assert "已确认" in (await desk.client.get("/")).text


async def test_the_page_brings_everything_itself(desk):
    answer = await desk.client.get("/")
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert not re.search(r'(src|href)="(?!data:|/)', answer.text)
    nonce = re.search(r"script-src 'nonce-([\w-]+)'", policy)[1]
    assert f'<script nonce="{nonce}">' in answer.text


async def test_foreign_pages_are_kept_out(desk):
    fields = {"action": "x", "expected_version": "1"}
    get, post = desk.client.get, desk.form
    assert (await get("/", headers={"host": "evil.example"})).status_code == 421
    assert (await get("/api/incidents", headers={"host": "127.0.0.1"})).status_code == 421
    assert (await post("acknowledge", fields)).status_code == 403
    assert (await post("acknowledge", fields, origin="http://evil.example")).status_code == 403
    assert (await post("acknowledge", fields, origin="null")).status_code == 403
    crossed = {"origin": desk.url, "sec-fetch-site": "cross-site"}
    assert (await post("acknowledge", fields, **crossed)).status_code == 403
    plain = {"content-type": "text/plain"}
    url = f"/api/incidents/{(await desk.first())['id']}/acknowledge"
    assert (
        await desk.client.post(url, content=json.dumps(fields), headers=plain)
    ).status_code == 415
    assert (await desk.client.post(url, json={"cause": "x" * 20_000})).status_code == 413
    parts = {"content-length": "2", "transfer-encoding": "chunked", "content-type": guard.JSON}
    assert guard.refusal("POST", {"host": f"localhost:{PORT}", **parts}, PORT)[0] == 411
    assert (await desk.client.put(url)).status_code == 405
    assert (await desk.first())["version"] == 1


async def test_as_a_process_it_outlives_a_killed_database_and_stops_when_told(
    servers, postgres_db, tmp_path
):
    database = get_database(servers, postgres_db, tmp_path)
    await fill(database)
    config, log = tmp_path / "sizao.yaml", tmp_path / "log"
    config.write_text(json.dumps({"database": database.model_dump(), "console": {"port": 0}}))
    with process("console", "--config", str(config), log=log) as running:
        _live_through_a_kill(_page(running, log), servers.postgres)
        running.terminate()
        assert running.wait(10) == 0


def _live_through_a_kill(page, postgres):
    with httpx.Client(base_url=page, timeout=30, trust_env=False) as client:
        assert "坂田街道" in client.get("/").text
        postgres.kill()
        try:
            page = client.get("/")
            assert page.status_code == 503
            # A header of zeros over "the database is away" would read as all quiet.
            assert re.findall(r"<li>.*<b>(.*)</b></li>", page.text) == ["?"] * 4
            assert client.get("/api/incidents").json()["error"] == "away"
            order = {"action": "press", "expected_version": 1}
            act = client.post(f"/api/incidents/{'0' * 32}/acknowledge", json=order)
            assert (act.status_code, act.json()["error"]) == (503, "away")
            assert "nothing was changed; alarms are sent all the same" in act.json()["reason"]
        finally:
            postgres.start()
        end = clock.monotonic_s() + 30
        while client.get("/api/incidents").status_code != 200:
            assert clock.monotonic_s() < end


def _page(running, log):
    end = clock.monotonic_s() + 30
    while not (page := re.search(r'"page": "(http[^"]+)"', log.read_text())):
        assert running.poll() is None, log.read_text()
        assert clock.monotonic_s() < end, log.read_text()
    return page[1]


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.0.1", "::1", "localhost"])
def test_the_loopback_will_do(host):
    assert loopback(host)


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.2", "::", "console.example", ""])
def test_nothing_else_will(host):
    with pytest.raises(BadInput, match="loopback"):
        loopback(host)


def test_as_a_process_it_refuses_to_listen_elsewhere(tmp_path):
    config, log = tmp_path / "sizao.yaml", tmp_path / "log"
    config.write_text(json.dumps({"console": {"host": "0.0.0.0", "port": 0}}))
    with process("console", "--config", str(config), log=log) as running:
        assert running.wait(30) == 2
    assert "loopback" in log.read_text()
