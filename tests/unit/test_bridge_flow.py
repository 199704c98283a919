"""When a lane reads, pauses and leaves; how long its ticks are."""

from fix_bridge import message
from hypothesis import given
from hypothesis import strategies as st

from ingest.flow import SILENT_S_MAX, TURN_S, Flow, Held, Step, Tick, Turn


def flow(**rest):
    return Flow(
        messages_max=10, bytes_max=1000, pause_s_max=15, **{"stops_when_silent": False} | rest
    )


def test_it_reads_while_there_is_room():
    assert flow().step(9, 999, 100, 0) is Step.READ


def test_it_pauses_at_either_bound():
    assert flow().step(10, 0, 0, 0) is Step.PAUSE
    assert flow().step(0, 1000, 0, 0) is Step.PAUSE


def test_it_leaves_after_half_a_keep_alive_without_reading():
    lane = flow()
    assert [lane.step(10, 0, 0, now) for now in (5, 20, 20.1)] == [
        Step.PAUSE,
        Step.PAUSE,
        Step.LEAVE,
    ]


def test_room_in_between_begins_the_pause_anew():
    lane = flow()
    lane.step(10, 0, 0, 0)
    assert lane.step(9, 0, 0, 14) is Step.READ
    assert lane.step(10, 0, 0, 16) is Step.PAUSE
    assert lane.step(10, 0, 0, 30) is Step.PAUSE


def test_only_telemetry_stops_when_kafka_is_silent():
    assert flow().step(1, 1, SILENT_S_MAX + 1, 0) is Step.READ
    assert flow(stops_when_silent=True).step(1, 1, SILENT_S_MAX + 1, 0) is Step.PAUSE
    assert flow(stops_when_silent=True).step(1, 1, SILENT_S_MAX, 0) is Step.READ


def gone():
    """A lane that has left on purpose."""
    lane = flow()
    assert [lane.step(10, 0, 0, now) for now in (0, 16)] == [Step.PAUSE, Step.LEAVE]
    return lane


def test_after_leaving_on_purpose_it_returns_when_half_the_room_is_free():
    assert not gone().may_return(5, 0, 0)
    assert not gone().may_return(0, 500, 0)
    lane = gone()
    assert lane.may_return(4, 499, 0)
    assert lane.step(10, 0, 0, 100) is Step.PAUSE, "the pause begins anew"


def test_a_broker_that_left_finds_it_again_as_long_as_there_is_room():
    """Kafka away, the broker restarted: no alarm connection, although the bound was far."""
    lane = flow()
    assert lane.may_return(9, 999, 100)
    assert not lane.may_return(10, 0, 0)
    paused = flow()
    paused.step(10, 0, 0, 0)
    assert paused.may_return(9, 0, 0)
    assert not flow(stops_when_silent=True).may_return(0, 0, SILENT_S_MAX + 1)


def test_who_has_returned_owes_no_half_any_more():
    lane = gone()
    assert lane.may_return(4, 0, 0)
    assert lane.may_return(9, 0, 0), "this time the broker went"


@given(st.lists(st.lists(st.integers(0, 99), min_size=1), max_size=9), st.data())
def test_what_is_held_is_counted_whatever_is_settled_at_once(reads, data):
    """Reads of some messages, settled in parts that know nothing of the reads."""
    held, waiting = Held(), []
    for now_s, sizes in enumerate(reads):
        messages = [message("t", bytes(size)) for size in sizes]
        held.take(len(messages), sum(one.size for one in messages), now_s)
        waiting += [(one, now_s) for one in messages]
    while waiting:
        count = data.draw(st.integers(0, len(waiting)))
        held.settle([one for one, _ in waiting[:count]])
        waiting = waiting[count:]
        assert held.messages == len(waiting)
        assert held.size == sum(one.size for one, _ in waiting)
        assert held.oldest_s == (waiting[0][1] if waiting else None)
        if not count:
            break


@given(st.lists(st.tuples(st.integers(0, 20), st.floats(0, 10)), max_size=50))
def test_it_never_reads_beyond_a_bound_and_never_pauses_too_long(moments):
    lane, now_s, paused_s = flow(), 0.0, 0.0
    for held, passed_s in moments:
        now_s += passed_s
        step = lane.step(held, 0, 0, now_s)
        assert (step is Step.READ) == (held < 10)
        paused_s = 0.0 if step is Step.READ else paused_s + passed_s
        assert step is not Step.PAUSE or paused_s <= 15 + 10


def test_ticks_lengthen_when_they_begin_late_and_shorten_again():
    tick = Tick(0.02, 0.05)
    assert tick.next_s(0.0) == 0.02
    lengths = [tick.next_s(0.03) for _ in range(20)]
    assert lengths[-1] == 0.05
    assert [tick.next_s(0.0) for _ in range(40)][-1] == 0.02


def test_one_late_tick_is_no_busy_machine():
    tick = Tick(0.02, 0.05)
    assert tick.next_s(0.08) == 0.02


def test_a_plan_that_took_long_is_followed_by_shorter_ones():
    """Refused messages cost twenty times as much: the alarms' lane waited 0.4 s for 10,000."""
    turn, took = Turn(), []
    for _ in range(8):
        took.append(turn.share * 0.4)
        turn.took(took[-1], more=True)
    assert took[0] == 0.1
    assert max(took[1:]) <= TURN_S
    turn.took(100.0, more=True)
    least = turn.share
    assert 0 < least < 0.1
    turn.took(100.0, more=True)
    assert turn.share == least


def test_quick_plans_grow_only_while_more_waits():
    turn = Turn()
    begin = turn.share
    turn.took(0.001, more=False)
    assert turn.share == begin
    for _ in range(8):
        turn.took(0.001, more=True)
    assert turn.share == 1.0
