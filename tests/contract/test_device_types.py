"""Every device-type file of the distribution, proven by its own examples."""

from pathlib import Path

import pytest

import ingest
from ingest.check import check
from ingest.device_types.load import conflicts, load
from ingest.device_types.schema import Format, TimeFormat
from ingest.onboarding import load_all, points_needed, shipped
from sizao.units import BY_NAME

FILES = shipped()
TYPES = {name: load(text, name) for name, text in FILES}


@pytest.mark.parametrize("name", TYPES)
def test_every_example_comes_true(name):
    assert check([(name, dict(FILES)[name])]) == []


@pytest.mark.parametrize("name", TYPES)
def test_a_shipped_type_has_two_good_examples_and_a_bad_one(name):
    examples = TYPES[name].examples
    assert len(examples) >= 3
    assert sum(bool(example.readings) and not example.bad_fields for example in examples) >= 2
    assert any(example.refused for example in examples)


@pytest.mark.parametrize("name", TYPES)
def test_the_file_lies_where_its_name_says(name):
    assert TYPES[name].name == name.removesuffix(".yaml").replace("/", ".")


@pytest.mark.parametrize("name", TYPES)
def test_every_mapped_quantity_stands_in_an_example(name):
    said = {reading.quantity for one in TYPES[name].examples for reading in one.readings or []}
    assert set(TYPES[name].quantities) <= said


def test_no_two_types_disagree_on_the_lane_of_a_topic():
    assert conflicts(TYPES) == []


def test_every_file_in_the_folder_is_shipped():
    root = Path(ingest.__file__).parent / "device_types"
    assert len(FILES) == len(list(root.rglob("*.yaml"))) == len(load_all(FILES))


def test_a_type_that_says_alarms_has_a_heard_point():
    needed = dict(zip(TYPES, (points_needed(text) for _, text in FILES), strict=True))
    for name, device_type in TYPES.items():
        assert (BY_NAME["heard"].code in needed[name]) is device_type.says_alarms


REAL = {
    "esphome/smoke_node.yaml": "esphome.io",
    "heiman/hs1sa.yaml": "zigbee2mqtt.io",
    "milesight/gs524n.yaml": "github.com/Milesight-IoT",
    "netvox/ra02c.yaml": "github.com/TheThingsNetwork",
    "shelly/plus_smoke.yaml": "shelly-api-docs.shelly.cloud",
    "tasmota/ds18b20_sht3x.yaml": "tasmota.github.io",
}
"""Types of real products, and where their documentation stands."""


@pytest.mark.parametrize("name", REAL)
def test_a_real_product_names_its_documentation_and_its_settings(name):
    head = dict(FILES)[name].partition("\nname: ")[0]
    assert REAL[name] in head
    assert "up/<user>/" in head, "how its own topics come under the carrier's"
    assert len(TYPES[name].examples) >= 3


@pytest.mark.parametrize("name", [name for name in REAL if TYPES[name].format == "lorawan"])
def test_a_lorawan_type_reads_both_network_servers(name):
    good = [one for one in TYPES[name].examples if one.readings and not one.bad_fields]
    for server in ('"deviceInfo"', '"end_device_ids"'):
        assert any(server in (one.payload or "") for one in good)


KINDS = {
    "optical_smoke": "fire_state smoke_od_per_m fault_state dirty_state",
    "heat_a1r": "fire_state temperature_c",
    "multi_smoke_heat_co": "fire_state smoke_od_per_m temperature_c co_ppm",
    "co_home": "co_state co_ppm end_of_life_state",
    "combustible_gas": "gas_state gas_lel_pct",
    "call_point": "call_point_state",
    "electrical_fire": "electrical_state residual_current_ma cable_temperature_c"
    " cable_temperature_2_c cable_temperature_3_c cable_temperature_4_c",
    "water_pressure": "pressure_kpa",
    "tank_level": "level_m",
    "infrared_surface": "surface_temperature_c",
    "gas_pipe_well": "gas_state gas_lel_pct level_m tamper_state",
    "fire_door": "door_state",
    "ebike_socket": "electrical_state power_w surface_temperature_c",
    "ebike_shed": "fire_state smoke_od_per_m surface_temperature_c",
    "flow_switch": "flow_state",
    "panel_transmitter": "fire_state fault_state shielded_state valve_state mains_state"
    " battery_state manual_state",
    "smoke_state": "fire_state fault_state tamper_state battery_state dirty_state"
    " end_of_life_state",
    "smoke_gateway": "fire_state smoke_od_per_m",
    "smoke_gateway_binary": "fire_state smoke_od_per_m",
    "indoor_climate": "temperature_c humidity_pct co2_ppm battery_pct",
}
"""Kinds of device that come with the distribution, and what each is there to say."""


@pytest.mark.parametrize("kind", KINDS)
def test_every_promised_kind_is_shipped(kind):
    assert set(KINDS[kind].split()) <= set(TYPES[f"generic/{kind}.yaml"].quantities)


def test_some_shipped_type_shows_every_feature():
    """Whoever writes a file finds a sample of what their device does."""
    types = list(TYPES.values())
    measures = [measure for one in types for measure in one.quantities.values()]
    assert {one.format for one in types} == set(Format)
    times = {one.time.format for one in types if one.time is not None}
    # Hardly a device has a clock of microseconds, and SenML says when by itself.
    assert times >= set(TimeFormat) - {TimeFormat.UNIX_US, TimeFormat.SENML}
    for feature in ("when", "text", "broken", "absent", "optional", "states"):
        assert any(getattr(measure, feature) for measure in measures), feature
    assert any("[" in (measure.pointer or "") for measure in measures), "names and values"
    assert any(one.items for one in types)
    assert any(one.heat_detector for one in types)
    assert any(one.gas_detector for one in types)


@pytest.mark.parametrize("kind", ["smoke_gateway", "smoke_gateway_binary"])
def test_a_batch_of_smoke_speaks_of_several_devices(kind):
    examples = TYPES[f"generic/{kind}.yaml"].examples
    assert any(len({row.key for row in one.readings or []}) > 1 for one in examples)


def test_the_heartbeat_of_a_state_only_alarm_is_a_day():
    assert TYPES["generic/smoke_state.yaml"].expected_interval_s == 86_400
