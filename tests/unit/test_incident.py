"""The incident's state machine, sentence by sentence, and its ids to the last digit."""

from __future__ import annotations

import pytest
from fix_incident import MINUTE, T0, Desk, make

from alerting.incident import (
    allowed,
    incident_id,
    message_id,
    nature_of,
    transition_id,
)
from alerting.model import (
    Became,
    Key,
    Nature,
    NotAllowed,
    State,
    Verdict,
    What,
)
from sizao.signal import Kind, Phase, Tier


def test_ids_are_these_to_the_last_digit():
    incident = incident_id("a" * 32)
    assert incident == "0344305af3c1645e13eca938b8c5247d"
    transition = transition_id(incident, "b" * 32)
    assert transition == "62df3d5b3e45db0d7e3a068734ba0e30"
    assert message_id(transition, "station-1", "webhook", 0) == "0288ebe20bae893725d6227c18a3623f"


def test_only_what_the_table_lists_is_allowed():
    listed = {(state, what) for state in [None, *State] for what in What if _passes(state, what)}
    assert listed == {
        (None, What.OPENED),
        (State.OPEN, What.JOINED),
        (State.OPEN, What.RAISED),
        (State.OPEN, What.RENEWED),
        (State.OPEN, What.ACKNOWLEDGED),
        (State.OPEN, What.VERDICT),
        (State.ACKNOWLEDGED, What.JOINED),
        (State.ACKNOWLEDGED, What.RAISED),
        (State.ACKNOWLEDGED, What.RENEWED),
        (State.ACKNOWLEDGED, What.VERDICT),
        (State.ACKNOWLEDGED, What.CLOSED),
    }


def _passes(state, what):
    try:
        allowed(state, what)
    except NotAllowed:
        return False
    return True


def test_first_signal_opens_and_names_the_incident():
    desk = Desk()
    signal = make()
    desk.hear(signal)
    assert desk.incident.id == incident_id(signal.id)
    assert desk.whats == [What.OPENED]
    assert desk.transitions[0].id == transition_id(desk.incident.id, signal.id)
    assert desk.incident.version == 1


def test_the_same_device_again_is_silent():
    desk = Desk()
    desk.hear(make())
    desk.hear(make(at=T0 + MINUTE, onset=T0, phase=Phase.REFRESH))
    desk.hear(make(at=T0 + 2 * MINUTE))
    assert desk.whats == [What.OPENED]
    assert desk.became == [Became.OPENED, Became.SAME, Became.SAME]
    assert desk.incident.last_us == T0 + 2 * MINUTE
    assert desk.incident.version == 1


def cooking(desk):
    """Alarm, acknowledged as cooking, restored."""
    desk.hear(make())
    desk.act(What.ACKNOWLEDGED)
    desk.act(What.VERDICT, verdict=Verdict.FALSE_ALARM, cause="cooking")
    desk.hear(make(at=T0 + MINUTE, onset=T0, phase=Phase.CLEAR))


def test_a_device_that_alarms_after_it_restored_is_told_and_asks_anew():
    desk = Desk()
    cooking(desk)
    desk.hear(make(at=T0 + 2 * MINUTE))
    assert desk.whats[-1] is What.RENEWED
    assert desk.became[-1] is Became.RENEWED
    assert (desk.incident.state, desk.incident.verdict) == (State.OPEN, None)
    assert desk.incident.known["device:1"].cleared_us is None
    assert desk.incident.members == 1


def test_a_device_that_alarms_ten_minutes_after_its_last_alarm_is_told():
    for minutes, told in ((10, False), (11, True)):
        desk = Desk()
        desk.hear(make())
        desk.hear(make(at=T0 + minutes * MINUTE))
        assert (desk.whats[-1] is What.RENEWED) is told


def test_an_early_line_that_goes_on_does_not_hide_that_the_alarm_ended():
    desk = Desk()
    desk.hear(make(tier=Tier.EARLY))
    desk.hear(make(at=T0 + 1))
    desk.hear(make(at=T0 + MINUTE, onset=T0 + 1, phase=Phase.CLEAR))
    desk.hear(make(at=T0 + 2 * MINUTE, onset=T0, tier=Tier.EARLY, phase=Phase.REFRESH))
    assert desk.became[-1] is Became.SAME
    desk.hear(make(at=T0 + 3 * MINUTE))
    assert desk.whats == [What.OPENED, What.RAISED, What.RENEWED]


