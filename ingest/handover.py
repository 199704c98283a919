"""What a lane would have said through Kafka: signals for the hand-over, found without it.

Two kinds, in this order: what devices say themselves (the rule `direct`), and limit hits (two in a
row, the rule `heat_fixed`). One `Lookout` a lane follows each message once, in the order in which
they came, whether Kafka is there or not. So it knows which alarms had begun before the silence, and
a signal gets the id under which detect will say the same when the log has caught up: to alert the
second one is the first. Where the two differ (detect knows more: late readings, registry moves),
alert's rule for a log that catches up decides.

No clock here: time is event time and the arrival of the newest message looked at, which the frames
bear as `received_us`. Cost while Kafka is there: a few array operations a tick, and a microsecond
for each row of a point that is not at rest.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ingest.decode import Decoded
from ingest.flicker import Flicker, Newest
from ingest.mqtt.message import Message
from sizao import limits, signal
from sizao.frame import Flag
from sizao.registry.model import View
from sizao.signal import (
    DEVICE_SAYS,
    HOLD_S,
    MINUTE_US,
    Evidence,
    Kind,
    Phase,
    Signal,
    Subject,
    SubjectType,
    Tier,
)
from sizao.units import BY_CODE, BY_NAME, AlarmState

DIRECT = "direct", 1
FIXED = "heat_fixed", 2
"""Rules of detect and their versions: half of an onset's id."""
_SECOND_US = 1_000_000
_HOLD_US = HOLD_S * _SECOND_US
_REARM_US = limits.REARM_S * _SECOND_US
_CLEAR_US = limits.CLEAR_S * _SECOND_US
# Calm is judged anew after so long without data, and after a jump right behind that (detect's
# features seed a point's baseline there).
_GAP_US = 1800 * _SECOND_US
_JUMP_K, _DROP_K = 15.0, 5.0
_TEMPERATURE = BY_NAME["temperature_c"].code
_LOWEST_C = float(limits.STATIC_MINIMUM_C.min())
_FIRST = {Kind.FIRE, Kind.GAS, Kind.CO}
_HOLDS = {False: {AlarmState.ALARM, AlarmState.MUTED}, True: {AlarmState.SELF_TEST}}
_OWN_ARRIVAL = Flag.NO_DEVICE_TIME | Flag.CLOCK_CORRECTED


class Rank(IntEnum):
    """Who is handed over first."""

    SAID = 0  # fire, gas, CO, by the device itself
    LIMIT = 1
    REST = 2  # what pages nobody: slow kinds, self-tests


class Finding(NamedTuple):
    """A signal that nobody may ever need: made into one when it is handed over.

    `arrived_us`: of the newest message looked at with it. `before_*`: a limit hit's first reading.
    """

    rank: Rank
    point: int
    tier: Tier
    phase: Phase
    onset_us: int
    event_us: int
    arrived_us: int
    value: float
    flags: int
    self_test: bool = False
    before_us: int = 0
    before_c: float = 0.0


class _Row(NamedTuple):
    point: int
    event_us: int
    value: float
    flags: int


@dataclass(slots=True)
class Onset:
    """An alarm that a device says: event times as in detect's latch; `heard_us` is arrival."""

    onset_us: int
    since_us: int
    held_us: int
    said_us: int
    heard_us: int
    active: bool = True


@dataclass(slots=True)
class Hot:
    """A point at its limit: readings in a row, the newest, and the onset if one is on."""

    hits: int = 0
    newest_us: int = 0
    newest_c: float = 0.0
    active: bool = False
    onset_us: int = 0
    held_us: int = 0
    said_us: int = 0
    calm_us: int = 0
    seeded: bool = False
    flicker: Flicker = field(default_factory=Flicker)
    wanted: int = limits.SAMPLES_COUNT


