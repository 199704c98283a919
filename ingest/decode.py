"""Messages in, columns of readings out, and what was refused with its reason. Never raises.

A reading's time is fixed here, once: the device's if it lies within -48 h .. +60 s of arrival, else
arrival, flagged. A payload may give readings and be refused in part: one bad field never takes the
fire beside it along.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from ingest.device_types.compiled import (
    ABSENT,
    NO_POINT,
    OK,
    TIME,
    VERDICTS,
    Compiled,
    Field,
    Floats,
    Verdicts,
    judge_all,
    judge_column,
    times_us,
)
from ingest.device_types.payload import Columns
from ingest.device_types.reasons import Reason
from ingest.mqtt.message import Message
from ingest.refused import Fault, Faults, Refused
from ingest.routes import District, Refusal, Route
from sizao.frame import Flag
from sizao.units import BY_CODE, HEARD, Lane

PAST_US_MAX = 48 * 3_600_000_000
FUTURE_US_MAX = 60_000_000
LATE_US = 60_000_000

Ints = npt.NDArray[np.int32]
Scalar = TypeVar("Scalar", bound=np.generic)

_LANE_ALARM = np.zeros(max(BY_CODE) + 1, np.bool_)
_LANE_ALARM[[code for code, quantity in BY_CODE.items() if quantity.lane is Lane.ALARM]] = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Decoded:
    """Readings, one row each, in the order of their messages within a point.

    `alarm`: the row goes to the alarms topic. `corrected_*`: entries whose device clock was not
    believed, and by how much it was off.
    """

    message: Ints
    point: Ints
    event_us: npt.NDArray[np.int64]
    value: npt.NDArray[np.float32]
    flags: npt.NDArray[np.uint8]
    partition: Ints
    alarm: npt.NDArray[np.bool_]
    refused: list[Refused]
    corrected_device: Ints
    corrected_us: npt.NDArray[np.int64]


class _Entries(NamedTuple):
    """What payloads of one type said: an entry is one payload's word of one device."""

    message: Ints
    device: Ints
    time_us: Floats
    time: Verdicts
    fields: list[tuple[Field, Verdicts, Floats]]
    says_alarms: bool


def decode(district: District, lane: Lane, messages: Sequence[Message]) -> Decoded:
    """Readings of messages that came over a lane's connection."""
    faults = Faults()
    direct: dict[int, tuple[list[int], list[int]]] = {}
    routed: dict[int, list[int]] = {}
    topics, type_of = district.topics[lane], district.type_of
    for index, message in enumerate(messages):
        found = topics.get(message.topic, 0)
        if not found:
            resolved = district.resolve(lane, message.topic)
            if isinstance(resolved, Refusal):
                faults.whole(index, Fault(*resolved))
                continue
            found = resolved
        if found > 0:
            group = direct.setdefault(type_of[found], ([], []))
            group[0].append(index)
            group[1].append(found)
        else:
            routed.setdefault(-found - 1, []).append(index)
    entries = [
        part
        for kind, (indexes, devices) in direct.items()
        for part in _direct(district, kind, messages, indexes, devices, faults)
    ]
    for place, indexes in routed.items():
        entries += _routed(district, district.routes[place], messages, indexes, faults)
    return _rows(district, messages, entries, faults)


def _direct(
    district: District,
    kind: int,
    messages: Sequence[Message],
    indexes: list[int],
    devices: list[int],
    faults: Faults,
) -> Iterable[_Entries]:
    """Entries of messages whose topic named the device; all of one type."""
    reader = district.readers[kind]
    parts, refused = reader.read([messages[index].payload for index in indexes])
    for place, reason, detail in refused:
        faults.whole(indexes[place], Fault(reason, detail, devices[place]))
    all_messages, all_devices = np.array(indexes, np.int32), np.array(devices, np.int32)
    for columns in parts:
        where = np.array(columns.payload, np.intp)
        yield _judged(reader.compiled, columns, all_messages[where], all_devices[where], None)


class _Read(NamedTuple):
    """What one type read. `device`: of the roster and in service, of whatever type; else 0."""

    kind: int
    columns: Columns
    payload: Ints
    device: Ints


