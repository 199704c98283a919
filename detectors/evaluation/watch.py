"""The shipped rules over a pack: a registry and frames made of its readings, through `state.fold`.

All tests of a pack burn at once, each on a site of its own with devices of its own, so none hears
of another; a frame is what comes within one second, which no signal depends on. The readings arrive
as they were made, in order, at once and once, unless `stress` disturbs them on their way.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from detectors import state as folds
from detectors.evaluation.pack import Channel, Pack
from detectors.state import Setup
from sizao.frame import ROWS_MAX, Flag, Frame
from sizao.registry.model import FOREVER, LEVELS, NO_FLOOR, TABLES, LifeState, Mark, Registry
from sizao.signal import Kind, Phase, Signal
from sizao.units import BY_NAME, Lane

SECOND_US = 1_000_000
T0_US = 1_700_000_000 * SECOND_US
"""Where the tests' clocks stand at 0: any time will do, a fixed one gives the same ids always."""
LATE_US = 60 * SECOND_US
"""As the bridge flags it."""
WRITER = "evaluate"
FAULTS = frozenset({Kind.FAULT, Kind.OFFLINE})
"""Kinds of work orders about the device itself: their tier in the output is FAULT."""
FAULT = "fault"


@dataclass(frozen=True, slots=True)
class Alarm:
    """One raise. `time_s` of the deciding reading on its test's clock; `tier` may be `fault`."""

    pack: str
    test: str
    device: str
    time_s: float
    tier: str
    rule: str
    kind: str


@dataclass(slots=True)
class _Street:
    """Rows of the registry that is being made, and who is who in it."""

    rows: dict[str, list[dict[str, Any]]] = field(
        default_factory=lambda: {"area": [], "device": [], "point": []}
    )
    areas: dict[tuple[str, ...], int] = field(default_factory=dict)
    devices: dict[tuple[str, str], int] = field(default_factory=dict)

    def area(self, key: tuple[str, ...], parent: int, level: str) -> int:
        if key not in self.areas:
            self.areas[key] = index = len(self.areas) + 1
            name = " ".join(key) or "pack"
            self.rows["area"].append({
                "id": index, "parent": parent, "level": level, "code": f"a{index}",
                "name_zh": name, "name_en": name, "lon": float("nan"), "lat": float("nan"),
                "partition": 0 if level == "site" else -1, "floor": NO_FLOOR,
            })  # fmt: skip
        return self.areas[key]

    def device(self, test: str, name: str, area: int, site: int, heat_class: int) -> int:
        if (test, name) not in self.devices:
            self.devices[test, name] = index = len(self.devices) + 1
            self.rows["device"].append({
                "id": index, "key": f"{test}/{name}", "carrier": 0, "device_type": 0,
                "area": area, "site": site, "heat_class": heat_class, "gas": 0,
                "mark": Mark.REAL.value, "state": LifeState.IN_SERVICE.value,
                "lon": float("nan"), "lat": float("nan"),
            })  # fmt: skip
        return self.devices[test, name]


def registry_of(pack: Pack, channels: Sequence[Channel]) -> tuple[Registry, _Street]:
    """A registry in which channel i is point i + 1, and who is who in it."""
    street = _Street()
    top = street.area((), 0, LEVELS[0])
    for index, channel in enumerate(channels):
        site = street.area((channel.test,), top, "site")
        known_as = pack.devices[channel.device]
        zone_name = known_as.zone
        zone = street.area((channel.test, zone_name), site, "zone") if zone_name else site
        device = street.device(channel.test, channel.device, zone, site, known_as.heat_class)
        quantity = BY_NAME[channel.quantity].code
        street.rows["point"].append(
            {"id": index + 1, "device": device, "quantity": quantity, "site": site, "partition": 0}
        )
    held = {"from_gen": 1, "to_gen": FOREVER}
    tables = {
        name: pa.Table.from_pylist([row | held for row in street.rows.get(name, [])], schema=schema)
        for name, schema in TABLES.items()
    }
    known = Registry(generation=1, partitions=1, tables=tables)
    return known, street


@dataclass(frozen=True, slots=True)
class Stream:
    """Readings with their arrival, in any order; point i + 1 is channel i."""

    point: npt.NDArray[np.uint32]
    event_us: npt.NDArray[np.int64]
    value: npt.NDArray[np.float32]
    arrival_us: npt.NDArray[np.int64]

    def only(self, index: Any) -> Stream:
        """The readings at `index` (positions or a mask)."""
        return Stream(
            self.point[index], self.event_us[index], self.value[index], self.arrival_us[index]
        )


