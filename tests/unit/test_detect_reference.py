"""The folds against a scalar reference that takes one reading at a time."""

from fix_detect import T0_US, Point, cold, frame, registry, run
from fix_reference import Contact, Thermometer
from fix_reference_level import Flicker
from hypothesis import given, settings
from hypothesis import strategies as st

from sizao.units import Lane

CLASSES = {1: "", 2: "A1", 3: "B"}
LIMITS = {1: 54.0, 2: 54.0, 3: 69.0}
HEAT = registry(Point(point, heat_class=name, area=10 + point) for point, name in CLASSES.items())
STATE = registry([Point(1, "fire_state"), Point(2, "call_point_state"), Point(3, "gas_state")])
TIERS = {1: "alarm", 2: "urgent", 3: "alarm"}

VALUES_C = st.sampled_from(
    [18.0, 20.0, 20.0, 20.3, 22.5, 24.2, 26.5, 27.0, 33.0, 43.9, 53.9, 54.0, 58.0, 75.0, -40.0]
)
STEPS_S = st.sampled_from([1, 10, 10, 30, 60, 60, 120, 700, 1799, 2000, 8000])


@st.composite
def heat_streams(draw) -> list[list[tuple[int, float, float]]]:
    """Frames of readings that come mostly in order, some late, some twice."""
    at = dict.fromkeys(CLASSES, 3000000.0)
    frames: list[list[tuple[int, float, float]]] = []
    warm = draw(st.booleans())
    for point in CLASSES if warm else ():
        frames += [[(point, at[point] - 900 + 60 * k, 20.0)] for k in range(15)]
    for _ in range(draw(st.integers(1, 25))):
        readings = []
        for _ in range(draw(st.integers(0, 5))):
            point = draw(st.sampled_from(sorted(CLASSES)))
            back_s = draw(st.sampled_from([0, 0, 0, 0, 10, 30, 500, 9000]))
            if not back_s:
                at[point] += draw(STEPS_S) * draw(st.sampled_from([1, 1, 1, 0]))
            readings += [(point, at[point] - back_s, draw(VALUES_C))]
        frames += [readings]
    return frames


def in_judging_order(readings):
    """A frame's readings by point and event time, first position first, each time once."""
    seen, order = set(), []
    for point, at, value in sorted(readings, key=lambda reading: reading[:2]):
        if (point, at) not in seen:
            order += [(point, at, value)]
            seen.add((point, at))
    return order


def said_of(signals):
    return sorted(
        (int(s.subject.id), s.rule, str(s.tier), str(s.phase), s.onset_us, s.event_us)
        for s in signals
    )


@settings(max_examples=300, deadline=None)
@given(heat_streams())
def test_heat_rules_say_what_the_scalar_reference_says(frames):
    points = {point: Thermometer(limit) for point, limit in LIMITS.items()}
    faults = {point: Flicker(limit) for point, limit in LIMITS.items()}
    received_s, expected, found = 0.0, [], []
    fold = cold(HEAT)
    for readings in frames:
        received_s = max([received_s, *(at for _, at, _ in readings)])
        found += run(fold, [frame(readings, received_s=received_s)])
        for point, at, value in in_judging_order(readings):
            at_us = T0_US + round(at * 1e6)
            said = points[point].read(at_us, value) + faults[point].read(at_us, value)
            expected += [(point, *each) for each in said]
        assert said_of(found) == sorted(expected)
    slots = {point: fold.lookup[point] for point in CLASSES}
    for point, slot in slots.items():
        assert fold.blocks["features@1"]["baseline_c"][slot] == points[point].b


MESSAGE = st.tuples(
    st.sampled_from(sorted(TIERS)),
    st.sampled_from([0, 0, 0, 5, 61, 300, 601]),  # how long before arrival it was said
    st.sampled_from([0, 1, 1, 2, 3]),
)


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from([1, 1, 30, 59, 300, 599, 700]), st.lists(MESSAGE, max_size=4)),
        max_size=25,
    )
)
def test_direct_says_what_the_scalar_reference_says(steps):
    points = {point: Contact(tier) for point, tier in TIERS.items()}
    fold, now_s, expected, found = cold(STATE, Lane.ALARM), 10_000, [], []
    for step_s, messages in steps:
        now_s += step_s
        readings = [(point, now_s - back_s, value) for point, back_s, value in messages]
        found += run(fold, [frame(readings, received_s=now_s)])
        last = {}
        for point, at, value in sorted(readings, key=lambda reading: reading[:2]):
            if last.get(point) != (at, value):
                at_us, received_us = (T0_US + round(each * 1e6) for each in (at, now_s))
                said = points[point].hear(at_us, value, received_us)
                expected += [(point, *each) for each in said]
            last[point] = (at, value)
        for point, contact in points.items():
            expected += [(point, *each) for each in contact.pass_to(T0_US + now_s * 1_000_000)]
        assert said_of(found) == sorted(expected)
