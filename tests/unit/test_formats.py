"""Formats of a device type: lists, deciders, items, columns, plain text, codecs."""

import contextlib
import json

import pytest
from fix_bridge import T0_US, Device, message, small
from fix_formats import (
    ALARM,
    BINARY,
    CODED,
    KINDS,
    LORA,
    NODE,
    PAIRS,
    PARTS,
    SENML,
    TELEMETRY,
    run,
    type_of,
)
from hypothesis import given
from hypothesis import strategies as st

from ingest.check import check
from ingest.decode import decode
from ingest.device_types.codecs import CODECS, cayenne_lpp, percent_per_foot
from ingest.device_types.reasons import Reason
from sizao.units import GASES

# -- lists and deciders ------------------------------------------------------------------------


def pairs(*found):
    return {"data": [dict(one) for one in found]}


def test_the_element_of_that_name_is_picked_from_a_list_of_pairs():
    said = pairs(
        {"name": "rh", "value": 50}, {"name": "temp", "value": "21.5"}, {"id": 7, "value": 1}
    )
    rows, faults, _ = run(PAIRS, said)
    assert rows == [("d1", "temperature_c", 21.5), ("d1", "smoke_od_per_m", 0.1)]
    assert not faults


def test_two_elements_of_one_name_that_differ_are_ambiguous_and_alike_are_not():
    one, other = {"name": "temp", "value": "21"}, {"name": "temp", "value": "90"}
    assert run(PAIRS, pairs(one, other))[1] == {("temperature_c", "ambiguous")}
    assert run(PAIRS, pairs(one, dict(one)))[0] == [("d1", "temperature_c", 21.0)]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("0_02", "wrong_type"), ("\uff12\uff11", "wrong_type"), ("0x10", "wrong_type"),
        ("", "wrong_type"),
        ("21,5", "wrong_type"), (" 21", "wrong_type"), ("1e400", "not_finite"),
        ("nan", "not_finite"), ("-Infinity", "not_finite"), ("9" * 65, "wrong_type"),
        (True, "wrong_type"), ([], "wrong_type"), ({}, "wrong_type"),
    ],
)  # fmt: skip
def test_a_number_as_text_is_strict(text, reason):
    rows, faults, _ = run(PAIRS, pairs({"name": "temp", "value": text}))
    assert (rows, faults) == ([], {("temperature_c", reason)})


@pytest.mark.parametrize("text", ["21", "+21", "21.", "21.0", ".21e2", "2100E-2", 21, 21.0])
def test_and_takes_what_is_a_number(text):
    assert run(PAIRS, pairs({"name": "temp", "value": text}))[0] == [("d1", "temperature_c", 21.0)]


def test_a_field_decides_what_the_rest_means():
    def said(kind, value):
        rows, faults, _ = run(KINDS, {"kind": kind, "value": value}, lane=ALARM)
        return [row[1:] for row in rows if row[1] != "heard"], faults

    assert said("alarm", 1) == ([("fire_state", 1.0)], set())
    assert said("temp", 1) == said(2, 1) == ([("temperature_c", 1.0)], set())
    # A network server writes every number as a float; 1.0 is the fire that 1 is.
    assert said("alarm", 1.0) == ([("fire_state", 1.0)], set())
    assert said(2.0, 1) == ([("temperature_c", 1.0)], set())
    assert said("alarm", 1.5) == ([], {("fire_state", "wrong_type")})
    # What does not apply is not broken; that it spoke is worth a heard row.
    assert said("hello", None) == ([], set())
    # What nobody knows may be a fire.
    both = {("fire_state", "unknown_state"), ("temperature_c", "unknown_state")}
    assert said("other", 1) == said(3, 1) == ([], both)
    missing = {("fire_state", "missing_field"), ("temperature_c", "missing_field")}
    assert said(None, 1) == ([], missing)
    assert said({}, 1)[1] == {("fire_state", "wrong_type"), ("temperature_c", "wrong_type")}


def test_an_optional_value_whose_deciding_field_is_missing_may_be_a_fire():
    text = KINDS.replace("{0: normal, 1: alarm}", "{0: normal, 1: alarm}\n    optional: yes")

    def said(payload):
        return {fault for fault in run(text, payload, lane=ALARM)[1] if fault[0] == "fire_state"}

    assert said({"value": 1}) == {("fire_state", "missing_field")}
    assert said({"value": "?"}) == {("fire_state", "missing_field")}
    assert said({}) == said({"value": None}) == said({"kind": "temp", "value": 1}) == set()


