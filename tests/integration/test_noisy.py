"""One device floods the telemetry lane of a real bridge: others lose nothing, an alarm passes."""

import asyncio
import json
import secrets

from fix_bridge import HEAT, SMOKE_HEAT, Device
from fix_bridge_rig import rig

from ingest import rejects
from ingest.device_types.reasons import Reason
from sizao import clock
from sizao.topics import ALARMS, READINGS, REJECTS
from sizao.units import BY_NAME

FLOOD = 12_000
BUDGET = {"device_per_s": 20, "device_burst": 1_000}
OTHERS = 20
ROUNDS = 4
ALARM_S_MAX = 1.0  # design.md, section 5: acknowledged to signal


async def test_one_device_floods_and_the_others_notice_nothing(servers, postgres_db, tmp_path):
    name = f"x{secrets.token_hex(3)}"
    devices = [Device("loud", HEAT, carrier=f"{name}-l", site=1)]
    devices += [Device(f"h{n}", HEAT, carrier=f"{name}-o", site=n) for n in range(OTHERS)]
    devices.append(Device("s", SMOKE_HEAT, carrier=f"{name}-a", site=1))
    extra = {"bridge": {"telemetry_budget": BUDGET}}
    async with rig(servers, postgres_db, tmp_path, devices, extra=extra) as bridge:
        await bridge.start()
        base_ms = clock.now_us() // 1000 - 3_600_000
        loud, others, alarm = (bridge.publisher(f"{name}-{one}") for one in "loa")

        def say(publisher, topic, key, number):
            at_ms = base_ms + number
            raw = json.dumps({"temperature": 21, "ts": at_ms / 1000})
            publisher.publish(topic, raw, (key, at_ms * 1000))

        for number in range(FLOOD):
            say(loud, f"up/{name}-l/telemetry/loud", "loud", number)
        began_us = clock.now_us()
        for number in range(ROUNDS):
            for each in range(OTHERS):
                say(others, f"up/{name}-o/telemetry/h{each}", f"h{each}", number)
            if number == 1:
                said_us = clock.now_us()
                alarm.publish(f"up/{name}-a/alarm/s", '{"state": "alarm", "smoke": 2}', "alarm")
            await asyncio.sleep(0.5)  # they speak at their pace; nothing is waited for

        assert len(others._tokens) == ROUNDS * OTHERS
        await others.drain()
        point = {
            key: bridge.point(f"{name}-o", key, BY_NAME["temperature_c"].code)
            for key in (f"h{n}" for n in range(OTHERS))
        }
        promised = {(point[key], at_us) for key, at_us in others.acknowledged}
        assert len(promised) == ROUNDS * OTHERS
        await loud.drain()
        assert len(loud.acknowledged) == FLOOD, "a flood is acknowledged as well"
        found = await bridge.readings(READINGS, promised)
        assert promised <= found.keys()

        await _alarm_came(bridge, said_us)
        heard = await _of(bridge, bridge.point(f"{name}-l", "loud", 1))
        seconds = (clock.now_us() - began_us) / 1e6 + 10
        assert BUDGET["device_burst"] <= heard <= BUDGET["device_burst"] + 20 * seconds
        refused = await bridge.metric("sizao_bridge_telemetry_rejects_total")
        assert refused == FLOOD - heard
        assert await bridge.metric("sizao_bridge_alarm_rejects_total") == 0
        await _told_once(bridge, refused)


async def _alarm_came(bridge, said_us):
    records = await bridge.records(
        ALARMS, lambda found: any(one.rows for one in bridge.frames_of(found))
    )
    (one,) = [one for one in bridge.frames_of(records) if one.rows]
    assert one.value.tolist() == [1.0]
    assert one.received_us - said_us < ALARM_S_MAX * 1e6


async def _of(bridge, point):
    """How many readings of a point are in the log by now."""
    found = await bridge.readings(READINGS, wait_s=1.0)
    return sum(count for (of, _), count in found.items() if of == point)


async def _told_once(bridge, refused):
    def mine(records):
        found = [rejects.read(record.value, record.headers) for record in records]
        return [one for one in found if one.bridge == bridge.bridge]

    (one,) = mine(await bridge.records(REJECTS, mine))
    assert one.reason is Reason.TOO_OFTEN
    assert 0 < one.count <= refused
    assert bridge.registry.newest.device_key[one.device] == "loud"
    assert json.loads(one.payload)["temperature"] == 21
