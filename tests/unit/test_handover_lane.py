"""What a lane shows of what it holds while Kafka is silent."""

from fix_lane import until

from ingest import lane as lanes
from ingest.handover import Lookout
from sizao import clock
from sizao.units import Lane


async def test_what_waits_behind_a_write_is_looked_at_ahead_and_kafka_takes_it_off_again(
    running, monkeypatch
):
    monkeypatch.setattr(lanes, "SILENT_S_MAX", 0.02)
    monkeypatch.setattr(lanes, "_AHEAD_MAX", 2)
    topic, said = "up/c1/alarm/s1", b'{"state": "alarm", "smoke": 1}'
    async with running(Lane.ALARM) as rig:
        rig.log.open.clear()
        rig.broker.publish(b'{"state": "normal", "smoke": 1}', topic=topic)
        await until(lambda: rig.log.asked and rig.held == 1)
        assert not rig.lane.look_ahead()
        for _ in range(3):
            rig.broker.publish(said, topic=topic)
        await until(lambda: rig.held == 4 and rig.lane.silent(clock.monotonic_s()))
        assert rig.lane.lookout.waiting == 0
        assert rig.lane.look_ahead()
        assert not rig.lane.look_ahead()
        assert rig.lane.lookout.waiting == 1
        assert rig.broker.told == []
        rig.log.open.set()
        await until(lambda: rig.held == 0)
        assert rig.lane.lookout.waiting == 0
        assert not rig.lane.silent(clock.monotonic_s())


async def test_a_slip_in_the_lookout_costs_no_reading(running, monkeypatch):
    async with running(Lane.ALARM) as rig:
        monkeypatch.setattr(Lookout, "look", lambda *_: 1 / 0)
        rig.broker.publish(b'{"state": "alarm", "smoke": 1}', topic="up/c1/alarm/s1")
        await until(lambda: rig.broker.told)
        assert rig.service.facts["lookout.alarm"] == "ZeroDivisionError: division by zero"
        assert rig.count("not_looked_at") == 1
