"""Alarm verification: the condition in m of the last n readings, the m within a window.

What panels call verification, as numbers that a site may set. In event time, over readings in
order; m of m is "so many in a row". A window of 0 s is none. More than n cannot be wanted: m is
then n, so that no setting keeps an alarm silent for ever.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from detectors.rule import Block, Column
from sizao.signal import Evidence

M_MAX, N_MAX = 4, 8
"""The times of the newest M_MAX hits are kept, and which of the last N_MAX readings were hits."""

_BITS = np.array([bits.bit_count() for bits in range(1 << N_MAX)], np.int8)

Int64s = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Verify:
    """`m_count` of the last `n_count` readings, within `window_s`; see `wanted` for the bounds."""

    m_count: int
    n_count: int
    window_s: float

    @property
    def wanted(self) -> int:
        """How many: 1 to `n_count`, at most M_MAX."""
        return max(1, min(self.m_count, self.n_count, M_MAX))

    @property
    def mask(self) -> int:
        """The bits of the last n."""
        return (1 << max(1, min(self.n_count, N_MAX))) - 1

    def said(self) -> Evidence:
        """Its part of the evidence."""
        return {
            "verify_m": self.m_count,
            "verify_n": self.n_count,
            "verify_window_s": self.window_s,
        }


def columns(line: str) -> tuple[Column, ...]:
    """What a verified line keeps."""
    times = tuple(Column(f"{line}.hit{place}_us", "int64") for place in range(M_MAX))
    return (Column(f"{line}.hits", "uint8"), *times)


def count(
    block: Block, line: str, slot: Int64s, event_us: Int64s, over: Bools, verify: Verify
) -> tuple[Bools, Int64s]:
    """Count readings in order (in place): where enough hold, and the first of the m that do."""
    bits = (np.left_shift(block[f"{line}.hits"][slot], 1) | over) & np.uint8(verify.mask)
    block[f"{line}.hits"][slot] = bits
    newer, hit = event_us, slot[over]
    for place in range(M_MAX):
        column = block[f"{line}.hit{place}_us"]
        older = column[slot]
        column[hit] = newer[over]
        newer = older
    since_us = block[f"{line}.hit{verify.wanted - 1}_us"][slot]
    enough = over & (_BITS[bits] >= verify.wanted)
    if verify.window_s > 0:
        enough &= event_us - since_us <= verify.window_s * 1e6
    return enough, np.where(enough, since_us, event_us)


def waits(block: Block, line: str, slot: Int64s) -> Bools:
    """Where some of the last readings were hits."""
    some: Bools = block[f"{line}.hits"][slot] > 0
    return some
