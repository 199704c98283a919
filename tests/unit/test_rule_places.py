"""What the rules over places promise: fusion_sum and smoke_co, by example and at random."""

import dataclasses
from itertools import pairwise

import numpy as np
import pytest
from fix_detect import T0_US, Point, cold, frame, registry, run, told
from fix_reference_places import Place
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors import state as folds
from detectors.batch import turns
from detectors.rules import fusion_sum
from sizao.frame import Flag
from sizao.units import Lane

HEAT, SMOKE, CO = 1, 2, 3
KINDS = {HEAT: "temperature_c", SMOKE: "smoke_od_per_m", CO: "co_ppm"}
QUIET = {HEAT: 20.0, SMOKE: 0.0, CO: 1.0}
PLACE = registry([Point(point, kind, device=9) for point, kind in KINDS.items()])
FUSED = {"fusion_sum", "smoke_co"}


def quiet(points=(HEAT, SMOKE, CO), period_s=10.0, for_s=1200.0):
    count = int(for_s / period_s)
    return [[(point, -period_s * k, QUIET[point]) for point in points] for k in range(count, 0, -1)]


def steps(period_s=10.0, from_s=0.0, **values):
    points = {"heat": HEAT, "smoke": SMOKE, "co": CO}
    count = len(next(iter(values.values())))
    return [
        [(points[name], from_s + period_s * k, each[k]) for name, each in values.items()]
        for k in range(count)
    ]


def say(fold, *parts, flags=0, rules=FUSED):
    """Fold one frame each; returns (rule, tier, phase, second)."""
    said = told(run(fold, [frame(each, flags=flags) for part in parts for each in part]))
    return [(rule, tier, phase, at) for rule, tier, phase, _, at in said if rule in rules]


def raises(said, rule="fusion_sum"):
    return [(tier, at) for name, tier, phase, at in said if (name, phase) == (rule, "raise")]


def test_the_worked_example_of_the_sum():
    fold = cold(PLACE)
    fire = steps(heat=[21.0, 22.0], smoke=[0.01, 0.02])
    signals = run(fold, [frame(each) for each in (*quiet(), *fire)])
    (alarm,) = [s for s in signals if s.rule == "fusion_sum" and s.tier == "alarm"]
    assert raises(told_of(signals)) == [("early", 10.0), ("alarm", 10.0)]
    assert alarm.evidence["sum"] == pytest.approx(1.16, abs=0.01)
    assert alarm.evidence["terms"] == pytest.approx([0.83, 0.33, 0], abs=0.01)
    assert alarm.evidence["rises_heat"] == pytest.approx([2, 1, 0], abs=0.03)
    assert alarm.evidence["before_heat_us"] == [0, 10e6, 20e6]
    assert alarm.evidence["beside_smoke_device"] == 9
    assert alarm.device == 9


def told_of(signals):
    return [(rule, tier, phase, at) for rule, tier, phase, _, at in told(signals)]


def test_the_worked_example_of_the_product():
    fold = cold(PLACE)
    fire = steps(smoke=[0.01, 0.02], co=[3.0, 6.0])
    signals = run(fold, [frame(each) for each in (*quiet(), *fire)])
    (alarm,) = [s for s in signals if s.rule == "smoke_co"]
    assert (str(alarm.tier), told([alarm])[0][-1]) == ("alarm", 10.0)
    assert alarm.evidence["product"] == pytest.approx(18, abs=0.5)


