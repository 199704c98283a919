"""A pack as it lies on the disk (docs/packs.md), checked whole before anything is judged.

A broken pack is refused with its file and line or column, what was got and what was expected:
BadInput, exit code 2.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from sizao.errors import BadInput
from sizao.limits import HEAT_CLASSES_TEXT, class_code

KINDS = ("fire", "quiet", "nuisance")
READINGS, ABOUT, DEVICES, EVENTS = "readings.parquet", "pack.json", "devices.csv", "events.csv"
_DEVICE_COLUMNS = ("device", "zone", "room", "height_m", "note")
_EVENT_COLUMNS = ("test", "time_s", "event", "device", "detail")
_WORDS = ("test", "device", "quantity")

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Device:
    """One line of devices.csv; `note` decides how it counts. `heat_class`: `limits.class_code`."""

    name: str
    zone: str
    room: str
    note: str
    heat_class: int = 0


@dataclass(frozen=True, slots=True)
class Event:
    """One line of events.csv; `time_s` on the clock of its test's record."""

    test: str
    time_s: float
    event: str
    device: str
    detail: str


@dataclass(frozen=True, slots=True)
class Channel:
    """One quantity of one device in one test, times rising."""

    test: str
    device: str
    quantity: str
    time_s: Floats
    value: Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class Pack:
    """A whole pack. `prepared`: its readings are what housed devices would report already."""

    name: str
    kind: str
    licence: str
    redistributable: bool
    sampling_s: float
    prepared: bool
    devices: dict[str, Device]
    events: tuple[Event, ...]
    channels: tuple[Channel, ...]
    tests: tuple[str, ...]

    def ignition_s(self, test: str) -> float:
        """When a test's fire begins; every test of a fire pack has one."""
        return next(
            event.time_s
            for event in self.events
            if event.test == test and event.event == "ignition"
        )

    def counted(self, device: str) -> bool:
        """Whether the protocol counts a device of a fire pack.

        Those noted `ceiling`; all of a prepared pack that notes none.
        """
        if self.devices[device].note.startswith("ceiling"):
            return True
        return self.prepared and not any(
            one.note.startswith("ceiling") for one in self.devices.values()
        )


def load(folder: Path) -> Pack:
    """Read and check a pack. Raises BadInput."""
    about = _about(folder / ABOUT)
    devices = _devices(folder / DEVICES)
    channels, tests = _channels(folder / READINGS, devices)
    events = _events(folder / EVENTS, devices, tests)
    if about["kind"] == "fire":
        _each_burns(folder / EVENTS, events, tests)
    return Pack(
        name=about["name"],
        kind=about["kind"],
        licence=about["licence"],
        redistributable=about["redistributable"],
        sampling_s=float(about["sampling_s"]),
        prepared=bool(about.get("prepared")),
        devices=devices,
        events=events,
        channels=channels,
        tests=tests,
    )


def _refuse(file: Path, place: str, got: object, expected: str) -> NoReturn:
    raise BadInput(f"{file}:{place}: got {got!r}, expected {expected}")


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value)


def _is_period(value: object) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and math.isfinite(value) and value > 0  # type: ignore[operator,arg-type] # narrowed by `number`


_ABOUT: dict[str, tuple[Callable[[object], bool], str]] = {
    "name": (_is_text, "a text"),
    "title": (_is_text, "a text"),
    "kind": (lambda value: value in KINDS, f"one of {', '.join(KINDS)}"),
    "source": (_is_text, "a text"),
    "licence": (_is_text, "a text"),
    "redistributable": (lambda value: isinstance(value, bool), "true or false"),
    "sampling_s": (_is_period, "seconds, more than 0"),
}


