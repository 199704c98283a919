"""Silence: whose, from when, and when nobody is asked."""

from itertools import pairwise

import pytest
from fix_detect import SECOND_US, T0_US, Point, frame, registry, run
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors import heartbeat, snapshot, state
from detectors.rules import offline
from sizao.signal import Kind, Phase, SubjectType
from sizao.units import Lane

HOUR = 3600
SETUP = state.setup_of([offline])
BRIDGED = state.setup_of([offline], ["b0"])
PAIR = registry([Point(1), Point(2)], interval_s=60)
DUE = 2 * 60 + HOUR


def cold(known=PAIR, setup=SETUP):
    return state.start(Lane.TELEMETRY, 0, known.at(1), setup)


def beats(from_s, to_s, step_s=1, talking=(), each_s=60, writer="b0.telemetry"):
    """Frames of a bridge: one each `step_s`, with a reading of the talking points each `each_s`."""
    found = []
    for at in range(from_s, to_s, step_s):
        rows = [(point, at, 20.0) for point in talking if at % each_s == 0]
        found += [frame(rows, received_s=at, writer=writer)]
    return found


def told(signals):
    return [
        (
            one.device - 1000,
            one.phase,
            (one.onset_us - T0_US) / SECOND_US,
            (one.event_us - T0_US) / SECOND_US,
        )
        for one in signals
    ]  # fmt: skip


def test_a_device_is_silent_two_words_and_an_hour_after_its_last():
    fold = cold()
    said = run(fold, beats(0, 300, talking=(1, 2)))
    said += run(fold, beats(300, 300 + DUE + 200, 10, talking=(2,)))
    assert told(said) == [(1, Phase.RAISE, 240, 240 + DUE)]
    (one,) = said
    assert (one.kind, one.subject.type, one.subject.id) == (
        Kind.OFFLINE,
        SubjectType.DEVICE,
        "1001",
    )
    # Whoever reads it can decide it again.
    evidence = one.evidence
    patience_us = (
        evidence["missed_count"] * evidence["interval_s"] + evidence["grace_s"]
    ) * SECOND_US
    back_us = evidence["back_us"] + evidence["interval_s"] * SECOND_US
    assert evidence["due_us"] == max(evidence["heard_us"] + patience_us, back_us) == one.event_us


def test_it_is_over_at_its_next_word_and_a_new_silence_is_a_new_onset():
    fold = cold()
    run(fold, beats(0, 300, talking=(1, 2)))
    run(fold, beats(300, 4500, 10, talking=(2,)))
    said = run(fold, beats(4500, 4800, 10, talking=(1, 2)))
    assert [(one[1], one[2]) for one in told(said)] == [(Phase.CLEAR, 240)]
    said = run(fold, beats(4800, 4800 + DUE + 60, 10, talking=(2,)))
    assert told(said) == [(1, Phase.RAISE, 4740, 4740 + DUE)]


def test_whoever_never_spoke_is_silent_since_it_was_looked_for():
    assert told(run(cold(), beats(0, DUE + 70, 10, talking=(2,)))) == [(1, Phase.RAISE, 0, DUE)]


@pytest.mark.parametrize("life", ["planned", "isolated", "retired"])
def test_who_is_not_in_service_is_not_asked(life):
    known = registry([Point(1, state=life), Point(2)], interval_s=60)
    assert told(run(cold(known), beats(0, 3 * HOUR, 10, talking=(2,)))) == []


def test_a_type_without_an_interval_is_not_asked():
    assert run(cold(registry([Point(1), Point(2)])), beats(0, 3 * HOUR, 10)) == []
    assert heartbeat.interval_s("name: x") == heartbeat.interval_s("{") == 0


def test_nobody_is_judged_while_bridges_are_away_and_all_get_an_interval_after():
    fold = cold(setup=BRIDGED)
    both = ("b0.alarm", "b0.telemetry")
    run(fold, [one for pair in zip(*(beats(0, 300, 1, (1, 2), writer=w) for w in both), strict=True)
               for one in pair])  # fmt: skip
    # One connection alone does not move the clock.
    assert run(fold, beats(300, 4 * HOUR, 10, writer="b0.telemetry")) == []
    back = 4 * HOUR
    frames = [one for pair in zip(*(beats(back, back + 300, 1, (2,), writer=w) for w in both),
                                  strict=True) for one in pair]  # fmt: skip
    # The clock is the older of the two, so it came back to where the one connection had got to.
    assert told(run(fold, frames)) == [(1, Phase.RAISE, 240, back - 10 + 60)]


