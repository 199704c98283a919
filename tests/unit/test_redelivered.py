"""What may be stored already is set apart, and every place where it may lie is looked at."""

from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ingest.redelivered import LATE_SPAN_US, PAST_US_MAX, SPAN_US, in_time, late, part
from ingest.rows import TIME_US_END
from sizao.frame import Flag, Frame

NOW_US = 1_772_352_000_000_000
SECOND_US = 1_000_000
MINUTE_US, HOUR_US = 60 * SECOND_US, 3_600 * SECOND_US
DUP = Flag.REDELIVERED


def frame(event_us, flags=None, received_us=NOW_US):
    count = len(event_us)
    return Frame(
        point=np.arange(1, count + 1, dtype=np.uint32),
        event_us=np.array(event_us, np.int64),
        value=np.zeros(count, np.float32),
        flags=np.array([DUP] * count if flags is None else flags, np.uint8),
        received_us=received_us,
        generation=1,
        writer="b0.telemetry",
        sequence=1,
    )


def test_only_what_is_marked_and_bears_its_own_time_is_looked_for():
    mixed = frame([NOW_US] * 4, [0, DUP, DUP | Flag.NO_DEVICE_TIME, DUP | Flag.CLOCK_CORRECTED])
    clean = frame([NOW_US], [Flag.LATE])
    parted = part([clean, mixed])
    assert parted.plain[0] is clean
    assert parted.plain[1].point.tolist() == [1, 3, 4]
    assert parted.again[0].point.tolist() == [2]
    assert parted.untimed == 2
    whole = part([frame([NOW_US, NOW_US])])
    assert (whole.plain, whole.again[0].rows) == ([], 2)


def test_nothing_to_look_for_needs_no_look():
    assert in_time([]) == late([]) == []


def test_a_fresh_one_costs_one_short_look():
    assert in_time([frame([NOW_US - SECOND_US])]) == [
        (NOW_US - 121 * SECOND_US, NOW_US + 59 * SECOND_US),
        (NOW_US + 59 * SECOND_US, NOW_US + 60 * SECOND_US + 1),
    ]
    assert late([frame([NOW_US - SECOND_US])]) == [
        (NOW_US - SECOND_US, NOW_US + 60 * SECOND_US + 1)
    ]


def test_far_apart_they_are_looked_for_apart():
    spans = in_time([frame([NOW_US - 40 * HOUR_US, NOW_US, NOW_US - 40 * HOUR_US - MINUTE_US])])
    assert sum(end - first for first, end in spans) < 9 * MINUTE_US


def test_no_clock_makes_a_look_without_bound():
    spans = late([frame([0, TIME_US_END * 2, -5]), frame([5], received_us=0)])
    assert sum(end - first for first, end in spans) <= PAST_US_MAX + 4 * MINUTE_US
    assert len(in_time([frame([0, -(2**62)], received_us=5)])) <= 2


AGE = st.integers(-60 * SECOND_US, 48 * HOUR_US)


@given(st.lists(st.tuples(AGE, st.integers(0, 72 * HOUR_US)), min_size=1, max_size=8))
def test_every_first_delivery_lies_where_it_is_looked_for(said):
    """(how late the first delivery was, how much later the second came)."""
    seconds = [frame([NOW_US + wait - age - wait], received_us=NOW_US + wait) for age, wait in said]
    spans = in_time(seconds), late(seconds)
    for looks, each_us in zip(spans, (SPAN_US, LATE_SPAN_US), strict=True):
        assert all(0 < end - first <= each_us for first, end in looks)
        assert all(a[1] <= b[0] for a, b in pairwise(looks))
    for age, _ in said:
        looks = spans[1] if age > MINUTE_US else spans[0]
        assert any(first <= NOW_US < end for first, end in looks)
