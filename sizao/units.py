"""Quantities and their one canonical unit.

Everything inside Sizao is in the canonical unit; device types convert at the border (`convert`).
A quantity's `code` is stored in the registry: never change or reuse one.
The lane decides the Kafka topic of a row: states in which a device itself says fire, gas, CO or
tamper travel in `sizao.alarms.v1`, everything else in `sizao.readings.v1`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import IntEnum, StrEnum


class Lane(StrEnum):
    """Which connection, producer, topic and consumer carry a row."""

    ALARM = "alarm"
    TELEMETRY = "telemetry"


class AlarmState(IntEnum):
    """Values of the quantities of the alarm lane."""

    NORMAL = 0
    ALARM = 1
    SELF_TEST = 2
    MUTED = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantity:
    """One measurable thing; `minimum` and `maximum` bound what any sensor may report."""

    code: int
    name: str
    unit: str
    lane: Lane
    minimum: float
    maximum: float


def _measured(code: int, name: str, unit: str, minimum: float, maximum: float) -> Quantity:
    return Quantity(
        code=code, name=name, unit=unit, lane=Lane.TELEMETRY, minimum=minimum, maximum=maximum
    )


def _condition(code: int, name: str) -> Quantity:
    return Quantity(
        code=code, name=name, unit="state", lane=Lane.TELEMETRY, minimum=0.0, maximum=1.0
    )


def _said(code: int, name: str) -> Quantity:
    return Quantity(
        code=code,
        name=name,
        unit="state",
        lane=Lane.ALARM,
        minimum=min(AlarmState),
        maximum=max(AlarmState),
    )


QUANTITIES: tuple[Quantity, ...] = (
    _measured(1, "temperature_c", "degC", -80.0, 1300.0),
    _measured(2, "smoke_od_per_m", "1/m", -1.0, 50.0),
    _measured(3, "co_ppm", "ppm", -50.0, 100_000.0),
    _measured(4, "humidity_pct", "%", 0.0, 100.0),
    _measured(5, "co2_ppm", "ppm", 0.0, 1_000_000.0),
    _measured(6, "gas_lel_pct", "%LEL", -10.0, 1000.0),
    _measured(7, "residual_current_ma", "mA", 0.0, 100_000.0),
    _measured(8, "cable_temperature_c", "degC", -80.0, 1300.0),
    _measured(9, "pressure_kpa", "kPa", -110.0, 100_000.0),
    _measured(10, "level_m", "m", -10.0, 1000.0),
    _measured(11, "surface_temperature_c", "degC", -80.0, 3000.0),
    _measured(12, "battery_pct", "%", 0.0, 100.0),
    # One row for a payload that has none in telemetry, so that offline is judged in one fold.
    _measured(13, "heard", "1", 1.0, 1.0),
    # Conditions: 1 is the one that somebody has to see to. They are slow, so they are telemetry.
    _condition(14, "fault_state"),
    # A monitor has several cables, one per phase and the neutral; which one is hot matters.
    _measured(15, "cable_temperature_2_c", "degC", -80.0, 1300.0),
    _measured(16, "cable_temperature_3_c", "degC", -80.0, 1300.0),
    _measured(17, "cable_temperature_4_c", "degC", -80.0, 1300.0),
    _measured(18, "current_a", "A", -100_000.0, 100_000.0),
    _measured(19, "voltage_v", "V", -1_000_000.0, 1_000_000.0),
    _measured(20, "power_w", "W", -1e9, 1e9),
    _measured(21, "flow_m3_per_h", "m3/h", -100_000.0, 100_000.0),
    _measured(22, "tilt_deg", "deg", -180.0, 180.0),
    _measured(23, "battery_v", "V", 0.0, 1000.0),
    _measured(24, "signal_dbm", "dBm", -200.0, 50.0),
    _condition(32, "battery_state"),  # flat, or nearly
    _condition(33, "mains_state"),  # mains power is away
    _condition(34, "dirty_state"),  # the chamber asks to be cleaned
    _condition(35, "end_of_life_state"),
    _condition(36, "door_state"),  # a fire door stands open
    _condition(37, "valve_state"),  # a valve of the extinguishing system is shut
    _condition(38, "manual_state"),  # a panel answers by hand only
    _condition(39, "shielded_state"),  # a part that its panel was told not to listen to
    _said(64, "fire_state"),
    _said(65, "gas_state"),
    _said(66, "co_state"),
    _said(67, "tamper_state"),
    _said(68, "call_point_state"),
    # Water flows through a sprinkler pipe, a pump runs, or what a panel started says that it acts.
    _said(69, "flow_state"),
    _said(70, "electrical_state"),  # residual current or a cable's temperature, by the monitor
    _said(71, "arc_state"),
)

BY_NAME: dict[str, Quantity] = {quantity.name: quantity for quantity in QUANTITIES}
BY_CODE: dict[int, Quantity] = {quantity.code: quantity for quantity in QUANTITIES}
HEARD = BY_NAME["heard"]

# Unit on the wire -> canonical unit, scale, offset: canonical = wire * scale + offset.
# Smoke: optical density m [dB/m] is 10 times the base-10 optical density per metre (EN 54-7).
# Percent per foot and other obscurations are not linear and belong into a codec.
_WIRE: tuple[tuple[str, str, float, float], ...] = (
    ("degC", "degC", 1.0, 0.0),
    ("degF", "degC", 5.0 / 9.0, -160.0 / 9.0),
    ("K", "degC", 1.0, -273.15),
    ("1/m", "1/m", 1.0, 0.0),
    ("dB/m", "1/m", 0.1, 0.0),
    ("ppm", "ppm", 1.0, 0.0),
    ("%", "%", 1.0, 0.0),
    ("ratio", "%", 100.0, 0.0),
    ("%LEL", "%LEL", 1.0, 0.0),
    ("mA", "mA", 1.0, 0.0),
    ("A", "mA", 1000.0, 0.0),
    ("A", "A", 1.0, 0.0),
    ("mA", "A", 0.001, 0.0),
    ("kPa", "kPa", 1.0, 0.0),
    ("MPa", "kPa", 1000.0, 0.0),
    ("bar", "kPa", 100.0, 0.0),
    ("Pa", "kPa", 0.001, 0.0),
    ("m", "m", 1.0, 0.0),
    ("cm", "m", 0.01, 0.0),
    ("mm", "m", 0.001, 0.0),
    ("V", "V", 1.0, 0.0),
    ("mV", "V", 0.001, 0.0),
    ("W", "W", 1.0, 0.0),
    ("kW", "W", 1000.0, 0.0),
    ("m3/h", "m3/h", 1.0, 0.0),
    ("L/s", "m3/h", 3.6, 0.0),
    ("L/min", "m3/h", 0.06, 0.0),
    ("deg", "deg", 1.0, 0.0),
    ("dBm", "dBm", 1.0, 0.0),
    ("1", "1", 1.0, 0.0),
    ("state", "state", 1.0, 0.0),
)
_ROWS = {(unit, canonical): (scale, offset) for unit, canonical, scale, offset in _WIRE}

GASES: tuple[str, ...] = ("", "methane", "propane", "butane", "hydrogen")
"""What a combustible-gas detector is there for; the place is stored in the registry."""
LEL_PPM: tuple[float, ...] = (math.nan, 50_000.0, 21_000.0, 18_000.0, 40_000.0)
"""Lower explosive limit in air of each of GASES: 10,000 ppm are 20 %LEL of methane, 48 of propane.

