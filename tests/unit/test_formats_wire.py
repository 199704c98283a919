"""Formats with a standard or a layout of their own: SenML, LoRaWAN uplinks, packed binary."""

import math
import struct

import pytest
from fix_bridge import T0_US
from fix_formats import ALARM, BINARY, LORA, SENML, run, type_of

# -- SenML -------------------------------------------------------------------------------------

URN = "urn:dev:mac:d1/"


def senml(*records):
    rows, faults, decoded = run(SENML, list(records), lane=ALARM, topic="up/c1/alarm")
    return [row[1:] for row in rows if row[1] != "heard"], faults, decoded


def test_senml_resolves_base_fields_and_relative_times():
    rows, faults, decoded = senml(
        {"bn": URN, "bt": T0_US / 1e6, "bu": "Cel", "bv": 20, "n": "temp", "v": 1.5},
        {"n": "temp", "t": -60, "v": 2},
        {"n": "hum", "u": "%RH", "v": 30},
        {"n": "fire", "vb": True},
    )
    assert not faults
    assert sorted(rows) == [
        ("fire_state", 1.0),
        ("humidity_pct", 50.0),
        ("temperature_c", 21.5),
        ("temperature_c", 22.0),
    ]
    assert min(decoded.event_us) == T0_US - 60_000_000
    # Below 2^28 a time counts from now.
    assert senml({"bn": URN, "n": "temp", "v": 1, "t": -5})[2].event_us[0] == T0_US - 5_000_000


def test_senml_names_may_be_whole():
    assert senml({"n": "urn:dev:ow:d1:temp", "v": 3})[0] == [("temperature_c", 3.0)]
    assert senml({"bn": "urn:dev:ow:d1:temp", "v": 3})[0] == [("temperature_c", 3.0)]


def test_senml_of_another_unit_costs_its_record_alone():
    rows, faults, _ = senml({"bn": URN, "n": "temp", "u": "K", "v": 300}, {"n": "fire", "vb": True})
    assert rows == [("fire_state", 1.0)]
    assert faults == {("temperature_c", "wrong_unit")}


@pytest.mark.parametrize(
    "record",
    [
        {"n": "temp", "vs": "hot"},
        {"n": "temp", "v": True},
        {"n": "temp", "v": "3"},
        {"n": "temp", "v": 3, "vs": "3"},
    ],
)
def test_a_senml_value_of_the_wrong_kind_costs_its_record_alone(record):
    rows, faults, _ = senml({"bn": URN, "n": "fire", "vb": True}, record)
    assert rows == [("fire_state", 1.0)]
    assert faults == {("temperature_c", "wrong_type")}


@pytest.mark.parametrize(
    "pack",
    [
        {},
        [],
        [3],
        [{"bn": 3}],
        [{"n": "temp", "v": 1, "must_": 1}],
        [{"bver": 11, "n": "temp", "v": 1}],
        [{"bver": 10.5, "n": "temp", "v": 1}],
        [{"bt": "now", "n": "temp", "v": 1}],
        [{"bn": URN, "n": 3, "v": 1}],
        [{"bn": URN, "n": "other", "v": 1}],
    ],
)
def test_what_is_no_senml_is_refused_whole(pack):
    _, faults, decoded = run(SENML, pack, lane=ALARM, topic="up/c1/alarm")
    assert decoded.refused[0].whole
    assert {reason for _, reason in faults} <= {"not_decoded", "missing_field"}


FIRE = {"bn": URN, "n": "fire", "vb": True}


@pytest.mark.parametrize(
    ("record", "fault"),
    [
        ({"n": "temp", "t": "now", "v": 3}, ("time", "bad_time")),
        ({"n": "temp", "u": 7, "v": 3}, ("temperature_c", "wrong_type")),
        ({"n": ["temp"], "v": 3}, ("key", "missing_field")),
        ("temp", ("key", "missing_field")),
        ({"n": "temp", "u": None, "t": None, "s": "?", "ut": "?", "bt": None, "v": 3}, None),
    ],
)
def test_a_bad_senml_record_costs_itself_and_not_the_fire_beside_it(record, fault):
    rows, faults, decoded = senml(FIRE, record)
    assert ("fire_state", 1.0) in rows
    assert faults == ({fault} if fault else set())
    assert (("temperature_c", 3.0) in rows) is (fault in (None, ("time", "bad_time")))
    assert not any(one.whole for one in decoded.refused)