@pytest.mark.parametrize(
    ("fire", "expected"),
    [
        # A heater: 2 K a minute is slow, and heat alone, however hot, is no more than 0.66.
        ({"heat": [20 + 0.33 * k for k in range(40)]}, []),
        # The same heater in a kitchen that smokes a little: two channels agree.
        ({"heat": [20 + 0.33 * k for k in range(12)], "smoke": [0.008] * 12}, [("early", 30.0)]),
        # Fast heat needs nobody.
        ({"heat": [20.0, 21.5, 23.0, 24.5]}, [("alarm", 20.0)]),
        # Smoke at what a certified detector sounds at, and CO alone, which cars make too.
        ({"smoke": [0.02, 0.05, 0.07, 0.08]}, [("alarm", 20.0)]),
        ({"co": [20.0, 60.0, 90.0, 90.0]}, []),
    ],
)
def test_what_each_channel_is_worth(fire, expected):
    assert raises(say(cold(PLACE), quiet(), steps(**fire))) == expected


def test_a_missing_channel_is_no_evidence_for_or_against():
    both = registry([Point(HEAT, device=9), Point(SMOKE, "smoke_od_per_m", device=9)])
    fire = steps(heat=[21.0, 22.0], smoke=[0.01, 0.02])
    assert raises(say(cold(both), quiet((HEAT, SMOKE)), fire)) == [("early", 10.0), ("alarm", 10.0)]
    assert raises(say(cold(PLACE), quiet((HEAT, SMOKE)), fire)) == raises(
        say(cold(both), quiet((HEAT, SMOKE)), fire)
    )


def test_devices_of_an_area_are_a_place_where_there_is_one_of_each():
    flat = [Point(HEAT, area=30), Point(SMOKE, "smoke_od_per_m", area=30)]
    fire = steps(heat=[21.0, 22.0], smoke=[0.01, 0.02])

    def heard(points):
        return raises(say(cold(registry(points)), quiet((HEAT, SMOKE)), fire))

    assert heard(flat) == [("early", 10.0), ("alarm", 10.0)]
    another = Point(7, "smoke_od_per_m", area=30)
    assert heard([*flat, another]) == []  # which of the two stands beside the thermometer?
    elsewhere = [Point(HEAT, area=30), Point(SMOKE, "smoke_od_per_m", area=31)]
    assert heard(elsewhere) == []
    site = [Point(HEAT), Point(SMOKE, "smoke_od_per_m")]  # nobody said more than the site
    assert heard(site) == []
    suffixed = [Point(point, KINDS[point], heat_class="A1S", device=9) for point in (HEAT, SMOKE)]
    assert heard(suffixed) == []  # a class whose rise says nothing


def test_the_home_stays_when_a_newer_device_comes():
    before = [Point(SMOKE, "smoke_od_per_m", device=9), Point(HEAT, device=9)]
    known = registry([*before, Point(CO, "co_ppm", device=9, from_gen=2)], generation=2)
    fold = folds.start(Lane.TELEMETRY, 0, known.at(1), cold(PLACE).setup)
    fire = steps(heat=[21.0, 22.0, 23.0], smoke=[0.01, 0.02, 0.03])
    frames = [frame(each) for each in (*quiet((HEAT, SMOKE)), *fire)]
    more = [[(HEAT, 30.0 + 10 * k, 24.0), (SMOKE, 30.0 + 10 * k, 0.05)] for k in range(6)]
    frames += [frame([*each, (CO, each[0][1], 1.0)], generation=2) for each in more]
    signals = [s for s in run(fold, frames, known) if s.rule == "fusion_sum"]
    assert {s.subject.id for s in signals} == {"1"}
    assert len({s.onset for s in signals if s.tier == "alarm"}) == 1


@pytest.mark.parametrize("flags", [0, int(Flag.REDELIVERED | Flag.NO_DEVICE_TIME)])
def test_readings_said_twice_are_one(flags):
    fire = steps(heat=[30.0], smoke=[0.2])
    again = [[(point, at + (0.5 if flags else 0), value) for point, at, value in fire[0]]]
    fold = cold(PLACE)
    said = say(fold, quiet(), fire) + say(fold, again, flags=flags)
    assert said == []