def test_what_is_replayed_is_no_word_of_the_device():
    fold = cold(setup=BRIDGED)
    for writer in ("b0.alarm", "b0.telemetry"):
        run(fold, beats(0, 60, 10, (1, 2), writer=writer))
    said = []
    for at in range(60, 2 * HOUR, 60):
        for writer in ("b0.alarm", "b0.telemetry", "replay.0"):
            rows = [(1, at, 20.0)] if writer == "replay.0" else [(2, at, 20.0)]
            said += run(fold, [frame(rows, received_s=at, writer=writer)])
    assert [one[0] for one in told(said)] == [1]


def test_a_storm_of_silence_is_said_in_pieces():
    points = [Point(number) for number in range(1, 1201)]
    known = registry([*points, Point(9999)], interval_s=60)
    fold = cold(known)
    run(fold, beats(0, 61, 1, range(1, 1201)))
    found = [len(run(fold, [each])) for each in beats(61, 60 + DUE + 100, 1, (9999,))]
    assert sorted(filter(None, found)) == [200, 500, 500]
    # All of them come back in the minute before the next look.
    back = 60 + DUE + 120
    run(fold, beats(60 + DUE + 100, back, 20, (9999,)))
    found = [len(run(fold, [each])) for each in beats(back, back + 130, 1, range(1, 1201))]
    assert sorted(filter(None, found)) == [200, 500, 500]


def test_who_leaves_service_while_silent_is_asked_no_more():
    known = registry([Point(1, state="retired"), Point(2)], interval_s=60)
    fold = cold()
    run(fold, beats(0, DUE + 200, 10, talking=(2,)))
    state.adopt(fold, known.at(1))
    (over,) = run(fold, beats(DUE + 200, DUE + 400, 10, talking=(2,)))
    assert (over.phase, over.evidence["decided_by"]) == (Phase.CLEAR, "registry")


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_where_it_is_cut_and_restored_changes_no_signal(data):
    words = data.draw(st.lists(st.tuples(st.integers(1, 2), st.integers(0, 15000)), max_size=12))
    frames = [
        frame([(point, at, 20.0) for point, said in words if said // 30 * 30 == at], received_s=at)
        for at in range(0, 15000, 30)
    ]
    whole = run(cold(), frames)
    cuts = [0, *sorted(data.draw(st.sets(st.integers(0, len(frames)), max_size=3))), len(frames)]
    fold, found = cold(), []
    for begin, end in pairwise(cuts):
        fold, blocks = snapshot.unpack(snapshot.pack(fold), PAIR, SETUP)
        assert not blocks
        found += run(fold, frames[begin:end])
    assert found == whole


def scalar(words, clock):
    """The rule again, for one device and one look after the other."""
    heard = first = looked = back = onset = 0
    active, said = False, []
    minute = -1
    for at in clock:
        heard = max([heard, *(word for word in words if word == at)])
        if at // 60 <= minute:
            continue
        minute = at // 60
        if not looked or at - looked > 180:
            back, first = at, first or (0 if heard else at)
        looked = at
        silent = max(heard, first)
        due = max(silent + DUE, back + 60)
        if active and heard > onset:
            active = False
            said += [(Phase.CLEAR, onset, heard)]
        elif not active and due <= at:
            active, onset = True, silent
            said += [(Phase.RAISE, silent, due)]
    return said


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(1, 400), max_size=6),
    st.lists(st.sampled_from([20, 60, 60, 170, 190, 1800, 4000]), min_size=5, max_size=60),
)
def test_it_says_what_the_scalar_reference_says(places, steps):
    clock = [T0_US // SECOND_US + 60]
    for step in steps:
        clock += [clock[-1] + step]
    words = {clock[place % len(clock)] for place in places}
    frames = [
        frame([(1, at - T0_US // SECOND_US, 20.0)] if at in words else [],
              received_s=at - T0_US // SECOND_US)
        for at in clock
    ]  # fmt: skip
    known = registry([Point(1)], interval_s=60)
    found = [
        (one.phase, one.onset_us // SECOND_US, one.event_us // SECOND_US)
        for one in run(cold(known), frames)
    ]
    assert found == scalar(words, clock)
