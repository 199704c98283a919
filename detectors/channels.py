"""Heat, smoke and CO of one place side by side: features of the rules that join them.

Who makes a place, and which of its points is its home, says beside.py; what the channels say beside
each other, seen.py.

Baselines. Heat: features.py's, tau 600 s. CO: co_fire's, tau 30 min, at most 15 ppm, since no home
stands higher; a slow smoulder passes it. Both by slow.py's form. Smoke: smoke_threshold's drift,
from 0, tau 6 h, within half the limit of 0.06 per m. So none hides what burns slowly for ever.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from detectors import batch
from detectors.batch import Rows
from detectors.features import delivered_again
from detectors.rule import Array, Beside, Block, Column

KINDS = ("temperature_c", "smoke_od_per_m", "co_ppm")
HEAT, SMOKE, CO = range(3)

Float32s = npt.NDArray[np.float32]
Int64s = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

COLUMNS: tuple[Column, ...] = (
    # of each point, moved by each reading
    Column("x", "float32"),
    Column("last_us", "int64"),  # 0: never read
    Column("baseline", "float32"),
    Column("age_s", "float32"),
    Column("seed_us", "int64"),
    Column("drops_count", "float32"),
    Column("drop_us", "int64"),
    Column("mute_us", "int64"),  # flickers until then
    # of each point, by readings that somebody looked at: what `see` tells is of one moment,
    # however many readings more are in the frame
    Column("x0", "float32"),
    Column("seed0_us", "int64"),
    Column("mute0_us", "int64"),
    Column("rise0", "float32"),
    Column("rise1", "float32"),
    Column("rise2", "float32"),
    Column("at0_us", "int64"),
    Column("at1_us", "int64"),
    Column("at2_us", "int64"),
    # of each place, at its home
    Column("now_us", "int64"),
    Column("risen", "int8"),  # a bit for each channel with a rise among its three
    Column("watched", "bool"),  # look at its next reading, whatever it says
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Params:
    """`heat`, `smoke`, `co`: of the channel; the tuples that work with them are in that order."""

    heat_unit_k: float = 6.0
    smoke_unit_per_m: float = 0.06
    co_unit_ppm: float = 15.0
    floor_share: float = 0.1
    fresh_s: float = 180.0
    gap_s: float = 1800.0
    step_s: float = 4.0
    warm_s: float = 600.0
    counted_s: float = 120.0
    heat_tau_s: float = 600.0
    heat_tau_fall_s: float = 150.0
    heat_clip_k: float = 2.0
    heat_jump_k: float = 5.0
    smoke_tau_s: float = 21_600.0
    smoke_tau_fall_s: float = 5400.0
    smoke_clip_per_m: float = 0.03
    smoke_bound_per_m: float = 0.03
    co_tau_s: float = 1800.0
    co_tau_fall_s: float = 450.0
    co_clip_ppm: float = 3.0
    co_jump_ppm: float = 30.0
    co_bound_ppm: float = 15.0
    drop_k: float = 15.0
    drops_count: float = 1.5
    decay_s: float = 900.0


@dataclass(frozen=True, slots=True)
class Moved:
    """Readings that somebody may have something to say of. `at`: their order of arrival.

    `rise`: 0 under the floor. `last_us`: of the channel's newest before; `x`, `seed_us` and
    `mute_us` as the reading left them.
    """

    at: Int64s
    slot: Int64s
    event_us: Int64s
    flags: npt.NDArray[np.uint8]
    kind: npt.NDArray[np.int8]
    home: npt.NDArray[np.int32]
    rise: Float32s
    gap: Bools
    last_us: Int64s
    x: Float32s
    seed_us: Int64s
    mute_us: Int64s

    def only(self, index: Array) -> Moved:
        """The readings at `index`."""
        return Moved(*(getattr(self, name)[index] for name in self.__slots__))


class _Step(NamedTuple):
    """What a reading did to its channel: rows without repeats, and where they came."""

    rows: Rows
    at: Int64s
    kind: npt.NDArray[np.int8]
    home: npt.NDArray[np.int32]
    rise: Float32s
    gap: Bools
    last_us: Int64s


def move(block: Block, params: Params, rows: Rows, beside: Beside, *, again: bool) -> Moved:
    """Move the channels of rows that all stand in a place (in place); most rows end here.

    What is left are all readings of those places that rise or are watched, in order of arrival.
    `again`: a slot may be among the rows twice.
    """
    if not again:
        step = _step(block, params, rows, beside, np.arange(len(rows.slot)))
        return _after(block, step, _worth(block, step.rise, step.home))
    parts = []
    for index in batch.turns(rows.slot):
        step = _step(block, params, rows.only(index), beside, index)
        parts += [_after(block, step, np.arange(len(step.at)))]
    names = Moved.__slots__
    moved = Moved(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))
    moved = moved.only(moved.at.argsort())
    return moved.only(_worth(block, moved.rise, moved.home))


def _worth(block: Block, rise: Float32s, home: npt.NDArray[np.int32]) -> Int64s:
    """Which rows are of places with a rise among the rows, or watched."""
    hot = rise > 0
    worth = hot | block["watched"].take(home)
    if hot.any():
        worth |= np.isin(home, home[hot])
    return np.flatnonzero(worth)


def _after(block: Block, step: _Step, index: Int64s) -> Moved:
    rows = step.rows.only(index)
    return Moved(
        at=step.at[index],
        slot=rows.slot,
        event_us=rows.event_us,
        flags=rows.flags,
        kind=step.kind[index],
        home=step.home[index],
        rise=step.rise[index],
        gap=step.gap[index],
        last_us=step.last_us[index],
        x=block["x"][rows.slot],
        seed_us=block["seed_us"][rows.slot],
        mute_us=block["mute_us"][rows.slot],
    )


def _step(block: Block, params: Params, rows: Rows, beside: Beside, at: Int64s) -> _Step:
    last_us = block["last_us"].take(rows.slot)
    good = rows.event_us != last_us
    if rows.flags.any():
        same = (rows.value == block["x"].take(rows.slot)) & (last_us > 0)
        good &= ~(delivered_again(rows.flags) & same)
    if not good.all():
        rows, last_us, at = rows.only(good), last_us[good], at[good]
    kind, home = beside.kind.take(rows.slot), beside.home.take(rows.slot)
    rise, gap = _rises(block, params, rows, kind, last_us)
    rise[rise < _tables(params).floor.take(kind)] = 0
    return _Step(rows, at, kind, home, rise, gap, last_us)


@dataclass(frozen=True, slots=True)
class _Tables:
    """Numbers of `Params` by kind."""

    floor: Float32s
    jump: Float32s
    tau_s: Float32s
    tau_fall_s: Float32s
    clip: Float32s
    clip_fall: Float32s
    lowest: Float32s
    highest: Float32s


@lru_cache(maxsize=64)  # made anew, they cost as much as the judging
def _tables(params: Params) -> _Tables:
    unit = (params.heat_unit_k, params.smoke_unit_per_m, params.co_unit_ppm)
    bound, clip, none = params.smoke_bound_per_m, params.smoke_clip_per_m, np.inf
    rows = (
        tuple(params.floor_share * each for each in unit),
        (params.heat_jump_k, none, params.co_jump_ppm),
        (params.heat_tau_s, params.smoke_tau_s, params.co_tau_s),
        (params.heat_tau_fall_s, params.smoke_tau_fall_s, params.co_tau_fall_s),
        (params.heat_clip_k, clip, params.co_clip_ppm),
        (-none, -clip, -none),
        (-none, -bound, -none),
        (none, bound, params.co_bound_ppm),
    )
    return _Tables(*(np.array(row, np.float32) for row in rows))


def _rises(
    block: Block,
    params: Params,
    rows: Rows,
    kind: npt.NDArray[np.int8],
    last_us: Int64s,
) -> tuple[Float32s, Bools]:
    """Rises over the baselines as they were before the readings moved them (in place), and where
    there was a data gap before. Smoke has no seed: it starts at 0, warm.
    """
    slot, x, table, in_order = rows.slot, rows.value, _tables(params), rows.event_us > last_us
    baseline, age_s = block["baseline"].take(slot), block["age_s"].take(slot)
    dt_s = (rows.event_us - last_us).astype(np.float32)
    dt_s *= np.float32(1e-6)
    gap = dt_s > params.gap_s
    seeded = kind != SMOKE
    seeds = gap & seeded
    step = x - block["x"].take(slot)
    still = ~in_order | (last_us == 0)
    odd = np.abs(step) > table.jump.take(kind)
    if odd.any():
        odd &= in_order
        seeds |= odd & seeded & (block["seed_us"].take(slot) == last_us)
        still |= odd
        drops = odd & ~gap & (kind == HEAT) & (step < -params.drop_k)
        _count_drops(block, params, slot[drops], rows.event_us[drops])
    if seeds.any():
        still |= seeds
        baseline[seeds] = x[seeds]
        age_s[seeds] = 0
        block["seed_us"][slot[seeds]] = rows.event_us[seeds]
    rise = x - baseline
    cold = seeded & (age_s < params.warm_s)
    move = _moves(params, table, kind, rise, dt_s)
    if cold.any():
        young, counted_s = cold & ~still, np.minimum(dt_s, np.float32(params.counted_s))
        age_s[young] = np.minimum(age_s[young] + counted_s[young], np.float32(params.warm_s))
        move[young] = np.minimum(2 * counted_s[young] / age_s[young], np.float32(1)) * rise[young]
        rise[cold] = 0
    move[still] = 0
    baseline += move
    baseline = np.minimum(np.maximum(baseline, table.lowest.take(kind)), table.highest.take(kind))
    news = (("x", x), ("last_us", rows.event_us), ("baseline", baseline), ("age_s", age_s))
    index = slice(None) if in_order.all() else in_order
    for name, item in news:
        block[name][slot[index]] = item[index]
    return rise, gap


def _moves(
    params: Params, table: _Tables, kind: npt.NDArray[np.int8], rise: Float32s, dt_s: Float32s
) -> Float32s:
    """How far a warm baseline follows."""
    falls = rise < 0
    most_s = np.where(falls & (kind != SMOKE), params.counted_s, params.gap_s).astype(np.float32)
    dt_s = np.minimum(dt_s, most_s)
    tau_s = np.where(falls, table.tau_fall_s.take(kind), table.tau_s.take(kind))
    move = np.minimum(np.maximum(rise, table.clip_fall.take(kind)), table.clip.take(kind))
    move *= dt_s / (tau_s + dt_s)
    return move


def _count_drops(block: Block, params: Params, slot: Int64s, event_us: Int64s) -> None:
    dt_s = (event_us - block["drop_us"][slot]).astype(np.float32) * np.float32(1e-6)
    decay_s = np.float32(params.decay_s)
    count = block["drops_count"][slot] * (decay_s / (decay_s + dt_s)) + 1
    block["drops_count"][slot], block["drop_us"][slot] = count, event_us
    mute_s = decay_s * (count / np.float32(params.drops_count) - 1)  # until the count has decayed
    block["mute_us"][slot] = event_us + (np.maximum(mute_s, 0) * 1e6).astype(np.int64)