def test_a_channel_that_fell_silent_is_no_evidence_and_clears_nothing():
    fold = cold(PLACE)
    hot = steps(heat=[21.0, 22.5, 24.0])
    late_smoke = [[(SMOKE, 400.0 + 10 * k, 0.03)] for k in range(4)]
    assert raises(say(fold, quiet(), hot)) == [("alarm", 20.0)]
    said = say(fold, late_smoke, [[(SMOKE, 500.0 + 10 * k, 0.0)] for k in range(60)])
    assert said == []  # neither refreshed by the smoke, nor over: heat fell silent in the fire


def test_coming_back_hot_is_not_calm_and_coming_back_cool_is():
    fold = cold(PLACE)
    hot = steps(heat=[21.0, 22.5, 24.0])
    assert raises(say(fold, quiet(), hot)) == [("alarm", 20.0)]
    back = [[(HEAT, 4000.0 + 10 * k, 40.0), (SMOKE, 4000.0 + 10 * k, 0.0)] for k in range(60)]
    assert say(fold, back) == []
    cool = [[(HEAT, 5000.0 + 10 * k, 21.0), (SMOKE, 5000.0 + 10 * k, 0.0)] for k in range(30)]
    assert [line[1:3] for line in say(fold, cool)] == [("alarm", "clear")]


def test_late_readings_take_their_place():
    fold = cold(PLACE)
    newest_first = [
        [(HEAT, 20.0, 24.0), (SMOKE, 20.0, 0.02)],
        [(HEAT, 0.0, 21.0)],
        [(SMOKE, 10.0, 0.015)],
        [(HEAT, 10.0, 22.5)],
    ]
    said = say(fold, quiet(), newest_first)
    assert raises(said) == [("early", 20.0), ("alarm", 20.0)]


def test_a_flickering_thermometer_is_no_evidence():
    fold = cold(PLACE)
    flicker = [20.0, 60, 60, 20, 60, 60, 20, 60, 60, 60, 20, 60, 60, 60]
    first = raises(say(fold, quiet(), steps(heat=flicker[:3])))
    rest = raises(say(fold, steps(heat=flicker[3:], from_s=30.0, smoke=[0.02] * 11)))
    assert first == []  # one step up, then no rate: 0.66 at most
    assert [at for _, at in rest if at > 60] == []


SPIKES = {
    HEAT: (-40.0, 23.0, 60.0, 300.0),
    SMOKE: (-0.3, 0.05, 1.0, 20.0),
    CO: (-30.0, 12.0, 900.0),
}
ALL = st.sampled_from(sorted(KINDS))


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_one_corrupt_reading_raises_no_alarm_by_any_rule(data):
    """A quiet place with some noise, read by all rules, one value of one channel replaced."""
    random = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    period_s = data.draw(st.sampled_from([1.0, 5.0, 10.0, 60.0]))
    noise = {HEAT: 0.1, SMOKE: 0.002, CO: 0.5}
    count = 140
    point, at = data.draw(ALL), data.draw(st.integers(0, count - 2))
    spike = data.draw(st.sampled_from(SPIKES[point]))
    frames = []
    for k in range(count):
        values = {each: QUIET[each] + noise[each] * random.standard_normal() for each in KINDS}
        if k == at:
            values[point] = spike
        frames += [[(each, period_s * k, float(np.float32(values[each]))) for each in KINDS]]
    signals = run(cold(PLACE), [frame(each) for each in frames])
    assert [told([s]) for s in signals if s.tier != "early"] == []


