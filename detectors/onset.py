"""An onset of a rise: what the rules over `features.Heat` share when their condition holds.

A rise is over when it stays under a share of its limit for a while. Where the baseline was seeded
during the onset (the sensor was silent), it is taken over the baseline that the onset began with:
coming back hot is not calm.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from detectors import latch
from detectors.features import Heat, LateHeat
from detectors.latch import Event, Judged
from detectors.rule import Array, Block, Column, Finding, number
from sizao.frame import Flag
from sizao.signal import Evidence, Kind, Tier

_SECOND_US = 1_000_000
Bools = npt.NDArray[np.bool_]


def columns(line: str) -> tuple[Column, ...]:
    """What a line keeps: its latch, and what the onset was taken over."""
    return (Column(f"{line}.baseline_c", "float32"), *latch.columns(line))


@dataclass(frozen=True, slots=True, kw_only=True)
class Ends:
    """When an onset is over, and when one that has not held is a new one."""

    below_k: float
    clear_s: int
    rearm_s: int


def follow(
    block: Block, line: str, rows: Heat, holds: Array, ends: Ends, since_us: Array
) -> list[Event]:
    """What a line says of readings in order (in place). `since_us`: of the first that decided."""
    own, slot = latch.of(block, line), rows.slot
    began_with = block[f"{line}.baseline_c"]
    seeded_since = rows.seed_us > own.onset_us[slot]
    over_k = np.where(seeded_since, rows.x_c - began_with[slot], rows.rise_raw_k)
    judged = Judged(
        slot=slot,
        event_us=rows.event_us,
        since_us=since_us,
        holds=holds,
        calm=~holds & (over_k < ends.below_k),
        gap=rows.gap,
    )
    clear_us, rearm_us = ends.clear_s * _SECOND_US, ends.rearm_s * _SECOND_US
    events = latch.follow(own, judged, clear_us=clear_us, rearm_us=rearm_us)
    begun = own.active[slot] & (own.onset_us[slot] == rows.event_us)
    began_with[slot[begun]] = rows.baseline_c[begun]
    return events


def raise_late(
    block: Block, line: str, rows: LateHeat, holds: Array, since_us: Array
) -> list[Event]:
    """What a line says of late readings (in place)."""
    slot = rows.slot
    never = np.zeros(len(slot), np.bool_)
    judged = Judged(
        slot=slot, event_us=rows.event_us, since_us=since_us, holds=holds, calm=never, gap=never
    )
    events = latch.raise_late(latch.of(block, line), judged)
    for row, _, _ in events:
        block[f"{line}.baseline_c"][slot[row]] = rows.baseline_c[row]
    return events


def evidence(
    rows: Heat | LateHeat, row: int, used_k: Array, limit_k: float, other: tuple[Array, Array]
) -> Evidence:
    """`used_k`: the rises that are held against the limit; `other`: time and value of the reading
    beside each.
    """
    return {
        "quantity": "temperature_c",
        "unit": "degC",
        "values": [number(other[1][row]), number(rows.x_c[row])],
        "before_us": int(other[0][row]),
        "value_us": int(rows.event_us[row]),
        "baseline_c": number(rows.baseline_c[row]),
        "rise_k": number(used_k[row]),
        "limit_k": limit_k,
        "margin_k": number(used_k[row]) - limit_k,
        "warm": bool(rows.warm[row]),
    }


def finding(rows: Heat | LateHeat, tier: Tier, event: Event, said: Evidence, ends: Ends) -> Finding:
    """The finding of an event of a row."""
    row, phase, onset_us = event
    return Finding(
        slot=int(rows.slot[row]),
        kind=Kind.FIRE,
        tier=tier,
        phase=phase,
        onset_us=onset_us,
        event_us=int(rows.event_us[row]),
        late=bool(rows.flags[row] & Flag.LATE),
        evidence=said | {"clear_below_k": ends.below_k, "clear_s": ends.clear_s},
    )