def test_a_senml_record_that_cannot_be_read_leaves_a_trace_on_a_topic_with_a_key():
    keyed = SENML.replace("up/{carrier}/alarm", "up/{carrier}/alarm/{key}")
    rows, faults, decoded = run(keyed, [{"n": "fire", "vb": True}, 3], lane=ALARM)
    assert ("d1", "fire_state", 1.0) in rows
    assert ("fire_state", "wrong_type") in faults
    assert decoded.refused[0].unread


@pytest.mark.parametrize(
    ("head", "tail"), [("d1", "/fire"), ("d1/", "fire"), ("d1", ":fire"), ("d1", "_fire")]
)
def test_senml_names_are_one_text_wherever_they_are_cut(head, tail):
    pack = [{"bn": f"urn:dev:mac:{head}", "n": tail, "vb": True}]
    rows, faults, _ = run(SENML, pack, lane=ALARM, topic="up/c1/alarm")
    assert ("d1", "fire_state", 1.0) in rows
    assert not faults


@pytest.mark.parametrize("sign", ["", "-"])
@pytest.mark.parametrize(
    "body",
    ['"bt": {}, "n": "temp", "v": 1', '"bv": 1.5, "n": "temp", "v": {}',
     '"bv": {}, "n": "temp", "v": 1.5', '"n": "temp", "v": {}', '"n": "temp", "v": 1, "t": {}',
     '"bs": {}, "n": "temp", "v": 1'],
)  # fmt: skip
def test_a_number_of_hundreds_of_digits_is_refused_and_ends_nothing(body, sign):
    said = body.format(f"{sign}1{'0' * 400}")
    raw = f'[{{"bn": "{URN}", "n": "fire", "vb": true}}, {{{said}}}]'
    rows, _, _ = run(SENML, raw, lane=ALARM, topic="up/c1/alarm")
    assert ("d1", "fire_state", 1.0) in rows


def test_a_senml_record_of_nobody():
    assert senml({"n": "temp", "v": 1})[1] == {("key", "missing_field")}


# -- LoRaWAN -----------------------------------------------------------------------------------


def chirpstack(**more):
    return {
        "deviceInfo": {"devEui": "A1B2"}, "time": "2026-03-01T08:00:00.123456789+00:00",
        "fPort": 2, "object": {"temperature": 21.5}, "rxInfo": [{"rssi": -90}, {"rssi": -60}],
    } | more  # fmt: skip


def things_stack(**more):
    uplink = {
        "received_at": "2026-03-01T08:00:00.5Z", "f_port": 2,
        "decoded_payload": {"temperature": 21.5}, "rx_metadata": [{"rssi": -60}],
    }  # fmt: skip
    return {"end_device_ids": {"dev_eui": "A1B2"}, "uplink_message": uplink | more}


@pytest.mark.parametrize(("shape", "port"), [(chirpstack, "fPort"), (things_stack, "f_port")])
def test_an_uplink_of_both_network_servers(shape, port):
    def said(**more):
        return run(LORA, shape(**more), topic="up/c1/telemetry/lora", devices=("a1b2",))

    rows, faults, decoded = said()
    assert rows == [("a1b2", "temperature_c", 21.5), ("a1b2", "signal_dbm", -60.0)]
    assert not faults
    assert 0 < decoded.event_us[0] - T0_US <= 500_000
    assert said(**{port: 5})[0] == [("a1b2", "signal_dbm", -60.0)]
    bare = {"object": None} if shape is chirpstack else {"decoded_payload": None}
    (_, reason) = said(**bare)[1].pop()
    assert reason == "missing_field"


@pytest.mark.parametrize("said", [{"devEUI": "x"}, {"end_device_ids": {}, "join_accept": {}}, []])
def test_what_is_no_uplink(said):
    _, faults, decoded = run(LORA, said, topic="up/c1/telemetry/lora", devices=("a1b2",))
    assert decoded.refused[0].whole
    assert {reason for _, reason in faults} <= {"not_decoded", "wrong_type"}


# -- binary ------------------------------------------------------------------------------------


