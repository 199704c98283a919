"""A log that catches up with what was handed over past it: silent for who is known, a page else."""

import pytest
from fix_incident import MINUTE, T0, Desk, make

from alerting.model import Became, State, Verdict, What
from sizao.signal import Phase, Tier


def outage(*, acknowledged=True):
    """Kafka is dead; device 1 is handed over and paged, and a person takes it 30 minutes later."""
    desk = Desk()
    desk.hear(make(1, at=T0))
    desk.now = T0 + 30 * MINUTE
    if acknowledged:
        desk.act(What.ACKNOWLEDGED)
    return desk


def test_the_log_brings_the_very_record_that_was_handed_over():
    desk = outage()
    assert desk.hear(make(1, at=T0)) == ()
    assert desk.whats == [What.OPENED, What.ACKNOWLEDGED]


@pytest.mark.parametrize("minutes", [0.1, 5, 11, 29.9])
def test_another_onset_of_a_device_in_it_from_before_the_last_transition_joins_silently(minutes):
    """As after a restart of the bridge: the broker delivers again, and the ids are others."""
    desk = outage()
    desk.now = T0 + 31 * MINUTE
    desk.hear(make(1, at=T0 + round(minutes * MINUTE)))
    assert desk.whats == [What.OPENED, What.ACKNOWLEDGED]
    assert desk.became[-1] is Became.SAME
    assert desk.incident.state is State.ACKNOWLEDGED


def test_one_that_began_after_the_last_transition_pages():
    desk = outage()
    desk.hear(make(1, at=T0 + 30 * MINUTE + 2))
    assert desk.whats[-1] is What.RENEWED


def test_one_that_a_slow_clock_puts_before_it_but_that_came_after_it_pages():
    desk = outage()
    desk.now = T0 + 31 * MINUTE
    desk.hear(make(1, at=T0 + 15 * MINUTE, received=T0 + 31 * MINUTE))
    assert desk.whats[-1] is What.RENEWED


def test_another_device_from_before_the_last_transition_pages_marked_late():
    desk = outage()
    desk.now = T0 + 31 * MINUTE
    desk.hear(make(2, at=T0 + 20 * MINUTE))
    assert desk.whats[-1] is What.JOINED
    assert desk.transitions[-1].late


def test_a_higher_tier_pages_whenever_it_began():
    desk = outage()
    desk.now = T0 + 31 * MINUTE
    desk.hear(make(1, at=T0 + 5 * MINUTE, tier=Tier.URGENT))
    assert desk.whats[-1] is What.RAISED


def test_a_device_that_was_only_early_and_had_risen_pages():
    """Whoever acknowledged did not know of it."""
    desk = Desk()
    desk.hear(make(2, at=T0, tier=Tier.EARLY))
    desk.hear(make(1, at=T0 + MINUTE))
    desk.now = T0 + 30 * MINUTE
    desk.act(What.ACKNOWLEDGED)
    desk.now += MINUTE
    desk.hear(make(2, at=T0 + 25 * MINUTE))
    assert desk.whats[-1] in {What.RENEWED, What.RAISED}


def test_a_fire_that_was_judged_is_not_judged_anew_by_the_log():
    desk = outage()
    desk.act(What.VERDICT, verdict=Verdict.FALSE_ALARM, cause="steam")
    desk.now += MINUTE
    desk.hear(make(1, at=T0 + 12 * MINUTE))
    desk.hear(make(1, at=T0 + 13 * MINUTE, onset=T0 + 12 * MINUTE, phase=Phase.REFRESH))
    assert desk.incident.verdict is Verdict.FALSE_ALARM
    assert desk.whats[-1] is What.VERDICT


def test_restored_and_alarming_anew_within_the_outage_is_told_when_it_is_handed_over():
    desk = outage()
    desk.hear(make(1, at=T0 + 31 * MINUTE, onset=T0, phase=Phase.CLEAR))
    desk.hear(make(1, at=T0 + 32 * MINUTE))
    assert desk.whats[-1] is What.RENEWED
