"""One tick as values: frames, dead letters, unread signals, heartbeats, what is acknowledged."""

import itertools
import json

import fix_batch
import numpy as np
import pytest
from fix_batch import alarm_batch
from fix_bridge import BATCH, SMOKE_HEAT, T0_US, Device, message, small
from hypothesis import given
from hypothesis import strategies as st

from ingest import plan as plans
from ingest import rejects, unread
from ingest.device_types.reasons import Reason
from ingest.plan import Desk, heartbeat_due_s, plan
from ingest.unread import QUIET_US
from sizao import frame, signal
from sizao.clock import Rising
from sizao.errors import BadRecord
from sizao.signal import Phase, SubjectType
from sizao.topics import ALARMS, READINGS, REJECTS, SIGNALS
from sizao.units import Lane

PLACE = small(
    Device("h1", partition=1),
    Device("h2", partition=2),
    Device("s1", SMOKE_HEAT, partition=3),
    Device("t1", BATCH, carrier="gw"),
)
HOT = '{"temperature": 50}'


def desk(lane=Lane.TELEMETRY):
    return Desk(bridge="b0", lane=lane, sequence=T0_US)


def clock(start_us=T0_US):
    return itertools.count(start_us).__next__


def run(messages, *, at=None, listening=False, place=PLACE, now_s=100.0):
    return plan(at or desk(), place, messages, clock(), now_s=now_s, listening=listening)


def frames(effects, topic):
    return [
        (record.partition, frame.decode(record.value, record.headers))
        for record in effects.records
        if record.topic == topic.name
    ]


def test_one_frame_for_each_topic_and_partition():
    messages = [
        message("up/c1/telemetry/h1", HOT),
        message("up/c1/telemetry/h2", HOT),
        message("up/c1/telemetry/h1", HOT),
    ]
    effects = run(messages)
    assert [(where, one.rows) for where, one in frames(effects, READINGS)] == [(1, 2), (2, 1)]
    assert effects.readings == 3
    assert effects.messages is messages


def test_rows_of_one_payload_go_by_their_quantity():
    said = '{"state": "alarm", "smoke": 1, "temperature": 50}'
    effects = run([message("up/c1/alarm/s1", said)], at=desk(Lane.ALARM))
    ((where, alarms),) = frames(effects, ALARMS)
    ((other, readings),) = frames(effects, READINGS)
    assert where == other == 3
    assert alarms.value.tolist() == [1.0]
    assert sorted(readings.value.tolist()) == pytest.approx([0.1, 50.0])


def test_a_frame_says_who_wrote_it_and_when():
    at = desk()
    effects = run([message("up/c1/telemetry/h1", HOT)], at=at)
    ((_, one),) = frames(effects, READINGS)
    assert (one.writer, one.sequence, one.generation) == ("b0.telemetry", T0_US + 1, 1)
    assert effects.records[0].timestamp_ms == one.received_us // 1000
    again = run([message("up/c1/telemetry/h1", HOT)], at=at)
    assert frames(again, READINGS)[0][1].sequence == T0_US + 2


def test_a_frame_is_split_at_its_bound(monkeypatch):
    monkeypatch.setattr(plans, "ROWS_MAX", 4)
    messages = [message("up/c1/telemetry/h1", HOT, at_us=T0_US + at) for at in range(10)]
    made = frames(run(messages), READINGS)
    assert [one.rows for _, one in made] == [4, 4, 2]
    assert np.concatenate([one.event_us for _, one in made]).tolist() == [
        one.arrived_us for one in messages
    ]
    assert len({one.sequence for _, one in made}) == 3


def test_heartbeats_where_nothing_was_written_for_a_second():
    at = desk(Lane.ALARM)
    assert len(run([], at=at, listening=True).records) == 8  # two topics of four partitions
    assert run([], at=at, listening=True).records == []
    assert run([], at=at, listening=True, now_s=100.9).records == []
    assert heartbeat_due_s(at, 4) == 101.0
    assert len(run([], at=at, listening=True, now_s=101.0).records) == 8


