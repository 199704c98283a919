"""What dies under the bridge, or with it: what was acknowledged is in Kafka all the same."""

import asyncio
import json
import secrets

import pytest
from fix_bridge_rig import Load, district, rig

from sizao import clock
from sizao.topics import READINGS


@pytest.fixture
def name():
    return f"x{secrets.token_hex(3)}"


@pytest.fixture
async def bridge(servers, postgres_db, tmp_path, name):
    async with rig(servers, postgres_db, tmp_path, district(name)) as made:
        yield made


async def killed_under_load(bridge, name):
    """Publish for four seconds, kill -9 and start again, twice. What the broker has promised."""
    await bridge.start()
    load = Load(bridge, name)
    running = asyncio.get_running_loop().create_task(load.run(4, 1_000))
    for _ in range(2):
        await asyncio.sleep(1.2)
        await bridge.kill()
        await bridge.start(ready=False)
    await running
    await bridge.until_ready()
    return await load.acknowledged()


async def test_kill_9_under_load_loses_nothing_that_was_acknowledged(bridge, name):
    promised = await killed_under_load(bridge, name)
    assert len(promised) > 1_000
    found = await bridge.readings(READINGS, promised)
    assert promised <= found.keys()


EARLY = """
import asyncio
from ingest.lane import LaneLoop

write = LaneLoop._write

async def early(self, effects):
    if self._connection is not None:
        self._connection.acknowledge(effects.messages)
        self._connection.flush()
    await asyncio.sleep(0.2 if effects.messages else 0)
    await write(self, effects)

LaneLoop._write = early
from sizao.cli import main
main()
"""


async def test_the_oracle_turns_red_when_the_acknowledgement_comes_before_kafka(bridge, name):
    bridge.entry = ("-c", EARLY)
    promised = await killed_under_load(bridge, name)
    found = await bridge.readings(READINGS, promised, wait_s=8)
    assert promised - found.keys(), "an acknowledgement before Kafka must be noticed"


async def test_kafka_killed_under_load_loses_nothing(bridge, name, servers):
    await bridge.start()
    load = Load(bridge, name)
    running = asyncio.get_running_loop().create_task(load.run(6, 1_000))
    await asyncio.sleep(1)
    await asyncio.to_thread(servers.kafka.kill)
    said, since_s = len(bridge.log), clock.monotonic_s()
    try:
        await asyncio.sleep(4)
        text = await bridge.readiness()
        assert '"kafka.telemetry": false' in text
        away_s = clock.monotonic_s() - since_s
        assert len(bridge.log) - said < 5 * away_s, "".join(bridge.log[said:])
    finally:
        await asyncio.to_thread(servers.kafka.start)
    await running
    promised = await load.acknowledged()
    assert len(promised) > 2_000
    found = await bridge.readings(READINGS, promised)
    assert promised <= found.keys()


async def test_servers_that_are_absent_at_the_start_are_waited_for(bridge, name, servers):
    await asyncio.to_thread(servers.kafka.stop)
    await asyncio.to_thread(servers.mosquitto.stop)
    try:
        await bridge.start(ready=False)
        await bridge.told('"what": "mqtt.telemetry"')
        await asyncio.to_thread(servers.mosquitto.start)
        await bridge.until_ready()
        load = Load(bridge, name)
        for _ in range(200):
            load.send()
        promised = await load.acknowledged()
    finally:
        for server in (servers.mosquitto, servers.kafka):
            if not server.child.alive():
                await asyncio.to_thread(server.start)
    assert len(promised) == 200
    assert promised <= (await bridge.readings(READINGS, promised)).keys()


async def test_mosquitto_restarted_the_bridge_comes_back_with_its_session(bridge, name, servers):
    await bridge.start()
    load = Load(bridge, name)
    for _ in range(200):
        load.send()
    first = await load.acknowledged()
    assert await bridge.readings(READINGS, first)
    await asyncio.to_thread(servers.mosquitto.restart)
    for _ in range(200):
        load.send()
    promised = await load.acknowledged()
    assert len(promised) == 400
    assert promised <= (await bridge.readings(READINGS, promised)).keys()
    assert await bridge.metric("sizao_bridge_telemetry_sessions_lost_total") == 0
    assert await bridge.metric("sizao_bridge_telemetry_connects_total") == 2


async def test_mosquitto_killed_under_load_loses_at_most_its_last_second(bridge, name, servers):
    await bridge.start()
    load = Load(bridge, name)
    running = asyncio.get_running_loop().create_task(load.run(5, 500))
    await asyncio.sleep(3)
    before_s = clock.monotonic_s()
    await asyncio.to_thread(servers.mosquitto.kill)
    killed_s = clock.monotonic_s()
    await asyncio.to_thread(servers.mosquitto.start)
    await running
    promised = await load.acknowledged()
    at_s = {}
    for publisher in load.publishers:
        at_s |= publisher.acknowledged_s
    safe = {token for token in promised if not before_s - 1 < at_s[token] <= killed_s}
    assert len(safe) > 500
    assert safe <= (await bridge.readings(READINGS, safe)).keys()


async def test_the_registry_cache_serves_while_the_database_is_away(bridge, name, servers):
    await bridge.start()
    await bridge.kill()
    await asyncio.to_thread(servers.postgres.stop)
    try:
        await bridge.start()
        load = Load(bridge, name)
        for _ in range(40):
            load.send()
        promised = await load.acknowledged()
        assert promised <= (await bridge.readings(READINGS, promised)).keys()
    finally:
        await asyncio.to_thread(servers.postgres.start)


async def test_wrong_clocks_and_a_payload_too_large_cost_their_neighbours_nothing(bridge, name):
    """A bridge in wide use lost 1,286 healthy messages to four whose clocks were ahead."""
    await bridge.start()
    load = Load(bridge, name)
    ahead_s = clock.now_us() / 1e6 + 7200
    topic = f"up/{name}-0/telemetry/h0"
    for number in range(400):
        load.send()
        if number % 100 == 50:
            load.publishers[0].publish(topic, json.dumps({"temperature": 9, "ts": ahead_s}), number)
        if number == 200:
            load.publishers[0].publish(topic, b"x" * 1_048_000, number)
    promised = await load.acknowledged()
    assert len(promised) == 400
    found = await bridge.readings(READINGS, promised)
    assert promised <= found.keys()
    assert max(found[one] for one in promised) == 1
    assert await bridge.metric("sizao_bridge_telemetry_clock_corrected_total") == 4
    assert await bridge.metric("sizao_bridge_telemetry_rejects_total") == 1
