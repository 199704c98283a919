"""A device, or the panel for one of its parts, says that something has to be seen to.

Fire signature: none. It says what will be missing in a fire: a shut valve, a panel that answers by
hand only, a part that its panel was told not to listen to, a door that stands open, a detector that
is broken, dirty, old, or without power. A fault that a sensor says right after it rose may be a
burnt one; incidents join the two (alerting/corroborate.py).
Misses: what the device does not say; a door that is open for less than ten minutes at a time; a
word older than the newest of its point, which is news no more.
Source: the states that a remote centre must tell apart (GB 25506, GB 26875.1: fault with its
sub-kinds, shielded, supervisory). Ten minutes for a door that is held open is a starting guess.

By edge: the first word that says so is the onset, the first that says otherwise its end, and no
restore is made up: such words may come once a day. A door has to be open in two words, over at
least `door_s` and with no longer silence than 50 h between them. Early; alarm where the protection
itself is away: valve, panel, shielding, mains. Said again after an hour while it
lasts.

Worked example: fault_state 0 at 8:00, 1 at 9:00, 1 at 9:10, 0 at 11:00: raise 9:00, clear 11:00.
door_state 1 at 9:00, 9:05, 9:10, 0 at 9:12: raise 9:10, clear 9:12.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from detectors import level
from detectors.batch import Rows
from detectors.level import Int64s, Ordered
from detectors.rule import Block, Bound, Column, Finding, Points
from sizao.frame import Flag
from sizao.signal import Kind, Phase, Tier
from sizao.units import BY_CODE, BY_NAME, Lane

NAME = "condition"
VERSION = 1
LANE = Lane.TELEMETRY
SAYS: dict[str, tuple[Kind, Tier]] = {
    "fault_state": (Kind.FAULT, Tier.EARLY),
    "battery_state": (Kind.FAULT, Tier.EARLY),
    "mains_state": (Kind.FAULT, Tier.ALARM),
    "dirty_state": (Kind.FAULT, Tier.EARLY),
    "end_of_life_state": (Kind.FAULT, Tier.EARLY),
    "door_state": (Kind.SUPERVISORY, Tier.EARLY),
    "valve_state": (Kind.SUPERVISORY, Tier.ALARM),
    "manual_state": (Kind.SUPERVISORY, Tier.ALARM),
    "shielded_state": (Kind.SHIELDED, Tier.ALARM),
}
READS: tuple[str, ...] = tuple(SAYS)
MEMORY_S = 1800
_HOUR_US = 3600 * level.SECOND_US
_DOOR = BY_NAME["door_state"].code

COLUMNS: tuple[Column, ...] = (
    *level.columns(),
    Column("since_us", "int64"),  # first word of the run of words that say so; 0 for none
    Column("active", "bool"),
    Column("onset_us", "int64"),
    Column("said_us", "int64"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Params:
    """`door_s`: so long a door may stand open. `gap_s`: a longer silence tells nothing of it."""

    door_s: int = 600
    gap_s: int = level.PATIENT_S


BOUNDS = {
    "door_s": Bound(0, 86_400, "goods pass for minutes; a day open is no door"),
}


def step(block: Block, params: Params, rows: Rows, points: Points) -> list[Finding]:
    """Judge one round of words."""
    rows_in_order, _ = level.split(block, rows, params.gap_s)
    index = np.flatnonzero((rows_in_order.x != 0) | block["busy"].take(rows_in_order.slot))
    if not len(index):
        return []
    words = rows_in_order.only(index)
    slot, event_us = words.slot, words.event_us
    says, active = words.x != 0, block["active"][slot]
    since_us = _since(block, words)
    wait_us = np.where(points.quantity[slot] == _DOOR, params.door_s * level.SECOND_US, 0)
    begins = says & ~active & (event_us - since_us >= wait_us)
    again = says & active & (event_us - block["said_us"][slot] >= _HOUR_US)
    ends = ~says & active
    block["onset_us"][slot[begins]] = event_us[begins]
    block["said_us"][slot[begins | again]] = event_us[begins | again]
    block["active"][slot] = (active | begins) & ~ends
    block["busy"][slot] = says
    found = []
    for row in np.flatnonzero(begins | again | ends).tolist():
        phase = Phase.RAISE if begins[row] else Phase.REFRESH if again[row] else Phase.CLEAR
        found += [_finding(block, params, words, row, phase, int(since_us[row]), points)]
    return found


def _since(block: Block, words: Ordered) -> Int64s:
    """When the run of words that say so began, of each row (in place)."""
    slot = words.slot
    since_us = block["since_us"][slot]
    begun = np.where((since_us == 0) | words.gap, words.event_us, since_us)
    block["since_us"][slot] = np.where(words.x != 0, begun, 0)
    return begun


def _finding(
    block: Block,
    params: Params,
    words: Ordered,
    row: int,
    phase: Phase,
    since_us: int,
    points: Points,
) -> Finding:
    slot = int(words.slot[row])
    quantity = BY_CODE[int(points.quantity[slot])]
    kind, tier = SAYS[quantity.name]
    at_us = int(words.event_us[row])
    return Finding(
        slot=slot,
        kind=kind,
        tier=tier,
        phase=phase,
        onset_us=int(block["onset_us"][slot]),
        event_us=at_us,
        late=bool(words.flags[row] & Flag.LATE),
        evidence={
            "quantity": quantity.name,
            "unit": quantity.unit,
            "value": int(words.x[row]),
            "value_us": at_us,
            "since_us": since_us,
            "wait_s": params.door_s if quantity.code == _DOOR else 0,
        },
    )
