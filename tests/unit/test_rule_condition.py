"""What a device says has to be seen to, by edge; angles and flows beside it."""

from itertools import pairwise

import pytest
from fix_detect import SECOND_US, T0_US, Point, frame, registry, run
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors import state
from detectors.rules import condition, tilt, water_flow
from sizao.signal import Kind, Phase, Tier
from sizao.units import QUANTITIES, Lane

HOUR = 3600
KNOWN = registry([Point(1, "fault_state"), Point(2, "door_state"), Point(3, "valve_state")])


def said(readings, *, rule=condition, known=KNOWN):
    fold = state.start(Lane.TELEMETRY, 0, known.at(1), state.setup_of([rule]))
    return run(fold, [frame([each]) for each in readings])


def brief(signals):
    return [
        (one.phase, (one.onset_us - T0_US) / SECOND_US, (one.event_us - T0_US) / SECOND_US)
        for one in signals
    ]


def test_every_condition_is_somebodys():
    conditions = {
        one.name for one in QUANTITIES if one.unit == "state" and one.lane is Lane.TELEMETRY
    }
    assert conditions == set(condition.READS)


def test_the_worked_examples():
    fault = [(1, 8 * HOUR, 0), (1, 9 * HOUR, 1), (1, 9 * HOUR + 600, 1), (1, 11 * HOUR, 0)]
    assert brief(said(fault)) == [
        (Phase.RAISE, 9 * HOUR, 9 * HOUR), (Phase.CLEAR, 9 * HOUR, 11 * HOUR),
    ]  # fmt: skip
    door = [(2, 0, 1), (2, 300, 1), (2, 600, 1), (2, 720, 0)]
    assert brief(said(door)) == [(Phase.RAISE, 600, 600), (Phase.CLEAR, 600, 720)]


def test_a_shut_valve_is_an_alarm_and_is_said_again_each_hour():
    found = said([(3, 60 * minute, 1) for minute in range(130)])
    assert {(one.kind, one.tier) for one in found} == {(Kind.SUPERVISORY, Tier.ALARM)}
    assert brief(found) == [
        (Phase.RAISE, 0, 0), (Phase.REFRESH, 0, HOUR), (Phase.REFRESH, 0, 2 * HOUR),
    ]  # fmt: skip


def test_what_is_older_than_the_newest_word_is_news_no_more():
    assert said([(1, 100, 0), (1, 50, 1)]) == []


def test_a_door_is_not_open_across_a_gap():
    gap_s = 50 * HOUR + 1
    assert said([(2, 0, 1), (2, gap_s, 1), (2, gap_s + 599, 1)]) == []
    assert len(said([(2, 0, 1), (2, gap_s, 1), (2, gap_s + 600, 1)])) == 1


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(1, 3), st.sampled_from([1, 60, 599, 600, 4000, 180_001]),
                  st.sampled_from([0, 1])),
        max_size=30,
    ),
    st.sets(st.integers(0, 30), max_size=4),
)  # fmt: skip
def test_a_scalar_reference_says_the_same_however_it_is_cut(steps, cuts):
    at, readings = 0, []
    for point, step, value in steps:
        at += step
        readings += [(point, at, value)]
    places = [0, *sorted(each for each in cuts if each < len(readings)), len(readings)]
    fold = state.start(Lane.TELEMETRY, 0, KNOWN.at(1), state.setup_of([condition]))
    pieces = [frame(readings[a:b], received_s=at) for a, b in pairwise(places)]
    found = [(int(one.subject.id), *each) for one in run(fold, pieces) for each in brief([one])]
    expected = [(point, *each) for point in (1, 2, 3) for each in _scalar(point, readings)]
    assert sorted(found) == sorted(expected)


def _scalar(point, readings):
    since = last = onset = told = None
    said = []
    for who, at, value in readings:
        if who != point:
            continue
        if not value:
            if onset is not None:
                said += [(Phase.CLEAR, onset, at)]
            since = onset = None
        else:
            if since is None or at - last > 50 * HOUR:
                since = at
            if onset is None:
                if at - since >= (600 if point == 2 else 0):
                    onset = told = at
                    said += [(Phase.RAISE, at, at)]
            elif at - told >= HOUR:
                told = at
                said += [(Phase.REFRESH, onset, at)]
        last = at
    return said


@pytest.mark.parametrize(
    ("rule", "quantity", "values", "expected"),
    [
        (tilt, "tilt_deg", (0.4, 16, 34, 34.2), [(Tier.EARLY, 10), (Tier.ALARM, 30)]),
        (tilt, "tilt_deg", (0.4, -16, 9, -34, 34), [(Tier.EARLY, 10), (Tier.ALARM, 40)]),
        (tilt, "tilt_deg", (0.4, 14.9, 90, 0, 90), [(Tier.EARLY, 20)]),
        (water_flow, "flow_m3_per_h", (0, 3.4, 3.3), [(Tier.EARLY, 10), (Tier.ALARM, 20)]),
        (water_flow, "flow_m3_per_h", (0, 2.2, -50, 0.9), []),
    ],
)
def test_angles_and_flows(rule, quantity, values, expected):
    readings = [(1, 10 * place, value) for place, value in enumerate(values)]
    found = said(readings, rule=rule, known=registry([Point(1, quantity)]))
    assert [(one.tier, (one.event_us - T0_US) / SECOND_US) for one in found] == expected
    kind = Kind.TAMPER if rule is tilt else Kind.WATER
    assert all(one.kind is kind for one in found)
