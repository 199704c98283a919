"""Parameters in force by slot: few distinct sets a rule, made anew at each generation.

A rule for which nobody set anything, or the same for all, has one set and costs nothing more. With
several, a round's rows are split by set and the rule is called once for each.

Points are put into classes first: those whom no row can tell apart, because they share the
smallest area that has a row, the type if it has one, and the device if it has one. Each class is
resolved once a rule, in plain Python; all that is done by slot is one look-up.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from detectors.batch import Rows
from detectors.features import Heat, LateHeat
from detectors.parameters import (
    AREA,
    DEVICE,
    DISTRICT,
    MINUTES_WEEK,
    TYPE,
    Row,
    fits,
    minute_of_week,
    rows_of,
    taken,
)
from detectors.rule import Rule
from detectors.seen import Seen
from sizao.registry.model import LEVELS, View
from sizao.signal import digest

SETS_MAX = 64
"""Of one rule in the district: each is a call of its own, and rules keep what they derive of so
many. `sizao rules set` refuses more; a fold goes on with them, slower.
"""
_DIGITS = 12
_ALWAYS = np.ones(MINUTES_WEEK, np.bool_)
_OWN = LEVELS.index("site")  # a site and what is in it; above are the larger areas

Ints = npt.NDArray[np.int32]
Judged = Rows | Heat | LateHeat | Seen
Place = tuple[str, int]
Candidates = tuple[Row, ...]
"""Rows of one parameter, the first of which whose window holds decides."""


class Set(NamedTuple):
    """Parameters of a rule, and the short hash of rule and values that signals name."""

    params: Any
    digest: str


def set_of(rule: Rule, params: Any) -> Set:
    """Twelve hex digits tell a rule's few sets apart; a set is found again by its generation."""
    return Set(params, digest("parameters", rule.NAME, repr(params))[:_DIGITS])


@dataclass(frozen=True, slots=True)
class Own:
    """Sets of one rule. `plan`: by class, None where one set holds for all at all times; it is the
    set itself, or with windows the row of `week`, which has the set by minute of the UTC week.
    """

    sets: tuple[Set, ...]
    plan: Ints | None = None
    week: npt.NDArray[np.int32] | None = None

    def at(self, kind: Ints, event_us: npt.NDArray[np.int64]) -> Ints:
        """Places in `sets` for classes, at times of which there is one or as many."""
        assert self.plan is not None
        plan = self.plan.take(kind)
        return plan if self.week is None else self.week[plan, minute_of_week(event_us)]


_Slots = list[tuple[Set, npt.NDArray[np.int64] | None]]
_Apart = tuple[bytes, _Slots]
"""Slots by their set, and what tells whether it still is so."""


@dataclass(frozen=True, slots=True)
class Sets:
    """Sets of a fold's rules; `kind` is the class of each slot, where any rule asks for it."""

    by_rule: Mapping[str, Own]
    kind: Ints
    _apart: dict[str, _Apart] = field(default_factory=dict, compare=False)

    def split(self, rule: Rule, rows: Judged) -> list[tuple[Set, Judged]]:
        """Rows by the set that holds for their point at their event's time."""
        own = self.by_rule[rule.NAME]
        if own.plan is None:
            return [(own.sets[0], rows)]
        which = own.at(self.kind.take(rows.slot), rows.event_us)
        present = np.unique(which).tolist()
        if len(present) == 1:
            return [(own.sets[present[0]], rows)]
        return [(own.sets[one], rows.only(np.flatnonzero(which == one))) for one in present]

    def slots(self, rule: Rule, clock_us: int) -> _Slots:
        """Slots by the set that holds at the log's clock; None stands for all.

        Kept until a window begins or ends: asked each second, it took a tenth of a core.
        """
        own = self.by_rule[rule.NAME]
        if own.plan is None:
            return [(own.sets[0], None)]
        now = np.array([clock_us])
        when = b"" if own.week is None else own.week[:, minute_of_week(now)].tobytes()
        if rule.NAME not in self._apart or self._apart[rule.NAME][0] != when:
            which = own.at(self.kind, now)
            present = np.flatnonzero(np.bincount(which)).tolist()
            slots: _Slots = [(own.sets[one], np.flatnonzero(which == one)) for one in present]
            self._apart[rule.NAME] = when, slots
        return self._apart[rule.NAME][1]


def sets_of(view: View, device: Ints, rules: Sequence[Rule], params: Mapping[str, Any]) -> Sets:
    """Sets of `rules` for the devices of a fold's slots; `params` hold where nobody set any."""
    known = {rule.NAME: taken(rule, params[rule.NAME]) for rule in rules}
    rows = [row for row in rows_of(view) if fits(row, known.get(row.rule, {}))]
    if not rows:
        plain = {rule.NAME: Own((set_of(rule, params[rule.NAME]),)) for rule in rules}
        return Sets(plain, np.zeros(0, np.int32))
    kind, chains = classes(view, device, {row.place for row in rows})
    by_rule = {
        rule.NAME: _own(
            rule, params[rule.NAME], [row for row in rows if row.rule == rule.NAME], chains
        )
        for rule in rules
    }
    return Sets(by_rule, kind)


# --- classes --------------------------------------------------------------------------------------


def chain(view: View, *, area: int = 0, kind: int = 0, device: int = 0) -> tuple[Place, ...]:
    """Scopes that may say something, the first that does decides. See parameters.py for the order.

    0: none in particular.
    """
    above = view.path(area)[::-1]
    inner = [(AREA, one.id) for one in above if LEVELS.index(one.level) >= _OWN]
    outer = [(AREA, one.id) for one in above if LEVELS.index(one.level) < _OWN]
    found = [(DEVICE, device), *inner, (TYPE, kind), *outer, (DISTRICT, 0)]
    return tuple(place for place in found if place[1] or place[0] == DISTRICT)


