"""What `sizao rules` decides: words of a person into rows, and rows back into words."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from detectors import sets
from detectors.parameters import ALL_DAYS, AREA, DEVICE, DISTRICT, TYPE, Row, Window, rows_of, taken
from detectors.rule import Rule
from detectors.sets import SETS_MAX, Ints, Own, Place, Set
from sizao.document import one_of
from sizao.errors import BadInput
from sizao.registry.model import View
from sizao.registry.write import ParameterRow
from sizao.units import BY_NAME

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_TIME = re.compile(r"([01][0-9]|2[0-3]):([0-5][0-9])|24:00")
_OFFSET = re.compile(r"([+-])(0[0-9]|1[0-4]):([0-5][0-9])")
ALWAYS = Window()


@dataclass(frozen=True, slots=True, kw_only=True)
class Where:
    """A scope as a person names it: exactly one of them; `carrier` goes with `device`."""

    district: bool = False
    area: str = ""
    site: str = ""
    type: str = ""
    device: str = ""
    carrier: str = ""


# --- words in -------------------------------------------------------------------------------------


def rule_named(name: str, rules: Iterable[Rule]) -> Rule:
    """The rule. Raises BadInput with the nearest name."""
    known = {rule.NAME: rule for rule in rules}
    if name not in known:
        raise BadInput(f"rule {name}: expected {one_of(name, known)}")
    return known[name]


def values_of(rule: Rule, words: Sequence[str]) -> dict[str, float]:
    """NAME=VALUE words. Raises BadInput with every fault."""
    known, found, faults = taken(rule), {}, []
    for word in words:
        name, given, text = word.partition("=")
        if name not in known:
            faults += [f"{rule.NAME}: {name}: expected {one_of(name, known)}"]
            continue
        try:
            value = float(text)
            fault = known[name].fault(value)
        except ValueError:
            fault = f"got {text!r}, expected a number" if given else "expected NAME=VALUE"
        if not fault and name in found:
            fault = "got it twice, expected it once"
        if fault:
            faults += [f"{rule.NAME}: {name}: {fault}"]
        else:
            found[name] = value
    if faults:
        raise BadInput("\n".join(faults))
    return found


def names_of(rule: Rule, words: Sequence[str]) -> list[str]:
    """Names of parameters. Raises BadInput with the nearest name."""
    known = taken(rule)
    faults = [f"{rule.NAME}: {name}: expected {one_of(name, known)}" for name in words
              if name not in known]  # fmt: skip
    if faults:
        raise BadInput("\n".join(faults))
    return list(dict.fromkeys(words))


def offset_of(text: str) -> int:
    """Minutes ahead of UTC of +08:00. Raises BadInput."""
    match = _OFFSET.fullmatch(text)
    if match is None or (match[2] == "14" and match[3] != "00"):
        raise BadInput(f"UTC offset {text!r}: expected such as +08:00, -14:00 to +14:00")
    minutes = int(match[2]) * 60 + int(match[3])
    return -minutes if match[1] == "-" else minutes


def window_of(between: str, days: str, offset_minutes: int) -> Window:
    """Of 22:00-06:00 and mon-fri or sat,sun; empty stands for always. Raises BadInput."""
    if not between and not days:
        return ALWAYS
    begin, end = _times(between) if between else (0, 0)
    return Window(from_minute=begin, to_minute=end, days=_days(days), offset_minutes=offset_minutes)


def _times(between: str) -> tuple[int, int]:
    begin, _, end = between.partition("-")
    if not (_TIME.fullmatch(begin) and _TIME.fullmatch(end)) or begin == "24:00":
        raise BadInput(f"--between {between}: expected such as 22:00-06:00")
    found = [int(text[:2]) * 60 + int(text[3:]) for text in (begin, end)]
    if found[0] == found[1]:
        raise BadInput(f"--between {between}: empty; leave it out for the whole day")
    return found[0], found[1] % 1440


def _days(days: str) -> int:
    found = 0
    for part in days.lower().split(",") if days else ():
        first, dash, last = part.partition("-")
        if first not in DAYS or (dash and last not in DAYS):
            raise BadInput(f"--days {days}: expected such as mon-fri or sat,sun")
        begin, length = DAYS.index(first), (DAYS.index(last or first) - DAYS.index(first)) % 7
        for day in range(begin, begin + length + 1):
            found |= 1 << day % 7
    return found or ALL_DAYS


def place_of(view: View, where: Where) -> Place:
    """The scope's registry id. Raises BadInput for one that is not registered, or unclear."""
    said = [name for name in ("district", AREA, "site", TYPE, DEVICE) if getattr(where, name)]
    if len(said) != 1:
        options = "--district, --area, --site, --type, --device"
        raise BadInput(f"got {len(said)} scopes, expected one of {options}")
    if where.district:
        return DISTRICT, 0
    if where.type:
        types = {kind.name: kind.id for kind in view.types.values()}
        return TYPE, _known("--type", where.type, types)
    if where.device:
        return DEVICE, _device(view, where)
    option, code = ("--area", where.area) if where.area else ("--site", where.site)
    level = "site" if where.site else ""
    codes = {one.code: one.id for one in view.areas.values() if level in {"", one.level}}
    area = _known(option, code, codes)
    return (DISTRICT, 0) if view.areas[area].level == DISTRICT else (AREA, area)


