"""decode: never raises; readings, or a reason."""

import json

import fix_batch
import numpy as np
import pytest
from fix_bridge import (
    BATCH,
    HEAT,
    SMOKE_HEAT,
    SMOKE_STATE,
    T0_US,
    Device,
    message,
    shown,
    small,
)
from hypothesis import given
from hypothesis import strategies as st

from ingest.decode import decode, shielded
from ingest.device_types import formats
from ingest.device_types.compiled import compile_type
from ingest.device_types.formats import parse
from ingest.device_types.judge import Column, judge_all, judge_columns
from ingest.device_types.payload import Reader, reader
from ingest.device_types.reasons import Reason
from ingest.routes import PARTS
from sizao.frame import Flag
from sizao.units import Lane

DISTRICT = small(
    Device("h1"),
    Device("s1", SMOKE_HEAT),
    Device("n1", SMOKE_STATE, carrier="nb"),
    Device("t1", BATCH, carrier="gw", partition=1),
    Device("t2", BATCH, carrier="gw", partition=2),
    Device("old", state="retired"),
    Device("new", SMOKE_HEAT, state="planned"),
    Device("off", state="isolated"),
    Device("broken", "name: broken\n", carrier="b"),
    *fix_batch.DEVICES,
)
TELEMETRY, ALARM = Lane.TELEMETRY, Lane.ALARM
HEAT_TOPIC, SMOKE_TOPIC = "up/c1/telemetry/h1", "up/c1/alarm/s1"


def one(topic, payload, lane=TELEMETRY, **rest):
    return decode(DISTRICT, lane, [message(topic, payload, **rest)])


def readings(topic, payload, lane=TELEMETRY):
    return shown(DISTRICT.view, one(topic, payload, lane))


def refused(topic, payload, lane=TELEMETRY):
    (found,) = one(topic, payload, lane).refused
    return found


def test_a_reading():
    decoded = one(HEAT_TOPIC, '{"temperature": 21.5, "ts": 1772351999.5}')
    assert shown(DISTRICT.view, decoded) == [("h1", "temperature_c", 21.5)]
    assert decoded.event_us.tolist() == [T0_US - 500_000]
    assert decoded.flags.tolist() == [0]
    assert decoded.alarm.tolist() == [False]
    assert decoded.refused == []


