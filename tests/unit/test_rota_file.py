"""What the rota's file may say, and what is said of its faults."""

# ruff: noqa: E501 - a fault and what is said of it are one line of a table

from datetime import date
from pathlib import Path

import jsonschema
import pytest
from typer.testing import CliRunner

from alerting import rota_commands
from alerting.rota import Level, on_duty
from alerting.rota_file import CALENDARS, read_calendar, read_rota
from alerting.working_days import instant_us
from sizao.document import parse
from sizao.errors import BadInput

HOUSE = Path(__file__).parents[2]
GOOD = """\
zone: Asia/Shanghai
calendar: cn-2026.yaml
people:
  - {name: li, verified: "2026-01-10", voice: true}
  - {name: wang, verified: "2026-01-10", voice: true}
  - {name: zhao, verified: "2026-01-12", voice: true}
  - {name: qian, verified: "2026-01-12"}
teams:
  - name: station-gangtou
    level: community
    department: fire
    areas: ["440307010003"]
    kinds: [fire, gas, co]
    shifts:
      - {begins: "20:00", ends: "08:00", people: [li, wang]}
      - {days: [mon, tue, wed, thu, fri], only: workday, begins: "08:00", ends: "20:00", people: [zhao, qian]}
      - {only: restday, begins: "08:00", ends: "20:00", people: [qian, zhao]}
swaps:
  - {team: station-gangtou, date: "2026-03-02", person: li, by: zhao, back: "2026-03-05"}
stand_ins:
  - {person: wang, by: qian, begins: "2026-03-02 08:00", ends: "2026-03-09 08:00"}
"""


@pytest.fixture
def rota_file(tmp_path):
    def write(text=GOOD):
        path = tmp_path / "rota.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


def at(rota, day, hour):
    found = on_duty(
        rota, "station-gangtou", instant_us(rota.zone, date.fromisoformat(day), hour * 60)
    )
    return " ".join(found)


def test_it_is_read(rota_file):
    rota = read_rota(rota_file())
    assert rota.teams["station-gangtou"].level is Level.COMMUNITY
    assert at(rota, "2026-02-23", 12) == "qian zhao"  # the last day of Spring Festival, a Monday
    assert at(rota, "2026-02-28", 12) == "zhao qian"  # a Saturday that takes Friday's shifts
    assert at(rota, "2026-03-03", 2) == "zhao qian"  # li's shift swapped, wang away
    assert at(rota, "2026-03-05", 12) == "li qian"  # back
    assert at(rota, "2026-03-10", 2) == "li wang"


def told(path, *areas):
    with pytest.raises(BadInput) as refusal:
        read_rota(path, set(areas) or None)
    return str(refusal.value).replace(f"{path.parent}/", "").splitlines()


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("people: [li, wang]", "people: [lee, wang]", "15: teams.0.shifts.0.people.0: got 'lee', expected a name that is known"),
        ("person: li,", "person: wnag,", "19: swaps.0.person: got 'wnag', expected a name that is known; nearest: wang"),
        ('"20:00", ends', '"24:00", ends', r"15: teams.0.shifts.0.begins: got '24:00', expected a text that fits ^([01]\d|2[0-3]):[0-5]\d$"),
        ("level: community", "level: comunity", "10: teams.0.level: got 'comunity', expected one of community, street, district; nearest: community"),
        ('begins: "2026-03-02 08:00"', 'begins: "2026-03-32 08:00"', "21: stand_ins.0.begins: got '2026-03-32 08:00', expected a day that there is"),
        ('ends: "2026-03-09 08:00"', 'ends: "2026-03-01 08:00"', "21: stand_ins.0.ends: got '2026-03-01 08:00', expected a time after 2026-03-02 08:00"),
        ("by: qian", "by: wang", "21: stand_ins.0.by: got 'wang', expected somebody else"),
        ("calendar: cn-2026", "calendar: cn-2027", "2: calendar: got 'cn-2027.yaml', expected a file beside this one, or one of cn-2026.yaml; nearest: cn-2026.yaml"),
        ("zone: Asia/Shanghai", "zone: Asia/Shenzen", "1: zone: got 'Asia/Shenzen', expected a time zone such as Asia/Shanghai"),
        ('date: "2026-03-02"', "date: 20260302", "19: swaps.0.date: got 20260302, expected a date or time in quotes"),
        ('"2026-03-05"', '"2026-03-07"', "19: swaps.0.back: got '2026-03-07', expected a day on which a shift of 'zhao' begins in 'station-gangtou'"),
        ("{name: wang, v", "{name: li, v", "5: people.1.name: got 'li', expected a name that stands here once"),
        ("department: fire", "departement: fire", "11: teams.0.departement: got an unknown key, expected one of areas, department, kinds, level, name, shifts; nearest: department"),
    ],
)  # fmt: skip
def test_a_fault_has_its_line_and_what_was_meant(rota_file, old, new, said):
    text = GOOD.replace(old, new, 1)
    if new.startswith('"2026-03-07"'):  # a rest day: give the weekend to qian alone
        text = text.replace("people: [qian, zhao]", "people: [qian]")
    assert f"rota.yaml:{said}" in told(rota_file(text))


