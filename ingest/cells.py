"""What payloads said, judged: each value with its verdict, all types of a tick at once.

A cell is one entry's word of one quantity. The cells of all parts stand one behind the other, part
by part and field by field: judged type by type, a tick of 20 types cost numpy 20 times over.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ingest.device_types.compiled import Field
from ingest.device_types.judge import Column, decided, judge_columns, of_gas
from ingest.device_types.times import times_us
from ingest.device_types.verdicts import ABSENT, OK, TIME, VERDICTS, Floats, Verdicts
from ingest.entries import Ints, Part, joined
from ingest.refused import Fault, Faults
from ingest.routes import District
from sizao.units import HEARD, Lane

_Places = npt.NDArray[np.intp]


class Entries(NamedTuple):
    """By entry: of which message and device, and when. By good value: its entry and quantity."""

    message: Ints
    device: Ints
    time: Verdicts
    time_us: Floats
    entry: _Places
    quantity: Ints
    value: Floats


class _Cells(NamedTuple):
    """All cells, with the entry and the column of each: a column is a field of a part."""

    entry: _Places
    column: _Places
    fields: list[Field]
    verdict: Verdicts
    value: Floats


def judged(
    district: District, parts: Sequence[Part], arrived_us: npt.NDArray[np.int64], faults: Faults
) -> Entries:
    """Good values of all parts, heard rows included; the bad ones go to `faults`."""
    message = joined([part.message for part in parts], np.int32)
    device = joined([part.device for part in parts], np.int32)
    sizes = [len(part.message) for part in parts]
    starts = np.cumsum([0, *sizes])
    cells = _cells(district, parts, starts)
    time, time_us = _times(parts, arrived_us[message], starts)
    _blame(cells, message, device, time, starts, faults)
    good = (cells.verdict == OK).nonzero()[0]
    codes = np.array([one.code for one in cells.fields], np.int32)
    entry, value = cells.entry.take(good), cells.value.take(good)
    quantity = codes.take(cells.column.take(good))
    if any(part.compiled.says_alarms for part in parts):
        says_alarms = np.repeat([part.compiled.says_alarms for part in parts], sizes)
        where = _heard(cells, good, says_alarms)
        entry = np.concatenate((entry, where))
        quantity = np.concatenate((quantity, np.full(len(where), HEARD.code, np.int32)))
        value = np.concatenate((value, np.ones(len(where))))
    return Entries(message, device, time, time_us, entry, quantity, value)


def _cells(district: District, parts: Sequence[Part], starts: npt.NDArray[np.int64]) -> _Cells:
    columns, sizes, shifts, first = list[Column](), list[int](), list[int](), 0
    for part, start in zip(parts, starts.tolist(), strict=False):
        size = len(part.message)
        for one in part.compiled.fields:
            columns.append(Column(one, part.columns.slots[one.slot], part.columns.typed))
            sizes.append(size)
            shifts.append(start - first)
            first += size
    verdict, value = judge_columns(columns)
    first = 0
    for part in parts:
        for one in part.compiled.fields:
            mine = slice(first, first + len(part.message))
            first = mine.stop
            if one.when is not None:
                decided(one, part.columns.slots[one.when], verdict[mine], value[mine])
            if one.of_gas:
                of_gas(one, district.lel_ppm[part.device], verdict[mine], value[mine])
    return _Cells(
        entry=np.arange(len(verdict)) + np.repeat(np.array(shifts, np.intp), sizes),
        column=np.repeat(np.arange(len(columns)), sizes),
        fields=[column.field for column in columns],
        verdict=verdict,
        value=value,
    )


def _heard(cells: _Cells, good: _Places, says_alarms: npt.NDArray[np.bool_]) -> _Places:
    """Entries that leave a heard row. Offline is judged in the readings fold alone, so a device
    that was heard leaves a row there; garbage alone does not count as being heard.
    """
    measures = np.array([one.lane is Lane.TELEMETRY for one in cells.fields], np.bool_)
    measured, silent, faulty = np.zeros((3, len(says_alarms)), np.bool_)
    silent[:] = True
    measured[cells.entry[good[measures[cells.column[good]]]]] = True
    silent[cells.entry[good]] = False
    faulty[cells.entry[cells.verdict > ABSENT]] = True
    return np.flatnonzero(says_alarms & ~measured & ~(silent & faulty))


def _times(
    parts: Sequence[Part], arrived_us: npt.NDArray[np.int64], starts: npt.NDArray[np.int64]
) -> tuple[Verdicts, Floats]:
    verdict, time_us = np.full(starts[-1], ABSENT, np.uint8), np.zeros(starts[-1])
    for part, start in zip(parts, starts.tolist(), strict=False):
        compiled, mine = part.compiled, slice(start, start + len(part.message))
        if compiled.time is not None and compiled.time_slot is not None:
            wires = part.columns.slots[compiled.time_slot]
            verdict[mine], time_us[mine] = times_us(compiled.time, wires, arrived_us[mine])
    return verdict, time_us


def _blame(
    cells: _Cells,
    message: Ints,
    device: Ints,
    time: Verdicts,
    starts: npt.NDArray[np.int64],
    faults: Faults,
) -> None:
    """Part by part: its values, then its times."""
    bad, untimed = (cells.verdict > ABSENT).nonzero()[0], (time == TIME).nonzero()[0]
    if not len(bad) and not len(untimed):
        return
    part_of = np.searchsorted(starts, np.concatenate((cells.entry[bad], untimed)), "right")
    order = np.argsort(part_of, kind="stable")
    for place in order.tolist():
        one: Field | None = None
        if place < len(bad):
            cell = int(bad[place])
            entry, verdict = int(cells.entry[cell]), int(cells.verdict[cell])
            one = cells.fields[int(cells.column[cell])]
        else:
            entry, verdict = int(untimed[place - len(bad)]), TIME
        reason = VERDICTS[verdict]
        assert reason is not None
        name, alarm = ("time", False) if one is None else (one.name, one.lane is Lane.ALARM)
        fault = Fault(reason, name, int(device[entry]))
        faults.part(int(message[entry]), fault, alarm=alarm)