def _routed(
    district: District,
    route: Route,
    messages: Sequence[Message],
    indexes: list[int],
    faults: Faults,
) -> Iterable[_Entries]:
    """Entries of messages whose payload names the devices.

    Several types may share the topic: each reads all, and takes the entries of its own devices. A
    payload is refused as a whole when some type cannot read it and none finds an entry in it; a
    key, when no type takes it.
    """
    payloads = [messages[index].payload for index in indexes]
    message_of = np.array(indexes, np.int32)
    reads: list[_Read] = []
    refusals: dict[int, dict[int, Refusal]] = {}
    for kind in route.types:
        parts, refused = district.readers[kind].read(payloads)
        for place, reason, detail in refused:
            refusals.setdefault(place, {})[kind] = Refusal(reason, detail, 0)
        reads += [_read(district, route, kind, columns) for columns in parts]
    heard = np.zeros(len(payloads), np.bool_)
    for one in reads:
        heard[one.payload] = True
        message = message_of[one.payload]
        keep = np.flatnonzero(district.view.device_type[one.device] == one.kind)
        if len(keep):
            compiled = district.readers[one.kind].compiled
            yield _judged(compiled, one.columns, message[keep], one.device[keep], keep)
    _untaken(district, route, reads, refusals, message_of, faults)
    for place, whys in refusals.items():
        if not heard[place]:
            faults.whole(indexes[place], Fault(*next(iter(whys.values()))))


def _read(district: District, route: Route, kind: int, columns: Columns) -> _Read:
    key_slot, roster = district.readers[kind].compiled.key_slot, route.roster
    assert key_slot is not None
    found = [
        roster.get(key, 0) if key.__class__ is str else _numbered(roster, key)
        for key in columns.slots[key_slot]
    ]
    device = np.array(found, np.int32)
    device[~district.in_service[device]] = 0
    return _Read(kind, columns, np.array(columns.payload, np.int32), device)


def _numbered(roster: Mapping[str, int], key: object) -> int:
    """Device of a key that is a number on the wire."""
    fits = isinstance(key, int) and not isinstance(key, bool)
    return roster.get(str(key), 0) if fits else 0


def _untaken(
    district: District,
    route: Route,
    reads: list[_Read],
    refusals: Mapping[int, Mapping[int, Refusal]],
    message_of: Ints,
    faults: Faults,
) -> None:
    """Tell of the keys that no type takes.

    That a device is of another type says nothing unless that type has read this payload and found
    the key in it: an alarm was acknowledged and left no trace.
    """
    pairs = [one.payload.astype(np.int64) << 32 | one.device for one in reads]
    mine = [district.view.device_type[one.device] == one.kind for one in reads]
    taken = _joined([pair[own] for pair, own in zip(pairs, mine, strict=True)], np.int64)
    for one, pair, own in zip(reads, pairs, mine, strict=True):
        compiled = district.readers[one.kind].compiled
        assert compiled.key_slot is not None
        keys = one.columns.slots[compiled.key_slot]
        rest = np.flatnonzero(~own)
        rest = rest[~np.isin(pair[rest], taken)]
        for place in rest.tolist():
            payload, device = int(one.payload[place]), int(one.device[place])
            alarm = bool(device) or compiled.says_alarms
            why = refusals.get(payload, {}).get(district.type_of[device])
            fault = _why_untaken(district, route, keys[place], device, why)
            faults.part(int(message_of[payload]), fault, alarm=alarm)


def _why_untaken(
    district: District, route: Route, key: object, device: int, why: Refusal | None
) -> Fault:
    """`why`: what the device's own type could not read of the payload."""
    if key is None:
        return Fault(Reason.MISSING_FIELD, "key", 0)
    if isinstance(key, bool) or not isinstance(key, str | int):
        return Fault(Reason.WRONG_TYPE, "key", 0)
    shown = str(key)[:64]
    if not device:
        refusal = district.refusal_of(route.roster, str(key))
        assert refusal is not None
        return Fault(refusal.reason, shown, refusal.device)
    if district.type_of[device] not in route.types:
        return Fault(Reason.WRONG_TOPIC, shown, device)
    return Fault(Reason.MISSING_FIELD if why is None else why.reason, shown, device)


def _judged(
    compiled: Compiled,
    columns: Columns,
    message: Ints,
    device: Ints,
    keep: npt.NDArray[np.intp] | None,
) -> _Entries:
    judge = judge_column if columns.typed else judge_all
    fields = []
    for one in compiled.fields:
        verdicts, values = judge(one, columns.slots[one.slot])
        fields.append(
            (one, verdicts, values) if keep is None else (one, verdicts[keep], values[keep])
        )
    size = len(columns.payload)
    time, time_us = np.full(size, ABSENT, np.uint8), np.zeros(size)
    if compiled.time is not None and compiled.time_slot is not None:
        time, time_us = times_us(compiled.time, columns.slots[compiled.time_slot])
    if keep is not None:
        time, time_us = time[keep], time_us[keep]
    return _Entries(message, device, time_us, time, fields, compiled.says_alarms)


class _Cells(NamedTuple):
    """Good values: the entry of each, its quantity and value."""

    entry: npt.NDArray[np.intp]
    quantity: Ints
    value: Floats


