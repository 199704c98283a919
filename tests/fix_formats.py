"""Small device types for the tests of the formats, and what comes of a payload of theirs."""

import json

from fix_bridge import Device, message, shown, small

from ingest.decode import decode
from sizao.units import Lane

TELEMETRY, ALARM = Lane.TELEMETRY, Lane.ALARM


def type_of(body, *, lane="telemetry", topic=None, fmt="json"):
    """A type file without examples; `decode` compiles it all the same with two of them."""
    pattern = topic or f"up/{{carrier}}/{lane}/{{key}}"
    return f"""
name: test.type
topics: [{{pattern: "{pattern}", lane: {lane}}}]
format: {fmt}
{body}
expected_interval_s: 60
repeats: no
examples:
  - {{topic: a, payload: "", readings: [{{quantity: {first(body)}, value: 1}}]}}
  - {{topic: a, payload: "", refused: not_json}}
"""


def first(body):
    lines = body.splitlines()
    return lines[lines.index("quantities:") + 1].split(":")[0].strip()


def run(document, payload, *, lane=TELEMETRY, topic=None, devices=("d1",)):
    district = small(*(Device(key, document) for key in devices))
    assert not district.broken, district.broken
    if not isinstance(payload, bytes | str):
        payload = json.dumps(payload)
    decoded = decode(district, lane, [message(topic or f"up/c1/{lane}/d1", payload)])
    faults = {(fault.where, str(fault.reason)) for one in decoded.refused for fault in one.faults}
    return shown(district.view, decoded), faults, decoded


PAIRS = type_of("""quantities:
  temperature_c: {pointer: "/data/[name=temp]/value", unit: degC, text: yes}
  smoke_od_per_m: {pointer: "/data/[id=7]/value", unit: dB/m, optional: yes}
""")

KINDS = type_of("""quantities:
  fire_state:
    pointer: /value
    unit: state
    when: {pointer: /kind, equals: [alarm], ignores: [hello]}
    states: {0: normal, 1: alarm}
  temperature_c:
    pointer: /value
    unit: degC
    when: {pointer: /kind, equals: [temp, 2]}
""", lane="alarm")  # fmt: skip

PARTS = type_of("""items: /parts
key: /part
time: {pointer: $/at, format: compact, zone: "+08:00"}
quantities:
  fire_state: {pointer: /state, unit: state, states: {0: normal, 1: alarm}}
""", lane="alarm", topic="up/{carrier}/alarm")  # fmt: skip

SENML = type_of("""quantities:
  temperature_c: {pointer: /temp, unit: degC}
  humidity_pct: {pointer: /hum, unit: "%"}
  fire_state: {pointer: /fire, unit: state, states: {true: alarm, false: normal}}
""", fmt="senml", lane="alarm", topic="up/{carrier}/alarm")  # fmt: skip

LORA = type_of("""quantities:
  temperature_c:
    pointer: /temperature
    unit: degC
    when: {pointer: $/f_port, equals: [2], ignores: [5]}
  signal_dbm: {pointer: $/rssi, unit: dBm, optional: yes}
""", fmt="lorawan", topic="up/{carrier}/telemetry/lora")  # fmt: skip

BINARY = type_of("""key: /part
time: {pointer: /at, format: unix_s}
layout:
  byte_order: little
  fields:
    - {name: magic, type: uint16, equals: 0x5A01}
    - {name: count, type: uint8}
    - {name: at, type: uint32}
  records:
    - {name: part, type: bcd, size: 3}
    - {name: flags, type: uint8}
    - {name: celsius, type: int16}
    - {type: skip, size: 1}
  count: count
  bits: [{name: fire, of: flags, bit: 7}, {name: level, of: flags, bit: 1, width: 2}]
quantities:
  fire_state: {pointer: /fire, unit: state, states: {0: normal, 1: alarm}}
  temperature_c: {pointer: /celsius, unit: degC, scale: 0.1, broken: [-32768]}
""", fmt="binary", lane="alarm", topic="up/{carrier}/alarm")  # fmt: skip

NODE = """
name: test.node
topics:
  - {pattern: "up/{carrier}/alarm/{key}/smoke", lane: alarm, quantities: [fire_state]}
  - pattern: up/{carrier}/telemetry/{key}/temperature
    lane: telemetry
    quantities: [temperature_c]
  - {pattern: "up/{carrier}/telemetry/{key}/status", lane: telemetry, quantities: []}
format: plain
quantities:
  fire_state: {unit: state, states: {"ON": alarm, "OFF": normal}}
  temperature_c: {unit: degC, absent: [unavailable]}
expected_interval_s: 60
repeats: no
examples:
  - topic: up/n1/telemetry/n1/temperature
    payload: "21.5"
    readings: [{quantity: temperature_c, value: 21.5}]
  - topic: up/n1/alarm/n1/smoke
    payload: "ON"
    readings: [{quantity: fire_state, value: 1}, {quantity: heard, value: 1}]
  - {topic: up/n1/telemetry/n1/status, payload: "online", readings: []}
  - topic: up/n1/telemetry/n1/temperature
    payload: "0_02"
    readings: []
    bad_fields: {temperature_c: wrong_type}
"""

CODED = type_of("""codec: cayenne_lpp
quantities:
  temperature_c: {pointer: /1/temperature, unit: degC}
""", fmt="codec")  # fmt: skip