def packed(*records, count=None, magic=0x5A01, tail=b""):
    head = struct.pack("<HBI", magic, len(records) if count is None else count, T0_US // 1_000_000)
    return (
        head
        + b"".join(bytes.fromhex(key) + struct.pack("<BhB", *rest, 0) for key, *rest in records)
        + tail
    )


def binary(raw):
    rows, faults, decoded = run(
        BINARY, raw, lane=ALARM, topic="up/c1/alarm", devices=("d1", "12345")
    )
    return rows, faults, decoded


def test_packed_records_with_bits_and_a_decimal_key():
    rows, faults, decoded = binary(packed(("12345f", 0x80, 215), ("12345f", 0x06, -32768)))
    assert sorted(rows) == [
        ("12345", "fire_state", 0.0),
        ("12345", "fire_state", 1.0),
        ("12345", "heard", 1.0),
        ("12345", "temperature_c", 21.5),
    ]
    assert faults == {("temperature_c", "sensor_broken")}
    assert set(decoded.event_us.tolist()) == {T0_US}


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        packed()[:-1],
        packed(magic=1),
        packed(("12345f", 0, 0), count=2),
        packed(("12345f", 0, 0), count=0),
        packed(("12345f", 0, 0), tail=b"x"),
    ],
)
def test_packed_bytes_that_do_not_fit_are_refused_whole(raw):
    _, faults, decoded = binary(raw)
    assert decoded.refused[0].whole
    assert {reason for _, reason in faults} == {"not_decoded"}


def test_floats_and_every_size_of_number():
    kinds = [("uint8", 200), ("int8", -2), ("uint16", 60000), ("int16", -300), ("uint24", 70000),
             ("uint32", 4_000_000), ("int32", -5), ("uint64", 7), ("int64", -7), ("float32", 0.5),
             ("float64", float("nan"))]  # fmt: skip
    for order, sign in (("big", ">"), ("little", "<")):
        for kind, value in kinds:
            body = f"""layout: {{byte_order: {order}, fields: [{{name: x, type: {kind}}}]}}
quantities:
  power_w: {{pointer: /x, unit: W}}
"""
            code = {
                "uint8": "B",
                "int8": "b",
                "uint16": "H",
                "int16": "h",
                "uint32": "I",
                "int32": "i",
                "uint64": "Q",
                "int64": "q",
                "float32": "f",
                "float64": "d",
            }
            raw = (
                struct.pack(sign + code[kind], value) if kind in code else value.to_bytes(3, order)
            )
            rows, faults, _ = run(type_of(body, fmt="binary"), raw)
            if not math.isnan(value):
                assert rows == [("d1", "power_w", value)], (order, kind)
            else:
                assert faults == {("power_w", "not_finite")}


def test_an_uplink_that_a_person_made_up_is_no_fire():
    said = things_stack() | {"simulated": True}
    _, faults, decoded = run(LORA, said, topic="up/c1/telemetry/lora", devices=("a1b2",))
    assert decoded.refused[0].whole
    assert faults == {("simulated at the network server", "not_decoded")}


@pytest.mark.parametrize(
    ("kind", "raw", "number"),
    [("text", b"12", 12.0), ("text", b"1x", None), ("text", b"\0\0", None),
     ("hex", b"\x12\x34", 1234.0), ("hex", b"\x1a\x34", None), ("bcd", b"\x12\x3f", 123.0),
     ("bcd", b"\xff\xff", None), ("bcd", b"\x1a\x00", None), ("text", b"\xff1", None)],
)  # fmt: skip
@pytest.mark.parametrize("text", ["yes", "no"])
def test_letters_in_packed_bytes_that_are_no_number_cost_themselves(kind, raw, number, text):
    body = f"""layout: {{fields: [{{name: x, type: {kind}, size: 2}}, {{name: y, type: uint8}}]}}
quantities:
  power_w: {{pointer: /x, unit: W, text: {text}}}
  fire_state: {{pointer: /y, unit: state, states: {{0: normal, 1: alarm}}}}
"""
    rows, faults, _ = run(type_of(body, fmt="binary", lane="alarm"), raw + b"\1", lane=ALARM)
    assert ("d1", "fire_state", 1.0) in rows
    if number is not None:
        assert ("d1", "power_w", number) in rows
        assert not faults
    else:
        assert faults == {("power_w", "wrong_type")}
