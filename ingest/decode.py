"""Messages in, columns of readings out, and what was refused with its reason. Never raises.

A reading's time is fixed here, once: the device's if it lies within -48 h .. +60 s of arrival, else
arrival, flagged. A payload may give readings and be refused in part: one bad field never takes the
fire beside it along.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from ingest.cells import judged
from ingest.device_types.reasons import Reason
from ingest.device_types.verdicts import NO_POINT, OK, VERDICTS, Floats, Verdicts
from ingest.entries import Ints, Part, Spoken, direct, routed
from ingest.mqtt.message import Message
from ingest.refused import Fault, Faults, Refused
from ingest.routes import PARTS, District, Leads, Refusal
from sizao.frame import Flag
from sizao.units import BY_CODE, Lane

PAST_US_MAX = 48 * 3_600_000_000
FUTURE_US_MAX = 60_000_000
LATE_US = 60_000_000
# Plain numbers: numpy takes an enum's member for an object, and 4 us to make a number of it.
_LATE, _REDELIVERED, _CLOCK_CORRECTED, _NO_DEVICE_TIME = (
    int(flag) for flag in (Flag.LATE, Flag.REDELIVERED, Flag.CLOCK_CORRECTED, Flag.NO_DEVICE_TIME)
)

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


def shielded(
    district: District, lane: Lane, messages: Sequence[Message], leads: Leads | None = None
) -> Decoded:
    """As `decode`, but a slip of ours costs the payload that shows it: it would end the lane, and
    the broker would send the same payload again after each restart.
    """
    try:
        return decode(district, lane, messages, leads=leads)
    except Exception:
        spoilt = _spoilt(district, lane, messages, 0)
        if not spoilt:
            raise
        return decode(district, lane, messages, spoilt)


def _spoilt(
    district: District, lane: Lane, messages: Sequence[Message], first: int
) -> dict[int, str]:
    """Which of the messages, counted from `first`, do not decode, and why.

    By halves: one by one, a single one among 10,000 took the loop, and the other lane's, for 1.6 s.
    """
    try:
        decode(district, lane, messages)
    except Exception as error:  # noqa: BLE001 - told in its reject, whatever it is
        if len(messages) == 1:
            return {first: f"{type(error).__name__}: {error}"[:200]}
        half = len(messages) // 2
        left = _spoilt(district, lane, messages[:half], first)
        return left | _spoilt(district, lane, messages[half:], first + half)
    return {}


def decode(
    district: District,
    lane: Lane,
    messages: Sequence[Message],
    spoilt: Mapping[int, str] = MappingProxyType({}),
    leads: Leads | None = None,
) -> Decoded:
    """Readings of messages that came over a lane's connection.

    `spoilt`: messages that are refused unseen, and why. `leads`: `district.leads` of them, where
    it was asked already.
    """
    faults = Faults()
    leads = district.leads(lane, messages) if leads is None else leads.copy()
    _find(district, lane, messages, leads, spoilt, faults)
    payloads = [message.payload for message in messages]
    parts: list[Part] = []
    for number, indexes, devices in _by_topic(district, leads):
        parts += direct(district, number, payloads, indexes, devices, faults)
    for spoken in _by_payload(district, leads):
        parts += routed(district, spoken, payloads, faults)
    return _rows(district, messages, parts, faults)


def _find(
    district: District,
    lane: Lane,
    messages: Sequence[Message],
    leads: Leads,
    spoilt: Mapping[int, str],
    faults: Faults,
) -> None:
    """Where topics lead that are not remembered, in place; what leads nowhere is refused."""
    for index in (leads == 0).nonzero()[0].tolist():
        found = district.resolve(lane, messages[index].topic)
        if isinstance(found, Refusal):
            faults.whole(index, Fault(*found))
        else:
            leads[index] = found
    for index, why in spoilt.items():
        found = int(leads[index])
        if found:
            faults.whole(index, Fault(Reason.NOT_DECODED, why, max(found, 0) // PARTS))
            leads[index] = 0


def _by_topic(district: District, leads: Leads) -> Iterable[tuple[int, Ints, Ints]]:
    """Readers, and the messages and devices of each."""
    indexes = (leads > 0).nonzero()[0].astype(np.int32)
    if not len(indexes):
        return
    device, part = np.divmod(leads[indexes], PARTS)
    device = device.astype(np.int32)
    reader = district.view.device_type.take(device) * PARTS + part
    first = int(reader[0])
    if np.count_nonzero(reader == first) == len(reader):  # a tick of one type, as a rule
        yield first, indexes, device
        return
    order = reader.argsort(kind="stable")
    reader, indexes, device = reader[order], indexes[order], device[order]
    ends = [*(np.flatnonzero(np.diff(reader)) + 1).tolist(), len(reader)]
    for start, end in zip([0, *ends], ends, strict=False):
        yield int(reader[start]), indexes[start:end], device[start:end]


def _by_payload(district: District, leads: Leads) -> Iterable[Spoken]:
    """Messages whose payload names the devices, by the readers that they may need."""
    groups: dict[tuple[int, ...], tuple[list[int], list[int]]] = {}
    for index in (leads < 0).nonzero()[0].tolist():
        place = -int(leads[index]) - 1
        group = groups.setdefault(district.routes[place].readers, ([], []))
        group[0].append(index)
        group[1].append(place)
    for readers, (indexes, routes) in groups.items():
        yield Spoken(indexes, routes, readers)


def _rows(
    district: District, messages: Sequence[Message], parts: Sequence[Part], faults: Faults
) -> Decoded:
    """One row per good value that has a point."""
    arrived_us = np.array([one.arrived_us for one in messages], np.int64)
    dup = np.array([one.dup for one in messages], np.bool_)
    entries = judged(district, parts, arrived_us, faults)
    message, device = entries.message, entries.device
    event_us, flags, off_us = _times(
        arrived_us[message], dup[message], entries.time, entries.time_us
    )
    corrected = (flags & _CLOCK_CORRECTED).nonzero()[0]
    if len(corrected) > 1:
        corrected = corrected[message[corrected].argsort(kind="stable")]  # the last one is kept
    entry, quantity = entries.entry, entries.quantity
    point = district.view.points_of(device[entry], quantity)
    for place in (point == 0).nonzero()[0].tolist():
        at, known = int(entry[place]), BY_CODE[int(quantity[place])]
        alarm = known.lane is Lane.ALARM
        reason = VERDICTS[NO_POINT]
        assert reason is not None
        fault = Fault(reason, known.name, int(device[at]))
        faults.part(int(message[at]), fault, alarm=alarm)
    # By message, so that a point's readings of one tick keep the order in which they came.
    order = message.take(entry).argsort(kind="stable")
    if np.count_nonzero(point) < len(point):
        order = order[point[order] > 0]
    entry, point = entry.take(order), point.take(order)
    return Decoded(
        message=message.take(entry),
        point=point,
        event_us=event_us.take(entry),
        value=entries.value.take(order).astype(np.float32),
        flags=flags.take(entry),
        partition=district.view.point_partition.take(point),
        alarm=_LANE_ALARM.take(quantity.take(order)),
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
    believed = said & (off_us >= -LATE_US) & (off_us <= FUTURE_US_MAX)
    if np.count_nonzero(believed) == len(believed) and not np.count_nonzero(dup):
        return arrived + off_us, np.zeros(len(said), np.uint8), off_us  # as a rule
    believed = said & (off_us >= -PAST_US_MAX) & (off_us <= FUTURE_US_MAX)
    flags = np.where(said, 0, _NO_DEVICE_TIME) | np.where(dup, _REDELIVERED, 0)
    flags |= np.where(said & ~believed, _CLOCK_CORRECTED, 0)
    flags |= np.where(believed & (off_us < -LATE_US), _LATE, 0)
    return np.where(believed, arrived + off_us, arrived), flags.astype(np.uint8), off_us
