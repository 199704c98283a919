"""The district's calendar and its wall clock. Pure.

A day of the calendar is a workday or a rest day, and a make-up workday (调休) takes the shifts of
another weekday. A time of the wall clock is the first instant at which that clock shows it or a
later one: so shifts that meet on paper meet in time, however the zone's offset jumps.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

SECOND_US = 1_000_000
MINUTE_US = 60 * SECOND_US
HOUR_US = 60 * MINUTE_US
DAY_US = 24 * HOUR_US
DAY_MIN = 1440
WEEKDAYS: tuple[str, ...] = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_SATURDAY = 5
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Calendar:
    """Holidays, and make-up workdays with the weekday (Monday 0) whose shifts they take.

    `years` are those that it speaks of; in others a weekend is a weekend.
    """

    years: frozenset[int] = frozenset()
    holidays: frozenset[date] = frozenset()
    makeup: Mapping[date, int]

    def weekday(self, day: date) -> int:
        """Whose shifts a day takes, Monday 0."""
        return self.makeup.get(day, day.weekday())

    def works(self, day: date) -> bool:
        """Whether it is a workday."""
        return day in self.makeup or (day not in self.holidays and day.weekday() < _SATURDAY)


PLAIN = Calendar(makeup={})
"""Weekends and nothing else."""


def instant_us(zone: ZoneInfo, day: date, minute: int) -> int:
    """Microseconds UTC of `minute` of `day`, 1440 and above being the next day.

    A time that comes twice is its first coming; one that is left out is the end of the gap.
    """
    wall = datetime(day.year, day.month, day.day, tzinfo=zone) + timedelta(minutes=minute)
    before, after = _us(wall), _us(wall.replace(fold=1))
    if after >= before:
        return before
    naive = wall.replace(tzinfo=None)
    low, high = after // MINUTE_US - 1, before // MINUTE_US  # the gap's end lies between
    while high - low > 1:
        middle = (low + high) // 2
        if local(zone, middle * MINUTE_US).replace(tzinfo=None) >= naive:
            high = middle
        else:
            low = middle
    return high * MINUTE_US


def local(zone: ZoneInfo, at_us: int) -> datetime:
    """What the wall clock shows."""
    return (_EPOCH + timedelta(microseconds=at_us)).astimezone(zone)


def days(zone: ZoneInfo, from_us: int, until_us: int) -> Iterator[date]:
    """Each local day from the day before `from_us` to that of `until_us`: a shift that began the
    day before may still run.
    """
    day = local(zone, from_us).date() - timedelta(days=1)
    last = local(zone, until_us).date()
    while day <= last:
        yield day
        day += timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Hours:
    """A part of each day by the wall clock, minutes from midnight; it may cross midnight."""

    begins: int
    ends: int

    def holds(self, zone: ZoneInfo, at_us: int) -> bool:
        """Whether an instant lies in it."""
        clock = local(zone, at_us)
        minute = clock.hour * 60 + clock.minute
        if self.begins <= self.ends:
            return self.begins <= minute < self.ends
        return minute >= self.begins or minute < self.ends


NIGHT = Hours(22 * 60, 7 * 60)
"""When a message alone wakes nobody (the issue's table)."""


def _us(wall: datetime) -> int:
    return (wall - _EPOCH) // timedelta(microseconds=1)
