"""The fold: what may change nothing, what is counted, how generations and clocks move it."""

import itertools
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from fix_detect import SECOND_US, T0_US, Point, cold, frame, registry, run, setup, told
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors import state, waiting
from detectors.batch import Rows
from detectors.features import Heat
from detectors.rule import Column
from sizao.frame import Frame
from sizao.signal import encode
from sizao.units import AlarmState, Lane

MIXED = registry(
    [
        Point(1),
        Point(2, "humidity_pct"),
        Point(3),
        Point(4, heat_class="B"),
        Point(5, partition=1),
        Point(6, "fire_state"),
    ]
)


def fire(point: int, from_s: float, period_s: float = 10):
    values = [20.0] * 70 + [23.0, 26.0, 30.0, 45.0, 60.0, 75.0, 80.0] + [21.0] * 30
    return [(point, from_s + period_s * k, value) for k, value in enumerate(values)]


STREAM = sorted([*fire(1, 0), *fire(3, 4.5), *fire(4, 33), (2, 100, 50.0)], key=lambda r: r[1])


def cut(readings, at):
    """The readings as frames with the same received times, cut at the given places."""
    places = [0, *sorted(at), len(readings)]
    return [readings[a:b] for a, b in itertools.pairwise(places)]


@settings(deadline=None, max_examples=40)
@given(st.sets(st.integers(0, len(STREAM)), max_size=40), st.randoms(use_true_random=False))
def test_where_frames_are_cut_and_how_rows_lie_in_them_changes_no_signal(places, shuffle):
    # True as long as each point's readings come in event order, frame by frame. Within a frame any
    # order will do. `received_us` is the frame's, so one that all cuts share stands for it.
    def signals(frames):
        found = run(cold(MIXED), [frame(each, received_s=2000) for each in frames])
        return sorted(encode(each) for each in found)

    pieces = cut(STREAM, places)
    for piece in pieces:
        shuffle.shuffle(piece)
    assert signals(pieces) == signals([[reading] for reading in STREAM])


@pytest.mark.parametrize("code", [-1, 17, 30_000])
def test_a_heat_class_that_this_version_does_not_know_counts_as_the_most_sensitive(code):
    view = MIXED.at(1)
    strange = replace(view, device_heat_class=np.full_like(view.device_heat_class, code), _folds={})
    limits_c = state.start(Lane.TELEMETRY, 0, strange, setup()).points.heat_limit_c
    assert set(limits_c.tolist()) == {54.0}


def test_the_stream_of_that_test_says_something():
    said = told(run(cold(MIXED), [frame(STREAM)]))
    assert {(rule, tier) for rule, tier, phase, _, _ in said if phase == "raise"} == {
        ("heat_cusum", "early"),
        ("heat_rate", "alarm"),
        ("heat_zone", "early"),
        ("heat_zone", "alarm"),
        ("heat_rise", "early"),
        ("heat_rise", "alarm"),
        ("heat_fixed", "urgent"),
    }
    assert {subject for _, _, _, subject, _ in said} == {"1", "3", "4"}


def test_points_of_other_folds_are_counted_and_not_judged():
    fold = cold(MIXED)
    assert run(fold, [frame([(5, 0, 90.0), (6, 0, 1.0), (5, 10, 90.0)])]) == []
    assert fold.discards == {"elsewhere": 3}


@pytest.mark.parametrize(
    ("event_s", "judged"),
    [(-17 * 86400, True), (-17 * 86400 - 1, False), (3600, True), (3601, False)],
)
def test_event_times_far_from_arrival_are_counted_and_not_judged(event_s, judged):
    fold = cold(MIXED)
    run(fold, [frame([(1, event_s, 20.0), (3, 0, 20.0)], received_s=0)])
    written = fold.blocks["features@1"]["x_c"][[fold.lookup[1], fold.lookup[3]]]
    assert written.tolist() == [20.0 if judged else 0.0, 20.0]
    assert fold.discards["event_time"] == (0 if judged else 1)


# --- generations --------------------------------------------------------------------------------

GROWN = registry([Point(1), Point(2, from_gen=2), Point(3, "fire_state", from_gen=3)], generation=3)


def test_a_generation_holds_from_the_first_frame_that_carries_it():
    fold = cold(GROWN, generation=1)
    hot = [frame([(2, at, 90.0)], generation=1) for at in (0, 1)]
    assert run(fold, hot, GROWN) == []
    found = run(fold, [frame([(1, 2, 20.0)], generation=2)], GROWN)
    # What waited is judged by the frame that brings the generation.
    assert [(each.subject.id, each.generation) for each in found] == [("2", 2)]
    assert not fold.waiting.frames


