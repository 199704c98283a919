"""The rota and the calendar as people write them: YAML in, every fault with its line.

zone: Asia/Shanghai
calendar: cn-2026.yaml              # beside this file, else one that is shipped
people:
  - {name: li, verified: "2026-02-01", voice: true}
teams:
  - name: station-gangtou
    level: community                # community, street, district
    department: fire
    areas: ["440307010003"]
    kinds: [fire, gas, co]
    shifts:
      - {begins: "20:00", ends: "08:00", people: [li, wang]}
swaps:                              # zhao has li's shift of the 2nd, li has his of the 5th
  - {team: station-gangtou, date: "2026-03-02", person: li, by: zhao, back: "2026-03-05"}
stand_ins:
  - {person: wang, by: qian, begins: "2026-03-02 08:00", ends: "2026-03-09 08:00"}
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Annotated, Literal, get_args
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from alerting.rota import Department, Level, Only, Person, Rota, Shift, StandIn, Team
from alerting.working_days import PLAIN, WEEKDAYS, Calendar, instant_us
from sizao.document import Fault, Located, Path_, one_of, parse, read, validate
from sizao.errors import BadInput
from sizao.signal import Kind

CALENDARS = Path(__file__).parent / "calendars"
PEOPLE_MAX = 20_000
TEAMS_MAX = 2_000
SHIFTS_MAX = 64
_HOLIDAY_DAYS_MAX = 31


def _written(value: object) -> object:
    """Whole numbers are no dates, whatever pydantic makes of them."""
    if not isinstance(value, str):
        raise ValueError("a date or time in quotes")  # noqa: TRY004 - pydantic tells ValueError only
    return value


def _zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ValueError("a time zone such as Asia/Shanghai") from error
    return name


Name = Annotated[str, Field(pattern=r"^[\w][\w. -]{0,63}$")]
Day = Annotated[date, BeforeValidator(_written)]
Moment = Annotated[str, Field(pattern=r"^\d{4}-\d\d-\d\d [012]\d:[0-5]\d$")]
Clock = Annotated[str, Field(pattern=r"^([01]\d|2[0-3]):[0-5]\d$")]
Weekday = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]


class _Closed(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class PersonEntry(_Closed):
    """Somebody who may be on duty."""

    name: Name = Field(description="as in the responders")
    verified: Day | None = Field(default=None, description="when somebody answered on the number")
    voice: bool = Field(default=False, description="can be called")


class ShiftEntry(_Closed):
    """A weekly shift; `ends` at or before `begins` is on the next day."""

    days: list[Weekday] = Field(
        default=list(get_args(Weekday)), min_length=1, description="on which it begins; else all"
    )
    only: Only = Field(default=Only.ANY, description="workdays or rest days of the calendar")
    begins: Clock = Field(description="by the district's clock")
    ends: Clock = Field(description="by the district's clock")
    people: list[Name] = Field(min_length=1, max_length=64, description="the first leads")


class TeamEntry(_Closed):
    """People of one department, bound to areas and kinds."""

    name: Name = Field(description="one team's")
    level: Level = Field(description="community < street < district")
    department: Department = Field(description="whose team it is")
    areas: list[str] = Field(min_length=1, max_length=1000, description="codes of the area tree")
    kinds: list[Kind] = Field(default=[Kind.FIRE], min_length=1, description="what it is told of")
    shifts: list[ShiftEntry] = Field(min_length=1, max_length=SHIFTS_MAX, description="weekly")


class SwapEntry(_Closed):
    """One person's shift for another's."""

    team: Name = Field(description="of both")
    date: Day = Field(description="on which the shift of `person` begins")
    person: Name = Field(description="who gives it away")
    by: Name = Field(description="who has it")
    back: Day | None = Field(default=None, description="whose shift of this day `person` has")


class StandInEntry(_Closed):
    """Somebody is there for somebody else."""

    person: Name = Field(description="who is away")
    by: Name = Field(description="who is there instead")
    team: Name | None = Field(default=None, description="left out: in all teams")
    begins: Moment = Field(description="by the district's clock")
    ends: Moment = Field(description="by the district's clock")


class Document(_Closed):
    """The rota."""

    zone: Annotated[str, AfterValidator(_zone)] = Field(description="of the district's clock")
    calendar: str | None = Field(
        default=None, description="file of holidays and make-up days; left out: weekends only"
    )
    people: list[PersonEntry] = Field(min_length=1, max_length=PEOPLE_MAX, description="who")
    teams: list[TeamEntry] = Field(min_length=1, max_length=TEAMS_MAX, description="in what")
    swaps: list[SwapEntry] = Field(default=[], max_length=10_000, description="of one day")
    stand_ins: list[StandInEntry] = Field(default=[], max_length=10_000, description="for a while")


class HolidayEntry(_Closed):
    """Rest days on end."""

    first: Day = Field(description="the first of them")
    last: Day = Field(description="the last of them")


class CalendarDocument(_Closed):
    """Holidays and make-up workdays of some years."""

    years: list[int] = Field(min_length=1, max_length=10, description="that it speaks of")
    holidays: list[HolidayEntry] = Field(default=[], max_length=400, description="rest days")
    makeup: dict[Day, Weekday] = Field(
        default={}, max_length=400, description="make-up workday: whose shifts it takes"
    )


def read_calendar(path: Path) -> Calendar:
    """A calendar file. Raises BadInput with every fault."""
    located = parse(read(path), str(path))
    document = validate(located, CalendarDocument, str(path))
    faults: list[Fault] = []
    rest: set[date] = set()
    for index, holiday in enumerate(document.holidays):
        days = (holiday.last - holiday.first).days
        if not 0 <= days < _HOLIDAY_DAYS_MAX:
            said = f"expected a day from {holiday.first} on, within a month"
            faults.append((("holidays", index, "last"), said))
            continue
        rest |= {holiday.first + timedelta(days=more) for more in range(days + 1)}
    faults += [
        (("years",), f"expected {day.year} too, since {day} stands below")
        for day in sorted(rest | document.makeup.keys())
        if day.year not in document.years
    ]
    faults += [
        (("makeup", day.isoformat()), "expected no holiday, or no make-up day of that date")
        for day in document.makeup
        if day in rest
    ]
    if faults:
        raise BadInput("\n".join(located.told(str(path), faults)))
    return Calendar(
        years=frozenset(document.years),
        holidays=frozenset(rest),
        makeup={day: WEEKDAYS.index(word) for day, word in document.makeup.items()},
    )


def read_rota(path: Path, areas: Collection[str] | None = None) -> Rota:
    """A rota file, checked completely. `areas`: codes that the registry knows; None: not asked.

    Raises BadInput with `file:line: key: got, expected; nearest` for every fault.
    """
    located = parse(read(path), str(path))
    document = validate(located, Document, str(path))
    calendar = PLAIN
    faults = list(_faults(document, areas))
    if document.calendar is not None:
        places = path.parent / document.calendar, CALENDARS / document.calendar
        found = next((place for place in places if place.is_file()), None)
        if found is None:
            known = one_of(document.calendar, sorted(one.name for one in CALENDARS.glob("*.yaml")))
            faults.append((("calendar",), f"expected a file beside this one, or {known}"))
        else:
            calendar = read_calendar(found)
    if faults:
        raise BadInput("\n".join(located.told(str(path), faults)))
    rota = _rota(document, calendar)
    _prove_swaps(document, rota, located, path)
    return rota


def _faults(document: Document, areas: Collection[str] | None) -> Iterator[Fault]:
    people = [one.name for one in document.people]
    teams = [one.name for one in document.teams]
    yield from _twice("people", people)
    yield from _twice("teams", teams)
    for index, team in enumerate(document.teams):
        for place, code in enumerate(team.areas if areas is not None else ()):
            yield from _unknown(("teams", index, "areas", place), code, areas or ())
        for number, shift in enumerate(team.shifts):
            yield from _shift(("teams", index, "shifts", number), shift, people)
    for index, swap in enumerate(document.swaps):
        yield from _unknown(("swaps", index, "team"), swap.team, teams)
        yield from _pair(("swaps", index), swap, people)
    for index, one in enumerate(document.stand_ins):
        if one.team is not None:
            yield from _unknown(("stand_ins", index, "team"), one.team, teams)
        yield from _pair(("stand_ins", index), one, people)
        yield from _span(("stand_ins", index), one)
        if any(_clash(one, other) for other in document.stand_ins[:index]):
            said = f"expected one stand-in for {one.person!r} at a time"
            yield ("stand_ins", index), said


def _shift(at: Path_, shift: ShiftEntry, people: list[str]) -> Iterator[Fault]:
    for place, name in enumerate(shift.people):
        yield from _unknown((*at, "people", place), name, people)
        if name in shift.people[:place]:
            yield (*at, "people", place), "expected each person once"


def _pair(at: Path_, one: SwapEntry | StandInEntry, people: list[str]) -> Iterator[Fault]:
    yield from _unknown((*at, "person"), one.person, people)
    yield from _unknown((*at, "by"), one.by, people)
    if one.person == one.by:
        yield (*at, "by"), "expected somebody else"


def _span(at: Path_, one: StandInEntry) -> Iterator[Fault]:
    for key in ("begins", "ends"):
        try:
            datetime.fromisoformat(getattr(one, key))
        except ValueError:
            yield (*at, key), "expected a day that there is"
            return
    if one.ends <= one.begins:
        yield (*at, "ends"), f"expected a time after {one.begins}"


def _clash(one: StandInEntry, other: StandInEntry) -> bool:
    teams = None in {one.team, other.team} or one.team == other.team
    return (
        one.person == other.person and teams and one.begins < other.ends and other.begins < one.ends
    )


def _twice(key: str, names: list[str]) -> Iterator[Fault]:
    seen: set[str] = set()
    for index, name in enumerate(names):
        if name in seen:
            yield (key, index, "name"), "expected a name that stands here once"
        seen.add(name)


def _unknown(at: Path_, word: str, known: Collection[str]) -> Iterator[Fault]:
    if word not in known:
        nearest = one_of(word, known).partition("; ")[2]
        yield at, "expected a name that is known" + (f"; {nearest}" if nearest else "")


def _minute(clock: str) -> int:
    return int(clock[:2]) * 60 + int(clock[3:])


def _rota(document: Document, calendar: Calendar) -> Rota:
    zone = ZoneInfo(document.zone)

    def at_us(moment: str) -> int:
        return instant_us(zone, date.fromisoformat(moment[:10]), _minute(moment[11:]))

    swapped = {}
    for swap in document.swaps:
        swapped[swap.team, swap.date, swap.person] = swap.by
        if swap.back is not None:
            swapped[swap.team, swap.back, swap.by] = swap.person
    return Rota(
        zone=zone,
        calendar=calendar,
        people={
            one.name: Person(name=one.name, verified=one.verified, voice=one.voice)
            for one in document.people
        },
        teams={team.name: _team(team) for team in document.teams},
        swapped=swapped,
        stand_ins=tuple(
            StandIn(
                person=one.person,
                by=one.by,
                team=one.team or "",
                from_us=at_us(one.begins),
                until_us=at_us(one.ends),
            )
            for one in document.stand_ins
        ),
    )


def _team(team: TeamEntry) -> Team:
    return Team(
        name=team.name,
        level=team.level,
        department=team.department,
        areas=frozenset(team.areas),
        kinds=frozenset(team.kinds),
        shifts=tuple(
            Shift(
                weekdays=frozenset(WEEKDAYS.index(word) for word in shift.days),
                only=shift.only,
                begins=_minute(shift.begins),
                ends=_minute(shift.ends),
                people=tuple(shift.people),
            )
            for shift in team.shifts
        ),
    )


def _prove_swaps(document: Document, rota: Rota, located: Located, path: Path) -> None:
    """A swap of a shift that nobody has changes nothing, in silence: refused."""
    faults: list[Fault] = []
    for index, swap in enumerate(document.swaps):
        given = [("date", swap.date, swap.person)]
        given += [("back", swap.back, swap.by)] if swap.back is not None else []
        for key, day, person in given:
            shifts = rota.teams[swap.team].shifts
            if not any(one.falls_on(rota.calendar, day) and person in one.people for one in shifts):
                said = f"expected a day on which a shift of {person!r} begins in {swap.team!r}"
                faults.append((("swaps", index, key), said))
    if faults:
        raise BadInput("\n".join(located.told(str(path), faults)))