def test_heartbeats_go_on_while_the_rising_clock_stands_still(monkeypatch):
    """After a step back of the wall clock they stopped, for as long as the step was."""
    wall_us = T0_US
    monkeypatch.setattr("sizao.clock.now_us", lambda: wall_us)
    rising, at, told = Rising(), desk(Lane.ALARM), []
    for second in range(5):
        wall_us = T0_US - 3_600_000_000 * min(second, 1)
        effects = plan(at, PLACE, [], rising.now_us, now_s=float(second), listening=True)
        told.append([one.received_us for _, one in frames(effects, READINGS)])
    assert [len(one) for one in told] == [4] * 5
    flat = list(itertools.chain(*told))
    assert flat == sorted(set(flat))


def test_a_plan_is_cut_by_bytes_and_by_messages(monkeypatch):
    each = message("up/c1/telemetry/h1", b"x" * 1000)
    assert plans.cut([]) == 0
    assert plans.cut([each] * 5) == 5
    assert plans.cut([each] * 5_000) == (1 << 20) // each.size
    assert plans.cut([each] * 5_000, 0.25) == (1 << 18) // each.size
    assert plans.cut([each] * 5, 0.0) == 1
    assert plans.cut([message("t", b"x" * (2 << 20)), each]) == 1
    monkeypatch.setattr(plans, "MESSAGES_MAX", 3)
    assert plans.cut([each] * 5) == 3
    assert plans.cut([each] * 5, 0.7) == 2


def test_a_plan_is_cut_where_more_than_a_second_passed():
    each = [message("up/c1/telemetry/h1", HOT, at_us=T0_US + at * 400_000) for at in range(6)]
    assert plans.cut(each) == 3
    assert plans.cut(each[3:]) == 3
    assert plans.cut([each[0], each[5]]) == 1


