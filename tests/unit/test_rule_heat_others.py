"""Rate, sum and neighbours: what they find, and what the heating of a building is not."""

import itertools
from functools import cache

import numpy as np
import pytest
from fix_detect import T0_US, Point, cold, frame, registry, run, setup, told
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors import batch, snapshot
from detectors.batch import Rows

ROOM = registry([Point(point, area=9) for point in (1, 2, 3)] + [Point(4, area=8)])
POINTS = (1, 2, 3, 4)


def quiet(points=POINTS, until_s=0.0):
    return [(point, until_s - 10.0 * k, 20.0) for k in range(121, 0, -1) for point in points]


def traces(values, from_s=0.0):
    """Traces by point, read together every 10 s; 0 stands for no reading."""
    longest = max(len(trace) for trace in values.values())
    return [
        (point, from_s + 10.0 * k, float(trace[k]))
        for k in range(longest)
        for point, trace in values.items()
        if k < len(trace) and trace[k]
    ]


def by_time(readings):
    groups = itertools.groupby(sorted(readings, key=lambda each: each[1]), lambda each: each[1])
    return [frame(list(group)) for _, group in groups]


def say(readings, known=ROOM):
    return told(run(cold(known), by_time(readings)))


def raises(said, *rules):
    return [
        (rule, tier, point, at)
        for rule, tier, phase, point, at in said
        if phase == "raise" and (not rules or rule in rules)
    ]


# --- rate and sum -------------------------------------------------------------------------------


def test_the_worked_example_of_heat_rate():
    said = say([*quiet(), *traces({4: [25.0, 31.0, 37.0, 42.0, 47.0]})])
    assert raises(said, "heat_rate") == [("heat_rate", "alarm", "4", 40.0)]


def test_the_worked_example_of_heat_cusum():
    said = say([*quiet(), *traces({4: [20.5, 21.0, 21.5, 22.0, 22.5, 23.0]})])
    assert raises(said) == [("heat_cusum", "early", "4", 50.0)]


def test_a_point_that_is_not_warm_is_judged_by_its_rate_only_near_its_limit():
    young = [(4, -10.0 * k, 20.0) for k in range(20, 0, -1)]
    assert raises(say([*young, *traces({4: [26.0, 31.0, 36.0, 41.0, 43.0]})])) == []
    said = say([*young, *traces({4: [26.0, 35.0, 44.0, 46.0]})])
    assert raises(said) == [("heat_rate", "alarm", "4", 30.0)]


def test_a_class_of_suffix_s_answers_to_no_rise_and_no_rate():
    known = registry([Point(4, heat_class="A2S")])
    steep = traces({4: [25.0, 32.0, 40.0, 50.0, 53.0]})
    assert raises(say([*quiet((4,)), *steep], known)) == []


# --- neighbours -----------------------------------------------------------------------------------


def test_the_worked_example_of_heat_zone():
    said = say([*quiet(), *traces({1: [22.0, 24.5], 2: [20.5, 21.8], 3: [20.5, 21.8]})])
    assert raises(said, "heat_zone") == [
        ("heat_zone", "early", "1", 10.0),
        ("heat_zone", "early", "2", 10.0),
        ("heat_zone", "early", "3", 10.0),
        ("heat_zone", "alarm", "1", 10.0),
    ]


def test_two_of_another_room_confirm_nothing():
    said = say([*quiet(), *traces({1: [22.0, 24.5], 2: [20.5, 21.8], 4: [20.5, 21.8]})])
    assert raises(said, "heat_zone") == []


def test_one_corrupt_reading_is_no_lead_beside_neighbours_that_have_risen():
    said = say([*quiet(), *traces({1: [20.0, 34.0, 20.0], 2: [21.6] * 3, 3: [21.6] * 3})])
    assert [each for each in raises(said) if each[1] != "early"] == []