@dataclass(slots=True)
class Lookout:
    """Memory of one lane. Bounded by the registry's points, what it found by what the lane holds.

    `upto_us`: arrival of the newest message looked at; `settled_us`: of the newest that Kafka has.
    `busy`: by point id, whether it is remembered.
    """

    upto_us: int = 0
    settled_us: int = 0
    swept_us: int = 0
    said: dict[tuple[int, bool], Onset] = field(default_factory=dict)
    hot: dict[int, Hot] = field(default_factory=dict)
    busy: npt.NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, np.bool_))
    newest: Newest = field(default_factory=Newest)
    found: tuple[deque[Finding], ...] = field(default_factory=lambda: tuple(deque() for _ in Rank))

    @property
    def waiting(self) -> int:
        """Findings that neither Kafka nor alert has."""
        return sum(map(len, self.found))

    def look(self, view: View, messages: Sequence[Message], decoded: Decoded) -> None:
        """Follow messages in the order of their arrival; those seen before are passed over."""
        upto_us = self.upto_us
        if not messages or messages[-1].arrived_us <= upto_us:
            return
        self.upto_us = messages[-1].arrived_us  # first: what fails here is not tried for ever
        keep = _at_stake(self, view, decoded)
        if messages[0].arrived_us <= upto_us:
            fresh = np.array([one.arrived_us > upto_us for one in messages], np.bool_)
            keep &= fresh[decoded.message]
        index = np.flatnonzero(keep)
        # As detect has a frame's rows: a point's own in the order of their event times.
        order = index[np.lexsort((decoded.event_us[index], decoded.point[index]))]
        for at in order.tolist():
            row = _Row(
                int(decoded.point[at]),
                int(decoded.event_us[at]),
                float(decoded.value[at]),
                int(decoded.flags[at]),
            )
            found = _said(self, view, row) if decoded.alarm[at] else _heat(self, view, row)
            for one in found:
                self.found[one.rank].append(one)
        _keep_newest(self, view, decoded)
        for point in set(decoded.point[index].tolist()):
            self.busy[point] = _remembered(self, point)
        if self.upto_us - self.swept_us > MINUTE_US:
            _sweep(self)

    def settle(self, arrived_us: int) -> None:
        """Kafka has all that came until then: detect says the rest."""
        self.settled_us = max(self.settled_us, arrived_us)
        for queue in self.found:
            while queue and queue[0].arrived_us <= self.settled_us:
                queue.popleft()

    def take(self, count: int) -> list[Finding]:
        """The next findings to hand over, most pressing first; they are the caller's now."""
        taken: list[Finding] = []
        for queue in self.found:
            while queue and len(taken) < count:
                taken.append(queue.popleft())
        return taken

    def put_back(self, taken: Sequence[Finding]) -> None:
        """They were not handed over; what Kafka has got since need not be."""
        for one in reversed(taken):
            if one.arrived_us > self.settled_us:
                self.found[one.rank].appendleft(one)


def _at_stake(lookout: Lookout, view: View, decoded: Decoded) -> npt.NDArray[np.bool_]:
    """Rows that may change something: alarms, heat at a limit, and all else of such points, now
    and as long as they are remembered.
    """
    missing = len(view.point_device) - len(lookout.busy)
    if missing > 0:
        lookout.busy = np.pad(lookout.busy, (0, missing))
    speaks = np.where(decoded.alarm, decoded.value != AlarmState.NORMAL, decoded.value >= _LOWEST_C)
    ours = decoded.alarm | (view.point_quantity[decoded.point] == _TEMPERATURE)
    lookout.busy[decoded.point[speaks & ours]] = True
    lookout.newest.grow(len(view.point_device))
    heat = np.flatnonzero(ours & ~decoded.alarm)
    point = decoded.point[heat].astype(np.int64)
    lookout.busy[point[lookout.newest.jumps(point, decoded.value[heat])]] = True
    known: npt.NDArray[np.bool_] = ours & lookout.busy.take(decoded.point)
    return known


