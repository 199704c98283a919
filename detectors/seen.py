"""What is seen of a place at one moment: what its channels say beside each other.

Readings come a place at a time, in the order in which they arrived (batch.turns). What comes out
is made of each channel's three newest readings, in order of event time, whichever came first:

    rise    r0, the newest, over the channel's slow baseline
    sure    what no single reading can have made: min(r0, r1 + max(r1 - r2, 0) * dt0/dt1), that is,
            the newest, believed no further than the two before it foretell; dt0/dt1 at most 2
    rate    (sure - r2)/(dt0 + dt1), 0 where one of the two steps falls

One corrupt reading, high or low, at any of the three places adds nothing to `sure` or `rate`; a
growing fire loses next to nothing by them, where "twice in a row" costs a sampling period.

A channel counts for nothing (is not live) when its newest reading is over `fresh_s` older than the
newest of the place; while its baseline is not warm its rise is 0; and while it flickers: more than
1.5 drops of 15 K, each counting 900 s/(900 s + dt) (docs/packs.md, room 419). Rises under a
tenth of their unit count as 0, so that quiet places cost no look.

A late reading moves no baseline; it takes its place among the three, or is older and says nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from detectors.channels import Bools, Float32s, Int64s, Moved, Params
from detectors.rule import Beside, Block


@dataclass(frozen=True, slots=True)
class Seen:
    """Places of one turn that a rule may have something to say of, each at most once.

    `slot`: the home. `event_us`: the newest event time of the place; `flags`: of the reading that
    came. By kind and row: `slots` (the home where there is none), `live`, `rise`, `sure`, `rate` (a
    second). `gap`: the place was not looked at for `gap_s` before.
    """

    slot: Int64s
    event_us: Int64s
    flags: npt.NDArray[np.uint8]
    gap: Bools
    live: Bools
    rise: Float32s
    sure: Float32s
    rate: Float32s
    slots: Int64s
    block: Block

    def only(self, index: Int64s) -> Seen:
        """The places at `index`."""
        return Seen(
            self.slot[index],
            self.event_us[index],
            self.flags[index],
            self.gap[index],
            self.live[:, index],
            self.rise[:, index],
            self.sure[:, index],
            self.rate[:, index],
            self.slots[:, index],
            self.block,
        )


def see(block: Block, params: Params, rows: Moved, beside: Beside) -> Seen:
    """Put readings, at most one of a place, beside what is known of it (in place)."""
    near = (rows.rise > 0) | block["watched"].take(rows.home)
    if not near.all():
        rows = rows.only(near)
    _remember(block, params, rows)
    _mark(block, rows.slot, rows.kind, rows.home)
    return _seen(block, params, rows, beside)


def _remember(block: Block, params: Params, rows: Moved) -> None:
    """Put the readings among the newest three of their channels (in place).

    The second keeps `step_s` from the third: of faster sensors the newest is replaced, since a
    rate over a second is mostly rounding.
    """
    slot, event_us, last_us, rise = rows.slot, rows.event_us, rows.last_us, rows.rise
    rise0, rise1, rise2 = (block[name].take(slot) for name in ("rise0", "rise1", "rise2"))
    at1_us, at2_us = block["at1_us"].take(slot), block["at2_us"].take(slot)
    in_order = event_us > last_us
    shifts = in_order & (last_us - at1_us >= params.step_s * 1e6)
    between = ~in_order & (event_us > at1_us)
    third = ~in_order & (event_us < at1_us) & (event_us > at2_us)
    moved = shifts | between
    rise2 = np.where(moved, rise1, np.where(third, rise, rise2))
    at2_us = np.where(moved, at1_us, np.where(third, event_us, at2_us))
    rise1 = np.where(shifts, rise0, np.where(between, rise, rise1))
    at1_us = np.where(shifts, last_us, np.where(between, event_us, at1_us))
    rise0 = np.where(in_order, rise, rise0)
    rise1[rows.gap] = 0
    rise2[rows.gap] = 0
    for name, item in (("rise0", rise0), ("rise1", rise1), ("rise2", rise2)):
        block[name][slot] = item
    block["at0_us"][slot] = np.maximum(event_us, last_us)
    block["at1_us"][slot], block["at2_us"][slot] = at1_us, at2_us
    for name, item in (("x0", rows.x), ("seed0_us", rows.seed_us), ("mute0_us", rows.mute_us)):
        block[name][slot] = item


def _mark(
    block: Block, slot: Int64s, kind: npt.NDArray[np.int8], home: npt.NDArray[np.int32]
) -> None:
    """Whether each home has to look at its next reading (in place)."""
    some = (block["rise0"][slot] > 0) | (block["rise1"][slot] > 0) | (block["rise2"][slot] > 0)
    bit = np.left_shift(1, kind).astype(np.int8)
    block["risen"][home] = np.where(some, block["risen"][home] | bit, block["risen"][home] & ~bit)


def _seen(block: Block, params: Params, rows: Moved, beside: Beside) -> Seen:
    home = rows.home.astype(np.int64)
    slots = beside.slots[:, home]
    known = slots >= 0
    at = np.where(known, slots, home)
    newest_us = np.where(known, block["at0_us"][at], 0)
    now_us = np.maximum(newest_us.max(axis=0, initial=0), block["now_us"][home])
    live = known & (newest_us > 0) & (now_us - newest_us <= params.fresh_s * 1e6)
    live &= now_us > block["mute0_us"][at]
    rise0, rise1, rise2 = (
        np.where(live, block[name][at], np.float32(0)) for name in ("rise0", "rise1", "rise2")
    )
    dt0_s, dt1_s = _apart_s(block, params, at)
    foretold = rise1 + np.maximum(rise1 - rise2, 0) * np.minimum(dt0_s / dt1_s, np.float32(2))
    sure = np.minimum(rise0, foretold)
    rate = np.where((rise0 > rise1) & (rise1 > rise2), (sure - rise2) / (dt0_s + dt1_s), 0)
    before_us = block["now_us"][home]
    block["now_us"][home] = now_us
    return Seen(
        slot=home,
        event_us=now_us,
        flags=rows.flags,
        gap=now_us - before_us > params.gap_s * 1e6,
        live=live,
        rise=rise0,
        sure=sure,
        rate=rate.astype(np.float32),
        slots=at,
        block=block,
    )


def _apart_s(block: Block, params: Params, at: Int64s) -> tuple[Float32s, Float32s]:
    """Seconds between each channel's newest three readings, `step_s` at least."""
    times = [block[name][at] for name in ("at0_us", "at1_us", "at2_us")]
    found = [
        np.maximum((late - early).astype(np.float32) * np.float32(1e-6), np.float32(params.step_s))
        for late, early in pairwise(times)
    ]
    return found[0], found[1]
