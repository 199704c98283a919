"""Device types as W3C Thing Descriptions 1.1: what that standard demands of one is there."""

import json

import jsonschema
import pytest
from fix_bridge import SMOKE_HEAT

from ingest.device_types.load import load
from ingest.device_types.schema import is_alarm
from ingest.onboarding import shipped
from ingest.thing import thing

TYPES = {name: load(text, name) for name, text in shipped()}

FORM = {
    "type": "object",
    "required": ["href", "op", "contentType", "mqv:filter", "sizao:topic"],
    "properties": {
        "href": {"type": "string", "pattern": r"^mqtts://\{broker\}:8883$"},
        "op": {"type": "array", "items": {"enum": ["observeproperty", "subscribeevent"]}},
        "contentType": {"type": "string", "pattern": "^(application|text)/"},
        "mqv:filter": {"type": "string", "pattern": r"^up/\+/[^{}#]+$"},
        "mqv:qos": {"enum": ["0", "1", "2"]},
        "mqv:controlPacket": {"const": "subscribe"},
        "sizao:topic": {"type": "string", "pattern": r"^up/\{carrier\}/"},
    },
    "additionalProperties": False,
}
FORMS = {"type": "array", "minItems": 1, "items": FORM}
STATES = {"type": "array", "items": {"type": "string"}, "minItems": 1, "uniqueItems": True}
DATA = {
    "oneOf": [
        {
            "required": ["type", "unit", "minimum", "maximum"],
            "properties": {
                "type": {"const": "number"},
                "unit": {"type": "string", "minLength": 1},
                "minimum": {"type": "number"},
                "maximum": {"type": "number"},
            },
        },
        {"required": ["type", "enum"], "properties": {"type": {"const": "string"}, "enum": STATES}},
    ]
}
TD = {
    "type": "object",
    "required": ["@context", "@type", "title", "security", "securityDefinitions"],
    "anyOf": [{"required": ["properties"]}, {"required": ["events"]}],
    "properties": {
        "@context": {
            "type": "array",
            "prefixItems": [
                {"const": "https://www.w3.org/2022/wot/td/v1.1"},
                {"type": "object", "required": ["mqv", "sizao"]},
            ],
            "items": False,
        },
        "@type": {"const": "Thing"},
        "id": {"type": "string", "pattern": "^urn:"},
        "title": {"type": "string", "minLength": 1},
        "version": {"type": "object", "required": ["instance"]},
        "security": {"type": "array", "minItems": 1, "items": {"type": "string"}},
        "securityDefinitions": {
            "type": "object",
            "minProperties": 1,
            "additionalProperties": {
                "type": "object",
                "required": ["scheme"],
                "properties": {"scheme": {"const": "basic"}, "in": {"const": "auto"}},
            },
        },
        "properties": {
            "type": "object",
            "additionalProperties": {
                "required": ["forms", "title"],
                "allOf": [DATA],
                "properties": {"forms": FORMS, "readOnly": {"const": True}},
            },
        },
        "events": {
            "type": "object",
            "additionalProperties": {
                "required": ["forms", "title", "data"],
                "properties": {"forms": FORMS, "data": DATA},
            },
        },
    },
    "propertyNames": {"pattern": "^(@?[a-zA-Z]+|sizao:[a-zA-Z]+)$"},
}
VALID = jsonschema.Draft202012Validator(TD)


@pytest.mark.parametrize("name", TYPES)
def test_a_shipped_type_is_a_valid_thing(name):
    kind = TYPES[name]
    made = json.loads(json.dumps(thing(kind, 3), allow_nan=False))
    assert [error.message for error in VALID.iter_errors(made)] == []
    assert set(made["security"]) <= set(made["securityDefinitions"])
    said = {one for one in kind.quantities if is_alarm(one)}
    assert set(made.get("events", {})) == said
    assert set(made.get("properties", {})) == set(kind.quantities) - said
    forms = [
        form
        for part in ("properties", "events")
        for one in made.get(part, {}).values()
        for form in one["forms"]
    ]
    assert {form["sizao:topic"] for form in forms} <= {one.pattern for one in kind.topics}


def test_bounds_and_units_are_those_of_the_readings_and_states_those_of_the_type():
    made = thing(load(SMOKE_HEAT, "f"), 1)
    smoke = made["properties"]["smoke_od_per_m"]
    assert (smoke["unit"], smoke["minimum"], smoke["maximum"]) == ("/m", -0.05, 2.0)
    assert made["properties"]["temperature_c"]["unit"] == "Cel"
    assert made["events"]["fire_state"]["data"]["enum"] == ["normal", "alarm", "self_test", "muted"]
    (form,) = made["events"]["fire_state"]["forms"]
    assert form["mqv:filter"] == "up/+/alarm/+"
    assert form["op"] == ["subscribeevent"]


def test_what_is_no_thing_is_found():
    made = thing(load(SMOKE_HEAT, "f"), 1)
    for key in ("@context", "title", "security", "securityDefinitions"):
        assert not VALID.is_valid({name: value for name, value in made.items() if name != key})
    made["events"]["fire_state"]["forms"][0].pop("href")
    assert not VALID.is_valid(made)
