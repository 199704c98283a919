"""One lane with a broker and a log in our hands: order, bounds, stale acknowledgements."""

import asyncio
import time

import pytest
from fix_bridge import SMOKE_HEAT, Device, small
from fix_lane import until

from ingest import lane as lanes
from ingest.flow import TURN_S
from ingest.kept import begin_us, clock_file, filters_file, kept_filters, kept_us
from sizao import clock
from sizao.clock import Rising
from sizao.topics import REJECTS
from sizao.units import Lane


async def test_nothing_is_acknowledged_before_kafka_has_it(running):
    async with running() as rig:
        rig.log.open.clear()
        rig.broker.publish()
        await until(lambda: rig.held == 1)
        await until(lambda: rig.log.asked)
        for _ in range(5):
            rig.broker.publish()
        await until(lambda: rig.held == 6)
        assert rig.broker.told == []
        rig.log.open.set()
        await until(lambda: rig.held == 0)
        assert rig.broker.told == [(1, n) for n in range(1, 7)]


async def test_a_dead_letter_is_in_kafka_before_it_is_acknowledged(running):
    async with running() as rig:
        rig.log.open.clear()
        rig.broker.publish(b"\xff")
        await until(lambda: rig.held == 1)
        assert rig.broker.told == []
        rig.log.open.set()
        await until(lambda: rig.broker.told)
        assert REJECTS.name in {record.topic for record in rig.log.records}


async def test_a_failed_write_is_repeated_whole(running):
    async with running() as rig:
        rig.log.fail = 2
        rig.broker.publish()
        await until(lambda: rig.broker.told)
        assert rig.service.ready["kafka.telemetry"]


async def test_an_acknowledgement_of_a_dead_connection_is_dropped_and_counted(running):
    async with running() as rig:
        rig.log.open.clear()
        rig.broker.publish()
        await until(lambda: rig.log.asked and rig.held == 1)
        rig.broker.connections[0].dead = "cut"
        await until(lambda: len(rig.broker.connections) == 2)
        rig.broker.publish()
        await until(lambda: rig.held == 2)
        rig.log.open.set()
        await until(lambda: rig.held == 0)
        # Both had packet id 1; only that of the connection that lives is told.
        assert rig.broker.told == [(2, 1)]
        assert rig.count("stale_acks") == 1


@pytest.mark.parametrize("lane", Lane)
async def test_a_full_lane_pauses_leaves_and_comes_back(running, lane):
    async with running(lane, keepalive_s=4, **{f"{lane}_bound": {"messages": 3}}) as rig:
        rig.lane._flow.pause_s_max = 0.05
        rig.log.open.clear()
        for _ in range(3):
            rig.broker.publish()
        await until(lambda: rig.held == 3)
        rig.broker.publish()
        await until(lambda: rig.broker.connections[0].closed)
        assert rig.held == 3
        assert rig.broker.waiting
        assert rig.count("pauses") == rig.count("leaves") == 1
        await asyncio.sleep(0.05)
        assert len(rig.broker.connections) == 1, "it stays away while there is no room"
        rig.log.open.set()
        await until(lambda: not rig.broker.waiting and rig.held == 0)
        assert len(rig.broker.connections) == 2
        assert rig.count("stale_acks") == 3


async def test_a_lane_stops_in_the_middle_of_a_tick_when_its_bytes_are_used_up(running):
    """Asked once a tick, it read up to 2,000 packets of a mebibyte more."""
    async with running(telemetry_bound={"messages": 1000, "megabytes": 1}) as rig:
        rig.log.open.clear()
        for _ in range(6):
            rig.broker.publish(b"x" * 100_000)
        await until(lambda: rig.held == 6)
        for _ in range(24):
            rig.broker.publish(b"x" * 100_000)
        await until(lambda: rig.count("pauses"))
        assert rig.held == 11  # the eleventh goes beyond 1,048,576
        assert len(rig.broker.waiting) == 19
        rig.log.open.set()
        await until(lambda: rig.held == 0 and not rig.broker.waiting)
        assert rig.lane._held.size == 0
        assert len(rig.broker.told) == 30