def _about(file: Path) -> dict[str, Any]:
    try:
        about = json.loads(_text(file))
    except json.JSONDecodeError as error:
        _refuse(file, f"{error.lineno}:{error.colno}", error.msg, "JSON")
    if not isinstance(about, dict):
        _refuse(file, "1", type(about).__name__, "an object")
    for key, (fits, expected) in _ABOUT.items():
        if not fits(about.get(key)):
            _refuse(file, key, about.get(key), expected)
    prepared = about.get("prepared")
    if prepared is not None and not isinstance(prepared, dict):
        _refuse(file, "prepared", prepared, "an object of shift_s, lag_s, period_s, or no such key")
    return about


def _text(file: Path) -> str:
    try:
        return file.read_text("utf-8-sig")
    except UnicodeDecodeError as error:
        _refuse(file, f"byte {error.start}", error.object[error.start : error.end], "UTF-8")
    except OSError as error:
        raise BadInput(f"{file}: {error.strerror}; a pack has {ABOUT}, {READINGS}, {DEVICES}"
                       f" and {EVENTS} (docs/packs.md)") from error  # fmt: skip


def _lines(file: Path, columns: tuple[str, ...]) -> Iterator[tuple[int, dict[str, str]]]:
    """Rows of a CSV file with the number of their last line; more columns than ours are let be."""
    reader = csv.reader(_text(file).splitlines(keepends=True), strict=True)
    try:
        head = next(reader, [])
        missing = [column for column in columns if column not in head]
        if missing:
            _refuse(file, "1", ",".join(head), f"the columns {','.join(columns)}")
        for row in reader:
            if not row:
                continue
            if len(row) != len(head):
                _refuse(file, str(reader.line_num), f"{len(row)} fields", f"{len(head)}")
            yield reader.line_num, dict(zip(head, row, strict=True))
    except csv.Error as error:
        _refuse(file, str(reader.line_num), str(error), "CSV")


def _devices(file: Path) -> dict[str, Device]:
    found: dict[str, Device] = {}
    for line, row in _lines(file, _DEVICE_COLUMNS):
        name, place = row["device"], str(line)
        if not name or name in found:
            _refuse(file, place, name, "a device name that no line before has")
        if row["height_m"]:
            _number(file, place, row["height_m"], "height_m in metres, or nothing")
        try:
            heat_class = class_code(row.get("heat_class", ""))
        except ValueError:
            _refuse(file, place, row["heat_class"], f"heat_class {HEAT_CLASSES_TEXT}, or nothing")
        found[name] = Device(name, row["zone"], row["room"], row["note"], heat_class)
    return found


def _events(file: Path, devices: dict[str, Device], tests: tuple[str, ...]) -> tuple[Event, ...]:
    found = []
    for line, row in _lines(file, _EVENT_COLUMNS):
        place = str(line)
        if row["test"] not in tests:
            _refuse(file, place, row["test"], f"a test of {READINGS}")
        if row["device"] and row["device"] not in devices:
            _refuse(file, place, row["device"], f"a device of {DEVICES}, or nothing")
        if not row["event"]:
            _refuse(file, place, "", "an event, such as ignition or end")
        time_s = _number(file, place, row["time_s"], "time_s in seconds")
        found.append(Event(row["test"], time_s, row["event"], row["device"], row["detail"]))
    return tuple(found)


def _number(file: Path, place: str, text: str, expected: str) -> float:
    try:
        number = float(text)
    except ValueError:
        _refuse(file, place, text, expected)
    if not math.isfinite(number):
        _refuse(file, place, text, expected)
    return number


def _each_burns(file: Path, events: tuple[Event, ...], tests: tuple[str, ...]) -> None:
    lit = [event.test for event in events if event.event == "ignition"]
    for test in tests:
        if lit.count(test) != 1:
            expected = f"one, for test {test}: the pack's kind is fire"
            _refuse(file, "event", f"{lit.count(test)} ignition events", expected)


