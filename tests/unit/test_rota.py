"""The rota against a slow oracle that walks the wall clock minute by minute."""

from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from alerting.rota import (
    Department,
    Level,
    Only,
    Person,
    Rota,
    Shift,
    StandIn,
    Team,
    on_duty,
    spells,
    watch,
)
from alerting.rota_lint import Thin, thin
from alerting.working_days import DAY_US, HOUR_US, MINUTE_US, PLAIN, Calendar, instant_us, local
from sizao.signal import Kind

CHINA = ZoneInfo("Asia/Shanghai")
NAMES = ["li", "wang", "zhao", "qian"]
ALL = frozenset(range(7))
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
VERIFIED = date(2026, 1, 1)


def us(text, zone=CHINA):
    return int(datetime.fromisoformat(text).replace(tzinfo=zone).timestamp()) * 1_000_000


def shift(begins, ends, *people, weekdays=ALL, only=Only.ANY):
    return Shift(weekdays=weekdays, only=only, begins=begins, ends=ends, people=people)


def team(*shifts, name="t", level=Level.COMMUNITY, areas=("C1",)):
    return Team(
        name=name,
        level=level,
        department=Department.FIRE,
        areas=frozenset(areas),
        kinds=frozenset({Kind.FIRE}),
        shifts=shifts,
    )


def rota(*teams, zone=CHINA, calendar=PLAIN, swapped=None, stand_ins=(), people=None):
    known = {name: Person(name=name, verified=VERIFIED, voice=True) for name in NAMES}
    return Rota(
        zone=zone,
        calendar=calendar,
        people=known | {one.name: one for one in people or ()},
        teams={one.name: one for one in teams},
        swapped=swapped or {},
        stand_ins=tuple(stand_ins),
    )


NIGHTS = team(shift(1200, 480, "li", "wang"), shift(480, 1200, "zhao", "qian"))


def test_a_night_shift_runs_past_midnight_and_names_who_is_next():
    found = watch(rota(NIGHTS), "t", us("2026-03-03 02:00"))
    assert found.people == ("li", "wang")
    assert (found.until_us, found.following) == (us("2026-03-03 08:00"), ("zhao", "qian"))


def test_a_shift_belongs_to_the_day_on_which_it_begins():
    sunday_nights = team(shift(1200, 480, "li", weekdays=frozenset({6})))
    assert on_duty(rota(sunday_nights), "t", us("2026-03-09 07:59")) == ("li",)  # a Monday
    assert on_duty(rota(sunday_nights), "t", us("2026-03-08 07:59")) == ()


def test_where_nothing_changes_there_is_no_until():
    found = watch(rota(team(shift(0, 0, "li"))), "t", us("2026-03-03 02:00"))
    assert (found.people, found.until_us, found.following) == (("li",), None, ("li",))


def test_a_swap_exchanges_the_shift_that_begins_that_day():
    swapped = {("t", date(2026, 3, 2), "li"): "zhao"}
    assert on_duty(rota(NIGHTS, swapped=swapped), "t", us("2026-03-03 02:00")) == ("zhao", "wang")
    assert on_duty(rota(NIGHTS, swapped=swapped), "t", us("2026-03-02 02:00")) == ("li", "wang")


def stand_in(person, by, begin="2026-03-02 22:00", end="2026-03-03 03:00", team=""):
    return StandIn(person=person, by=by, team=team, from_us=us(begin), until_us=us(end))


def test_a_stand_in_comes_in_the_middle_of_a_shift_and_goes():
    found = spells(
        rota(NIGHTS, stand_ins=[stand_in("li", "qian")]),
        "t",
        us("2026-03-02 20:00"),
        us("2026-03-03 08:00"),
    )
    assert [(local(CHINA, one.from_us).hour, one.people) for one in found] == [
        (20, ("li", "wang")),
        (22, ("qian", "wang")),
        (3, ("li", "wang")),
    ]


def test_a_stand_in_may_have_a_stand_in_but_two_for_each_other_leave_nobody_alone():
    at = us("2026-03-02 23:00")
    chain = [stand_in("li", "zhao"), stand_in("zhao", "qian")]
    assert on_duty(rota(NIGHTS, stand_ins=chain), "t", at) == ("qian", "wang")
    circle = [stand_in("li", "zhao"), stand_in("zhao", "li")]
    assert on_duty(rota(NIGHTS, stand_ins=circle), "t", at) == ("li", "wang")


def test_a_stand_in_of_another_team_is_none_here():
    other = [stand_in("li", "zhao", team="u")]
    assert on_duty(rota(NIGHTS, stand_ins=other), "t", us("2026-03-02 23:00")) == ("li", "wang")


MAKEUP = Calendar(
    years=frozenset({2026}),
    holidays=frozenset({date(2026, 2, 16), date(2026, 2, 17)}),
    makeup={date(2026, 2, 14): 0},
)


