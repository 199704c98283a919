"""The bridge against real Mosquitto, Kafka and PostgreSQL: what was acknowledged is in Kafka."""

import asyncio
import json
import secrets
import ssl
import subprocess
import threading
from dataclasses import replace

import pytest
from fix_bridge import HEAT, SMOKE_HEAT, Device
from fix_bridge_rig import BRIDGE_PASSWORD, PARTITIONS, Load, district, rig
from fix_topics import renew
from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from ingest import rejects
from ingest.device_types.reasons import Reason
from ingest.kept import clock_file, kept_filters
from sizao import clock, signal
from sizao.topics import ALARMS, READINGS, REJECTS, SIGNALS
from sizao.units import BY_NAME, Lane


@pytest.fixture
def name():
    return f"x{secrets.token_hex(3)}"


@pytest.fixture
async def bridge(servers, postgres_db, tmp_path, name):
    async with rig(servers, postgres_db, tmp_path, district(name)) as made:
        yield made


async def test_every_lane_ends_where_it_belongs(bridge, name):
    await bridge.start()
    say = bridge.publisher(f"{name}-s").publish
    say(f"up/{name}-s/alarm/s", '{"state": "alarm", "smoke": 2, "temperature": 60}', 1)
    say(f"up/{name}-s/alarm/n", '{"event": "alarm"}', 2)
    gateway = bridge.publisher(f"{name}-g").publish
    gateway(f"up/{name}-g/telemetry", '{"keys": ["t"], "temperatures": [21]}', 3)

    def rows(records):
        return {
            (point, round(value, 3))
            for one in bridge.frames_of(records)
            for point, value in zip(one.point.tolist(), one.value.tolist(), strict=True)
        }

    def point(key, quantity, carrier="s"):
        return bridge.point(f"{name}-{carrier}", key, BY_NAME[quantity].code)

    alarms = {(point("s", "fire_state"), 1.0), (point("n", "fire_state"), 1.0)}
    readings = {
        (point("s", "smoke_od_per_m"), 0.2),
        (point("s", "temperature_c"), 60.0),
        (point("n", "heard"), 1.0),
        (point("t", "temperature_c", "g"), 21.0),
    }
    found = await bridge.records(ALARMS, lambda records: rows(records) >= alarms)
    assert rows(found) == alarms
    found = await bridge.records(READINGS, lambda records: rows(records) >= readings)
    assert rows(found) == readings
    for record in found:
        (one,) = bridge.frames_of([record])
        assert record.timestamp_ms == one.received_us // 1000
        view = bridge.registry.newest
        assert {int(view.point_partition[point]) for point in one.point} <= {record.partition}


async def test_heartbeats_on_every_partition_and_a_clock_that_never_goes_back(bridge):
    await bridge.start()

    def seen(records):
        counts = {}
        for record in records:
            for one in bridge.frames_of([record]):
                pair = one.writer.partition(".")[2], record.partition
                counts[pair] = counts.get(pair, 0) + 1
        return counts

    def enough(records):
        counts = seen(records)
        return len(counts) == 2 * PARTITIONS and min(counts.values()) >= 3

    found = await bridge.records(READINGS, enough)
    assert enough(found)
    await bridge.kill()
    await bridge.start()
    found = await bridge.records(READINGS, lambda now: len(now) > len(found) + 4 * PARTITIONS)
    frames = bridge.frames_of(found)
    for writer in {one.writer for one in frames}:
        mine = sorted((one.sequence, one.received_us) for one in frames if one.writer == writer)
        assert len({sequence for sequence, _ in mine}) == len(mine)
        assert [received for _, received in mine] == sorted(received for _, received in mine)


async def test_what_cannot_be_read_is_kept_byte_for_byte_and_the_stream_goes_on(bridge, name):
    await bridge.start()
    telemetry, alarm = f"up/{name}-0/telemetry", f"up/{name}-s/alarm"
    long_key = "k" * 30_000
    bad = [
        (f"{telemetry}/h0", b"\xff\x00{", Reason.NOT_JSON),
        (f"{telemetry}/h0", b'{"temperature": NaN}', Reason.NOT_FINITE),
        (f"{telemetry}/h0", b'{"temperature": "21"}', Reason.WRONG_TYPE),
        (f"{telemetry}/nobody", b'{"temperature": 21}', Reason.UNKNOWN_DEVICE),
        (f"{telemetry}/h1", b'{"temperature": 21}', Reason.NOT_YOURS),
        (f"{telemetry}/h0", b"x" * 1_048_000, Reason.TOO_LARGE),
        (f"{telemetry}/h0", b"", Reason.NOT_JSON),
        (f"{telemetry}/{long_key}", b"{}", Reason.UNKNOWN_DEVICE),
        (f"{alarm}/a/b/c", b"fire", Reason.UNKNOWN_TOPIC),
        (f"{alarm}/s", b"fire", Reason.NOT_JSON),
        (f"{alarm}/planned", b'{"state": "alarm"}', Reason.NOT_IN_SERVICE),
    ]
    for number, (topic, payload, _) in enumerate(bad):
        bridge.publisher(topic.split("/")[1]).publish(topic, payload, number)
    load = Load(bridge, name)
    for _ in range(100):
        load.send()
    promised = await load.acknowledged()
    assert promised <= (await bridge.readings(READINGS, promised)).keys()

    def mine(records):
        found = [rejects.read(record.value, record.headers) for record in records]
        return [one for one in found if one.bridge == bridge.bridge]

    records = await bridge.records(REJECTS, lambda found: len(mine(found)) >= len(bad))
    got = {(one.topic.decode(), one.payload, one.reason) for one in mine(records)}
    assert got == set(bad)
    for record in records:
        one = rejects.read(record.value, record.headers)
        assert record.partition == rejects.partition_of(one.carrier, PARTITIONS)
    await unread_signals_tell(bridge, name)
    assert await bridge.metric("sizao_bridge_telemetry_rejects_total") == 8
    assert await bridge.metric("sizao_bridge_alarm_unread_total") == 3
    assert await bridge.metric("sizao_bridge_alarm_unread_signals_total") == 3