def test_an_area_that_the_registry_does_not_know(rota_file):
    (said,) = told(rota_file(), "440307010004")
    assert said.startswith("rota.yaml:12: teams.0.areas.0: got '440307010003', expected a name")
    assert said.endswith("; nearest: 440307010004")


def test_two_stand_ins_at_once_are_refused(rota_file):
    more = '  - {person: wang, by: li, begins: "2026-03-08 08:00", ends: "2026-03-10 08:00"}\n'
    said = told(rota_file(GOOD + more))
    assert said == [
        "rota.yaml:22: stand_ins.1: got a map of keys, expected one stand-in for 'wang' at a time"
    ]


def run(*words):
    return CliRunner().invoke(rota_commands.app, [*map(str, words)], catch_exceptions=False)


def test_the_week_is_good(rota_file):
    text = GOOD.partition("swaps:")[0]
    done = run("check", rota_file(text), "--from", "2026-02-09")
    assert "1 communities have 2 verified people at every hour of the week" in done.stdout


def test_the_first_bad_hours_are_named(rota_file):
    text = GOOD.partition("swaps:")[0].replace("mon, tue, wed", "mon, wed")
    with pytest.raises(BadInput) as refusal:
        run("check", rota_file(text), "--from", "2026-03-02")
    assert str(refusal.value).partition("rota.yaml: ")[2] == (
        "440307010003: Tue 2026-03-03 08:00 to Tue 20:00:"
        " 0 of 2 people verified in the last 180 days"
    )


def test_a_year_without_holidays_is_a_fault(rota_file):
    with pytest.raises(BadInput, match="calendar: 2027 is in none of its years"):
        run("check", rota_file(), "--from", "2026-12-28")


def test_who_is_there_is_shown(rota_file):
    done = run("show", rota_file(), "--at", "2026-03-02 21:00")
    assert done.stdout == (
        "community station-gangtou: zhao, qian until Tue 2026-03-03 20:00, then li, qian\n"
    )


def test_the_shipped_calendar_has_the_days_of_the_notice():
    calendar = read_calendar(CALENDARS / "cn-2026.yaml")
    assert len(calendar.holidays) == 3 + 9 + 3 + 5 + 3 + 3 + 7
    # Rest days are taken from weekends: each make-up day was a Saturday or a Sunday.
    assert all(day.weekday() >= 5 for day in calendar.makeup)
    assert {calendar.works(day) for day in calendar.makeup} == {True}


def test_a_calendar_contradicts_itself(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text(
        'years: [2026]\nholidays: [{first: "2027-01-01", last: "2027-01-02"}]\n'
        'makeup: {"2027-01-02": mon}\n'
    )
    with pytest.raises(BadInput) as refusal:
        read_calendar(path)
    assert len(str(refusal.value).splitlines()) == 3


def test_the_published_schema_is_in_step():
    published = (HOUSE / "docs" / rota_commands.SCHEMA_FILE).read_text("utf-8")
    assert published == rota_commands.schema_text(), "sizao rota schema > docs/rota.schema.json"
    assert jsonschema.Draft202012Validator(parse(published, "").data).is_valid(parse(GOOD, "").data)
