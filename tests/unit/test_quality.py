"""What a device should have said, what it said, what it missed; in pieces as in one."""

from dataclasses import replace

import numpy as np
import pytest
from fix_quality import DAY, SECOND_US, T0_US, UTC8_MIN, frame, roster, totals
from hypothesis import given
from hypothesis import strategies as st

from ingest import quality
from ingest.device_types.reasons import Reason
from ingest.quality import STUCK_READINGS_MIN, STUCK_S_MIN
from ingest.quality_keep import pack, unpack
from ingest.rejects import Reject
from ingest.replay import WRITER
from sizao.errors import BadRecord
from sizao.frame import Flag
from sizao.units import Lane

MIDNIGHT_S = 8 * 3_600  # after T0, in China
TWO = roster((0, 60, 2), (0, 3_600, 2))


def begun(said=TWO, partitions=(0,)):
    state = quality.start(said, list(partitions), UTC8_MIN)
    for number in partitions:
        quality.fold(state, number, frame(0))
    return state


def listen(state, until_s, *, since_s=0, number=0, step_s=10, **more):
    """A bridge that listens and hears nothing."""
    for at_s in range(since_s + step_s, until_s + 1, step_s):
        quality.fold(state, number, frame(at_s, **more))


def take(state, into=None):
    for number in state.parts:
        quality.release(state, number)
    found = totals(quality.settle(state), into)
    quality.stored(state)
    return found


def test_words_are_counted_once_however_many_readings_they_have():
    state = begun()
    quality.fold(state, 0, frame(1, [(1, 0.5, 20, 0), (2, 0.5, 1, 0), (3, 0.5, 20, 0)]))
    quality.fold(state, 0, frame(2, [(1, 1, 20, 0), (1, 1.5, 20, 0), (2, 1.5, 1, 0)]))
    found = take(state)
    assert found[0, 1]["received"] == 3
    assert found[0, 2]["received"] == 1
    assert take(state) == {}, "what is stored is not counted again"


def test_points_that_nobody_knows_or_that_live_elsewhere_are_told_apart():
    state = begun(roster((0, 60, 2), (1, 60, 2)), (0, 1))
    quality.fold(state, 0, frame(1, [(1, 0, 1, 0), (3, 0, 1, 0), (99, 0, 1, 0), (0, 0, 1, 0)]))
    assert take(state).keys() == {(0, 1)}
    assert state.unknown == 3


def test_frames_of_a_second_are_one_however_they_were_fetched():
    state = begun()
    for n in range(4):
        quality.fold(state, 0, frame(1 + n / 4, [(1, 1 + n % 2, 20, 0)]), 100 + n)
    assert state.parts[0].next_offset(104) == 100
    assert totals(quality.settle(state)) == {}
    quality.fold(state, 0, frame(2, [(1, 2, 20, 0)]), 104)
    assert state.parts[0].next_offset(105) == 104
    quality.fold(state, 0, frame(3), 105)
    assert state.parts[0].next_offset(106) == 106
    assert take(state)[0, 1]["received"] == 3


def test_flags_are_counted_by_word():
    state = begun()
    late, corrected = int(Flag.LATE | Flag.REDELIVERED), int(Flag.CLOCK_CORRECTED)
    rows = [(1, 0, 1, late), (2, 0, 1, late), (1, 1, 1, corrected), (3, 1, 1, 0)]
    quality.fold(state, 0, frame(2, rows))
    one = take(state)[0, 1]
    assert (one["received"], one["late"], one["redelivered"], one["corrected"]) == (2, 1, 1, 1)


@pytest.mark.parametrize(
    ("gap_s", "missed"), [(60, 0), (89, 0), (91, 1), (120, 1), (149, 1), (600, 9), (3_000, 49)]
)
def test_a_gap_is_counted_in_whole_intervals(gap_s, missed):
    state = begun()
    quality.fold(state, 0, frame(1, [(1, 0, 1, 0)]))
    listen(state, 1 + gap_s, since_s=1, step_s=1)
    quality.fold(state, 0, frame(1 + gap_s, [(1, gap_s, 1, 0)]))
    assert take(state)[0, 1]["missed"] == missed


