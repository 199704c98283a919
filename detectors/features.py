"""Features of temperature points, computed once per reading and shared by all rules.

Every point carries its newest reading, when it came and a slow baseline of its own:

    y = x, but the previous reading when x jumped up by more than 15 K (jump hold)
    r = y - b                      rise over the baseline, taken before it moves
    b += g * r                     until it is warm: g = 2 dt/age, at most 1
    b += g * min(r, 2 K)           then: g = dt/(tau + dt), a stand-in for 1 - exp(-dt/tau) with the
                                   same limits; tau 600 s, and 150 s when r < 0

`age` is what the baseline rests on: seconds since it was seeded, one reading counting for at most
120 s. It is warm at 600 s, so after five readings at the earliest. Until then it is a mean in which
newer readings weigh more, and the first one nothing: clipped from the first reading on, it stood at
a sensor that came cold out of the box, or at one corrupt reading, and the room was a fire at 600 s.

When warm, the clip keeps a fire from dragging its baseline up. One corrupt low reading must not
make a rise of the healthy ones behind it either:

- a step that jumps up by more than 15 K or drops by more than 5 K moves no baseline. (A thermistor
  that reads -40 degC once would pull b down by 17 K at 60 s sampling, and the room would then look
  17 K too warm for minutes);
- a jump or drop right behind the reading that seeded the baseline seeds it anew;
- in a fall dt, too, is at most 120 s: a reading 5 K low moves b by 2.2 K however seldom they come,
  where at 30 min it moved it by 4.6 K, and the next healthy one was an early.

Source: gated baseline, jump hold and their figures: measured on recorded fires (docs/packs.md).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from detectors import jumps, rate
from detectors.batch import Rows
from detectors.rate import Rate
from detectors.rule import Array, Block, Column, Points
from sizao.frame import Flag

if TYPE_CHECKING:
    from detectors.moisture import Moist

QUANTITY = "temperature_c"
NEVER_US = -(1 << 60)
"""`last_us` of a point that was never read: far enough to be a gap, near enough to subtract."""

Float32s = npt.NDArray[np.float32]
Int64s = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

COLUMNS: tuple[Column, ...] = (
    Column("x_c", "float32"),
    Column("baseline_c", "float32"),
    Column("last_us", "int64", NEVER_US),
    Column("seed_us", "int64", NEVER_US),
    Column("age_s", "float32"),
    *jumps.COLUMNS,
    *rate.COLUMNS,
    Column("slow", "bool"),  # its newest reading was one of a slow rise (neighbours.py)
    Column("slow_us", "int64"),  # event time of the newest such reading
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Params:
    """Temperature features. `gap_s`: a longer silence seeds the baseline anew; `counted_s`: what
    one reading adds to a baseline's age at most.
    """

    tau_s: float = 600.0
    tau_fall_s: float = 150.0
    clip_k: float = 2.0
    jump_k: float = 15.0
    drop_k: float = 5.0
    gap_s: float = 1800.0
    counted_s: float = 120.0
    warm_s: float = 600.0
    slow_rise_k: float = 1.0
    slow_k_per_min: float = 1.2
    flicker: jumps.Params = field(default_factory=jumps.Params)
    pace: rate.Params = field(default_factory=rate.Params)


@dataclass(frozen=True, slots=True)
class Heat:
    """Temperature readings of one round, each the newest of its point, with what they mean.

    `before_c`, `before_us`: the point's previous reading (`before_us` is NEVER_US for the first).
    `baseline_c` is the one that `rise_k` was taken over. `gap`: the reading seeded the baseline.
    """

    slot: Int64s
    event_us: Int64s
    flags: npt.NDArray[np.uint8]
    x_c: Float32s
    before_c: Float32s
    before_us: Int64s
    baseline_c: Float32s
    rise_k: Float32s
    rise_raw_k: Float32s
    gap: Bools
    block: Block
    params: Params
    moist: Moist | None = None

    @property
    def seed_us(self) -> Int64s:
        """Event time of the reading that seeded each baseline."""
        return self.block["seed_us"].take(self.slot)

    @property
    def warm(self) -> Bools:
        """Where the baseline is old enough to judge by; taken only when somebody asks."""
        return self.block["age_s"].take(self.slot) >= self.params.warm_s

    @property
    def faulty(self) -> Bools:
        """Where the sensor flickers (jumps.py): its rise means nothing."""
        return self.block["faulty"].take(self.slot)

    def sound(self, points: Points) -> Bools:
        """Where a rise means something: over a warm baseline, no flicker, no class of suffix S."""
        static: Bools = points.static_only.take(self.slot)
        return self.warm & ~self.faulty & ~static

    @property
    def doubtful(self) -> Bools:
        """Where it has just jumped both ways, faulty ones too."""
        return jumps.both(self.block, self.slot) >= self.params.flicker.doubtful_count

    @property
    def fell(self) -> Bools:
        """Where this very reading jumped down."""
        return (self.before_c - self.x_c > self.params.flicker.jump_k) & (self.before_us > 0)

    @property
    def rate(self) -> Rate:
        """How fast each point moves."""
        return rate.rate(self.block, self.params.pace, self.slot, self.event_us, self.x_c)

    def only(self, index: Array) -> Heat:
        """The rows at `index`."""
        return Heat(
            self.slot[index],
            self.event_us[index],
            self.flags[index],
            self.x_c[index],
            self.before_c[index],
            self.before_us[index],
            self.baseline_c[index],
            self.rise_k[index],
            self.rise_raw_k[index],
            self.gap[index],
            self.block,
            self.params,
            self.moist,
        )


@dataclass(frozen=True, slots=True)
class LateHeat:
    """Temperature readings older than the newest of their point; they move no baseline.

    `newest_c`, `newest_us`: the point's newest reading. `baseline_c`: as it is by now, which is at
    most 0.2 K above what it was a minute before.
    """

    slot: Int64s
    event_us: Int64s
    flags: npt.NDArray[np.uint8]
    x_c: Float32s
    newest_c: Float32s
    newest_us: Int64s
    baseline_c: Float32s
    block: Block
    params: Params
    moist: Moist | None = None

    @property
    def rise_k(self) -> Float32s:
        """Rise over that baseline, without jump hold."""
        return self.x_c - self.baseline_c

    @property
    def warm(self) -> Bools:
        """Where the point's baseline is old enough by now, and older than the reading."""
        age_s, seed_us = self.block["age_s"].take(self.slot), self.block["seed_us"].take(self.slot)
        return (age_s >= self.params.warm_s) & (seed_us < self.event_us)

    def sound(self, points: Points) -> Bools:
        """Where a rise means something by now (see Heat), and no sensor is doubtful."""
        static: Bools = points.static_only.take(self.slot)
        return self.warm & ~self.doubtful & ~static

    @property
    def faulty(self) -> Bools:
        """Where the sensor flickers by now."""
        return self.block["faulty"].take(self.slot)

    @property
    def doubtful(self) -> Bools:
        """Where it has just jumped both ways."""
        return jumps.both(self.block, self.slot) >= self.params.flicker.doubtful_count

    def only(self, index: Array) -> LateHeat:
        """The rows at `index`."""
        return LateHeat(
            self.slot[index],
            self.event_us[index],
            self.flags[index],
            self.x_c[index],
            self.newest_c[index],
            self.newest_us[index],
            self.baseline_c[index],
            self.block,
            self.params,
            self.moist,
        )