async def unread_signals_tell(bridge, name):
    view = bridge.registry.newest
    devices = view.roster[f"{name}-s"]

    def said(records):
        found = [signal.decode(record.value, record.headers) for record in records]
        known = {f"{name}-s", str(devices["s"]), str(devices["planned"])}
        return {one.subject.id: one for one in found if one.subject.id in known}

    records = await bridge.records(SIGNALS, lambda found: len(said(found)) == 3)
    told = said(records)
    assert told[f"{name}-s"].evidence["reason"] == "unknown_topic"
    assert told[str(devices["s"])].evidence["payload_text"] == "fire"
    assert told[str(devices["planned"])].device == devices["planned"]
    assert all(one.kind is signal.Kind.UNREAD for one in told.values())
    site = int(view.device_site[devices["s"]])
    assert {one.site for one in told.values()} >= {site}


async def test_a_new_device_flows_without_a_restart(bridge, name):
    await bridge.start()
    late = Device("late", HEAT, carrier=f"{name}-0")
    bridge.devices.append(late)
    await bridge.settle_registry()
    point = bridge.point(f"{name}-0", "late", 1)
    generation = bridge.registry.generation
    publisher = bridge.publisher(f"{name}-0")
    for number in range(100):
        publisher.publish(f"up/{name}-0/telemetry/late", f'{{"temperature": {number}}}', number)
        found = await bridge.readings(READINGS, wait_s=0.3)
        if point in {of for of, _ in found}:
            break
    assert point in {of for of, _ in found}
    frames = bridge.frames_of(await bridge.records(READINGS, lambda _: True))
    assert all(one.generation == generation for one in frames if point in one.point)


async def test_a_clock_that_was_once_wrong_ends_nothing(bridge, name, tmp_path):
    """Kafka refused for good what was an hour ahead, and at each start the kept stamp was back."""
    (tmp_path / "state").mkdir()
    ahead_us = 3 * 3_600_000_000
    clock_file(tmp_path / "state", Lane.ALARM).write_text(str(clock.now_us() + ahead_us))
    try:
        await bridge.start()
        load = Load(bridge, name)
        for _ in range(100):
            load.send()
        promised = await load.acknowledged()
        assert promised <= (await bridge.readings(READINGS, promised)).keys()

        def beats(records):
            return sum(not one.rows for one in bridge.frames_of(records)) >= 6 * PARTITIONS

        found = await bridge.records(READINGS, beats)
        assert beats(found), "both lanes' heartbeats go on"
        stamps = {one.received_us for one in bridge.frames_of(found)}
        assert min(stamps) > clock.now_us() + ahead_us / 2
        said = json.loads(await bridge.page("/readyz"))
        assert said["clock_ahead_s"] > 3 * 3_500
        assert await bridge.metric("sizao_bridge_clock_ahead_seconds") > 3 * 3_500
    finally:
        await renew(bridge.kafka)  # other tests ask the log for times


async def test_progress_has_both_lanes(bridge, name):
    await bridge.start()
    load = Load(bridge, name)
    load.send()
    bridge.publisher(f"{name}-s").publish(f"up/{name}-s/alarm/n", '{"event": "alarm"}', 1)
    async with asyncio.timeout(20):
        while True:
            told = json.loads(await bridge.page("/progress"))
            if len(told["record_age_s"]) == 4:
                break
            await asyncio.sleep(0.05)
    lanes = ("alarm", "telemetry")
    assert set(told["record_age_s"]) == {f"{lane}.{way}" for lane in lanes for way in ("in", "out")}
    assert set(told["oldest_unacknowledged_s"]) == set(lanes)


