"""When a device has been bad for long enough to be a fault that somebody has to see to. Pure.

A day is bad for reasons (`device_day_judged`). A device that was silent for a day, or bad for two
days running, raises a signal of kind `fault`; each further bad day refreshes it, the first good one
clears it. A day on which nobody listened says nothing. Judged once a day, after its end; the ids
follow from device and day, so that a second judgement of the same day says the same again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import NamedTuple

from ingest.quality import Roster
from ingest.quality_clock import DAY_US
from sizao import signal
from sizao.signal import Evidence, Kind, Phase, Signal, Subject, SubjectType, Tier

RULE = "quality"
RULE_VERSION = 1
FAULTS_MAX = 20_000
"""Open at once. A type that is broken makes all its devices bad: the worst stand for the rest."""


class Why(StrEnum):
    """Why a day is bad."""

    SILENT = "silent"  # not a word, and its type's interval passed
    GAPS = "gaps"  # words missed
    REJECTS = "rejects"  # words refused
    OUT_OF_RANGE = "out_of_range"  # values beyond its type's range, or "the sensor is broken"
    CLOCK = "clock"  # its clock was not believed
    STUCK = "stuck"  # a measured value has not moved for days


@dataclass(frozen=True, slots=True, kw_only=True)
class Params:
    """From where on a day is bad. The SQL view reads them from `quality_params`.

    `judged_s_min`: a device in service for less of a day is not judged. `missed_min`: three words,
    as three intervals make a device silent in the references; a device of one word a day is judged
    by silence alone. Shares: a tenth of what came or was due; a sensor that loses one word in ten
    halves no detector's warning time, one that loses more may.
    """

    judged_s_min: int = 6 * 3_600
    missed_min: int = 3
    missed_share_min: float = 0.1
    rejects_share_min: float = 0.1
    out_of_range_share_min: float = 0.1
    corrected_share_min: float = 0.1


class Day(NamedTuple):
    """One judged day of a device, as the view has it. `bad_before`: so was the day before."""

    bad_before: bool
    why: Sequence[str]
    received: int
    expected: float | None
    missed: int
    rejects: int
    out_of_range: int
    corrected: int
    stuck: int


class Verdicts(NamedTuple):
    """What to say, and the faults that begin (device, first bad day) and end with it."""

    signals: list[Signal]
    begun: dict[int, int]
    ended: list[int]


def judge(
    roster: Roster,
    day: int,
    days: Mapping[int, Day],
    open_since: Mapping[int, int],
    offset_us: int,
) -> Verdicts:
    """Judge a day that is over. `days`: of the bad devices and of those with an open fault;
    `open_since`: first bad day of open faults.
    """
    found = Verdicts([], {}, [])
    for device in sorted(days.keys() | open_since.keys()):
        one, since = days.get(device), open_since.get(device)
        signalled = device < roster.devices and bool(roster.signalled[device])
        if since is not None and not signalled:
            found.ended.append(device)
            found.signals.append(_signal(roster, device, since, day, Phase.CLEAR, one, offset_us))
        elif one is None or not signalled:
            continue
        elif since is not None:
            phase = Phase.REFRESH if one.why else Phase.CLEAR
            if not one.why:
                found.ended.append(device)
            found.signals.append(_signal(roster, device, since, day, phase, one, offset_us))
        elif Why.SILENT in one.why or (one.why and one.bad_before):
            since = found.begun[device] = day - 1 if one.bad_before else day
            found.signals.append(_signal(roster, device, since, day, Phase.RAISE, one, offset_us))
    return found


def _signal(
    roster: Roster, device: int, since: int, day: int, phase: Phase, one: Day | None, offset_us: int
) -> Signal:
    at_us = (day + 1) * DAY_US - offset_us
    evidence: Evidence = {"day_end_us": at_us, "days": day - since + 1}
    if one is None:
        evidence["why"] = "no longer in service"
    else:
        evidence |= {
            "why": ", ".join(one.why) or "good",
            "received": one.received,
            "missed": one.missed,
            "rejects": one.rejects,
            "out_of_range": one.out_of_range,
            "corrected": one.corrected,
            "stuck": one.stuck,
            "interval_s": int(roster.interval_s[device]),
        }
        if one.expected is not None:
            evidence["expected"] = round(one.expected, 1)
        evidence |= asdict(Params())
    return signal.make(
        rule=RULE,
        rule_version=RULE_VERSION,
        kind=Kind.FAULT,
        tier=Tier.EARLY,
        phase=phase,
        subject=Subject(type=SubjectType.DEVICE, id=str(device)),
        site=int(roster.site[device]) if device < roster.devices else 0,
        device=device,
        onset_us=since * DAY_US - offset_us,
        event_us=at_us,
        received_us=at_us,
        generation=roster.generation,
        evidence=evidence,
    )
