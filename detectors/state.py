"""One fold: the state of one (topic, partition), moved by its frames in log order.

State = fold of the log. `fold` gets one frame at a time, so how records were batched on their way
can change nothing. It reads no clock: time is event time, and the log's clock, which is the least
of the configured writers' newest `received_us` and never goes back (heartbeat frames move it).

Cost: one sort of the frame's judged rows, then array operations per round; Python objects only for
rows that produce signals.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from detectors import batch, channels, features, joined, moisture, tables
from detectors.batch import Rows
from detectors.moisture import Moist
from detectors.rule import (
    Array,
    Block,
    Finding,
    Hear,
    Judge,
    Points,
    Rule,
    Tick,
    empty_block,
    hear_of,
    key_of,
    late_of,
    move_block,
    tick_of,
)
from detectors.sets import Set, Sets
from detectors.waiting import Waiting
from sizao.frame import Frame
from sizao.registry.model import View
from sizao.signal import Signal, Subject, SubjectType, make
from sizao.units import Lane

SECOND_US = 1_000_000
PAST_US = 17 * 24 * 3600 * SECOND_US
"""The bridge lets device times lie 48 h back, and a reject may be replayed for 14 days: an alarm in
it is raised late, never dropped. The rest is for frames that waited for Kafka.
"""
FUTURE_US = 3600 * SECOND_US
"""The bridge lets device times lie 60 s ahead of its clock."""
FEATURES = "features@1"
"""Name of the block that all heat rules share."""
MOISTURE = "moisture@1"
"""Name of the block of the humidity beside them."""


class Discard(StrEnum):
    """Why a row went no further: closed label of the counter."""

    DUPLICATE = "duplicate"  # same point and event time as a reading already judged
    ELSEWHERE = "elsewhere"  # the point lives in another partition or lane
    UNKNOWN_POINT = "unknown_point"  # the registry did not know it within 10 s
    UNKNOWN_FULL = "unknown_full"  # no room to wait for the registry
    EVENT_TIME = "event_time"  # event time farther from arrival than any bridge lets pass
    RANGE = "range"  # outside what a sensor of the quantity can report, or no state at all


@dataclass(frozen=True, kw_only=True)
class Setup:
    """What does not change while a process runs. `writers` of a lane hold its log's clock.

    Without `writers` every frame moves the clock.
    """

    rules: tuple[Rule, ...]
    params: Mapping[str, Any]
    writers: Mapping[Lane, tuple[str, ...]] = field(default_factory=dict)
    heat: features.Params = field(default_factory=features.Params)
    places: channels.Params = field(default_factory=channels.Params)

    def of(self, lane: Lane) -> tuple[Rule, ...]:
        """The rules of one lane."""
        return tuple(rule for rule in self.rules if rule.LANE is lane)


def setup_of(rules: Sequence[Rule], bridges: Sequence[str] = ()) -> Setup:
    """Rules with their shipped parameters.

    A bridge writes as `<bridge>.<lane>`; its alarm connection writes readings too, so both hold
    the clock of the readings.
    """
    params = {rule.NAME: rule.Params() for rule in rules}
    alarm = tuple(f"{bridge}.{Lane.ALARM}" for bridge in bridges)
    telemetry = tuple(f"{bridge}.{Lane.TELEMETRY}" for bridge in bridges)
    writers = {Lane.ALARM: alarm, Lane.TELEMETRY: alarm + telemetry}
    return Setup(rules=tuple(rules), params=params, writers=writers)


class Last(NamedTuple):
    """Which frame stands before `next_offset`: no two have the same writer and sequence."""

    writer: str
    sequence: int
    received_us: int


def last_of(frame: Frame) -> Last:
    """What names a frame."""
    return Last(frame.writer, frame.sequence, frame.received_us)


@dataclass(slots=True)
class State:
    """A fold. `fold` mutates it in place; `blocks` by `key_of(rule)`, and FEATURES."""

    lane: Lane
    partition: int
    setup: Setup
    rules: tuple[Rule, ...]
    groups: tuple[tables.Group, ...]
    ticks: tuple[tuple[Rule, Tick], ...]  # the rules that judge time passing
    hears: tuple[tuple[Rule, Hear], ...]  # the rules that judge who speaks
    view: View
    points: Points
    sets: Sets  # parameters in force
    readers: npt.NDArray[np.uint32]  # by slot, a bit for each group that reads its quantity
    humidity: npt.NDArray[np.int32]  # by slot, see moisture.Moist
    all_judged: bool  # every slot has one
    point: npt.NDArray[np.int32]  # registry id by slot
    lookup: npt.NDArray[np.int32]  # slot by registry id; the last item stands for unknown ids
    blocks: dict[str, Block]
    next_offset: int = 0
    last: Last | None = None  # None where the record was no frame, or is not known
    clock_us: int = 0
    ticked_s: int = 0
    heard_us: dict[str, int] = field(default_factory=dict)  # newest received_us by writer
    waiting: Waiting = field(default_factory=Waiting)
    discards: Counter[Discard] = field(default_factory=Counter)

    @property
    def moist(self) -> Moist:
        """The humidity beside thermometers."""
        return Moist(self.blocks[MOISTURE], self.humidity)

    @property
    def slots(self) -> int:
        """Number of points known."""
        return len(self.point)


def start(lane: Lane, partition: int, view: View, setup: Setup) -> State:
    """A cold fold."""
    rules = setup.of(lane)
    groups = tables.groups_of(rules)
    state = State(
        lane=lane,
        partition=partition,
        setup=setup,
        rules=rules,
        groups=groups,
        ticks=tuple((rule, tick) for rule in rules if (tick := tick_of(rule)) is not None),
        hears=tuple((rule, hear) for rule in rules if (hear := hear_of(rule)) is not None),
        view=view,
        blocks={},
        heard_us=dict.fromkeys(setup.writers.get(lane, ()), 0),
        **tables.tables_of(lane, partition, view, rules, groups, setup.params),
    )
    for key, columns in columns_of(state).items():
        state.blocks[key] = empty_block(columns, state.slots)
    return state


def columns_of(state: State) -> dict[str, tuple[Any, ...]]:
    """Columns of every block this fold needs, by block name."""
    wanted = {key_of(rule): rule.COLUMNS for rule in state.rules}
    if any(group.heat for group in state.groups):
        wanted[FEATURES] = features.COLUMNS
        wanted[MOISTURE] = moisture.COLUMNS
    if state.points.beside is not None:
        wanted[joined.BLOCK] = channels.COLUMNS
    return wanted


def adopt(state: State, view: View) -> None:
    """Go on with a newer generation: every point keeps its state, new ones are untouched."""
    old = state.point
    of = (state.lane, state.partition, view, state.rules, state.groups, state.setup.params)
    for name, item in tables.tables_of(*of).items():
        setattr(state, name, item)
    state.view = view
    if not np.array_equal(state.point, old):
        place = state.lookup[old]
        for key, columns in columns_of(state).items():
            state.blocks[key] = move_block(state.blocks[key], columns, state.slots, place)


def fold(state: State, view: View, frame: Frame, offset: int) -> tuple[State, list[Signal]]:
    """Apply one frame; `state` is mutated in place and returned.

    `view`: of the frame's generation, or the fold's own where that is newer.
    """
    adopts = view.generation > state.view.generation
    if adopts:
        adopt(state, view)
    _advance(state, frame)
    expired = state.waiting.expire(state.clock_us)
    if expired:
        state.discards[Discard.UNKNOWN_POINT] += expired
    found: list[Signal] = []
    for waited in state.waiting.take() if adopts else ():
        found += _judge(state, waited, frame.received_us)  # what is still unknown waits on
    if frame.rows:
        found += _judge(state, frame, frame.received_us)
    if state.clock_us // SECOND_US > state.ticked_s:
        # Once a second of the log's clock: with 40,000 onsets on, a look costs 0.3 ms.
        state.ticked_s = state.clock_us // SECOND_US
        found += _tick(state)
    state.next_offset, state.last = offset + 1, last_of(frame)
    return state, found


def skip(state: State, offset: int) -> None:
    """Pass over a record that is no frame."""
    state.next_offset, state.last = offset + 1, None


def _advance(state: State, frame: Frame) -> None:
    if not state.heard_us:
        state.clock_us = max(state.clock_us, frame.received_us)
    elif frame.writer in state.heard_us:
        heard_us = max(state.heard_us[frame.writer], frame.received_us)
        state.heard_us[frame.writer] = heard_us
        state.clock_us = max(state.clock_us, min(state.heard_us.values()))


def _tick(state: State) -> list[Signal]:
    found: list[Signal] = []
    for rule, tick in state.ticks:
        block = state.blocks[key_of(rule)]
        for used, slots in state.sets.slots(rule, state.clock_us):
            said = tick(block, used.params, state.clock_us, state.points, slots)
            found += [_signal(state, rule, used, finding, state.clock_us) for finding in said]
    return found


def _judge(state: State, frame: Frame, received_us: int) -> list[Signal]:
    """Signals of a frame's rows, said at `received_us`."""
    rows = _known(state, frame)
    if not len(rows.slot):
        return []
    telemetry = state.lane is Lane.TELEMETRY
    area = state.points.area if telemetry else None
    in_order, twice = batch.rounds(rows, keep_changes=not telemetry, area=area)
    if twice:
        state.discards[Discard.DUPLICATE] += twice
    found: list[Signal] = []
    for each in in_order:
        for rule, used, findings in _round(state, each):
            found += [_signal(state, rule, used, finding, received_us) for finding in findings]
    of = (state.rules, state.blocks, state.setup.places, rows, state.points)
    again = len(in_order) > 1 or twice > 0
    for rule, used, findings in joined.judge(*of, partial(_ask, state), again=again):
        found += [_signal(state, rule, used, finding, received_us) for finding in findings]
    return found