def stream_of(channels: Sequence[Channel]) -> Stream:
    """Readings of all channels as they were made: each arrives at its event."""
    sizes = [len(channel.time_s) for channel in channels]
    time_s = np.concatenate([np.zeros(0), *(channel.time_s for channel in channels)])
    value = np.concatenate([np.zeros(0), *(channel.value for channel in channels)])
    event_us = T0_US + np.rint(time_s * SECOND_US).astype(np.int64)
    point = np.repeat(np.arange(1, len(channels) + 1, dtype=np.uint32), sizes)
    return Stream(point, event_us, value.astype(np.float32), event_us)


def frames_of(stream: Stream) -> Iterator[Frame]:
    """Readings by arrival, cut each second."""
    if not len(stream.point):
        return
    stream = stream.only(np.argsort(stream.arrival_us, kind="stable"))
    count = len(stream.point)
    cuts = np.flatnonzero(np.diff(stream.arrival_us // SECOND_US)) + 1
    starts = np.unique(np.concatenate([[0], cuts, np.arange(0, count, ROWS_MAX)]))
    ends = [*starts[1:].tolist(), count]
    late = stream.arrival_us - stream.event_us > LATE_US
    for sequence, (begin, end) in enumerate(zip(starts.tolist(), ends, strict=True)):
        yield Frame(
            point=stream.point[begin:end],
            event_us=stream.event_us[begin:end],
            value=stream.value[begin:end],
            flags=late[begin:end].astype(np.uint8) * np.uint8(Flag.LATE),
            received_us=int(stream.arrival_us[end - 1]),
            generation=1,
            writer=WRITER,
            sequence=sequence,
        )


def watch(
    pack: Pack,
    channels: Sequence[Channel],
    setup: Setup,
    disturb: Callable[[Stream], Stream] = lambda stream: stream,
) -> list[Alarm]:
    """Every raise of the rules of `setup`, by time. Quantities that no device reports are left.

    `disturb`: what befalls the readings on their way.
    """
    known = [channel for channel in channels if channel.quantity in BY_NAME]
    registry, street = registry_of(pack, known)
    view = registry.at(1)
    said: list[Signal] = []
    for lane in Lane:
        mine = _silent(known, lane)
        if any(len(channel.time_s) for channel in mine):
            state = folds.start(lane, 0, view, setup)
            for offset, frame in enumerate(frames_of(disturb(stream_of(mine)))):
                said += folds.fold(state, view, frame, offset)[1]
    raises = [signal for signal in said if signal.phase is Phase.RAISE]
    raises.sort(key=lambda signal: (signal.event_us, signal.device, signal.rule, signal.id))
    return _alarms(pack, known, street, raises)


def _silent(channels: Sequence[Channel], lane: Lane) -> list[Channel]:
    """All channels in their places; those of the other lane without readings."""
    nothing = np.zeros(0)
    return [
        channel
        if BY_NAME[channel.quantity].lane is lane
        else Channel(channel.test, channel.device, channel.quantity, nothing, nothing)
        for channel in channels
    ]


def _alarms(
    pack: Pack, channels: Sequence[Channel], street: _Street, raises: Sequence[Signal]
) -> list[Alarm]:
    tests = {index: key[0] for key, index in street.areas.items() if len(key) == 1}
    devices = {index: name for (_, name), index in street.devices.items()}
    ends_s: dict[str, float] = {}
    for one in channels:
        if len(one.time_s):
            ends_s[one.test] = max(ends_s.get(one.test, -math.inf), float(one.time_s[-1]))
    found = [
        Alarm(
            pack=pack.name,
            test=tests[signal.site],
            device=devices.get(signal.device, ""),
            time_s=(signal.event_us - T0_US) / SECOND_US,
            tier=FAULT if signal.kind in FAULTS else signal.tier.value,
            rule=signal.rule,
            kind=signal.kind.value,
        )
        for signal in raises
    ]
    # A longer test's clock runs on over one that has ended: its silence is none of the sensor's.
    return [alarm for alarm in found if alarm.time_s <= ends_s[alarm.test]]
