"""A device type made ready once: ways, tables and bounds for judging values in columns."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ingest.device_types import pointer
from ingest.device_types.binary import Binary, binary
from ingest.device_types.codecs import CODECS
from ingest.device_types.layout import Kind
from ingest.device_types.load import load
from ingest.device_types.pointer import Way
from ingest.device_types.schema import (
    KEY,
    KEYED,
    UNIX,
    DeviceTime,
    DeviceType,
    Format,
    Measure,
    TimeFormat,
    Topic,
    When,
    state_names,
)
from ingest.device_types.verdicts import ABSENT, BROKEN, OK
from sizao.units import BY_NAME, Lane, conversion, needs_gas

# Formats that say whose and when by themselves; the root of their entries has it under these names.
_OWN_KEY, _OWN_TIME = "$/key", "$/time"
_TIME_OF = {Format.SENML: TimeFormat.SENML, Format.LORAWAN: TimeFormat.ISO8601}


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """One quantity: canonical = wire * scale + offset, within low..high.

    `of_gas`: that gives ppm, low and high are ppm, and the gas of the device decides the rest.
    `deciders`: (type, wire value) of the slot `when` -> whether this quantity is there.
    """

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
    of_gas: bool = False
    text: bool = False
    words: Mapping[str, int] = field(default_factory=dict)  # of a number as text -> verdict
    when: int | None = None
    deciders: Mapping[tuple[type, object], bool] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Compiled:
    """What stands on some topics of one device type. `slots`: the distinct ways that it reads.

    A type whose topics carry different quantities is compiled once for each set of them.
    """

    name: str
    format: Format
    says_alarms: bool
    patterns: tuple[tuple[str, Lane], ...]
    fields: tuple[Field, ...]
    slots: tuple[Way, ...]
    key_slot: int | None
    time_slot: int | None
    time: DeviceTime | None
    items: Way | None
    binary: Binary | None
    codec: Callable[[bytes], Any] | None
    units: Mapping[str, str]  # of SenML: name -> unit

    @property
    def batch(self) -> bool:
        """Whether one payload may speak of many devices or times."""
        records = self.binary is not None and bool(self.binary.layout.records)
        many = {Format.JSON_COLUMNS, Format.SENML}
        return self.items is not None or records or self.format in many


def compile_type(text: str, name: str) -> tuple[Compiled, ...]:
    """Check and compile a document. Raises BadInput."""
    return compiled(load(text, name))


def compiled(device_type: DeviceType) -> tuple[Compiled, ...]:
    """Compile a checked device type: topics with the same quantities together, in their order."""
    groups: dict[tuple[tuple[str, ...], bool], list[Topic]] = {}
    for topic in device_type.topics:
        keyed = KEY in topic.pattern.split("/")
        groups.setdefault((tuple(device_type.of_topic(topic)), keyed), []).append(topic)
    return tuple(
        _part(device_type, names, topics, keyed=keyed) for (names, keyed), topics in groups.items()
    )


def _part(
    device_type: DeviceType, names: Sequence[str], topics: Sequence[Topic], *, keyed: bool
) -> Compiled:
    slots: list[Way] = []

    def slot(text: str | None) -> int:
        way = Way(from_root=False, parts=()) if text is None else pointer.parse(text)
        if way not in slots:
            slots.append(way)
        return slots.index(way)

    kind, measures = device_type.format, device_type.quantities
    fields = tuple(
        _field(device_type, name, slot, _known(device_type, measures[name].when)) for name in names
    )
    key = device_type.key or (_OWN_KEY if kind in KEYED else None)
    time, at = device_type.time, None
    if time is None and kind in _TIME_OF:
        time = DeviceTime(pointer=_OWN_TIME, format=_TIME_OF[kind])
    key_slot = slot(key) if key is not None and not keyed else None
    if time is not None:
        at = slot(time.pointer)
    layout, numbers = device_type.layout, _numbers(fields, at, time) - {key_slot}
    root = device_type.items == pointer.ROOT
    return Compiled(
        name=device_type.name,
        format=kind,
        says_alarms=any(one.lane is Lane.ALARM for one in fields),
        patterns=tuple((topic.pattern, topic.lane) for topic in topics),
        fields=fields,
        slots=tuple(slots),
        key_slot=key_slot,
        time_slot=at,
        time=time,
        items=Way(from_root=True, parts=())
        if root
        else None
        if device_type.items is None
        else pointer.parse(device_type.items),
        binary=None if layout is None else binary(layout, _names(slots), numbers),
        codec=None if device_type.codec is None else CODECS[device_type.codec],
        units={
            str(pointer.parse(measure.pointer).parts[0]): measure.unit
            for measure in measures.values()
            if kind is Format.SENML and measure.pointer is not None
        },
    )


def _numbers(fields: Sequence[Field], at: int | None, time: DeviceTime | None) -> frozenset[int]:
    """Slots that nobody needs but as numbers."""
    found = {one.slot for one in fields if not one.table and not one.text}
    if time is not None and at is not None:
        found = found | {at} if time.format in UNIX else found - {at}
    found -= {one.slot for one in fields if one.table or one.text}
    return frozenset(found - {one.when for one in fields})


def _names(slots: Sequence[Way]) -> list[str]:
    return [str(way.parts[0]) for way in slots]


def _known(device_type: DeviceType, when: When | None) -> dict[tuple[type, object], bool]:
    """What the deciding field may say: whether this quantity is there then."""
    if when is None:
        return {}
    known: dict[tuple[type, object], bool] = {(type(wire), wire): False for wire in when.ignores}
    for measure in device_type.quantities.values():
        if measure.when is not None and measure.when.pointer == when.pointer:
            known |= {(type(wire), wire): False for wire in measure.when.equals}
            known |= {(type(wire), wire): False for wire in measure.when.ignores}
    return known | {(type(wire), wire): True for wire in when.equals}


def _field(
    device_type: DeviceType,
    name: str,
    slot: Callable[[str | None], int],
    deciders: Mapping[tuple[type, object], bool],
) -> Field:
    measure, quantity = device_type.quantities[name], BY_NAME[name]
    factor, shift = conversion(measure.unit, quantity)
    of_gas = needs_gas(measure.unit, quantity)
    bounds = [-math.inf, math.inf] if of_gas else [quantity.minimum, quantity.maximum]
    for index, bound, nearer in ((0, measure.minimum, max), (1, measure.maximum, min)):
        if bound is not None:
            bounds[index] = nearer(bounds[index], bound * factor + shift)
    is_text = measure.text or device_type.format is Format.PLAIN
    is_text = is_text or _in_letters(device_type, measure)
    words = dict.fromkeys((wire for wire in measure.broken if isinstance(wire, str)), BROKEN)
    words |= dict.fromkeys((wire for wire in measure.absent if isinstance(wire, str)), ABSENT)
    return Field(
        name=name,
        code=quantity.code,
        lane=quantity.lane,
        slot=slot(measure.pointer),
        scale=measure.scale * factor,
        offset=measure.offset * factor + shift,
        low=bounds[0],
        high=bounds[1],
        broken=frozenset(float(wire) for wire in measure.broken if not isinstance(wire, str)),
        absent=frozenset(float(wire) for wire in measure.absent if not isinstance(wire, str)),
        table=_table(name, measure) if measure.states else None,
        # Each record of a SenML pack is a reading of its own, so no entry has to have all.
        optional=measure.optional or device_type.format is Format.SENML,
        of_gas=of_gas,
        text=is_text and not measure.states,
        words=words if is_text else {},
        when=None if measure.when is None else slot(measure.when.pointer),
        deciders=deciders,
    )


def _in_letters(device_type: DeviceType, measure: Measure) -> bool:
    """Whether it is a field of packed bytes that need not hold a number."""
    kinds = {} if device_type.layout is None else device_type.layout.kinds()
    return kinds.get((measure.pointer or "").removeprefix("/")) in {Kind.TEXT, Kind.HEX, Kind.BCD}


def _table(name: str, measure: Measure) -> dict[tuple[type, object], tuple[int, float]]:
    numbers = state_names(BY_NAME[name])
    table: dict[tuple[type, object], tuple[int, float]] = {}
    for wire, state in measure.states.items():
        table[type(wire), wire] = OK, float(numbers[state])
    table |= {(type(wire), wire): (BROKEN, 0.0) for wire in measure.broken}
    table |= {(type(wire), wire): (ABSENT, 0.0) for wire in measure.absent}
    return table