def test_frames_bear_the_arrival_of_what_they_hold_however_long_kafka_was_away():
    at, waited = desk(), message("up/c1/telemetry/h1", HOT)
    back = clock(T0_US + 1_200_000_000)
    late = plan(at, PLACE, [waited], back, now_s=1.0, listening=True, backlog=True)
    assert {one.received_us // 1000 for _, one in frames(late, READINGS)} == {T0_US // 1000}
    last = message("up/c1/telemetry/h1", HOT, at_us=T0_US + 5)
    caught_up = plan(at, PLACE, [last], back, now_s=3.0, listening=True)
    told = {one.rows: one.received_us for _, one in frames(caught_up, READINGS)}
    assert told[1] < T0_US + 1000
    assert told[0] >= T0_US + 1_200_000_000  # a heartbeat speaks of now
    again = plan(at, PLACE, [last], back, now_s=3.1, listening=False)
    ((_, one),) = frames(again, READINGS)
    assert one.received_us > told[0], "it never goes back"


def test_a_lane_that_does_not_listen_writes_no_heartbeat():
    assert run([], listening=False).records == []


def test_a_partition_with_a_frame_needs_no_heartbeat():
    effects = run([message("up/c1/telemetry/h1", HOT)], listening=True)
    made = frames(effects, READINGS)
    assert sorted((where, one.rows) for where, one in made) == [(0, 0), (1, 1), (2, 0), (3, 0)]


def test_a_reject_keeps_the_payload_and_tells_why():
    raw = b"\x00\xff not json"
    effects = run([message("up/c1/telemetry/h1", raw), message("up/c1/telemetry/h1", HOT)])
    (record,) = [one for one in effects.records if one.topic == REJECTS.name]
    told = rejects.read(record.value, record.headers)
    assert (told.payload, told.reason, told.lane) == (raw, Reason.NOT_JSON, Lane.TELEMETRY)
    assert (told.carrier, told.device, told.bridge) == ("c1", 1, "b0")
    assert (told.topic, told.arrived_us) == (b"up/c1/telemetry/h1", T0_US)
    assert record.partition == rejects.partition_of("c1", 4)
    assert effects.rejects == {Reason.NOT_JSON: 1}
    assert effects.readings == 1


def test_a_damaged_reject_is_refused():
    (record,) = run([message("up/c1/telemetry/h1", b"x")]).records
    with pytest.raises(BadRecord):
        rejects.read(record.value + b"x", record.headers)
    with pytest.raises(BadRecord):
        rejects.read(record.value, record.headers[:3])


def test_the_largest_payload_and_topic_fit_into_a_record():
    topic = "up/c1/telemetry/" + "é" * 32_000
    (record,) = run([message(topic, b"x" * (1 << 20))]).records
    size = len(record.value) + sum(len(name) + len(said) for name, said in record.headers)
    assert size < REJECTS.record_bytes_max - 64 * 1024


def test_a_dead_letter_of_the_largest_packet_is_cut_and_says_so():
    """Kafka refuses a record of more than 2 MiB for good: the bridge ended, and found it again."""
    topic = f"up/c1/telemetry/{'x' * 60_000}"
    (record,) = run([message(topic, b"x" * (16 << 20))]).records
    size = len(record.value) + sum(len(key) + len(value) for key, value in record.headers)
    assert size < REJECTS.record_bytes_max - rejects.STORED_MAX * rejects.STORED_ROW.itemsize
    told = rejects.read(record.value, record.headers)
    assert told.payload == b"x" * rejects.PAYLOAD_MAX
    assert f"{rejects.PAYLOAD_MAX} of {16 << 20} bytes" in told.detail


def signals(effects):
    return [
        signal.decode(record.value, record.headers)
        for record in effects.records
        if record.topic == SIGNALS.name
    ]


def unreadable(at_us=T0_US, topic="up/c1/alarm/s1", payload=b"\xff"):
    return message(topic, payload, at_us=at_us)


def test_an_unread_alarm_is_a_signal_of_its_device():
    at = desk(Lane.ALARM)
    (said,) = signals(run([unreadable()], at=at))
    assert (said.kind, said.phase, said.tier) == ("unread", "raise", "alarm")
    assert (said.subject.type, said.subject.id, said.device) == (SubjectType.DEVICE, "3", 3)
    assert said.site == 5
    assert said.evidence["payload_hex"] == "ff"
    assert said.evidence["reason"] == "not_json"


def test_an_unread_alarm_of_a_stranger_is_a_signal_of_its_carrier():
    (said,) = signals(run([unreadable(topic="up/evil/alarm/x")], at=desk(Lane.ALARM)))
    assert (said.subject.type, said.subject.id) == (SubjectType.CARRIER, "evil")
    assert (said.site, said.device) == (0, 0)


def test_telemetry_and_bad_fields_beside_a_fire_make_no_unread_signal():
    assert signals(run([message("up/c1/telemetry/h1", b"x")])) == []
    said = b'{"state": "alarm", "smoke": "x"}'
    effects = run([unreadable(payload=said)], at=desk(Lane.ALARM))
    assert signals(effects) == []
    assert effects.rejects == {Reason.WRONG_TYPE: 1}


def test_one_raise_then_a_refresh_a_minute_then_a_new_onset():
    at = desk(Lane.ALARM)
    told = []
    for second in range(0, 180, 10):
        told += signals(run([unreadable(T0_US + second * 1_000_000)], at=at))
    assert [one.phase for one in told] == [Phase.RAISE, Phase.REFRESH, Phase.REFRESH]
    assert [one.evidence["count"] for one in told] == [1, 6, 6]
    assert len({one.onset for one in told}) == 1
    assert len({one.id for one in told}) == 3
    last_us = T0_US + 170 * 1_000_000
    (again,) = signals(run([unreadable(last_us + QUIET_US + 1)], at=at))
    assert (again.phase, again.onset != told[0].onset) == (Phase.RAISE, True)


def test_subjects_are_bounded_and_the_oldest_would_speak_again(monkeypatch):
    monkeypatch.setattr(unread, "SUBJECTS_MAX", 3)
    at = desk(Lane.ALARM)
    first = [unreadable(T0_US + n, f"up/u{n}/alarm/x") for n in range(5)]
    assert len(signals(run(first, at=at))) == 5
    assert len(at.unread.onsets) == 3
    assert [one.phase for one in signals(run([unreadable(T0_US + 9, "up/u0/alarm/x")], at=at))] == [
        Phase.RAISE
    ]


def test_a_signal_lies_in_the_partition_of_its_site():
    place = small(Device("s1", SMOKE_HEAT, partition=3), Device("s2", SMOKE_HEAT, site=6))
    messages = [unreadable(), unreadable(topic="up/c1/alarm/s2"), unreadable(topic="up/x/alarm/s")]
    records = run(messages, at=desk(Lane.ALARM), place=place).records
    told = [one for one in records if one.topic == SIGNALS.name]
    assert [(one.key, one.partition) for one in told] == [(b"1", 3), (b"2", 0), (b"x", 0)]
    assert {dict(one.headers)["ce_source"] for one in told} == {b"/sizao/bridge/unread"}


GATEWAY = small(
    *fix_batch.DEVICES, *(Device(f"d{n}", alarm_batch("/keys"), carrier="big") for n in range(9))
)


def batch(keys, topic=fix_batch.TOPIC):
    return message(topic, json.dumps({"keys": keys, "state": ["?"] * len(keys)}))


def test_each_device_of_an_unread_batch_tells_at_its_own_site():
    effects = run([batch(["a1", "a2"])], at=desk(Lane.ALARM), place=GATEWAY)
    told = {one.device: one for one in signals(effects)}
    assert {device: one.site for device, one in told.items()} == {1: 1, 2: 2}
    assert "unknown_state: fire_state" in told[2].evidence["detail"]
    assert (effects.unread, effects.unread_signals) == (1, 2)


def test_a_stranger_in_an_unread_batch_does_not_stand_for_its_devices():
    effects = run([batch(["x", "a2"])], at=desk(Lane.ALARM), place=GATEWAY)
    told = {(one.subject.type, one.subject.id): one.evidence for one in signals(effects)}
    assert set(told) == {(SubjectType.CARRIER, "ga"), (SubjectType.DEVICE, "2")}
    assert told[SubjectType.CARRIER, "ga"]["detail"] == "unknown_device: x"
    assert "unknown_device" not in told[SubjectType.DEVICE, "2"]["detail"]


def test_beyond_a_bound_the_carrier_tells_of_the_rest(monkeypatch):
    monkeypatch.setattr(unread, "DEVICES_MAX", 4)
    keys = [f"d{n}" for n in range(9)]
    effects = run([batch(keys, "up/big/alarm")], at=desk(Lane.ALARM), place=GATEWAY)
    told = {one.subject.id: one.evidence["devices"] for one in signals(effects)}
    assert told == {"4": 1, "5": 1, "6": 1, "7": 1, "big": 5}


def test_half_a_surrogate_pair_is_no_poison():
    place = small(Device("a", alarm_batch("/id")))
    raw = rb'{"id": ["\ud800"], "state": ["alarm"], "smoke": [1]}'
    effects = run([unreadable(topic="up/c1/alarm", payload=raw)], at=desk(Lane.ALARM), place=place)
    (said,) = signals(effects)
    assert said.evidence["detail"] == r"unknown_device: \ud800"


def test_a_clock_that_is_off_is_told_by_device():
    effects = run([message("up/c1/telemetry/h1", '{"temperature": 1, "ts": 0}')])
    assert effects.corrected_device.tolist() == [1]
    assert effects.corrected_us.tolist() == [-T0_US]


LINES = st.sampled_from(
    [
        ("up/c1/telemetry/h1", b'{"temperature": 5}'),
        ("up/c1/telemetry/h2", b'{"temperature": "x", "ts": 1}'),
        ("up/c1/telemetry/zz", b"{}"),
        ("up/gw/telemetry", b'{"keys": ["t1", "t1"], "temperatures": [1, 2]}'),
        ("up/c1/alarm/s1", b'{"state": "alarm"}'),
        ("up/c1/alarm/s1", b"\x00"),
    ]
)


@given(st.lists(LINES, max_size=12), st.sampled_from(list(Lane)))
def test_every_message_leaves_a_row_or_a_dead_letter_and_is_acknowledged_in_order(lines, lane):
    messages = [message(topic, raw, at_us=T0_US + n) for n, (topic, raw) in enumerate(lines)]
    effects = run(messages, at=desk(lane))
    assert list(effects.messages) == messages
    made = [one for _, one in frames(effects, READINGS) + frames(effects, ALARMS)]
    assert sum(one.rows for one in made) == effects.readings
    letters = [rejects.read(one.value, one.headers) for one in effects.records if is_reject(one)]
    # No payload is believed to have a time, so each row and letter has its message's own arrival.
    kept = {one.arrived_us for one in letters}.union(*(one.event_us.tolist() for one in made))
    assert kept == {one.arrived_us for one in messages}
    for record in effects.records:
        assert len(record.value) <= frame.BYTES_MAX or record.topic == REJECTS.name


def is_reject(record):
    return record.topic == REJECTS.name