async def test_a_lane_stops_in_the_middle_of_a_tick_at_its_messages(running):
    async with running(telemetry_bound={"messages": 7}) as rig:
        rig.log.open.clear()
        for _ in range(30):
            rig.broker.publish()
        await until(lambda: rig.count("pauses"))
        assert rig.held == 7
        rig.log.open.set()


async def test_a_large_batch_is_written_in_parts_and_to_its_end(running):
    async with running() as rig:
        rig.log.open.clear()
        rig.broker.publish()
        await until(lambda: rig.log.asked)
        asked = rig.log.asked
        for number in range(30):
            rig.broker.publish(b"%d" % number + b"x" * 100_000)
        await until(lambda: rig.held == 31)
        rig.log.open.set()
        await until(lambda: len(rig.broker.told) == 31)
        assert rig.broker.told == [(1, n) for n in range(1, 32)]
        letters = [one.value for one in rig.log.records if one.topic == REJECTS.name]
        assert [int(one.partition(b"x")[0]) for one in letters] == list(range(30))
        assert rig.log.asked - asked >= 3, "ten of them are a mebibyte"


async def test_a_lane_whose_plans_take_long_makes_shorter_ones(running, monkeypatch):
    plans, real = [], lanes.plan

    def slow(desk, district, batch, *given, **rest):
        if batch:
            plans.append(len(batch))
            time.sleep(TURN_S * 2)  # the loop is held up: what a plan of refused messages does
        return real(desk, district, batch, *given, **rest)

    async with running() as rig:
        rig.log.open.clear()
        rig.broker.publish()
        await until(lambda: rig.log.asked)
        monkeypatch.setattr(lanes, "plan", slow)
        for _ in range(5_000):
            rig.broker.publish()
        await until(lambda: rig.held == 5_001)
        rig.log.open.set()
        await until(lambda: rig.held == 0)
    assert plans[0] == 2_500
    assert plans[1] <= 1_250


async def test_progress_tells_ages_and_the_oldest_unacknowledged(running):
    async with running() as rig:
        await until(lambda: rig.service.oldest.get("telemetry", 0) is None)
        rig.log.open.clear()
        rig.broker.publish()
        before_s = clock.monotonic_s()
        await until(lambda: rig.service.oldest["telemetry"])
        assert rig.service.oldest["telemetry"] >= before_s - 0.1
        assert "telemetry.in" in rig.service.progress
        assert "telemetry.out" not in rig.service.progress
        rig.log.open.set()
        await until(lambda: rig.service.oldest["telemetry"] is None)
        assert "telemetry.out" in rig.service.progress


async def test_telemetry_waits_at_the_broker_when_kafka_is_silent_and_alarms_come_in(
    running, monkeypatch
):
    monkeypatch.setattr("ingest.flow.SILENT_S_MAX", 0.02)
    async with running() as rig:
        rig.log.open.clear()
        rig.broker.publish()
        await until(lambda: rig.count("pauses") == 1)
        rig.broker.publish()
        await asyncio.sleep(0.05)
        assert rig.broker.waiting
        rig.log.open.set()
        await until(lambda: not rig.broker.waiting)
    async with running(Lane.ALARM) as rig:
        rig.log.open.clear()
        rig.broker.publish(b'{"state": "alarm", "smoke": 1}', "up/c1/alarm/s1")
        await until(lambda: rig.log.asked)
        await asyncio.sleep(0.05)
        rig.broker.publish(b'{"state": "alarm", "smoke": 2}', "up/c1/alarm/s1")
        await until(lambda: rig.held == 2)
        rig.log.open.set()


