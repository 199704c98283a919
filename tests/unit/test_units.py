import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sizao import limits, units


def test_codes_and_names_are_unique_and_stable():
    assert len(units.BY_CODE) == len(units.BY_NAME) == len(units.QUANTITIES)
    # Stored in every registry: these may be added to, never changed.
    known = {"temperature_c": 1, "smoke_od_per_m": 2, "co_ppm": 3, "heard": 13, "fire_state": 64}
    assert {name: units.BY_NAME[name].code for name in known} == known


def test_the_unit_stands_last_in_the_name():
    ends = {"degC": "_c", "1/m": "_per_m", "ppm": "_ppm", "%": "_pct", "%LEL": "_lel_pct"}
    ends |= {"mA": "_ma", "kPa": "_kpa", "m": "_m", "state": "_state", "1": "heard"}
    ends |= {"A": "_a", "V": "_v", "W": "_w", "m3/h": "_m3_per_h", "deg": "_deg", "dBm": "_dbm"}
    for quantity in units.QUANTITIES:
        assert quantity.name.endswith(ends[quantity.unit]), quantity


def test_alarms_travel_in_the_alarm_lane_and_conditions_do_not():
    for quantity in units.QUANTITIES:
        assert (quantity.lane is units.Lane.ALARM) == (quantity.code >= 64)
        if quantity.unit == "state":
            assert quantity.maximum == (3 if quantity.code >= 64 else 1)
        for bound in (quantity.minimum, quantity.maximum):
            assert float(np.float32(bound)) == bound


@pytest.mark.parametrize(
    ("unit", "quantity", "wire", "canonical"),
    [
        ("degF", "temperature_c", 212.0, 100.0),
        ("degF", "temperature_c", -40.0, -40.0),
        ("K", "temperature_c", 273.15, 0.0),
        ("dB/m", "smoke_od_per_m", 1.2, 0.12),
        ("MPa", "pressure_kpa", 0.14, 140.0),
        ("bar", "pressure_kpa", 1.4, 140.0),
        ("A", "residual_current_ma", 0.3, 300.0),
        ("A", "current_a", 0.3, 0.3),
        ("mA", "current_a", 300.0, 0.3),
        ("mV", "battery_v", 3600.0, 3.6),
        ("L/s", "flow_m3_per_h", 10.0, 36.0),
        ("ratio", "humidity_pct", 0.55, 55.0),
    ],
)
def test_units_are_converted_at_the_border(unit, quantity, wire, canonical):
    scale, offset = units.conversion(unit, units.BY_NAME[quantity])
    assert wire * scale + offset == pytest.approx(canonical)


def test_a_unit_of_another_thing_is_refused_with_those_that_fit():
    with pytest.raises(ValueError, match=r"does not fit temperature_c; expected degC, degF, K"):
        units.conversion("kPa", units.BY_NAME["temperature_c"])


@given(st.sampled_from(units.QUANTITIES), st.floats(-1e6, 1e6))
def test_conversion_there_and_back(quantity, value):
    assert units.wire_units(quantity)
    for unit in units.wire_units(quantity):
        scale, offset = units.conversion(unit, quantity)
        assert (value * scale + offset - offset) / scale == pytest.approx(value, abs=1e-6)


def test_a_share_of_the_explosive_limit_depends_on_the_gas():
    lel = units.BY_NAME["gas_lel_pct"]
    assert units.needs_gas("ppm", lel)
    assert units.needs_gas("%vol", lel)
    assert not units.needs_gas("%LEL", lel)
    assert not units.needs_gas("ppm", units.BY_NAME["co_ppm"])
    limits_ppm = dict(zip(units.GASES, units.LEL_PPM, strict=True))
    assert 100 * 10_000 / limits_ppm["methane"] == 20
    assert round(100 * 10_000 / limits_ppm["propane"]) == 48
    assert units.conversion("%vol", lel) == (10_000, 0)


def test_heat_classes():
    assert limits.class_code("A1") == limits.class_code("a1r") == 1
    assert limits.STATIC_MINIMUM_C[limits.class_code("BS")] == 69.0
    assert limits.STATIC_MINIMUM_C[limits.class_code("")] == 54.0
    assert limits.STATIC_ONLY.tolist() == [name.endswith("S") for name in limits.HEAT_CLASSES]
    assert limits.class_code("b") == 3  # codes are stored: they never move
    assert limits.HEAT_CLASSES[limits.class_code("GS")] == "GS"
    for wrong in ("H", "R", "S", "A1RS", "A3", "57"):
        with pytest.raises(ValueError, match="expected one of A1"):
            limits.class_code(wrong)
