"""What a rule is: the contract between the fold and the files in `rules/`.

A rule is a module. It keeps its state in arrays indexed by slot (`Block`), is handed columns of
readings that hold at most one reading per slot, and answers with the few findings among them.
Nothing here or in a rule knows a registry, a clock or a device object.
"""

from __future__ import annotations

import mmap
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from sizao.signal import Evidence, Kind, Phase, SubjectType, Tier
from sizao.units import Lane

Array = npt.NDArray[Any]
Block = dict[str, Array]
"""Columns by name, one item per slot; mutated in place by `step`."""


@dataclass(frozen=True, slots=True)
class Column:
    """One state array: its name, type and the value of a slot that was never touched.

    Prefer fill 0: pages of zeros that nobody writes cost no memory and nothing in a snapshot.
    """

    name: str
    dtype: str
    fill: float = 0


class Bound(NamedTuple):
    """Between what a person may set a parameter, and why; equal ends: it stays as shipped.

    What is shipped may always be set, also a 0 that stands for "none". The rule must still find a
    fire with every parameter at its worst end (a contract test).
    """

    low: float
    high: float
    reason: str


def _none() -> npt.NDArray[np.int32]:
    return np.zeros(0, np.int32)


@dataclass(frozen=True, slots=True, kw_only=True)
class Heartbeats:
    """Whose words are awaited. A device stands at the slot of its first live point in the fold.

    `leader`: that slot by slot, itself where the device has none; `awaited`: slots of the
    devices that have to speak, rising; `interval_s`: how often at least, for each of these.
    """

    leader: npt.NDArray[np.int32] = field(default_factory=_none)
    awaited: npt.NDArray[np.int32] = field(default_factory=_none)
    interval_s: npt.NDArray[np.int32] = field(default_factory=_none)


@dataclass(frozen=True, slots=True)
class Beside:
    """Which points stand for one place (channels.py). By slot: `kind` of channel, `home` of the
    place, each -1 for none. `slots`: by kind and home, the point of that kind, or -1.
    """

    kind: npt.NDArray[np.int8]
    home: npt.NDArray[np.int32]
    slots: npt.NDArray[np.int32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Points:
    """What the registry says about each slot of a fold, as far as rules may use it.

    `static_only`: a heat class with suffix S, whose rise or rate says nothing (`sizao.limits`).
    `device`, `area`, `site`: registry ids. `area` is the smallest that the device stands in: two
    devices of one area are neighbours; where it is the site itself, nobody said more. `site_count`:
    thermometers of the slot's site.
    """

    quantity: npt.NDArray[np.int16]
    heat_limit_c: npt.NDArray[np.float32]
    static_only: npt.NDArray[np.bool_]
    device: npt.NDArray[np.int32]
    area: npt.NDArray[np.int32]
    site: npt.NDArray[np.int32]
    site_count: npt.NDArray[np.int32]
    heartbeats: Heartbeats = field(default_factory=Heartbeats)
    beside: Beside | None = None  # where some rule joins channels


@dataclass(slots=True, kw_only=True)
class Finding:
    """One thing to say about a slot: its point, or its device; the fold makes the signal of it."""

    slot: int
    kind: Kind
    tier: Tier
    phase: Phase
    onset_us: int
    event_us: int
    evidence: Evidence
    late: bool = False
    self_test: bool = False
    about: SubjectType = SubjectType.POINT


class Rule(Protocol):
    """A module in `rules/`, as the fold sees it.

    `READS` names quantities of `LANE`: `step` is handed the readings of points that measure one of
    them, and of no others. Temperature alone comes as `features.Heat`, in event order; anything
    else as `batch.Rows`, each point's readings of a frame in event order, but late ones and those
    of an earlier frame said again as they came. That is the wall: a file in `rules/` that reads
    smoke or CO changes nothing here, and features that several rules share go into `features.py`.

    A rule that says `JOINS = True` judges places, not points: its `step` gets `seen.Seen`, a
    place at most once, readings in the order in which they arrived. Its findings bear the home
    slot, where it keeps its columns; its column `busy` asks for the place's next reading.

    A module may also define `late(block, params, rows, points)` for temperatures older than the
    newest of their point (features.LateHeat), `tick(block, params, clock_us, points, slots)`
    for what ends by the log's clock, at `slots` or, where that is None, at all, and `hear(block,
    received_us, slot, points)` for whom it matters that a point speaks, whatever it says; see
    `late_of`, `tick_of`, `hear_of`. One that only hears reads nothing. `BOUNDS` says between what
    its parameters may be set, but for those of a name that rules share (detectors/parameters.py);
    one that has no bounds stays as shipped.
    """

    NAME: str
    VERSION: int
    LANE: Lane
    READS: tuple[str, ...]
    MEMORY_S: int
    COLUMNS: tuple[Column, ...]
    Params: type[Any]

    def step(self, block: Block, params: Any, rows: Any, points: Points) -> list[Finding]:
        """Judge one round: mutates `block`, never `rows`."""
        ...


Judge = Callable[[Block, Any, Any, Points], list[Finding]]
Tick = Callable[[Block, Any, int, Points, Array | None], list[Finding]]
Hear = Callable[[Block, int, Array, Points], None]


def late_of(rule: Rule) -> Judge | None:
    """The rule's judgement of late readings, if it has one."""
    return getattr(rule, "late", None)


def tick_of(rule: Rule) -> Tick | None:
    """The rule's judgement of time passing, if it has one."""
    return getattr(rule, "tick", None)


def hear_of(rule: Rule) -> Hear | None:
    """Where the rule is told of every row that the bridges wrote, if it wants to be."""
    return getattr(rule, "hear", None)


def joins(rule: Rule) -> bool:
    """Whether the rule judges places instead of points."""
    return bool(getattr(rule, "JOINS", False))


def key_of(rule: Rule) -> str:
    """Name of the rule's block in a snapshot: a new version finds none, and warms up."""
    return f"{rule.NAME}@{rule.VERSION}"


def empty_block(columns: tuple[Column, ...], slots: int) -> Block:
    """A block of `slots` untouched slots."""
    return {column.name: _fresh(column, slots) for column in columns}


def move_block(block: Block, columns: tuple[Column, ...], slots: int, place: Array) -> Block:
    """A block of `slots` slots in which old slot i stands at `place[i]`; -1 drops it.

    Only what was touched is copied: copying zeros too would make memory of every page of every
    rule (1.3 kB a slot), whoever measures what.
    """
    moved = empty_block(columns, slots)
    for column in columns:
        old = block[column.name]
        touched = np.flatnonzero(old != np.array(column.fill, column.dtype))
        touched = touched[place[touched] >= 0]
        moved[column.name][place[touched]] = old[touched]
    return moved


_OWN_PAGES_BYTES = 1 << 18


def _fresh(column: Column, slots: int) -> Array:
    if column.fill != 0:
        return np.full(slots, column.fill, column.dtype)
    size = slots * np.dtype(column.dtype).itemsize
    if size < _OWN_PAGES_BYTES:
        return np.zeros(slots, column.dtype)
    # Pages of its own: the allocator writes zeros to what was in use before, and a fold of 1.2
    # million slots that took on one more device grew from 0.8 to 2.4 GB.
    # Private ones: shared, they are made when they are only read.
    pages = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    return np.frombuffer(pages, column.dtype)


def number(value: Any) -> float:
    """A float32 of the arrays as the float that every machine prints alike."""
    return float(np.float32(value))
