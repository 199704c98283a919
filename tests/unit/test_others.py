"""Types that share an alarm topic: what one takes for a key is another's word, or nobody's."""

import json

import pytest
from fix_bridge import Device, message, shown, small
from fix_formats import ALARM, SENML, type_of
from hypothesis import given
from hypothesis import strategies as st

from ingest.decode import decode

TOPIC = "up/{carrier}/alarm"
STATES = "unit: state, states: {0: normal, 1: alarm, report: normal, alarm: alarm}"


def reads(name, head, way="/st"):
    body = f"{head}\nquantities:\n  fire_state: {{pointer: {way}, {STATES}}}"
    return type_of(body, lane="alarm", topic=TOPIC).replace("test.type", name)


UNIT = reads("a.unit", "key: /dev", "/kind")
GATE = reads("a.gate", "key: /gw/id")
GATE_KIND = reads("a.gate_kind", "key: /gw/id", "/kind")
LIST = reads("a.list", "items: /items\nkey: /id")
OTHER_LIST = reads("a.other_list", "items: /items\nkey: /no")
PARTS = reads("a.parts", "items: /parts\nkey: /part")


def told(devices, said):
    place = small(*devices)
    assert not place.broken
    decoded = decode(place, ALARM, [message("up/c1/alarm", json.dumps(said))])
    rows = [(key, value) for key, name, value in shown(place.view, decoded) if name != "heard"]
    faults = {(fault.where, str(fault.reason)) for one in decoded.refused for fault in one.faults}
    return rows, faults, [one.devices for one in decoded.refused]


@pytest.mark.parametrize(
    ("devices", "said", "rows"),
    [
        # The name of the gateway in between is a key to a type of other devices.
        ([Device("u", UNIT), Device("g", GATE)],
         {"dev": "u", "kind": "alarm", "gw": {"id": "x"}}, [("u", 1)]),
        ([Device("u", UNIT), Device("g", GATE_KIND)],
         {"dev": "u", "kind": "alarm", "gw": {"id": "x"}}, [("u", 1)]),
        # Lists that are called alike: of one device's values, and of devices.
        ([Device("u", UNIT), Device("l", LIST)],
         {"dev": "u", "kind": "report", "items": [{"k": "smoke", "v": 1}]}, [("u", 0)]),
        # A list in which both stand, each with its own kind of key.
        ([Device("l", LIST), Device("o", OTHER_LIST)],
         {"items": [{"id": "l", "st": 0}, {"no": "o", "st": 1}]}, [("l", 0), ("o", 1)]),
        ([Device("l", LIST), Device("d1", SENML)],
         [{"bn": "urn:dev:mac:d1/", "n": "fire", "vb": True}], [("d1", 1)]),
    ],
)  # fmt: skip
def test_a_healthy_payload_beside_another_type_is_nobodys_unread_alarm(devices, said, rows):
    assert told(devices, said) == (rows, set(), [])


@pytest.mark.parametrize(
    ("devices", "said", "faults"),
    [
        # A part that nobody has registered says fire beside its transmitter's own word.
        ([Device("u", UNIT), Device("p", PARTS)],
         {"dev": "u", "kind": "report", "parts": [{"part": "x", "st": 1}]},
         {("x", "unknown_device")}),
        ([Device("u", UNIT), Device("p", PARTS)],
         {"dev": "u", "kind": "report", "parts": [{"st": 1}]}, {("key", "missing_field")}),
        ([Device("u", UNIT), Device("p", PARTS, state="planned")],
         {"dev": "u", "kind": "report", "parts": [{"part": "p", "st": 1}]},
         {("p", "not_in_service")}),
        # The object's owner does not read the word that is not its own.
        ([Device("u", UNIT), Device("g", GATE)],
         {"dev": "u", "kind": "report", "gw": {"id": "x"}, "st": 1}, {("x", "unknown_device")}),
        # A list of ours with an element of nobody's.
        ([Device("l", LIST), Device("o", OTHER_LIST)],
         {"items": [{"id": "l", "st": 0}, {"no": "x", "st": 1}]}, {("key", "missing_field")}),
        ([Device("l", LIST), Device("o", OTHER_LIST)],
         {"items": [{"id": "l", "st": 0}, 7]}, {("key", "missing_field")}),
        ([Device("l", LIST), Device("o", OTHER_LIST)],
         {"items": [{"id": "x", "st": 1}, {"no": "y", "st": 1}]},
         {("key", "missing_field"), ("x", "unknown_device"), ("y", "unknown_device")}),
    ],
)  # fmt: skip
def test_a_word_that_nobody_took_is_told(devices, said, faults):
    _, found, lost = told(devices, said)
    assert found >= faults
    assert all(devices_lost for devices_lost in lost)
    assert lost


_ITEM = st.fixed_dictionaries(
    {"st": st.sampled_from([0, 1])},
    optional={"id": st.sampled_from(["l", "x"]), "no": st.sampled_from(["o", "y"])},
)


@given(st.lists(_ITEM, min_size=1, max_size=5))
def test_each_element_of_a_shared_list_has_a_row_or_the_payload_is_told(items):
    rows, faults, _ = told([Device("l", LIST), Device("o", OTHER_LIST)], {"items": items})
    owned = [one for one in items if one.get("id") == "l" or one.get("no") == "o"]
    assert len(rows) == sum((one.get("id") == "l") + (one.get("no") == "o") for one in items)
    assert bool(faults) is (len(owned) < len(items))
