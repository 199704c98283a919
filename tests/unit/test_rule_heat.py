"""What heat_rise and heat_fixed promise, by example. Others speak of the same readings."""

import math

import pytest
from fix_detect import T0_US, Point, cold, frame, registry, run, told
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors import sets
from detectors.rules import heat_fixed
from sizao.frame import Flag

KNOWN = registry([Point(1, heat_class="A1"), Point(2, heat_class="B"), Point(3)])


def quiet(point: int = 1, *, until_s: float = 0, for_s: float = 1200, period_s: float = 10):
    """Steady 20 degC up to, not including, `until_s`."""
    steps = int(for_s / period_s)
    return [(point, until_s - period_s * k, 20.0) for k in range(steps, 0, -1)]


def steps(values, *, point: int = 1, from_s: float = 0, period_s: float = 10):
    return [(point, from_s + period_s * k, value) for k, value in enumerate(values)]


def say(*parts, fold=None, flags=0):
    """Fold readings one frame each; returns what was told."""
    readings = [reading for part in parts for reading in part]
    fold = fold or cold(KNOWN)
    return told(run(fold, [frame([reading], flags=flags) for reading in readings]))


OTHERS = {"heat_cusum", "heat_rate", "heat_zone"}


def raises(said):
    return [
        (rule, tier, at)
        for rule, tier, phase, _, at in said
        if phase == "raise" and rule not in OTHERS
    ]


def test_the_worked_example_of_heat_rise():
    said = say(quiet(), steps([21, 23, 25, 27, 30]))
    assert raises(said) == [("heat_rise", "early", 20.0), ("heat_rise", "alarm", 30.0)]


@pytest.mark.parametrize(
    ("point", "values", "expected"),
    [
        (1, [53.9, 54.0, 55.0], [("heat_fixed", "urgent", 20.0)]),
        (3, [53.9, 54.0, 55.0], [("heat_fixed", "urgent", 20.0)]),
        (2, [53.9, 54.0, 55.0, 68.9], []),
        (2, [69.0, 69.0], [("heat_fixed", "urgent", 10.0)]),
        (1, [53.0, 200.0, 53.0, 200.0, 53.0], [("sensor_fault", "early", 40.0)]),
        (1, [54.0], []),
        (1, [54.0, 54.0], [("heat_fixed", "urgent", 10.0)]),
    ],
)
def test_fixed_limits_by_class_without_any_history(point, values, expected):
    assert raises(say(steps(values, point=point))) == expected


def test_evidence_says_what_decided_and_that_the_point_was_cold():
    fold = cold(KNOWN)
    (signal,) = run(fold, [frame([reading]) for reading in steps([60.0, 61.5])])
    assert signal.evidence == {
        "quantity": "temperature_c",
        "unit": "degC",
        "values": [60.0, 61.5],
        "before_us": T0_US,
        "value_us": T0_US + 10_000_000,
        "limit_c": 54.0,
        "margin_k": 7.5,
        "samples_count": 2,
        "clear_below_c": 44.0,
        "clear_s": 180,
        "warm": False,
        "rule_parameters": sets.set_of(heat_fixed, heat_fixed.Params()).digest,
    }
    assert (signal.site, signal.device, signal.subject.id) == (5, 1001, "1")


def test_rise_can_be_computed_again_from_its_evidence():
    fold = cold(KNOWN)
    readings = [*quiet(), *steps([21, 23, 25, 27, 30])]
    signals = run(fold, [frame([reading]) for reading in readings])
    for signal in signals:
        evidence = signal.evidence
        assert evidence["values"][-1] - evidence["baseline_c"] == pytest.approx(evidence["rise_k"])
        assert evidence["rise_k"] - evidence["limit_k"] == evidence["margin_k"] >= 0
        assert evidence["warm"] is True


def test_a_point_not_yet_warm_is_judged_by_the_fixed_path_alone():
    said = say(quiet(for_s=500), steps([30, 40, 50, 60, 61]))
    assert raises(said) == [("heat_fixed", "urgent", 40.0)]


def test_jump_hold_waits_one_sample_and_no_more():
    said = say(quiet(), steps([120, 121]))
    assert {(rule, at) for rule, _, at in raises(said)} == {
        ("heat_rise", 10.0),
        ("heat_fixed", 10.0),
    }


PERIODS_S = [5, 10, 30, 60, 61, 119, 120, 121, 300, 600, 1800]
"""How often devices report: from the liveliest to as seldom as is no silence yet."""


