"""The device itself says alarm.

Fire signature: a certified detector, call point or gas, CO or tamper contact decided by itself.
Misses: whatever the device misses; a device that has lost its network.
Source: the state quantities of the alarm lane (`sizao.units`); a missing restore is normal in the
field (most devices say their state once a day), so ten minutes of silence end an onset.

Urgent: a manual call point. Alarm: every other ALARM, a self-test too, marked as such. The edge of
the alarm state is the onset; MUTED is still alarming. Over at once when the device says NORMAL
after its last alarm message, else 10 min after the arrival of that message on the log's clock; a
later alarm is a new onset. Real and test are two lines: an alarm during a self-test is an onset of
its own. An old alarm that arrives late is raised unless an onset covers its time.

Worked example: NORMAL 12:00:00, ALARM 12:00:07, ALARM 12:01:10, silence: raise 12:00:07, refresh
12:01:10, clear when the log's clock passes the arrival of the second one by 10 min.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from detectors import latch
from detectors.batch import Rows
from detectors.latch import Latch
from detectors.rule import Array, Block, Bound, Column, Finding, Points
from sizao.frame import Flag
from sizao.signal import DEVICE_SAYS, HOLD_S, MINUTE_US, Evidence, Phase, Tier
from sizao.units import BY_CODE, AlarmState, Lane

NAME = "direct"
VERSION = 1
LANE = Lane.ALARM
MEMORY_S = 1800
_SECOND_US = 1_000_000
_LINES = ("real", "test")
READS = tuple(BY_CODE[code].name for code in DEVICE_SAYS)
assert set(DEVICE_SAYS) == {code for code, known in BY_CODE.items() if known.lane is Lane.ALARM}

COLUMNS: tuple[Column, ...] = (
    Column("busy", "bool"),  # an onset is on: look at the point's next message
    *(Column(f"{line}.heard_us", "int64") for line in _LINES),  # arrival of its last alarm message
    *(column for line in _LINES for column in latch.columns(line)),
)

Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class Params:
    """`hold_s`: how long a device counts as alarming after its last alarm message."""

    hold_s: int = HOLD_S


BOUNDS = {
    "hold_s": Bound(HOLD_S, HOLD_S, "the bridge says the same past Kafka"),
}


def step(block: Block, params: Params, rows: Rows, points: Points) -> list[Finding]:
    """Judge one round of messages as they came, late ones too."""
    index = np.flatnonzero((rows.value != AlarmState.NORMAL) | block["busy"].take(rows.slot))
    if not len(index):
        return []
    rows = rows.only(index)
    said = rows.value
    alarming = {
        "real": (said == AlarmState.ALARM) | (said == AlarmState.MUTED),
        "test": said == AlarmState.SELF_TEST,
    }
    found: list[Finding] = []
    for line in _LINES:
        found += _line(block, params, rows, points, line, alarming[line])
    _mark_busy(block, rows.slot)
    return found


def _line(
    block: Block, params: Params, rows: Rows, points: Points, line: str, holds: Bools
) -> list[Finding]:
    own, slot, event_us = latch.of(block, line), rows.slot, rows.event_us
    active, held_us = own.active[slot], own.held_us[slot]
    covered = (event_us >= own.since_us[slot]) & (event_us <= held_us)
    begins = holds & ~active & ~covered
    goes_on = holds & active
    refresh = goes_on & (event_us // MINUTE_US > own.said_us[slot] // MINUTE_US)
    ends = active & (rows.value == AlarmState.NORMAL) & (event_us > held_us)
    found = []
    for row in np.flatnonzero(begins | refresh | ends).tolist():
        phase = Phase.RAISE if begins[row] else Phase.REFRESH if refresh[row] else Phase.CLEAR
        at_us = int(event_us[row])
        onset_us = at_us if begins[row] else int(own.onset_us[slot[row]])
        evidence = _evidence(params, points, int(slot[row]), "device")
        state = AlarmState(int(rows.value[row]))
        evidence |= {"value": int(state), "state": state.name.lower(), "value_us": at_us}
        late = bool(rows.flags[row] & Flag.LATE)
        found += [
            _finding(points, int(slot[row]), line, phase, onset_us, at_us, evidence, late=late)
        ]
    _apply(own, rows, begins=begins, goes_on=goes_on, refresh=refresh, ends=ends)
    heard = begins | goes_on
    block[f"{line}.heard_us"][slot[heard]] = rows.received_us
    return found


def _apply(
    own: Latch, rows: Rows, *, begins: Bools, goes_on: Bools, refresh: Bools, ends: Bools
) -> None:
    slot, event_us = rows.slot, rows.event_us
    for column in (own.onset_us, own.since_us, own.held_us, own.said_us):
        column[slot[begins]] = event_us[begins]
    own.active[slot[begins]] = True
    own.held_us[slot[goes_on]] = np.maximum(own.held_us[slot], event_us)[goes_on]
    own.said_us[slot[refresh]] = event_us[refresh]
    own.active[slot[ends]] = False
    # An alarm within the same second as the restore, by a clock of whole seconds, is a new one.
    own.held_us[slot[ends]] = event_us[ends] - 1


def tick(
    block: Block, params: Params, clock_us: int, points: Points, slots: Array | None = None
) -> list[Finding]:
    """End the onsets whose device has been silent for `hold_s`."""
    busy = np.flatnonzero(block["busy"])
    if slots is not None:
        busy = np.intersect1d(busy, slots, assume_unique=True)
    found: list[Finding] = []
    if not len(busy):
        return found
    hold_us = params.hold_s * _SECOND_US
    for line in _LINES:
        own, heard_us = latch.of(block, line), block[f"{line}.heard_us"]
        over = busy[own.active[busy] & (heard_us[busy] + hold_us <= clock_us)]
        for slot in over.tolist():
            at_us = int(heard_us[slot]) + hold_us
            evidence = _evidence(params, points, slot, "silence")
            evidence["heard_us"] = int(heard_us[slot])
            onset_us = int(own.onset_us[slot])
            found += [_finding(points, slot, line, Phase.CLEAR, onset_us, at_us, evidence)]
        own.active[over] = False
    _mark_busy(block, busy)
    return found


def _mark_busy(block: Block, slot: npt.NDArray[np.int64]) -> None:
    block["busy"][slot] = block["real.active"][slot] | block["test.active"][slot]


def _evidence(params: Params, points: Points, slot: int, decided_by: str) -> Evidence:
    quantity = BY_CODE[int(points.quantity[slot])]
    return {
        "quantity": quantity.name,
        "unit": quantity.unit,
        "decided_by": decided_by,
        "limit": int(AlarmState.ALARM),
        "hold_s": params.hold_s,
    }


def _finding(
    points: Points,
    slot: int,
    line: str,
    phase: Phase,
    onset_us: int,
    event_us: int,
    evidence: Evidence,
    *,
    late: bool = False,
) -> Finding:
    kind, tier = DEVICE_SAYS[int(points.quantity[slot])]
    return Finding(
        slot=slot,
        kind=kind,
        tier=tier if line == "real" else Tier.ALARM,
        phase=phase,
        onset_us=onset_us,
        event_us=event_us,
        late=late,
        self_test=line == "test",
        evidence=evidence,
    )