def _known(option: str, word: str, known: Mapping[str, int]) -> int:
    if word not in known:
        near = one_of(word, known).partition("; nearest: ")[2]
        hint = f"; nearest: {near}" if near else ""
        raise BadInput(f"{option} {word}: not registered{hint}")
    return known[word]


def _device(view: View, where: Where) -> int:
    carrier, _, key = where.device.rpartition("/")
    carrier = where.carrier or carrier
    found = {
        name: devices[key] for name, devices in view.roster.items()
        if key in devices and carrier in {"", name}
    }  # fmt: skip
    if not found:
        raise BadInput(f"--device {where.device}: not registered" + (
            f" under carrier {carrier}" if carrier else ""))  # fmt: skip
    if len(found) > 1:
        names = ", ".join(sorted(found)[:5])
        raise BadInput(f"--device {key}: under {names}: say which with --carrier")
    return next(iter(found.values()))


# --- a change -------------------------------------------------------------------------------------


def to_set(
    view: View, rule: Rule, place: Place, values: Mapping[str, float], window: Window,
    *, who: str, why: str,
) -> list[ParameterRow]:  # fmt: skip
    """Rows that set values. Raises BadInput where windows of a scope overlap."""
    week = window.week()
    for row in rows_of(view):
        same = row.rule == rule.NAME and row.place == place and row.parameter in values
        apart = window.always or row.window.always or _same(row.window, window)
        if same and not apart and bool((row.window.week() & week).any()):
            raise BadInput(
                f"{rule.NAME}: {row.parameter}: {shown_window(row.window)} is set at this scope"
                " already and overlaps: unset it first"
            )
    return [_row(rule, name, place, value, window, who, why) for name, value in values.items()]


def to_unset(
    view: View, rule: Rule, place: Place, names: Sequence[str], window: Window | None,
    *, who: str, why: str,
) -> list[ParameterRow]:  # fmt: skip
    """Rows that end what is set, all windows of it where none is given, all where no name is.

    Raises BadInput where a name is set in no such way.
    """
    found = [
        row for row in rows_of(view)
        if row.rule == rule.NAME and row.place == place
        and (not names or row.parameter in names)
        and (window is None or _same(row.window, window))
    ]  # fmt: skip
    missing = sorted(set(names) - {row.parameter for row in found})
    if missing or not found:
        raise BadInput(f"{rule.NAME}: {', '.join(missing) or 'nothing'} is set at this scope")
    return [_row(rule, row.parameter, place, None, row.window, who, why) for row in found]


def _same(one: Window, other: Window) -> bool:
    return dataclasses.replace(one, offset_minutes=0) == dataclasses.replace(
        other, offset_minutes=0
    )


def _row(
    rule: Rule, name: str, place: Place, value: float | None, window: Window, who: str, why: str
) -> ParameterRow:
    scope, scope_id = place
    return ParameterRow(
        rule=rule.NAME, parameter=name, scope=scope, scope_id=scope_id, value=value,
        who=who, why=why, **dataclasses.asdict(window),
    )  # fmt: skip


def after(view: View, changes: Sequence[ParameterRow]) -> View:
    """The district as it would be."""
    keys = ("rule", "parameter", "scope", "scope_id", "from_minute", "to_minute", "days")

    def key(row: Mapping[str, Any]) -> tuple[Any, ...]:
        return tuple(row[name] for name in keys)

    rows = {key(row): row for row in view.parameters}
    number = max((row["id"] for row in view.parameters), default=0)
    for change in changes:
        row = dataclasses.asdict(change)
        old = rows.pop(key(row), None)
        del row["who"], row["why"]
        if change.value is not None:
            number += 1
            rows[key(row)] = row | {"id": number if old is None else old["id"]}
    return dataclasses.replace(view, parameters=list(rows.values()))