def test_a_gap_over_flushes_and_midnight_is_counted_once():
    state, found = begun(), {}
    quality.fold(state, 0, frame(1, [(1, 0, 1, 0)]))
    for hour in range(12):
        listen(state, (hour + 1) * 3_600, since_s=hour * 3_600)
        take(state, found)
    quality.fold(state, 0, frame(12 * 3_600, [(1, 0, 1, 0)]))
    take(state, found)
    days = [found[day, 1]["missed"] for day in (0, 1)]
    assert sum(days) == 12 * 60 - 1
    assert days[0] == MIDNIGHT_S // 60 - 1


def test_our_own_absence_is_nobody_s_gap():
    state = begun()
    quality.fold(state, 0, frame(1, [(1, 0, 1, 0)]))
    quality.fold(state, 0, frame(7_200, [(1, 0, 1, 0)]))
    one = take(state)[0, 1]
    assert (one["missed"], one["seconds"]) == (0, 1)


def test_nor_is_that_of_one_lane_beside_the_other():
    state = begun()
    quality.fold(state, 0, frame(1, writer="b0.alarm"))
    quality.fold(state, 0, frame(1, [(1, 0, 1, 0)]))
    listen(state, 1_800, writer="b0.alarm")
    quality.fold(state, 0, frame(1_800, [(1, 0, 1, 0)]))
    assert take(state)[0, 1]["missed"] == 0


def test_a_replay_holds_no_clock_and_its_words_are_not_of_today():
    state = begun()
    quality.fold(state, 0, frame(1, [(1, 0, 1, 0)]))
    listen(state, 600)
    quality.fold(state, 0, frame(600, [(1, -5 * 86_400, 1, int(Flag.LATE))], writer=WRITER))
    listen(state, 1_800, since_s=600)
    one = take(state)[0, 1]
    assert (one["received"], one["missed"], one["seconds"]) == (1, 29, 1_800)


def test_a_writer_that_is_gone_holds_no_clock_for_ever_and_one_that_jumps_drives_nobody_out():
    state = begun()
    quality.fold(state, 0, frame(1, writer="b1.telemetry"))
    listen(state, 2 * 3_600)
    assert state.parts[0].writers.keys() == {"b0.telemetry"}
    quality.fold(state, 0, frame(50 * 365 * 86_400, writer="b2.telemetry"))
    listen(state, 2 * 3_600 + 600, since_s=2 * 3_600)
    assert state.parts[0].writers.keys() == {"b0.telemetry", "b2.telemetry"}
    assert state.parts[0].clock_us == T0_US + (2 * 3_600 + 600) * SECOND_US


def test_a_clock_that_was_far_ahead_comes_back():
    state = begun()
    ahead_s = 1_000 * 86_400
    quality.fold(state, 0, frame(ahead_s))
    assert state.parts[0].day > DAY
    listen(state, 2 * 3_600, writer="b1.telemetry")
    assert state.parts[0].day == DAY, "the one with the right clock holds it"


def test_at_the_end_of_its_day_every_device_in_service_has_a_row():
    said = roster((0, 60, 2), (0, 86_400, 2), (0, 60, 1), (0, 60, 0))
    state = begun(said)
    assert take(state) == {}
    listen(state, MIDNIGHT_S + 20)
    found = totals(state.closed)
    assert found.keys() == {(0, 1), (0, 2), (0, 3)}
    assert {one["seconds"] for one in found.values()} == {MIDNIGHT_S - 10}
    assert [found[0, device]["missed"] for device in (1, 2, 3)] == [479, 0, 479]


