"""Bridges beside each other: two shards of a fleet, and a standby with the id of another."""

import asyncio
import json
import secrets
import signal
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
from fix_bridge_rig import BRIDGE_PASSWORD, PASSWORD, Load, Publisher, district, rig

from deploy.local.places import HOST, fill, free_ports, read_template
from ingest.credentials import access
from sizao.topics import READINGS

SILENT_S = 3
MOUNTS = ("s0/", "s1/")
HEARS = '"mqtt.alarm": true'


@pytest.fixture
def name():
    return f"p{secrets.token_hex(3)}"


@pytest.fixture
async def bridge(servers, postgres_db, tmp_path, name):
    async with rig(servers, postgres_db, tmp_path, district(name)) as made:
        yield made


@asynccontextmanager
async def beside(bridge, settings, name=""):
    """A second process of the same district, with its own state and settings; `name`: its id."""
    folder = bridge.folder / "beside"
    folder.mkdir()
    (folder / "mqtt.password").write_text(BRIDGE_PASSWORD)
    other = replace(
        bridge, folder=folder, process=None, publishers={}, extra=settings,
        bridge=name or bridge.bridge,
    )  # fmt: skip
    other.config.write_text(json.dumps(other.settings()))
    try:
        yield other
    finally:
        await other.stop()


def configure(bridge, settings):
    bridge.extra = settings
    bridge.config.write_text(json.dumps(bridge.settings()))


async def says(bridge, words):
    """Both of its lanes."""
    async with asyncio.timeout(30):
        while sum(words in line for line in bridge.log) < 2:  # noqa: ASYNC110 - lines of a process
            await asyncio.sleep(0.05)


async def test_a_standby_relieves_one_that_stands_still_and_is_relieved(bridge, name):
    configure(bridge, {"bridge": {"standby_s": SILENT_S}})
    await bridge.start()
    load = Load(bridge, name)
    running = asyncio.get_running_loop().create_task(load.run(10, 500))
    async with beside(bridge, {"bridge": {"standby": True, "standby_s": SILENT_S}}) as standby:
        await standby.start(ready=False)
        await says(standby, "standing by")
        await asyncio.sleep(SILENT_S + 0.5)  # it has had its time, but the other one speaks
        assert not any("taking over" in line for line in standby.log)
        bridge.process.send_signal(signal.SIGSTOP)
        await says(standby, "taking over")
        await standby.until_ready()
        bridge.process.send_signal(signal.SIGCONT)
        await says(bridge, "broker left")
        await running
        await asyncio.sleep(SILENT_S + 0.5)  # whoever kicks back and forth would have by now
        pair = (bridge, standby)
        connects = [await one.metric("sizao_bridge_alarm_connects_total") for one in pair]
        assert sum(connects) <= 3
        has_it = [HEARS in await one.readiness() for one in pair]
        assert sorted(has_it) == [False, True]
        await pair[has_it.index(True)].kill()
        for _ in range(200):
            load.send()
        await pair[has_it.index(False)].until_ready()
        promised = await load.acknowledged()
        assert len(promised) > 4_000
        assert promised <= (await bridge.readings(READINGS, promised)).keys()
    written = {}
    for one in bridge.frames_of(await bridge.records(READINGS, lambda _: True)):
        written.setdefault(one.writer, []).append(one.sequence)
    assert all(len(found) == len(set(found)) for found in written.values())


async def test_two_shards_bring_each_message_once_under_their_own_names(bridge, name, servers):
    broker, ports = servers.mosquitto, free_ports(2)
    users = {"bridge": BRIDGE_PASSWORD} | dict.fromkeys(bridge.carriers, PASSWORD)
    values = {"HOST": HOST, "S0_PORT": ports[0], "S1_PORT": ports[1]}
    before = broker.extra
    broker.extra = fill(read_template("mosquitto/shards.conf"), values)
    await asyncio.to_thread(broker.set_users, users, access(b"", "bridge", MOUNTS).decode())
    try:
        configure(bridge, {"mqtt": {"mount_point": MOUNTS[0]}})
        await bridge.start()
        async with beside(bridge, {"mqtt": {"mount_point": MOUNTS[1]}}, f"{name}b") as other:
            await other.start()
            for number in range(4):
                carrier = f"{name}-{number}"
                bridge.publishers[carrier] = Publisher(HOST, ports[number % 2], carrier)
            load = Load(bridge, name)
            for _ in range(400):
                load.send()
            promised = await load.acknowledged()
            assert len(promised) == 400
            records = await bridge.records(
                READINGS, lambda found: rows(bridge, other, found) >= 400
            )
            points = [points_of(one, records) for one in (bridge, other)]
    finally:
        broker.extra = before
        await asyncio.to_thread(broker.restart)
    heat = [{bridge.point(f"{name}-{i % 4}", f"h{i}", 1) for i in range(k, 40, 2)} for k in (0, 1)]
    assert [sorted(set(found)) for found in points] == [sorted(one) for one in heat]
    assert sum(map(len, points)) == 400


def points_of(one, records):
    return [point for found in one.frames_of(records) for point in found.point.tolist()]


def rows(bridge, other, records):
    return len(points_of(bridge, records)) + len(points_of(other, records))
