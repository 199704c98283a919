"""Counters of jumps up and of jumps down: what tells a flickering thermometer from a fire.

    n = n * 900 s/(900 s + dt), and + 1 at a jump whose last one went the other way

Jump: more than 15 K between two readings at most 30 min apart, one of which is under the fixed
limit of its class (flames make a hot sensor jump too), unless it is faulty already. Jumps in a row
the same way count once: counted one by one, a fire that grows and is put out made 176 of 480
recorded series faulty. A message delivered again that bears the time of its arrival counts for no
jump: it is an old reading out of its order.

Both counters at 1.5: faulty, until the lesser is under 0.75. `sensor_fault` says so, and every heat
rule then wants more than its usual readings, or none of them. Both at 0.5: doubtful, it went both
ways within the last ten minutes. One spike does that, so it costs a real fire a few samples and
never its alarm. A growing fire goes one way and is neither.

Source: measured on recorded rooms (docs/packs.md): the broken room 419 is doubtful from its second
minute and faulty from its seventh on, before its first rise over a warm baseline; no other room is.
Runs of readings at a fire's heat without a jump down: 8 at most in its week, and a run one longer
is a third as frequent, which is why a faulty sensor is asked for twelve.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from detectors.rule import Block, Column
from sizao import limits

Float32s = npt.NDArray[np.float32]
Int64s = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

_LOWEST_C = limits.STATIC_MINIMUM_C.min()
_FORGOTTEN = np.float32(limits.JUMPS_FORGOTTEN)
"""A counter that is none: the point needs no look any more."""

COLUMNS: tuple[Column, ...] = (
    Column("jumpy", "bool"),  # some counter is not 0
    Column("ups_count", "float32"),
    Column("downs_count", "float32"),
    Column("faulty", "bool"),
    Column("turned", "int8"),  # 1: its last counted jump was up, -1: down
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Params:
    """Of both decaying counters: `faulty_count` begins it, under `sound_count` it is over."""

    jump_k: float = limits.JUMP_K
    decay_s: float = limits.JUMPS_DECAY_S
    gap_s: float = limits.JUMP_GAP_S
    faulty_count: float = limits.FAULTY_COUNT
    sound_count: float = limits.SOUND_COUNT
    doubtful_count: float = limits.DOUBTFUL_COUNT


def count(
    block: Block,
    params: Params,
    slot: Int64s,
    x_c: Float32s,
    step_k: Float32s,
    dt_s: Float32s,
    again: Bools,
    limit_c: Float32s | None,
) -> None:
    """Count the jumps of readings in order (in place). `again`: delivered again, of their arrival;
    `limit_c`: fixed limits by slot.
    """
    index = np.flatnonzero((np.abs(step_k) > params.jump_k) | block["jumpy"].take(slot))
    if not len(index):
        return
    slot, x_c, step_k, dt_s = slot[index], x_c[index], step_k[index], dt_s[index]
    gap = dt_s > params.gap_s
    lower_c = np.minimum(x_c, x_c - step_k)
    counts = lower_c < (_LOWEST_C if limit_c is None else limit_c[slot])
    counts |= block["faulty"][slot]
    counts &= ~(gap | again[index])
    left = np.float32(params.decay_s) / (np.float32(params.decay_s) + dt_s)
    left[gap] = 0
    turned = np.where(gap, 0, block["turned"][slot])
    jumpy, lesser = np.zeros(len(slot), np.bool_), np.full(len(slot), np.inf, np.float32)
    for name, sign in (("ups_count", 1), ("downs_count", -1)):
        jumps = counts & (step_k * sign > params.jump_k) & (turned != sign)
        counted = block[name][slot] * left
        counted[counted < _FORGOTTEN] = 0
        counted[jumps] += 1
        block[name][slot] = counted
        turned = np.where(jumps, sign, turned)
        jumpy |= counted > 0
        lesser = np.minimum(lesser, counted)
    on = block["faulty"][slot] & (lesser >= params.sound_count)
    block["faulty"][slot] = on | (lesser >= params.faulty_count)
    block["turned"][slot] = turned
    block["jumpy"][slot] = jumpy


def both(block: Block, slot: Int64s) -> Float32s:
    """The lesser counter of each point, as of its newest reading."""
    return np.minimum(block["ups_count"].take(slot), block["downs_count"].take(slot))