@pytest.mark.parametrize(
    ("topic", "payload", "lane", "reason"),
    [
        (HEAT_TOPIC, b"", TELEMETRY, Reason.NOT_JSON),
        (HEAT_TOPIC, b'{"temperature": 2', TELEMETRY, Reason.NOT_JSON),
        (HEAT_TOPIC, b"\xff\xfe", TELEMETRY, Reason.NOT_JSON),
        (HEAT_TOPIC, b"[" * 16_000, TELEMETRY, Reason.NOT_JSON),
        (HEAT_TOPIC, b'{"a":' * 2_000 + b"1" + b"}" * 2_000, TELEMETRY, Reason.NOT_JSON),
        (HEAT_TOPIC, b'"' + b"\\" * 16_000, TELEMETRY, Reason.NOT_JSON),
        (HEAT_TOPIC, b'{"temperature": 0_02}', TELEMETRY, Reason.NOT_JSON),
        (HEAT_TOPIC, b" " * (1 << 20), TELEMETRY, Reason.TOO_LARGE),
        (HEAT_TOPIC, b"[1]", TELEMETRY, Reason.WRONG_TYPE),
        (HEAT_TOPIC, b"{}", TELEMETRY, Reason.MISSING_FIELD),
        (HEAT_TOPIC, b'{"temperature": null}', TELEMETRY, Reason.MISSING_FIELD),
        (HEAT_TOPIC, b'{"temperature": "21"}', TELEMETRY, Reason.WRONG_TYPE),
        (HEAT_TOPIC, b'{"temperature": false}', TELEMETRY, Reason.WRONG_TYPE),
        (HEAT_TOPIC, b'{"temperature": {}}', TELEMETRY, Reason.WRONG_TYPE),
        (HEAT_TOPIC, b'{"temperature": NaN}', TELEMETRY, Reason.NOT_FINITE),
        (HEAT_TOPIC, b'{"temperature": -inf}', TELEMETRY, Reason.NOT_FINITE),
        (HEAT_TOPIC, b'{"temperature": 1e999}', TELEMETRY, Reason.NOT_FINITE),
        (HEAT_TOPIC, b'{"temperature": 1' + b"0" * 400 + b"}", TELEMETRY, Reason.OUT_OF_RANGE),
        (HEAT_TOPIC, b'{"temperature": 1' + b"0" * 5000 + b"}", TELEMETRY, Reason.NOT_JSON),
        (HEAT_TOPIC, b'{"temperature": 20, "ts": 1e308}', TELEMETRY, Reason.BAD_TIME),
        (HEAT_TOPIC, b'{"temperature": 851}', TELEMETRY, Reason.OUT_OF_RANGE),
        (HEAT_TOPIC, b'{"temperature": -127}', TELEMETRY, Reason.SENSOR_BROKEN),
        ("up/nobody/telemetry/h1", b"{}", TELEMETRY, Reason.UNKNOWN_CARRIER),
        ("up/c1/telemetry/h9", b"{}", TELEMETRY, Reason.UNKNOWN_DEVICE),
        ("up/c1/telemetry/t1", b"{}", TELEMETRY, Reason.NOT_YOURS),
        ("up/c1/telemetry/old", b"{}", TELEMETRY, Reason.NOT_IN_SERVICE),
        ("up/c1/alarm/new", b"{}", ALARM, Reason.NOT_IN_SERVICE),
        ("up/c1/telemetry/s1", b"{}", TELEMETRY, Reason.WRONG_TOPIC),
        ("up/c1/telemetry", b"{}", TELEMETRY, Reason.WRONG_TOPIC),
        ("up/b/telemetry/broken", b"{}", TELEMETRY, Reason.BROKEN_TYPE),
        ("up/gw/telemetry", b'{"keys": 1}', TELEMETRY, Reason.WRONG_TYPE),
        ("up/gw/telemetry", b'{"keys": [true]}', TELEMETRY, Reason.WRONG_TYPE),
        ("up/gw/telemetry", b'{"keys": ["h1"]}', TELEMETRY, Reason.NOT_YOURS),
        ("up/gw/telemetry", b"{}", TELEMETRY, Reason.MISSING_FIELD),
        (SMOKE_TOPIC, b'{"state": "FIRE", "smoke": 0}', ALARM, Reason.UNKNOWN_STATE),
        (SMOKE_TOPIC, b'{"state": 1, "smoke": 0}', ALARM, Reason.WRONG_TYPE),
        (SMOKE_TOPIC, b'{"state": ["alarm"], "smoke": 0}', ALARM, Reason.WRONG_TYPE),
    ],
)
def test_what_is_refused_has_its_reason(topic, payload, lane, reason):
    assert refused(topic, payload, lane).reason is reason


def test_an_isolated_device_still_flows():
    assert readings("up/c1/telemetry/off", '{"temperature": 4}') == [("off", "temperature_c", 4.0)]


def test_a_topic_that_no_type_has():
    assert small(Device("h1")).resolve(ALARM, b"up/c1/alarm/a/b").reason is Reason.UNKNOWN_TOPIC


def test_a_wrong_topic_does_not_look_through_the_roster():
    class Large(dict):
        def values(self):
            pytest.fail("200,000 devices for each message")

    place = small(Device("h1"), Device("t1", BATCH, carrier="gw"))
    place.view.roster["c1"] = Large(place.view.roster["c1"])
    assert place.resolve(TELEMETRY, b"up/c1/telemetry").reason is Reason.WRONG_TOPIC
    assert isinstance(place.resolve(TELEMETRY, b"up/gw/telemetry"), int)


@pytest.mark.parametrize("topic", [b"", b"/", b"up", b"up/c1", b"\xff\xff", b"up/\xff/alarm/s1"])
def test_any_topic_gets_a_reason(topic):
    assert decode(DISTRICT, ALARM, [message("", b"{}")]).refused
    odd = message("", b"{}")
    odd.topic = topic
    assert decode(DISTRICT, ALARM, [odd]).refused[0].unread