def split(
    block: Block, params: Params, rows: Rows, moist: Moist | None = None
) -> tuple[Rows, LateHeat | None, int]:
    """Rows in order, late rows, and how many were dropped as said twice: of equal event time, or
    the newest reading delivered again without a time of its own.
    """
    newest_us = block["last_us"].take(rows.slot)
    again = _again(block, rows, newest_us)
    if again is not None:
        first, late_first, twice = split(block, params, rows.only(~again), moist)
        return first, late_first, twice + int(np.count_nonzero(again))
    ordered = rows.event_us > newest_us
    if np.count_nonzero(ordered) == len(ordered):
        return rows, None, 0
    is_late = rows.event_us < newest_us
    late = rows.only(is_late)
    twice = len(rows.slot) - int(np.count_nonzero(ordered)) - len(late.slot)
    found = LateHeat(
        late.slot,
        late.event_us,
        late.flags,
        late.value,
        block["x_c"].take(late.slot),
        newest_us[is_late],
        block["baseline_c"].take(late.slot),
        block,
        params,
        moist,
    )
    return rows.only(ordered), found, twice


# Plain numbers: numpy takes an enum's member for an object, and 4 us to make a number of it.
_REDELIVERED = int(Flag.REDELIVERED)
_OWN_ARRIVAL = int(Flag.NO_DEVICE_TIME | Flag.CLOCK_CORRECTED)