@st.composite
def corrupted(draw):
    """A quiet room's readings, silent once or never, one of them corrupt; and how much it is off.

    The corrupt one lies often where a baseline begins, and is often about as far off as the guards
    let pass.
    """
    period_s, count = draw(st.sampled_from(PERIODS_S)), draw(st.integers(9, 140))
    silent = draw(st.none() | st.integers(1, count - 1))
    begins = draw(st.sampled_from([0, silent or 0])) + draw(st.integers(0, 8))
    place = draw(st.just(min(begins, count - 1)) | st.integers(0, count - 1))
    off_k = draw(
        st.floats(-5.6, -3.5) | st.floats(-16, -14) | st.floats(-16, 16) | st.floats(-99, 1270)
    )
    noise = draw(st.sampled_from([0, 0.1, 0.5]))
    readings, at_s = [], 0.0
    for index in range(count):
        at_s += period_s + (1801 if index == silent else 0)
        value = 20 + (off_k if index == place else noise * draw(st.sampled_from([-1, 0, 1])))
        readings += [(1, at_s, value)]
    return readings, off_k


@settings(deadline=None, max_examples=500)
@given(corrupted())
def test_one_corrupt_reading_never_alarms_and_a_low_one_says_nothing(corrupt):
    readings, off_k = corrupt
    said = say(readings)
    assert [line for line in said if line[1] != "early"] == []
    if off_k < 0:
        assert said == []


@pytest.mark.parametrize("period_s", PERIODS_S)
@pytest.mark.parametrize("first", [[5.1], [8.0], [12.0], [24.9], [20.0, 5.1], [20.0, 15.1]])
def test_one_corrupt_or_cold_reading_where_a_baseline_begins_is_not_the_room(first, period_s):
    """Seen: early at 600 s and alarm with the next reading, for any period, of a first reading of
    5.1 to 12 degC in a room of 20; the same behind every silence.
    """
    readings = [*first, *[20.0] * 150]
    begun = steps(readings, period_s=period_s)
    again = steps(readings, from_s=151 * period_s + 2000, period_s=period_s)
    assert say(begun, again) == []


@pytest.mark.parametrize("period_s", PERIODS_S)
def test_a_sensor_that_was_cold_when_it_was_mounted_does_not_page(period_s):
    times = range(0, max(3600, 12 * period_s), period_s)
    warming = [20.0 - 15.0 * math.exp(-at_s / 150) for at_s in times]
    assert say(steps(warming, period_s=period_s)) == []


@pytest.mark.parametrize("period_s", [600, 1200, 1800])
@pytest.mark.parametrize("low_c", [15.0, 15.2, 15.5])
def test_one_low_reading_of_a_device_that_reports_seldom_moves_no_early(period_s, low_c):
    """Seen: the baseline followed it by nine tenths, and the next healthy reading was an early."""
    readings = [*[20.0] * 12, low_c, *[20.0] * 12]
    assert say(steps(readings, period_s=period_s)) == []


def test_a_device_that_reports_seldom_is_warm_with_its_sixth_reading():
    values = [20.0] * 5 + [27.0, 28.0]
    assert [at for _, _, at in raises(say(steps(values, period_s=600)))] == [3000.0, 3600.0]
    assert [at for _, _, at in raises(say(steps(values[1:], period_s=600)))] == [3000.0]


def test_one_corrupt_low_reading_makes_no_rise_of_the_room_behind_it():
    # Followed blindly, the baseline falls to 3 degC within one step of 60 s.
    said = say(quiet(for_s=3600, period_s=60), steps([-40] + [20] * 20, period_s=60))
    assert said == []


def test_a_corrupt_first_reading_is_not_the_baseline():
    said = say(steps([-40] + [20] * 100))
    assert said == []


def test_after_a_long_silence_the_baseline_begins_anew():
    fold = cold(KNOWN)
    assert say(quiet(), steps([35.0], from_s=1801), fold=fold) == []
    slot = fold.lookup[1]
    assert fold.blocks["features@1"]["baseline_c"][slot] == 35.0
    # Not warm for ten minutes, warm after.
    assert say(steps([42.0, 42.0], from_s=2200), fold=fold) == []
    warm = say(steps([35] * 60, from_s=2300), steps([42, 42], from_s=2900), fold=fold)
    assert raises(warm) == [("heat_rise", "early", 2900.0), ("heat_rise", "alarm", 2910.0)]


def test_silence_of_1800_s_is_no_gap_yet():
    fold = cold(KNOWN)
    said = say(quiet(), steps([30.0, 31.0], from_s=1790), fold=fold)
    assert raises(said) == [("heat_rise", "early", 1790.0), ("heat_rise", "alarm", 1800.0)]


def test_clear_needs_three_calm_minutes_and_the_hysteresis_band_is_not_calm():
    fold = cold(KNOWN)
    say(quiet(), steps([60, 61, 62]), fold=fold)
    assert say(steps([45] * 40, from_s=30), fold=fold)[-1][:3] != ("heat_fixed", "urgent", "clear")
    said = say(steps([43] * 10, from_s=430), steps([45], from_s=530), fold=fold)
    assert not [line for line in said if line[2] == "clear"]
    said = say(steps([43] * 19, from_s=540), fold=fold)
    assert [(rule, at) for rule, _, phase, _, at in said if phase == "clear"] == [
        ("heat_fixed", 720.0)
    ]