def test_an_older_generation_behind_a_newer_one_changes_nothing():
    fold = cold(GROWN, generation=1)
    run(fold, [frame([], generation=2), frame([(2, 0, 90.0)], generation=1)], GROWN)
    (signal,) = run(fold, [frame([(2, 1, 90.0)], generation=1)], GROWN)
    assert signal.generation == 2


def test_old_points_keep_their_state_when_new_ones_take_places_between():
    before = registry([Point(1), Point(9)])
    after = registry([Point(1), Point(4, from_gen=2), Point(9)], generation=2)
    fold, other = cold(before), cold(before)
    stream = [(9, at, value) for at, value in ((0, 60.0), (1, 61.0), (2, 62.0), (70, 63.0))]
    plain = told(run(other, [frame([each]) for each in stream]))
    found = run(fold, [frame(stream[:1])])
    found += run(fold, [frame([each], generation=2) for each in stream[1:]], after)
    assert told(found) == plain != []


def test_heat_class_of_the_generation_judges():
    strict, lax = registry([Point(1, heat_class="A1")]), registry([Point(1, heat_class="C")])
    grown = type(strict)(generation=2, partitions=4, tables=lax.tables)
    fold = cold(strict)
    assert run(fold, [frame([(1, 0, 60.0)])]) == []
    assert run(fold, [frame([(1, at, 60.0)], generation=2) for at in (1, 2)], grown) == []


def test_unknown_points_wait_ten_seconds_of_the_logs_clock_then_are_counted():
    fold = cold(MIXED)
    run(fold, [frame([(77, 0, 90.0), (77, 1, 91.0)], received_s=1), frame([], received_s=11)])
    assert fold.discards["unknown_point"] == 0
    run(fold, [frame([], received_s=11.1)])
    assert fold.discards["unknown_point"] == 2
    assert not fold.waiting.frames


def many_of(point: int, rows: int) -> Frame:
    return Frame(
        point=np.full(rows, point, np.uint32),
        event_us=np.full(rows, T0_US),
        value=np.zeros(rows, np.float32),
        flags=np.zeros(rows, np.uint8),
        received_us=T0_US,
        generation=1,
        writer="w",
        sequence=0,
    )


def test_the_waiting_room_has_a_bound():
    fold = cold(MIXED)
    run(fold, [many_of(77, 30_000)] * 2)
    assert fold.waiting.rows == sum(each.rows for each in fold.waiting.frames) == waiting.ROWS_MAX
    assert fold.discards["unknown_full"] == 20_000


def test_the_waiting_room_is_bounded_in_frames_too():
    fold = cold(MIXED)
    run(fold, [many_of(77, 2)] * (waiting.FRAMES_MAX + 3))
    assert len(fold.waiting.frames) == waiting.FRAMES_MAX
    assert fold.discards["unknown_full"] == 6
    # What expires makes room again.
    run(fold, [frame([], received_s=10.1), frame([(77, 11, 20.0)], received_s=11)])
    assert fold.waiting.rows == len(fold.waiting.frames) == 1


def test_what_waits_is_not_looked_at_before_a_generation_could_have_brought_it(monkeypatch):
    """Seen: 4,000 waiting frames held up each frame for 10 ms, for ten seconds."""
    fold = cold(GROWN, generation=1)
    run(fold, [frame([(2, at, 90.0)], received_s=1, generation=1) for at in range(50)], GROWN)
    looked = []
    judge = state._judge
    monkeypatch.setattr(state, "_judge", lambda *what: looked.append(what) or judge(*what))
    run(fold, [frame([], received_s=2, generation=1)] * 10, GROWN)
    assert looked == []
    found = run(fold, [frame([], received_s=3, generation=2)], GROWN)
    assert len(looked) == 50
    assert [(each.rule, each.phase) for each in found] == [("heat_fixed", "raise")]


def test_what_is_still_unknown_waits_on_beside_what_became_known():
    fold = cold(GROWN, generation=1)
    run(fold, [frame([(2, 0, 90.0), (77, 0, 1.0), (2, 1, 91.0)], received_s=1)], GROWN)
    found = run(fold, [frame([], received_s=2, generation=2)], GROWN)
    assert [each.subject.id for each in found] == ["2"]
    assert fold.waiting.rows == 1
    run(fold, [frame([], received_s=11.1, generation=2)], GROWN)
    assert fold.discards["unknown_point"] == 1


# --- what rules read ------------------------------------------------------------------------------