_Said = tuple[Rule, Set, list[Finding]]


def _round(state: State, rows: Rows) -> list[_Said]:
    """Hand each rule the rows that it reads; one whose quantity is not there costs nothing."""
    found: list[_Said] = []
    readers = state.readers.take(rows.slot)
    some = int(np.bitwise_or.reduce(readers))
    if some & tables.MOIST:
        state.moist.take(rows.only(np.flatnonzero(readers & np.uint32(tables.MOIST))))
    for place, group in enumerate(state.groups):
        bit = 1 << place
        if some & bit:
            mine = rows
            if some != bit:
                mine = rows.only(np.flatnonzero(readers & np.uint32(bit)))
            if group.heat:
                found += _round_of_heat(state, group.rules, mine)
            else:
                found += _round_as_they_came(state, group.rules, mine)
    return found


def _known(state: State, frame: Frame) -> Rows:
    """The rows that rules may see; the others are counted, or wait."""
    slot = state.lookup.take(frame.point, mode="clip")
    keep: Array | None = None
    if int(slot.min()) < 0:
        keep = slot >= 0
        state.discards[Discard.ELSEWHERE] += int(np.count_nonzero(slot == tables.ELSEWHERE))
        refused = state.waiting.put(frame, slot == tables.UNKNOWN)
        if refused:
            state.discards[Discard.UNKNOWN_FULL] += refused
    _hear(state, frame, slot if keep is None else slot[keep])
    if not state.all_judged:
        read = state.readers.take(slot, mode="clip") != 0
        keep = read if keep is None else keep & read
    rows = Rows(frame.received_us, slot.astype(np.int64), frame.event_us, frame.value, frame.flags)
    if keep is not None:
        rows = rows.only(keep)
    return _plausible(state, rows)