@pytest.mark.parametrize(
    ("day", "who"),
    [
        ("2026-02-13", ("wang",)),  # a Friday
        ("2026-02-14", ("li",)),  # a Saturday that takes Monday's shifts
        ("2026-02-15", ("zhao",)),  # a Sunday
        ("2026-02-16", ("zhao",)),  # a Monday of the holiday
        ("2026-02-18", ("wang",)),
    ],
)
def test_holidays_rest_and_a_make_up_day_works(day, who):
    weekly = team(
        shift(480, 1080, "li", weekdays=frozenset({0}), only=Only.WORKDAY),
        shift(480, 1080, "wang", weekdays=frozenset(range(1, 5)), only=Only.WORKDAY),
        shift(480, 1080, "zhao", only=Only.RESTDAY),
    )
    assert on_duty(rota(weekly, calendar=MAKEUP), "t", us(f"{day} 12:00")) == who


@pytest.mark.parametrize(
    ("day", "minute", "shown"),
    [
        (date(2026, 3, 29), 150, "2026-03-29T01:00"),  # 02:30 is left out: 03:00 summer time
        (date(2026, 10, 25), 150, "2026-10-25T00:30"),  # 02:30 comes twice: the first
        (date(2026, 10, 25), 180, "2026-10-25T02:00"),
    ],
)
def test_a_time_that_is_left_out_or_comes_twice(day, minute, shown):
    at = instant_us(ZoneInfo("Europe/Berlin"), day, minute)
    assert (EPOCH + timedelta(microseconds=at)).isoformat() == f"{shown}:00+00:00"


# (zone, a Monday before a jump of its clock)
WEEKS = [
    ("Asia/Shanghai", date(2026, 2, 9)),
    ("Asia/Shanghai", date(1986, 4, 28)),  # China had summer time then
    ("Europe/Berlin", date(2026, 3, 23)),
    ("Europe/Berlin", date(2026, 10, 19)),
    ("Australia/Lord_Howe", date(2026, 3, 30)),  # half an hour
]
MINUTES = st.integers(0, 95).map(lambda quarter: quarter * 15)
SHIFTS = st.builds(
    Shift,
    weekdays=st.frozensets(st.integers(0, 6), min_size=1),
    only=st.sampled_from(Only),
    begins=MINUTES,
    ends=MINUTES,
    people=st.lists(st.sampled_from(NAMES), min_size=1, max_size=3, unique=True).map(tuple),
)


@st.composite
def rotas(draw):
    zone_name, monday = draw(st.sampled_from(WEEKS))
    zone, day = ZoneInfo(zone_name), st.integers(-1, 9).map(lambda n: monday + timedelta(days=n))
    swapped = draw(
        st.dictionaries(
            st.tuples(st.just("t"), day, st.sampled_from(NAMES)), st.sampled_from(NAMES), max_size=3
        )
    )
    start = instant_us(zone, monday, 0)
    stand_ins = draw(
        st.lists(
            st.builds(
                lambda person, by, begin, length: StandIn(
                    person=person,
                    by=by,
                    team="",
                    from_us=start + begin * MINUTE_US,
                    until_us=start + (begin + length) * MINUTE_US,
                ),
                st.sampled_from(NAMES),
                st.sampled_from(NAMES),
                st.integers(0, 10_000),
                st.integers(1, 3_000),
            ).filter(lambda one: one.person != one.by),
            max_size=2,
        )
    )
    calendar = Calendar(
        holidays=draw(st.frozensets(day, max_size=2)),
        makeup=draw(st.dictionaries(day, st.integers(0, 6), max_size=2)),
    )
    shifts = draw(st.lists(SHIFTS, min_size=1, max_size=4))
    made = rota(team(*shifts), zone=zone, calendar=calendar, swapped=swapped, stand_ins=stand_ins)
    return made, start


def slowly(made, start, minutes):
    """Who is on duty in each minute, by a wall clock that never goes back."""
    shifts = made.teams["t"].shifts
    first = start - 3 * DAY_US
    shown = local(made.zone, first).replace(tzinfo=None)
    for minute in range(3 * 1440 + minutes):
        at = first + minute * MINUTE_US
        shown = max(shown, local(made.zone, at).replace(tzinfo=None))
        if at < start:
            continue
        here = set()
        for back in (0, 1):
            day = shown.date() - timedelta(days=back)
            midnight = datetime.combine(day, datetime.min.time())
            for one in shifts:
                weekday = made.calendar.makeup.get(day, day.weekday())
                works = day in made.calendar.makeup or (
                    day.weekday() < 5 and day not in made.calendar.holidays
                )
                fits = {"any": True, "workday": works, "restday": not works}[one.only]
                begin = midnight + timedelta(minutes=one.begins)
                end = midnight + timedelta(
                    minutes=one.ends + (1440 if one.ends <= one.begins else 0)
                )
                if weekday in one.weekdays and fits and begin <= shown < end:
                    here |= {made.swapped.get(("t", day, who), who) for who in one.people}
        yield at, {stood(made, who, at) for who in here}


