"""What the rules over plain values promise, by example; heat and direct have files of their own."""

import dataclasses

import numpy as np
import pytest
from fix_detect import T0_US, Point, cold, frame, registry, run, told
from fix_reference_level import Smoke, seconds_to_alarm

from detectors import state as folds
from detectors.rules import co_people, smoke_threshold
from sizao.frame import Flag
from sizao.signal import topic_of
from sizao.topics import CONDITIONS, SIGNALS
from sizao.units import Lane


def of(quantity):
    return cold(registry([Point(1, quantity)]))


def steps(values, *, from_s=0.0, period_s=10.0):
    return [(1, from_s + period_s * k, value) for k, value in enumerate(values)]


def say(fold, *parts, flags=0):
    """Fold readings one frame each; returns (rule, tier, phase, second)."""
    readings = [reading for part in parts for reading in part]
    said = told(run(fold, [frame([reading], flags=flags) for reading in readings]))
    return [(rule, tier, phase, at) for rule, tier, phase, _, at in said]


def quiet(value, period_s=10.0, for_s=1200.0):
    count = int(for_s / period_s)
    return [(1, -period_s * k, value) for k in range(count, 0, -1)]


def raises(said, rule):
    return [(tier, at) for name, tier, phase, at in said if (name, phase) == (rule, "raise")]


@pytest.mark.parametrize(
    ("rule", "quantity", "before", "values", "period_s", "expected"),
    [
        ("gas_level", "gas_lel_pct", [], [2, 12, 26], 30, [("early", 30), ("alarm", 60)]),
        ("gas_level", "gas_lel_pct", [], [60], 30, [("early", 0), ("alarm", 0)]),
        ("residual_current", "residual_current_ma", [], [120, 310, 290, 330, 345], 60,
         [("early", 240)]),
        ("pressure", "pressure_kpa", [], [310, 135, 138, 95, 90], 3600,
         [("early", 7200), ("alarm", 14_400)]),
        ("cable_temperature", "cable_temperature_2_c", quiet(30, 30), [50, 58, 60, 91, 92], 30,
         [("early", 60), ("alarm", 120)]),
        ("surface_temperature", "surface_temperature_c", quiet(35), [48, 62, 70, 131, 135], 10,
         [("early", 20), ("alarm", 40)]),
        ("co_fire", "co_ppm", quiet(2), [9, 18, 19, 24], 10, [("early", 20)]),
        ("tank_level", "level_m", quiet(2.5, 900, 172_800), [2.2, 1.9, 1.8, 1.2, 1.1], 900,
         [("early", 1800), ("alarm", 3600)]),
        ("smoke_threshold", "smoke_od_per_m", quiet(0.01, 10, 3600),
         [0.05, 0.07, 0.08, 0.13, 0.14], 10, [("early", 20), ("alarm", 40)]),
        ("sensor_fault", "temperature_c", [], [20, 40, 20, 40, 20], 10, [("early", 40)]),
        ("sensor_fault", "temperature_c", [], [20, 40, 60, 90, 120, 100, 80], 10, []),
        ("sensor_fault", "temperature_c", [], [20, -41, 20, -41, -50], 10, [("early", 40)]),
        ("sensor_fault", "temperature_c", [], [-39, -41, -50], 10, [("early", 20)]),
    ],
)  # fmt: skip
def test_the_worked_examples(rule, quantity, before, values, period_s, expected):
    said = say(of(quantity), before, steps(values, period_s=period_s))
    assert raises(said, rule) == expected


def test_drift_of_the_worked_example():
    fold = of("smoke_od_per_m")
    say(fold, quiet(0.01, 10, 3600))
    (drift,) = fold.blocks["smoke_threshold@2"]["drift"]
    assert drift == pytest.approx(0.0015, abs=1e-4)


QUIET_BAD = [
    ("residual_current_ma", 20, 5000),
    ("pressure_kpa", 300, 0),
    ("cable_temperature_c", 30, 500),
    ("cable_temperature_c", 30, -60),
    ("surface_temperature_c", 30, 900),
    ("surface_temperature_c", 70, -60),
    ("co_ppm", 2, 5000),
    ("co_ppm", 20, -40),
    ("level_m", 2.5, 0),
    ("level_m", 2.5, 900),
    ("smoke_od_per_m", 0.01, 40),
    ("smoke_od_per_m", 0.05, -1),
    ("temperature_c", 20, -70),
]


