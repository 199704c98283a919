"""Which hours go, and why."""

import pytest

from ingest.retention import DROPS_MAX, HOUR_US, Drop, Hour, KeepSection, Why, hour_of, plan
from ingest.retention_loop import is_here

NOW_US = 1_772_352_000_000_000  # 2026-03-01 08:00 UTC
DAY_US = 24 * HOUR_US
KEEP = KeepSection(days=7, volume_share=0.5)


def hours(count, size=10):
    return [Hour(name=f"h{n:03}", since_us=NOW_US - n * HOUR_US, size=size) for n in range(count)]


def test_nothing_goes_that_is_young_on_a_volume_with_room():
    assert plan(hours(7 * 24), KEEP, NOW_US, database=2_000, volume=10_000) == []
    assert plan([], KEEP, NOW_US, database=10_000, volume=10_000) == []


def test_what_is_too_old_goes_oldest_first():
    found = plan(hours(7 * 24 + 3), KEEP, NOW_US, database=0, volume=None)
    assert [(drop.hour.name, drop.why) for drop in found] == [
        ("h170", Why.AGE),
        ("h169", Why.AGE),
        ("h168", Why.AGE),
    ]


def test_so_much_goes_that_the_rest_fits():
    found = plan(hours(24), KEEP, NOW_US, database=5_025, volume=10_000)
    assert [(drop.hour.name, drop.why) for drop in found] == [
        ("h023", Why.VOLUME),
        ("h022", Why.VOLUME),
        ("h021", Why.VOLUME),
    ]
    assert plan(hours(24), KEEP, NOW_US, database=5_025, volume=None) == []


def test_what_goes_by_age_makes_room_too():
    found = plan(hours(7 * 24 + 2, size=100), KEEP, NOW_US, database=5_250, volume=10_000)
    assert [drop.why for drop in found] == [Why.AGE, Why.AGE, Why.VOLUME]


def test_the_newest_hours_never_go_and_a_round_is_bounded():
    found = plan(hours(24), KEEP, NOW_US, database=10**9, volume=10)
    assert len(found) == 21
    assert min(NOW_US - drop.hour.since_us for drop in found) == 3 * HOUR_US
    assert len(plan(hours(500), KEEP, NOW_US, database=10**9, volume=10)) == DROPS_MAX


def test_age_counts_from_the_hour_s_end_or_from_when_it_was_made():
    def since_us(name, comment=None):
        found = hour_of(name, 1, comment, NOW_US)
        return found and found.since_us

    assert since_us("reading_20260301_07") == NOW_US
    made = f"made {(NOW_US - DAY_US) // 1_000_000}"
    assert since_us("reading_20260301_07", made) == NOW_US
    assert since_us("reading_19700101_00", made) == NOW_US - DAY_US
    assert since_us("reading_20990101_00", made) == NOW_US - DAY_US
    assert since_us("reading_20990101_00", "") > NOW_US + 2 * HOUR_US
    assert since_us("reading_19700101_00", "somebody's words") == HOUR_US


@pytest.mark.parametrize(
    "name", ["reading_refused", "reading_until_20260301_070000", "reading_20261301_00", "evidence"]
)
def test_other_tables_are_none_of_its_business(name):
    assert hour_of(name, 1, None, NOW_US) is None


def test_a_future_hour_of_unknown_making_goes_last():
    strange = hour_of("reading_20990101_00", 10, None, NOW_US)
    assert Drop(hour=strange, why=Why.VOLUME) not in plan([strange], KEEP, NOW_US, 100, 1)


def test_whose_file_system_may_be_asked():
    assert all(is_here(host) for host in ("127.0.0.1", "::1", "localhost", "/run/postgresql"))
    assert not any(is_here(host) for host in ("10.0.0.5", "db.example"))