def _hear(state: State, frame: Frame, slot: npt.NDArray[np.int32]) -> None:
    """Tell who speaks. What another than the bridges writes is no word of a device: a reject that
    is replayed after days is not one of today.
    """
    if not state.heard_us or frame.writer in state.heard_us:
        for rule, hear in state.hears:
            hear(state.blocks[key_of(rule)], frame.received_us, slot, state.points)


def _plausible(state: State, rows: Rows) -> Rows:
    """Rows within the bounds of time and of their quantity."""
    if not len(rows.slot):
        return rows
    first_us, last_us = max(1, rows.received_us - PAST_US), rows.received_us + FUTURE_US
    if int(rows.event_us.min()) < first_us or int(rows.event_us.max()) > last_us:
        good = (rows.event_us >= first_us) & (rows.event_us <= last_us)
        state.discards[Discard.EVENT_TIME] += int(np.count_nonzero(~good))
        rows = rows.only(good)
    quantity = state.points.quantity.take(rows.slot)
    good = (rows.value >= tables.LOWEST.take(quantity)) & (
        rows.value <= tables.HIGHEST.take(quantity)
    )
    if state.lane is Lane.ALARM:
        good &= rows.value == np.rint(rows.value)
    bad = len(good) - int(np.count_nonzero(good))
    if bad:
        state.discards[Discard.RANGE] += bad
        rows = rows.only(good)
    return rows


def _round_as_they_came(state: State, rules: tuple[Rule, ...], rows: Rows) -> list[_Said]:
    found: list[_Said] = []
    for rule in rules:
        found += _ask(state, rule, rule.step, rows)
    return found


def _round_of_heat(state: State, rules: tuple[Rule, ...], rows: Rows) -> list[_Said]:
    block = state.blocks[FEATURES]
    ordered, late, twice = features.split(block, state.setup.heat, rows, state.moist)
    if twice:
        state.discards[Discard.DUPLICATE] += twice
    found: list[_Said] = []
    for rule in rules if late is not None and len(late.slot) else ():
        judge = late_of(rule)
        if judge is not None:
            found += _ask(state, rule, judge, late)
    if len(ordered.slot):
        limit_c = state.points.heat_limit_c
        heat = features.update(block, state.setup.heat, ordered, state.moist, limit_c)
        for rule in rules:
            found += _ask(state, rule, rule.step, heat)
    return found


def _ask(state: State, rule: Rule, judge: Judge, rows: Any) -> list[_Said]:
    """What a rule says, once for each set of its parameters that holds for some of the rows."""
    block = state.blocks[key_of(rule)]
    return [
        (rule, used, judge(block, used.params, some, state.points))
        for used, some in state.sets.split(rule, rows)
    ]


def _signal(state: State, rule: Rule, used: Set, finding: Finding, received_us: int) -> Signal:
    point = int(state.point[finding.slot])
    device = int(state.view.point_device[point])
    about = device if finding.about is SubjectType.DEVICE else point
    return make(
        rule=rule.NAME,
        rule_version=rule.VERSION,
        kind=finding.kind,
        tier=finding.tier,
        phase=finding.phase,
        subject=Subject(type=finding.about, id=str(about)),
        site=int(state.view.point_site[point]),
        device=device,
        onset_us=finding.onset_us,
        event_us=finding.event_us,
        received_us=received_us,
        generation=state.view.generation,
        evidence=finding.evidence | {"rule_parameters": used.digest},
        late=finding.late,
        self_test=finding.self_test,
    )
