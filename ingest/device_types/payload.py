"""From payload bytes to columns of wire values, judged later. Never raises.

Two ways with one result. The fast one (quick.py) takes a JSON payload whose every field is of its
kind and refuses NaN, Infinity and what is not JSON. Everything it refuses goes the patient way,
which finds what is wrong with which field, so that one bad field never takes the fire beside it
along. Packed binary has a way of its own, over all payloads at once.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from ingest.device_types import formats, senml
from ingest.device_types.binary import Binary
from ingest.device_types.compiled import Compiled
from ingest.device_types.formats import ROWS_MAX, Entry, Unreadable
from ingest.device_types.pointer import Way, walk
from ingest.device_types.quick import Quick, quick
from ingest.device_types.reasons import Reason
from ingest.device_types.schema import Format
from ingest.device_types.verdicts import AMBIGUOUS_VALUE, UNEQUAL_VALUE, Wires

BYTES_MAX_ONE, BYTES_MAX_BATCH = 16 * 1024, 256 * 1024
"""One device's words fit into 16 KiB; a gateway's 4,000 readings of 51 bytes into 256."""

Refused = tuple[int, Reason, str]
"""Index of the payload, and why nothing of it can be read."""


@dataclass(slots=True)
class Columns:
    """Wire values by slot; `payload[i]` says whose payload entry i stood in.

    An entry is what one payload says of one device. `typed`: the values are of their field's kind.
    """

    typed: bool
    payload: npt.NDArray[np.int32]
    slots: list[Wires]

    def only(self, entries: npt.NDArray[np.intp]) -> Columns:
        """Those entries alone."""
        places = entries.tolist()
        slots = [
            slot[entries] if isinstance(slot, np.ndarray) else [slot[place] for place in places]
            for slot in self.slots
        ]
        return Columns(self.typed, self.payload[entries], slots)


@dataclass(slots=True)
class _Patient:
    """Columns that grow value by value."""

    payload: list[int] = field(default_factory=list)
    slots: list[list[Any]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Reader:
    """Reads payloads of one device type."""

    compiled: Compiled
    quick: Quick | None

    @property
    def bytes_max(self) -> int:
        """The largest payload that is looked at."""
        return BYTES_MAX_BATCH if self.compiled.batch else BYTES_MAX_ONE

    def read(self, payloads: Sequence[bytes]) -> tuple[list[Columns], list[Refused]]:
        """Columns of all payloads, fast and patient ones apart, and what cannot be read.

        A type that wants nothing of a topic reads nothing there and refuses nothing.
        """
        if not self.compiled.fields:
            return [], []
        fast, rest, refused = None, list(range(len(payloads))), list[Refused]()
        if self.compiled.binary is not None:
            fast, refused = _take_binary(self, self.compiled.binary, payloads)
            rest = []
        elif self.quick is not None:
            take = _take_one if self.compiled.format is Format.JSON else _take_batch
            fast, rest = take(self, self.quick, payloads)
        patient = _Patient(slots=[[] for _ in self.compiled.slots])
        bytes_max = self.bytes_max if rest else 0
        for index in rest:
            try:
                _take_patiently(self.compiled, payloads[index], index, patient, bytes_max)
            except Unreadable as why:
                refused.append((index, why.reason, why.detail))
        columns = [] if fast is None else [fast]
        if patient.payload:
            payload = np.array(patient.payload, np.int32)
            columns.append(Columns(typed=False, payload=payload, slots=[*patient.slots]))
        return [one for one in columns if len(one.payload)], refused


def reader(compiled: Compiled) -> Reader:
    """Make the ways of a type."""
    return Reader(compiled, quick(compiled))


# AttributeError: no object where a pointer leads.
_NOT_QUICK = (msgspec.DecodeError, RecursionError, UnicodeDecodeError, AttributeError)


def _take_one(reader: Reader, quick: Quick, payloads: Sequence[bytes]) -> tuple[Columns, list[int]]:
    """One object, one entry. Also returns the payloads that need patience."""
    key_slot = reader.compiled.key_slot
    if max(map(len, payloads)) <= BYTES_MAX_ONE:
        with contextlib.suppress(*_NOT_QUICK):
            found = [*map(quick.decode, payloads)]
            slots: list[Wires] = [[*map(get, found)] for get in quick.each]
            if key_slot is None or None not in slots[key_slot]:
                return _typed(np.arange(len(payloads), dtype=np.int32), slots), []
    rows, taken, rest = [], [], []
    for index, payload in enumerate(payloads):
        row = None
        if len(payload) <= BYTES_MAX_ONE:
            with contextlib.suppress(*_NOT_QUICK):
                row = quick.get(quick.decode(payload))
        if row is None or (key_slot is not None and row[key_slot] is None):
            rest.append(index)
        else:
            rows.append(row)
            taken.append(index)
    slots = [list(slot) for slot in zip(*rows, strict=True)]
    return _typed(np.array(taken, np.int32), slots), rest


def _take_batch(
    reader: Reader, quick: Quick, payloads: Sequence[bytes]
) -> tuple[Columns, list[int]]:
    """One array per field, one entry per key. Also returns the payloads that need patience."""
    taken, sizes, rest = [], [], []
    key_slot = reader.compiled.key_slot
    assert key_slot is not None
    slots: list[list[Any]] = [[] for _ in reader.compiled.slots]
    for index, payload in enumerate(payloads):
        if len(payload) > BYTES_MAX_BATCH:
            rest.append(index)
            continue
        try:
            found = quick.get(quick.decode(payload))
        except _NOT_QUICK:
            rest.append(index)
            continue
        size = -1 if found[key_slot] is None else len(found[key_slot])
        arrays = [array if isinstance(array, list) else [array] * size for array in found]
        if not 0 <= size <= ROWS_MAX or any(len(array) != size for array in arrays):
            rest.append(index)
            continue
        taken.append(index)
        sizes.append(size)
        for slot, array in zip(slots, arrays, strict=True):
            slot.extend(array)
    return _typed(_repeated(taken, sizes), [*slots]), rest


def _take_binary(
    reader: Reader, packed: Binary, payloads: Sequence[bytes]
) -> tuple[Columns, list[Refused]]:
    indexes, counts, refused = [], [], []
    for index, payload in enumerate(payloads):
        if len(payload) > reader.bytes_max:
            refused.append((index, Reason.TOO_LARGE, _too_large(payload, reader.bytes_max)))
            continue
        found = packed.rows(payload, ROWS_MAX)
        if isinstance(found, str):
            refused.append((index, Reason.NOT_DECODED, found))
        else:
            indexes.append(index)
            counts.append(found)
    typed, slots = packed.columns([payloads[index] for index in indexes], counts)
    return Columns(typed, _repeated(indexes, counts), slots), refused


def _typed(payload: npt.NDArray[np.int32], slots: list[Wires]) -> Columns:
    return Columns(typed=True, payload=payload, slots=slots)


def _repeated(indexes: list[int], counts: list[int]) -> npt.NDArray[np.int32]:
    return np.repeat(np.array(indexes, np.int32), counts)


def _too_large(payload: bytes, limit: int) -> str:
    return f"{len(payload)} bytes; {limit} fit"


def _take_patiently(
    compiled: Compiled, payload: bytes, index: int, columns: _Patient, bytes_max: int
) -> None:
    """Add what can be read of one payload. Raises Unreadable when nothing can."""
    if len(payload) > bytes_max:
        raise Unreadable(Reason.TOO_LARGE, _too_large(payload, bytes_max))
    if compiled.format is Format.JSON_COLUMNS:
        _add_columns(compiled, payload, index, columns)
        return
    for item, root in _entries(compiled, payload):
        found = [walk(root if way.from_root else item, way.parts) for way in compiled.slots]
        if compiled.key_slot is not None and not compiled.batch:
            _check_key(compiled, found[compiled.key_slot])
        columns.payload.append(index)
        for slot, wire in zip(columns.slots, found, strict=True):
            slot.append(wire)


def _entries(compiled: Compiled, payload: bytes) -> list[Entry]:
    """What pointers start from, by format. Raises Unreadable."""
    if compiled.format is Format.SENML:
        return senml.entries(payload, compiled.units)
    if compiled.format is Format.PLAIN:
        text = formats.text(payload)
        return [(text, text)]
    if compiled.format is Format.LORAWAN:
        tree, root = formats.uplink(payload)
        return formats.spread(tree, root, compiled.items)
    if compiled.codec is None:
        tree = formats.json_tree(payload)
    else:
        tree = formats.coded(compiled.codec, payload)
    return formats.spread(tree, tree, compiled.items)


def _shown(way: Way) -> str:
    return "/" + "/".join(map(str, way.parts))


def _check_key(compiled: Compiled, key: Any) -> None:
    """Raise Unreadable when nobody can tell whose the values are."""
    assert compiled.key_slot is not None
    shown = _shown(compiled.slots[compiled.key_slot])
    if key is AMBIGUOUS_VALUE:
        raise Unreadable(Reason.AMBIGUOUS, f"{shown}: two keys")
    if not isinstance(key, str | int) or isinstance(key, bool):
        reason = Reason.MISSING_FIELD if key is None else Reason.WRONG_TYPE
        raise Unreadable(reason, f"{shown}: a key expected")


def _add_columns(compiled: Compiled, payload: bytes, index: int, columns: _Patient) -> None:
    """One array per field: an entry for each key, or for each time of the topic's device."""
    tree = formats.json_tree(payload)
    if not isinstance(tree, dict):
        raise Unreadable(Reason.WRONG_TYPE, "one JSON object expected")
    found = [walk(tree, way.parts) for way in compiled.slots]
    size = _size(compiled, found)
    columns.payload += [index] * size
    for place, wire in enumerate(found):
        one_for_all = place == compiled.time_slot
        columns.slots[place].extend(_column(wire, size, one_for_all=one_for_all))


