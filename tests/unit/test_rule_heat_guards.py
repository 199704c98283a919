"""What keeps the heat rules from being fooled: broken sensors, steam, order lost on the way."""

import itertools

import numpy as np
import pytest
from fix_detect import Point, cold, frame, registry, run, told
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors import moisture

KNOWN = registry([Point(1), Point(2), Point(3, "humidity_pct", device=1001)])
FLICKER = [20.0, 90.0, 20.0, 90.0, 20.0, 90.0, 20.0]


def steps(values, *, point=1, from_s=0.0, period_s=10.0):
    return [(point, from_s + period_s * k, value) for k, value in enumerate(values)]


def say(readings, fold=None):
    return told(run(fold or cold(KNOWN), [frame([each]) for each in readings]))


def raises(said):
    """Of all rules but the sum, whose early stands beside that of heat_rise."""
    return [
        (rule, tier, at)
        for rule, tier, phase, _, at in said
        if phase == "raise" and rule != "heat_cusum"
    ]


QUIET = steps([20.0] * 121, from_s=-1210)


# --- broken sensors -----------------------------------------------------------------------------


def test_a_sensor_that_flickers_from_the_start_is_a_fault_and_alarms_nobody():
    """The first readings of the broken room of the packs: two hot ones in a row at the fourth."""
    values = [79.0, 23.4, 69.7, 69.7, 116.1, 23.4, 116.1, 69.8, 23.5, 23.5, 162.4, 23.5, 162.4]
    assert raises(say(steps(values, period_s=60))) == [("sensor_fault", "early", 360.0)]


def test_a_flickering_sensor_that_stays_hot_alarms_all_the_same():
    said = raises(say([*QUIET, *steps([*FLICKER, *[90.0] * 14])]))
    assert said[0][:2] == ("sensor_fault", "early")
    assert said[1:] == [("heat_fixed", "urgent", 180.0)]  # its twelfth hot reading


def test_a_spike_delays_the_fire_behind_it_by_two_samples_and_not_more():
    fire = [24.0, 30.0, 40.0, 56.0, 70.0, 85.0, 95.0]
    plain = {rule: at for rule, tier, at in raises(say([*QUIET, *steps(fire)])) if tier != "early"}
    struck = [*QUIET[:-2], *steps([200.0, 20.0], from_s=-20), *steps(fire)]
    after = {rule: at for rule, tier, at in raises(say(struck)) if tier != "early"}
    assert plain == {"heat_rise": 10.0, "heat_rate": 40.0, "heat_fixed": 40.0}
    assert after == {"heat_rise": 30.0, "heat_rate": 60.0, "heat_fixed": 60.0}


def test_a_fire_that_grows_in_leaps_is_no_flicker():
    said = raises(say([*QUIET, *steps([40.0, 70.0, 110.0, 160.0])]))
    assert {(rule, at) for rule, tier, at in said if tier != "early"} == {
        ("heat_fixed", 20.0),
        ("heat_rate", 10.0),
        ("heat_rise", 10.0),
    }


# --- steam --------------------------------------------------------------------------------------

RISE = [20.0, 22.0, 25.0, 28.0, 31.0, 33.0, 34.0]
KETTLE = [50.0, 60.0, 75.0, 88.0, 92.0, 93.0, 93.0]
DRY = [50.0, 44.0, 37.0, 31.0, 26.0, 23.0, 22.0]


def with_humidity(humidity, *, lag_s=0.0):
    quiet = [*QUIET, *steps([50.0] * 121, point=3, from_s=-1210 + lag_s)]
    both = [*steps(RISE), *steps(humidity, point=3, from_s=lag_s)]
    return sorted([*quiet, *both], key=lambda reading: reading[1])


@pytest.mark.parametrize("lag_s", [0.0, 3.0, -3.0])
def test_steam_makes_an_early_of_the_alarm_that_a_rise_would_be(lag_s):
    said = raises(say(with_humidity(KETTLE, lag_s=lag_s)))
    assert said == [("heat_rise", "early", 20.0)]
    assert ("heat_rise", "alarm", 30.0) in raises(say(with_humidity(DRY, lag_s=lag_s)))
    assert ("heat_rise", "alarm", 30.0) in raises(say([*QUIET, *steps(RISE)]))


