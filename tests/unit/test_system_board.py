"""What is wrong with ourselves: told once, while it lasts, and over when it is over."""

import hypothesis.strategies as st
from hypothesis import given

from sizao import signal
from sizao.signal import MINUTE_US, Phase, Tier
from sizao.system.board import QUIET_US, SUBJECTS_MAX, Board, Rule, disk_tier
from sizao.topics import SIGNALS

T0 = 1_772_352_000_000_000
DISK, FULL = "disk/box:/", {"used_percent": 91.0}
WHERE = {"site": 1, "generation": 7}


def due(board, now_us, *, written=True):
    said = board.due(now_us, **WHERE)
    if written:
        board.written(said)
    return [(one.phase, one.tier, one.subject.id) for one in said]


def test_it_is_raised_at_once_refreshed_each_minute_and_cleared():
    board = Board()
    assert board.say(Rule.DISK, DISK, Tier.ALARM, T0, FULL)
    assert not board.say(Rule.DISK, DISK, Tier.ALARM, T0 + 5, FULL)
    assert due(board, T0 + 10) == [(Phase.RAISE, Tier.ALARM, DISK)]
    assert due(board, T0 + 20) == []
    assert due(board, T0 + MINUTE_US) == [(Phase.REFRESH, Tier.ALARM, DISK)]
    assert board.over(DISK, T0 + MINUTE_US + 1)
    assert due(board, T0 + MINUTE_US + 2) == [(Phase.CLEAR, Tier.ALARM, DISK)]
    assert due(board, T0 + 9 * MINUTE_US) == []
    assert not board.over(DISK, T0 + 9 * MINUTE_US)


def test_every_signal_is_one_that_alert_can_read():
    board = Board()
    board.say(Rule.DROPPED, "broker/dropped", Tier.ALARM, T0 + 123, {"dropped": 40})
    (one,) = board.due(T0 + 456, **WHERE)
    value = signal.encode(one)
    assert signal.decode(value, signal.headers(one, value, "bridge")) == one
    assert (one.site, one.device, one.kind) == (1, 0, signal.Kind.SYSTEM)
    assert one.onset_us == T0
    assert signal.topic_of(one.kind) is SIGNALS


def test_two_processes_that_notice_in_one_minute_say_the_same_id():
    ids = set()
    for at in (T0 + 1, T0 + MINUTE_US - 1):
        board = Board()
        board.say(Rule.DISK, DISK, Tier.EARLY, at, FULL)
        ids |= {one.id for one in board.due(at, **WHERE)}
    assert len(ids) == 1


def test_a_higher_tier_is_an_onset_of_its_own_and_the_lower_one_ends():
    board = Board()
    board.say(Rule.DISK, DISK, Tier.EARLY, T0, FULL)
    due(board, T0)
    assert board.say(Rule.DISK, DISK, Tier.ALARM, T0 + 1, FULL)
    assert due(board, T0 + 2) == [
        (Phase.CLEAR, Tier.EARLY, DISK),
        (Phase.RAISE, Tier.ALARM, DISK),
    ]


def test_while_kafka_is_away_the_latest_state_waits_and_nothing_piles_up():
    board = Board()
    for minute in range(100):
        board.say(Rule.DISK, DISK, Tier.ALARM, T0 + minute * MINUTE_US, {"used_percent": minute})
        board.say(Rule.DISK, "disk/short", Tier.ALARM, T0 + minute * MINUTE_US)
        board.over("disk/short", T0 + minute * MINUTE_US + 1)
        assert len(due(board, T0 + minute * MINUTE_US + 2, written=False)) == 1
    (one,) = board.due(T0 + 101 * MINUTE_US, **WHERE)
    assert (one.phase, one.evidence, one.event_us) == (Phase.RAISE, {"used_percent": 99}, T0)


def test_an_event_that_nobody_could_be_told_of_waits_longer_than_it_would_last():
    board = Board()
    board.say(Rule.SESSION, "bridge.b0/session.alarm", Tier.ALARM, T0)
    late = T0 + 3 * QUIET_US
    assert due(board, late) == [(Phase.RAISE, Tier.ALARM, "bridge.b0/session.alarm")]
    assert board.told("bridge.b0/session.alarm")
    assert due(board, late + QUIET_US + 1) == [(Phase.CLEAR, Tier.ALARM, "bridge.b0/session.alarm")]
    assert board.shown() == {}


def test_what_ends_while_its_raise_is_on_the_way_is_cleared():
    board = Board()
    board.say(Rule.DISK, DISK, Tier.ALARM, T0, FULL)
    said = board.due(T0, **WHERE)
    board.over(DISK, T0 + 1)
    board.written(said)
    assert due(board, T0 + 2) == [(Phase.CLEAR, Tier.ALARM, DISK)]


def test_it_is_bounded_and_says_what_it_forgot():
    board = Board()
    for number in range(SUBJECTS_MAX + 3):
        board.say(Rule.DISK, f"disk/{number}", Tier.EARLY, T0)
    assert len(board.shown()) == SUBJECTS_MAX
    assert board.forgotten == 3


STEPS = st.tuples(
    st.sampled_from(["say", "over", "write", "lose"]),
    st.sampled_from(["a", "b"]),
    st.sampled_from([Tier.EARLY, Tier.ALARM]),
    st.integers(0, 12),
)


@given(st.lists(STEPS, max_size=40))
def test_whatever_happens_the_log_ends_with_what_stands(steps):
    """The oracle reads the log as alert does: an onset is on from its raise to its clear."""
    board, on, now, stands = Board(), {}, T0, {}

    def write(lost):
        said = board.due(now, **WHERE)
        if not lost:
            for one in said:
                if one.phase is Phase.CLEAR:
                    on.pop(one.onset, None)
                else:
                    on[one.onset] = one.subject.id, one.tier
            board.written(said)

    for what, subject, tier, minutes in steps:
        now += minutes * MINUTE_US + 1
        if what == "say":
            board.say(Rule.DISK, subject, tier, now)
        elif what == "over":
            board.over(subject, now)
        else:
            write(what == "lose")
        stands = {name: board.tier_of(name) for name in "ab" if board.tier_of(name)}
    now += 1
    for _ in range(2):
        write(lost=False)
    stands = {name: board.tier_of(name) for name in "ab" if board.tier_of(name)}
    assert sorted(on.values()) == sorted(stands.items())


def test_a_disk_warns_at_80_pages_at_90_and_does_not_flap():
    tier, seen = None, []
    for used in (79, 80, 79, 78, 76, 85, 90, 88, 86, 95, 70):
        tier = disk_tier(used, tier, early=80, alarm=90)
        seen.append(tier)
    early, alarm = Tier.EARLY, Tier.ALARM
    assert seen == [None, early, early, early, None, early, alarm, alarm, early, alarm, None]
