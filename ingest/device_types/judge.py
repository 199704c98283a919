"""What is a reading and what is wrong: `judge` takes one value of any kind, `judge_columns` columns
of the right kind, with the same verdicts at a fraction of the cost.
"""

from __future__ import annotations

import contextlib
import math
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ingest.device_types.compiled import Field
from ingest.device_types.verdicts import (
    ABSENT,
    BROKEN,
    MISSING,
    NO_GAS,
    NOT_FINITE,
    OK,
    RANGE,
    STATE,
    WRONG,
    Bad,
    Floats,
    Verdicts,
    Wires,
)
from sizao.units import BY_CODE

_DECIMAL = re.compile(r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?", re.ASCII)
"""Narrower than float(), which takes `0_02` for 2 and digits of any script."""
_NOT_FINITE = re.compile(r"[+-]?(?:nan|inf|infinity)", re.IGNORECASE | re.ASCII)
_DIGITS_MAX = 64
_NUMBERS = {float, int}


def judge(field: Field, wire: Any) -> tuple[int, float]:
    """Verdict and canonical value of one wire value, whatever it is."""
    if wire is None:
        return (ABSENT if field.optional else MISSING), 0.0
    if isinstance(wire, Bad):
        return wire.verdict, 0.0
    if field.table is not None:
        return _judge_state(field.table, wire)
    if field.text and isinstance(wire, str):
        return _judge_text(field, wire)
    return _judge_number(field, wire)


def _judge_text(field: Field, wire: str) -> tuple[int, float]:
    verdict = field.words.get(wire)
    if verdict is not None:
        return verdict, 0.0
    if len(wire) <= _DIGITS_MAX and _DECIMAL.fullmatch(wire):
        return _judge_number(field, float(wire))
    return (NOT_FINITE if _NOT_FINITE.fullmatch(wire) else WRONG), 0.0


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


def _whole(wire: Any) -> Any:
    """1.0 as 1: network servers and scripts write every number as a float, and 1 may be a fire."""
    return int(wire) if isinstance(wire, float) and wire.is_integer() else wire


def _judge_state(
    table: dict[tuple[type, object], tuple[int, float]], wire: Any
) -> tuple[int, float]:
    wire = _whole(wire)
    if not isinstance(wire, bool | int | str):
        return WRONG, 0.0
    found = table.get((type(wire), wire))
    if found is not None:
        return found
    return (STATE if any(kind is type(wire) for kind, _ in table) else WRONG), 0.0


def judge_all(field: Field, wires: Wires) -> tuple[Verdicts, Floats]:
    """Verdicts and values of wire values of any kind."""
    judged = [judge(field, wire) for wire in wires]
    verdicts = np.array([verdict for verdict, _ in judged], np.uint8)
    return verdicts, np.array([value for _, value in judged], np.float64)


class Column(NamedTuple):
    """Wire values of one field. `typed`: finite floats or None; states and text of any kind."""

    field: Field
    wires: Wires
    typed: bool


def judge_columns(columns: Sequence[Column]) -> tuple[Verdicts, Floats]:
    """As `judge_all` of each, one behind the other."""
    if not columns:
        return np.empty(0, np.uint8), np.empty(0)
    sizes, fields = [len(one.wires) for one in columns], [one.field for one in columns]
    found = [_numbers(one) for one in columns]
    numbers = np.concatenate(
        [np.zeros(size) if one is None else one for one, size in zip(found, sizes, strict=True)]
    )
    scale, offset, low, high, nothing = np.repeat(
        [(one.scale, one.offset, one.low, one.high, ABSENT if one.optional else MISSING)
         for one in fields], sizes, axis=0
    ).T  # fmt: skip
    with np.errstate(over="ignore", invalid="ignore"):
        values = numbers * scale + offset
        verdicts = np.where((values >= low) & (values <= high), OK, RANGE).astype(np.uint8)
    start = 0
    for one, size, is_number in zip(columns, sizes, found, strict=True):
        mine = slice(start, start + size)
        start += size
        if is_number is None:
            verdicts[mine], values[mine] = _judge_others(one)
            continue
        for number in one.field.broken:
            verdicts[mine][numbers[mine] == number] = BROKEN
        for number in one.field.absent:
            verdicts[mine][numbers[mine] == number] = ABSENT
    none = np.isnan(numbers)
    if none.any():
        verdicts[none] = nothing[none]
    values[verdicts != OK] = 0.0
    return verdicts, values


def _numbers(column: Column) -> Floats | None:
    """Finite numbers, NaN for None; None where something else stands among them."""
    wires = column.wires
    if column.field.table is not None or column.field.text:
        return None
    if column.typed:
        return np.asarray(wires, np.float64)
    if _NUMBERS.issuperset(map(type, wires)):
        with contextlib.suppress(OverflowError):  # an integer of hundreds of digits
            numbers = np.array(wires, np.float64)
            if np.isfinite(numbers).all():
                return numbers
    return None


def _judge_others(column: Column) -> tuple[Verdicts, Floats]:
    if column.field.table is not None:
        with contextlib.suppress(TypeError):  # a list is no key
            return _judge_states(column.field, column.field.table, column.wires)
    return judge_all(column.field, column.wires)


def _judge_states(
    field: Field, table: dict[tuple[type, object], tuple[int, float]], wires: Wires
) -> tuple[Verdicts, Floats]:
    """As `judge_all`; a district says few words, and those that are known cost one look each."""
    known = {(type(None), None): judge(field, None)} | table
    judged = [known.get((wire.__class__, wire)) or judge(field, wire) for wire in wires]
    found = np.array(judged, np.float64).reshape(-1, 2)
    return found[:, 0].astype(np.uint8), np.ascontiguousarray(found[:, 1])


def decided(field: Field, deciders: Wires, verdicts: Verdicts, values: Floats) -> None:
    """Keep what the deciding field says is there; in place.

    What it says of another quantity does not apply here, which is no fault; what nobody knows is
    one, for it may have said that this is a fire. So is a value whose deciding field is not there,
    of an optional quantity too.
    """
    for place, wire in enumerate(map(_whole, deciders)):
        if isinstance(wire, Bad):
            verdict = wire.verdict
        elif wire is None:
            verdict = ABSENT if field.optional and verdicts[place] == ABSENT else MISSING
        elif not isinstance(wire, bool | int | str):
            verdict = WRONG
        else:
            applies = field.deciders.get((type(wire), wire))
            if applies:
                continue
            verdict = STATE if applies is None else ABSENT
        verdicts[place], values[place] = verdict, 0.0


def of_gas(
    field: Field, lel_ppm: npt.NDArray[np.float64], verdicts: Verdicts, values: Floats
) -> None:
    """From ppm to %LEL of each device's gas, in place. `lel_ppm`: NaN where none is known."""
    quantity = BY_CODE[field.code]
    with np.errstate(invalid="ignore"):
        values *= 100.0 / lel_ppm
        outside = (values < quantity.minimum) | (values > quantity.maximum)
    good = verdicts == OK
    verdicts[good & outside] = RANGE
    verdicts[good & np.isnan(lel_ppm)] = NO_GAS
    values[verdicts != OK] = 0.0
