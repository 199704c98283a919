"""Which readings are an incident's evidence, and in which order they are copied."""

import json

import pytest
from fix_alerting import view
from fix_incident import MINUTE, T0, Desk, make
from hypothesis import given
from hypothesis import strategies as st

from alerting import notice as notices
from alerting.model import Verdict
from ingest import evidence
from ingest.evidence import AHEAD_US, Said, Span, Window
from sizao import frame
from sizao.errors import BadRecord

SPAN = Span(before_us=30 * MINUTE, after_us=30 * MINUTE, longest_us=24 * 60 * MINUTE)


def said(version=1, *, onset_us=T0, closed_us=None):
    return Said(
        incident="i", version=version, nature="real", site=7, onset_us=onset_us, closed_us=closed_us
    )


def test_what_alert_publishes_is_understood():
    desk = Desk()
    desk.hear(make(site=7))
    desk.now += MINUTE
    desk.close(Verdict.FIRE)
    found = []
    for one in desk.transitions:
        incident = next(iter(desk.book.newest.values()))
        facts = notices.facts(notices.build(view(), incident, one, ()))
        value = json.dumps(facts, ensure_ascii=False).encode()
        found.append(evidence.read(value, frame.headers(value)))
    assert [one.version for one in found] == [1, 2, 3, 4]
    assert {(one.site, one.nature, one.onset_us) for one in found} == {(7, "real", T0)}
    assert found[-1].closed_us == desk.transitions[-1].at_us


@pytest.mark.parametrize("value", [None, b"", b"{}", b"\xff", b'{"incident": 5}'])
def test_what_is_no_transition_is_refused(value):
    with pytest.raises(BadRecord) as caught:
        evidence.read(value, [] if value is None else frame.headers(value))
    assert caught.value.reason in evidence.SKIPS


@pytest.mark.parametrize(
    "wrong",
    [
        {"times": {"onset": "2026-07-01T04:00:00", "decided": "2026-07-01T04:00:00Z"}},
        {"site": {"id": 2**31}},
        {"version": 2**31},
        {"incident": "a\0"},
    ],
)
def test_what_the_table_or_the_clock_could_not_hold_is_no_transition(wrong):
    """Each ended the archive, or held up all evidence behind it for ever."""
    right = {
        "incident": "i", "version": 1, "nature": "real", "state": "open", "site": {"id": 7},
        "times": {"onset": "2026-07-01T04:00:00Z", "decided": "2026-07-01T04:00:00Z"},
    }  # fmt: skip
    value = json.dumps(right).encode()
    assert evidence.read(value, frame.headers(value)).site == 7
    value = json.dumps(right | wrong).encode()
    with pytest.raises(BadRecord) as caught:
        evidence.read(value, frame.headers(value))
    assert caught.value.reason == evidence.BAD_TRANSITION


def test_a_window_ends_after_the_close_and_never_beyond_the_longest():
    opened = evidence.window(None, said(), SPAN)
    assert (opened.from_us, opened.until_us) == (T0 - 30 * MINUTE, T0 + (24 * 60 - 30) * MINUTE)
    assert opened.copied_us == opened.from_us - AHEAD_US
    closed = evidence.window(opened, said(2, closed_us=T0 + 10 * MINUTE), SPAN)
    assert closed.until_us == T0 + 40 * MINUTE
    assert evidence.window(closed, said(1), SPAN) is closed
    long = evidence.window(opened, said(2, closed_us=T0 + 48 * 60 * MINUTE), SPAN)
    assert long.until_us == opened.until_us
    earlier = evidence.window(closed, said(3, onset_us=T0 - MINUTE), SPAN)
    assert earlier.copied_us == earlier.from_us - AHEAD_US


@given(
    st.lists(st.tuples(st.integers(0, 50), st.integers(1, 40)), min_size=1, max_size=5),
    st.lists(st.integers(0, 30), min_size=1, max_size=8),
    st.integers(1, 20),
)
def test_every_arrival_of_every_window_is_copied(windows, steps, longest_us):
    """Against the naive set of all arrivals: none is left out, none comes before it is stored."""
    state = {
        f"i{number}": Window(
            incident=f"i{number}", version=1, site=1, onset_us=0, from_us=at, until_us=at + long,
            closed_us=None, copied_us=at,
        )
        for number, (at, long) in enumerate(windows)
    }  # fmt: skip
    begun = {name: one.copied_us for name, one in state.items()}
    copied = {name: set() for name in state}
    limit_us = 0
    for step in steps:
        limit_us += step
        while (one := evidence.next_slice(list(state.values()), limit_us, longest_us)) is not None:
            assert one.until_us <= limit_us
            assert one.until_us - one.since_us <= longest_us
            for name in one.incidents:
                copied[name] |= set(range(one.since_us, one.until_us))
                known = state[name]
                state[name] = Window(
                    **{
                        **{key: getattr(known, key) for key in Window.__dataclass_fields__},
                        "copied_us": max(known.copied_us, one.until_us),
                    }
                )
    for name, at in begun.items():
        assert copied[name] >= set(range(at, limit_us))
