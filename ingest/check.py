"""Prove device types by their own examples: `sizao device-type check` and the contract tests."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np

from ingest.decode import Decoded, decode
from ingest.device_types.load import conflicts, load
from ingest.device_types.reasons import Reason
from ingest.device_types.schema import KEY, DeviceType, Example, ExampleReading
from ingest.mqtt.message import Message
from ingest.onboarding import Document, points_needed
from ingest.refused import Refused
from ingest.routes import carrier_of, district, fits
from sizao.document import Fault, parse
from sizao.errors import BadInput
from sizao.registry import model
from sizao.units import BY_CODE, GASES, Lane

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
METHANE = GASES.index("methane")
_CLOSE = 1e-5  # relative: readings are float32

Row = tuple[str, str, float, int]
"""Key, quantity, value, event time in microseconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """One example run: what was to come of it and what came, a line each; faults where they differ.

    `line` is the example's in its file.
    """

    line: int
    note: str
    expected: list[str]
    got: list[str]
    faults: list[str]


def check(documents: list[Document]) -> list[str]:
    """Every fault of every file, examples that do not come true included; [] when all is well."""
    wrong: list[str] = []
    types: dict[str, DeviceType] = {}
    for name, text in documents:
        try:
            types[name] = load(text, name)
        except BadInput as error:
            wrong += str(error).splitlines()
            continue
        wrong += parse(text, name).told(name, _never_read(types[name]))
        for index, proof in enumerate(proofs(types[name], text)):
            wrong += [f"{name}:{proof.line}: examples.{index}: {fault}" for fault in proof.faults]
    return wrong + conflicts(types, dict(documents))


def _never_read(device_type: DeviceType) -> list[Fault]:
    """Quantities that stand on no topic. No fault of a file that is in force: it reads the rest."""
    read = {name for topic in device_type.topics for name in device_type.of_topic(topic)}
    return [
        (("topics",), f"got none with {name}, which is mapped; expected it on one of them")
        for name in device_type.quantities
        if name not in read
    ]


def proofs(device_type: DeviceType, text: str) -> list[Proof]:
    """Each example of a checked document, run."""
    located = parse(text, device_type.name)
    found = []
    for index, example in enumerate(device_type.examples):
        keys, rows, refused = run(device_type, text, example)
        key = keys[0] if keys else ""
        wanted = [_row(example, key, reading) for reading in example.readings or []]
        found.append(
            Proof(
                line=located.line(("examples", index)),
                note=example.note,
                expected=_lines(wanted, example.refused, example.bad_fields),
                got=_lines(
                    rows, refused.reason if refused and refused.whole else None, _bad(refused)
                ),
                faults=_faults(example, wanted, rows, refused),
            )
        )
    return found


def run(
    device_type: DeviceType, text: str, example: Example
) -> tuple[list[str], list[Row], Refused | None]:
    """Keys that an example speaks of, the rows that come of it, and what was refused of it."""
    message = _message(example)
    lane, keys = _lane(device_type, message), example_keys(device_type, text, example)
    view = _view(text, carrier_of(message.topic), keys)
    decoded = decode(district(view), lane, [message])
    return keys, _rows(decoded, view), decoded.refused[0] if decoded.refused else None


def _faults(
    example: Example, wanted: list[Row], rows: list[Row], refused: Refused | None
) -> list[str]:
    """What comes of an example that should not, or does not that should."""
    if example.refused is not None:
        if refused is None or not refused.whole:
            came = _shown(rows) or "readings of none, and bad fields"
            return [f"expected refused: {example.refused}, got {came}"]
        fits = refused.reason is example.refused
        return [] if fits else [f"expected refused: {example.refused}, got {refused.detail}"]
    faults = _compare(wanted, rows)
    said = _bad(refused)
    if said != example.bad_fields:
        expected = {where: str(reason) for where, reason in example.bad_fields.items()}
        got = {where: str(reason) for where, reason in said.items()}
        faults.append(f"expected bad_fields {expected}, got {got}")
    return faults


def _bad(refused: Refused | None) -> dict[str, Reason]:
    if refused is None or refused.whole:
        return {}
    return {fault.where: fault.reason for fault in refused.faults}


def _lines(rows: list[Row], refused: Reason | None, bad_fields: Mapping[str, Reason]) -> list[str]:
    """What came of a payload, one thing a line."""
    lines = [_shown([row]) for row in rows]
    lines += [f"refused: {refused}"] if refused is not None else []
    return lines + [f"bad field {where}: {reason}" for where, reason in bad_fields.items()]