def _keep_newest(lookout: Lookout, view: View, decoded: Decoded) -> None:
    heat = np.flatnonzero(~decoded.alarm & (view.point_quantity[decoded.point] == _TEMPERATURE))
    flags = decoded.flags[heat]
    again = (flags & Flag.REDELIVERED != 0) & (flags & _OWN_ARRIVAL != 0)
    point = decoded.point[heat].astype(np.int64)
    lookout.newest.take(point, decoded.event_us[heat], decoded.value[heat], again)


def _remembered(lookout: Lookout, point: int) -> bool:
    return point in lookout.hot or (point, False) in lookout.said or (point, True) in lookout.said


def _said(lookout: Lookout, view: View, row: _Row) -> list[Finding]:
    """One message of a device about its own state: the rule `direct`, both of its lines."""
    kind, tier = DEVICE_SAYS[int(view.point_quantity[row.point])]
    found = []
    for test, states in _HOLDS.items():
        phase, onset_us = _follow(lookout, row, (row.point, test), holds=row.value in states)
        if phase is not None:
            rank = Rank.SAID if kind in _FIRST and not test else Rank.REST
            at = (row.event_us, lookout.upto_us, row.value, row.flags)
            said = Tier.ALARM if test else tier
            found.append(Finding(rank, row.point, said, phase, onset_us, *at, self_test=test))
    return found


def _follow(
    lookout: Lookout, row: _Row, line: tuple[int, bool], *, holds: bool
) -> tuple[Phase | None, int]:
    """What to say of one line of a device, and of which onset."""
    own, at_us, now_us = lookout.said.get(line), row.event_us, lookout.upto_us
    if own is not None and own.heard_us + _HOLD_US < now_us:
        own.active = False
    if holds and own is not None and own.active:
        own.held_us, own.heard_us = max(own.held_us, at_us), now_us
        if at_us // MINUTE_US <= own.said_us // MINUTE_US:
            return None, 0
        own.said_us = at_us
        return Phase.REFRESH, own.onset_us
    if holds and (own is None or not own.since_us <= at_us <= own.held_us):
        lookout.said[line] = Onset(at_us, at_us, at_us, at_us, now_us)
        return Phase.RAISE, at_us
    ends = own is not None and own.active and row.value == AlarmState.NORMAL
    if own is not None and ends and at_us > own.held_us:
        own.active, own.held_us = False, at_us - 1
        return Phase.CLEAR, own.onset_us
    return None, 0


def _heat(lookout: Lookout, view: View, row: _Row) -> list[Finding]:
    """One temperature of a point that is, or was, at its limit, or jumps: the rule `heat_fixed`, in
    order.
    """
    own = lookout.hot.get(row.point)
    if own is None:
        own, newest = Hot(), lookout.newest
        last = int(newest.event_us[row.point]), float(newest.value[row.point])
    else:
        last = own.newest_us, own.newest_c
    if row.event_us <= last[0]:
        return []
    again = row.flags & Flag.REDELIVERED and row.flags & _OWN_ARRIVAL
    if row.event_us <= own.newest_us or (again and row.value == own.newest_c):
        return []
    limit_c = _limit_c(view, row.point)
    if last[0]:
        own.flicker.count(row.event_us - last[0], last[1], row.value, limit_c, again=bool(again))
    own.wanted = own.flicker.wanted
    if own.flicker.faulty and last[1] - row.value > limits.JUMP_K:
        own.hits = 0
    most = limits.FAULTY_SAMPLES_COUNT
    own.hits = min(own.hits + 1, most) if row.value >= limit_c else 0
    calm = row.value < limit_c - limits.CLEAR_BELOW_K
    jumps = not -_DROP_K <= row.value - own.newest_c <= _JUMP_K
    own.seeded = row.event_us - own.newest_us > _GAP_US or (own.seeded and jumps)
    before_us, before_c = own.newest_us, own.newest_c
    phases = _heat_phases(own, row, calm=calm)
    own.newest_us, own.newest_c = row.event_us, row.value
    if own.hits or own.active or own.flicker.remembered:
        lookout.hot[row.point] = own
    else:
        lookout.hot.pop(row.point, None)
    at = (row.event_us, lookout.upto_us, row.value, row.flags)
    before = {"before_us": before_us, "before_c": before_c}
    return [
        Finding(Rank.LIMIT, row.point, Tier.URGENT, phase, onset_us, *at, **before)  # type: ignore[arg-type] # before_us is an int, mypy joins the values
        for phase, onset_us in phases
    ]