@pytest.mark.parametrize(("quantity", "good", "corrupt"), QUIET_BAD)
@pytest.mark.parametrize("where", [0, 1, 7, 50, 119])
def test_one_corrupt_reading_says_nothing(quantity, good, corrupt, where):
    period_s = 900.0 if quantity == "level_m" else 10.0
    values = [float(good)] * 240
    values[where] = corrupt
    said = say(of(quantity), steps(values, period_s=period_s))
    assert [line for line in said if not line[0].startswith("heat")] == []


# --- CO -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("period_s", [10.0, 60.0])
@pytest.mark.parametrize(
    ("ppm", "least_min", "most_min"), [(50, 60, 90), (100, 10, 40), (300, 0, 3), (30, 120, 1e9)]
)
def test_people_are_told_within_the_windows_of_en_50291(ppm, least_min, most_min, period_s):
    count = int(180 * 60 / period_s)
    said = say(of("co_ppm"), quiet(1, period_s), steps([ppm] * count, period_s=period_s))
    ((_, at_s),) = [each for each in raises(said, "co_people") if each[0] == "alarm"]
    # At the worst the gas came right behind the last clean reading.
    assert least_min * 60 <= at_s
    assert at_s + period_s <= most_min * 60


def test_under_30_ppm_nobody_is_told_and_between_the_points_time_falls():
    said = say(of("co_ppm"), steps([29.0] * 2000, period_s=60))
    assert raises(said, "co_people") == []
    levels = np.linspace(30, 2000, 400, dtype=np.float32)
    rates = co_people.rate_per_s(co_people.Params(), levels)
    assert (np.diff(rates) > 0).all()
    for ppm, rate in zip(levels.tolist(), rates.tolist(), strict=True):
        assert 1 / rate == pytest.approx(seconds_to_alarm(ppm), rel=1e-6)


def test_a_gap_adds_no_dose_and_clean_air_takes_it_away():
    fold = of("co_ppm")
    say(fold, steps([100.0, 100.0], period_s=1801))
    assert fold.blocks["co_people@1"]["dose"].tolist() == [0.0]
    say(fold, steps([100.0] * 61, from_s=4000, period_s=10))
    (dose,) = fold.blocks["co_people@1"]["dose"]
    assert dose == pytest.approx(10 / 25, abs=0.01)
    say(fold, steps([0.0] * 600, from_s=4700, period_s=60))
    (dose,) = fold.blocks["co_people@1"]["dose"]
    assert dose < 0.04


# --- smoke --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("m", "n", "window_s", "values", "expected"),
    [
        (2, 2, 0, [0.13, 0.0, 0.13, 0.0, 0.13, 0.13], [50]),
        (2, 3, 0, [0.13, 0.0, 0.13, 0.0, 0.13, 0.13], [20]),
        (3, 8, 0, [0.13, 0.0, 0.13, 0.0, 0.0, 0.13], [50]),
        (3, 8, 20, [0.13, 0.0, 0.13, 0.0, 0.0, 0.13, 0.13, 0.13], [70]),
        (1, 1, 0, [0.13, 0.0], [0]),
    ],
)
def test_smoke_is_verified_as_a_site_sets_it(m, n, window_s, values, expected):
    asked = smoke_threshold.Params(verify_m_count=m, verify_n_count=n, verify_window_s=window_s)
    fold = of("smoke_od_per_m")
    params = {**fold.setup.params, "smoke_threshold": asked}
    known = registry([Point(1, "smoke_od_per_m")])
    setup = dataclasses.replace(fold.setup, params=params)
    fold = folds.start(Lane.TELEMETRY, 0, known.at(1), setup)
    said = raises(say(fold, quiet(0.0), steps(values)), "smoke_threshold")
    assert [at for tier, at in said if tier == "alarm"] == expected
    late = [(1, 5000.0, 0.0), (1, 4990.0, 0.13), (1, 4980.0, 0.13)]
    late_said = [at for tier, at in raises(say(fold, late), "smoke_threshold") if tier == "alarm"]
    if m > 2:
        assert late_said == []  # late readings decide in pairs, or not at all


