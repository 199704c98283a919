"""What people may set of the rules, and what they have set: rows of the registry.

A row gives one parameter of one rule a value for a scope, always or in a window of the week. What
holds for a point is what the first of these has that says anything, at the event's time:

    its device > unit, zone, floor, site > its type > estate, grid, community, street, district

then the shipped value. A person who names a device, a room or a building knows what is there (a
kitchen, a sauna, a hall with trucks), and knows more than one who speaks about a product wherever
it hangs; a product's nature (a noisy chip, a slow housing) outweighs what somebody wished for a
street, which is a policy for whatever has no better. Within a scope a window outweighs what holds
always, and the newest of two windows the older.

Windows are of the reading's event time, in the local time that the row keeps, never of a clock: a
late reading is judged as it would have been in time, and a replay judges as the first run did.

An onset that is on survives a change. Ids of signals name the rule's version and not its
parameters: another limit makes no other onset of a fire that is on, and nobody is paged twice. It
is over when the parameters then in force call it calm.

The temperature features (features.Params) are no rule's and cannot be set: every heat rule rests
on one baseline a point, all of them were measured on these figures together, and a baseline that
changed its time constant half-way could be recomputed by nobody. `heat_fixed` and `direct` stay as
shipped where the bridge says the same past Kafka (sizao/limits.py): two opinions would page twice.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from detectors.rule import Bound, Rule
from sizao.registry.model import View

MINUTES_DAY = 1440
MINUTES_WEEK = 7 * MINUTES_DAY
ALL_DAYS = 127
DISTRICT, AREA, TYPE, DEVICE = "district", "area", "type", "device"

SHARED: Mapping[str, Bound] = MappingProxyType({
    "samples_count": Bound(1, 2, "one may be corrupt; no latch of ours counts further than two"),
    "clear_share": Bound(0.1, 0.95, "without a band it flickers; near zero it is never over"),
    "clear_s": Bound(10, 3600, "a minute's lull is no end; after an hour of calm it is one"),
    "rearm_s": Bound(600, 180_000, "a flicker is no second fire; two days mute are too many"),
    "gap_s": Bound(1800, 180_000, "shorter than a device's interval, all its readings are first"),
    "late_apart_s": Bound(60, 86_400, "one report interval at least, a day at most"),
    "tau_s": Bound(600, 86_400, "faster, the baseline follows a fire"),
    "tau_fall_s": Bound(60, 86_400, "faster, one low reading moves the baseline"),
    "jump_k": Bound(8, 50, "noise is no jump; above, corrupt readings move the baseline"),
    "clip_k": Bound(1, 15, "higher, a fire drags its baseline up"),
    "warm_s": Bound(300, 3600, "a few readings at least; longer, nothing is judged"),
    "counted_s": Bound(60, 1800, "one reading is no baseline"),
    "verify_m_count": Bound(1, 4, "m of n readings; a fourth is long after the first"),
    "verify_n_count": Bound(1, 8, "of so many a rule remembers which were over"),
    "verify_window_s": Bound(1800, 86_400, "0 is none; shorter than m intervals it is never met"),
    "clear_below_k": Bound(2, 30, "without a band it flickers; colder than that it never is"),
})  # fmt: skip
"""Bounds by name, for rules that say nothing else."""

_UNITS = {
    "k": "K", "c": "degC", "s": "s", "m": "m", "per_m": "1/m", "ma": "mA", "kpa": "kPa",
    "ppm": "ppm", "pct": "%", "deg": "deg", "per_h": "m3/h", "count": "", "samples": "",
    "share": "",
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """A parameter that a rule takes."""

    name: str
    shipped: float
    bound: Bound
    whole: bool
    unit: str

    @property
    def fixed(self) -> bool:
        """Whether it stays as shipped."""
        return self.bound.low == self.bound.high

    def fault(self, value: float) -> str:
        """What is wrong with a value; empty where nothing is."""
        low, high, reason = self.bound
        if value == self.shipped:
            return ""
        if self.fixed:
            return f"got {value:g}, expected {self.shipped:g}, as shipped: {reason}"
        if not low <= value <= high:
            unit = f" {self.unit}" if self.unit else ""
            return f"got {value:g}, expected {low:g} to {high:g}{unit}: {reason}"
        if self.whole and value != int(value):
            return f"got {value:g}, expected a whole number"
        return ""

    def of(self, value: float) -> float:
        """The value as the rule takes it."""
        return int(value) if self.whole else float(value)


def taken(rule: Rule, params: Any = None) -> dict[str, Taken]:
    """What a rule takes, by name; `params` are those in force where nobody set any."""
    params = rule.Params() if params is None else params
    own: Mapping[str, Bound] = getattr(rule, "BOUNDS", {})
    found = {}
    for name in getattr(params, "__dataclass_fields__", ()):
        bound = own.get(name) or SHARED.get(name)
        if bound is not None:
            shipped = getattr(params, name)
            found[name] = Taken(
                name=name, shipped=shipped, bound=bound, whole=isinstance(shipped, int),
                unit=_unit(name),
            )  # fmt: skip
    return found


def _unit(name: str) -> str:
    parts = name.split("_")
    return _UNITS.get("_".join(parts[-2:])) or _UNITS.get(parts[-1], "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """Part of each week in local time, `offset_minutes` ahead of UTC. From a minute to itself is a
    day; before itself reaches over midnight. `days`: bit 0 is Monday, of the day it begins on.
    """

    from_minute: int = 0
    to_minute: int = 0
    days: int = ALL_DAYS
    offset_minutes: int = 0

    @property
    def always(self) -> bool:
        """Whether it is the whole week."""
        return self.from_minute == self.to_minute and self.days == ALL_DAYS

    def week(self) -> npt.NDArray[np.bool_]:
        """Whether it holds, by minute of the UTC week, from Monday 0:00."""
        local = np.zeros(MINUTES_WEEK, np.bool_)
        length = (self.to_minute - self.from_minute) % MINUTES_DAY or MINUTES_DAY
        for day in range(7):
            if self.days >> day & 1:
                begin = day * MINUTES_DAY + self.from_minute
                local[np.arange(begin, begin + length) % MINUTES_WEEK] = True
        return np.roll(local, -self.offset_minutes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One row of the registry's rule_parameter."""

    id: int
    rule: str
    parameter: str
    scope: str
    scope_id: int
    value: float
    window: Window

    @property
    def place(self) -> tuple[str, int]:
        """Its scope."""
        return self.scope, self.scope_id


def rows_of(view: View) -> list[Row]:
    """All rows that hold at a generation."""
    names = ("from_minute", "to_minute", "days", "offset_minutes")
    return [
        Row(
            window=Window(**{name: row[name] for name in names}),
            **{name: item for name, item in row.items() if name not in names},
        )
        for row in view.parameters
    ]


def ignored(rows: Iterable[Row], rules: Sequence[Rule]) -> list[Row]:
    """Rows that these rules do not take: another version of the program wrote them, and they are
    left out, so that what is shipped holds, or the next scope.
    """
    known = {rule.NAME: taken(rule) for rule in rules}
    return [row for row in rows if not fits(row, known.get(row.rule, {}))]


def fits(row: Row, known: Mapping[str, Taken]) -> bool:
    """Whether a rule takes what a row says."""
    one = known.get(row.parameter)
    return one is not None and not one.fault(row.value)


def minute_of_week(event_us: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Minute of the UTC week; 1970 began on a Thursday."""
    return (event_us // 60_000_000 + 3 * MINUTES_DAY) % MINUTES_WEEK
