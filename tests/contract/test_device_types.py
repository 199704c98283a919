"""Every device-type file of the distribution, proven by its own examples."""

from pathlib import Path

import pytest

import ingest
from ingest.check import check
from ingest.device_types.load import conflicts, load
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
