"""The bridge's loop before alert's door: when it speaks, what it repeats, what it tells of it."""

import asyncio
import io
import json
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import numpy as np
import pytest
from fix_bridge import SMOKE_HEAT, T0_US, Device, message, small
from fix_handover import SECRET

from ingest import handover_loop as loops
from ingest.decode import decode
from ingest.handover import Lookout, signal_of
from ingest.handover_loop import Handover, Outcome
from ingest.lane import Shared
from ingest.settings import BridgeSettings
from sizao import log, signal
from sizao.clock import Rising
from sizao.errors import Retriable
from sizao.metrics import Metrics
from sizao.service import Service
from sizao.signal import Phase
from sizao.units import BY_NAME, Lane

PLACE = small(*(Device(f"s{n}", SMOKE_HEAT) for n in range(1200)))
FIRE = np.array([BY_NAME["fire_state"].code])
OTHER = "whsec_b3RoZXItb3RoZXItb3RoZXItb3RoZXItb3RoZXI=\n"


@dataclass
class LaneStub:
    """A lane that holds what it is told to."""

    lookout: Lookout = field(default_factory=Lookout)
    is_silent: bool = True

    def silent(self, _now_s):
        return self.is_silent

    def look_ahead(self):
        return False

    def hear(self, *keys, at_us=T0_US, state="alarm"):
        body = json.dumps({"state": state, "smoke": 1})
        messages = [
            message(f"up/c1/alarm/{key}", body, at_us=at_us + number)
            for number, key in enumerate(keys)
        ]
        self.lookout.look(PLACE.view, messages, decode(PLACE, Lane.ALARM, messages))


@dataclass
class Rig:
    service: Service
    loop: Handover
    lane: LaneStub


@pytest.fixture
def bridge(door, tmp_path, monkeypatch):
    monkeypatch.setattr(loops, "_LOOK_S", 0.01)
    monkeypatch.setattr(loops, "_BACKOFF_S", (0.01, 0.02))
    secret_file = tmp_path / "bridge-key"
    secret_file.write_text(SECRET)

    @asynccontextmanager
    async def run(*, url=None, section=True):
        service = Service("bridge", log.setup("bridge", io.StringIO()), Metrics("bridge"))
        handover = {"url": url or f"http://127.0.0.1:{door.page.port}", "secret_file": secret_file}
        settings = BridgeSettings(bridge={"handover": handover} if section else {})
        shared = Shared(service=service, settings=settings, stamp=Rising().now_us, district=PLACE)
        lane = LaneStub()
        loop = Handover(shared, [lane])
        async with asyncio.TaskGroup() as group:
            task = group.create_task(loop.run())
            yield Rig(service, loop, lane)
            task.cancel()

    return run


async def until(true):
    async with asyncio.timeout(10):
        while not true():  # noqa: ASYNC110 - what is waited for is a plain attribute
            await asyncio.sleep(0.002)


async def test_an_alarm_goes_to_alert_while_kafka_is_silent_once(bridge, door):
    async with bridge() as rig:
        rig.lane.hear("s1", "s2")
        await until(lambda: len(door.store.taken) == 2)
        assert rig.lane.lookout.waiting == 0
        assert rig.service.facts["handover"].startswith("at work")
        rig.lane.hear("s1", "s3", at_us=T0_US + 1000)  # the first goes on: nothing to say of it
        await until(lambda: len(door.store.taken) == 3)
        assert {one.phase for one in door.store.taken} == {Phase.RAISE}
        assert [one.device for one in door.store.taken] == [2, 3, 4]
        assert rig.service.progress["handover.out"]


async def test_nothing_goes_while_kafka_answers(bridge, door):
    async with bridge() as rig:
        rig.lane.is_silent = False
        rig.lane.hear("s1")
        await until(lambda: rig.service.facts.get("handover") == "ready")
        rig.lane.lookout.settle(T0_US)
        rig.lane.is_silent = True
        rig.lane.hear("s2", at_us=T0_US + 1)
        await until(lambda: door.store.taken)
        assert [one.device for one in door.store.taken] == [3]


