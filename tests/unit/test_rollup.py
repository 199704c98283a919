"""Minutes of readings: whatever the order, the kills and the closings, the parts add up to what a
naive loop over all readings says.
"""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest import rollup, rollup_parts
from ingest.replay import WRITER as REPLAY_WRITER
from ingest.rollup import HORIZON_US, Heard, RollPlace
from ingest.rollup_parts import MINUTE_US
from sizao.frame import Flag, Frame

BASE_US = 1_772_352_000_000_000 + 1_234_567
PAIR = ("readings", 0)
KEYS = {"point", "minute"}
NAMES = [name for name in rollup_parts.Parts.__dataclass_fields__ if name not in KEYS]

# Few points and times, so that they meet; values whose sums are exact in any order.
readings = st.tuples(
    st.integers(1, 40),
    st.one_of(
        st.sampled_from([0, 1, 59_999_999, 60_000_000]),
        st.integers(-3 * MINUTE_US, MINUTE_US),
        st.integers(-48 * 60 * MINUTE_US, 0),
    ),
    st.integers(-400, 400).map(lambda quarter: quarter / 4),
    st.sampled_from([0, 0, 0, 1, 4, 8, 9]),
)


def frame(rows, received_us, writer="b0.telemetry", sequence=1):
    point, event, value, flags = zip(*rows, strict=True) if rows else ((), (), (), ())
    return Frame(
        point=np.array(point, np.uint32),
        event_us=np.array(event, np.int64),
        value=np.array(value, np.float32),
        flags=np.array(flags, np.uint8),
        received_us=received_us,
        generation=1,
        writer=writer,
        sequence=sequence,
    )


def oracle(rows):
    """The definition, a reading at a time."""
    found = {}
    for point, event_us, value, flags in rows:
        found.setdefault((point, event_us // MINUTE_US), []).append((event_us, value, flags))
    return {
        key: {
            "count": len(said),
            "low": min(value for _, value, _ in said),
            "high": max(value for _, value, _ in said),
            "total": sum(value for _, value, _ in said),
            "first_us": min(said)[0] % MINUTE_US,
            "first": min((at, value) for at, value, _ in said)[1],
            "last_us": max(said)[0] % MINUTE_US,
            "last": max((at, value) for at, value, _ in said)[1],
            "flags": int(np.bitwise_or.reduce([flags for _, _, flags in said])),
        }
        for key, said in found.items()
    }


def added_up(several):
    if not several:
        return {}
    every = rollup_parts.merge(several)
    columns = {name: getattr(every, name).tolist() for name in ("point", "minute", *NAMES)}
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    return {(row.pop("point"), row.pop("minute")): row for row in rows}


class Archive:
    """A log, a table of parts and the place between them, as the archive keeps them."""

    def __init__(self):
        self.log, self.table, self.place, self.next = [], [], RollPlace(held=0, settled=0), 0
        self.rows = []
        self.begin()

    def begin(self):
        self.state = rollup.start({PAIR: self.place})
        for offset in range(self.place.held, self.next):
            again = rollup.again(self.place, offset, self.log[offset])
            rollup.take(self.state, [Heard(PAIR, offset, again)], 0.0)

    def send(self, rows, received_us):
        self.log.append(frame(rows, received_us))

    def read(self):
        taken = [Heard(PAIR, at, self.log[at]) for at in range(self.next, len(self.log))]
        rollup.take(self.state, taken, 0.0)
        self.next = len(self.log)

    def settle(self, until_us):
        done = rollup.settle(self.state, until_us)
        self.table += done.parts
        self.place = done.places[PAIR]
        rollup.settled(self.state, done)

    def everything(self):
        return [*self.table, *rollup.settle(self.state, BASE_US + 60 * MINUTE_US).parts]


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("send"), st.lists(readings, max_size=6), st.integers(0, 90)),
            st.tuples(st.sampled_from(["read", "kill", "close", "late", "compact"])),
        ),
        max_size=30,
    )
)
def test_killed_closed_and_late_at_any_point_every_reading_counts_once(steps):
    archive, said, now_us = Archive(), [], BASE_US
    for step in steps:
        if step[0] == "send":
            now_us += step[2] * 1_000_000
            rows = [(point, now_us + at, value, flags) for point, at, value, flags in step[1]]
            archive.send(rows, now_us)
            said += rows
        elif step[0] == "read":
            archive.read()
        elif step[0] == "kill":
            archive.begin()
        elif step[0] == "compact":
            rollup.compact(archive.state)
        elif step[0] == "late":
            archive.settle(archive.place.closed_us)
        else:
            until_us = rollup.due_us(archive.state, 0.0, now_us, 2_000_000)
            if until_us:
                archive.settle(until_us)
                assert rollup.due_us(archive.state, 0.0, now_us, 2_000_000) == 0
    archive.read()
    assert added_up(archive.everything()) == oracle(said)


@given(st.lists(readings, min_size=1, max_size=60), st.randoms(use_true_random=False))
def test_the_order_changes_nothing(rows, rng):
    rows = [(point, BASE_US + at, value, flags) for point, at, value, flags in rows]
    shuffled = rows.copy()
    rng.shuffle(shuffled)
    archive = Archive()
    for one in shuffled:
        archive.send([one], BASE_US)
    archive.read()
    assert added_up(archive.everything()) == oracle(rows)


