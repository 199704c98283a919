"""What a device-type file says wrong that one field alone cannot show; each with its path."""

from __future__ import annotations

from collections.abc import Iterator

from ingest.device_types import layout, pointer
from ingest.device_types.codecs import CODECS
from ingest.device_types.schema import (
    KEY,
    KEYED,
    DeviceType,
    Example,
    Format,
    Measure,
    Topic,
    is_alarm,
    state_names,
)
from sizao.document import Fault, one_of
from sizao.units import BY_NAME, HEARD, Lane, Quantity, needs_gas, wire_units

_LANE_OF_LEVEL = {"alarm": Lane.ALARM, "telemetry": Lane.TELEMETRY}
_PLAIN_HAS_NONE = "expected none: a plain payload is one value"
_WITH_ITEMS = {Format.JSON, Format.LORAWAN, Format.CODEC}


def faults(device_type: DeviceType) -> Iterator[Fault]:
    """Every fault of a file whose fields are each of their kind."""
    for index, topic in enumerate(device_type.topics):
        yield from _topic_faults(device_type, index, topic)
    yield from _format_faults(device_type)
    for name, measure in device_type.quantities.items():
        for path, fault in _measure_faults(device_type, name, measure):
            yield ("quantities", name, *path), fault
    yield from _detector_faults(device_type)
    yield from _pointer_faults(device_type)
    for index, example in enumerate(device_type.examples):
        for path, fault in _example_faults(device_type, example):
            yield ("examples", index, *path), fault
    if not any(example.readings for example in device_type.examples):
        yield ("examples",), "got none that gives readings, expected at least one"
    if not any(example.refused or example.bad_fields for example in device_type.examples):
        yield ("examples",), "got none that is refused or has bad_fields, expected at least one"


def _topic_faults(device_type: DeviceType, index: int, topic: Topic) -> Iterator[Fault]:
    levels = topic.pattern.split("/")
    mapped = [*device_type.quantities]
    for place, name in enumerate(topic.quantities or []):
        if name not in mapped:
            fault = f"which is not mapped, expected {one_of(name, mapped)}"
            yield ("topics", index, "quantities", place), fault
    says_alarms = any(map(is_alarm, device_type.of_topic(topic)))
    if says_alarms and topic.lane is not Lane.ALARM:
        fault = "but this type says alarms; expected alarm, the connection that may never be shed"
        yield ("topics", index, "lane"), fault
    elif _LANE_OF_LEVEL.get(levels[2], topic.lane) is not topic.lane:
        fault = f"but topics under up/+/{levels[2]} are of lane {levels[2]}"
        yield ("topics", index, "lane"), f"{fault}; expected {levels[2]}"
    earlier = [other.pattern for other in device_type.topics[:index]]
    if topic.pattern in earlier:
        yield ("topics", index, "pattern"), "which stands here twice, expected once"
    yield from ((("topics", index, "pattern"), fault) for fault in _key_faults(device_type, levels))


def _key_faults(device_type: DeviceType, levels: list[str]) -> Iterator[str]:
    in_topic, columns = KEY in levels, device_type.format is Format.JSON_COLUMNS
    if device_type.key is not None and in_topic:
        yield "expected no {key}: `key` points into the payload"
    elif device_type.key is None and not in_topic and device_type.format not in KEYED:
        need = "pointer to its array of keys" if columns else "pointer"
        yield f"without {{key}}; expected it there, or a `key` {need}"
    elif columns and device_type.key is None and device_type.time is None:
        yield "but no array of keys and no `time`; expected one: how many readings are there?"


def _format_faults(device_type: DeviceType) -> Iterator[Fault]:
    kind = device_type.format
    for key, wanted in (("layout", Format.BINARY), ("codec", Format.CODEC)):
        given = getattr(device_type, key) is not None
        if given is not (kind is wanted):
            need = f"none, or format {wanted}" if given else f"this key: the format is {kind}"
            yield (key,), f"expected {need}"
    if device_type.codec is not None and device_type.codec not in CODECS:
        yield ("codec",), f"expected {one_of(device_type.codec, sorted(CODECS))}"
    if device_type.layout is not None:
        for path, fault in layout.faults(device_type.layout):
            yield ("layout", *path), fault
    if device_type.items is not None and kind not in _WITH_ITEMS:
        formats = ", ".join(sorted(_WITH_ITEMS))
        yield ("items",), f"but format {kind} has none, expected one of {formats}"
    if kind is Format.PLAIN:
        given_keys = [key for key in ("key", "time") if getattr(device_type, key) is not None]
        yield from (((key,), _PLAIN_HAS_NONE) for key in given_keys)
    if kind is Format.SENML and device_type.time is not None:
        yield ("time",), "expected none: SenML says when by itself"


def _detector_faults(device_type: DeviceType) -> Iterator[Fault]:
    if device_type.heat_detector and "temperature_c" not in device_type.quantities:
        yield ("heat_detector",), "expected no, or a map to temperature_c"
    if device_type.gas_detector and "gas_lel_pct" not in device_type.quantities:
        yield ("gas_detector",), "expected no, or a map to gas_lel_pct"