@pytest.mark.parametrize("restored", [True, False])
def test_an_early_line_before_the_second_fire_does_not_mute_it(restored):
    """The pan at 20:00, acknowledged; early again at 20:38, alarm at 20:40."""
    desk = Desk()
    desk.hear(make())
    desk.act(What.ACKNOWLEDGED)
    if restored:
        desk.hear(make(at=T0 + 5 * MINUTE, onset=T0, phase=Phase.CLEAR))
    desk.hear(make(tier=Tier.EARLY, at=T0 + 38 * MINUTE))
    desk.hear(make(at=T0 + 40 * MINUTE))
    assert desk.whats[-1] is What.RENEWED


def test_a_device_whose_clock_was_set_back_is_not_mute():
    desk = Desk()
    desk.hear(make())
    desk.act(What.ACKNOWLEDGED)
    desk.hear(make(at=T0 + MINUTE, onset=T0, phase=Phase.CLEAR))
    slow = 600 * MINUTE
    desk.hear(make(at=T0 + 40 * MINUTE - slow, received=T0 + 40 * MINUTE))
    assert desk.whats[-1] is What.RENEWED
    assert desk.incident.known["device:1"].cleared_us is None


def test_an_early_device_that_alarms_is_news_once_somebody_has_acknowledged():
    """It raises nothing, as the first device alarmed long ago; yet who took it knows of no such."""
    for taken, told in ((False, What.JOINED), (True, What.RENEWED)):
        desk = Desk()
        desk.hear(make(1))
        desk.hear(make(2, tier=Tier.EARLY, at=T0 + 5 * MINUTE))
        if taken:
            desk.act(What.ACKNOWLEDGED)
        desk.hear(make(2, at=T0 + 12 * MINUTE))
        assert desk.whats[-1] is told


def test_a_second_line_of_one_device_is_no_news():
    """Rise and the device's own word within one fire: one page."""
    desk = Desk()
    desk.hear(make())
    desk.hear(make(at=T0 + 5))
    desk.hear(make(at=T0 + MINUTE, onset=T0 + 5, phase=Phase.CLEAR))
    desk.hear(make(at=T0 + 2 * MINUTE, onset=T0, phase=Phase.REFRESH))
    assert desk.whats == [What.OPENED]


def test_early_again_is_silent_after_it_cleared():
    desk = Desk()
    desk.hear(make(tier=Tier.EARLY))
    desk.hear(make(tier=Tier.EARLY, at=T0 + MINUTE, onset=T0, phase=Phase.CLEAR))
    desk.hear(make(tier=Tier.EARLY, at=T0 + 20 * MINUTE))
    assert desk.whats == [What.OPENED]


def test_another_device_joins_and_is_told():
    desk = Desk()
    desk.hear(make(1, kind=Kind.GAS))
    desk.hear(make(2, kind=Kind.GAS))
    assert desk.whats == [What.OPENED, What.JOINED]
    assert desk.incident.members == 2


def test_early_that_becomes_alarm_is_raised():
    desk = Desk()
    desk.hear(make(tier=Tier.EARLY))
    desk.hear(make(tier=Tier.ALARM, at=T0 + 1))
    assert desk.whats == [What.OPENED, What.RAISED]
    assert desk.incident.tier is Tier.ALARM


def test_a_second_device_in_alarm_within_ten_minutes_is_urgent():
    desk = Desk()
    desk.hear(make(1))
    desk.hear(make(2, at=T0 + 10 * MINUTE))
    assert desk.whats == [What.OPENED, What.RAISED]
    assert desk.incident.tier is Tier.URGENT


def test_a_second_device_later_than_ten_minutes_joins():
    desk = Desk()
    desk.hear(make(1))
    desk.hear(make(2, at=T0 + 10 * MINUTE + 1))
    assert desk.whats == [What.OPENED, What.JOINED]
    assert desk.incident.tier is Tier.ALARM


def test_gas_does_not_become_urgent_by_a_second_device():
    desk = Desk()
    desk.hear(make(1, kind=Kind.GAS))
    desk.hear(make(2, kind=Kind.GAS))
    assert desk.incident.tier is Tier.ALARM


@pytest.mark.parametrize("second", [{"device": 2, "tier": Tier.EARLY}, {"tier": Tier.URGENT}])
def test_news_takes_back_the_acknowledgement_and_a_verdict_other_than_fire(second):
    desk = Desk()
    desk.hear(make())
    desk.act(What.ACKNOWLEDGED)
    desk.act(What.VERDICT, verdict=Verdict.FALSE_ALARM, cause="cooking", devices=(1,))
    desk.hear(make(at=T0 + 1, **second))
    assert desk.incident.state is State.OPEN
    assert desk.incident.verdict is None
    assert desk.transitions[-1].before["verdict"] == Verdict.FALSE_ALARM