def test_one_bad_field_never_takes_the_fire_beside_it_along():
    for bad in ("NaN", '"hot"', "true", "1e999", "[]", "-nan", "inf", "9999", "null"):
        payload = f'{{"temperature": {bad}, "smoke": nan, "state": "alarm"}}'
        decoded = one(SMOKE_TOPIC, payload, ALARM)
        assert ("s1", "fire_state", 1.0) in shown(DISTRICT.view, decoded)
        (found,) = decoded.refused
        assert not found.unread


def test_a_word_inside_a_text_is_no_number():
    assert parse(b'{"a": "nan \\" inf", "b": inf, "c": -NAN}')["a"] == 'nan " inf'


def test_a_field_that_can_say_an_alarm_makes_the_payload_unread():
    assert refused(SMOKE_TOPIC, '{"state": "?", "smoke": 0}', ALARM).unread
    assert not refused(SMOKE_TOPIC, '{"state": "alarm"}', ALARM).unread


def test_a_payload_without_a_telemetry_row_leaves_a_heard_row():
    decoded = one("up/nb/alarm/n1", '{"event": "alarm"}', ALARM)
    assert shown(DISTRICT.view, decoded) == [("n1", "fire_state", 1.0), ("n1", "heard", 1.0)]
    assert decoded.alarm.tolist() == [True, False]
    assert readings("up/nb/alarm/n1", '{"event": "heartbeat"}', ALARM)[-1][1] != "heard"


def test_garbage_is_not_being_heard():
    assert readings("up/nb/alarm/n1", '{"event": "gibberish"}', ALARM) == []


HOUR_US = 3_600_000_000


@pytest.mark.parametrize(
    ("off_us", "event_off_us", "flags"),
    [
        (0, 0, 0),
        (60_000_000, 60_000_000, 0),
        (60_001_000, 0, Flag.CLOCK_CORRECTED),
        (-60_000_000, -60_000_000, 0),
        (-60_001_000, -60_001_000, Flag.LATE),
        (-48 * HOUR_US, -48 * HOUR_US, Flag.LATE),
        (-48 * HOUR_US - 1_000, 0, Flag.CLOCK_CORRECTED),
        (-T0_US, 0, Flag.CLOCK_CORRECTED),
        (T0_US, 0, Flag.CLOCK_CORRECTED),
    ],
)
def test_the_time_rule(off_us, event_off_us, flags):
    at_ms = (T0_US + off_us) // 1000
    decoded = one("up/gw/telemetry", f'{{"keys": ["t1"], "times": [{at_ms}], "temperatures": [1]}}')
    assert decoded.event_us.tolist() == [T0_US + event_off_us]
    assert decoded.flags.tolist() == [flags]
    if flags & Flag.CLOCK_CORRECTED:
        assert decoded.corrected_us.tolist() == [off_us]
        assert DISTRICT.view.device_key[decoded.corrected_device[0]] == "t1"


def test_flags_of_a_redelivered_message_without_device_time():
    decoded = one(HEAT_TOPIC, '{"temperature": 1}', dup=True)
    assert decoded.flags.tolist() == [Flag.REDELIVERED | Flag.NO_DEVICE_TIME]
    assert decoded.event_us.tolist() == [T0_US]


@pytest.mark.parametrize("time", ['"soon"', "true", "1e300", "1" + "0" * 400, "NaN", "[]"])
def test_a_time_that_is_none_costs_no_reading(time):
    decoded = one(HEAT_TOPIC, f'{{"temperature": 5, "ts": {time}}}')
    assert shown(DISTRICT.view, decoded) == [("h1", "temperature_c", 5.0)]
    assert decoded.flags.tolist() == [Flag.NO_DEVICE_TIME]
    assert decoded.refused[0].faults == ((Reason.BAD_TIME, "time", 1),)
    assert not decoded.refused[0].unread


