"""Who stands behind a role."""

from zoneinfo import ZoneInfo

import pytest

from alerting.contacts import Contact, Role
from alerting.plan import By, Page, To
from alerting.recipients import recipients
from alerting.rota import Department, Level, Only, Person, Rota, Shift, Team
from alerting.working_days import HOUR_US, PLAIN
from sizao.signal import Kind

NAMES = ("li", "wang", "zhao", "qian", "sun")


def team(name, level, area, *people, department=Department.FIRE, kinds=(Kind.FIRE,), begins=0):
    always = Shift(
        weekdays=frozenset(range(7)), only=Only.ANY, begins=begins, ends=begins, people=people
    )
    return Team(
        name=name,
        level=level,
        department=department,
        areas=frozenset({area}),
        kinds=frozenset(kinds),
        shifts=(always,),
    )


TEAMS = [
    team("station", Level.COMMUNITY, "C1", "li", "wang"),
    team("grid", Level.COMMUNITY, "C1", "wang", "zhao", department=Department.GRID),
    team("elsewhere", Level.COMMUNITY, "C2", "sun"),
    team("street", Level.STREET, "ST", "qian"),
    team("works", Level.DISTRICT, "D", "sun", department=Department.GAS, kinds=(Kind.GAS,)),
]
ROTA = Rota(
    zone=ZoneInfo("Asia/Shanghai"),
    calendar=PLAIN,
    people={name: Person(name=name, verified=None, voice=True) for name in NAMES},
    teams={one.name: one for one in TEAMS},
)


def contact(role, unit="", name="x"):
    return Contact(
        site="S1", unit=unit, role=role, name=name, phone="+8613800138000", language="zh",
        verified=None,
    )  # fmt: skip


PEOPLE = [
    contact(Role.OCCUPANT, "S1-1203", "here"),
    contact(Role.OCCUPANT, "S1-2805", "above"),
    contact(Role.PROPERTY, name="property"),
    contact(Role.MANAGER, name="manager"),
]


def told(to, kind=Kind.FIRE, department=None):
    found = recipients(
        Page(to=to, by=(By.VOICE,), department=department),
        rota=ROTA,
        contacts=PEOPLE,
        areas=frozenset({"D", "ST", "C1", "S1", "S1-1203"}),
        kind=kind,
        at_us=1_772_000_000 * 1_000_000 + HOUR_US,
    )
    return [*found.people, *(one.name for one in found.contacts)]


@pytest.mark.parametrize(
    ("to", "names"),
    [
        (To.STATION, ["li", "wang", "zhao"]),  # once each
        (To.STREET, ["qian"]),
        (To.DISTRICT, []),  # the gas works take no fire
        (To.OCCUPANT, ["here"]),  # the flat of the device alone
        (To.SITE_CONTACT, ["manager"]),  # the first of them who is there
        (To.CONTROL_ROOM, []),
        (To.OPERATOR, []),
        (To.SOUNDERS, []),
    ],
)
def test_who_is_told(to, names):
    assert told(to) == names


def test_a_department_is_told_of_its_own_kind():
    assert told(To.DEPARTMENT, Kind.GAS, Department.GAS) == ["sun"]
    assert told(To.DEPARTMENT, Kind.GAS, Department.WATER) == []
