"""Snapshots: whatever is on at any record, a restart goes on as if nothing had been."""

from types import SimpleNamespace

import numpy as np
import pytest
from fix_detect import SECOND_US, T0_US, Point, cold, frame, registry, run, setup
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors import rules, snapshot
from detectors import state as folds
from detectors.snapshot import Refusal
from sizao.signal import encode
from sizao.units import Lane

HEAT = registry([Point(1), Point(2, heat_class="B"), Point(3, "humidity_pct"), Point(4)])
STATE = registry([Point(1, "fire_state"), Point(2, "call_point_state")])
BRIDGES = ["b0"]

WARM = [frame([(1, 60.0 * k, 20.0), (2, 60.0 * k, 21.0)]) for k in range(15)]
HEAT_ROW = st.tuples(
    st.sampled_from([1, 2, 3, 4, 99]),
    st.sampled_from([-500.0, 0.0, 0.0, 0.5]),
    st.sampled_from([20.0, 20.0, 25.0, 27.0, 40.0, 60.0, 75.0, -40.0, 2000.0]),
)
STATE_ROW = st.tuples(
    st.sampled_from([1, 2, 99]),
    st.sampled_from([-30.0, 0.0, 0.5]),
    st.sampled_from([0.0, 1.0, 2.0, 3.0]),
)


def frames_of(steps, lane):
    """Frames from (seconds since the frame before, rows with times relative to the frame)."""
    now_s, frames = 1000.0, []
    for step_s, rows in steps:
        now_s += step_s
        readings = [(point, now_s + at_s, value) for point, at_s, value in rows]
        writer = "b0" if step_s < 100 else "stranger"
        frames += [frame(readings, received_s=now_s + 1, writer=f"{writer}.{lane}")]
        frames += [frame([], received_s=now_s + 1, writer=f"{writer}.alarm")]
    return frames


def steps_of(row):
    step = st.tuples(
        st.sampled_from([0.3, 1, 10, 30, 60, 99, 200, 700, 2000]), st.lists(row, max_size=4)
    )
    return st.lists(step, min_size=1, max_size=20)


def restarted(known, lane, frames, at):
    """Signals of a run that is killed behind frame `at` and goes on from its snapshot."""
    fold = cold(known, lane, bridges=BRIDGES)
    before = run(fold, frames[:at])
    content = snapshot.pack(fold)
    run(fold, frames[at:])  # the killed process got farther than its snapshot: no matter
    again, cold_blocks = snapshot.unpack(content, known, setup(BRIDGES))
    assert cold_blocks == []
    assert again.next_offset == at
    assert snapshot.pack(again) == content
    return [encode(each) for each in [*before, *run(again, frames[at:])]]


@settings(deadline=None, max_examples=60)
@given(steps_of(HEAT_ROW), st.integers(0, 40))
def test_heat_restart_at_any_record_is_an_uninterrupted_run(steps, at):
    frames = [*WARM, *frames_of(steps, Lane.TELEMETRY)]
    at = min(at, len(frames))
    whole = run(cold(HEAT, bridges=BRIDGES), frames)
    assert restarted(HEAT, Lane.TELEMETRY, frames, at) == [encode(each) for each in whole]


@settings(deadline=None, max_examples=60)
@given(steps_of(STATE_ROW), st.integers(0, 20))
def test_state_restart_at_any_record_is_an_uninterrupted_run(steps, at):
    frames = frames_of(steps, Lane.ALARM)
    at = min(at, len(frames))
    whole = run(cold(STATE, Lane.ALARM, bridges=BRIDGES), frames)
    assert restarted(STATE, Lane.ALARM, frames, at) == [encode(each) for each in whole]


def test_what_ends_by_the_clock_ends_at_the_same_frame_after_a_restart():
    # The log's clock is looked at once a second: a restart must not look twice in one.
    alarm = frame([(1, 0.0, 1.0)], received_s=0.5, writer="b0.alarm")
    beats = [frame([], received_s=at, writer="b0.alarm") for at in (600.3, 600.7, 601.1)]
    frames = [alarm, *beats]
    whole = run(cold(STATE, Lane.ALARM, bridges=BRIDGES), frames)
    assert [each.phase for each in whole] == ["raise", "clear"]
    assert restarted(STATE, Lane.ALARM, frames, 2) == [encode(each) for each in whole]


def burning():
    fold = cold(HEAT, bridges=BRIDGES)
    run(fold, [*WARM, frame([(1, 900.0, 60.0)]), frame([(1, 910.0, 61.0), (2, 910.0, 30.0)])])
    run(fold, [frame([], received_s=910, writer="b0.alarm")])
    return fold


def test_later_frames_do_not_reach_into_a_packed_snapshot():
    fold = burning()
    content = snapshot.pack(fold)
    run(fold, [frame([(1, 920.0, 90.0), (2, 920.0, 90.0)])])
    assert snapshot.pack(fold) != content
    again, _ = snapshot.unpack(content, HEAT, setup(BRIDGES))
    assert snapshot.pack(again) == content