def test_each_item_is_a_device_and_the_root_has_the_time():
    said = {"at": "20260301160000", "parts": [{"part": 1, "state": 1}, {"part": "b", "state": 0}]}
    rows, faults, decoded = run(PARTS, said, lane=ALARM, topic="up/c1/alarm", devices=("1", "b"))
    assert [row for row in rows if row[1] == "fire_state"] == [
        ("1", "fire_state", 1.0),
        ("b", "fire_state", 0.0),
    ]
    assert not faults
    assert set(decoded.event_us.tolist()) == {T0_US}


def test_a_bad_item_does_not_take_the_fire_beside_it_along():
    said = {"parts": ["?", {"part": "x", "state": 1}, {"state": 1}, {"part": "1", "state": 1}]}
    rows, faults, _ = run(PARTS, said, lane=ALARM, topic="up/c1/alarm", devices=("1",))
    assert ("1", "fire_state", 1.0) in rows
    assert faults == {("key", "missing_field"), ("x", "unknown_device")}


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ({}, "missing_field"),
        ({"parts": 3}, "wrong_type"),
        ("[", "not_json"),
        ({"parts": [1] * 8001}, "too_many_rows"),
        (" " * (256 * 1024 + 1), "too_large"),
    ],
)
def test_what_has_no_items_is_refused_whole(said, reason):
    _, faults, decoded = run(PARTS, said, lane=ALARM, topic="up/c1/alarm", devices=("1",))
    assert {one for _, one in faults} == {reason}
    assert decoded.refused[0].whole


def test_several_readings_of_one_device_each_with_its_time():
    history = type_of("""items: $
time: {pointer: /age, format: age_s}
quantities:
  level_m: {pointer: /level, unit: cm}
""")  # fmt: skip
    rows, _, decoded = run(history, [{"age": 60, "level": 150}, {"age": 0, "level": 151}])
    assert [row[2] for row in rows] == [1.5, 1.51]
    assert decoded.event_us.tolist() == [T0_US - 60_000_000, T0_US]


def test_columns_of_one_device_by_its_array_of_times():
    columns = type_of("""time: {pointer: /t, format: unix_s}
quantities:
  pressure_kpa: {pointer: /p, unit: MPa}
""", fmt="json_columns")  # fmt: skip
    at = T0_US // 1_000_000
    rows, faults, decoded = run(columns, {"t": [at - 10, at], "p": [0.14, None]})
    assert rows == [("d1", "pressure_kpa", 140.0)]
    assert faults == {("pressure_kpa", "missing_field")}
    assert decoded.event_us.tolist() == [T0_US - 10_000_000]
    assert run(columns, {"p": [0.14]})[1] == {("/t: an array of times expected", "missing_field")}


# -- plain, topics with quantities of their own ------------------------------------------------


def test_each_topic_has_its_own_quantities():
    assert check([("node.yaml", NODE)]) == []

    def said(lane, level, payload):
        rows, faults, _ = run(NODE, payload, lane=lane, topic=f"up/c1/{lane}/d1/{level}")
        return [row[1:] for row in rows], {reason for _, reason in faults}

    assert said(ALARM, "smoke", "ON\n") == ([("fire_state", 1.0), ("heard", 1.0)], set())
    assert said(ALARM, "smoke", "on") == ([], {"unknown_state"})
    assert said(TELEMETRY, "temperature", " 21.5 ") == ([("temperature_c", 21.5)], set())
    assert said(TELEMETRY, "temperature", "unavailable") == ([], set())
    assert said(TELEMETRY, "temperature", "nan") == ([], {"not_finite"})
    assert said(TELEMETRY, "temperature", b"\xff") == ([], {"not_decoded"})
    assert said(TELEMETRY, "status", b"\xff") == ([], set())


def test_a_quantity_that_stands_on_no_topic_would_never_be_read():
    text = NODE.replace("quantities: [fire_state]", "quantities: []", 1)
    assert any(
        "topics: got none with fire_state, which is mapped" in fault
        for fault in check([("n.yaml", text)])
    )


def test_a_topic_that_carries_an_alarm_is_of_the_alarm_lane():
    text = NODE.replace("alarm/{key}/smoke", "telemetry/{key}/smoke").replace(
        "lane: alarm", "lane: telemetry"
    )
    assert any("this type says alarms; expected alarm" in fault for fault in check([("n", text)]))


# -- codecs ------------------------------------------------------------------------------------