def test_neighbours_that_rose_more_than_a_minute_ago_confirm_nothing():
    lead = traces({1: [22.0, 24.5]}, from_s=90.0)
    gone = [20.5, 21.8, *[20.0] * 9]
    said = say([*quiet(), *lead, *traces({2: gone, 3: gone})])
    assert raises(said, "heat_zone") == []
    lead = traces({1: [22.0, 24.5]}, from_s=60.0)
    said = say([*quiet(), *lead, *traces({2: gone, 3: gone})])
    assert ("heat_zone", "alarm", "1", 70.0) in raises(said)


def test_evidence_names_the_neighbours():
    readings = [*quiet(), *traces({1: [22.0, 24.5], 2: [20.5, 21.8], 3: [20.5, 22.0]})]
    (signal,) = [
        each
        for each in run(cold(ROOM), by_time(readings))
        if (each.rule, each.tier, each.phase) == ("heat_zone", "alarm", "raise")
    ]
    assert signal.evidence["neighbours"] == [1003, 1002]
    assert signal.evidence["neighbours_rise_k"] == pytest.approx([2.0, 1.8], abs=0.02)
    assert signal.evidence["neighbours_us"] == [T0_US + 10_000_000] * 2
    assert (signal.evidence["area"], signal.evidence["neighbours_count"]) == (9, 2)


class Zone:
    """heat_zone again, one reading at a time over the rises of one room."""

    def __init__(self):
        self.risen, self.fast = {}, {}

    def read(self, point, at, rise, before, rate):
        """Whether the point is an early, and an alarm."""
        if rise >= 1.5:
            self.risen[point] = at
            if rate >= 1:
                self.fast[point] = at
        count = {
            name: sum(at - then <= 60 for other, then in seen.items() if other != point)
            for name, seen in (("risen", self.risen), ("fast", self.fast))
        }
        early = rise >= 1.5 and rate >= 1 and count["fast"] >= 2
        return early, rise >= 4 and before >= 1.5 and count["risen"] >= 2


@cache
def warmed() -> bytes:
    fold = cold(ROOM)
    run(fold, by_time(quiet()))
    return snapshot.pack(fold)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(st.sampled_from([1, 2, 3]), st.sampled_from([3, 7, 20, 40]),
       st.sampled_from([20.0, 21.0, 21.6, 23.0, 24.5, 26.0])), max_size=30),
       st.randoms(use_true_random=False))  # fmt: skip
def test_heat_zone_says_what_a_scalar_reference_says_however_frames_are_cut(script, random):
    at, readings = 0.0, []
    for point, step_s, value in script:
        at += step_s
        readings += [(point, at, value)]
    cuts = sorted(random.sample(range(len(readings) + 1), min(3, len(readings) + 1)))
    pieces = [readings[a:b] for a, b in itertools.pairwise([0, *cuts, len(readings)])]
    fold, other = (snapshot.unpack(warmed(), ROOM, setup())[0] for _ in range(2))
    said = run(other, [frame(piece, received_s=at) for piece in pieces])
    zone, expected, last = Zone(), [], {}
    alone = []
    for point, when, value in readings:
        slot, block = fold.lookup[point], fold.blocks["features@1"]
        baseline, before = block["baseline_c"][slot].copy(), block["x_c"][slot].copy()
        alone += run(fold, [frame([(point, when, value)], received_s=at)])
        held = before if value - before > 15 else value
        anchors = [(block[f"{name}_us"][slot], block[f"{name}_c"][slot])
                   for name in ("youngest", "middle", "older", "oldest")]  # fmt: skip
        now_us = T0_US + round(when * 1e6)
        old = next((one for one in anchors if now_us - one[0] >= 60e6), None)
        known = old is not None and now_us - old[0] <= 300e6
        rate = (value - old[1]) / ((now_us - old[0]) / 60e6) if known else 0
        tells = zone.read(point, when, held - baseline, before - baseline, rate)
        for tier, holds in zip(("early", "alarm"), tells, strict=True):
            if holds and not last.get((point, tier)):
                expected += [(point, tier)]
                last[point, tier] = True
    mine = [each for each in alone if each.rule == "heat_zone" and each.phase == "raise"]
    assert {(int(each.subject.id), str(each.tier)) for each in mine} == set(expected)
    assert sorted(each.id for each in said) == sorted(each.id for each in alone)


