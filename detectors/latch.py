"""From "the condition holds at this reading" to raise, refresh and clear.

One latch per line of a rule (a tier, or real and test), as columns of the rule's block:

    active    an onset is on
    onset_us  event time of its raise
    since_us  event time of the first reading that decided it
    held_us   event time up to which it is known to have held (after a clear: to have lasted)
    said_us   event time of its newest record
    calm_us   event time since when it has been calm, 0 if it is not

Clear is decided by readings alone: calm for `clear_s` of event time, judged anew after every data
gap. A sensor that falls silent in the fire therefore never clears. An onset that has not held for
`rearm_s` is over in any case when the condition comes back: it clears and a new one is raised, so
that a point which stays lukewarm, or reports once an hour, is not mute for ever.

A late reading (older than the newest of its point) raises only if no onset covers it, that is, if
it lies outside [since_us, held_us] of the last one; it never refreshes and never clears.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from detectors.rule import Array, Block, Column
from sizao.signal import MINUTE_US, Phase

Int64s = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
Event = tuple[int, Phase, int]
"""Row, phase and the onset time of the onset that it belongs to."""

_TIMES = ("onset_us", "since_us", "held_us", "said_us", "calm_us")


def columns(line: str) -> tuple[Column, ...]:
    """The columns of one latch; `line` keeps several of a rule apart."""
    times = tuple(Column(f"{line}.{name}", "int64") for name in _TIMES)
    return (Column(f"{line}.active", "bool"), *times)


@dataclass(frozen=True, slots=True)
class Latch:
    """Views of one latch's columns."""

    active: Bools
    onset_us: Int64s
    since_us: Int64s
    held_us: Int64s
    said_us: Int64s
    calm_us: Int64s


def of(block: Block, line: str) -> Latch:
    """The latch of `line`, as views that write through."""
    return Latch(block[f"{line}.active"], *(block[f"{line}.{name}"] for name in _TIMES))


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """What a rule found about rows of one round, a slot at most once.

    `calm` excludes `holds`; neither is the band between (hysteresis). `since_us`: event time of
    the first reading that decided; `gap`: no data right before this row.
    """

    slot: Int64s
    event_us: Int64s
    since_us: Int64s
    holds: Bools
    calm: Bools
    gap: Bools


def follow(latch: Latch, rows: Judged, *, clear_us: int, rearm_us: int) -> list[Event]:
    """Apply rows in event order; returns what to say, in row order."""
    slot, event_us, holds = rows.slot, rows.event_us, rows.holds
    active = latch.active[slot]
    over = active & holds & (event_us - latch.held_us[slot] > rearm_us)
    begins = holds & (~active | over)
    goes_on = holds & active & ~over
    refresh = goes_on & (event_us // MINUTE_US > latch.said_us[slot] // MINUTE_US)
    calm = active & rows.calm
    calm_us = latch.calm_us[slot]
    restart = calm & ((calm_us == 0) | rows.gap)
    ends = calm & ~restart & (event_us - calm_us >= clear_us)
    latch.calm_us[slot] = np.where(restart, event_us, np.where(calm & ~ends, calm_us, 0))
    says = np.flatnonzero(begins | refresh | ends)
    events = _events(says, over=over, begins=begins, ends=ends, rows=rows, latch=latch)
    _begin(latch, rows, begins)
    latch.held_us[slot[goes_on | ends]] = event_us[goes_on | ends]
    latch.said_us[slot[refresh]] = event_us[refresh]
    latch.active[slot[ends]] = False
    return events


def raise_late(latch: Latch, rows: Judged) -> list[Event]:
    """Apply late rows: raise where nothing is on and the last onset does not cover the row."""
    slot, event_us = rows.slot, rows.event_us
    covered = (event_us >= latch.since_us[slot]) & (event_us <= latch.held_us[slot])
    begins = rows.holds & ~latch.active[slot] & ~covered
    _begin(latch, rows, begins)
    return [(row, Phase.RAISE, int(event_us[row])) for row in np.flatnonzero(begins).tolist()]


def _begin(latch: Latch, rows: Judged, begins: Bools) -> None:
    slot, event_us = rows.slot[begins], rows.event_us[begins]
    latch.active[slot] = True
    latch.onset_us[slot] = event_us
    latch.since_us[slot] = rows.since_us[begins]
    latch.held_us[slot] = event_us
    latch.said_us[slot] = event_us
    latch.calm_us[slot] = 0


def _events(
    says: Array, *, over: Bools, begins: Bools, ends: Bools, rows: Judged, latch: Latch
) -> list[Event]:
    events: list[Event] = []
    for row in says.tolist():
        onset_us = int(latch.onset_us[rows.slot[row]])
        if over[row] or ends[row]:
            events += [(row, Phase.CLEAR, onset_us)]
        if begins[row]:
            events += [(row, Phase.RAISE, int(rows.event_us[row]))]
        elif not ends[row]:
            events += [(row, Phase.REFRESH, onset_us)]
    return events