def test_who_comes_into_service_begins_then_and_who_leaves_keeps_what_was():
    state = begun(roster((0, 60, 2), (0, 60, 0)))
    listen(state, 600)
    quality.adopt(state, roster((0, 60, 0), (0, 60, 2), (0, 60, 2), generation=2))
    listen(state, 1_200, since_s=600)
    quality.fold(state, 0, frame(1_200, [(5, 0, 1, 0)]))
    found = take(state)
    assert [found[0, device]["missed"] for device in (1, 2, 3)] == [9, 9, 9]
    assert [found[0, device]["seconds"] for device in (1, 2, 3)] == [600, 600, 600]
    assert found[0, 3]["received"] == 1


def test_a_broken_type_expects_nothing():
    state = begun(roster((0, 0, 2), (0, 60, 2)))
    listen(state, 600)
    assert take(state).keys() == {(0, 2)}


def test_a_value_that_does_not_move_for_days_is_stuck_once_a_day():
    state, found = begun(), {}
    step_s = STUCK_S_MIN // STUCK_READINGS_MIN
    for n in range(STUCK_READINGS_MIN * 2):
        at_s = n * step_s
        frozen = 5 if n < STUCK_READINGS_MIN * 1.9 else 6
        rows = [(1, at_s, frozen, 0), (2, at_s, 7, 0), (3, at_s, n % 2, 0), (4, at_s, 0, 0)]
        quality.fold(state, 0, frame(at_s, rows))
        take(state, found)
    stuck = {key: one["stuck"] for key, one in found.items() if one["stuck"]}
    assert stuck == {(2, 1): 1, (3, 1): 1, (4, 1): 1}, "points 2 and 4 may rest, point 3 moves"


def test_few_readings_or_a_short_time_are_not_stuck():
    state = begun()
    for n in range(STUCK_READINGS_MIN - 1):
        at_s = n * STUCK_S_MIN / 50
        quality.fold(state, 0, frame(at_s, [(1, at_s, 5, 0)]))
    for n in range(STUCK_READINGS_MIN * 3):
        at_s = STUCK_S_MIN * 2 + n
        quality.fold(state, 0, frame(at_s, [(3, at_s, 5, 0)]))
    assert sum(one["stuck"] for one in take(state).values()) == 0


def letter(reason, device=1, at_s=0, count=1):
    return Reject(
        payload=b"x", reason=reason, detail="", topic=b"t", arrived_us=T0_US + at_s * SECOND_US,
        carrier="c", lane=Lane.TELEMETRY, device=device, bridge="b0", count=count, dup=False,
        stored=None,
    )  # fmt: skip


def test_dead_letters_belong_to_their_own_day_and_device():
    state = begun()
    for one in (
        letter(Reason.NOT_JSON), letter(Reason.OUT_OF_RANGE), letter(Reason.SENSOR_BROKEN),
        letter(Reason.TOO_OFTEN, 2, MIDNIGHT_S + 1, 5_000), letter(Reason.NOT_JSON, 0),
        letter(Reason.NOT_JSON, 77), letter(Reason.TOO_OFTEN, 2, MIDNIGHT_S + 1, 10**30),
    ):  # fmt: skip
        quality.reject(state, one)
    by_reason = dict(state.rejects)
    found = take(state)
    assert found.keys() == {(0, 1), (1, 2)}
    assert (found[0, 1]["rejects"], found[0, 1]["out_of_range"]) == (3, 2)
    assert found[1, 2]["rejects"] == quality.COUNT_MAX
    assert by_reason[DAY, 1, Reason.OUT_OF_RANGE] == 1


def test_a_restart_forgets_nothing_and_a_grown_registry_moves_nothing():
    state = begun(roster((0, 60, 2), (1, 60, 2)), (0, 1))
    for number, point in ((0, 1), (1, 3)):
        quality.fold(state, number, frame(1, [(point, 0, 5, 0)]))
        listen(state, 600, number=number)
    take(state)
    kept = {number: pack(state, number) for number in (0, 1)}
    grown = roster((0, 60, 2), (0, 60, 2), (1, 60, 2), generation=2)
    again = quality.start(grown, [0, 1], UTC8_MIN)
    unpack(again, kept)
    assert (again.parts, again.value[1], again.run[1]) == (state.parts, 5, 1)
    assert again.told.tolist() == [0, 9, 0, 0, 0], "who moved to another partition begins anew"
    assert again.heard_us.tolist()[:3] == [0, 1_000_000, 600_000_000]


