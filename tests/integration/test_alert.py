"""`sizao alert` as a process, between a real Kafka, a real PostgreSQL and a real receiver."""

from __future__ import annotations

import asyncio
import json
import re
import signal as os_signal
import urllib.error
import urllib.request

import pytest
import standardwebhooks
from fix_alerting import (
    MINUTE,
    OLD_SECRET,
    SECRET,
    process,
    receiver,
)
from fix_house import get

from sizao import clock, frame, topics
from sizao.kafka import Reader
from sizao.signal import Tier

pytestmark = pytest.mark.slow


async def test_a_fire_is_an_incident_a_signed_page_and_a_record_for_the_exchange(house):
    await house.start_here()
    with receiver() as station:
        await house.respond(station.url)
        log = house.folder / "log"
        with process("alert", "--config", house.configure(), log=log) as running:
            fire = house.fire()
            await house.say(fire)
            (got,) = station.wait(1)
            await house.until("SELECT count(*) = 1 FROM message WHERE state = 'accepted'")
            await house.until("SELECT count(*) = 0 FROM outbox")
            running.terminate()
            assert running.wait(10) == 0
    assert not [secret for secret in (SECRET, OLD_SECRET) if secret[6:] in log.read_text()]
    for secret in (SECRET, OLD_SECRET):
        event = standardwebhooks.Webhook(secret).verify(got.body, got.headers)
    assert len(got.body) < 20_000
    data = event["data"]
    assert event["type"] == "cn.sizao.incident.opened.v1"
    assert event["specversion"] == "1.0"
    assert data["place"]["zh"] == "坂田街道岗头社区中心围五巷8号3楼302"
    assert data["devices"][0]["key"] == "heat-1"
    assert data["evidence"]["values"]["rise_k"] == 6.4
    assert data["nature"] == "real"
    assert "见火先拨119" in data["text"]["zh"]
    ((incident, tier, state),) = await house.ask("SELECT id, tier, state FROM incident")
    assert (data["incident"], "alarm", "open") == (incident, tier, state)
    (attempt,) = await house.ask("SELECT attempt, outcome, status FROM message_attempt")
    assert attempt == (1, "accepted", 204)
    exchange = await _exchange(house, incident)
    assert [record["what"] for record in exchange] == ["opened"]


async def _exchange(house, incident):
    partitions = [(topics.INCIDENTS.name, number) for number in range(4)]
    reader = Reader(house.log, partitions, client_id="test")
    await reader.start()
    for one, start in (await reader.starts()).items():
        reader.seek(one, start)
    found, left = [], sum((await reader.ends()).values())
    while left > 0:
        records = await reader.fetch(500)
        left -= len(records)
        for record in records:
            headers = dict(record.headers)
            frame.check_crc(record.value, record.headers)
            if headers["ce_subject"].decode() == incident:
                assert record.partition == int(incident[:8], 16) % 4
                found.append(json.loads(record.value))
    await reader.stop()
    return found


async def test_killed_between_acceptance_and_record_it_sends_again_under_the_same_id(house):
    await house.start_here()
    running = []

    def kill_on_first(number, _):
        if number == 1:
            running[0].send_signal(os_signal.SIGKILL)
            running[0].wait()
        return 204

    with receiver(kill_on_first) as station:
        await house.respond(station.url)
        config, log = house.configure(), house.folder / "log"
        with process("alert", "--config", config, log=log) as first:
            running.append(first)
            await house.say(house.fire())
            station.wait(1)
            assert first.wait(10) == -os_signal.SIGKILL
        with process("alert", "--config", config, log=log):
            got = station.wait(2)
            await house.until("SELECT count(*) = 1 FROM message WHERE state = 'accepted'")
    assert got[0].headers["webhook-id"] == got[1].headers["webhook-id"]
    assert got[0].body == got[1].body
    attempts = await house.ask("SELECT attempt, outcome FROM message_attempt ORDER BY attempt")
    assert attempts == [(1, "unknown"), (2, "accepted")]
    assert await house.ask("SELECT count(*) FROM incident") == [(1,)]


async def test_test_devices_and_canaries_page_nobody_and_real_fire_beside_them_does(house):
    await house.start_here()
    with receiver() as station:
        await house.respond(station.url)
        with process("alert", "--config", house.configure(), log=house.folder / "log"):
            await house.say(
                house.fire("test-3", tier=Tier.URGENT),
                house.fire("canary-4"),
                house.fire("heat-1", self_test=True),
                house.fire("heat-2"),
            )
            (got,) = station.wait(1)
            await house.until("SELECT count(*) = 4 FROM signal")
            await house.until("SELECT count(*) = 0 FROM message WHERE state = 'due'")
    assert json.loads(got.body)["data"]["devices"][0]["key"] == "heat-2"
    assert len(station.got) == 1
    natures = await house.ask("SELECT nature, members FROM incident ORDER BY nature")
    assert natures == [("canary", 1), ("real", 1), ("test", 2)]


