"""A device type made ready once: pointers, tables and bounds for judging values in columns.

A judged value has a verdict: `OK`, `ABSENT` (nothing said, nothing wrong), or the number of a
reason. `judge` takes one value of any kind; `judge_column` takes a column of the right kind and
gives the same verdicts at a fraction of the cost.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import numpy as np
import numpy.typing as npt

from ingest.device_types.load import load
from ingest.device_types.reasons import Reason
from ingest.device_types.schema import (
    DeviceTime,
    DeviceType,
    Format,
    Measure,
    TimeFormat,
    state_names,
)
from sizao.units import BY_NAME, Lane, conversion

Floats = npt.NDArray[np.float64]
Verdicts = npt.NDArray[np.uint8]
Path = tuple[str, ...]

# The number of a verdict is its place here; the first two are no faults.
VERDICTS: tuple[Reason | None, ...] = (
    None,
    None,
    Reason.MISSING_FIELD,
    Reason.WRONG_TYPE,
    Reason.NOT_FINITE,
    Reason.OUT_OF_RANGE,
    Reason.UNKNOWN_STATE,
    Reason.SENSOR_BROKEN,
    Reason.UNEQUAL_COLUMNS,
    Reason.BAD_TIME,
    Reason.NO_POINT,
)
OK, ABSENT = 0, 1
_NUMBER = {reason: index for index, reason in enumerate(VERDICTS) if reason is not None}
MISSING, WRONG, NOT_FINITE, RANGE, STATE, BROKEN, UNEQUAL, TIME, NO_POINT = (
    _NUMBER[reason] for reason in VERDICTS if reason is not None
)


class Unequal:
    """Stands for a value of a column that is not as long as the column of keys."""


UNEQUAL_VALUE = Unequal()

_EVENT_US_MAX = float(1 << 61)  # beyond it no number of microseconds is a time


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """One quantity: canonical = wire * scale + offset, within low..high."""

    name: str
    code: int
    lane: Lane
    slot: int
    scale: float
    offset: float
    low: float
    high: float
    broken: frozenset[float]
    absent: frozenset[float]
    # (type, wire value) -> (verdict, number): 1 and true are two values.
    table: dict[tuple[type, object], tuple[int, float]] | None
    optional: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Compiled:
    """One device type. `slots`: the distinct pointers that it reads."""

    name: str
    format: Format
    says_alarms: bool
    patterns: tuple[tuple[str, Lane], ...]
    fields: tuple[Field, ...]
    slots: tuple[Path, ...]
    key_slot: int | None
    time_slot: int | None
    time: DeviceTime | None


def compile_type(text: str, name: str) -> Compiled:
    """Check and compile a document. Raises BadInput."""
    return compiled(load(text, name))


def compiled(device_type: DeviceType) -> Compiled:
    """Compile a checked device type."""
    slots: list[Path] = []

    def slot(pointer: str) -> int:
        path = tuple(part.replace("~1", "/").replace("~0", "~") for part in pointer.split("/")[1:])
        if path not in slots:
            slots.append(path)
        return slots.index(path)

    fields = tuple(
        _field(name, measure, slot(measure.pointer))
        for name, measure in device_type.quantities.items()
    )
    time = device_type.time
    return Compiled(
        name=device_type.name,
        format=device_type.format,
        says_alarms=device_type.says_alarms,
        patterns=tuple((topic.pattern, topic.lane) for topic in device_type.topics),
        fields=fields,
        key_slot=None if device_type.key is None else slot(device_type.key),
        time_slot=None if time is None else slot(time.pointer),
        time=time,
        slots=tuple(slots),
    )


def _field(name: str, measure: Measure, slot: int) -> Field:
    quantity = BY_NAME[name]
    factor, shift = conversion(measure.unit, quantity)
    bounds = [quantity.minimum, quantity.maximum]
    for index, bound, nearer in ((0, measure.minimum, max), (1, measure.maximum, min)):
        if bound is not None:
            bounds[index] = nearer(bounds[index], bound * factor + shift)
    return Field(
        name=name,
        code=quantity.code,
        lane=quantity.lane,
        slot=slot,
        scale=measure.scale * factor,
        offset=measure.offset * factor + shift,
        low=bounds[0],
        high=bounds[1],
        broken=frozenset(float(wire) for wire in measure.broken if not isinstance(wire, str)),
        absent=frozenset(float(wire) for wire in measure.absent if not isinstance(wire, str)),
        table=_table(name, measure) if measure.states else None,
        optional=measure.optional,
    )


def _table(name: str, measure: Measure) -> dict[tuple[type, object], tuple[int, float]]:
    numbers = state_names(BY_NAME[name])
    table: dict[tuple[type, object], tuple[int, float]] = {}
    for wire, state in measure.states.items():
        table[type(wire), wire] = OK, float(numbers[state])
    table |= {(type(wire), wire): (BROKEN, 0.0) for wire in measure.broken}
    table |= {(type(wire), wire): (ABSENT, 0.0) for wire in measure.absent}
    return table


def judge(field: Field, wire: Any) -> tuple[int, float]:
    """Verdict and canonical value of one wire value, whatever it is."""
    if wire is None:
        return (ABSENT if field.optional else MISSING), 0.0
    if wire is UNEQUAL_VALUE:
        return UNEQUAL, 0.0
    if field.table is not None:
        return _judge_state(field.table, wire)
    return _judge_number(field, wire)


def _judge_number(field: Field, wire: Any) -> tuple[int, float]:
    if isinstance(wire, bool) or not isinstance(wire, int | float):
        return WRONG, 0.0
    try:
        number = float(wire)
    except OverflowError:  # an integer of hundreds of digits
        return RANGE, 0.0
    if not math.isfinite(number):
        return NOT_FINITE, 0.0
    if number in field.absent:
        return ABSENT, 0.0
    if number in field.broken:
        return BROKEN, 0.0
    value = number * field.scale + field.offset
    return (OK, value) if field.low <= value <= field.high else (RANGE, 0.0)


def _judge_state(
    table: dict[tuple[type, object], tuple[int, float]], wire: Any
) -> tuple[int, float]:
    if not isinstance(wire, bool | int | str):
        return WRONG, 0.0
    found = table.get((type(wire), wire))
    if found is not None:
        return found
    return (STATE if any(kind is type(wire) for kind, _ in table) else WRONG), 0.0


def judge_all(field: Field, wires: Sequence[Any]) -> tuple[Verdicts, Floats]:
    """Verdicts and values of wire values of any kind."""
    judged = [judge(field, wire) for wire in wires]
    verdicts = np.array([verdict for verdict, _ in judged], np.uint8)
    return verdicts, np.array([value for _, value in judged], np.float64)


def judge_column(field: Field, wires: Sequence[Any]) -> tuple[Verdicts, Floats]:
    """As `judge_all`, for wires that are finite floats or None, or (states) of any kind."""
    if field.table is not None:
        return judge_all(field, wires)
    numbers = np.array(wires, np.float64)  # None becomes NaN
    with np.errstate(over="ignore", invalid="ignore"):
        values = numbers * field.scale + field.offset
        verdicts = np.where((values >= field.low) & (values <= field.high), OK, RANGE)
    verdicts = verdicts.astype(np.uint8)
    if field.broken:
        verdicts[np.isin(numbers, list(field.broken))] = BROKEN
    if field.absent:
        verdicts[np.isin(numbers, list(field.absent))] = ABSENT
    verdicts[np.isnan(numbers)] = ABSENT if field.optional else MISSING
    values[verdicts != OK] = 0.0
    return verdicts, values


def times_us(time: DeviceTime, wires: Sequence[Any]) -> tuple[Verdicts, Floats]:
    """Microseconds UTC of device times; ABSENT where there is none, TIME where it is no time."""
    if time.format is TimeFormat.ISO8601:
        zone = _zone(time.zone)
        judged = [_iso_us(wire, zone) for wire in wires]
    else:
        factor = 1e6 if time.format is TimeFormat.UNIX_S else 1e3
        judged = [_unix_us(wire, factor) for wire in wires]
    verdicts = np.array([verdict for verdict, _ in judged], np.uint8)
    return verdicts, np.array([value for _, value in judged], np.float64)


def _unix_us(wire: Any, factor: float) -> tuple[int, float]:
    if wire is None:
        return ABSENT, 0.0
    if isinstance(wire, bool) or not isinstance(wire, int | float):
        return TIME, 0.0
    try:
        time_us = float(wire) * factor
    except OverflowError:
        return TIME, 0.0
    return (OK, time_us) if abs(time_us) < _EVENT_US_MAX else (TIME, 0.0)


def _iso_us(wire: Any, zone: timezone) -> tuple[int, float]:
    if wire is None:
        return ABSENT, 0.0
    if not isinstance(wire, str):
        return TIME, 0.0
    try:
        time = datetime.fromisoformat(wire)
        if time.tzinfo is None:
            time = time.replace(tzinfo=zone)
        return OK, (time - _EPOCH) / _MICROSECOND
    except (ValueError, OverflowError):
        return TIME, 0.0


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def _zone(text: str) -> timezone:
    if text == "UTC":
        return UTC
    offset = timedelta(hours=int(text[1:3]), minutes=int(text[4:6]))
    return timezone(-offset if text[0] == "-" else offset)
