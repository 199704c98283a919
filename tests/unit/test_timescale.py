"""What is called on TimescaleDB, when, and what is said where it is not used."""

from dataclasses import replace
from datetime import timedelta

import pytest

from ingest.timescale import COLUMNSTORE, COMPRESS_AFTER, SET_ASIDE, State, plan

FRESH = State(
    version="2.28.3",
    schema="public",
    available=True,
    apache=False,
    kind="p",
    rows=False,
    hypertable=False,
    columnstore=False,
    compress_after=None,
    drop_after=None,
)
MADE = replace(
    FRESH,
    kind="r",
    rows=True,
    hypertable=True,
    columnstore=True,
    compress_after=COMPRESS_AFTER,
    drop_after=timedelta(days=30),
)


def test_an_empty_database_gets_a_hypertable_and_its_policies():
    made = plan(FRESH, "auto", 30)
    assert made.statements == [
        SET_ASIDE,
        (
            "SELECT public.create_hypertable(relation => 'reading',"
            " dimension => public.by_range('received', INTERVAL '3600 seconds'),"
            " create_default_indexes => false, if_not_exists => true, migrate_data => true)"
        ),
        COLUMNSTORE,
        (
            "CALL public.add_columnstore_policy(hypertable => 'reading',"
            " after => INTERVAL '259200 seconds', if_not_exists => true)"
        ),
        (
            "SELECT public.add_retention_policy(relation => 'reading',"
            " drop_after => INTERVAL '2592000 seconds', if_not_exists => true)"
        ),
    ]


def test_what_stands_is_not_done_again():
    assert plan(MADE, "auto", 30).statements == []
    assert plan(MADE, "off", 30).statements == []


def test_other_days_replace_the_policy():
    assert plan(MADE, "auto", 7).statements == [
        "SELECT public.remove_retention_policy(relation => 'reading', if_exists => true)",
        (
            "SELECT public.add_retention_policy(relation => 'reading',"
            " drop_after => INTERVAL '604800 seconds', if_not_exists => true)"
        ),
    ]


def test_what_was_stopped_half_way_is_ended():
    half = replace(MADE, columnstore=False, compress_after=None)
    assert plan(half, "auto", 30).statements[0] == COLUMNSTORE
    assert len(plan(half, "auto", 30).statements) == 2
    aside = replace(FRESH, kind="r", rows=True)
    assert SET_ASIDE not in plan(aside, "auto", 30).statements


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"version": "", "available": False}, "no TimescaleDB"),
        ({"version": ""}, "CREATE EXTENSION timescaledb"),
        ({"version": "2.17.2"}, "TimescaleDB 2.17.2 is older than 2.18"),
        ({"apache": True}, "licence"),
        ({"rows": True}, "reading_set_aside"),
    ],
)
def test_where_it_cannot_be_used_it_says_so_and_require_fails(change, told):
    state = replace(FRESH, **change)
    for wanted, refused in (("auto", False), ("require", True)):
        made = plan(state, wanted, 30)
        assert (made.statements, made.refused) == ([], refused)
        assert told in made.said
    assert plan(state, "off", 30).statements == []


def test_off_is_off():
    made = plan(FRESH, "off", 30)
    assert (made.statements, made.refused) == ([], False)


@pytest.mark.parametrize("version", ["2.18.0", "2.18.1-dev", "2.28.3", "3.0"])
def test_versions_that_will_do(version):
    assert plan(replace(FRESH, version=version), "require", 30).statements
