"""What people call the fields of their payloads, and which quantity each name tells.

Names stand without case and separators: `battery_mV` is `batterymv`. A name that means several
things (`level`, `value`, `status`) is not here.
"""

from __future__ import annotations

import json
import re
from typing import Any, NamedTuple

from sizao.units import BY_NAME, Lane


class Guess(NamedTuple):
    """A quantity, the unit that its name tells, and the doubt that is left, as a comment."""

    quantity: str
    unit: str
    doubt: str = ""


_UNSURE = "    # which unit is it?"

_NUMBERS: dict[str, Guess] = {
    **dict.fromkeys(
        ("temperature", "temp", "temperaturec", "tempc"), Guess("temperature_c", "degC")
    ),
    **dict.fromkeys(("temperaturef", "tempf"), Guess("temperature_c", "degF")),
    **dict.fromkeys(
        ("surfacetemperature", "irtemperature", "objecttemperature"),
        Guess("surface_temperature_c", "degC"),
    ),
    **dict.fromkeys(("cabletemperature", "cabletemp"), Guess("cable_temperature_c", "degC")),
    **dict.fromkeys(("humidity", "hum", "rh", "relativehumidity"), Guess("humidity_pct", "%")),
    **dict.fromkeys(("co", "coppm", "carbonmonoxide"), Guess("co_ppm", "ppm")),
    **dict.fromkeys(("co2", "co2ppm", "carbondioxide"), Guess("co2_ppm", "ppm")),
    **dict.fromkeys(("lel", "gaslel", "lelpct"), Guess("gas_lel_pct", "%LEL")),
    **dict.fromkeys(
        ("smoke", "smokedensity", "smokeobscuration"), Guess("smoke_od_per_m", "dB/m", _UNSURE)
    ),
    **dict.fromkeys(
        ("battery", "batt", "batterylevel", "batterypct", "batterypercent", "batterypercentage"),
        Guess("battery_pct", "%"),
    ),
    **dict.fromkeys(
        ("batteryvoltage", "batteryv", "batv", "vbat"), Guess("battery_v", "V", _UNSURE)
    ),
    **dict.fromkeys(("batterymv", "batterymillivolt"), Guess("battery_v", "mV")),
    **dict.fromkeys(("rssi", "signalstrength"), Guess("signal_dbm", "dBm")),
    **dict.fromkeys(("pressure", "waterpressure"), Guess("pressure_kpa", "kPa", _UNSURE)),
    "pressurekpa": Guess("pressure_kpa", "kPa"),
    "pressurempa": Guess("pressure_kpa", "MPa"),
    "pressurebar": Guess("pressure_kpa", "bar"),
    **dict.fromkeys(("waterlevel", "tanklevel"), Guess("level_m", "m", _UNSURE)),
    **dict.fromkeys(
        ("residualcurrent", "leakagecurrent", "leakage"),
        Guess("residual_current_ma", "mA", _UNSURE),
    ),
    "current": Guess("current_a", "A"),
    "voltage": Guess("voltage_v", "V"),
    "power": Guess("power_w", "W"),
    **dict.fromkeys(("flowrate", "waterflow"), Guess("flow_m3_per_h", "m3/h", _UNSURE)),
    **dict.fromkeys(("tilt", "tiltangle"), Guess("tilt_deg", "deg")),
}

_STATES: dict[str, str] = {
    **dict.fromkeys(
        ("fire", "firealarm", "smoke", "smokealarm", "smokedetected", "alarm"), "fire_state"
    ),
    **dict.fromkeys(("gas", "gasalarm", "gasdetected"), "gas_state"),
    **dict.fromkeys(("co", "coalarm", "carbonmonoxide"), "co_state"),
    **dict.fromkeys(("tamper", "tamperalarm", "removed"), "tamper_state"),
    **dict.fromkeys(("fault", "failure", "trouble", "sensorfault"), "fault_state"),
    **dict.fromkeys(("batterylow", "lowbattery"), "battery_state"),
    **dict.fromkeys(("dooropen", "door"), "door_state"),
    **dict.fromkeys(("endoflife", "eol"), "end_of_life_state"),
}

TIMES = {"ts", "time", "timestamp", "datetime", "at", "eventtime", "reporttime", "utc", "t"}
KEYS = {"imei", "sn", "serial", "serialnumber", "deviceid", "device", "devid", "dev", "deveui"}
KEYS |= {"mac", "eui", "id", "key"}

_FAR = 1e12  # no reading is so large
_DIGITS = re.compile(r"-?[0-9]{1,9}(?:\.[0-9]{1,9})?")
_LOUD = ("alarm", "fire", "smoke", "gas", "on", "true", "active", "low", "open", "fault", "error")


def what_is(word: str, value: Any) -> Guess | None:
    """What a field of this name and value is; None where the name does not tell."""
    number = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < _FAR
    if word in _NUMBERS and (number or (isinstance(value, str) and _DIGITS.fullmatch(value))):
        return _NUMBERS[word]
    spoken = isinstance(value, bool | str) or (isinstance(value, int) and value in {0, 1})
    return Guess(_STATES[word], "state") if spoken and word in _STATES else None


def state_table(quantity: str, value: Any) -> str:
    """A table from wire values to states, in YAML, that has the value of the sample."""
    bad = "alarm" if BY_NAME[quantity].lane is Lane.ALARM else "fault"
    if isinstance(value, bool):
        return f"{{false: normal, true: {bad}}}"
    if isinstance(value, int):
        return f"{{0: normal, 1: {bad}}}"
    is_loud = value.strip().lower() in _LOUD
    other = "normal" if is_loud else "alarm" if value != "alarm" else "fire"
    pairs = {value: bad if is_loud else "normal", other: "normal" if is_loud else bad}
    return "{" + ", ".join(f"{quoted(key)}: {state}" for key, state in pairs.items()) + "}"


def quoted(value: Any) -> str:
    """A value on one line of YAML: as JSON, but for what nobody sees, which may end a line."""
    text = json.dumps(value, ensure_ascii=False)
    return "".join(sign if sign.isprintable() else f"\\U{ord(sign):08x}" for sign in text)