def stood(made, who, at):
    now = {}
    for one in made.stand_ins:
        if one.from_us <= at < one.until_us:
            now.setdefault(one.person, one.by)
    end = who
    for _ in range(len(NAMES)):
        end = now.get(end, end)
    return who if end in now else end  # still going round


@given(rotas())
@settings(max_examples=8)
def test_it_says_what_walking_the_clock_says(drawn):
    made, start = drawn
    minutes = 8 * 1440
    found = spells(made, "t", start, start + minutes * MINUTE_US)
    assert all(one.until_us == two.from_us for one, two in pairwise(found))
    place = 0
    for at, people in slowly(made, start, minutes):
        while found[place].until_us <= at:
            place += 1
        assert set(found[place].people) == people, local(made.zone, at).isoformat()


@given(rotas(), st.integers(0, 8 * 1440))
@settings(max_examples=50)
def test_the_watch_is_the_spell_that_the_instant_lies_in(drawn, minute):
    made, start = drawn
    at = start + minute * MINUTE_US
    found = watch(made, "t", at)
    assert on_duty(made, "t", at) == found.people
    if found.until_us is not None:
        assert set(on_duty(made, "t", found.until_us - 1)) == set(found.people)
        assert set(on_duty(made, "t", found.until_us)) == set(found.following)
        assert set(found.following) != set(found.people)


MONDAY = us("2026-03-02 00:00")
C1 = {"C1": frozenset({"D", "ST", "C1"})}


def faults(made, **other):
    return thin(made, C1, MONDAY, MONDAY + 7 * DAY_US, **other)


def test_two_at_every_hour_are_enough():
    assert faults(rota(NIGHTS)) == []


def test_a_quarter_of_an_hour_alone_makes_the_hour_bad():
    holed = team(shift(1200, 465, "li", "wang"), shift(480, 1200, "zhao", "qian"))
    found = faults(rota(holed))
    assert len(found) == 7
    first = us("2026-03-02 07:00")
    assert found[0] == Thin(
        community="C1", from_us=first, until_us=first + HOUR_US, verified=0, voice=True
    )


def test_who_was_never_verified_or_long_ago_does_not_count():
    for verified in (None, date(2025, 8, 1)):
        old = Person(name="wang", verified=verified, voice=True)
        found = faults(rota(NIGHTS, people=[old]))
        assert [one.verified for one in found] == [1] * 8
        assert [local(CHINA, one.from_us).hour for one in found] == [0] + [20] * 7
    turning = Person(name="wang", verified=date(2025, 9, 6), voice=True)  # 180 days before Thursday
    assert faults(rota(NIGHTS, people=[turning]))[0].from_us == us("2026-03-06 00:00")


def test_at_night_one_of_them_can_be_called():
    deaf = [Person(name=name, verified=VERIFIED, voice=False) for name in ("li", "wang")]
    found = faults(rota(NIGHTS, people=deaf))
    hours = [(local(CHINA, one.from_us).hour, local(CHINA, one.until_us).hour) for one in found]
    assert hours == [(0, 7), *[(22, 7)] * 6, (22, 0)]
    assert {(one.verified, one.voice) for one in found} == {(2, False)}


def test_a_street_and_a_grid_of_it_do_not_count_for_the_community():
    street = team(shift(0, 0, "li", "wang"), level=Level.STREET, areas=("ST",))
    grid = team(shift(0, 0, "zhao", "qian"), name="g", areas=("G7",))
    assert [(one.until_us - one.from_us) // HOUR_US for one in faults(rota(street, grid))] == [168]


@given(rotas())
@settings(max_examples=6)
def test_the_lint_says_what_walking_the_clock_says(drawn):
    made, start = drawn
    until = start + 7 * DAY_US
    bad = set()
    for at, people in slowly(made, start, 7 * 1440):
        if len(people) < 2:
            bad.add((at - start) // HOUR_US)
    people = [
        Person(name=name, verified=local(made.zone, start).date(), voice=True) for name in NAMES
    ]
    found = thin(
        rota(
            made.teams["t"], zone=made.zone, calendar=made.calendar, swapped=made.swapped,
            stand_ins=made.stand_ins, people=people,
        ),
        C1, start, until,
    )  # fmt: skip
    hours = {
        hour
        for one in found
        for hour in range((one.from_us - start) // HOUR_US, -(-(one.until_us - start) // HOUR_US))
    }
    assert hours == bad, sorted(hours ^ bad)
