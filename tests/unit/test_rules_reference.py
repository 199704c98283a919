"""The rules over plain values against a scalar reference, on random streams."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import pytest
from fix_detect import T0_US, Point, cold, frame, registry, run
from fix_reference import F
from fix_reference_level import CoFire, CoPeople, Fixed, Flicker, Hot, Smoke, Tank
from hypothesis import given, settings
from hypothesis import strategies as st

START_S = 3_000_000.0


@dataclass(frozen=True)
class Case:
    """What stands for a quantity: values, seconds between readings, and its rules again."""

    values: tuple[float, ...]
    steps_s: tuple[float, ...]
    made: Callable[[], list]
    quiet: float
    warm_s: float = 60


def by_minute(*more: float) -> tuple[float, ...]:
    return (1, 10, 10, 30, 60, 60, 120, 700, 1799, 2000, *more)


CASES = {
    "gas_lel_pct": Case(
        (0, 0, 2, 4.9, 5, 9.9, 10, 12.5, 24, 25, 60),
        by_minute(180_001),
        lambda: [Fixed("gas_level", [("early", 10, 5), ("alarm", 25, 12.5)], samples=1)],
        0,
    ),
    "residual_current_ma": Case(
        (10, 100, 239, 240, 299, 300, 500),
        by_minute(180_001),
        lambda: [Fixed("residual_current", [("early", 300, 240)], samples=2)],
        20,
    ),
    "pressure_kpa": Case(
        (0, 90, 99, 100, 111, 139, 140, 151, 300),
        (60, 600, 3600, 3600, 90_000, 180_001),
        lambda: [
            Fixed(
                "pressure",
                [("early", 140, 150), ("alarm", 100, 110)],
                samples=2,
                below=True,
                clear_s=600,
            )
        ],
        300,
    ),
    "cable_temperature_3_c": Case(
        (-20, 20, 30, 30, 44, 55, 58, 60, 70, 81, 90, 120),
        by_minute(7300),
        lambda: [Hot("cable_temperature", early=70, alarm=90, rise=25, rise_from=45, clear_s=600)],
        30,
    ),
    "surface_temperature_c": Case(
        (-20, 30, 30, 45, 55, 60, 62, 71, 80, 119, 130, 400),
        by_minute(7300),
        lambda: [
            Hot("surface_temperature", early=80, alarm=130, rise=20, rise_from=60, clear_s=180)
        ],
        40,
    ),
    "co_ppm": Case(
        (-3, 0, 2, 2, 9, 17, 25, 29, 30, 45, 60, 100, 180, 400),
        by_minute(7300),
        lambda: [CoFire(), CoPeople()],
        2,
    ),
    "level_m": Case(
        (0, 0.9, 1, 1.2, 1.3, 1.9, 2, 2.1, 2.5, 2.5, 6),
        (900, 900, 7200, 7200, 43_200, 180_001),
        lambda: [Tank()],
        2.5,
        7200,
    ),
    "smoke_od_per_m": Case(
        (-0.1, 0, 0, 0.01, 0.029, 0.05, 0.06, 0.07, 0.11, 0.12, 0.14, 0.2, 1),
        by_minute(1799, 1799),
        lambda: [Smoke()],
        0,
    ),
    "temperature_c": Case(
        (-50, -41, -40, 10, 20, 20, 20, 36, 40), by_minute(), lambda: [Flicker()], 20
    ),
}
POINTS = (1, 2)


@st.composite
def streams(draw, case: Case):
    """Frames of readings that come mostly in order, some late, some twice."""
    at = dict.fromkeys(POINTS, START_S)
    frames = []
    for point in POINTS if draw(st.booleans()) else ():
        frames += [[(point, START_S - case.warm_s * k, case.quiet)] for k in range(14, 0, -1)]
    for _ in range(draw(st.integers(1, 20))):
        readings = []
        for _ in range(draw(st.integers(0, 5))):
            point = draw(st.sampled_from(POINTS))
            back_s = draw(st.sampled_from([0, 0, 0, 0, 0, 0, 10, 30, 500, 9000]))
            if not back_s:
                at[point] += draw(st.sampled_from(case.steps_s)) * draw(
                    st.sampled_from([1, 1, 1, 1, 0])
                )
            readings += [(point, at[point] - back_s, draw(st.sampled_from(case.values)))]
        frames += [readings]
    return frames


def in_judging_order(readings):
    seen, order = set(), []
    for point, at, value in sorted(readings, key=lambda reading: reading[:2]):
        if (point, at) not in seen:
            order += [(point, at, value)]
            seen.add((point, at))
    return order


def said_of(signals, rules):
    return sorted(
        (int(s.subject.id), s.rule, str(s.tier), str(s.phase), s.onset_us, s.event_us)
        for s in signals
        if s.rule in rules
    )


RULES = {
    "co_ppm": {"co_fire", "co_people"},
    "level_m": {"tank_level"},
    "smoke_od_per_m": {"smoke_threshold"},
    "temperature_c": {"sensor_fault"},
    "gas_lel_pct": {"gas_level"},
    "residual_current_ma": {"residual_current"},
    "pressure_kpa": {"pressure"},
    "cable_temperature_3_c": {"cable_temperature"},
    "surface_temperature_c": {"surface_temperature"},
}


@pytest.mark.parametrize("quantity", sorted(CASES))
def test_a_rule_says_what_the_scalar_reference_says(quantity):
    case, known = CASES[quantity], registry([Point(point, quantity) for point in POINTS])

    @settings(max_examples=60, deadline=None)
    @given(streams(case))
    def check(frames):
        points = {point: case.made() for point in POINTS}
        received_s, expected, found, fold = 0.0, [], [], cold(known)
        for readings in frames:
            received_s = max([received_s, *(at for _, at, _ in readings)])
            found += run(fold, [frame(readings, received_s=received_s)])
            for point, at, value in in_judging_order(readings):
                for rule in points[point]:
                    said = rule.read(T0_US + round(at * 1e6), value)
                    expected += [(point, *each) for each in said]
        assert said_of(found, RULES[quantity]) == sorted(expected)

    check()


@pytest.mark.parametrize("quantity", sorted(CASES))
def test_where_a_batch_is_split_changes_no_signal(quantity):
    case, known = CASES[quantity], registry([Point(point, quantity) for point in POINTS])

    @settings(max_examples=25, deadline=None)
    @given(st.data())
    def check(data):
        readings, at = [], dict.fromkeys(POINTS, START_S)
        for k in range(data.draw(st.integers(1, 60))):
            point = data.draw(st.sampled_from(POINTS))
            at[point] += data.draw(st.sampled_from(case.steps_s))
            value = case.quiet if k < 20 else data.draw(st.sampled_from(case.values))
            readings += [(point, at[point], float(F(value)))]
        last_s = max(at.values())
        cuts = sorted(data.draw(st.sets(st.integers(0, len(readings)), max_size=6)))
        places = [0, *cuts, len(readings)]
        pieces = [readings[a:b] for a, b in pairwise(places)]
        whole = run(cold(known), [frame(readings, received_s=last_s)])
        split = run(cold(known), [frame(piece, received_s=last_s) for piece in pieces])
        assert sorted(s.id for s in whole) == sorted(s.id for s in split)
        assert {s.id: s for s in whole} == {s.id: s for s in split}

    check()