def test_a_burning_sensor_that_falls_silent_never_clears():
    fold = cold(KNOWN)
    assert len(raises(say(quiet(), steps([30, 45, 60, 75]), fold=fold))) == 3
    # Others of the fold talk on for a day, the log's clock goes on.
    said = say(steps([20.0] * 1440, point=3, from_s=60, period_s=60), fold=fold)
    assert said == []


def test_calm_is_not_judged_across_a_gap():
    fold = cold(KNOWN)
    say(quiet(), steps([60, 61, 62]), fold=fold)
    said = say(steps([20, 20], from_s=600), steps([20, 20], from_s=3000), fold=fold)
    assert not [line for line in said if line[2] == "clear"]


def test_coming_back_hot_after_a_silence_is_not_calm():
    fold = cold(KNOWN)
    say(quiet(), steps([26, 28, 30, 32]), fold=fold)
    # Half an hour later the baseline is seeded at 40 degC; the onset began over 20.
    back = say(steps([40.0] * 200, from_s=4000), fold=fold)
    assert back == []
    cooled = say(steps([21.0] * 30, from_s=6000), fold=fold)
    assert {line[:3] for line in cooled} == {
        ("heat_cusum", "early", "clear"),
        ("heat_rise", "early", "clear"),
        ("heat_rise", "alarm", "clear"),
    }


def test_refresh_once_an_event_minute_while_it_holds():
    said = say(steps([60.0] * 19, period_s=20))
    assert [(phase, at) for _, _, phase, _, at in said] == [
        ("raise", 20.0),
        *(("refresh", 60.0 * minute) for minute in range(1, 7)),
    ]


def test_what_comes_back_after_two_hours_is_a_new_onset():
    # 50 degC lies between calm and hot: without this the point would be mute for ever.
    fold = cold(KNOWN)
    first = run(fold, [frame([reading]) for reading in steps([60, 60])])
    between = steps([50.0] * 130, from_s=60, period_s=60)
    again = run(fold, [frame([reading]) for reading in [*between, *steps([60, 60], from_s=8000)]])
    assert [(each.phase, each.onset_us - T0_US) for each in again if each.rule == "heat_fixed"] == [
        ("clear", first[0].onset_us - T0_US),
        ("raise", 8_010_000_000),
    ]


# --- late and doubled readings ------------------------------------------------------------------


def test_the_same_reading_twice_is_one():
    hot = (1, 0.0, 90.0)
    assert say([hot, hot, hot]) == []
    fold = cold(KNOWN)
    assert run(fold, [frame([hot, hot]), frame([hot])]) == []
    assert fold.discards["duplicate"] == 2


def test_late_hot_readings_alarm_and_say_that_they_are_late():
    fold = cold(KNOWN)
    say(quiet(), fold=fold)
    signals = run(fold, [frame(steps([20, 60, 61], from_s=-605), flags=Flag.LATE)])
    (signal,) = signals
    assert (signal.rule, signal.tier, signal.late) == ("heat_fixed", "urgent", True)
    assert signal.evidence["values"] == [60.0, 61.0]
    assert signal.evidence["out_of_order"] is True
    # And over it is when live readings have been calm for three minutes.
    said = say(steps([20] * 20), fold=fold)
    assert [line[2] for line in said] == ["clear"]


def test_one_late_hot_reading_said_again_and_again_is_still_one():
    fold = cold(KNOWN)
    say(quiet(), fold=fold)
    late = (1, -505.0, 90.0)
    assert run(fold, [frame([late], received_s=0)] * 5) == []


def test_late_readings_do_not_touch_the_baseline_or_the_counters():
    lively = steps([21, 23, 25, 27, 30, 54, 55, 40])
    fold, other = cold(KNOWN), cold(KNOWN)
    plain = say(quiet(), lively, fold=fold)
    old_behind_each = [
        each for _, at, value in lively for each in ((1, at, value), (1, at - 5, 12))
    ]
    assert say(quiet(), old_behind_each, fold=other) == plain
    for name, column in fold.blocks["features@1"].items():
        assert column.tolist() == other.blocks["features@1"][name].tolist(), name


def test_a_late_pair_of_an_onset_that_is_over_does_not_raise_again():
    fold = cold(KNOWN)
    burst = steps([60, 61, 62])
    say(burst, steps([20] * 25, from_s=30), fold=fold)
    assert run(fold, [frame(burst[1:], received_s=300)]) == []


def test_readings_outside_the_physical_range_never_enter():
    fold = cold(KNOWN)
    say(quiet(), fold=fold)
    before = fold.blocks["features@1"]["x_c"].tolist()
    assert run(fold, [frame([(1, 0.0, 1300.5)]), frame([(1, 10.0, -80.5)])]) == []
    assert fold.blocks["features@1"]["x_c"].tolist() == before
    assert fold.discards["range"] == 2
