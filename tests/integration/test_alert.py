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
    get_database,
    ids,
    make_district,
    make_signal,
    process,
    receiver,
)

from alerting import contacts
from sizao import clock, frame, kafka, topics
from sizao import signal as signals
from sizao.db import connected, migrate
from sizao.kafka import KafkaSettings, Outgoing, Producer, Reader
from sizao.registry.write import Change, DeviceRow, apply
from sizao.signal import Tier

pytestmark = pytest.mark.slow


@pytest.fixture
async def house(servers, postgres_db, tmp_path):
    """A migrated, peopled database and a settings file; topics are shared by the run."""
    place = servers.addresses
    database = get_database(servers, postgres_db, tmp_path)
    log = KafkaSettings(bootstrap=place.kafka_bootstrap)
    async with connected(database, "test") as connection:
        await migrate(connection)
        await make_district(connection)
        site, devices = await ids(connection)
    await kafka.make_topics(log, partitions=4)
    return House(database, log, site, devices, tmp_path)


class House:
    def __init__(self, database, log, site, devices, folder):
        self.database, self.log, self.folder = database, log, folder
        self.site, self.devices = site, devices
        self.secret = folder / "station.key"
        self.secret.write_text(f"{SECRET}\n{OLD_SECRET}\n")
        self.config = folder / "sizao.yaml"

    def configure(self):
        settings = {
            "kafka": self.log.model_dump(),
            "database": self.database.model_dump(),
            "alert": {"name": "a0", "delivery": {"attempt_deadline_s": 2, "poll_s": 0.2}},
        }
        self.config.write_text(json.dumps(settings))
        return str(self.config)

    async def respond(self, url, **more):
        entry = {
            "name": "station",
            "area": "C1",
            "kinds": ["fire"],
            "min_tier": "early",
            "channels": [{"channel": "webhook", "url": url, "secret_file": str(self.secret)}],
            **more,
        }
        file = self.folder / "responders.yaml"
        file.write_text(json.dumps({"responders": [entry]}))
        async with connected(self.database, "test") as connection:
            await contacts.store(connection, contacts.read(file, {"D", "C1", "S1"}))

    async def start_here(self):
        """Offsets at the log's end: other tests have written into the same topics."""
        names = [topics.SIGNALS.name, topics.CONDITIONS.name]
        reader = Reader(self.log, [(n, p) for n in names for p in range(4)], client_id="test")
        await reader.start()
        ends = await reader.ends()
        await reader.stop()
        async with connected(self.database, "test") as connection:
            for (topic, partition), end in ends.items():
                await connection.execute(
                    "INSERT INTO alert_offset VALUES (%s, %s, %s, %s)", (topic, partition, end, 0)
                )

    async def say(self, *found, topic=topics.SIGNALS):
        records = []
        for one in found:
            value = one if isinstance(one, bytes) else signals.encode(one)
            headers = (
                [(frame.CRC_HEADER, frame.crc(value))]
                if isinstance(one, bytes)
                else signals.headers(one, value)
            )
            records.append(Outgoing(topic=topic.name, partition=1, value=value, headers=headers))
        producer = Producer(self.log, client_id="test")
        await producer.start()
        await producer.send(records)
        await producer.stop()

    async def ask(self, query, *parameters, run=False):
        """Rows of a query; `run`: a statement that has none."""
        async with connected(self.database, "test") as connection:
            cursor = await connection.execute(query, parameters)
            return [] if run else await cursor.fetchall()

    async def told(self, log, text, deadline_s=20):
        """Wait until the log says so."""
        end = clock.monotonic_s() + deadline_s
        while text not in log.read_text():
            assert clock.monotonic_s() < end, f"never said: {text}"
            await asyncio.sleep(0.05)

    async def until(self, query, deadline_s=20):
        """Poll the database until a query says yes."""
        end = clock.monotonic_s() + deadline_s
        while clock.monotonic_s() < end:
            (row,) = await self.ask(query)
            if row[0]:
                return
            await asyncio.sleep(0.05)
        raise AssertionError(query)

    def fire(self, device="heat-1", **more):
        more = {"at": clock.now_us(), **more}
        return make_signal(self.devices[device], site=self.site, **more)


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


def _get(url):
    with urllib.request.urlopen(url) as answer:
        return answer.read().decode()


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
            series = _get(f"{page}/metrics")
            assert 'sizao_alert_bad_records_total{reason="headers"} 1.0' in series
            assert 'sizao_alert_bad_records_total{reason="bounds"} 1.0' in series
            assert 'sizao_alert_attempts_total{outcome="gone"} 0.0' in series
            assert "sizao_alert_signal_to_first_send_seconds_count 2.0" in series
            ready = json.loads(_get(f"{page}/readyz"))
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
            series = _get(f"{page}/metrics")
    assert 'sizao_alert_bad_records_total{reason="store_refused"} 1.0' in series
    assert "sizao_alert_stored_bare_total 1.0" in series


async def test_a_fault_of_the_schema_is_waited_out_and_skips_no_fire(house):
    await house.start_here()
    await house.ask("ALTER TABLE message RENAME COLUMN why TO gone", run=True)
    with receiver() as station:
        await house.respond(station.url)
        log = house.folder / "log"
        with process("alert", "--config", house.configure(), log=log) as running:
            await house.say(house.fire())
            await house.told(log, "not the records' fault")
            await house.ask("ALTER TABLE message RENAME COLUMN gone TO why", run=True)
            station.wait(1)
            assert running.poll() is None


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
            ready = json.loads(_get(f"{page}/readyz"))["ready"]
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