def test_the_verdict_fire_stays_when_another_device_joins():
    desk = Desk()
    desk.hear(make())
    desk.act(What.VERDICT, verdict=Verdict.FIRE)
    desk.hear(make(2, at=T0 + 1))
    assert desk.incident.verdict is Verdict.FIRE


def test_a_clear_is_recorded_and_closes_nothing():
    desk = Desk()
    desk.hear(make())
    desk.hear(make(at=T0 + MINUTE, onset=T0, phase=Phase.CLEAR))
    assert desk.became[-1] is Became.CLEARED
    assert desk.incident.state is State.OPEN
    assert desk.incident.known["device:1"].cleared_us == T0 + MINUTE


def test_a_clear_with_nothing_open_opens_nothing():
    desk = Desk()
    desk.hear(make(at=T0 + MINUTE, onset=T0, phase=Phase.CLEAR))
    assert desk.became == [Became.NOTHING_OPEN]
    assert not desk.transitions


def test_a_refresh_whose_raise_was_lost_opens():
    desk = Desk()
    desk.hear(make(at=T0 + MINUTE, onset=T0, phase=Phase.REFRESH))
    assert desk.whats == [What.OPENED]


def test_after_closing_an_old_onset_is_silent_and_a_new_one_opens():
    desk = Desk()
    desk.hear(make())
    desk.close()
    first = desk.incident.id
    desk.hear(make(at=T0 + 5 * MINUTE, onset=T0, phase=Phase.REFRESH))
    assert desk.became[-1] is Became.AFTER_CLOSE
    assert desk.incident.id == first
    desk.hear(make(at=T0 + 6 * MINUTE))
    assert desk.whats[-1] is What.OPENED
    assert desk.incident.id != first
    assert desk.incident.version == 1


def test_a_late_raise_of_a_closed_device_is_silent_but_another_device_or_tier_pages():
    for late, pages in [
        (make(1, at=T0 + 1), False),
        (make(2, at=T0 + 1), True),
        (make(1, at=T0 + 1, tier=Tier.URGENT), True),
    ]:
        desk = Desk()
        desk.hear(make(1))
        desk.close()
        desk.hear(late)
        assert (desk.whats[-1] is What.OPENED) is pages


def test_a_fire_heard_after_the_close_pages_however_slow_its_device_s_clock():
    """Up to 48 h of a device's clock are believed: an hour too slow must not be an hour's mute."""
    slow = 60 * MINUTE
    desk = Desk()
    desk.hear(make(1, at=T0 - slow, received=T0))
    desk.now = T0 + MINUTE
    desk.close()
    desk.hear(make(1, at=T0 + 2 * MINUTE - slow, received=T0 + 2 * MINUTE))
    assert desk.whats[-1] is What.OPENED


def test_an_onset_of_an_older_closed_incident_stays_silent():
    desk = Desk()
    desk.hear(make(1))
    desk.close()
    desk.hear(make(2, at=T0 + MINUTE))
    desk.hear(make(1, at=T0 + 2 * MINUTE, onset=T0, phase=Phase.REFRESH))
    assert desk.became[-1] is Became.AFTER_CLOSE
    assert desk.incident.members == 1


def test_a_record_seen_before_changes_nothing():
    desk = Desk()
    desk.hear(make())
    assert desk.hear(make()) == ()


def test_a_fire_within_the_onset_of_a_self_test_opens_a_real_incident():
    desk = Desk()
    desk.hear(make(self_test=True), Nature.TEST)
    desk.hear(make(at=T0 + MINUTE, onset=T0, phase=Phase.REFRESH), Nature.REAL)
    assert desk.whats == [What.OPENED, What.OPENED]
    assert set(desk.book.newest) == {
        Key(7, Kind.FIRE, Nature.TEST),
        Key(7, Kind.FIRE, Nature.REAL),
    }


def test_a_slow_kind_is_a_row_and_no_incident():
    desk = Desk()
    desk.hear(make(kind=Kind.OFFLINE))
    assert desk.became == [Became.SLOW]
    assert not desk.book.newest


def test_late_is_said():
    desk = Desk()
    desk.hear(make(), after=5 * MINUTE)
    assert desk.incident.late
    assert desk.transitions[0].late


@pytest.mark.parametrize(
    ("mark", "self_test", "nature"),
    [
        ("real", False, Nature.REAL),
        ("", False, Nature.REAL),
        ("real", True, Nature.TEST),
        ("test", False, Nature.TEST),
        ("canary", True, Nature.CANARY),
        ("drill", False, Nature.REAL),  # a drill comes from a window, never from a mark
    ],
)
def test_nature(mark, self_test, nature):
    assert nature_of(mark, self_test=self_test) is nature