def _heat_phases(own: Hot, row: _Row, *, calm: bool) -> list[tuple[Phase, int]]:
    at_us, phases = row.event_us, []
    if own.hits >= own.wanted:
        over = own.active and at_us - own.held_us > _REARM_US
        if over:
            phases.append((Phase.CLEAR, own.onset_us))
        if over or not own.active:
            own.active, own.onset_us, own.said_us = True, at_us, at_us
            phases.append((Phase.RAISE, at_us))
        elif at_us // MINUTE_US > own.said_us // MINUTE_US:
            own.said_us = at_us
            phases.append((Phase.REFRESH, own.onset_us))
        own.held_us, own.calm_us = at_us, 0
    elif not (own.active and calm):
        own.calm_us = 0
    elif not own.calm_us or own.seeded:
        own.calm_us = at_us
    elif at_us - own.calm_us >= _CLEAR_US:
        own.active, own.calm_us = False, 0
        phases.append((Phase.CLEAR, own.onset_us))
    return phases


def _limit_c(view: View, point: int) -> float:
    code = int(view.device_heat_class[view.point_device[point]])
    known = 0 <= code < len(limits.STATIC_MINIMUM_C)  # a newer program may have another class
    return float(limits.STATIC_MINIMUM_C[code if known else 0])


def _sweep(lookout: Lookout) -> None:
    """Forget the alarms of devices that have fallen silent. (Heat is not forgotten: a sensor that
    reports once a day may be at its limit twice in a row.)
    """
    now_us = lookout.swept_us = lookout.upto_us
    silent = [line for line, own in lookout.said.items() if own.heard_us + _HOLD_US < now_us]
    for line in silent:
        del lookout.said[line]
    for point, _ in silent:
        lookout.busy[point] = _remembered(lookout, point)


def signal_of(view: View, one: Finding) -> Signal:
    """The signal, as the rule would say it."""
    quantity = BY_CODE[int(view.point_quantity[one.point])]
    rule, version = FIXED if one.rank is Rank.LIMIT else DIRECT
    kind = Kind.FIRE if one.rank is Rank.LIMIT else DEVICE_SAYS[quantity.code][0]
    evidence: Evidence = {
        "quantity": quantity.name,
        "unit": quantity.unit,
        "value_us": one.event_us,
        "handed_over": True,
    }
    if one.rank is Rank.LIMIT:
        limit_c = _limit_c(view, one.point)
        evidence |= {
            "values": [one.before_c, one.value],
            "before_us": one.before_us,
            "limit_c": limit_c,
            "margin_k": one.value - limit_c,
            "samples_count": limits.SAMPLES_COUNT,
        }
    else:
        state = AlarmState(int(one.value))
        evidence |= {
            "decided_by": "device",
            "limit": int(AlarmState.ALARM),
            "hold_s": HOLD_S,
            "value": int(state),
            "state": state.name.lower(),
        }
    return signal.make(
        rule=rule,
        rule_version=version,
        kind=kind,
        tier=one.tier,
        phase=one.phase,
        subject=Subject(type=SubjectType.POINT, id=str(one.point)),
        site=int(view.point_site[one.point]),
        device=int(view.point_device[one.point]),
        onset_us=one.onset_us,
        event_us=one.event_us,
        received_us=one.arrived_us,
        generation=view.generation,
        evidence=evidence,
        late=bool(one.flags & Flag.LATE),
        self_test=one.self_test,
    )
