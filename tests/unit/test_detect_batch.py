"""One frame into rounds."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from detectors.batch import Rows, rounds

READING = st.tuples(
    st.integers(0, 5), st.integers(0, 8), st.sampled_from([0.0, 1.0, 2.0])
)  # slot, event time, value


def rows_of(readings: list[tuple[int, int, float]]) -> Rows:
    return Rows(
        received_us=0,
        slot=np.array([slot for slot, _, _ in readings], np.int64),
        event_us=np.array([at for _, at, _ in readings], np.int64),
        value=np.array([value for _, _, value in readings], np.float32),
        flags=np.arange(len(readings)).astype(np.uint8),
    )


def listed(rows: Rows) -> list[tuple[int, int, float, int]]:
    columns = (rows.slot, rows.event_us, rows.value, rows.flags)
    return list(zip(*(column.tolist() for column in columns), strict=True))


def expected(readings, *, keep_changes: bool) -> tuple[list[list], int]:
    """The plain way: sort by (slot, time, position), drop what is said again, deal out."""
    ordered = sorted(
        (slot, at, position, value) for position, (slot, at, value) in enumerate(readings)
    )
    dealt: dict[int, list] = {}
    dropped, before = 0, None
    for slot, at, position, value in ordered:
        same = before is not None and before[:2] == (slot, at)
        if same and (not keep_changes or before[2] == value):
            dropped += 1
        else:
            dealt.setdefault(slot, []).append((slot, at, value, position))
        before = (slot, at, value)
    depth = max((len(run) for run in dealt.values()), default=0)
    return [
        [run[rank] for _, run in sorted(dealt.items()) if rank < len(run)] for rank in range(depth)
    ], dropped


@given(readings=st.lists(READING, max_size=60), keep_changes=st.booleans())
def test_rounds_are_those_of_a_plain_sort(readings, keep_changes):
    found, dropped = rounds(rows_of(readings), keep_changes=keep_changes)
    assert ([listed(each) for each in found], dropped) == expected(
        readings, keep_changes=keep_changes
    )


@given(st.data())
def test_frames_that_span_a_week_keep_the_order_of_microseconds(data):
    # 19 bits of slots, 40 of time and 6 of position do not fit one key: the coarse path.
    week_us = 7 * 24 * 3600 * 10**6
    bases = data.draw(st.lists(st.integers(0, 2), min_size=40, max_size=60))
    readings = [
        (400_000 - base, week_us * (base == 1) + data.draw(st.integers(0, 5)), 1.0)
        for base in bases
    ]
    readings += [(2**30, 0, 1.0), (2**30, week_us, 1.0)]
    found, dropped = rounds(rows_of(readings), keep_changes=False)
    assert ([listed(each) for each in found], dropped) == expected(readings, keep_changes=False)


def test_a_flood_of_one_point_stays_in_order_and_whole():
    readings = [(7, at, float(at)) for at in reversed(range(5000))]
    found, dropped = rounds(rows_of(readings), keep_changes=False)
    assert dropped == 0
    assert [each.event_us.tolist() for each in found] == [[at] for at in range(5000)]


def test_normal_and_alarm_within_one_second_of_a_coarse_clock_are_both_kept():
    readings = [(1, 100, 0.0), (1, 100, 1.0), (1, 100, 1.0)]
    found, dropped = rounds(rows_of(readings), keep_changes=True)
    assert [each.value.tolist() for each in found] == [[0.0], [1.0]]
    assert dropped == 1
