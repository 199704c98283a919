"""What payloads say, and of which device. Judged in cells.py. Never raises.

A topic names the device (`direct`), or the payload does, perhaps of many (`routed`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from ingest.device_types.compiled import Compiled
from ingest.device_types.payload import Columns
from ingest.device_types.reasons import Reason
from ingest.others import Others, Read
from ingest.refused import Fault, Faults
from ingest.routes import PARTS, District, Refusal

Ints = npt.NDArray[np.int32]
Scalar = TypeVar("Scalar", bound=np.generic)


class Part(NamedTuple):
    """What payloads of one type said: an entry is one payload's word of one device."""

    compiled: Compiled
    columns: Columns
    message: Ints
    device: Ints


def direct(
    district: District,
    number: int,
    payloads: Sequence[bytes],
    indexes: Ints,
    devices: Ints,
    faults: Faults,
) -> Iterable[Part]:
    """What messages said whose topic named the device; all of one type."""
    reader = district.readers[number]
    parts, refused = reader.read([payloads[index] for index in indexes.tolist()])
    for place, reason, detail in refused:
        faults.whole(int(indexes[place]), Fault(reason, detail, int(devices[place])))
    for columns in parts:
        yield Part(reader.compiled, columns, indexes[columns.payload], devices[columns.payload])