@dataclass(frozen=True, slots=True, kw_only=True)
class Effect:
    """What a change would do: points and devices that would be judged otherwise, and how many sets
    the rule then has in the district.
    """

    devices: int
    points: int
    sets: int


def effect(before: View, then: View, rule: Rule) -> Effect:
    """Compare two views that differ in parameters alone."""
    # One that reads nothing hears all.
    codes = [BY_NAME[name].code for name in rule.READS or BY_NAME]
    point = np.flatnonzero(before.point_live & np.isin(before.point_quantity, codes))
    device = before.point_device[point]
    old, new = (_own(view, device, rule) for view in (before, then))
    pairs = np.stack([old[1], new[1]])
    kinds, place = np.unique(pairs, axis=1, return_inverse=True)
    differs = np.array(
        [_weekly(old[0], a) != _weekly(new[0], b) for a, b in kinds.T.tolist()], np.bool_
    )
    changed = differs[place.reshape(-1)] if len(point) else np.zeros(0, np.bool_)
    return Effect(
        devices=len(np.unique(device[changed])),
        points=int(np.count_nonzero(changed)),
        sets=len(new[0].sets),
    )


def check(found: Effect, rule: Rule) -> None:
    """Raise BadInput for more sets than a fold judges by at full speed."""
    if found.sets > SETS_MAX:
        raise BadInput(
            f"{rule.NAME}: {found.sets} different sets of parameters in the district, at most"
            f" {SETS_MAX} fit: set areas or types alike instead of single devices"
        )


def _own(view: View, device: Ints, rule: Rule) -> tuple[Own, Ints]:
    found = sets.sets_of(view, device, [rule], {rule.NAME: rule.Params()})
    own = found.by_rule[rule.NAME]
    plan = np.zeros(len(device), np.int32) if own.plan is None else own.plan.take(found.kind)
    return own, plan


def _weekly(own: Own, plan: int) -> list[str]:
    """Digest by minute of the week; a single one where it is always the same."""
    places = [plan] if own.week is None else own.week[plan].tolist()
    found = [own.sets[place].digest for place in places]
    return found[:1] if len(set(found)) == 1 else found


# --- words out ------------------------------------------------------------------------------------


def chain_of(view: View, place: Place) -> tuple[Place, ...]:
    """Scopes that may say something about what lies in `place`, the first that does decides."""
    scope, one = place
    if scope == DEVICE:
        area, kind = int(view.device_area[one]), int(view.device_type[one])
        return sets.chain(view, area=area, kind=kind, device=one)
    return sets.chain(view, area=one if scope == AREA else 0, kind=one if scope == TYPE else 0)


def in_force(view: View, rule: Rule, place: Place) -> dict[str, tuple[Row, ...]]:
    """Rows that decide each parameter in `place`, those with a window first."""
    known = taken(rule)
    rows = [row for row in rows_of(view) if row.rule == rule.NAME and row.parameter in known
            and not known[row.parameter].fault(row.value)]  # fmt: skip
    return sets.candidates(row for one in chain_of(view, place) for row in rows if row.place == one)


def sets_in(view: View, rule: Rule, place: Place) -> list[Set]:
    """The sets that hold in `place`, each at its times: what a signal's `rule_parameters` names."""
    return [each for each, _ in sets.week_of(rule, rule.Params(), in_force(view, rule, place))]


def shown_place(view: View, place: Place) -> str:
    """As a person names it."""
    scope, one = place
    if scope == AREA and one in view.areas:
        return f"{view.areas[one].level} {view.areas[one].code}"
    if scope == TYPE and one in view.types:
        return f"type {view.types[one].name}"
    if scope == DEVICE and one < len(view.device_key):
        carrier = view.carrier_names.get(int(view.device_carrier[one]), "")
        return f"device {carrier}/{view.device_key[one]}"
    return scope if scope == DISTRICT else f"{scope} {one}"


def shown_window(window: Window) -> str:
    """Such as 22:00-06:00 mon-fri +08:00."""
    if window.always:
        return "always"
    times = [f"{at // 60:02}:{at % 60:02}" for at in (window.from_minute, window.to_minute)]
    if times[1] == "00:00":
        times[1] = "24:00"
    days = [name for day, name in enumerate(DAYS) if window.days >> day & 1]
    hours, minutes = divmod(abs(window.offset_minutes), 60)
    sign = "-" if window.offset_minutes < 0 else "+"
    of_days = "" if window.days == ALL_DAYS else f" {','.join(days)}"
    return f"{times[0]}-{times[1]}{of_days} {sign}{hours:02}:{minutes:02}"