def classes(view: View, device: Ints, places: set[Place]) -> tuple[Ints, list[tuple[Place, ...]]]:
    """Class of each device given, and of each class the scopes of `places` that speak about it."""
    by_scope = {
        DEVICE: device,
        TYPE: view.device_type[device],
        AREA: view.device_area[device],
    }
    packed, said = np.zeros(len(device), np.int64), []
    for scope, ids in by_scope.items():
        scoped = np.array([0, *sorted(one for of, one in places if of == scope)], np.int32)
        if len(scoped) > 1:
            parent = _parents(view) if scope == AREA else np.zeros(0, np.int32)
            packed = packed * len(scoped) + _place(ids, scoped, parent)
        said += [scoped]
    found = np.unique(packed)  # with its inverse it sorts indirectly: half a second at 1.2 M slots
    chains = []
    for one in found.tolist():
        rest, area = divmod(one, len(said[2]))
        own, of_type = divmod(rest, len(said[1]))
        speak = chain(
            view, area=int(said[2][area]), kind=int(said[1][of_type]), device=int(said[0][own])
        )
        chains += [tuple(place for place in speak if place in places)]
    return np.searchsorted(found, packed).astype(np.int32), chains


def _parents(view: View) -> Ints:
    """Parent of each area by id, 0 at the top."""
    parent = np.zeros(max(view.areas, default=0) + 1, np.int32)
    parent[list(view.areas)] = [area.parent for area in view.areas.values()]
    return parent


def _place(ids: Ints, scoped: Ints, parent: Ints) -> Ints:
    """Place in `scoped` of each id, or else of the nearest above it; 0 where none is there."""
    size = max(int(ids.max(initial=0)), int(scoped[-1]), len(parent) - 1) + 1
    table, up = np.zeros(size, np.int32), np.zeros(size, np.int32)
    table[scoped] = np.arange(len(scoped))
    up[: len(parent)] = parent
    above = up
    for _ in LEVELS if len(parent) else ():
        table = np.where(table > 0, table, table[above])
        above = up[above]
    return table[ids]


# --- one rule -------------------------------------------------------------------------------------


def _own(rule: Rule, params: Any, rows: Sequence[Row], chains: Sequence[tuple[Place, ...]]) -> Own:
    by_place: dict[Place, list[Row]] = {}
    for row in rows:
        by_place.setdefault(row.place, []).append(row)
    plans: dict[tuple[Any, ...], int] = {}
    weeks: list[list[tuple[Set, npt.NDArray[np.bool_]]]] = []
    plan = np.zeros(len(chains), np.int32)
    for index, places in enumerate(chains):
        chosen = candidates(row for place in places for row in by_place.get(place, ()))
        said = tuple((name, tuple((r.value, r.window) for r in chosen[name])) for name in chosen)
        if said not in plans:
            plans[said] = len(plans)
            weeks += [list(week_of(rule, params, chosen))]
        plan[index] = plans[said]
    sets = list(dict.fromkeys(each for week in weeks for each, _ in week))
    if len(sets) == 1:
        return Own((sets[0],))
    if all(len(week) == 1 for week in weeks):
        direct = np.array([sets.index(week[0][0]) for week in weeks], np.int32)
        return Own(tuple(sets), direct[plan])
    table = np.zeros((len(weeks), MINUTES_WEEK), np.int32)
    for index, week in enumerate(weeks):
        for each, when in week:
            table[index, when] = sets.index(each)
    return Own(tuple(sets), plan, table)


def candidates(rows: Iterable[Row]) -> dict[str, Candidates]:
    """Rows that may decide each parameter, best first; `rows` come scope by scope, best first."""
    found: dict[str, dict[Place, list[Row]]] = {}
    for row in rows:
        found.setdefault(row.parameter, {}).setdefault(row.place, []).append(row)
    chosen = {}
    for name in sorted(found):
        best: list[Row] = []
        for of_place in found[name].values():
            best += sorted(of_place, key=lambda row: (row.window.always, -row.id))
            if best[-1].window.always:
                break
        chosen[name] = tuple(best)
    return chosen


def week_of(
    rule: Rule, params: Any, chosen: Mapping[str, Candidates]
) -> Iterable[tuple[Set, npt.NDArray[np.bool_]]]:
    """The sets that these rows make, and when each holds, by minute of the UTC week."""
    known = taken(rule, params)
    if all(rows[0].window.always for rows in chosen.values()):
        given = {name: known[name].of(rows[0].value) for name, rows in chosen.items()}
        yield set_of(rule, dataclasses.replace(params, **given) if given else params), _ALWAYS
        return
    value = {}
    for name, rows in chosen.items():
        week = np.full(MINUTES_WEEK, known[name].shipped, np.float64)
        for row in reversed(rows):
            week[row.window.week()] = row.value
        value[name] = week
    at_once = np.stack(list(value.values()))
    # Few minutes differ from the one before. A sort of them took 12 ms, and each site that has
    # hours of its own took one.
    starts = [0, *(np.flatnonzero((at_once[:, 1:] != at_once[:, :-1]).any(axis=0)) + 1).tolist()]
    held: dict[tuple[float, ...], npt.NDArray[np.bool_]] = {}
    for start, end in zip(starts, [*starts[1:], MINUTES_WEEK], strict=True):
        values = tuple(at_once[:, start].tolist())
        held.setdefault(values, np.zeros(MINUTES_WEEK, np.bool_))[start:end] = True
    for values in sorted(held):
        given = {name: known[name].of(item) for name, item in zip(value, values, strict=True)}
        yield set_of(rule, dataclasses.replace(params, **given)), held[values]
