"""Moved, swapped, isolated, retired: what becomes of generations and points, on PostgreSQL."""

import numpy as np
import pytest

from sizao.units import BY_NAME

TEMPERATURE = BY_NAME["temperature_c"].code


def points(view, device):
    """Live points of a device."""
    return np.flatnonzero((view.point_device == device) & view.point_live).tolist()


def test_moving_within_a_site_keeps_the_points(office):
    office.settle()
    before = office.registry().newest
    device = before.roster["gateway"]["t1"]
    said = office.run("devices", "move", "t1", "--carrier", "gateway", "--to", "b1-f3-302")
    assert said == "t1 under gateway is in b1-f3-302; generation 4"
    after = office.registry().newest
    assert points(after, device) == points(before, device)
    assert np.isnan(after.device_lon[device])
    said = office.run("devices", "move", "t1", "--carrier", "gateway", "--to", "b1-f3-302")
    assert said == "t1 under gateway is in b1-f3-302 already; generation 4"


def test_moving_to_another_site_gives_new_points_there(office):
    office.settle()
    before = office.registry().newest
    device = before.roster["gateway"]["t1"]
    office.run("devices", "move", "t1", "--carrier", "gateway", "--to", "b2")
    registry = office.registry()
    (old,), (new,) = points(before, device), points(registry.newest, device)
    assert new > old
    site = registry.newest.areas[int(registry.newest.point_site[new])]
    assert site.code == "b2"
    assert points(registry.at(3), device) == [old]


def test_a_new_key_takes_over_place_and_history(office):
    office.settle()
    before = office.registry().newest
    device = before.roster["gateway"]["t1"]
    said = office.run("devices", "swap", "t1", "--carrier", "gateway", "--to", "t9")
    assert said == "t9 has the place of t1; generation 4"
    registry = office.registry()
    after = registry.newest
    assert after.roster["gateway"] == {"t9": device, "861": before.roster["gateway"]["861"]}
    assert points(after, device) == points(before, device)
    assert after.device_area[device] == before.device_area[device]
    assert after.device_lon[device] == before.device_lon[device]
    assert registry.at(3).roster["gateway"]["t1"] == device


def test_a_device_with_a_connection_of_its_own_is_swapped_with_it(office):
    office.settle()
    swap = ("devices", "swap", "h1", "--carrier", "h1", "--to", "h7")
    assert office.refused(*swap) == ["unknown carrier: 'h7'; or give --create-carriers"]
    office.run(*swap, "--create-carriers")
    view = office.registry().newest
    assert (view.roster["h1"], list(view.roster["h7"])) == ({}, ["h7"])
    assert view.areas[view.carrier_site["h7"]].code == "b1"
    assert view.device_heat_class[view.roster["h7"]["h7"]] == 1


def test_a_swap_to_a_key_that_is_taken_is_refused(office):
    office.settle()
    assert office.refused("devices", "swap", "t1", "--carrier", "gateway", "--to", "861") == [
        "device 861 is registered under carrier gateway already"
    ]
    assert office.registry().generation == 3


@pytest.mark.parametrize(("command", "state"), [("isolate", "isolated"), ("retire", "retired")])
def test_a_state_is_one_generation_and_no_point_changes(office, command, state):
    office.settle()
    before = office.registry().newest
    device = before.roster["h1"]["h1"]
    said = office.run("devices", command, "h1", "--carrier", "h1")
    assert said == f"h1 under h1 is {state}; generation 4"
    assert office.run("devices", command, "h1", "--carrier", "h1") == (
        f"h1 under h1 is {state} already; generation 4"
    )
    registry = office.registry()
    assert registry.newest.device_state[device] == state
    assert registry.at(3).device_state[device] == "in_service"
    assert points(registry.newest, device) == points(before, device)
    office.run("devices", "commission", "h1", "--carrier", "h1")
    assert office.registry().newest.device_state[device] == "in_service"


def test_what_cannot_be_is_refused_with_the_nearest_name(office):
    office.settle()
    run = office.refused
    assert run("devices", "isolate", "h2", "--carrier", "h2") == [
        "device h2 is planned, expected one that is in_service"
    ]
    assert run("devices", "retire", "816", "--carrier", "gateway") == [
        "unknown device of carrier gateway: '816'; nearest: 861"
    ]
    assert run("devices", "retire", "h1", "--carrier", "platform") == [
        "unknown device of carrier platform: 'h1'; it is under h1"
    ]
    assert run("devices", "retire", "t1", "--carrier", "gatway") == [
        "unknown carrier: 'gatway'; nearest: gateway"
    ]
    assert run("devices", "move", "t1", "--carrier", "gateway", "--to", "b1-f2") == [
        "unknown area: 'b1-f2'; nearest: b1-f3"
    ]
    assert run("devices", "move", "t1", "--carrier", "gateway", "--to", "s") == [
        "area s lies in no site, expected one that does"
    ]
    assert office.registry().generation == 3
