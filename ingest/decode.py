"""Messages in, columns of readings out, and what was refused with its reason. Never raises.

A reading's time is fixed here, once: the device's if it lies within -48 h .. +60 s of arrival, else
arrival, flagged. A payload may give readings and be refused in part: one bad field never takes the
fire beside it along.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ingest.device_types.compiled import Field
from ingest.device_types.reasons import Reason
from ingest.device_types.verdicts import ABSENT, NO_POINT, OK, TIME, VERDICTS, Floats, Verdicts
from ingest.entries import Entries, Ints, Spoken, direct, joined, routed
from ingest.mqtt.message import Message
from ingest.refused import Fault, Faults, Refused
from ingest.routes import PARTS, District, Refusal
from sizao.frame import Flag
from sizao.units import BY_CODE, HEARD, Lane

PAST_US_MAX = 48 * 3_600_000_000
FUTURE_US_MAX = 60_000_000
LATE_US = 60_000_000

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


def shielded(district: District, lane: Lane, messages: Sequence[Message]) -> Decoded:
    """As `decode`, but a slip of ours costs the payload that shows it: it would end the lane, and
    the broker would send the same payload again after each restart.
    """
    try:
        return decode(district, lane, messages)
    except Exception:
        spoilt = {}
        for index, message in enumerate(messages):
            try:
                decode(district, lane, [message])
            except Exception as error:  # noqa: BLE001 - told in its reject, whatever it is
                spoilt[index] = f"{type(error).__name__}: {error}"[:200]
        if not spoilt:
            raise
        return decode(district, lane, messages, spoilt)


def decode(
    district: District,
    lane: Lane,
    messages: Sequence[Message],
    spoilt: Mapping[int, str] = MappingProxyType({}),
) -> Decoded:
    """Readings of messages that came over a lane's connection.

    `spoilt`: messages that are refused unseen, and why.
    """
    faults = Faults()
    arrived_us = np.array([message.arrived_us for message in messages], np.int64)
    by_topic: dict[int, tuple[list[int], list[int]]] = {}
    by_payload: dict[tuple[int, ...], tuple[list[int], list[int]]] = {}
    topics, type_of = district.topics[lane], district.type_of
    for index, message in enumerate(messages):
        found = topics.get(message.topic, 0)
        if not found:
            resolved = district.resolve(lane, message.topic)
            if isinstance(resolved, Refusal):
                faults.whole(index, Fault(*resolved))
                continue
            found = resolved
        if index in spoilt:
            said = Fault(Reason.NOT_DECODED, spoilt[index], max(found, 0) // PARTS)
            faults.whole(index, said)
        elif found > 0:
            device = found // PARTS
            group = by_topic.setdefault(type_of[device] * PARTS + found % PARTS, ([], []))
            group[0].append(index)
            group[1].append(device)
        else:
            place = -found - 1
            routed_of = by_payload.setdefault(district.routes[place].readers, ([], []))
            routed_of[0].append(index)
            routed_of[1].append(place)
    entries = [
        part
        for reader, (indexes, devices) in by_topic.items()
        for part in direct(district, reader, messages, indexes, devices, arrived_us, faults)
    ]
    for readers, (indexes, routes) in by_payload.items():
        spoken = Spoken(indexes, routes, readers)
        entries += routed(district, spoken, messages, arrived_us, faults)
    return _rows(district, messages, entries, arrived_us, faults)


class _Cells(NamedTuple):
    """Good values: the entry of each, its quantity and value."""

    entry: npt.NDArray[np.intp]
    quantity: Ints
    value: Floats


def _cells(entries: Entries, faults: Faults) -> _Cells:
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


def _blame(entries: Entries, faults: Faults, place: int, verdict: int, one: Field | None) -> None:
    reason = VERDICTS[verdict]
    assert reason is not None
    name, alarm = ("time", False) if one is None else (one.name, one.lane is Lane.ALARM)
    message, device = int(entries.message[place]), int(entries.device[place])
    faults.part(message, Fault(reason, name, device), alarm=alarm)


def _rows(
    district: District,
    messages: Sequence[Message],
    entries: list[Entries],
    arrived_us: npt.NDArray[np.int64],
    faults: Faults,
) -> Decoded:
    """One row per good value that has a point."""
    cells = [_cells(part, faults) for part in entries]
    starts = np.cumsum([0, *(len(part.message) for part in entries)])
    entry = joined(
        [cell.entry + start for cell, start in zip(cells, starts, strict=False)], np.intp
    )
    message = joined([part.message for part in entries], np.int32)
    device = joined([part.device for part in entries], np.int32)
    arrived = arrived_us[message]
    dup = np.array([one.dup for one in messages], np.bool_)[message]
    time = joined([part.time for part in entries], np.uint8)
    event_us, flags, off_us = _times(
        arrived, dup, time, joined([part.time_us for part in entries], np.float64)
    )
    corrected = np.flatnonzero(flags & Flag.CLOCK_CORRECTED)
    quantity = joined([cell.quantity for cell in cells], np.int32)
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
    value = joined([cell.value for cell in cells], np.float64)[order]
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
