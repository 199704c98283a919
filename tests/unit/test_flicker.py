"""The bridge's newest temperatures against a plain walk, on random batches."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ingest.flicker import Newest
from sizao import limits

ROW = st.tuples(st.integers(0, 4), st.integers(1, 30), st.sampled_from([20.0, 28.0, 36.0, 90.0]))


def walked(batch, newest):
    """Points that jump, read by event time, and their newest readings then."""
    jumped, newest = set(), dict(newest)
    for point, at, value in sorted(batch, key=lambda row: row[1]):
        before = newest.get(point)
        if before is None or at >= before[0]:
            if before is not None and abs(value - before[1]) > limits.JUMP_K:
                jumped.add(point)
            newest[point] = (at, value)
    return jumped, newest


def taken(batch, newest):
    """The newest readings after a batch: of equal times in it the last, an old one never."""
    after = dict(newest)
    for point, at, value in batch:
        if at > newest.get(point, (0,))[0] and at >= after.get(point, (0,))[0]:
            after[point] = (at, value)
    return after


@given(batches=st.lists(st.lists(ROW, max_size=12), max_size=6))
def test_no_jump_is_passed_over_and_the_newest_is_kept(batches):
    known, newest = Newest(), {}
    known.grow(5)
    for batch in batches:
        point, event_us = (np.array([row[n] for row in batch], np.int64) for n in (0, 1))
        value = np.array([row[2] for row in batch], np.float32)
        jumped, _ = walked(batch, newest)
        assert jumped <= set(point[known.jumps(point, value)].tolist())
        known.take(point, event_us, value, np.zeros(len(batch), np.bool_))
        newest = taken(batch, newest)
        for at, kept in newest.items():
            assert (int(known.event_us[at]), float(known.value[at])) == kept


def test_two_rows_may_jump_apart_though_neither_is_a_jump_from_the_newest():
    known = Newest()
    known.grow(2)
    one, two = np.array([1], np.int64), np.array([1, 1], np.int64)
    known.take(one, one, np.array([28], np.float32), np.zeros(1, np.bool_))
    assert known.jumps(two, np.array([20, 36], np.float32)).any()


def test_a_batch_that_holds_points_twice_but_no_jump_marks_nobody():
    known = Newest()
    known.grow(3)
    twice = np.array([1, 2, 1, 2], np.int64)
    calm = np.array([20, 21, 22, 20], np.float32)
    assert not known.jumps(twice, calm).any()
