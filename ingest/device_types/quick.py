"""The fast way for JSON: payloads whose every field is of its kind, into typed structures."""

from __future__ import annotations

from collections.abc import Callable
from operator import attrgetter
from typing import Any, NamedTuple

import msgspec

from ingest.device_types.compiled import Compiled
from ingest.device_types.schema import Format, TimeFormat

_TEXT_TIMES = {TimeFormat.ISO8601: str | None, TimeFormat.COMPACT: str | int | None}


class Quick(NamedTuple):
    """Decodes a payload, and gets the values of its slots: together, or each by itself."""

    decode: Callable[[bytes], Any]
    get: Callable[[Any], tuple[Any, ...]]
    each: tuple[Callable[[Any], Any], ...]


def quick(compiled: Compiled) -> Quick | None:
    """The fast way of a type; None where it has none."""
    columns = compiled.format is Format.JSON_COLUMNS and compiled.key_slot is not None
    fits = (columns or compiled.format is Format.JSON) and compiled.items is None
    if not fits or not all(way.plain for way in compiled.slots):
        return None
    kinds = _kinds(compiled)
    if kinds is None:
        return None
    tree: dict[str, Any] = {}
    for slot, way in enumerate(compiled.slots):
        branch = tree
        for part in way.parts[:-1]:
            branch = branch.setdefault(str(part), {})
        branch[str(way.parts[-1])] = (slot, kinds[slot])
    names: dict[int, str] = {}
    try:
        structure = _structure(tree, "", names)
    except ValueError:  # a member name that msgspec cannot carry, such as one with a quote
        return None
    ways = [names[slot] for slot in range(len(compiled.slots))]
    each, get = tuple(map(attrgetter, ways)), attrgetter(*ways)
    decode = msgspec.json.Decoder(structure).decode
    return Quick(decode, (lambda one: (get(one),)) if len(ways) == 1 else get, each)


def _kinds(compiled: Compiled) -> dict[int | None, Any] | None:
    """The Python type of each slot; None when one is read both as a number and as a state."""
    kinds: dict[int | None, Any] = {}
    for measure in compiled.fields:
        number = str | float | None if measure.text else float | None
        kind = number if measure.table is None else str | bool | int | None
        if kinds.setdefault(measure.slot, kind) != kind:
            return None
        decider = str | bool | int | None
        if measure.when is not None and kinds.setdefault(measure.when, decider) != decider:
            return None
    if compiled.time is not None:
        kinds.setdefault(compiled.time_slot, _TEXT_TIMES.get(compiled.time.format, float | None))
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