def test_readings_of_a_point_keep_the_order_of_their_messages():
    payloads = ['{"temperature": 1}', '{"temperature": "x"}', '{"temperature": 3}']
    messages = [message(HEAT_TOPIC, one, at_us=T0_US + at) for at, one in enumerate(payloads * 3)]
    decoded = decode(DISTRICT, TELEMETRY, messages)
    assert decoded.event_us.tolist() == sorted(decoded.event_us.tolist())
    assert decoded.value.tolist() == [1, 3] * 3


def test_a_quantity_without_a_point_is_told():
    place = small(Device("h1"))
    place.view.point_quantity[:] = 4
    decoded = decode(place, TELEMETRY, [message(HEAT_TOPIC, '{"temperature": 1}')])
    assert len(decoded.point) == 0
    assert decoded.refused[0].reason is Reason.NO_POINT


def test_two_types_that_disagree_on_a_lane_leave_the_topic_to_the_alarm_lane():
    odd = HEAT.replace("up/{carrier}/telemetry", "up/{carrier}/x")
    other = SMOKE_HEAT.replace("up/{carrier}/alarm", "up/{carrier}/x")
    place = small(Device("a", odd), Device("b", other))
    assert place.filters(TELEMETRY) == ("up/+/telemetry/#",)
    assert place.filters(ALARM) == ("up/+/alarm/#", "up/+/x/+")
    assert "up/{carrier}/x/{key}" in place.broken
    got = decode(place, ALARM, [message("up/c1/x/a", '{"temperature": 1}')])
    assert shown(place.view, got) == [("a", "temperature_c", 1.0)]


def test_noise_is_not_searched_for_words_that_it_has_not(monkeypatch):
    monkeypatch.setattr(formats, "_NOT_FINITE", None)
    for noise in (b"[" * 16_000, b'{"a":' + b'"\\"' * 5_000, b'["' + b"a" * 200_000, b"\xff"):
        with pytest.raises(ValueError, match=r"\w"):
            parse(noise)


def test_a_slip_of_ours_costs_the_payload_that_shows_it(monkeypatch):
    def slipping(columns):
        if any(66.0 in column.wires for column in columns):
            raise ZeroDivisionError("a slip")
        return judge_columns(columns)

    monkeypatch.setattr("ingest.cells.judge_columns", slipping)
    said = [message(HEAT_TOPIC, f'{{"temperature": {value}}}') for value in (21, 66, 22)]
    said.append(message("up/gw/telemetry", '{"keys": ["t1"], "temperatures": [66]}'))
    decoded = shielded(DISTRICT, TELEMETRY, said)
    assert [row[2] for row in shown(DISTRICT.view, decoded)] == [21.0, 22.0]
    assert decoded.message.tolist() == [0, 2]
    assert [(one.message, one.whole, one.faults) for one in decoded.refused] == [
        (1, True, ((Reason.NOT_DECODED, "ZeroDivisionError: a slip", 1),)),
        (3, True, ((Reason.NOT_DECODED, "ZeroDivisionError: a slip", 0),)),
    ]


def test_a_slip_among_many_is_found_by_halves(monkeypatch):
    asked = []

    def slipping(columns):
        asked.append(columns)
        if any(66.0 in column.wires for column in columns):
            raise ZeroDivisionError("a slip")
        return judge_columns(columns)

    monkeypatch.setattr("ingest.cells.judge_columns", slipping)
    said = [message(HEAT_TOPIC, f'{{"temperature": {value}}}') for value in [21] * 777 + [66, 22]]
    decoded = shielded(DISTRICT, TELEMETRY, said)
    assert [one.message for one in decoded.refused] == [777]
    assert len(decoded.point) == 778
    assert len(asked) < 30


def test_a_type_that_does_not_compile_is_named():
    assert list(DISTRICT.broken) == ["type.5"]