async def test_a_lost_session_is_told(running, tmp_path):
    async with running() as rig:
        assert rig.count("sessions_lost") == 0
        rig.broker.session = False
        rig.broker.connections[0].dead = "cut"
        await until(lambda: rig.count("sessions_lost") == 1)
        assert "session_lost.telemetry" in rig.service.facts
        assert list(rig.service.board.shown()) == ["bridge.b0/session.telemetry"]
        await until(lambda: clock_file(tmp_path, Lane.TELEMETRY).exists())
    async with running() as rig:
        assert rig.lane._had_session


async def test_a_new_district_is_subscribed_to(running):
    async with running() as rig:
        text = SMOKE_HEAT.replace("up/{carrier}/alarm", "up/{carrier}/event")
        rig.shared.district = small(Device("e1", text))
        await asyncio.sleep(0.05)
        assert rig.broker.connections[0].filters == ("up/+/telemetry/#",)
    async with running(Lane.ALARM) as rig:
        rig.shared.district = small(Device("e1", text))
        await until(lambda: "up/+/event/+" in rig.broker.connections[0].filters)


async def test_what_the_session_holds_is_written_down_and_known_after_a_restart(running, tmp_path):
    file = filters_file(tmp_path, Lane.ALARM)
    async with running(Lane.ALARM) as rig:
        assert rig.broker.connections[0].held == {"up/+/alarm/#"}
        await until(file.exists)
        rig.broker.connections[0].held = frozenset({"up/+/event/+"})
        await until(lambda: kept_filters(tmp_path, Lane.ALARM) == {"up/+/event/+"})
    async with running(Lane.ALARM) as rig:
        assert rig.broker.connections[0].held >= {"up/+/event/+"}
    for damaged in ("[", "5", ""):
        file.write_text(damaged)
        assert kept_filters(tmp_path, Lane.ALARM) == frozenset()


async def test_a_full_disk_stops_nothing_and_is_told(running, monkeypatch):
    def full(file, text):
        raise OSError("no space left")

    monkeypatch.setattr(lanes, "keep", full)
    async with running() as rig:
        rig.broker.publish()
        await until(lambda: rig.broker.told)
        assert rig.service.facts["not_kept.telemetry.filters"] == "no space left"
        assert rig.service.facts["not_kept.telemetry.clock"] == "no space left"


async def test_cancelled_while_kafka_waits_nothing_is_acknowledged(running):
    async with running() as rig:
        rig.log.open.clear()
        rig.broker.publish()
        await until(lambda: rig.log.asked and rig.held == 1)
    assert rig.broker.told == []
    assert rig.broker.connections[0].closed


async def test_the_clock_never_goes_back_over_a_restart(running, tmp_path):
    ahead_us = clock.now_us() + 3_600_000_000
    clock_file(tmp_path, Lane.ALARM).write_text(str(ahead_us))
    assert kept_us(tmp_path) == ahead_us
    assert Rising(kept_us(tmp_path)).now_us() > ahead_us
    clock_file(tmp_path, Lane.ALARM).write_text("half a num")
    assert kept_us(tmp_path) == 0


async def test_a_life_that_begins_while_the_clock_stands_still_repeats_nothing(
    running, tmp_path, monkeypatch
):
    """The wall was put back by an hour; nothing was kept before a million stamps."""
    monkeypatch.setattr(lanes, "KEPT_EACH_S", 0.01)
    async with running() as rig:
        desk = rig.lane._desk
        rig.shared.stamp = Rising(clock.now_us() + 3_600_000_000).now_us
        desk.sequence = rig.shared.stamp()
        for _ in range(3):
            before = kept_us(tmp_path)
            rig.broker.publish()
            await until(lambda: kept_us(tmp_path) > before)  # noqa: B023 - awaited here
        rig.broker.publish()
        await until(lambda: len(rig.broker.told) == 4)
    assert begin_us(tmp_path) > max(desk.sequence, desk.received_us)