def test_readings_of_an_area_stay_in_order_from_round_to_round():
    rows = Rows(
        received_us=0,
        slot=np.array([0, 0, 0, 1, 1, 2, 3, 3]),
        event_us=np.array([10, 20, 30, 25, 35, 5, 40, 50]),
        value=np.arange(8, dtype=np.float32),
        flags=np.zeros(8, np.uint8),
    )
    area = np.array([7, 7, 7, 8])
    rounds, _ = batch.rounds(rows, keep_changes=False, area=area)
    assert [sorted(each.event_us.tolist()) for each in rounds] == [
        [5, 10, 40],
        [20, 25, 50],
        [30, 35],
    ]
    plain, _ = batch.rounds(rows, keep_changes=False)
    assert [len(each.slot) for each in plain] == [4, 3, 1]


# --- heating --------------------------------------------------------------------------------------

HOUSE = [Point(point, area=100 + point) for point in range(1, 13)]


def heated(known_points, *, k_per_min, minutes, also=None, spread=0.1, from_c=18.0):
    """A building of points that warm together, each a little differently; `also` adds to some."""
    known = registry(known_points)
    readings = []
    for step in range(minutes * 6):
        for place, point in enumerate(known_points):
            share = 1 + spread * ((place % 3) - 1)
            value = from_c + k_per_min * step / 6 * share
            if also and point.id in also:
                value += also[point.id](step * 10.0)
            readings += [(point.id, step * 10.0 + place * 0.1, round(value, 1))]
    return raises(say([*quiet_at(known_points, from_c), *readings], known))


def quiet_at(points, value):
    return [(one.id, -10.0 * k, value) for k in range(121, 0, -1) for one in points]


def test_the_heating_of_a_building_is_no_fire():
    assert heated(HOUSE, k_per_min=0.8, minutes=12) == []
    # One room alone that warms so is told: nobody else does.
    alone = heated(HOUSE, k_per_min=0.0, minutes=12, also={5: lambda at_s: 0.8 * at_s / 60})
    assert {(tier, point) for _, tier, point, _ in alone} == {("early", "5"), ("alarm", "5")}


def test_a_fire_in_a_building_that_is_being_heated_is_found():
    def fire(at_s):
        return max(0.0, at_s - 400) * 0.1  # 6 K/min

    said = heated(HOUSE, k_per_min=0.5, minutes=12, also={5: fire})
    assert {point for _, _, point, _ in said} == {"5"}
    alarm_s = min(at for _, tier, _, at in said if tier == "alarm")
    assert 400 < alarm_s <= 400 + 60


def test_a_slow_fire_in_a_building_that_is_being_heated_keeps_what_is_its_own():
    said = heated(HOUSE, k_per_min=0.3, minutes=25, also={5: lambda at_s: 0.6 * at_s / 60})
    assert {point for _, _, point, _ in said} == {"5"}


def test_what_is_hot_is_hot_whatever_the_building_does():
    hot = heated(HOUSE, k_per_min=0.9, minutes=12, spread=0.0, from_c=45.0)
    assert {rule for rule, *_ in hot} == {"heat_fixed"}
    assert len(hot) == len(HOUSE)


def test_three_rooms_that_warm_slowly_are_not_a_building():
    """Fewer than six: a flat of three may burn as a whole."""
    said = heated(HOUSE[:3], k_per_min=0.8, minutes=12)
    assert {tier for _, tier, _, _ in said} == {"early", "alarm"}