def _compare(expected: list[Row], rows: list[Row]) -> list[str]:
    rest, faults = list(rows), []
    for wanted in expected:
        same = [row for row in rest if row[:2] == wanted[:2] and row[3] == wanted[3]]
        close = [row for row in same if abs(row[2] - wanted[2]) <= _CLOSE * max(1, abs(row[2]))]
        if close:
            rest.remove(close[0])
        else:
            faults.append(f"expected {_shown([wanted])}, got {_shown(rows) or 'no readings'}")
    if rest and not faults:
        faults.append(f"got {_shown(rest)} too, expected no more than is said")
    return faults


def _row(example: Example, key: str, reading: ExampleReading) -> Row:
    at = reading.at or example.arrived
    value = float(reading.value)
    return reading.key or key, reading.quantity, value, _microseconds(at)


def _rows(decoded: Decoded, view: model.View) -> list[Row]:
    return [
        (
            view.device_key[int(view.point_device[point])],
            BY_CODE[int(view.point_quantity[point])].name,
            value,
            event_us,
        )
        for point, value, event_us in zip(
            decoded.point.tolist(), decoded.value.tolist(), decoded.event_us.tolist(), strict=True
        )
    ]


def _shown(rows: list[Row]) -> str:
    return ", ".join(
        f"{key} {quantity} {value:g} at {(_EPOCH + timedelta(microseconds=at)).isoformat()}"
        for key, quantity, value, at in rows
    )


def _microseconds(time: datetime) -> int:
    return (time - _EPOCH) // timedelta(microseconds=1)


def _lane(device_type: DeviceType, message: Message) -> Lane:
    """Of the topic; of the first where the type has none such."""
    levels = message.topic.decode(errors="backslashreplace").split("/")
    lanes = [one.lane for one in device_type.topics if fits(one.pattern.split("/"), levels)]
    return (lanes or [device_type.topics[0].lane])[0]


def _message(example: Example) -> Message:
    return Message(
        topic=example.topic.encode(),
        payload=example.raw(),
        arrived_us=_microseconds(example.arrived),
        dup=False,
        epoch=0,
        packet_id=1,
    )


def example_keys(device_type: DeviceType, text: str, example: Example) -> list[str]:
    """Keys that an example speaks of: of its topic, or of its payload."""
    return _keys(device_type, text, _message(example))


def _keys(device_type: DeviceType, text: str, message: Message) -> list[str]:
    levels = message.topic.decode(errors="backslashreplace").split("/")
    for topic in device_type.topics:
        pattern = topic.pattern.split("/")
        if KEY in pattern and fits(pattern, levels):
            return [levels[pattern.index(KEY)]]
    known = district(_view(text, carrier_of(message.topic), ["key"]))
    found = known.resolve(_lane(device_type, message), message.topic)
    if not isinstance(found, int) or found > 0:
        return []
    reader = known.readers[known.routes[-1 - found].readers[0]]
    columns, _ = reader.read([message.payload])
    place = reader.compiled.key_slot
    keys = columns[0].slots[place] if columns and place is not None else []
    return [str(key) for key in keys if isinstance(key, str | int)]


def _view(text: str, carrier: str, keys: list[str]) -> model.View:
    """A registry of one carrier with one device per key, all of this type."""
    keys = list(dict.fromkeys(keys)) or ["nobody"]
    codes = points_needed(text)
    size, points = len(keys) + 1, len(keys) * len(codes) + 1
    here = np.ones(size, np.int32)
    here[0] = 0
    device = np.append(0, np.repeat(np.arange(1, size), len(codes))).astype(np.int32)
    nowhere = np.full(size, np.nan)
    return model.View(
        generation=1,
        partitions=1,
        areas={},
        types={1: model.DeviceType(id=1, name="device type", version=1, document=text)},
        carrier_names={1: carrier},
        carrier_site={carrier: 1},
        revoked=frozenset(),
        device_key=["", *keys],
        device_carrier=here,
        device_type=here,
        device_area=here,
        device_site=here,
        device_heat_class=np.zeros(size, np.int32),
        device_gas=here * METHANE,  # what an example in ppm speaks of
        device_mark=["", *[model.Mark.REAL] * len(keys)],
        device_state=["", *[model.LifeState.IN_SERVICE] * len(keys)],
        device_lon=nowhere,
        device_lat=nowhere,
        device_live=here.astype(np.bool_),
        point_device=device,
        point_quantity=np.append(0, np.tile(codes, len(keys))).astype(np.int32),
        point_site=np.minimum(device, 1),
        point_partition=np.zeros(points, np.int32),
        point_live=device > 0,
    )


def judge(text: str, name: str, message: Message) -> tuple[Decoded, model.View]:
    """What one device-type file makes of one message, as if all keys in it were registered.

    Raises BadInput when the file is none.
    """
    device_type = load(text, name)
    view = _view(text, carrier_of(message.topic), _keys(device_type, text, message))
    return decode(district(view), _lane(device_type, message), [message]), view
