"""What rules over places share: lines that are kept at the place's home, and their evidence.

A line begins when its condition is verified (verify.py), and is calm when `calm` says so while
every channel that spoke when it began is live: a sensor that falls silent in the fire clears
nothing. Where a baseline was seeded during the onset (its sensor was silent), the rise is taken
over the one that the onset began with: coming back hot is not calm.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from detectors import latch, verify
from detectors.channels import KINDS, Bools, Float32s
from detectors.latch import Event, Judged
from detectors.rule import Block, Column, Finding, Points, number
from detectors.seen import Seen
from detectors.verify import Verify
from sizao.frame import Flag
from sizao.signal import Evidence, Kind, Tier
from sizao.units import BY_CODE

NAMES = ("heat", "smoke", "co")
"""Of the channels, in evidence and columns."""
_SECOND_US = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A tier's line of a rule. Durations in event time (detectors/latch.py)."""

    tier: Tier
    verify: Verify
    clear_s: int
    rearm_s: int


def columns(*lines: str) -> tuple[Column, ...]:
    """What a rule with these lines keeps of a place."""
    found = [Column("busy", "bool")]
    for line in lines:
        found += [
            *latch.columns(line),
            *verify.columns(line),
            Column(f"{line}.spoke", "int8"),  # a bit for each channel that spoke at the onset
            *(Column(f"{line}.{name}_baseline", "float32") for name in NAMES),
        ]
    return tuple(found)


def rises(block: Block, line: Tier, seen: Seen) -> Float32s:
    """The newest rises, over the baseline of the onset where another was seeded since."""
    onset_us = np.where(block[f"{line}.active"][seen.slot], block[f"{line}.onset_us"][seen.slot], 0)
    seeded = seen.live & (onset_us > 0) & (seen.block["seed0_us"][seen.slots] > onset_us)
    if not seeded.any():
        return seen.rise
    began = np.stack([block[f"{line}.{name}_baseline"][seen.slot] for name in NAMES])
    return np.where(seeded, seen.block["x0"][seen.slots] - began, seen.rise)


def follow(
    block: Block, line: Line, seen: Seen, *, over: Bools, calm: Bools, spoke: Bools
) -> list[Event]:
    """What a line says of places. `spoke`: by kind and row, which channels bear the condition."""
    name, home = line.tier, seen.slot
    holds, since_us = verify.count(block, name, home, seen.event_us, over, line.verify)
    live, spoken = _bits(seen.live), block[f"{name}.spoke"][home]
    judged = Judged(
        slot=home,
        event_us=seen.event_us,
        since_us=since_us,
        holds=holds,
        calm=calm & ~over & (live & spoken == spoken),
        gap=seen.gap,
    )
    own = latch.of(block, name)
    before_us = own.onset_us[home]
    events = latch.follow(
        own, judged, clear_us=line.clear_s * _SECOND_US, rearm_us=line.rearm_s * _SECOND_US
    )
    begun = own.active[home] & (own.onset_us[home] != before_us)
    if begun.any():
        at = home[begun]
        block[f"{name}.spoke"][at] = _bits(spoke)[begun]
        for place, each in enumerate(NAMES):
            slot = seen.slots[place][begun]
            block[f"{name}.{each}_baseline"][at] = seen.block["x0"][slot] - seen.rise[place][begun]
    return events


def _bits(kinds: Bools) -> npt.NDArray[np.int8]:
    weights = np.left_shift(1, np.arange(len(KINDS)))[:, None]
    found: npt.NDArray[np.int8] = (kinds * weights).sum(axis=0).astype(np.int8)
    return found


def mark_busy(block: Block, seen: Seen, *lines: Tier) -> None:
    """Remember which homes some line has to look at next time (in place)."""
    busy = np.zeros(len(seen.slot), np.bool_)
    for line in lines:
        busy |= verify.waits(block, line, seen.slot) | block[f"{line}.active"][seen.slot]
    block["busy"][seen.slot] = busy


def finding(
    seen: Seen, event: Event, kind: Kind, line: Line, points: Points, evidence: Evidence
) -> Finding:
    """The finding of an event, with what each live channel of the place said."""
    row, phase, onset_us = event
    home, event_us = int(seen.slot[row]), int(seen.event_us[row])
    quantity = BY_CODE[int(points.quantity[home])]
    found: Evidence = {
        "quantity": quantity.name,
        "unit": quantity.unit,
        "clear_s": line.clear_s,
        **line.verify.said(),
    }
    for place, name in enumerate(NAMES):
        if seen.live[place, row]:
            found |= _channel(seen, place, row, name, points)
    return Finding(
        slot=home,
        kind=kind,
        tier=line.tier,
        phase=phase,
        onset_us=onset_us,
        event_us=event_us,
        late=bool(seen.flags[row] & Flag.LATE),
        evidence=found | evidence,
    )


def _channel(seen: Seen, place: int, row: int, name: str, points: Points) -> Evidence:
    """Newest first: its rises, and how long before the event each came.

    Named as `sizao explain` groups them.
    """
    slot, event_us = int(seen.slots[place, row]), int(seen.event_us[row])
    own = seen.block
    times = (own["at0_us"][slot], own["at1_us"][slot], own["at2_us"][slot])
    return {
        f"beside_{name}_device": int(points.device[slot]),
        f"value_{name}": number(own["x0"][slot]),
        f"rises_{name}": [number(own[each][slot]) for each in ("rise0", "rise1", "rise2")],
        f"before_{name}_us": [float(event_us - int(each)) for each in times],
    }