def test_points_and_times_at_their_bounds():
    rows = [(2**31 - 1, 0, 1.0, 0), (0, 4_102_444_799_999_999, 2.0, 0), (2**31, 5, 3.0, 0)]
    archive = Archive()
    archive.send([*rows, (1, -1, 4.0, 0), (1, 4_102_444_800_000_000, 5.0, 0)], BASE_US)
    archive.read()
    assert added_up(archive.everything()) == oracle(rows[:2])


def test_a_minute_stays_until_everybody_has_come_past_its_end():
    archive = Archive()
    end_us = BASE_US - BASE_US % MINUTE_US + MINUTE_US

    def hears(received_us, writer="b0.telemetry", now_s=0.0, pair=PAIR):
        beat = frame([], received_us, writer)
        rollup.take(archive.state, [Heard(pair, archive.state.next[pair], beat)], now_s)

    def due(now_s=0.0, now_us=end_us + 3_600_000_000):
        return rollup.due_us(archive.state, now_s, now_us, 2_000_000)

    assert due() == 0
    hears(end_us + 1_999_999)
    assert due() == end_us - MINUTE_US
    archive.settle(due())
    hears(end_us + 2_000_000)
    assert due() == end_us
    assert due(now_us=end_us + 1_999_999) == 0  # a clock ahead of ours closes nothing
    hears(end_us - 7_000_000, "b1.telemetry")
    assert due() == 0
    hears(end_us - 9_000_000, REPLAY_WRITER)
    hears(end_us + 3_000_000)  # b1 has fallen ten seconds behind: gone
    assert due() == end_us
    hears(end_us + 4_000_000, "b1.telemetry")
    hears(end_us + 4_000_000)
    assert due() == end_us


def test_a_partition_of_which_nothing_comes_holds_no_minute_open():
    other = ("alarms", 0)
    state = rollup.start({PAIR: RollPlace(held=0, settled=0), other: RollPlace(held=0, settled=0)})
    end_us = BASE_US - BASE_US % MINUTE_US + MINUTE_US
    rollup.take(state, [Heard(other, 0, frame([], end_us - 1))], 0.0)
    rollup.take(state, [Heard(PAIR, 0, frame([], end_us + 5_000_000))], 9.0)
    ask = (state, 10.0, end_us + 6_000_000, 2_000_000)
    assert rollup.due_us(*ask) == end_us - MINUTE_US
    assert rollup.due_us(state, 10.1, *ask[2:]) == end_us


def test_minutes_that_never_close_and_floods_of_late_data_are_not_held(monkeypatch):
    monkeypatch.setattr(rollup, "LEAVING_PARTS_MAX", 3)
    monkeypatch.setattr(rollup, "HELD_ROWS_MAX", 1)
    archive = Archive()
    closed_us = BASE_US - BASE_US % MINUTE_US
    archive.settle(closed_us)
    far_us = closed_us + HORIZON_US
    rows = [(1, far_us, 1.0, 0), (1, closed_us, 2.0, 0), (2, closed_us - 1, 3.0, 0)]
    archive.send(rows, BASE_US)
    archive.read()
    assert rollup.overdue_us(archive.state) == 0
    archive.send([(3, 0, 4.0, 0), (4, 0, 5.0, 0)], BASE_US)
    archive.read()
    assert rollup.overdue_us(archive.state) == closed_us
    archive.settle(closed_us)
    assert archive.place == RollPlace(held=0, settled=2, closed_us=closed_us)
    assert sum(map(len, archive.table)) == 4
    archive.begin()
    archive.read()
    assert added_up(archive.everything()) == oracle([*rows, (3, 0, 4.0, 0), (4, 0, 5.0, 0)])


def test_redelivered_readings_are_parts_of_their_own():
    again = int(Flag.REDELIVERED | Flag.LATE)
    both = frame([(1, BASE_US, 1.0, 0), (1, BASE_US + 1, 2.0, again)], BASE_US)
    archive = Archive()
    archive.log.append(both)
    archive.read()
    assert added_up(archive.everything()) == oracle([(1, BASE_US, 1.0, 0)])
    assert added_up(rollup_parts.redelivered([both])) == oracle([(1, BASE_US + 1, 2.0, again)])
    assert rollup_parts.redelivered([archive.log[0], frame([], BASE_US)])
    assert rollup_parts.redelivered([frame([(1, BASE_US, 1.0, 0)], BASE_US)]) == []


@pytest.mark.parametrize("lost", ["settled", "closed_us"])
def test_without_the_place_a_kill_would_count_twice(lost):
    """The first proof above can turn red."""
    archive = Archive()
    minute_us = BASE_US - BASE_US % MINUTE_US
    rows = [(1, minute_us + 1, 1.0, 0), (1, minute_us + MINUTE_US, 2.0, 0)]
    archive.send(rows, BASE_US + MINUTE_US)
    archive.read()
    archive.settle(minute_us + MINUTE_US)
    archive.place = RollPlace(
        held=archive.place.held,
        settled=0 if lost == "settled" else archive.place.settled,
        closed_us=minute_us if lost == "closed_us" else archive.place.closed_us,
    )
    archive.begin()
    assert added_up(archive.everything()) != oracle(rows)