@pytest.mark.parametrize("per_hour", [0.03, 0.06, 0.12, 0.5, 3.0])
def test_compensation_does_not_hide_a_slow_fire(per_hour):
    """EN 54-7 4.8: from a quarter of the threshold an hour on, within 1.6 A/R + 100 s."""
    dirty = [0.0599] * 480  # for four days: the drift is nearly as much as it may be
    fold = of("smoke_od_per_m")
    say(fold, steps(dirty, from_s=-480 * 1000 + 1000, period_s=1000))
    ramp = [0.06 + per_hour * k * 60 / 3600 for k in range(1, 60 * 24)]
    said = say(fold, steps(ramp, from_s=60, period_s=60))
    ((_, at_s),) = [each for each in raises(said, "smoke_threshold") if each[0] == "alarm"]
    assert at_s <= 1.6 * 0.12 / per_hour * 3600 + 100


def test_a_dirty_chamber_is_a_fault_and_no_fire():
    fold = of("smoke_od_per_m")
    creeping = [0.065 * min(1, k / 300) for k in range(480)]  # 65 % of it within five days
    signals = run(fold, [frame([reading]) for reading in steps(creeping, period_s=1500)])
    assert {(each.rule, str(each.kind), str(each.tier)) for each in signals} == {
        ("smoke_threshold", "fault", "early")
    }
    first = signals[0]
    assert first.evidence["fault"] == "dirty"
    assert first.evidence["drift"] == pytest.approx(0.06)
    assert topic_of(first.kind) is CONDITIONS
    # Cleaned, it is over.
    said = say(fold, steps([0.0] * 60, from_s=480 * 1500, period_s=1500))
    assert said[-1][2] == "clear"


def test_drift_and_its_bound_are_those_of_the_scalar_reference():
    fold, smoke, expected = of("smoke_od_per_m"), Smoke(), []
    values = [0.05, 0.064, 0.07, 0.062] * 60 + [0.09, 0.2, 0.2] * 4 + [0.0, -0.02] * 40
    found = run(fold, [frame([reading]) for reading in steps(values, period_s=1799)])
    for _, at, value in steps(values, period_s=1799):
        expected += smoke.read(T0_US + round(at * 1e6), value)
    said = [
        (each.rule, str(each.tier), str(each.phase), each.onset_us, each.event_us) for each in found
    ]
    assert sorted(said) == sorted(expected) != []
    assert {str(each.kind) for each in found} == {"fire", "fault"}


# --- late, and silent ---------------------------------------------------------------------------

LATE = [
    ("residual_current_ma", 20, 400, "residual_current"),
    ("pressure_kpa", 300, 120, "pressure"),
    ("smoke_od_per_m", 0.0, 0.1, "smoke_threshold"),
    ("surface_temperature_c", 30, 100, "surface_temperature"),
]


@pytest.mark.parametrize(("quantity", "good", "bad", "rule"), LATE)
def test_two_late_readings_over_a_limit_are_said_as_late_and_one_is_not(quantity, good, bad, rule):
    fold = of(quantity)
    say(fold, steps([good] * 10))
    assert say(fold, [(1, -100, bad), (1, -100, bad)], flags=Flag.LATE) == []
    (signal,) = run(fold, [frame([(1, -90, bad)], received_s=100, flags=Flag.LATE)])
    assert (signal.rule, str(signal.tier), signal.late) == (rule, "early", True)
    assert signal.evidence["out_of_order"] is True
    assert signal.evidence["before_us"] == T0_US - 100_000_000
    # And over it is when readings in order have been calm for long enough.
    after = say(fold, steps([good] * 100, from_s=100))
    assert [(each[0], each[2]) for each in after] == [(rule, "clear")]


def test_two_late_readings_more_than_two_hours_apart_are_two_single_ones():
    fold = of("residual_current_ma")
    say(fold, steps([20] * 10))
    assert say(fold, [(1, -9000, 400), (1, -1000, 400)], flags=Flag.LATE) == []