def _measure_faults(device_type: DeviceType, name: str, measure: Measure) -> Iterator[Fault]:
    quantity = BY_NAME.get(name)
    if quantity is None or quantity is HEARD:
        known = [known for known in BY_NAME if known != HEARD.name]
        yield (), f"got an unknown quantity, expected {one_of(name, sorted(known))}"
        return
    units = wire_units(quantity)
    if measure.unit not in units:
        yield ("unit",), f"which does not fit {name}; expected {one_of(measure.unit, units)}"
    if needs_gas(measure.unit, quantity) and not device_type.gas_detector:
        fault = "which depends on the gas, expected %LEL, or gas_detector: yes, so that each device"
        yield ("unit",), f"{fault} names its own"
    plain = device_type.format is Format.PLAIN
    if (measure.pointer is None) is not plain:
        yield ("pointer",), _PLAIN_HAS_NONE if plain else "expected where in the payload it is"
    if measure.when is not None and plain:
        yield ("when",), _PLAIN_HAS_NONE
    if quantity.unit == "state":
        yield from _state_faults(quantity, measure, plain=plain)
    else:
        yield from _number_faults(name, measure, text=measure.text or plain)


def _number_faults(name: str, measure: Measure, *, text: bool) -> Iterator[Fault]:
    if measure.states:
        yield ("states",), f"but {name} is a number; expected no states"
    if measure.scale == 0:
        yield ("scale",), "which makes every reading the same; expected another number"
    if None not in {measure.minimum, measure.maximum} and measure.minimum >= measure.maximum:  # type: ignore[operator] # both are numbers
        yield (
            ("minimum",),
            f"which is not below the maximum, expected under {measure.maximum:g}",
        )
    for which in ("broken", "absent"):
        for index, wire in enumerate(getattr(measure, which)):
            if isinstance(wire, bool) or (isinstance(wire, str) and not text):
                yield (which, index), "expected a number"


def _state_faults(quantity: Quantity, measure: Measure, *, plain: bool) -> Iterator[Fault]:
    known = state_names(quantity)
    for wire, state in measure.states.items():
        if plain and not isinstance(wire, str):
            yield ("states", wire), "expected the wire value in quotes: a plain payload is text"
        if state not in known:
            yield ("states", wire), f"expected {one_of(state, known)}"
    if not measure.states:
        yield ("states",), "expected a table from wire value to state"
    elif not any(known.get(state, 1) for state in measure.states.values()):
        yield ("states",), "got only values that mean normal; expected one that does not"
    numeric = measure.scale, measure.offset, measure.minimum, measure.maximum, measure.text
    if numeric != (1.0, 0.0, None, None, False):
        yield (), "got scale, offset, minimum, maximum or text, expected none of a state"
    yield from _silent_faults(measure)


def _silent_faults(measure: Measure) -> Iterator[Fault]:
    for which in ("broken", "absent"):
        for index, wire in enumerate(getattr(measure, which)):
            if isinstance(wire, float):
                yield (which, index), "expected text, a whole number or a boolean"
            elif any(wire == key and type(wire) is type(key) for key in measure.states):
                yield (which, index), "which stands in states too; expected it in one of the two"


def _pointers(device_type: DeviceType) -> Iterator[tuple[tuple[str | int, ...], str]]:
    for name, measure in device_type.quantities.items():
        if measure.pointer is not None:
            yield ("quantities", name, "pointer"), measure.pointer
        if measure.when is not None:
            yield ("quantities", name, "when", "pointer"), measure.when.pointer
    if device_type.time is not None:
        yield ("time", "pointer"), device_type.time.pointer
    if device_type.key is not None:
        yield ("key",), device_type.key


def _pointer_faults(device_type: DeviceType) -> Iterator[Fault]:
    """A pointer that leads through a value of another pointer cannot be read."""
    pointers = list(_pointers(device_type))
    kinds = {} if device_type.layout is None else device_type.layout.kinds()
    for path, text in pointers:
        through = [other for _, other in pointers if text.startswith(other + "/")]
        if through:
            fault = f"which leads through {through[0]}, a value itself; expected another pointer"
            yield path, fault
        name = text.removeprefix("/")
        if device_type.layout is not None and name not in kinds:
            yield path, f"which is no field of the layout, expected {one_of(name, sorted(kinds))}"
        way = pointer.parse(text)
        if device_type.format is Format.SENML and len(way.parts) != 1:
            yield path, "but a SenML name is one level; expected / in it as ~1"
        if device_type.format is Format.JSON_COLUMNS and not way.plain:
            yield path, "expected a plain JSON pointer to an array"


def _example_faults(device_type: DeviceType, example: Example) -> Iterator[Fault]:
    if (example.payload is None) == (example.payload_hex is None):
        got = "neither" if example.payload is None else "both"
        yield (), f"got {got} of payload and payload_hex, expected one"
    try:
        example.raw()
    except ValueError:
        yield ("payload_hex",), "expected pairs of hexadecimal digits"
    if (example.readings is None) == (example.refused is None):
        got = "neither" if example.readings is None else "both"
        yield (), f"got {got} of readings and refused, expected one (readings may be [])"
    if example.refused and example.bad_fields:
        yield ("bad_fields",), "but a refused payload gives nothing; expected readings beside them"
    mapped = [*device_type.quantities]
    heard = [HEARD.name] if device_type.says_alarms else []
    for index, reading in enumerate(example.readings or []):
        if reading.quantity not in mapped + heard:
            fault = f"which is not mapped, expected {one_of(reading.quantity, mapped + heard)}"
            yield ("readings", index, "quantity"), fault
    for name in example.bad_fields:
        if name not in [*mapped, "time"]:
            expected = one_of(name, [*mapped, "time"])
            yield ("bad_fields", name), f"got a name that is not mapped, expected {expected}"