JUNK = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.sampled_from(
        ["alarm", "normal", "heartbeat", "t1", "a1", "i1", "2026-03-01T08:00:00", "\ud800"]
    )
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4),
    max_leaves=8,
)
NAMES = ["temperature", "ts", "state", "smoke", "time", "event", "at", "battery"]
NAMES += ["keys", "ids", "times", "temperatures"]
TOPICS = [HEAT_TOPIC, SMOKE_TOPIC, "up/nb/alarm/n1", "up/gw/telemetry", fix_batch.TOPIC]
OBJECTS = st.dictionaries(st.sampled_from(NAMES), JUNK).map(
    lambda found: json.dumps(found).encode()
)
PAYLOADS = OBJECTS | st.binary(max_size=60) | OBJECTS.map(lambda raw: raw[: len(raw) // 2])


BATCHES = fix_batch.BATCHES.map(lambda found: json.dumps(found).encode())
MESSAGES = st.tuples(st.sampled_from(TOPICS), PAYLOADS) | st.tuples(
    st.just(fix_batch.TOPIC), BATCHES
)


@given(st.lists(MESSAGES, max_size=6))
def test_decode_never_raises_and_answers_for_every_message(pairs):
    for lane in Lane:
        messages = [message(topic, raw, at_us=T0_US + at) for at, (topic, raw) in enumerate(pairs)]
        decoded = decode(DISTRICT, lane, messages)
        assert np.isfinite(decoded.value).all()
        assert (decoded.point > 0).all()
        assert (np.abs(decoded.event_us - T0_US) <= 49 * HOUR_US).all()
        answered = set(decoded.message.tolist()) | {found.message for found in decoded.refused}
        silent = [one for at, one in enumerate(messages) if at not in answered]
        # Only a batch that holds nothing, or nothing but nulls, may pass without a word.
        assert all(_empty(one) for one in silent)


def _empty(one):
    if one.topic != fix_batch.TOPIC.encode():
        return b"/telemetry" in one.topic and b"keys" in one.payload
    return fix_batch.is_empty(json.loads(one.payload))


@given(PAYLOADS)
def test_the_fast_and_the_patient_way_agree(raw):
    for text in (HEAT, SMOKE_HEAT, SMOKE_STATE, BATCH, fix_batch.alarm_batch("/keys")):
        (compiled,) = compile_type(text, "t")
        quick, patient = reader(compiled), Reader(compiled, None)
        (fast, slow) = (way.read([raw]) for way in (quick, patient))
        if not any(columns.typed for columns in fast[0]):
            continue
        assert fast[1] == slow[1] == []
        if slow[0]:
            for field in quick.compiled.fields:
                column = Column(field, fast[0][0].slots[field.slot], fast[0][0].typed)
                verdicts, values = judge_columns([column])
                others, theirs = judge_all(field, slow[0][0].slots[field.slot])
                assert verdicts.tolist() == others.tolist()
                assert values.tolist() == theirs.tolist()


def test_pointers_lead_into_objects_and_arrays():
    text = HEAT.replace("pointer: /temperature", "pointer: /data/0/a~1b")
    place = small(Device("h1", text))
    decoded = decode(place, TELEMETRY, [message(HEAT_TOPIC, '{"data": [{"a/b": 7}]}')])
    assert decoded.value.tolist() == [7.0]
    nested = small(Device("h1", HEAT.replace("pointer: /temperature", "pointer: /data/t")))
    assert nested.readers[PARTS].quick is not None
    for raw, count in (('{"data": {"t": 7}}', 1), ('{"data": 3}', 0), ("{}", 0)):
        assert len(decode(nested, TELEMETRY, [message(HEAT_TOPIC, raw)]).point) == count


def test_a_scale_and_an_offset_come_before_the_unit():
    text = HEAT.replace("unit: degC", "unit: degF\n    scale: 0.1\n    offset: -10")
    place = small(Device("h1", text.replace("minimum: -40", "minimum: 0")))
    decoded = decode(place, TELEMETRY, [message(HEAT_TOPIC, '{"temperature": 2220}')])
    assert decoded.value.tolist() == [100.0]  # 222 - 10 = 212 degF


def test_the_size_of_a_payload_is_bounded_before_it_is_read(monkeypatch):
    monkeypatch.setattr(formats.json, "loads", lambda _: pytest.fail("read"))
    assert refused("up/gw/telemetry", b" " * (256 * 1024 + 1)).reason is Reason.TOO_LARGE