@pytest.mark.parametrize("content", [b"", b"{}\n", b"\x00", b'{"layout": 9}\n'])
def test_a_state_that_is_none_of_ours_is_refused(content):
    with pytest.raises(BadRecord):
        unpack(begun(), {0: content})
    kept = pack(begun(), 0)
    for bad in (kept[:-9], kept.replace(b'"layout":1', b'"layout":2')):
        with pytest.raises(BadRecord):
            unpack(begun(), {0: bad})


ROWS = st.lists(
    st.tuples(
        st.integers(1, 9), st.integers(0, 40), st.integers(0, 3), st.sampled_from([0, 1, 2, 4, 7])
    ),
    max_size=6,
)
STEPS = st.lists(
    st.tuples(
        st.sampled_from([0, 0.25, 1, 9, 10, 11, 400, 4_000]), st.integers(0, 1), ROWS, st.booleans()
    ),
    max_size=40,
)
THREE = roster((0, 60, 2), (1, 700, 2), (0, 3_600, 1), (0, 30, 0))


def log_of(steps):
    """(partition, frame) of steps, by offset."""
    found, at_s = [], 0
    for step_s, number, said, _ in steps:
        at_s += step_s
        rows = [(point, at_s - back, value, flags) for point, back, value, flags in said]
        found.append((number, frame(at_s, rows)))
    return [*found, *((number, frame(at_s + 2 * 86_400)) for number in (0, 1))]


@given(STEPS)
def test_fold_in_pieces_is_fold_whole(steps):
    """Stored at any point, packed, and begun anew there, with what was held read again."""
    log = log_of(steps)
    whole, pieces, found = begun(THREE, (0, 1)), begun(THREE, (0, 1)), {}
    for offset, (number, made) in enumerate(log):
        quality.fold(whole, number, made, offset)
        quality.fold(pieces, number, made, offset)
        if offset < len(steps) and steps[offset][3]:
            totals(quality.settle(pieces), found)
            quality.stored(pieces)
            kept = {one: pack(pieces, one) for one in (0, 1)}
            at = {one: pieces.parts[one].next_offset(offset + 1) for one in (0, 1)}
            pieces = quality.start(THREE, [0, 1], UTC8_MIN)
            unpack(pieces, kept)
            for again, (one, frame_) in enumerate(log[: offset + 1]):
                if again >= at[one]:
                    quality.fold(pieces, one, frame_, again)
    assert take(pieces, found) == take(whole)
    assert np.array_equal(whole.value, pieces.value, equal_nan=True)


@given(st.lists(st.tuples(st.integers(1, 4), st.integers(0, 5), st.integers(0, 255)), max_size=30))
def test_words_equal_a_count_by_hand(rows):
    state = begun()
    quality.fold(state, 0, frame(9, [(point, at, 1, flags) for point, at, flags in rows]))
    found = take(state)
    for device in (1, 2):
        mine = {(at, flags) for point, at, flags in rows if (point + 1) // 2 == device}
        row = found.get((0, device), dict.fromkeys(quality.COUNTS, 0))
        assert row["received"] == len({at for at, _ in mine})
        for name, bit in (("late", 1), ("redelivered", 2), ("corrected", 4)):
            assert row[name] == len({at for at, flags in mine if flags & bit})


def test_a_frame_from_beyond_all_bounds_moves_no_clock():
    state = begun()
    quality.fold(state, 0, replace(frame(1), received_us=1 << 61))
    assert state.parts[0].clock_us == T0_US
