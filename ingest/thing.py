"""A device type as a W3C Thing Description 1.1, for programs that know such things.

What it measures are properties in the canonical unit, what its alarm lane says are events; forms
name the MQTT topics under which it speaks, with the broker, carrier and key left open. How a
payload is read (pointers, scales, tables) stands in the device-type file alone.
"""

from __future__ import annotations

from typing import Any

from ingest.device_types.compiled import Field, compiled
from ingest.device_types.schema import CARRIER, KEY, DeviceType, Format, is_alarm, state_names
from sizao.units import BY_NAME, Quantity

Thing = dict[str, Any]

_CONTEXT = [
    "https://www.w3.org/2022/wot/td/v1.1",
    {"mqv": "http://www.w3.org/2018/wot/mqtt#", "sizao": "urn:sizao:terms:", "@language": "en"},
]
_UCUM = {
    "degC": "Cel",
    "1/m": "/m",
    "ppm": "[ppm]",
    "%": "%",
    "mA": "mA",
    "A": "A",
    "kPa": "kPa",
    "m": "m",
    "V": "V",
    "W": "W",
    "m3/h": "m3/h",
    "deg": "deg",
    "dBm": "dB[mW]",
}
"""Canonical unit -> UCUM code; a unit that UCUM has not (%LEL) stands as it is."""
_CONTENT = {Format.BINARY: "application/octet-stream", Format.PLAIN: "text/plain"}
_CONTENT |= {Format.SENML: "application/senml+json", Format.CODEC: "application/octet-stream"}
_BROKER = "mqtts://{broker}:8883"


def thing(device_type: DeviceType, version: int) -> Thing:
    """The description of a checked type."""
    fields = {field.name: field for part in compiled(device_type) for field in part.fields}
    made: Thing = {
        "@context": _CONTEXT,
        "@type": "Thing",
        "id": f"urn:sizao:device-type:{device_type.name}",
        "title": device_type.description or device_type.name,
        "version": {"instance": str(version)},
        "sizao:deviceType": device_type.name,
        "sizao:expectedIntervalSeconds": device_type.expected_interval_s,
        "uriVariables": {"broker": {"type": "string", "title": "host of the MQTT broker"}},
        "securityDefinitions": {"device": {"scheme": "basic", "in": "auto"}},
        "security": ["device"],
        "properties": {
            name: _property(device_type, field)
            for name, field in fields.items()
            if not is_alarm(name)
        },
        "events": {name: _event(device_type, name) for name in fields if is_alarm(name)},
    }
    return {key: value for key, value in made.items() if value != {}}


def _property(device_type: DeviceType, field: Field) -> Thing:
    quantity = BY_NAME[field.name]
    forms = _forms(device_type, field.name, "observeproperty")
    common: Thing = {"title": _title(field.name), "readOnly": True, "observable": True}
    if quantity.unit == "state":
        states = _states(device_type, quantity)
        return common | {"type": "string", "enum": states, "forms": forms}
    # The bounds of a share of a gas would be those of the gas, which each device names.
    whole = quantity.minimum, quantity.maximum
    low, high = whole if field.of_gas else (field.low, field.high)
    unit = _UCUM.get(quantity.unit, quantity.unit)
    bounds = {"minimum": low, "maximum": high}
    return common | {"type": "number", "unit": unit, **bounds, "forms": forms}


def _event(device_type: DeviceType, name: str) -> Thing:
    data = {"type": "string", "enum": _states(device_type, BY_NAME[name])}
    forms = _forms(device_type, name, "subscribeevent")
    return {"title": _title(name), "data": data, "forms": forms}


def _states(device_type: DeviceType, quantity: Quantity) -> list[str]:
    """The states that the type can say, in the order of their numbers."""
    said = set(device_type.quantities[quantity.name].states.values())
    return [state for state in state_names(quantity) if state in said]


def _forms(device_type: DeviceType, name: str, op: str) -> list[Thing]:
    """One for each topic on which a quantity stands; the filter is what a broker understands."""
    content = _CONTENT.get(device_type.format, "application/json")
    return [
        {
            "href": _BROKER,
            "op": [op],
            "contentType": content,
            "mqv:controlPacket": "subscribe",
            "mqv:qos": "1",
            "mqv:filter": topic.pattern.replace(CARRIER, "+").replace(KEY, "+"),
            "sizao:topic": topic.pattern,
        }
        for topic in device_type.topics
        if name in device_type.of_topic(topic)
    ]


def _title(name: str) -> str:
    return name.replace("_", " ")
