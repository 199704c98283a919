"""From text to a checked device type: every fault of a file at once, each with its line."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping
from itertools import combinations

from ingest.device_types.schema import (
    CARRIER,
    KEY,
    DeviceType,
    Example,
    Format,
    Measure,
    Topic,
    state_names,
)
from sizao.errors import BadInput
from sizao.settings import parse, validate
from sizao.units import BY_NAME, HEARD, Lane, Quantity, conversion

Fault = tuple[tuple[str | int, ...], str]
"""Path of a key in the file, and what is wrong with it."""

_LANE_OF_LEVEL = {"alarm": Lane.ALARM, "telemetry": Lane.TELEMETRY}


def load(text: str, name: str) -> DeviceType:
    """Read one device-type file; `name` stands in its faults. Raises BadInput, all faults in it."""
    located = parse(text, name)
    device_type = validate(located, DeviceType, name)
    wrong = [
        f"{name}:{located.line(path)}: {'.'.join(str(part) for part in path)}: {fault}"
        for path, fault in _faults(device_type)
    ]
    if wrong:
        raise BadInput("\n".join(wrong))
    return device_type


def conflicts(types: Mapping[str, DeviceType]) -> list[str]:
    """Faults that only a set of types shows: one name twice, one topic in two lanes.

    `types`: label (a file's name) -> type. A topic in two lanes would reach both connections, and
    each of its messages would be counted twice or not at all.
    """
    found = []
    for (one, first), (two, second) in combinations(sorted(types.items()), 2):
        if first.name == second.name:
            found.append(f"{two}:1: name: {second.name} is also the name of {one}")
        for index, mine in enumerate(second.topics):
            found += [
                f"{two}:1: topics.{index}.lane: {mine.pattern} is of lane {mine.lane}, but"
                f" {theirs.pattern} of {one} is of lane {theirs.lane}; expected the same lane"
                for theirs in first.topics
                if theirs.lane is not mine.lane and overlap(theirs.pattern, mine.pattern)
            ]
    return found


def overlap(one: str, two: str) -> bool:
    """Whether some topic fits both patterns."""
    pairs = list(zip(one.split("/"), two.split("/"), strict=False))
    return one.count("/") == two.count("/") and all(
        left == right or {left, right} & {CARRIER, KEY} for left, right in pairs
    )


def _near(word: str, known: Iterable[str]) -> str:
    known = sorted(known)
    near = difflib.get_close_matches(word, known, n=1)
    return f"expected one of {', '.join(known)}" + (f"; nearest: {near[0]}" if near else "")


def _faults(device_type: DeviceType) -> Iterator[Fault]:
    for index, topic in enumerate(device_type.topics):
        yield from _topic_faults(device_type, index, topic)
    if device_type.format is Format.JSON_COLUMNS and device_type.key is None:
        yield ("key",), "missing: a batch needs the pointer to its array of keys"
    for name, measure in device_type.quantities.items():
        for path, fault in _measure_faults(name, measure):
            yield ("quantities", name, *path), fault
    if device_type.heat_detector and "temperature_c" not in device_type.quantities:
        yield ("heat_detector",), "expected no, or a map to temperature_c"
    yield from _pointer_faults(device_type)
    for index, example in enumerate(device_type.examples):
        for path, fault in _example_faults(device_type, example):
            yield ("examples", index, *path), fault
    if not any(example.readings for example in device_type.examples):
        yield ("examples",), "expected at least one that gives readings"
    if not any(example.refused or example.bad_fields for example in device_type.examples):
        yield ("examples",), "expected at least one that is refused or has bad_fields"


def _topic_faults(device_type: DeviceType, index: int, topic: Topic) -> Iterator[Fault]:
    levels = topic.pattern.split("/")
    if device_type.says_alarms and topic.lane is not Lane.ALARM:
        fault = "telemetry, but this type says alarms; expected alarm, the connection that may"
        yield ("topics", index, "lane"), f"{fault} never be shed"
    elif _LANE_OF_LEVEL.get(levels[2], topic.lane) is not topic.lane:
        fault = f"{topic.lane}, but topics under up/+/{levels[2]} are of lane {levels[2]}"
        yield ("topics", index, "lane"), f"{fault}; expected {levels[2]}"
    earlier = [other.pattern for other in device_type.topics[:index]]
    if topic.pattern in earlier:
        yield ("topics", index, "pattern"), "stands here twice"
    if device_type.key is None and device_type.format is Format.JSON and KEY not in levels:
        yield ("topics", index, "pattern"), "no {key}; expected it there, or a `key` pointer"
    if device_type.key is not None and KEY in levels:
        yield ("topics", index, "pattern"), "has {key}, but `key` points into the payload"


def _measure_faults(name: str, measure: Measure) -> Iterator[Fault]:
    quantity = BY_NAME.get(name)
    if quantity is None or quantity is HEARD:
        known = [known for known in BY_NAME if known != HEARD.name]
        yield (), f"unknown quantity, {_near(name, known)}"
        return
    try:
        conversion(measure.unit, quantity)
    except ValueError as error:
        yield ("unit",), str(error)
    if quantity.unit == "state":
        yield from _state_faults(quantity, measure)
        return
    if measure.states:
        yield ("states",), f"{name} is a number; expected no states"
    if measure.scale == 0:
        yield ("scale",), "0 makes every reading the same; expected another number"
    if None not in {measure.minimum, measure.maximum} and measure.minimum >= measure.maximum:  # type: ignore[operator] # both are numbers
        yield ("minimum",), f"{measure.minimum} is not below the maximum {measure.maximum}"
    for which in ("broken", "absent"):
        for index, wire in enumerate(getattr(measure, which)):
            if isinstance(wire, bool | str):
                yield (which, index), f"{wire!r}: expected a number"


def _state_faults(quantity: Quantity, measure: Measure) -> Iterator[Fault]:
    known = state_names(quantity)
    for wire, state in measure.states.items():
        if state not in known:
            yield ("states", wire), f"{state!r} is no state, {_near(state, known)}"
    if not measure.states:
        yield ("states",), "missing: a table from wire value to state"
    elif not any(known.get(state) for state in measure.states.values()):
        yield ("states",), "every value means normal; expected one that does not"
    if (measure.scale, measure.offset, measure.minimum, measure.maximum) != (1.0, 0.0, None, None):
        yield (), "a state has no scale, offset, minimum or maximum"
    for which in ("broken", "absent"):
        for index, wire in enumerate(getattr(measure, which)):
            if isinstance(wire, float):
                yield (which, index), f"{wire!r}: expected text, a whole number or a boolean"
            elif any(wire == key and type(wire) is type(key) for key in measure.states):
                yield (which, index), f"{wire!r} stands in states too"


def _pointer_faults(device_type: DeviceType) -> Iterator[Fault]:
    """A pointer that leads through a value of another pointer cannot be read."""
    pointers: list[tuple[tuple[str | int, ...], str]] = [
        (("quantities", name, "pointer"), measure.pointer)
        for name, measure in device_type.quantities.items()
    ]
    if device_type.time is not None:
        pointers.append((("time", "pointer"), device_type.time.pointer))
    if device_type.key is not None:
        pointers.append((("key",), device_type.key))
    for path, pointer in pointers:
        through = [other for _, other in pointers if pointer.startswith(other + "/")]
        if through:
            yield path, f"{pointer} leads through {through[0]}, which is a value itself"


def _example_faults(device_type: DeviceType, example: Example) -> Iterator[Fault]:
    if (example.payload is None) == (example.payload_hex is None):
        yield (), "expected either payload or payload_hex"
    try:
        example.raw()
    except ValueError as error:
        yield ("payload_hex",), f"{error}; expected pairs of hexadecimal digits"
    if (example.readings is None) == (example.refused is None):
        yield (), "expected either readings (may be []) or refused"
    if example.refused and example.bad_fields:
        yield ("bad_fields",), "a refused payload gives nothing; expected readings beside them"
    mapped = [*device_type.quantities]
    heard = [HEARD.name] if device_type.says_alarms else []
    for index, reading in enumerate(example.readings or []):
        if reading.quantity not in mapped + heard:
            fault = f"{reading.quantity!r} is not mapped, {_near(reading.quantity, mapped + heard)}"
            yield ("readings", index, "quantity"), fault
    for name in example.bad_fields:
        if name not in [*mapped, "time"]:
            yield ("bad_fields", name), f"not mapped, {_near(name, [*mapped, 'time'])}"
