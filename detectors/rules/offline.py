"""A device has fallen silent.

Fire signature: none; or the last of one: a sensor that rose and is not heard any more may have
burnt. Nobody knows that here; incidents join the two (alerting/corroborate.py).
Misses: a device that speaks and measures nothing; one that is not in service, or whose type names
no interval; all silence while a bridge is away. A gateway that goes is many devices here.
Source: the type's own `expected_interval_s`; two missed words and an hour (the issue's figure): a
daily word that comes an hour late, and one lost on its way, are no silence.

Judged by the log's clock alone, so in the readings' fold, where each payload leaves a row. Silent
since its newest word (arrival), or since it was first looked for. Early: silence of `missed_count`
intervals and `grace_s`, and the bridges there for one interval without a break: when the log's
clock stands still and then jumps by more than `pause_s`, everybody gets an interval to say what
could not be said. Over at its next word. Onset: when it fell silent. Looked at once a minute, at
most `signals_count` said at a time, the rest a second later.

Worked example: interval 60 s, last word 12:00:00: early at 13:02:00, said by 13:03. Clock stands
from 12:30 to 15:00: early at 15:01:00, if it has not spoken by then.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from detectors.batch import Rows
from detectors.rule import Array, Block, Bound, Column, Finding, Points
from sizao.signal import MINUTE_US, Evidence, Kind, Phase, SubjectType, Tier
from sizao.units import HEARD, Lane

NAME = "offline"
VERSION = 1
LANE = Lane.TELEMETRY
READS: tuple[str, ...] = ()  # it hears all
MEMORY_S = 1800
_SECOND_US = 1_000_000

Int64s = npt.NDArray[np.int64]

COLUMNS: tuple[Column, ...] = (
    Column("heard_us", "int64"),  # arrival of its newest word
    Column("minute_us", "int64"),  # log's clock at the last look, at the first slot looked at
    Column("looked_us", "int64"),  # log's clock when it was last looked at
    Column("first_us", "int64"),  # and when it was looked for, if it had never spoken
    Column("back_us", "int64"),  # since when the bridges have been there
    Column("active", "bool"),
    Column("onset_us", "int64"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Params:
    """`missed_count`: words, of the type's interval."""

    missed_count: int = 2
    grace_s: int = 3600
    pause_s: int = 180
    signals_count: int = 500


BOUNDS = {
    "missed_count": Bound(1, 10, "one may be lost on its way; after ten it is gone"),
    "grace_s": Bound(60, 86_400, "no device keeps time to the second; a day is long enough"),
    "pause_s": Bound(180, 180, "of the bridges' heartbeats, which are the district's"),
    "signals_count": Bound(500, 500, "what alert stores at once"),
}


def step(block: Block, params: Params, rows: Rows, points: Points) -> list[Finding]:
    """Nothing: what is measured does not matter."""
    del block, params, rows, points
    return []


def hear(block: Block, received_us: int, slot: Array, points: Points) -> None:
    """Devices of these slots have spoken."""
    leader = points.heartbeats.leader[slot]
    heard_us = block["heard_us"]
    heard_us[leader] = np.maximum(heard_us[leader], received_us)


def tick(
    block: Block, params: Params, clock_us: int, points: Points, slots: Array | None = None
) -> list[Finding]:
    """Look at everybody, or at `slots`, once a minute."""
    minute_us, mark = block["minute_us"], 0 if slots is None or not len(slots) else int(slots[0])
    if not len(minute_us) or clock_us // MINUTE_US <= minute_us[mark] // MINUTE_US:
        return []
    beats, active = points.heartbeats, block["active"]
    asked = _mask(len(active), slots)
    mine = asked[beats.awaited]
    slot = beats.awaited[mine]
    ends = np.flatnonzero(active & asked)
    if not len(slot) and not len(ends):
        return []
    interval_us = beats.interval_s[mine].astype(np.int64) * _SECOND_US
    _resume(block, params, clock_us, slot)
    silent_us = np.maximum(block["heard_us"][slot], block["first_us"][slot])
    patience_us = params.missed_count * interval_us + params.grace_s * _SECOND_US
    due_us = np.maximum(silent_us + patience_us, block["back_us"][slot] + interval_us)
    begins = np.flatnonzero((due_us <= clock_us) & ~active[slot])
    spoke = block["heard_us"][ends] > block["onset_us"][ends]
    ends = ends[spoke | ~_mask(len(active), slot)[ends]]
    room = params.signals_count
    # Where there is more to say than that, come back at the next tick.
    minute_us[mark] = clock_us - MINUTE_US if len(begins) + len(ends) > room else clock_us
    found = [_over(block, params, each, clock_us) for each in ends[:room].tolist()]
    for row in begins[: room - len(found)].tolist():
        times = int(silent_us[row]), int(due_us[row]), int(interval_us[row])
        found += [_silent(block, params, int(slot[row]), times)]
    return found


def _mask(size: int, slots: Array | None) -> npt.NDArray[np.bool_]:
    """Where `slots` are; None: everywhere."""
    found = np.full(size, slots is None)
    if slots is not None:
        found[slots] = True
    return found


def _resume(block: Block, params: Params, clock_us: int, slot: Array) -> None:
    """Whom nobody could have heard since the last look gets an interval from now on."""
    looked_us = block["looked_us"]
    unheard = slot[clock_us - looked_us[slot] > params.pause_s * _SECOND_US]
    looked_us[slot] = clock_us
    block["back_us"][unheard] = clock_us
    new = unheard[(block["heard_us"][unheard] == 0) & (block["first_us"][unheard] == 0)]
    block["first_us"][new] = clock_us


def _silent(block: Block, params: Params, slot: int, times: tuple[int, int, int]) -> Finding:
    silent_us, due_us, interval_us = times
    block["active"][slot] = True
    block["onset_us"][slot] = silent_us
    evidence = _evidence(block, params, slot)
    evidence |= {
        "interval_s": interval_us // _SECOND_US,
        "back_us": int(block["back_us"][slot]),
        "due_us": due_us,
    }
    return _finding(slot, Phase.RAISE, silent_us, due_us, evidence)


def _over(block: Block, params: Params, slot: int, clock_us: int) -> Finding:
    onset_us, heard_us = int(block["onset_us"][slot]), int(block["heard_us"][slot])
    block["active"][slot] = False
    spoke = heard_us > onset_us
    evidence = _evidence(block, params, slot) | {"decided_by": "word" if spoke else "registry"}
    return _finding(slot, Phase.CLEAR, onset_us, heard_us if spoke else clock_us, evidence)


def _evidence(block: Block, params: Params, slot: int) -> Evidence:
    return {
        "quantity": HEARD.name,
        "unit": HEARD.unit,
        "heard_us": int(block["heard_us"][slot]),
        "missed_count": params.missed_count,
        "grace_s": params.grace_s,
        "pause_s": params.pause_s,
    }


def _finding(slot: int, phase: Phase, onset_us: int, event_us: int, evidence: Evidence) -> Finding:
    return Finding(
        slot=slot,
        kind=Kind.OFFLINE,
        tier=Tier.EARLY,
        phase=phase,
        onset_us=onset_us,
        event_us=event_us,
        evidence=evidence,
        about=SubjectType.DEVICE,
    )
