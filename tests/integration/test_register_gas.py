"""The gas of gas detectors, from a file into the registry and back, on a real PostgreSQL."""

import asyncio

import pytest

from ingest.onboarding import points_needed
from sizao import db
from sizao.registry.write import Change, TypeRow, apply
from sizao.units import GASES

GAS = """\
name: test.gas
topics: [{pattern: "up/{carrier}/telemetry/{key}", lane: telemetry}]
format: json
quantities: {gas_lel_pct: {pointer: /gas, unit: "%LEL"}}
expected_interval_s: 60
repeats: no
gas_detector: yes
examples:
  - topic: up/c/telemetry/k
    payload: '{"gas": 5}'
    readings: [{quantity: gas_lel_pct, value: 5}]
  - topic: up/c/telemetry/k
    payload: "no"
    refused: not_json
"""
HEAD = "key,carrier,type,area,gas,state\n"


@pytest.fixture
def house(office):
    """The district of files, and a type of gas detectors; generation 4."""
    office.settle()
    types = [TypeRow("test.gas", GAS, points_needed(GAS))]

    async def register() -> None:
        async with db.connected(office.settings, "test") as connection:
            await apply(connection, Change(types=types), cause="test", partitions=4)

    asyncio.run(register())
    return office


def gas_of(house, key):
    view = house.registry().newest
    return GASES[view.device_gas[view.roster["gateway"][key]]]


def bring(house, row):
    return house.run("devices", "import", house.file("d.csv", HEAD + row + "\n"))


def test_a_gas_detector_names_its_gas(house):
    command = "devices", "import", house.file("d.csv", HEAD + "g,gateway,test.gas,b2,,\n")
    said = "missing: test.gas is a gas detector, expected the gas on its label, one of methane,"
    assert house.refused(*command) == [f"d.csv:2: gas: {said} propane, butane, hydrogen"]
    assert bring(house, "g,gateway,test.gas,b2,propane,").endswith("generation 5")
    assert gas_of(house, "g") == "propane"


def test_an_empty_cell_keeps_it_and_nothing_is_changed_twice(house):
    bring(house, "g,gateway,test.gas,b2,propane,")
    assert bring(house, "g,gateway,test.gas,b2,,").endswith("1 as they were; generation 5")
    assert bring(house, "g,gateway,test.gas,b2,propane,").endswith("1 as they were; generation 5")
    assert bring(house, "g,gateway,test.gas,b2,methane,").endswith("generation 6")
    registry = house.registry()
    device = registry.newest.roster["gateway"]["g"]
    assert [GASES[registry.at(n).device_gas[device]] for n in (5, 6)] == ["propane", "methane"]


def test_it_comes_out_again_and_goes_with_a_device_that_is_moved_or_swapped(house):
    bring(house, "g,gateway,test.gas,b2,hydrogen,")
    house.run("devices", "move", "g", "--carrier", "gateway", "--to", "b1-f3")
    house.run("devices", "swap", "g", "--carrier", "gateway", "--to", "g2")
    file = house.folder / "devices.csv"
    house.run("devices", "export", file)
    lines = [line.split(",") for line in file.read_text().splitlines()]
    place = lines[0].index("gas")
    assert {line[0]: line[place] for line in lines[1:] if line[place]} == {"g2": "hydrogen"}
    said = house.run("devices", "import", file, "--crs", "wgs84")
    assert "0 added, 0 changed, 6 as they were" in said
    areas = "code,parent,level,name_zh,name_en,floor\nb1-f3,b2,floor,3楼,Floor 3,3\n"
    house.run("areas", "import", house.file("a.csv", areas))
    assert gas_of(house, "g2") == "hydrogen"


def test_another_type_has_no_label_of_the_old_one_and_may_name_a_gas(house):
    bring(house, "g,gateway,test.gas,b2,butane,")
    bring(house, "g,gateway,generic.gateway_batch,b2,,")
    assert gas_of(house, "g") == ""
    bring(house, "g,gateway,generic.gateway_batch,b2,butane,")
    assert gas_of(house, "g") == "butane"