async def test_what_is_no_longer_wanted_leaves_the_session(bridge, name, tmp_path):
    """In the middle of a connection, and after a restart: the broker's session outlives both."""

    async def speaking_on(word):
        text = SMOKE_HEAT.replace("{carrier}/alarm/{key}", f"{{carrier}}/{word}/{{key}}")
        one = Device("s", text, carrier=f"{name}-s", site=3)
        bridge.devices = [d for d in bridge.devices if d.key not in {"s", "planned"}] + [one]
        bridge.devices.append(replace(one, key="planned", state="planned"))
        await bridge.settle_registry()

    async def subscribed_to(word):
        wanted = {"up/+/alarm/#", f"up/+/{word}/+"}
        async with asyncio.timeout(20):
            while kept_filters(tmp_path / "state", Lane.ALARM) != wanted:  # noqa: ASYNC110 - a file
                await asyncio.sleep(0.05)

    await speaking_on("one")
    await bridge.start()
    await subscribed_to("one")
    await speaking_on("two")
    await subscribed_to("two")
    await bridge.kill()
    await speaking_on("three")
    await bridge.start()
    await subscribed_to("three")
    await bridge.kill()
    publisher = bridge.publisher(f"{name}-s")
    for word in ("one", "two", "three"):
        publisher.publish(f"up/{name}-s/{word}/s", "{}", word)
    await publisher.drain()
    got = await asyncio.to_thread(session_of, bridge, f"up/{name}-s/three/s")
    assert got == [f"up/{name}-s/three/s"]


def session_of(bridge, last):
    """Topics of what the broker holds for the bridge's alarm connection, up to `last`."""
    got, there = [], threading.Event()
    client = paho.Client(
        CallbackAPIVersion.VERSION2,
        client_id=f"{bridge.bridge}.alarm",
        protocol=MQTTProtocolVersion.MQTTv5,
    )

    def take(_client, _user, found):
        got.append(found.topic)
        if found.topic == last:
            there.set()

    client.on_message = take
    client.username_pw_set("bridge", BRIDGE_PASSWORD)
    broker = bridge.servers.mosquitto
    client.connect(broker.host, broker.port, clean_start=False)
    client.loop_start()
    assert there.wait(10)
    client.disconnect()
    client.loop_stop()
    return got


async def test_a_broken_type_file_at_the_first_start_starts_nothing(bridge, tmp_path):
    own = tmp_path / "types" / "acme"
    own.mkdir(parents=True)
    (own / "heat.yaml").write_text(HEAT.replace("unit: degC", "unit: C"))
    bridge.extra = {"bridge": {"device_types": str(tmp_path / "types")}}
    bridge.config.write_text(json.dumps(bridge.settings()))
    await bridge.start(ready=False)
    assert await bridge.process.wait() == 2
    await bridge._reading
    line = next(n for n, text in enumerate(HEAT.splitlines(), 1) if "unit: degC" in text)
    told = "".join(bridge.log)
    assert f"heat.yaml:{line}: quantities.temperature_c.unit: got 'C', which does not fit" in told
    assert "started" not in told


@pytest.mark.parametrize("fault", ["mqqt: {}", "mqtt: {prt: 1}", "bridge: {id: 'B 0'}"])
async def test_a_broken_setting_at_the_first_start_starts_nothing(bridge, fault):
    bridge.config.write_text(fault)
    await bridge.start(ready=False)
    assert await bridge.process.wait() == 2
    await bridge._reading
    assert "sizao.yaml:1: " in "".join(bridge.log)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """Self-signed, for localhost. openssl is there wherever ca-certificates is."""
    folder = tmp_path_factory.mktemp("tls")
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2"
    command += " -keyout key.pem -out cert.pem -subj /CN=localhost"
    command += " -addext subjectAltName=DNS:localhost"
    subprocess.run(command.split(), cwd=folder, check=True, capture_output=True)
    return folder


@pytest.fixture
async def tls_port(servers, certificate):
    """A port that speaks TLS and passes everything on to the broker."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate / "cert.pem", certificate / "key.pem")
    broker = servers.mosquitto

    serving = set()

    async def copy(source, sink):
        while block := await source.read(65_536):
            sink.write(block)
            await sink.drain()
        sink.close()

    async def serve(reader, writer):
        serving.add(asyncio.current_task())
        inner_reader, inner_writer = await asyncio.open_connection(broker.host, broker.port)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(copy(reader, inner_writer))
                group.create_task(copy(inner_reader, writer))
        except* OSError:
            pass
        finally:
            for sink in (inner_writer, writer):
                sink.transport.abort()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    yield server.sockets[0].getsockname()[1]
    server.close()
    for task in serving:
        task.cancel()
    if serving:
        await asyncio.wait(serving)
    await asyncio.sleep(0)  # aborted transports close at the loop's next turn


@pytest.mark.parametrize("trusted", [True, False])
async def test_the_broker_over_tls(bridge, name, tls_port, certificate, trusted):
    authorities = {"ca_file": str(certificate / "cert.pem")} if trusted else {}
    bridge.extra = {"mqtt": {"host": "localhost", "port": tls_port, "tls": authorities}}
    bridge.config.write_text(json.dumps(bridge.settings()))
    await bridge.start(ready=trusted)
    if not trusted:
        async with asyncio.timeout(20):
            await bridge.told("certificate verify failed")
        return
    load = Load(bridge, name)
    for _ in range(500):
        load.send()
    promised = await load.acknowledged()
    assert len(promised) == 500
    assert promised <= (await bridge.readings(READINGS, promised)).keys()
