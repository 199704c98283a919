"""The duty rota: who is on duty at an instant, until when, who next. Pure.

A team has weekly shifts by the district's wall clock. On top of them lie swaps (one person's shift
of a day for another's) and, above these, stand-ins for a span of time. A shift belongs to the day
on which it begins, also after midnight.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date
from enum import StrEnum
from itertools import pairwise
from zoneinfo import ZoneInfo

from alerting.working_days import DAY_MIN, DAY_US, Calendar, days, instant_us
from sizao.signal import Kind

HORIZON_US = 14 * DAY_US
"""How far `watch` looks for the next change: a holiday week and the weekends around it."""
_SHIFT_MAX_US = 2 * DAY_US


class Level(StrEnum):
    """Who raises to whom: the first is nearest to the fire."""

    COMMUNITY = "community"
    STREET = "street"
    DISTRICT = "district"


class Department(StrEnum):
    """Whose team it is."""

    FIRE = "fire"  # 消防
    EMERGENCY = "emergency"  # 应急
    POLICE = "police"  # 公安
    CITY = "city"  # 城管
    GRID = "grid"  # 网格
    GAS = "gas"  # 燃气
    WATER = "water"  # 供水
    POWER = "power"  # 供电
    TRAFFIC = "traffic"  # 交通


class Only(StrEnum):
    """On which days of the calendar a shift is."""

    ANY = "any"
    WORKDAY = "workday"
    RESTDAY = "restday"


@dataclass(frozen=True, slots=True, kw_only=True)
class Shift:
    """Weekly. Minutes from midnight; `ends` at or before `begins` is on the next day."""

    weekdays: frozenset[int]
    only: Only
    begins: int
    ends: int
    people: tuple[str, ...]

    def falls_on(self, calendar: Calendar, day: date) -> bool:
        """Whether one begins on that day."""
        if calendar.weekday(day) not in self.weekdays:
            return False
        return self.only is Only.ANY or calendar.works(day) is (self.only is Only.WORKDAY)

    def span_us(self, zone: ZoneInfo, day: date) -> tuple[int, int]:
        """From when to when, of the one that begins on `day`."""
        ends = self.ends if self.ends > self.begins else self.ends + DAY_MIN
        return instant_us(zone, day, self.begins), instant_us(zone, day, ends)


@dataclass(frozen=True, slots=True, kw_only=True)
class Team:
    """People of one department, bound to areas (codes of the tree) and kinds."""

    name: str
    level: Level
    department: Department
    areas: frozenset[str]
    kinds: frozenset[Kind]
    shifts: tuple[Shift, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """Who may be on duty: `name` as in the responders. `verified`: when somebody answered on it."""

    name: str
    verified: date | None
    voice: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class StandIn:
    """`by` is there for `person`, in one team or ("") in all."""

    person: str
    by: str
    team: str
    from_us: int
    until_us: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Rota:
    """Everything. `swapped`: (team, day, person) -> who has the shifts that begin on that day."""

    zone: ZoneInfo
    calendar: Calendar
    people: Mapping[str, Person]
    teams: Mapping[str, Team]
    swapped: Mapping[tuple[str, date, str], str] = field(default_factory=dict)
    stand_ins: tuple[StandIn, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Spell:
    """The same people on duty from an instant to another; nobody is a spell too."""

    from_us: int
    until_us: int
    people: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """Who is on duty; `until_us` is None where nothing changes within the horizon."""

    people: tuple[str, ...]
    until_us: int | None
    following: tuple[str, ...]


def on_duty(rota: Rota, team: str, at_us: int) -> tuple[str, ...]:
    """Who is on duty, in the order of the file; empty where nobody is."""
    return spells(rota, team, at_us, at_us + 1)[0].people


def watch(rota: Rota, team: str, at_us: int) -> Watch:
    """Who is on duty, until when, and who next."""
    now, *later = spells(rota, team, at_us, at_us + HORIZON_US)
    if not later:
        return Watch(people=now.people, until_us=None, following=now.people)
    return Watch(people=now.people, until_us=now.until_us, following=later[0].people)


def spells(rota: Rota, team: str, from_us: int, until_us: int) -> list[Spell]:
    """The span without a hole; neighbours differ in who is on duty. KeyError for no such team."""
    assert from_us < until_us
    turns = list(_turns(rota, rota.teams[team], from_us, until_us))
    away: dict[str, list[StandIn]] = {}
    for one in rota.stand_ins:
        if one.team in {"", team} and one.from_us < until_us and one.until_us > from_us:
            away.setdefault(one.person, []).append(one)
    edges = {from_us, *(edge for turn in turns for edge in turn[:2])}
    edges |= {
        edge for ones in away.values() for one in ones for edge in (one.from_us, one.until_us)
    }
    cuts = [*sorted(edge for edge in edges if from_us <= edge < until_us), until_us]
    found: list[Spell] = []
    for begin, end in pairwise(cuts):
        here = [person for since, till, person in turns if since <= begin < till]
        people = tuple(dict.fromkeys(_standing(away, one, begin) for one in here))
        if found and set(found[-1].people) == set(people):
            found[-1] = Spell(from_us=found[-1].from_us, until_us=end, people=found[-1].people)
        else:
            found.append(Spell(from_us=begin, until_us=end, people=people))
    return found


def _turns(rota: Rota, team: Team, from_us: int, until_us: int) -> Iterator[tuple[int, int, str]]:
    """Each person's turns that touch the span, swaps done."""
    for day in days(rota.zone, from_us, until_us):
        for shift in team.shifts:
            if not shift.falls_on(rota.calendar, day):
                continue
            begin, end = shift.span_us(rota.zone, day)
            assert 0 <= end - begin <= _SHIFT_MAX_US
            if begin < until_us and end > from_us:
                for person in shift.people:
                    yield begin, end, rota.swapped.get((team.name, day, person), person)


def _standing(away: Mapping[str, list[StandIn]], person: str, at_us: int) -> str:
    """Who is there for `person`. Of two who stand in for each other the first one asked stays:
    a slip of the pen must not leave nobody.
    """
    met = [person]
    while True:
        asked = away.get(met[-1], ())
        by = next((one.by for one in asked if one.from_us <= at_us < one.until_us), None)
        if by is None:
            return met[-1]
        if by in met:
            return person
        met.append(by)


def covering(
    teams: Iterable[Team], *, level: Level, areas: frozenset[str], kind: Kind
) -> list[Team]:
    """Teams of a level that take a kind at a place. `areas`: codes on the way to it."""
    return [
        team for team in teams if team.level is level and kind in team.kinds and team.areas & areas
    ]
