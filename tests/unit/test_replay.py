"""Dead letters judged anew: each reading once, marked late, and no log's clock moved."""

import itertools
import json
from dataclasses import replace

import numpy as np
import pytest
from fix_bridge import BATCH, HEAT, SMOKE_HEAT, SMOKE_STATE, T0_US, Device, message, registry
from fix_bridge import small as district_of

from detectors import record as records_of
from detectors import rules, state
from ingest import rejects
from ingest import replay as replays
from ingest.device_types.reasons import Reason
from ingest.plan import Desk, plan
from ingest.replay import WRITER, Case, Id
from ingest.routes import district
from sizao import frame
from sizao.errors import BadRecord
from sizao.frame import Flag
from sizao.signal import Phase
from sizao.topics import ALARMS, READINGS, REJECTS
from sizao.units import BY_NAME, Lane

DAY_US = 86_400_000_000
LATER_US = T0_US + 13 * DAY_US
WRONG = SMOKE_HEAT.replace("pointer: /smoke", "pointer: /smok")
PLACE = [Device("h1", HEAT, partition=1), Device("s1", SMOKE_HEAT, partition=3)]
SAID = '{"state": "alarm", "smoke": 1, "temperature": 50}'


def refused(place, messages, lane=Lane.ALARM):
    """The dead letters that the bridge writes, as replay reads them."""
    desk = Desk(bridge="b0", lane=lane, sequence=T0_US)
    stamp = itertools.count(T0_US).__next__
    effects = plan(desk, place, messages, stamp, now_s=0, listening=False)
    found = [one for one in effects.records if one.topic == REJECTS.name]
    read = [rejects.read(one.value, one.headers) for one in found]
    return [
        Case(id=Id(0, offset, one.arrived_us), reject=one) for offset, one in enumerate(read)
    ], effects


def again(place, cases, sequence=7):
    return replays.replay(place, cases, sequence=sequence, stamp=itertools.count(LATER_US).__next__)


def rows(batch):
    """Topic, point, value and flags of each row."""
    return {
        (topic, int(point), round(float(value), 3), Flag(int(flags)))
        for topic, _, one in batch.frames
        for point, value, flags in zip(one.point, one.value, one.flags, strict=True)
    }


def point(place, key, name, carrier="c1"):
    device = place.view.roster[carrier][key]
    one = np.array([device], np.int32), np.array([BY_NAME[name].code], np.int32)
    return int(place.view.points_of(*one)[0])


def test_what_is_readable_now_becomes_a_late_reading_with_its_own_arrival():
    wrong = district_of(Device("h1", HEAT.replace("/temperature", "/temp"), partition=1))
    cases, _ = refused(
        wrong, [message("up/c1/telemetry/h1", '{"temperature": 50}')], Lane.TELEMETRY
    )
    batch = again(district_of(Device("h1", HEAT, partition=1)), cases)
    ((topic, partition, one),) = batch.frames
    assert (topic, partition) == (READINGS.name, 1)
    assert (one.writer, one.sequence, one.generation) == (WRITER, 8, 1)
    assert one.event_us.tolist() == [T0_US]
    assert one.received_us >= LATER_US
    assert one.flags.tolist() == [Flag.LATE | Flag.NO_DEVICE_TIME]
    (record,) = batch.records
    assert record.timestamp_ms == one.received_us // 1000
    assert frame.decode(record.value, record.headers).writer == WRITER
    assert (batch.tally.readable, batch.tally.readings, batch.tally.repeated) == (1, 1, 0)


def test_what_was_readable_at_first_is_not_written_again():
    place = district_of(*PLACE[:1], Device("s1", WRONG, partition=3))
    cases, before = refused(place, [message("up/c1/alarm/s1", SAID)])
    assert before.readings == 2, "fire and temperature passed beside the bad field"
    today = district_of(*PLACE)
    batch = again(today, cases)
    smoke = point(today, "s1", "smoke_od_per_m")
    assert rows(batch) == {(READINGS.name, smoke, 0.1, Flag.LATE | Flag.NO_DEVICE_TIME)}
    assert batch.tally.alarming == 0