VALUES = {
    HEAT: (-30.0, 20.0, 20.2, 20.4, 21.0, 22.0, 24.0, 30.0, 40.0, 70.0),
    SMOKE: (-0.01, 0.0, 0.003, 0.01, 0.02, 0.04, 0.06, 0.2),
    CO: (0.0, 1.0, 2.0, 5.0, 9.0, 16.0, 40.0),
}
STEPS_S = (0.5, 1, 5, 10, 10, 10, 30, 60, 179, 181, 900, 1801)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_where_a_batch_is_split_changes_no_signal(data):
    """Channels run apart in time: what came first counts, never how the log was cut."""
    known = registry(
        [Point(point + 10 * device, kind, device=9 + device)
         for device in (0, 1) for point, kind in KINDS.items()]
    )  # fmt: skip
    start_s = 5000.0
    points = [point + 10 * device for device in (0, 1) for point in KINDS]
    at, readings = dict.fromkeys(points, start_s), []
    for k in range(14, 0, -1):
        readings += [(point, start_s - 60 * k, QUIET[point % 10]) for point in points]
    for _ in range(data.draw(st.integers(1, 80))):
        point = data.draw(st.sampled_from(points))
        at[point] += data.draw(st.sampled_from(STEPS_S))
        value = data.draw(st.sampled_from(VALUES[point % 10]))
        readings += [(point, at[point], float(np.float32(value)))]
    last_s = max(at.values())
    cuts = sorted(data.draw(st.sets(st.integers(0, len(readings)), max_size=6)))
    pieces = [readings[a:b] for a, b in pairwise([0, *cuts, len(readings)])]
    whole = run(cold(known), [frame(readings, received_s=last_s)])
    split = run(cold(known), [frame(piece, received_s=last_s) for piece in pieces])
    assert {s.id: s for s in whole} == {s.id: s for s in split}


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_places_say_what_the_scalar_reference_says(data):
    """Readings in any order, late ones and repeats too."""
    start_s, warm = 5000.0, data.draw(st.booleans())
    readings = []
    for k in range(14, 0, -1) if warm else ():
        readings += [(point, start_s - 60 * k, QUIET[point]) for point in KINDS]
    at = dict.fromkeys(KINDS, start_s)
    for _ in range(data.draw(st.integers(1, 80))):
        point = data.draw(ALL)
        back_s = data.draw(st.sampled_from([0, 0, 0, 0, 0, 7, 10, 15, 300]))
        if not back_s:
            at[point] += data.draw(st.sampled_from(STEPS_S))
        value = data.draw(st.sampled_from(VALUES[point]))
        readings += [(point, at[point] - back_s, float(np.float32(value)))]
    place, expected = Place(), []
    for point, second, value in readings:
        expected += place.read(point - 1, T0_US + round(second * 1e6), value)
    signals = run(cold(PLACE), [frame([each], received_s=start_s + 90_000) for each in readings])
    found = [
        (s.rule, str(s.tier), str(s.phase), s.onset_us, s.event_us)
        for s in signals
        if s.rule in FUSED
    ]
    assert sorted(found) == sorted(expected)


def test_turns_keep_the_order_of_arrival():
    place = np.array([5, 2, 5, 2, 5])
    assert [turn.tolist() for turn in turns(place)] == [[1, 0], [3, 2], [4]]
    assert [turn.tolist() for turn in turns(place[:2])] == [[1, 0]]
    assert turns(place[:0]) == []


@pytest.mark.parametrize(
    ("m", "n", "window_s", "expected"),
    [(1, 1, 0, 10), (2, 2, 0, 20), (3, 3, 0, 20), (4, 4, 0, 30), (2, 4, 5, 20), (9, 2, 0, 20)],
)
def test_verification_of_a_site(m, n, window_s, expected):
    """Readings of all channels of the place count: two come at each time."""
    asked = fusion_sum.Params(verify_m_count=m, verify_n_count=n, verify_window_s=window_s)
    shipped = cold(PLACE).setup
    setup = dataclasses.replace(shipped, params={**shipped.params, "fusion_sum": asked})
    fold = folds.start(Lane.TELEMETRY, 0, PLACE.at(1), setup)
    fire = steps(heat=[20.0, 20.0, 20.0, 20.0], smoke=[0.05, 0.07, 0.08, 0.09])
    alarms = [at for tier, at in raises(say(fold, quiet(), fire)) if tier == "alarm"]
    assert alarms == [expected]