def test_a_late_cool_reading_between_two_hot_ones_keeps_them_apart():
    fold = of("residual_current_ma")
    say(fold, steps([20] * 10))
    assert say(fold, [(1, -100, 400), (1, -95, 20), (1, -90, 400)], flags=Flag.LATE) == []


@pytest.mark.parametrize(("quantity", "good", "bad", "rule"), LATE)
def test_late_readings_move_nothing(quantity, good, bad, rule):
    del bad
    fold, other = of(quantity), of(quantity)
    say(fold, steps([good] * 100))
    pairs = [[reading, (1, reading[1] - 5, good * 0.9)] for reading in steps([good] * 100)]
    say(other, *pairs)
    (key,) = [key for key in fold.blocks if key.startswith(f"{rule}@")]
    for name, column in fold.blocks[key].items():
        assert column.tolist() == other.blocks[key][name].tolist(), name


def test_a_reading_delivered_again_under_the_time_of_its_arrival_is_no_second_one():
    fold = of("residual_current_ma")
    say(fold, steps([20] * 3))
    again = Flag.REDELIVERED | Flag.NO_DEVICE_TIME
    assert say(fold, [(1, 100, 400)], [(1, 105, 400)], flags=again) == []


def test_coming_back_hot_from_a_silence_is_not_calm():
    fold = of("surface_temperature_c")
    rising = say(fold, quiet(35), steps([62, 66, 68]))
    assert raises(rising, "surface_temperature") == [("early", 10)]
    assert say(fold, steps([66] * 200, from_s=4000)) == []
    assert [each[2] for each in say(fold, steps([40] * 40, from_s=6100))] == ["clear"]


def test_a_corrupt_seed_makes_no_rise():
    said = say(of("cable_temperature_c"), steps([-40.0] + [50.0] * 100, period_s=30))
    assert said == []


def test_no_duration_reaches_across_a_gap():
    fold = of("smoke_od_per_m")
    assert [each[2] for each in say(fold, steps([0.1, 0.1]))] == ["raise"]
    assert say(fold, [(1, 100, 0.0), (1, 2000, 0.0), (1, 2170, 0.0)]) == []
    assert [each[2] for each in say(fold, [(1, 2180, 0.0)])] == ["clear"]


@pytest.mark.parametrize(
    ("quantity", "value", "kind", "topic"),
    [
        ("residual_current_ma", 400, "electrical", SIGNALS),
        ("cable_temperature_4_c", 95, "electrical", SIGNALS),
        ("pressure_kpa", 50, "supervisory", CONDITIONS),
        ("gas_lel_pct", 30, "gas", SIGNALS),
        ("surface_temperature_c", 150, "fire", SIGNALS),
    ],
)
def test_kinds_and_their_topics(quantity, value, kind, topic):
    signals = run(of(quantity), [frame([reading]) for reading in steps([value, value])])
    assert {str(each.kind) for each in signals} == {kind}
    assert {topic_of(each.kind) for each in signals} == {topic}
    assert all(each.evidence["quantity"] == quantity for each in signals)


def test_a_rule_whose_quantity_is_not_there_is_not_asked(monkeypatch):
    fold = cold(registry([Point(1, "co_ppm"), Point(2)]))

    def fail(*what):
        raise AssertionError(what)

    monkeypatch.setattr(co_people, "step", fail)
    run(fold, [frame([(2, 0, 20.0)])])
    with pytest.raises(AssertionError):
        run(fold, [frame([(1, 1, 20.0), (2, 1, 20.0)])])


def test_a_late_reading_of_an_onsets_own_time_keeps_its_baseline():
    """It once took that of its arrival: the point had cooled, and the onset did not end."""
    fold = cold(registry([Point(1, "surface_temperature_c")]))
    frames = [
        [(1, 10.0, -20), (1, 21.0, 80)],
        [(1, 22.0, -20), (1, 12.0, 80)],
        [(1, 12.0, -20)],
        [(1, 722.0, 30)],
    ]
    said = [one for at in frames for one in run(fold, [frame(at, received_s=722.0)])]
    assert [one.phase for one in said] == ["raise", "clear"]