def _channels(
    file: Path, devices: dict[str, Device]
) -> tuple[tuple[Channel, ...], tuple[str, ...]]:
    table = _table(file)
    words, codes = {}, {}
    for name in _WORDS:
        column = table[name].combine_chunks()
        if isinstance(column, pa.ChunkedArray):  # of no row
            _refuse(file, name, "no row", "readings")
        column = column if pa.types.is_dictionary(column.type) else column.dictionary_encode()
        words[name] = column.dictionary.to_pylist()
        codes[name] = column.indices.to_numpy().astype(np.int64)
    time_s = table["time_s"].to_numpy().astype(np.float64)
    value = table["value"].to_numpy().astype(np.float64)
    for name, numbers in (("time_s", time_s), ("value", value)):
        bad = np.flatnonzero(~np.isfinite(numbers))
        if len(bad):
            _refuse(file, f"{name}: row {bad[0]}", float(numbers[bad[0]]), "a finite number")
    strange = [code for code in np.unique(codes["device"]) if words["device"][code] not in devices]
    if strange:
        row = int(np.flatnonzero(codes["device"] == strange[0])[0])
        expected = f"a device of {DEVICES}"
        _refuse(file, f"device: row {row}", words["device"][strange[0]], expected)
    _in_order(file, words["test"], codes["test"], time_s)
    key = codes["test"]
    for name in ("device", "quantity"):
        key = key * len(words[name]) + codes[name]
    order = np.argsort(key, kind="stable")
    cuts = np.flatnonzero(np.diff(key[order])) + 1
    found = []
    for rows in np.split(order, cuts):
        test, device, quantity = (str(words[name][codes[name][rows[0]]]) for name in _WORDS)
        again = np.flatnonzero(np.diff(time_s[rows]) == 0)
        if len(again):
            row = int(rows[again[0] + 1])
            expected = f"one reading of {device}, {quantity} at a time"
            _refuse(file, f"time_s: row {row}", f"{time_s[row]} again", expected)
        found.append(Channel(test, device, quantity, time_s[rows], value[rows]))
    first = np.unique(codes["test"], return_index=True)[1]
    tests = tuple(str(words["test"][codes["test"][row]]) for row in np.sort(first))
    return tuple(found), tests


def _table(file: Path) -> pa.Table:
    try:
        table = pq.read_table(file)
    except (OSError, pa.ArrowException) as error:
        raise BadInput(f"{file}: {error}; expected Parquet (docs/packs.md)") from error
    for name in (*_WORDS, "time_s", "value"):
        if name not in table.column_names:
            expected = f"the columns {', '.join((*_WORDS, 'time_s', 'value'))}"
            _refuse(file, name, ", ".join(table.column_names), expected)
        kind = table.schema.field(name).type
        if name in _WORDS:
            plain = kind.value_type if pa.types.is_dictionary(kind) else kind
            fits = pa.types.is_string(plain) or pa.types.is_large_string(plain)
        else:
            fits = pa.types.is_floating(kind) or pa.types.is_integer(kind)
        if not fits:
            _refuse(file, name, str(kind), "string" if name in _WORDS else "a number")
        if table[name].null_count:
            row = table[name].is_null().to_pylist().index(True)
            _refuse(file, f"{name}: row {row}", None, "a value; a missing reading has no row")
    if not table.num_rows:
        _refuse(file, "test", "no row", "readings")
    return table


def _in_order(file: Path, tests: list[str], test: npt.NDArray[np.int64], time_s: Floats) -> None:
    starts = [0, *(np.flatnonzero(np.diff(test)) + 1).tolist(), len(test)]
    seen: set[int] = set()
    for begin, end in pairwise(starts):
        if test[begin] in seen:
            expected = "rows sorted by test, then time"
            _refuse(file, f"test: row {begin}", f"{tests[test[begin]]} again", expected)
        seen.add(int(test[begin]))
        back = np.flatnonzero(np.diff(time_s[begin:end]) < 0)
        if len(back):
            row = begin + int(back[0]) + 1
            got = f"{time_s[row]} after {time_s[row - 1]}"
            _refuse(file, f"time_s: row {row}", got, "rows sorted by test, then time")