async def test_a_database_that_comes_back_finds_the_fire_of_its_absence(house, servers):
    await house.start_here()
    with receiver() as station:
        await house.respond(station.url)
        with process("alert", "--config", house.configure(), log=house.folder / "log") as alert:
            await house.say(house.fire("test-3"))
            await house.until("SELECT count(*) = 1 FROM signal")
            servers.postgres.kill()
            try:
                await house.say(house.fire())
                await asyncio.sleep(1)
                assert not station.got
            finally:
                servers.postgres.start()
            back = clock.monotonic_s()
            station.wait(1, 30)
            assert clock.monotonic_s() - back < 30
            assert alert.poll() is None


async def test_it_says_that_kafka_is_away_though_nothing_is_said(house, servers):
    await house.start_here()
    log = house.folder / "log"
    with receiver() as station:
        await house.respond(station.url)
        with process("alert", "--config", house.configure(), log=log) as alert:
            await house.say(house.fire("test-3"))
            await house.until("SELECT count(*) = 1 FROM signal")
            page = re.search(r'"http": "(http[^"]+)"', log.read_text())[1]
            assert await _kafka_is(page, there=True)
            await asyncio.to_thread(servers.kafka.kill)
            try:
                assert await _kafka_is(page, there=False)
            finally:
                await asyncio.to_thread(servers.kafka.start)
            await house.say(house.fire())
            station.wait(1, 30)
            assert await _kafka_is(page, there=True)
            assert alert.poll() is None


async def _kafka_is(page, *, there):
    """Whether /readyz comes to say so of Kafka."""
    until_s = clock.monotonic_s() + 20
    while clock.monotonic_s() < until_s:
        try:
            ready = json.loads(get(f"{page}/readyz"))["ready"]
        except urllib.error.HTTPError as error:
            with error:
                ready = json.loads(error.read())["ready"]
        if ready.get("kafka") is there:
            return True
        await asyncio.sleep(0.2)
    return False


async def test_two_alerts_on_one_log_page_once(house):
    await house.start_here()
    with receiver() as station:
        await house.respond(station.url)
        first = house.configure()
        second = house.folder / "second" / "sizao.yaml"
        second.parent.mkdir()
        second.write_text(house.config.read_text().replace('"name": "a0"', '"name": "a1"'))
        with (
            process("alert", "--config", first, log=house.folder / "log"),
            process("alert", "--config", str(second), log=house.folder / "log2"),
        ):
            for minute in range(20):
                now = clock.now_us()
                await house.say(
                    *(house.fire(at=now + n, tier=tier) for n, tier in enumerate(Tier)),
                    house.fire("heat-2", at=now + minute * MINUTE),
                )
            await house.until("SELECT count(*) = 80 FROM signal")
            await house.until("SELECT count(*) = 0 FROM message WHERE state = 'due'")
    whats = [row[0] for row in await house.ask("SELECT what FROM transition ORDER BY version")]
    assert whats == ["opened", "raised", "raised", "joined"]
    sent = {got.headers["webhook-id"] for got in station.got}
    assert len(sent) == len(station.got) == len(whats)


@pytest.mark.parametrize("known", ["nothing", "more_than_there_is"])
async def test_without_an_offset_in_the_log_it_reads_what_there_is(house, known):
    fire = house.fire()
    await house.say(fire)
    if known != "nothing":
        await house.start_here()
        now_ms = clock.now_us() // 1000
        await house.ask(
            "UPDATE alert_offset SET next_offset = 1000000, arrived_ms = %s RETURNING 1", now_ms
        )
    with process("alert", "--config", house.configure(), log=house.folder / "log"):
        await house.until(f"SELECT count(*) = 1 FROM signal WHERE id = '{fire.id}'")
        more = house.fire("heat-2")
        await house.say(more)
        await house.until(f"SELECT count(*) = 1 FROM signal WHERE id = '{more.id}'")
    where = "SELECT next_offset FROM alert_offset WHERE partition = 1 AND topic = %s"
    ((place,),) = await house.ask(where, topics.SIGNALS.name)
    assert 0 < place < 1_000_000