class Spoken(NamedTuple):
    """Messages whose payload names its devices, and the readers of the types that they may be.

    Of all carriers together, each with the place of its route: carrier by carrier, 50 readings cost
    what 4,000 do.
    """

    indexes: list[int]
    routes: list[int]
    readers: tuple[int, ...]

    @property
    def types(self) -> frozenset[int]:
        """Ids of those types."""
        return frozenset(reader // PARTS for reader in self.readers)


def routed(
    district: District,
    spoken: Spoken,
    payloads: Sequence[bytes],
    faults: Faults,
) -> Iterable[Part]:
    """What messages said whose payload names the devices.

    Several types may share the topic: each reads all, and takes the entries of its own devices. A
    payload is refused as a whole when some type cannot read it and none finds an entry in it; a
    key, when no type takes it.
    """
    payloads = [payloads[index] for index in spoken.indexes]
    message_of = np.array(spoken.indexes, np.int32)
    reads: list[Read] = []
    refusals: dict[int, dict[int, Refusal]] = {}
    for number in spoken.readers:
        parts, refused = district.readers[number].read(payloads)
        for place, reason, detail in refused:
            refusals.setdefault(place, {})[number // PARTS] = Refusal(reason, detail, 0)
        reads += [_read(district, spoken, number, columns) for columns in parts]
    heard = np.zeros(len(payloads), np.bool_)
    for one in reads:
        heard[one.payload] = True
        keep = np.flatnonzero(one.own)
        if len(keep):
            message, device, columns = message_of[one.payload], one.device, one.columns
            if len(keep) < len(device):
                message, device, columns = message[keep], device[keep], columns.only(keep)
            yield Part(district.readers[one.number].compiled, columns, message, device)
    _untaken(district, spoken, reads, refusals, faults)
    for place, whys in refusals.items():
        if not heard[place]:
            faults.whole(spoken.indexes[place], Fault(*next(iter(whys.values()))))


def _read(district: District, spoken: Spoken, number: int, columns: Columns) -> Read:
    key_slot = district.readers[number].compiled.key_slot
    assert key_slot is not None
    keys, payload = columns.slots[key_slot], columns.payload
    assert isinstance(keys, list)
    ends = [*(np.flatnonzero(np.diff(payload)) + 1).tolist(), len(payload)]
    device, start = np.empty(len(payload), np.int32), 0
    for end, place in zip(ends, payload[np.array(ends) - 1].tolist(), strict=True):
        route = spoken.routes[place]
        device[start:end] = _devices(district, route, number, keys[start:end], typed=columns.typed)
        start = end
    device[~district.in_service[device]] = 0
    own = district.view.device_type[device] == number // PARTS
    return Read(number, columns, payload, device, own)


def _devices(
    district: District, place: int, number: int, keys: list[Any], *, typed: bool
) -> Ints | int:
    """Devices of one payload's keys. A gateway names its sensors in one order for years, so the
    last list of each is remembered: to compare it takes a tenth of looking up each key.

    Only of keys that are text or integers: to a list 1, 1.0 and true are the same, and one payload
    with `1.0` made all that followed with `1` unread.
    """
    roster = district.routes[place].roster
    if len(keys) == 1:
        return _device(roster, keys[0])
    if not typed:
        return np.array([_device(roster, key) for key in keys], np.int32)
    known = district.spelled.get((place, number))
    if known is None or known[0] != keys:
        found = np.array([_device(roster, key) for key in keys], np.int32)
        named = [district.view.device_key[device] for device in found.tolist()]
        known = (named if named == keys else keys), found  # the registry's own strings: no copies
        district.spelled[place, number] = known
    return known[1]


def _device(roster: Mapping[str, int], key: object) -> int:
    return roster.get(key, 0) if key.__class__ is str else _numbered(roster, key)


def _numbered(roster: Mapping[str, int], key: object) -> int:
    """Device of a key that is a number on the wire."""
    fits = isinstance(key, int) and not isinstance(key, bool)
    return roster.get(str(key), 0) if fits else 0


def _untaken(
    district: District,
    spoken: Spoken,
    reads: list[Read],
    refusals: Mapping[int, Mapping[int, Refusal]],
    faults: Faults,
) -> None:
    """Tell of the keys that no type takes.

    That a device is of another type says nothing unless that type has read this payload and found
    the key in it: an alarm was acknowledged and left no trace.
    """
    if all(one.own.all() for one in reads):
        return
    pairs = [one.payload.astype(np.int64) << 32 | one.device for one in reads]
    types = spoken.types
    taken = joined([pair[one.own] for pair, one in zip(pairs, reads, strict=True)], np.int64)
    others: Others | None = None
    for one, pair in zip(reads, pairs, strict=True):
        compiled = district.readers[one.number].compiled
        assert compiled.key_slot is not None
        keys = one.columns.slots[compiled.key_slot]
        rest = np.flatnonzero(~one.own)
        rest = rest[~np.isin(pair[rest], taken)]
        if len(rest) and others is None and len(spoken.readers) > 1:
            others = Others(district, reads)
        for place in rest.tolist():
            payload, device = int(one.payload[place]), int(one.device[place])
            if not device and others is not None and others.have(one, place):
                continue
            alarm = bool(device) or compiled.says_alarms
            why = refusals.get(payload, {}).get(district.type_of[device])
            roster = district.routes[spoken.routes[payload]].roster
            fault = _why_untaken(district, roster, types, keys[place], device, why)
            faults.part(spoken.indexes[payload], fault, alarm=alarm)


def _why_untaken(
    district: District,
    roster: Mapping[str, int],
    types: frozenset[int],
    key: object,
    device: int,
    why: Refusal | None,
) -> Fault:
    """`why`: what the device's own type could not read of the payload."""
    if key is None:
        return Fault(Reason.MISSING_FIELD, "key", 0)
    if isinstance(key, bool) or not isinstance(key, str | int):
        return Fault(Reason.WRONG_TYPE, "key", 0)
    shown = str(key)[:64]
    if not device:
        refusal = district.refusal_of(roster, str(key))
        assert refusal is not None
        return Fault(refusal.reason, shown, refusal.device)
    if district.is_broken(district.type_of[device]):
        return Fault(Reason.BROKEN_TYPE, shown, device)
    if district.type_of[device] not in types:
        return Fault(Reason.WRONG_TOPIC, shown, device)
    return Fault(Reason.MISSING_FIELD if why is None else why.reason, shown, device)


def joined(parts: list[npt.NDArray[Scalar]], kind: type[Scalar]) -> npt.NDArray[Scalar]:
    """Of the kind even when there is no part."""
    return np.concatenate(parts) if parts else np.empty(0, kind)