def _size(compiled: Compiled, found: list[Any]) -> int:
    """How many entries. Raises Unreadable when nobody can tell whose the values are."""
    place = compiled.time_slot if compiled.key_slot is None else compiled.key_slot
    assert place is not None
    what = "times" if compiled.key_slot is None else "keys"
    heads, shown = found[place], _shown(compiled.slots[place])
    if not isinstance(heads, list):
        reason = Reason.MISSING_FIELD if heads is None else Reason.WRONG_TYPE
        raise Unreadable(reason, f"{shown}: an array of {what} expected")
    if len(heads) > ROWS_MAX:
        raise Unreadable(Reason.TOO_MANY_ROWS, f"{len(heads)} {what}; {ROWS_MAX} fit")
    # One time may stand for all, so it is no value that waits for its key.
    rest = [wire for at, wire in enumerate(found) if at != compiled.time_slot]
    if not heads and any(wire is not None and wire != [] for wire in rest):
        raise Unreadable(Reason.UNEQUAL_COLUMNS, f"{shown}: no {what[:-1]}, but values")
    return len(heads)


def _column(wire: Any, size: int, *, one_for_all: bool) -> list[Any]:
    if isinstance(wire, list):
        return wire if len(wire) == size else [UNEQUAL_VALUE] * size
    if wire is None or one_for_all:
        return [wire] * size
    return [{}] * size  # a value where an array is due: of the wrong type for every key