def reading(name: str, *quantities: str):
    """A rule that keeps what it was handed."""
    handed: list = []
    return SimpleNamespace(
        NAME=name,
        VERSION=1,
        LANE=Lane.TELEMETRY,
        READS=quantities,
        MEMORY_S=60,
        COLUMNS=(Column("busy", "bool"),),
        Params=dict,
        step=lambda block, params, rows, points: handed.append(rows) or [],
        handed=handed,
    )


def test_a_rule_is_handed_the_quantities_that_it_reads_and_no_others():
    known = registry(
        [Point(1), Point(2, "smoke_od_per_m"), Point(3, "co_ppm"), Point(4, "humidity_pct")]
    )
    smoke, gases = reading("smoke", "smoke_od_per_m"), reading("gases", "co_ppm", "smoke_od_per_m")
    heat = reading("heat", "temperature_c")
    fold = state.start(Lane.TELEMETRY, 0, known.at(1), state.setup_of([smoke, gases, heat]))
    run(fold, [frame([(1, 0, 20.0), (2, 0, 0.25), (3, 0, 7.0), (4, 0, 50.0)])])
    run(fold, [frame([(1, 1, 21.0), (4, 1, 51.0)])])
    slots = [fold.lookup[point] for point in (2, 3)]
    assert [each.value.tolist() for each in smoke.handed] == [[0.25]]
    assert [each.slot.tolist() for each in gases.handed] == [slots]
    assert [each.x_c.tolist() for each in heat.handed] == [[20.0], [21.0]]
    assert isinstance(smoke.handed[0], Rows)
    assert isinstance(heat.handed[0], Heat)


def test_a_fold_without_heat_rules_keeps_no_temperatures():
    smoke = reading("smoke", "smoke_od_per_m")
    fold = state.start(Lane.TELEMETRY, 0, MIXED.at(1), state.setup_of([smoke]))
    run(fold, [frame([(1, 0, 20.0)])])
    assert set(fold.blocks) == {"smoke@1"}
    assert smoke.handed == []


def test_a_quantity_that_this_version_does_not_know_is_not_judged():
    view = MIXED.at(1)
    quantity = view.point_quantity.copy()
    quantity[2] = 4711
    fold = state.start(
        Lane.TELEMETRY, 0, replace(view, point_quantity=quantity, _folds={}), setup()
    )
    assert run(fold, [frame([(2, at, 90.0) for at in range(9)])]) == []


# --- the log's clock ----------------------------------------------------------------------------


def test_the_clock_is_the_slowest_bridges_and_never_goes_back():
    fold = cold(MIXED, Lane.ALARM, bridges=["b0", "b1"])

    def clock_after(writer, received_s):
        run(fold, [frame([], received_s=received_s, writer=writer)])
        return (fold.clock_us - T0_US) / SECOND_US if fold.clock_us else None

    assert clock_after("b0.alarm", 10) is None  # b1 was not heard yet
    assert clock_after("b1.alarm", 5) == 5
    assert clock_after("b1.alarm", 20) == 10
    assert clock_after("b1.alarm", 3) == 10
    assert clock_after("b0.alarm", 30) == 20
    assert clock_after("stranger.alarm", 1) == 20
    assert clock_after("stranger.alarm", 1000) == 20


def test_a_silent_bridge_pauses_what_ends_by_the_clock():
    fold = cold(MIXED, Lane.ALARM, bridges=["b0", "b1"])

    def beat(received_s, writer):
        return run(fold, [frame([], received_s=received_s, writer=writer)])

    alarm = frame([(6, 0, AlarmState.ALARM)], received_s=0, writer="b0.alarm")
    assert [each.phase for each in run(fold, [alarm])] == ["raise"]
    assert beat(1, "b1.alarm") == []
    assert beat(5000, "b0.alarm") == []  # b1 was last heard at 1 s: has it heard the device since?
    assert [each.phase for each in beat(5000, "b1.alarm")] == ["clear"]


def test_frames_of_a_writer_that_is_not_configured_are_judged():
    fold = cold(MIXED, bridges=["b0"])
    hot = [frame([(1, at, 90.0)], writer="x.telemetry") for at in (0, 1)]
    assert [each.rule for each in run(fold, hot)] == ["heat_fixed"]


def test_both_connections_of_a_bridge_write_readings_and_only_one_writes_alarms():
    known = setup(["b0", "b1"])
    assert known.writers[Lane.ALARM] == ("b0.alarm", "b1.alarm")
    assert set(known.writers[Lane.TELEMETRY]) == {
        "b0.alarm", "b1.alarm", "b0.telemetry", "b1.telemetry",
    }  # fmt: skip