def _cells(entries: _Entries, faults: Faults) -> _Cells:
    """Good values of entries, heard rows included; the bad ones go to `faults`."""
    size = len(entries.message)
    measured, silent = np.zeros(size, np.bool_), np.ones(size, np.bool_)
    faulty = np.zeros(size, np.bool_)
    places, quantities, values = [], [], []
    for one, verdicts, column in entries.fields:
        good = verdicts == OK
        for place in np.flatnonzero(verdicts > ABSENT).tolist():
            _blame(entries, faults, place, int(verdicts[place]), one)
        faulty |= verdicts > ABSENT
        silent &= ~good
        if one.lane is Lane.TELEMETRY:
            measured |= good
        where = np.flatnonzero(good)
        places.append(where)
        quantities.append(np.full(len(where), one.code, np.int32))
        values.append(column[where])
    for place in np.flatnonzero(entries.time == TIME).tolist():
        _blame(entries, faults, place, TIME, None)
    if entries.says_alarms:
        # Offline is judged in the readings fold alone, so a device that was heard leaves a row
        # there; garbage alone does not count as being heard.
        where = np.flatnonzero(~measured & ~(silent & faulty))
        places.append(where)
        quantities.append(np.full(len(where), HEARD.code, np.int32))
        values.append(np.ones(len(where)))
    return _Cells(np.concatenate(places), np.concatenate(quantities), np.concatenate(values))


def _blame(entries: _Entries, faults: Faults, place: int, verdict: int, one: Field | None) -> None:
    reason = VERDICTS[verdict]
    assert reason is not None
    name, alarm = ("time", False) if one is None else (one.name, one.lane is Lane.ALARM)
    message, device = int(entries.message[place]), int(entries.device[place])
    faults.part(message, Fault(reason, name, device), alarm=alarm)


def _rows(
    district: District, messages: Sequence[Message], entries: list[_Entries], faults: Faults
) -> Decoded:
    """One row per good value that has a point."""
    cells = [_cells(part, faults) for part in entries]
    starts = np.cumsum([0, *(len(part.message) for part in entries)])
    entry = _joined(
        [cell.entry + start for cell, start in zip(cells, starts, strict=False)], np.intp
    )
    message = _joined([part.message for part in entries], np.int32)
    device = _joined([part.device for part in entries], np.int32)
    arrived = np.array([one.arrived_us for one in messages], np.int64)[message]
    dup = np.array([one.dup for one in messages], np.bool_)[message]
    time = _joined([part.time for part in entries], np.uint8)
    event_us, flags, off_us = _times(
        arrived, dup, time, _joined([part.time_us for part in entries], np.float64)
    )
    corrected = np.flatnonzero(flags & Flag.CLOCK_CORRECTED)
    quantity = _joined([cell.quantity for cell in cells], np.int32)
    point = district.view.points_of(device[entry], quantity)
    for place in np.flatnonzero(point == 0).tolist():
        at, known = int(entry[place]), BY_CODE[int(quantity[place])]
        alarm = known.lane is Lane.ALARM
        reason = VERDICTS[NO_POINT]
        assert reason is not None
        fault = Fault(reason, known.name, int(device[at]))
        faults.part(int(message[at]), fault, alarm=alarm)
    # By message, so that a point's readings of one tick keep the order in which they came.
    order = np.argsort(message[entry], kind="stable")
    order = order[point[order] > 0]
    entry, point = entry[order], point[order]
    value = _joined([cell.value for cell in cells], np.float64)[order]
    return Decoded(
        message=message[entry],
        point=point,
        event_us=event_us[entry],
        value=value.astype(np.float32),
        flags=flags[entry],
        partition=district.view.point_partition[point],
        alarm=_LANE_ALARM[quantity[order]],
        refused=list(faults.refused()),
        corrected_device=device[corrected],
        corrected_us=off_us[corrected],
    )


def _times(
    arrived: npt.NDArray[np.int64], dup: npt.NDArray[np.bool_], time: Verdicts, time_us: Floats
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """Event time, flags, and how far the device's clock was off arrival, of each entry."""
    said = time == OK
    off_us = np.where(said, np.rint(time_us), 0.0).astype(np.int64)
    off_us = np.where(said, off_us - arrived, 0)
    believed = said & (off_us >= -PAST_US_MAX) & (off_us <= FUTURE_US_MAX)
    flags = np.where(said, 0, Flag.NO_DEVICE_TIME) | np.where(dup, Flag.REDELIVERED, 0)
    flags |= np.where(said & ~believed, Flag.CLOCK_CORRECTED, 0)
    flags |= np.where(believed & (off_us < -LATE_US), Flag.LATE, 0)
    return np.where(believed, arrived + off_us, arrived), flags.astype(np.uint8), off_us


def _joined(parts: list[npt.NDArray[Scalar]], kind: type[Scalar]) -> npt.NDArray[Scalar]:
    return np.concatenate(parts) if parts else np.empty(0, kind)