def delivered_again(flags: npt.NDArray[np.uint8]) -> Bools:
    """Where MQTT delivered a message again that bears the time of its arrival."""
    again: Bools = (flags & _REDELIVERED != 0) & (flags & _OWN_ARRIVAL != 0)
    return again


def _again(block: Block, rows: Rows, newest_us: Int64s) -> Bools | None:
    """Rows that MQTT delivered again and that bear the time of their arrival, unchanged in value:
    one corrupt reading, acknowledged too late, would else be two in a row. None where none is.
    """
    if not np.count_nonzero(rows.flags):
        return None
    again = delivered_again(rows.flags)
    again &= (rows.value == block["x_c"].take(rows.slot)) & (newest_us > 0)
    return again if again.any() else None


def update(
    block: Block,
    params: Params,
    rows: Rows,
    moist: Moist | None = None,
    limit_c: Float32s | None = None,
) -> Heat:
    """Move the state of the rows' points (in place) and say what the readings mean.

    Rows are in order (`split`), within the physical range, a slot at most once. `limit_c` by slot.
    """
    slot, x = rows.slot, rows.value
    before_us, before = block["last_us"].take(slot), block["x_c"].take(slot)
    baseline = block["baseline_c"].take(slot)
    dt_s = (rows.event_us - before_us).astype(np.float32)
    dt_s *= np.float32(1e-6)
    gap = dt_s > params.gap_s
    step = x - before
    y = x
    odd = (step > params.jump_k) | (step < -params.drop_k) | gap
    if np.count_nonzero(odd):
        gap |= (block["seed_us"].take(slot) == before_us) & odd
        held = (step > params.jump_k) & ~gap
        y = np.where(held, before, x)
        np.copyto(baseline, x, where=gap)
        block["seed_us"][slot[gap]] = rows.event_us[gap]
        block["age_s"][slot[gap]] = 0
    rise = y - baseline
    block["baseline_c"][slot] = _moves(block, params, slot, rise, dt_s, odd) + baseline
    block["x_c"][slot] = x
    block["last_us"][slot] = rows.event_us
    jumps.count(block, params.flicker, slot, x, step, dt_s, delivered_again(rows.flags), limit_c)
    rate.anchor(block, params.pace, slot, rows.event_us, x, ~odd | gap)
    heat = Heat(
        slot=slot,
        event_us=rows.event_us,
        flags=rows.flags,
        x_c=x,
        before_c=before,
        before_us=before_us,
        baseline_c=baseline,
        rise_k=rise,
        rise_raw_k=x - baseline,
        gap=gap,
        block=block,
        params=params,
        moist=moist,
    )
    _mark_slow(heat)
    return heat


def _mark_slow(rows: Heat) -> None:
    """Remember who rises slowly (in place); few do."""
    block, params = rows.block, rows.params
    index = np.flatnonzero((rows.rise_raw_k >= params.slow_rise_k) | block["slow"].take(rows.slot))
    if len(index):
        rows = rows.only(index)
        slow = (rows.rise_raw_k >= params.slow_rise_k) & rows.warm & ~rows.faulty
        slow &= rows.rate.k_per_min < params.slow_k_per_min
        block["slow"][rows.slot] = slow
        block["slow_us"][rows.slot[slow]] = rows.event_us[slow]


def _moves(
    block: Block, params: Params, slot: Int64s, rise: Float32s, dt_s: Float32s, odd: Bools
) -> Float32s:
    """How far each baseline follows its reading. Those not yet warm grow older (in place)."""
    counted_s = np.minimum(dt_s, np.float32(params.counted_s))
    falls = rise < 0
    over_s = np.where(falls, counted_s, dt_s)
    tau_s = np.where(falls, np.float32(params.tau_fall_s), np.float32(params.tau_s))
    tau_s += over_s
    move = np.minimum(rise, np.float32(params.clip_k))
    move *= over_s
    move /= tau_s
    age_s = block["age_s"].take(slot)
    young = ((age_s < params.warm_s) & ~odd).nonzero()[0]
    if len(young):
        counted_s, age_s = counted_s.take(young), age_s.take(young)
        age_s += counted_s
        block["age_s"][slot.take(young)] = age_s
        still = (age_s < params.warm_s).nonzero()[0]
        gain = np.minimum(2 * counted_s.take(still) / age_s.take(still), np.float32(1))
        young = young.take(still)
        move[young] = gain * rise.take(young)
    if np.count_nonzero(odd):
        move[odd] = 0
    return move