@pytest.mark.parametrize("where", [0, 5, 14, 20, 60, 400, -1])
def test_a_damaged_file_is_refused_with_a_reason(where):
    content = bytearray(snapshot.pack(burning()))
    content[where] ^= 1
    with pytest.raises(snapshot.RefusedError) as caught:
        snapshot.unpack(bytes(content), HEAT, setup(BRIDGES))
    assert caught.value.reason in {Refusal.FOREIGN, Refusal.DAMAGED}


@pytest.mark.parametrize("size", [0, 3, 13, 22, 23, 100])
def test_a_short_file_is_refused(size):
    with pytest.raises(snapshot.RefusedError):
        snapshot.unpack(snapshot.pack(burning())[:size], HEAT, setup(BRIDGES))


def test_the_newest_that_will_do_is_taken_and_the_others_are_named(tmp_path):
    fold = burning()
    older = snapshot.write(tmp_path, Lane.TELEMETRY, 0, snapshot.pack(fold))
    run(fold, [frame([(1, 920.0, 62.0)])])
    damaged = snapshot.write(tmp_path, Lane.TELEMETRY, 0, snapshot.pack(fold)[:-1])
    found = snapshot.restore(tmp_path, Lane.TELEMETRY, 0, HEAT, setup(BRIDGES))
    assert [name for name, _ in found.refused] == [damaged.name]
    assert found.state is not None
    assert snapshot.pack(found.state) == older.read_bytes()


def test_a_snapshot_of_another_fold_is_not_ours(tmp_path):
    path = snapshot.write(tmp_path, Lane.TELEMETRY, 0, snapshot.pack(burning()))
    path.rename(tmp_path / path.name.replace("telemetry-0", "telemetry-1"))
    found = snapshot.restore(tmp_path, Lane.TELEMETRY, 1, HEAT, setup(BRIDGES))
    assert found.state is None
    assert [error.reason for _, error in found.refused] == [Refusal.FOREIGN]


def test_the_newest_three_are_kept_even_when_offsets_fall(tmp_path):
    fold = burning()
    for offset in (100, 200, 300, 5):
        fold.next_offset = offset
        snapshot.write(tmp_path, Lane.TELEMETRY, 0, snapshot.pack(fold))
    assert len(list(tmp_path.iterdir())) == snapshot.KEPT
    found = snapshot.restore(tmp_path, Lane.TELEMETRY, 0, HEAT, setup(BRIDGES))
    assert found.state is not None
    assert found.state.next_offset == 5


def test_a_new_bridge_holds_the_clock_but_does_not_turn_it_back():
    fold = burning()
    assert fold.clock_us == T0_US + 910 * SECOND_US
    again, _ = snapshot.unpack(snapshot.pack(fold), HEAT, setup(["b0", "b1"]))

    def clock_after(writer, received_s):
        run(again, [frame([], received_s=received_s, writer=writer)])
        return (again.clock_us - T0_US) / SECOND_US

    assert clock_after("b0.alarm", 2000) == 910
    assert clock_after("b0.telemetry", 2000) == 910
    assert clock_after("b1.alarm", 900) == 910
    assert clock_after("b1.telemetry", 950) == 910
    assert clock_after("b1.alarm", 960) == 950


def test_no_folder_is_no_snapshot(tmp_path):
    found = snapshot.restore(tmp_path / "none", Lane.TELEMETRY, 0, HEAT, setup(BRIDGES))
    assert (found.state, found.refused) == (None, [])


def test_a_rule_of_another_version_starts_cold_and_the_others_keep_theirs():
    shipped = rules.discover()
    changed = tuple(
        SimpleNamespace(**{**vars(rule), "VERSION": rule.VERSION + 1})
        if rule.NAME == "heat_fixed"
        else rule
        for rule in shipped
    )
    fold = burning()
    again, cold_blocks = snapshot.unpack(
        snapshot.pack(fold), HEAT, folds.setup_of(changed, BRIDGES)
    )
    assert cold_blocks == ["heat_fixed@3"]
    for key in ("heat_rise@2", "features@1"):
        for name, column in fold.blocks[key].items():
            assert np.array_equal(again.blocks[key][name], column), name
    assert not again.blocks["heat_fixed@3"]["busy"].any()
    # It judges by what comes, from nothing; the rule that kept its state does not raise again.
    said = run(again, [frame([(1, at, 61.0)]) for at in (920.0, 930.0)])
    assert [(each.rule, each.phase) for each in said] == [("heat_fixed", "raise")]


def test_points_find_their_state_again_when_their_places_moved():
    shifted = registry([Point(2), Point(3, "humidity_pct"), Point(4), Point(7)])
    fold = burning()
    again, _ = snapshot.unpack(snapshot.pack(fold), shifted, setup(BRIDGES))
    baseline, before = (each.blocks["features@1"]["baseline_c"] for each in (again, fold))
    assert baseline[again.lookup[2]] == before[fold.lookup[2]] != 0
    assert baseline[again.lookup[7]] == 0