async def test_a_slip_of_ours_costs_the_finding_that_shows_it(bridge, door, monkeypatch):
    """It ended the bridge, both lanes, at each start while Kafka was away."""

    def slipping(view, one):
        if one.point == PLACE.view.points_of(np.array([2]), FIRE)[0]:
            raise ZeroDivisionError("a slip")
        return signal_of(view, one)

    monkeypatch.setattr(loops, "signal_of", slipping)
    async with bridge() as rig:
        rig.lane.hear("s1")  # device 2: alone in its request
        await until(lambda: rig.lane.lookout.waiting == 0)
        rig.lane.hear("s1", "s3", at_us=T0_US + 120_000_000)
        await until(lambda: door.store.taken)
        assert [one.device for one in door.store.taken] == [4]


async def test_a_storm_goes_in_requests_of_500(bridge, door):
    async with bridge() as rig:
        rig.lane.hear(*(f"s{n}" for n in range(1200)))
        await until(lambda: len(door.store.taken) == 1200)
        assert await asyncio.to_thread(door.counted, "stored") == 3
        assert len({one.id for one in door.store.taken}) == 1200


async def test_what_alert_could_not_store_is_handed_over_again(bridge, door):
    door.store.faults = [Retriable("away")] * 3
    async with bridge() as rig:
        rig.lane.hear("s1")
        await until(lambda: door.store.taken)
        assert await asyncio.to_thread(door.counted, "not_stored") == 3


async def test_what_kafka_got_meanwhile_is_not_repeated(bridge, door):
    door.store.faults = [Retriable("away")]
    door.store.gate.clear()
    async with bridge() as rig:
        rig.lane.hear("s1")
        await until(lambda: rig.lane.lookout.waiting == 0)
        rig.lane.lookout.settle(T0_US)
        door.store.gate.set()
        await until(lambda: rig.loop._last is Outcome.UNAVAILABLE)
        rig.lane.hear("s2", at_us=T0_US + 1)
        await until(lambda: door.store.taken)
        assert [one.device for one in door.store.taken] == [3]


async def test_two_secrets_that_differ_are_told_until_they_are_the_same(bridge, door, tmp_path):
    (tmp_path / "bridge-key").write_text(OTHER)
    async with bridge() as rig:
        rig.lane.hear("s1")
        await until(lambda: rig.loop._last is Outcome.UNAUTHORIZED)
        (tmp_path / "bridge-key").write_text(SECRET)
        await until(lambda: door.store.taken)


async def test_a_secret_that_cannot_be_read_is_told(bridge, door, tmp_path):
    async with bridge() as rig:
        (tmp_path / "bridge-key").unlink()
        rig.lane.hear("s1")
        await until(lambda: rig.loop._last is Outcome.NO_SECRET)
        assert "cannot be read" in rig.service.facts["handover"]
        (tmp_path / "bridge-key").write_text(SECRET)
        await until(lambda: door.store.taken)


async def test_an_alert_that_is_not_there_is_asked_again(bridge):
    async with bridge(url="http://127.0.0.1:9") as rig:
        rig.lane.hear("s1")
        await until(lambda: rig.loop._last is Outcome.UNREACHABLE)
        await until(lambda: rig.lane.lookout.waiting == 1)


async def test_a_request_that_alert_takes_for_none_is_not_repeated(bridge, door, monkeypatch):
    monkeypatch.setattr(signal, "HANDED_BYTES_MAX", 10)
    async with bridge() as rig:
        rig.lane.hear("s1")
        await until(lambda: rig.loop._last is Outcome.REFUSED)
        assert rig.lane.lookout.waiting == 0


async def test_without_the_setting_it_is_off_and_says_so(bridge):
    async with bridge(section=False) as rig:
        await until(lambda: str(rig.service.facts.get("handover", "")).startswith("off"))
