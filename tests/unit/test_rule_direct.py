"""What the rule direct promises, by example."""

import pytest
from fix_detect import T0_US, Point, cold, frame, registry, run, told

from sizao.frame import Flag
from sizao.units import AlarmState, Lane

NAMES = ["fire_state", "call_point_state", "gas_state", "co_state", "tamper_state"]
KNOWN = registry(Point(index + 1, name) for index, name in enumerate(NAMES))
NORMAL, ALARM, SELF_TEST, MUTED = AlarmState


def hears(*messages, fold=None):
    """(arrival s, point, state[, event s]); no point: a heartbeat. Returns (phase, event s)."""
    fold = fold or cold(KNOWN, Lane.ALARM)
    frames = []
    for at, *said in messages:
        rows = [(said[0], said[2] if len(said) > 2 else at, said[1])] if said else []
        frames += [frame(rows, received_s=at)]
    return [(phase, at) for _, _, phase, _, at in told(run(fold, frames))]


@pytest.mark.parametrize(
    ("point", "kind", "tier"),
    [
        (1, "fire", "alarm"),
        (2, "fire", "urgent"),
        (3, "gas", "alarm"),
        (4, "co", "alarm"),
        (5, "tamper", "alarm"),
    ],
)
def test_kind_and_tier_by_quantity(point, kind, tier):
    fold = cold(KNOWN, Lane.ALARM)
    (signal,) = run(fold, [frame([(point, 0, ALARM)])])
    assert (signal.kind, signal.tier, signal.self_test) == (kind, tier, False)
    assert signal.evidence["quantity"] == NAMES[point - 1]
    assert signal.evidence["value_us"] == T0_US


@pytest.mark.parametrize("point", [1, 2])
def test_a_self_test_is_an_alarm_marked_as_such(point):
    fold = cold(KNOWN, Lane.ALARM)
    (signal,) = run(fold, [frame([(point, 0, SELF_TEST)])])
    assert (signal.tier, signal.self_test) == ("alarm", True)


def test_the_edge_is_the_onset():
    assert hears((0, 1, NORMAL), (7, 1, ALARM), (17, 1, ALARM), (27, 1, ALARM)) == [("raise", 7)]


def test_refresh_at_most_once_an_event_minute():
    said = hears(*((at, 1, ALARM) for at in range(0, 180, 10)))
    assert said == [("raise", 0), ("refresh", 60), ("refresh", 120)]


def test_muted_is_still_alarming():
    assert hears((0, 1, MUTED)) == [("raise", 0)]
    assert hears((0, 1, ALARM), (400, 1, MUTED), (900,)) == [("raise", 0), ("refresh", 400)]


def test_normal_clears_at_once():
    said = hears((0, 1, ALARM), (30, 1, NORMAL), (40, 1, ALARM))
    assert said == [("raise", 0), ("clear", 30), ("raise", 40)]


def test_ten_minutes_of_silence_end_it_even_without_any_reading():
    said = hears((0, 1, ALARM), (599,), (601,), (700, 1, ALARM))
    assert said == [("raise", 0), ("clear", 600), ("raise", 700)]


def test_each_alarm_message_begins_the_ten_minutes_anew():
    assert hears((0, 1, ALARM), (500, 1, ALARM), (1099,)) == [("raise", 0), ("refresh", 500)]


def test_silence_is_counted_from_arrival_not_from_the_devices_clock():
    # Said 9 min ago, arrives now: it counts as alarming for 10 min from now.
    said = hears((540, 1, ALARM, 0), (1139,), (1140,))
    assert said == [("raise", 0), ("clear", 1140)]


def test_an_alarm_during_a_self_test_is_an_onset_of_its_own():
    fold = cold(KNOWN, Lane.ALARM)
    signals = run(fold, [frame([(1, 0, SELF_TEST)]), frame([(1, 5, ALARM)])])
    assert [(each.phase, each.self_test) for each in signals] == [("raise", True), ("raise", False)]
    assert signals[0].onset != signals[1].onset


def test_an_alarm_in_the_second_of_a_self_test_has_ids_of_its_own():
    """Seen: both had one onset and one record id, so alert dropped the alarm as seen before."""
    fold = cold(KNOWN, Lane.ALARM)
    said = run(fold, [frame([(1, 0, SELF_TEST), (1, 0, ALARM)])])
    assert [(each.phase, each.tier, each.self_test) for each in said] == [
        ("raise", "alarm", True),
        ("raise", "alarm", False),
    ]
    assert said[0].event_us == said[1].event_us
    assert len({each.onset for each in said}) == len({each.id for each in said}) == 2


def test_an_old_alarm_that_comes_late_is_raised_unless_its_time_is_covered():
    assert hears((0, 1, NORMAL), (5, 1, ALARM, -60)) == [("raise", -60)]
    said = hears((0, 1, ALARM), (60, 1, NORMAL), (65, 1, ALARM, 30), (66, 1, ALARM, 0))
    assert said == [("raise", 0), ("clear", 60)]


def test_an_old_normal_that_comes_late_clears_nothing():
    assert hears((10, 1, ALARM), (11, 1, NORMAL, 5), (12, 1, NORMAL, 10)) == [("raise", 10)]


def test_normal_and_alarm_within_one_second_of_a_coarse_clock():
    fold = cold(KNOWN, Lane.ALARM)
    said = told(run(fold, [frame([(1, 0, NORMAL), (1, 0, ALARM)])]))
    assert [line[2] for line in said] == ["raise"]
    assert hears((0, 1, ALARM), (9, 1, NORMAL), (9, 1, ALARM)) == [
        ("raise", 0),
        ("clear", 9),
        ("raise", 9),
    ]


def test_the_same_message_twice_says_nothing_new():
    assert hears((0, 1, ALARM), (1, 1, ALARM, 0), (2, 1, ALARM, 0)) == [("raise", 0)]
    assert hears((0, 1, ALARM), (601,), (602, 1, ALARM, 0)) == [("raise", 0), ("clear", 600)]


def test_late_is_said():
    fold = cold(KNOWN, Lane.ALARM)
    (signal,) = run(fold, [frame([(1, -600, ALARM)], received_s=0, flags=Flag.LATE)])
    assert signal.late
    assert signal.onset_us == T0_US - 600_000_000


def test_a_value_that_is_no_state_is_not_judged():
    fold = cold(KNOWN, Lane.ALARM)
    assert run(fold, [frame([(1, 0, 4)]), frame([(1, 1, -1)]), frame([(1, 2, 1.5)])]) == []
    assert fold.discards == {"range": 3}
