"""The device-type file as JSON Schema (2020-12), so that an editor completes and checks it.

Made from the models, so that it cannot say anything else: `sizao device-type schema` prints it,
docs/device-type.schema.json is what it printed last. It says what one key may be; what only a whole
file shows (two keys that do not go together, an example that does not come true) says `check`.
"""

from __future__ import annotations

import json
from typing import Any

from ingest.device_types.codecs import CODECS
from ingest.device_types.schema import DeviceType, state_names
from sizao.units import BY_NAME, HEARD, Quantity, wire_units

Schema = dict[str, Any]

FILE = "device-type.schema.json"
_DIALECT = "https://json-schema.org/draft/2020-12/schema"
_ID = "urn:sizao:device-type"

# What an editor says of a key whose name says enough to a reader of the model.
_HOVER = {
    "DeviceType.name": "vendor.model: small letters, digits and . _ -",
    "DeviceType.description": "what it is, in a few words for people",
    "DeviceType.topics": "where its words arrive",
    "DeviceType.format": "shape of a payload",
    "DeviceType.time": "where the payload says when; left out: arrival counts",
    "DeviceType.quantities": "what it measures or says, each under the name of its quantity",
    "DeviceType.examples": "payloads and what must come of them; one is refused or has bad_fields",
    "Topic.pattern": "up/{carrier}/..., {key} where the topic has the device's key",
    "Topic.lane": "alarm if an alarm may arrive there, else telemetry",
    "When.pointer": "to the deciding field",
    "Measure.when": "the field that decides whether this quantity is there at all",
    "Measure.scale": "wire value times this",
    "Measure.offset": "and this added",
    "DeviceTime.pointer": "to the time",
    "DeviceTime.format": "how it is written",
    "ExampleReading.quantity": "its name",
    "ExampleReading.value": "in the canonical unit; of a state its number",
    "Example.note": "what it shows",
    "Example.topic": "a topic in full",
    "Example.payload": "the payload as text",
    "Example.arrived": "when it arrives; left out: 2026-03-01T08:00:00Z",
    "Example.readings": "what must come of it; [] for nothing but bad fields",
    "Example.refused": "why nothing may come of it",
    "Part.type": "how its bytes are read",
    "Bits.name": "to which a pointer leads",
    "Bits.width": "how many bits",
    "Layout.byte_order": "which byte of a number comes first",
    "Layout.fields": "once, from the first byte",
    "Layout.records": "again and again after them, to the end or `count` times",
    "Layout.bits": "some bits of a field as fields of their own",
}


def text() -> str:
    """The schema as its file has it."""
    return json.dumps(schema(), indent=2, ensure_ascii=False) + "\n"


def schema() -> Schema:
    """The schema as plain data."""
    made: Schema = DeviceType.model_json_schema()
    _plain(made)
    models = {"DeviceType": made, **made["$defs"]}
    for place, words in _HOVER.items():
        model, key = place.split(".")
        models[model]["properties"][key].setdefault("description", words)
    names = [quantity.name for quantity in BY_NAME.values() if quantity is not HEARD]
    whole = made["properties"]
    whole["quantities"] |= {
        "additionalProperties": False,
        "properties": {name: _measure(BY_NAME[name]) for name in names},
    }
    _choose(whole["codec"], sorted(CODECS))
    _choose(models["Topic"]["properties"]["quantities"], names)
    example = models["Example"]["properties"]
    example["bad_fields"]["propertyNames"] = {"enum": [*names, "time"]}
    models["ExampleReading"]["properties"]["quantity"]["enum"] = [*names, HEARD.name]
    return {"$schema": _DIALECT, "$id": _ID, "title": "Device type of Sizao", **made}


def _measure(quantity: Quantity) -> Schema:
    """What is known of a measure once its quantity is: the units and the states that fit."""
    fitting: Schema = {"unit": {"enum": list(wire_units(quantity))}}
    if quantity.unit == "state":
        fitting["states"] = {"additionalProperties": {"enum": list(state_names(quantity))}}
    return {
        "description": f"{quantity.unit}, lane {quantity.lane}",
        "allOf": [{"$ref": "#/$defs/Measure"}, {"properties": fitting}],
    }


def _choose(field: Schema, words: list[str]) -> None:
    """Let the text of a field, or each text of its list, be one of the words."""
    for kind in field["anyOf"]:
        if kind["type"] == "array":
            kind["items"]["enum"] = words
        elif kind["type"] == "string":
            kind["enum"] = words


def _plain(part: Any) -> None:
    """Leave out what repeats a key's name, and a format that is stricter than `check`."""
    if isinstance(part, dict):
        if isinstance(part.get("title"), str):
            del part["title"]
        if part.get("format") == "date-time":
            del part["format"]
        for inner in part.values():
            _plain(inner)
    elif isinstance(part, list):
        for inner in part:
            _plain(inner)
