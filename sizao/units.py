"""Quantities and their one canonical unit.

Everything inside Sizao is in the canonical unit; device types convert at the border (`convert`).
A quantity's `code` is stored in the registry: never change or reuse one.
The lane decides the Kafka topic of a row: states in which a device itself says fire, gas, CO or
tamper travel in `sizao.alarms.v1`, everything else in `sizao.readings.v1`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, StrEnum


class Lane(StrEnum):
    """Which connection, producer, topic and consumer carry a row."""

    ALARM = "alarm"
    TELEMETRY = "telemetry"


class AlarmState(IntEnum):
    """Values of the `*_state` quantities of the alarm lane."""

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
    _measured(14, "fault_state", "state", 0.0, 1.0),
    _said(64, "fire_state"),
    _said(65, "gas_state"),
    _said(66, "co_state"),
    _said(67, "tamper_state"),
    _said(68, "call_point_state"),
)

BY_NAME: dict[str, Quantity] = {quantity.name: quantity for quantity in QUANTITIES}
BY_CODE: dict[int, Quantity] = {quantity.code: quantity for quantity in QUANTITIES}
HEARD = BY_NAME["heard"]

# Unit on the wire -> (canonical unit, scale, offset): canonical = wire * scale + offset.
# Smoke: optical density m [dB/m] is 10 times the base-10 optical density per metre (EN 54-7).
# Percent per foot and other obscurations are not linear and belong into a codec.
_WIRE: dict[str, tuple[str, float, float]] = {
    "degC": ("degC", 1.0, 0.0),
    "degF": ("degC", 5.0 / 9.0, -160.0 / 9.0),
    "K": ("degC", 1.0, -273.15),
    "1/m": ("1/m", 1.0, 0.0),
    "dB/m": ("1/m", 0.1, 0.0),
    "ppm": ("ppm", 1.0, 0.0),
    "%": ("%", 1.0, 0.0),
    "ratio": ("%", 100.0, 0.0),
    "%LEL": ("%LEL", 1.0, 0.0),
    "mA": ("mA", 1.0, 0.0),
    "A": ("mA", 1000.0, 0.0),
    "kPa": ("kPa", 1.0, 0.0),
    "MPa": ("kPa", 1000.0, 0.0),
    "bar": ("kPa", 100.0, 0.0),
    "m": ("m", 1.0, 0.0),
    "mm": ("m", 0.001, 0.0),
    "1": ("1", 1.0, 0.0),
    "state": ("state", 1.0, 0.0),
}


def conversion(wire_unit: str, quantity: Quantity) -> tuple[float, float]:
    """Scale and offset from `wire_unit` to the quantity's canonical unit.

    Raises ValueError, naming the units that would do, when the two do not measure the same thing.
    """
    canonical, scale, offset = _WIRE.get(wire_unit, ("", 0.0, 0.0))
    if canonical != quantity.unit:
        fitting = ", ".join(unit for unit, row in _WIRE.items() if row[0] == quantity.unit)
        raise ValueError(f"unit {wire_unit!r} does not fit {quantity.name}; expected {fitting}")
    return scale, offset
