"""What is wrong with ourselves now, and what of it the log has not been told. Pure.

Whoever notices something says so, as often as it likes, and says when it is over:

    say   -> raise at once, then one refresh a minute
    over  -> clear; so is what nobody has repeated for QUIET_US (an event, or its watcher is gone)

One line for each subject, so that while Kafka is away nothing piles up: what holds when it comes
back is told, with the time at which it began; what came and went untold is not. A subject is a
stage and what is wrong with it (`bridge.b0/settings`): in an incident it is a member, and a second
fault of one member would join in silence.

Ids are made of rule, subject and the minute of the onset: two processes that see the same say it
once, and a process that was killed in between says it again under the same id.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from sizao import signal
from sizao.signal import MINUTE_US, NAME_CHARS_MAX, Evidence, Kind, Phase, Signal, Subject, Tier

Said = Mapping[str, float | int | str | bool | list[float]]
"""Evidence as it is said."""
RULE_VERSION = 1
QUIET_US = 10 * MINUTE_US
SUBJECTS_MAX = 64  # more than a process has stages and volumes; the quietest is forgotten first


class Rule(StrEnum):
    """What can be wrong: the closed label of the counter, and what the words are chosen by."""

    DROPPED = "messages_dropped"
    SESSION = "session_lost"
    UNWATCHED = "broker_unwatched"
    DISK = "disk_full"
    UNSEEN = "disk_unseen"
    SETTINGS = "last_good_settings"


@dataclass(slots=True)
class Line:
    """One subject of which something is wrong. `told_us`: of its newest record that Kafka has."""

    rule: Rule
    tier: Tier
    began_us: int
    last_us: int
    evidence: Evidence
    told_us: int = 0

    @property
    def onset_us(self) -> int:
        """Its minute."""
        return self.began_us // MINUTE_US * MINUTE_US


@dataclass(slots=True)
class Board:
    """All of a process. `ended`: told, over, and that not told; one for each subject at most."""

    lines: OrderedDict[str, Line] = field(default_factory=OrderedDict)
    ended: OrderedDict[str, Line] = field(default_factory=OrderedDict)
    forgotten: int = 0

    def say(
        self, rule: Rule, subject: str, tier: Tier, now_us: int, evidence: Said | None = None
    ) -> bool:
        """Something is wrong, or still is; whether that is news. Another tier is another onset."""
        subject = subject[:NAME_CHARS_MAX]
        line = self.lines.get(subject)
        news = line is None or line.tier is not tier
        if line is not None and news:
            self.over(subject, now_us)
        if line is None or news:
            line = self.lines[subject] = Line(rule, tier, now_us, now_us, {})
        self.lines.move_to_end(subject)
        line.last_us, line.evidence = now_us, dict(evidence or {})
        while len(self.lines) > SUBJECTS_MAX:
            self.lines.popitem(last=False)
            self.forgotten += 1
        return news

    def over(self, subject: str, now_us: int) -> bool:
        """It is over; whether there was something."""
        subject = subject[:NAME_CHARS_MAX]
        line = self.lines.pop(subject, None)
        if line is None:
            return False
        line.last_us = now_us
        if line.told_us:  # else nobody has heard of it
            self.ended[subject] = line
            while len(self.ended) > SUBJECTS_MAX:
                self.ended.popitem(last=False)
                self.forgotten += 1
        return True

    def tier_of(self, subject: str) -> Tier | None:
        """At which tier it stands."""
        line = self.lines.get(subject[:NAME_CHARS_MAX])
        return None if line is None else line.tier

    def told(self, subject: str) -> bool:
        """Whether the log has the raise of what stands there."""
        line = self.lines.get(subject[:NAME_CHARS_MAX])
        return line is not None and line.told_us > 0

    def due(self, now_us: int, *, site: int, generation: int) -> list[Signal]:
        """What to write now: what is over, then what stands. `site`: of the district."""
        for subject in [name for name, one in self.lines.items() if _is_quiet(one, now_us)]:
            self.over(subject, now_us)
        said = [
            _signal(name, one, Phase.CLEAR, one.last_us, now_us, site, generation)
            for name, one in self.ended.items()
        ]
        for name, one in self.lines.items():
            if not one.told_us:
                said.append(_signal(name, one, Phase.RAISE, one.began_us, now_us, site, generation))
            elif now_us // MINUTE_US > one.told_us // MINUTE_US:
                said.append(_signal(name, one, Phase.REFRESH, now_us, now_us, site, generation))
        return said

    def written(self, said: Iterable[Signal]) -> None:
        """The log has these. What has changed since they were made is due again."""
        for one in said:
            name = one.subject.id
            if one.phase is Phase.CLEAR:
                if _is(self.ended.get(name), one):
                    del self.ended[name]
            elif (line := self.lines.get(name)) and _is(line, one):
                line.told_us = max(line.told_us, one.received_us)
            else:  # it ended while its raise was on the way
                self.ended.setdefault(name, _line_of(one))

    def shown(self) -> dict[str, dict[str, object]]:
        """For `/readyz`."""
        return {
            name: {"rule": one.rule, "tier": one.tier, "since_us": one.began_us, **one.evidence}
            for name, one in self.lines.items()
        }


def _is_quiet(line: Line, now_us: int) -> bool:
    """Told, and repeated by nobody since. What Kafka could not be told of waits, however long."""
    return line.told_us > 0 and now_us - max(line.last_us, line.told_us) > QUIET_US


def _is(line: Line | None, said: Signal) -> bool:
    return line is not None and (line.onset_us, line.tier) == (said.onset_us, said.tier)


def _line_of(said: Signal) -> Line:
    line = Line(Rule(said.rule), said.tier, said.onset_us, said.received_us, dict(said.evidence))
    line.told_us = said.received_us
    return line


def _signal(
    name: str, line: Line, phase: Phase, event_us: int, now_us: int, site: int, generation: int
) -> Signal:
    return signal.make(
        rule=line.rule,
        rule_version=RULE_VERSION,
        kind=Kind.SYSTEM,
        tier=line.tier,
        phase=phase,
        subject=Subject(type=signal.SubjectType.STAGE, id=name),
        site=site,
        device=0,
        onset_us=line.onset_us,
        event_us=event_us,
        received_us=now_us,
        generation=generation,
        evidence=line.evidence,
    )


DISK_CALM = 3.0
"""So many points below where it was told, a disk's trouble is over."""


def disk_tier(used: float, before: Tier | None, *, early: float, alarm: float) -> Tier | None:
    """At which tier a volume so full stands; all in percent."""
    if used >= alarm - DISK_CALM * (before is Tier.ALARM):
        return Tier.ALARM
    if used >= early - DISK_CALM * (before is not None):
        return Tier.EARLY
    return None