def test_steam_hides_no_fixed_limit():
    hot = [(1, 70.0, 56.0), (1, 80.0, 57.0)]
    said = raises(say([*with_humidity(KETTLE), *hot]))
    assert ("heat_fixed", "urgent", 80.0) in said
    assert {at for _, tier, at in said if tier != "early"} == {80.0}  # no steam any more


def test_humidity_that_stopped_two_minutes_ago_says_nothing():
    still = [reading for reading in with_humidity(KETTLE) if reading[0] == 1 or reading[1] < -110]
    assert ("heat_rise", "alarm", 30.0) in raises(say(still))


def test_old_humidity_of_cooler_air_makes_no_steam_of_dry_heat():
    """RH of 80 % read at 30 degC and taken for that of 38 would be 2 hPa/K."""
    quiet = [*steps([30.0] * 121, from_s=-1210), *steps([80.0] * 121, point=3, from_s=-1211)]
    readings = sorted([*quiet, *steps([33.0, 36.0, 39.0, 42.0])], key=lambda reading: reading[1])
    assert any(tier == "alarm" for _, tier, _ in raises(say(readings)))


def test_the_evidence_of_steam_can_be_computed_again():
    fold = cold(KNOWN)
    (signal,) = [
        each for each in run(fold, [frame([one]) for one in with_humidity(KETTLE)])
        if each.phase == "raise" and each.rule == "heat_rise"
    ]  # fmt: skip
    said = signal.evidence
    assert said["humidity_us"] == said["before_us"]
    before_c, base_c = said["values"][0], said["baseline_c"]
    e, base = (
        moisture.pressure_hpa(np.float32([rh]), np.float32([air]))[0]
        for rh, air in (
            (said["humidity_pct"], before_c),
            (said["humidity_baseline_pct"], base_c),
        )
    )
    assert said["steam_hpa_per_k"] == pytest.approx((e - base) / (before_c - base_c), rel=1e-5)


@settings(deadline=None, max_examples=30)
@given(st.sets(st.integers(0, 256), max_size=30), st.sampled_from([KETTLE, DRY]))
def test_where_frames_are_cut_between_the_two_channels_changes_nothing(places, humidity):
    readings = with_humidity(humidity)
    cuts = [0, *sorted(place for place in places if place < len(readings)), len(readings)]
    pieces = [readings[a:b] for a, b in itertools.pairwise(cuts)]
    said = run(cold(KNOWN), [frame(each, received_s=200) for each in pieces])
    alone = run(cold(KNOWN), [frame([each], received_s=200) for each in readings])
    assert sorted(each.id for each in said) == sorted(each.id for each in alone)
    assert [each.evidence for each in said] == [each.evidence for each in alone]


# --- order lost on the way ------------------------------------------------------------------------


def test_a_late_reading_beside_the_newest_decides():
    fire = steps([21.0, 24.5, 27.0, 30.0])
    order = [fire[3], fire[1], fire[2], fire[0]]
    said = raises(say([*QUIET, *order]))
    assert said == [("heat_rise", "early", 30.0), ("heat_rise", "alarm", 10.0)]


def test_two_late_readings_decide_behind_a_cool_one():
    said = raises(say([*QUIET, (1, 60.0, 21.0), (1, 10.0, 26.5), (1, 20.0, 27.0)]))
    assert said == [("heat_rise", "early", 10.0), ("heat_rise", "alarm", 20.0)]


@pytest.mark.parametrize("value", [26.0, 34.0, 36.0, 200.0, -40.0])
def test_one_corrupt_late_reading_never_alarms_however_often_it_is_said(value):
    late = [(1, 15.0, value)] * 3
    said = raises(say([*QUIET, *steps([20.0] * 4), *late, *steps([20.0] * 9, from_s=40)]))
    assert not [one for one in said if one[1] != "early"]


def test_a_reading_older_than_five_minutes_is_no_rise_over_the_baseline_of_now():
    said = raises(say([*QUIET, (1, -330.0, 27.0), (1, -320.0, 28.0)]))
    assert said == []