def test_nor_is_it_where_the_device_has_moved_and_has_new_points():
    wrong = [Device("s1", WRONG, partition=3)]
    cases, _ = refused(district_of(*wrong), [message("up/c1/alarm/s1", SAID)])
    known = registry([Device("s1", SMOKE_HEAT, partition=3)])
    points = known.tables["point"].to_pylist()
    ends = [{**one, "to_gen": 2} for one in points]
    new = [{**one, "id": one["id"] + len(points), "from_gen": 2, "site": 6} for one in points]
    tables = known.tables | {"point": known.tables["point"].from_pylist(ends + new)}
    tables["point"] = tables["point"].cast(known.tables["point"].schema)
    moved = district(type(known)(generation=2, partitions=4, tables=tables).newest)
    batch = again(moved, cases)
    assert [value for _, _, value, _ in rows(batch)] == [0.1]


def test_nor_is_it_where_the_time_is_read_otherwise_today():
    said = {"temperature": "50", "humidity": 40, "tz": "no", "ts": T0_US // 1_000_000 - 9}
    two = HEAT.replace(
        "quantities:", "quantities:\n  humidity_pct: {pointer: /humidity, unit: '%'}"
    )
    wrong = district_of(Device("h1", two.replace("pointer: /ts", "pointer: /tz")))
    cases, before = refused(
        wrong, [message("up/c1/telemetry/h1", json.dumps(said))], Lane.TELEMETRY
    )
    assert before.readings == 1, "the humidity, at its arrival"
    batch = again(district_of(Device("h1", two)), cases)
    assert batch.frames == []
    assert batch.tally.refused == {Reason.WRONG_TYPE: 1}


def test_of_several_readings_of_one_point_the_one_that_was_stored_is_left_out():
    place = district_of(Device("h1"))
    stored = np.array([(1, 20)], rejects.STORED_ROW)
    point, event_us = np.array([1, 1, 1], np.int32), np.array([10, 20, 30])
    fresh = replays._unstored(place.view, point, event_us, stored)
    assert fresh.tolist() == [True, False, True]


def test_a_second_replay_finds_nothing_left():
    place = district_of(*PLACE[:1], Device("s1", WRONG, partition=3))
    cases, _ = refused(place, [message("up/c1/alarm/s1", SAID)])
    first = again(district_of(*PLACE), cases)
    noted = [Case(id=one.id, reject=one.reject, noted=first.notes[one.id]) for one in cases]
    second = again(district_of(*PLACE), noted)
    assert second.frames == []
    assert second.notes == {}
    assert second.tally.settled == 1


def test_a_second_correction_adds_what_the_first_left():
    wrong = WRONG.replace("pointer: /temperature", "pointer: /temp")
    cases, _ = refused(district_of(Device("s1", wrong)), [message("up/c1/alarm/s1", SAID)])
    half = district_of(Device("s1", WRONG))
    first = again(half, cases)
    assert (first.tally.readable, first.tally.in_part) == (1, 1)
    assert [value for _, _, value, _ in rows(first)] == [50.0]
    noted = [Case(id=one.id, reject=one.reject, noted=first.notes[one.id]) for one in cases]
    second = again(district_of(Device("s1", SMOKE_HEAT)), noted)
    assert [value for _, _, value, _ in rows(second)] == [0.1]


@pytest.mark.parametrize("doubt", ["killed", "old"])
def test_what_may_be_stored_already_is_marked_redelivered(doubt):
    wrong = district_of(Device("h1", HEAT.replace("/temperature", "/temp")))
    ((case,), _) = refused(
        wrong, [message("up/c1/telemetry/h1", '{"temperature": 50}')], Lane.TELEMETRY
    )
    if doubt == "killed":
        case = Case(id=case.id, reject=case.reject, doubtful=True)
    else:  # written by a bridge that did not say what it had stored
        case = Case(id=case.id, reject=replace(case.reject, stored=None))
    batch = again(district_of(Device("h1")), [case])
    ((_, _, _, flags),) = rows(batch)
    assert flags & Flag.REDELIVERED
    assert batch.tally.repeated == 1


def test_a_redelivered_message_stays_one():
    wrong = district_of(Device("h1", HEAT.replace("/temperature", "/temp")))
    said = [message("up/c1/telemetry/h1", '{"temperature": 50}', dup=True)]
    cases, _ = refused(wrong, said, Lane.TELEMETRY)
    ((_, _, _, flags),) = rows(again(district_of(Device("h1")), cases))
    assert flags & Flag.REDELIVERED


def test_what_is_still_refused_stays_where_it_is():
    place = district_of(*PLACE)
    cases, _ = refused(place, [message("up/c1/alarm/s1", "fire"), message("up/c1/alarm/x", SAID)])
    batch = again(place, cases)
    assert batch.frames == []
    assert batch.records == []
    assert batch.tally.refused == {Reason.NOT_JSON: 1, Reason.UNKNOWN_DEVICE: 1}


def test_a_gateways_batch_gives_only_the_keys_that_were_refused():
    said = '{"keys": ["t1", "t2"], "temperatures": [21, 22]}'
    before = district_of(Device("t1", BATCH, carrier="gw"))
    cases, effects = refused(before, [message("up/gw/telemetry", said)], Lane.TELEMETRY)
    assert effects.readings == 1
    today = district_of(Device("t1", BATCH, carrier="gw"), Device("t2", BATCH, carrier="gw"))
    assert [value for _, _, value, _ in rows(again(today, cases))] == [22.0]


def test_more_readings_than_a_header_holds_are_not_listed(monkeypatch):
    monkeypatch.setattr(rejects, "STORED_MAX", 1)
    said = {"keys": ["t1", "t2", "x"], "temperatures": [21, 22, 23]}
    place = district_of(Device("t1", BATCH, carrier="gw"), Device("t2", BATCH, carrier="gw"))
    cases, _ = refused(place, [message("up/gw/telemetry", json.dumps(said))], Lane.TELEMETRY)
    assert cases[0].reject.stored is None
    assert cases[0].repeats


def test_a_damaged_list_of_what_was_stored_is_refused():
    cases, effects = refused(district_of(*PLACE), [message("up/c1/alarm/s1", "fire")])
    assert cases[0].reject.stored == b""
    (record,) = [one for one in effects.records if one.topic == REJECTS.name]
    broken = [(k, v + b"x" if k == rejects.STORED else v) for k, v in record.headers]
    with pytest.raises(BadRecord):
        rejects.read(record.value, broken)


# --- what detect makes of the frames --------------------------------------------------------------


def folded(known, frames, lane=Lane.ALARM, partition=3):
    setup = state.setup_of(rules.discover(), ["b0"])
    fold = records_of.cold(lane, partition, known, setup)
    said = [
        signal
        for offset, one in enumerate(frames)
        for signal in records_of.judge(fold, one, offset, known)
    ]
    return fold, said


def beat(received_us, writer="b0.alarm", sequence=1):
    return frame.heartbeat(received_us=received_us, generation=1, writer=writer, sequence=sequence)


def replayed_alarm(document=SMOKE_STATE):
    wrong = district_of(Device("n", document.replace("/event", "/even"), partition=3))
    cases, _ = refused(wrong, [message("up/c1/alarm/n", '{"event": "alarm"}')])
    batch = again(district_of(Device("n", document, partition=3)), cases)
    assert batch.tally.alarming == 1
    ((_, _, one),) = [found for found in batch.frames if found[0] == ALARMS.name]
    return registry([Device("n", document, partition=3)]), one


def test_an_alarm_of_thirteen_days_ago_is_raised_late_never_dropped():
    known, old = replayed_alarm()
    fold, said = folded(known, [beat(LATER_US), old])
    assert [(one.phase, one.late, one.event_us) for one in said] == [(Phase.RAISE, True, T0_US)]
    assert not fold.discards


def test_replayed_frames_move_no_clock_and_name_no_bridge():
    known, old = replayed_alarm()
    fold, _ = folded(known, [beat(LATER_US - 5_000_000), old])
    assert fold.clock_us == LATER_US - 5_000_000
    assert fold.heard_us == {"b0.alarm": LATER_US - 5_000_000}


def test_without_the_mark_in_its_name_the_clock_would_move():
    """The proof above can turn red."""
    known, old = replayed_alarm()
    fold, _ = folded(known, [beat(LATER_US - 5_000_000), replace(old, writer="b0.alarm")])
    assert fold.clock_us >= LATER_US