def test_cayenne_lpp_reads_channels():
    raw = bytes.fromhex("01670110 0268 64 0373 2781 0402 FF9C 0571 000000000000".replace(" ", ""))
    found = cayenne_lpp(raw)
    assert found["1"]["temperature"] == pytest.approx(27.2)
    assert found["2"]["humidity"] == 50.0
    assert found["3"]["barometer"] == pytest.approx(1011.3)
    assert found["4"]["analog_input"] == pytest.approx(-1.0)
    assert "5" not in found
    for bad in ("", "01", "0167", "016701", "01FF00"):
        with pytest.raises(ValueError, match=r"\w"):
            cayenne_lpp(bytes.fromhex(bad))


def test_percent_per_foot_becomes_optical_density_per_metre():
    # 2.5 %/ft: 0.975 of the light is left, 0.01100 decades in 0.3048 m.
    assert percent_per_foot(b'{"obscuration": 2.5}')["od_per_m"] == pytest.approx(0.03608, abs=1e-5)


def test_a_codec_is_named_in_the_file():
    assert run(CODED, bytes.fromhex("01670110"))[0] == [("d1", "temperature_c", 27.2)]
    assert {reason for _, reason in run(CODED, b"\x01")[1]} == {"not_decoded"}
    text = CODED.replace("codec: cayenne_lpp", "codec: cayene_lpp")
    assert any("nearest: cayenne_lpp" in fault for fault in check([("c", text)]))


@given(st.binary(max_size=80), st.sampled_from(sorted(CODECS)))
def test_a_codec_returns_or_says_what_is_wrong(raw, name):
    with contextlib.suppress(ValueError):
        CODECS[name](raw)


# -- none of it raises -------------------------------------------------------------------------

LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6)
LEAVES |= st.sampled_from([10**400, -(10**400)])  # no float, and no dozen draws find it
NAMES = ["data", "name", "value", "id", "kind", "part", "parts", "state", "at", "bn", "bt", "n"]
NAMES += ["v", "vs", "vb", "u", "t", "deviceInfo", "devEui", "object", "time", "rxInfo", "rssi"]
NAMES += ["end_device_ids", "dev_eui", "uplink_message", "decoded_payload", "temp", "temperature"]
TREES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=6)
    ),
    max_leaves=20,
)
RAW = st.binary(max_size=60) | TREES.map(lambda tree: json.dumps(tree).encode())
CASES = [
    (PAIRS, TELEMETRY, "up/c1/telemetry/d1"), (KINDS, ALARM, "up/c1/alarm/d1"),
    (PARTS, ALARM, "up/c1/alarm"), (SENML, ALARM, "up/c1/alarm"), (BINARY, ALARM, "up/c1/alarm"),
    (LORA, TELEMETRY, "up/c1/telemetry/lora"), (NODE, ALARM, "up/c1/alarm/d1/smoke"),
    (NODE, TELEMETRY, "up/c1/telemetry/d1/temperature"), (CODED, TELEMETRY, "up/c1/telemetry/d1"),
]  # fmt: skip
DISTRICTS = [(small(Device("d1", document)), lane, topic) for document, lane, topic in CASES]


@given(RAW, st.sampled_from(range(len(CASES))))
def test_decode_never_raises_and_passes_nothing_over(raw, place):
    district, lane, topic = DISTRICTS[place]
    decoded = decode(district, lane, [message(topic, raw), message(topic, raw)])
    for one in decoded.refused:
        assert one.detail.encode()
        assert all(fault.reason in Reason for fault in one.faults)


# -- gas ---------------------------------------------------------------------------------------

GAS = type_of("""gas_detector: yes
quantities:
  gas_lel_pct: {pointer: /gas, unit: ppm, maximum: 100000}
""")  # fmt: skip


@pytest.mark.parametrize(
    ("gas", "ppm", "lel_pct"),
    [("methane", 10_000, 20.0), ("propane", 10_000, 47.619), ("methane", 0, 0.0)],
)
def test_ppm_are_of_the_gas_that_the_registry_names(gas, ppm, lel_pct):
    district = small(Device("d1", GAS, gas=GASES.index(gas)))
    decoded = decode(district, TELEMETRY, [message("up/c1/telemetry/d1", f'{{"gas": {ppm}}}')])
    assert decoded.value.tolist() == pytest.approx([lel_pct], abs=1e-3)


def test_ppm_of_a_gas_that_nobody_has_named_and_beyond_all_bounds():
    assert run(GAS, {"gas": 100})[1] == {("gas_lel_pct", "no_gas")}
    district = small(Device("d1", GAS.replace("100000", "10000000"), gas=2))
    decoded = decode(district, TELEMETRY, [message("up/c1/telemetry/d1", '{"gas": 5000000}')])
    assert decoded.refused[0].reason is Reason.OUT_OF_RANGE
    text = GAS.replace("gas_detector: yes", "gas_detector: no")
    assert any("depends on the gas" in fault for fault in check([("g", text)]))
