"""What a person may do to an incident, and what is refused with its reason."""

from __future__ import annotations

import pytest
from fix_incident import T0, Desk, make

from alerting.incident import decide
from alerting.model import Action, Conflict, NotAllowed, Verdict, What


def test_an_action_on_an_old_version_is_a_conflict_and_changes_nothing():
    desk = Desk()
    desk.hear(make())
    action = Action(id="a", actor="duty", what=What.ACKNOWLEDGED, expected_version=0)
    with pytest.raises(Conflict, match="version 1, not 0"):
        decide(desk.incident, action, desk.now)


@pytest.mark.parametrize(
    ("what", "more", "said"),
    [
        (What.CLOSED, {}, "cannot be closed"),
        (What.JOINED, {}, "no action of a person"),
        (What.VERDICT, {}, "expected one of"),
        (What.ACKNOWLEDGED, {"verdict": Verdict.FIRE}, "only there"),
        (What.VERDICT, {"verdict": Verdict.FALSE_ALARM}, "needs its cause"),
        (What.VERDICT, {"verdict": Verdict.FIRE, "cause": "x" * 501}, "at most"),
    ],
)
def test_a_wrong_action_is_refused_with_its_reason(what, more, said):
    desk = Desk()
    desk.hear(make())
    with pytest.raises(NotAllowed, match=said):
        desk.act(what, **more)
    assert desk.incident.version == 1


def test_closing_needs_a_verdict():
    desk = Desk()
    desk.hear(make())
    desk.act(What.ACKNOWLEDGED)
    with pytest.raises(NotAllowed, match="without a verdict"):
        desk.act(What.CLOSED)


def test_an_action_without_an_incident_is_refused():
    action = Action(id="a", actor="duty", what=What.CLOSED, expected_version=1)
    with pytest.raises(NotAllowed):
        decide(None, action, T0)