Source: 5.0, 2.1, 1.8 and 4.0 % by volume, the customary figures of gas-detector tables. (IEC
60079-20-1 has 4.4 and 1.7, 1.4 for the first three; the scale of a detector follows its label.)
"""
_OF_GAS = {"ppm": 1.0, "%vol": 10_000.0}


def wire_units(quantity: Quantity) -> tuple[str, ...]:
    """Units in which a payload may give this quantity."""
    units = tuple(unit for unit, canonical in _ROWS if canonical == quantity.unit)
    return units + (tuple(_OF_GAS) if quantity.unit == "%LEL" else ())


def needs_gas(wire_unit: str, quantity: Quantity) -> bool:
    """Whether the conversion depends on the gas: then `conversion` gives ppm, and the canonical
    value is 100 * ppm / LEL_PPM[gas].
    """
    return quantity.unit == "%LEL" and wire_unit in _OF_GAS


def conversion(wire_unit: str, quantity: Quantity) -> tuple[float, float]:
    """Scale and offset from `wire_unit` to the quantity's canonical unit (but see `needs_gas`).

    Raises ValueError, naming the units that would do, when the two do not measure the same thing.
    """
    if needs_gas(wire_unit, quantity):
        return _OF_GAS[wire_unit], 0.0
    found = _ROWS.get((wire_unit, quantity.unit))
    if found is None:
        fitting = ", ".join(wire_units(quantity))
        raise ValueError(f"unit {wire_unit!r} does not fit {quantity.name}; expected {fitting}")
    return found
