"""A book of incidents, what it said, and signals for it."""

from __future__ import annotations

from alerting.book import Book
from alerting.incident import decide
from alerting.model import Action, Became, Incident, Nature, Recorded, Transition, Verdict, What
from alerting.place import NOWHERE
from sizao import signal as signals
from sizao.signal import Kind, Phase, Signal, Subject, SubjectType, Tier

T0 = 1_760_000_000_000_000
MINUTE = 60_000_000


def make(
    device=1,
    *,
    at=T0,
    onset=None,
    tier=Tier.ALARM,
    phase=Phase.RAISE,
    kind=Kind.FIRE,
    site=7,
    self_test=False,
    received=None,
    rule="direct",
    evidence=None,
    subject=None,
) -> Signal:
    return signals.make(
        rule=rule,
        rule_version=1,
        kind=kind,
        tier=tier,
        phase=phase,
        subject=subject or Subject(type=SubjectType.DEVICE, id=str(device)),
        site=site,
        device=device,
        onset_us=at if onset is None else onset,
        event_us=at,
        received_us=at if received is None else received,
        generation=1,
        evidence=evidence or {},
        self_test=self_test,
    )


class Desk:
    """A book, and what it said."""

    def __init__(self):
        self.book = Book()
        self.transitions: list[Transition] = []
        self.became: list[Became] = []
        self.now = T0

    def hear(self, signal, nature=Nature.REAL, after=1_000_000, place=NOWHERE):
        self.now = max(self.now, signal.event_us + after)
        effects = self.book.hear(signal, nature, self.now, place)
        while self.book.more:
            more, where = self.book.more.pop(0)
            effects += self.book.hear(more, nature, self.now, where)
        return self._keep(effects)

    def act(self, what, key=None, **more):
        key = key or next(iter(self.book.newest))
        incident = self.book.newest[key]
        self.now += 1
        action = Action(
            id=f"act{self.now}",
            actor="duty",
            what=what,
            expected_version=incident.version,
            **more,
        )
        self.book.newest[key], effects = decide(incident, action, self.now)
        return self._keep(effects)

    def close(self, verdict=Verdict.FIRE, cause=""):
        self.act(What.ACKNOWLEDGED)
        self.act(What.VERDICT, verdict=verdict, cause=cause)
        self.act(What.CLOSED)

    def _keep(self, effects):
        self.transitions += [e for e in effects if isinstance(e, Transition)]
        self.became += [e.became for e in effects if isinstance(e, Recorded)]
        return effects

    @property
    def whats(self):
        return [transition.what for transition in self.transitions]

    @property
    def incident(self) -> Incident:
        (found,) = self.book.newest.values()
        return found
