"""Faults of device-type files: each is found, located, and the others are told with it."""

import pytest
from fix_bridge import BATCH, HEAT, SMOKE_HEAT, SMOKE_STATE

from ingest.check import check
from ingest.device_types.load import conflicts, load, overlap
from ingest.onboarding import load_all, operators, points_needed
from sizao.errors import BadInput


def faults(text):
    with pytest.raises(BadInput) as caught:
        load(text, "f.yaml")
    return str(caught.value).splitlines()


def line_of(text, word):
    return next(number for number, line in enumerate(text.splitlines(), 1) if word in line)


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("unit: degC", "unit: C", "quantities.temperature_c.unit: got 'C', which does not fit"),
        ("unit: degC", "unti: degC", "unti: got an unknown key, expected one of"),
        ("  temperature_c:", "  temperatur_c:", "nearest: temperature_c"),
        ("format: json\n", "format: xml\n", "format: "),
        ("lane: telemetry", "lane: alarm", "under up/+/telemetry are of lane telemetry"),
        ("{carrier}/telemetry/{key}", "+/telemetry/{key}", "expected up/{carrier}/"),
        ("{carrier}/telemetry/{key}", "{carrier}/telemetry", "expected it there, or a `key`"),
        ("{carrier}/telemetry/{key}", "{carrier}/telemetry/#", "no wildcard"),
        ("minimum: -40", "minimum: 900", "is not below the maximum"),
        ("minimum: -40", "scale: 0", "expected another number"),
        ("minimum: -40", "scale: .nan", "scale: "),
        ("pointer: /ts", "pointer: ts", "expected a JSON pointer"),
        ("pointer: /ts", "pointer: /temperature/at", "leads through /temperature"),
        ("repeats: no", "repeats: sometimes", "repeats: "),
        ("expected_interval_s: 10", "expected_interval_s: 0", "expected_interval_s: "),
        ("name: generic.heat", "name: Generic Heat", "small letters"),
        ("broken: [-127]", "broken: ['no']", "expected a number"),
        ("readings: [{quantity: temperature_c, value: -3}]", "readings: [{quantity: t, value: 1}]",
         "got 't', which is not mapped"),
        ("bad_fields: {temperature_c: not_finite}", "bad_fields: {x: not_finite}",
         "x: got a name that is not mapped"),
        ("refused: not_json", "refused: because", "refused"),
    ],
)  # fmt: skip
def test_a_fault_is_told_with_its_line(old, new, expected):
    assert old in HEAT
    text = HEAT.replace(old, new, 1)
    found = faults(text)
    assert any(expected in fault for fault in found), found
    assert found[0].startswith("f.yaml:")


def test_only_what_measures_temperature_is_a_heat_detector():
    (fault,) = faults(SMOKE_STATE.replace("repeats:", "heat_detector: yes\nrepeats:", 1))
    assert fault.endswith("heat_detector: got 'yes', expected no, or a map to temperature_c")
    assert load(HEAT, "f.yaml").heat_detector


def test_only_what_measures_gas_is_a_gas_detector():
    (fault,) = faults(SMOKE_STATE.replace("repeats:", "gas_detector: yes\nrepeats:", 1))
    assert fault.endswith("gas_detector: got 'yes', expected no, or a map to gas_lel_pct")
    assert not load(HEAT, "f.yaml").gas_detector


def test_the_line_is_that_of_the_fault():
    text = SMOKE_HEAT.replace("hushed: muted", "hushed: mutd")
    number = line_of(text, "mutd")
    (fault,) = faults(text)
    assert fault.startswith(f"f.yaml:{number}: quantities.fire_state.states.hushed: got 'mutd'")
    assert fault.endswith("nearest: muted")


def test_all_faults_are_told_together():
    text = SMOKE_HEAT.replace("unit: dB/m", "unit: '%'").replace("lane: alarm", "lane: telemetry")
    told = "\n".join(faults(text))
    assert "quantities.smoke_od_per_m.unit" in told
    assert "topics.0.lane" in told


def test_a_type_that_says_alarms_belongs_to_the_alarm_lane():
    text = SMOKE_HEAT.replace("lane: alarm", "lane: telemetry").replace("/alarm/", "/telemetry/")
    assert any("this type says alarms; expected alarm" in fault for fault in faults(text))


def test_a_state_table_that_never_alarms_is_a_fault():
    text = SMOKE_HEAT.replace("alarm: alarm, test: self_test, hushed: muted", "off: normal")
    assert any("got only values that mean normal" in fault for fault in faults(text))


def test_a_batch_needs_its_array_of_keys():
    assert any(
        "expected it there, or a `key`" in fault
        for fault in faults(BATCH.replace("key: /keys", ""))
    )


def test_a_file_without_a_refused_example_is_a_fault():
    text = HEAT[: HEAT.index("  - note: numbers are numbers")]
    assert any("got none that is refused" in fault for fault in faults(text))


def test_an_example_that_does_not_come_true_is_told():
    text = HEAT.replace("value: 21.4,", "value: 22,", 1)
    (fault,) = check([("f.yaml", text)])
    assert fault.startswith(f"f.yaml:{line_of(text, 'a quiet room')}: examples.0: expected h-0001")


def test_one_topic_in_two_lanes_is_told_over_the_set():
    odd = HEAT.replace("generic.heat", "a.b").replace("up/{carrier}/telemetry", "up/{carrier}/x")
    other = SMOKE_HEAT.replace("up/{carrier}/alarm/{key}", "up/{carrier}/x/fire").replace(
        "format: json", "format: json\nkey: /id"
    )
    types = {"a.yaml": load(odd, "a.yaml"), "b.yaml": load(other, "b.yaml")}
    (fault,) = conflicts(types)
    assert fault.startswith("b.yaml:1: topics.0.lane: got alarm for up/")
    with pytest.raises(BadInput, match="expected the same lane"):
        load_all([("a.yaml", odd), ("b.yaml", other)])


def test_one_name_twice_is_told():
    with pytest.raises(BadInput, match="which is also the name of a"):
        load_all([("a", HEAT), ("b", HEAT)])


@pytest.mark.parametrize(
    ("one", "two", "expected"),
    [
        ("up/{carrier}/x/{key}", "up/{carrier}/x/fire", True),
        ("up/{carrier}/x/{key}", "up/{carrier}/x", False),
        ("up/{carrier}/x/{key}", "up/{carrier}/y/{key}", False),
    ],
)
def test_patterns_overlap_when_some_topic_fits_both(one, two, expected):
    assert overlap(one, two) is overlap(two, one) is expected


def test_points_are_those_of_all_mapped_quantities_and_heard():
    assert points_needed(HEAT) == [1]
    assert points_needed(SMOKE_HEAT) == [1, 2, 13, 64]


def test_an_operators_folder_is_read_sorted(tmp_path):
    for name in ("b/y.yaml", "a/z.yaml", "a/x.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x")
    assert [name.removeprefix(str(tmp_path)) for name, _ in operators(tmp_path)] == [
        "/a/z.yaml",
        "/b/y.yaml",
    ]
    with pytest.raises(BadInput, match="no such folder"):
        operators(tmp_path / "nothing")
