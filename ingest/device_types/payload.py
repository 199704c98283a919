"""From payload bytes to columns of wire values, judged later. Never raises.

Two ways with one result. The fast one decodes into a typed msgspec structure: it takes a payload
whose every field is of its kind and refuses NaN, Infinity and what is not JSON. Everything it
refuses goes the patient way, which finds what is wrong with which field, so that one bad field
never takes the fire beside it along.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any

import msgspec

from ingest.device_types.compiled import UNEQUAL_VALUE, Compiled
from ingest.device_types.reasons import Reason
from ingest.device_types.schema import Format, TimeFormat

BYTES_MAX = {Format.JSON: 16 * 1024, Format.JSON_COLUMNS: 256 * 1024}
"""One device's words fit into 16 KiB; a gateway's 4,000 readings of 51 bytes into 256."""
ROWS_MAX = 8_000  # readings of one batch; a frame holds five such batches

Refused = tuple[int, Reason, str]
"""Index of the payload, and why nothing of it can be read."""


@dataclass(slots=True)
class Columns:
    """Wire values by slot; `payload[i]` says whose payload entry i stood in.

    An entry is what one payload says of one device. `typed`: the values are of their field's kind.
    """

    typed: bool
    payload: list[int] = field(default_factory=list)
    slots: list[list[Any]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Reader:
    """Reads payloads of one device type."""

    compiled: Compiled
    decode: Callable[[bytes], Any] | None
    get: Callable[[Any], tuple[Any, ...]] | None

    def read(self, payloads: Sequence[bytes]) -> tuple[list[Columns], list[Refused]]:
        """Columns of all payloads, fast and patient ones apart, and what cannot be read."""
        quick, rest = Columns(typed=True), list(range(len(payloads)))
        if self.decode is not None and self.get is not None:
            take = _take_one if self.compiled.format is Format.JSON else _take_batch
            rest = take(self, payloads, quick)
        patient, refused = Columns(typed=False), []
        patient.slots = [[] for _ in self.compiled.slots]
        for index in rest:
            why = _take_patiently(self.compiled, payloads[index], index, patient)
            if why is not None:
                refused.append((index, *why))
        return [columns for columns in (quick, patient) if columns.payload], refused


_DECODING = (msgspec.DecodeError, RecursionError, UnicodeDecodeError)


def _take_one(reader: Reader, payloads: Sequence[bytes], columns: Columns) -> list[int]:
    """One object, one entry. Returns the payloads that need patience."""
    decode, get, rows, rest = reader.decode, reader.get, [], []
    assert decode is not None
    assert get is not None
    key_slot = reader.compiled.key_slot
    for index, payload in enumerate(payloads):
        if len(payload) > BYTES_MAX[Format.JSON]:
            rest.append(index)
            continue
        try:
            row = get(decode(payload))
        except (*_DECODING, AttributeError):  # AttributeError: no object where a pointer leads
            rest.append(index)
            continue
        if key_slot is not None and row[key_slot] is None:
            rest.append(index)
            continue
        rows.append(row)
        columns.payload.append(index)
    columns.slots = [list(slot) for slot in zip(*rows, strict=True)]
    return rest


def _take_batch(reader: Reader, payloads: Sequence[bytes], columns: Columns) -> list[int]:
    """One array per field, one entry per key. Returns the payloads that need patience."""
    decode, get, rest = reader.decode, reader.get, []
    assert decode is not None
    assert get is not None
    key_slot = reader.compiled.key_slot
    assert key_slot is not None
    slots: list[list[Any]] = [[] for _ in reader.compiled.slots]
    for index, payload in enumerate(payloads):
        if len(payload) > BYTES_MAX[Format.JSON_COLUMNS]:
            rest.append(index)
            continue
        try:
            found = get(decode(payload))
        except (*_DECODING, AttributeError):
            rest.append(index)
            continue
        size = -1 if found[key_slot] is None else len(found[key_slot])
        arrays = [array if isinstance(array, list) else [array] * size for array in found]
        if not 0 <= size <= ROWS_MAX or any(len(array) != size for array in arrays):
            rest.append(index)
            continue
        columns.payload += [index] * size
        for slot, array in zip(slots, arrays, strict=True):
            slot.extend(array)
    columns.slots = slots
    return rest


def _take_patiently(
    compiled: Compiled, payload: bytes, index: int, columns: Columns
) -> tuple[Reason, str] | None:
    """Add what can be read of one payload; the reason when nothing can."""
    limit = BYTES_MAX[compiled.format]
    if len(payload) > limit:
        return Reason.TOO_LARGE, f"{len(payload)} bytes; {limit} fit"
    try:
        tree = parse(payload)
    except ValueError as error:
        return Reason.NOT_JSON, str(error)[:200]
    if not isinstance(tree, dict):
        return Reason.WRONG_TYPE, "one JSON object expected"
    found = [_walk(tree, path) for path in compiled.slots]
    if compiled.key_slot is not None:
        why = _unkeyed(compiled, found)
        if why is not None:
            return why
    if compiled.format is Format.JSON:
        columns.payload.append(index)
        for slot, wire in zip(columns.slots, found, strict=True):
            slot.append(wire)
        return None
    assert compiled.key_slot is not None
    size = len(found[compiled.key_slot])
    columns.payload += [index] * size
    for place, wire in enumerate(found):
        one_for_all = place == compiled.time_slot
        columns.slots[place].extend(_column(wire, size, one_for_all=one_for_all))
    return None


def _unkeyed(compiled: Compiled, found: list[Any]) -> tuple[Reason, str] | None:
    """Why nobody can tell whose the values are; None when their keys are there."""
    assert compiled.key_slot is not None
    keys, pointer = found[compiled.key_slot], "/" + "/".join(compiled.slots[compiled.key_slot])
    reason = Reason.MISSING_FIELD if keys is None else Reason.WRONG_TYPE
    if compiled.format is Format.JSON:
        fits = isinstance(keys, str | int) and not isinstance(keys, bool)
        return None if fits else (reason, f"{pointer}: a key expected")
    if not isinstance(keys, list):
        return reason, f"{pointer}: an array of keys expected"
    if len(keys) > ROWS_MAX:
        return Reason.TOO_MANY_ROWS, f"{len(keys)} keys; {ROWS_MAX} fit"
    # One time may stand for all, so it is no value that waits for its key.
    rest = [wire for place, wire in enumerate(found) if place != compiled.time_slot]
    if not keys and any(wire is not None and wire != [] for wire in rest):
        return Reason.UNEQUAL_COLUMNS, f"{pointer}: no key, but values"
    return None


def _column(wire: Any, size: int, *, one_for_all: bool) -> list[Any]:
    if isinstance(wire, list):
        return wire if len(wire) == size else [UNEQUAL_VALUE] * size
    if wire is None or one_for_all:
        return [wire] * size
    return [{}] * size  # a value where an array is due: of the wrong type for every key


def _walk(tree: Any, path: tuple[str, ...]) -> Any:
    for part in path:
        if isinstance(tree, dict):
            tree = tree.get(part)
        elif isinstance(tree, list) and part.isdecimal() and len(part) < 6:  # noqa: PLR2004
            tree = tree[int(part)] if int(part) < len(tree) else None
        else:
            return None
    return tree


# Strings are matched first, so that a word inside one is left alone; one that never ends is matched
# to the end, or each quote in it would search the rest again (minutes for 256 KiB).
_NOT_FINITE = re.compile(
    rb'"(?:[^"\\]|\\.)*+(?:"|\\?\Z)|(-?)\b(nan|inf(?:inity)?)\b', re.IGNORECASE | re.DOTALL
)


def parse(payload: bytes) -> Any:
    """Plain data of a JSON text. Raises ValueError only.

    Takes the nan, -inf and Infinity that C programs print as numbers that are not finite, so that
    they cost their own field and not the payload.
    """

    def finite(match: re.Match[bytes]) -> bytes:
        if match[2] is None:
            return match[0]
        return b"NaN" if match[2].lower() == b"nan" else match[1] + b"Infinity"

    try:
        return json.loads(_NOT_FINITE.sub(finite, payload).decode())
    except RecursionError as error:
        raise ValueError("nested beyond reason") from error


def reader(compiled: Compiled) -> Reader:
    """Make the fast way of a type, where its pointers allow one."""
    kinds = _kinds(compiled)
    if kinds is None:
        return Reader(compiled, None, None)
    tree: dict[str, Any] = {}
    for slot, path in enumerate(compiled.slots):
        branch = tree
        for part in path[:-1]:
            branch = branch.setdefault(part, {})
        branch[path[-1]] = (slot, kinds[slot])
    names: dict[int, str] = {}
    try:
        structure = _structure(tree, "", names)
    except ValueError:  # a member name that msgspec cannot carry, such as one with a quote
        return Reader(compiled, None, None)
    get = attrgetter(*(names[slot] for slot in range(len(compiled.slots))))
    if len(compiled.slots) == 1:
        return Reader(compiled, msgspec.json.Decoder(structure).decode, lambda one: (get(one),))
    return Reader(compiled, msgspec.json.Decoder(structure).decode, get)


def _kinds(compiled: Compiled) -> dict[int | None, Any] | None:
    """The Python type of each slot; None when one is read both as a number and as a state."""
    kinds: dict[int | None, Any] = {}
    for measure in compiled.fields:
        kind = float | None if measure.table is None else str | bool | int | None
        if kinds.setdefault(measure.slot, kind) != kind:
            return None
    if compiled.time is not None:
        iso = compiled.time.format is TimeFormat.ISO8601
        kinds.setdefault(compiled.time_slot, str | None if iso else float | None)
    if compiled.key_slot is not None:
        kinds.setdefault(compiled.key_slot, str | int)
    if compiled.format is Format.JSON_COLUMNS:
        one_for_all = kinds.get(compiled.time_slot)
        kinds = {slot: _list_of(kind) for slot, kind in kinds.items()}
        if compiled.time_slot is not None:
            kinds[compiled.time_slot] |= one_for_all
    return kinds


def _list_of(kind: Any) -> Any:
    return list.__class_getitem__(kind)


def _structure(tree: dict[str, Any], prefix: str, names: dict[int, str]) -> type[msgspec.Struct]:
    """A structure with the members of `tree`; `names[slot]` becomes the attribute's path."""
    members, rename = [], {}
    for number, (part, below) in enumerate(tree.items()):
        name = f"m{number}"
        rename[name] = part
        if isinstance(below, dict):
            kind: Any = _structure(below, f"{prefix}{name}.", names)
        else:
            slot, kind = below
            names[slot] = prefix + name
        members.append((name, kind | None, None))
    return msgspec.defstruct("Payload", members, rename=rename, gc=False)
