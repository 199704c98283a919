"""A slow baseline of a plain value, and the rise over it.

    b += g * min(r, clip), g = dt/(tau + dt); r = x - b is taken before b moves

Falls have a tau of their own, and in them dt is at most `counted_s`.

Until it has been read for `warm_s` (one reading counts for at most `counted_s`) it is a mean in
which newer readings weigh more, and no rise is taken over it. A data gap seeds it anew. A step of
more than `jump` moves it not at all, so that one corrupt reading makes no rise of the healthy ones
behind it; where the corrupt one was the seed, the next seeds it anew. Temperature has features.py,
whose form this is, without its hold.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from detectors.level import Bools, Float32s, Late, Ordered
from detectors.rule import Block, Column

COLUMNS: tuple[Column, ...] = (
    Column("baseline", "float32"),
    Column("age_s", "float32"),
    Column("seed_us", "int64"),
)


def columns(line: str) -> tuple[Column, ...]:
    """What a line keeps that is over when its rise is."""
    return (Column(f"{line}.baseline", "float32"),)


@dataclass(frozen=True, slots=True, kw_only=True)
class Slow:
    """A slow baseline; `jump` and `clip` in the unit of the quantity."""

    tau_s: float
    tau_fall_s: float
    clip: float
    jump: float
    warm_s: float
    counted_s: float


def rise(block: Block, slow: Slow, rows: Ordered) -> tuple[Float32s, Float32s, Bools]:
    """Rise over the slow baselines and these, both as they were before they move (in place), and
    where they are warm. The rise over one that is not warm is 0.
    """
    slot, x = rows.slot, rows.x
    baseline, age_s = block["baseline"].take(slot), block["age_s"].take(slot)
    odd = np.abs(x - rows.before) > slow.jump
    seeds = rows.gap
    if odd.any():
        seeds = seeds | (odd & (block["seed_us"].take(slot) == rows.before_us))
    if seeds.any():
        np.copyto(baseline, x, where=seeds)
        age_s[seeds] = 0
        block["seed_us"][slot[seeds]] = rows.event_us[seeds]
        odd |= seeds
    warm = age_s >= slow.warm_s
    over = x - baseline
    counted_s = np.minimum(rows.dt_s, np.float32(slow.counted_s))
    falls = over < 0
    dt_s = np.where(falls, counted_s, rows.dt_s)
    tau_s = np.where(falls, np.float32(slow.tau_fall_s), np.float32(slow.tau_s)) + dt_s
    move = np.minimum(over, np.float32(slow.clip)) * dt_s / tau_s
    if not warm.all():
        young = ~warm & ~odd
        age_s[young] = np.minimum(age_s[young] + counted_s[young], np.float32(slow.warm_s))
        block["age_s"][slot] = age_s
        gain = np.minimum(2 * counted_s[young] / age_s[young], np.float32(1))
        move[young] = gain * over[young]
        over[~warm] = 0
    move[odd] = 0
    block["baseline"][slot] = baseline + move
    return over, baseline, warm


def since(block: Block, line: str, rows: Ordered, over: Float32s) -> Float32s:
    """The rise by which a line is judged calm: where the baseline was seeded during the onset (the
    sensor was silent), over the baseline that the onset began with. Coming back hot is not calm.
    """
    slot = rows.slot
    seeded = block[f"{line}.active"][slot] & (
        block["seed_us"][slot] > block[f"{line}.onset_us"][slot]
    )
    return np.where(seeded, rows.x - block[f"{line}.baseline"][slot], over)


def remember(
    block: Block, line: str, rows: Ordered | Late, baseline: Float32s, before: Bools | None = None
) -> None:
    """Keep what the onsets were taken over that begin with these readings (in place).

    `before`: where one was on already, which a late reading of its own time does not begin anew: it
    once put today's baseline in place of the onset's, and the onset did not end.
    """
    slot = rows.slot
    begun = block[f"{line}.active"][slot] & (block[f"{line}.onset_us"][slot] == rows.event_us)
    if before is not None:
        begun &= ~before
    block[f"{line}.baseline"][slot[begun]] = baseline[begun]
