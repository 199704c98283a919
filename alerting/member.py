"""A member of an incident: which device it is, and what a signal makes of it. Pure."""

from __future__ import annotations

from dataclasses import replace

from alerting.model import ALARMING_US, Heard, Member
from sizao.signal import Phase, Signal, Tier


def member_name(signal: Signal) -> str:
    """The device; the subject where the signal names none."""
    if signal.device:
        return f"device:{signal.device}"
    return f"{signal.subject.type}:{signal.subject.id}"


def is_new_onset(old: Member, signal: Signal) -> bool:
    """Whether a device in alarm alarms anew: after it restored, or more than ten minutes after its
    last alarm. A pan at 20:00 that somebody acknowledged must not mute the fire at 20:40.
    """
    if signal.onset == old.onset:
        return False
    # By our arrival too where it begins: a device's clock that was set back must not mute it.
    began_us = signal.onset_us
    if signal.phase is Phase.RAISE:
        began_us = max(began_us, signal.received_us)
    restored = old.cleared_us is not None and began_us > old.cleared_us
    return restored or began_us > old.last_us + ALARMING_US


def member_with(old: Member | None, heard: Heard, *, tier: Tier, at_us: int, alone: bool) -> Member:
    """The member as it stands after a signal. `tier`: what the signal says of it; `at_us`: when."""
    signal = heard.signal
    if old is None:
        return Member(
            name=member_name(signal),
            device=signal.device,
            tier=tier,
            onset=signal.onset,
            joined_us=at_us,
            last_us=at_us,
            floor=heard.place.floor,
            alone=alone,
        )
    if tier is Tier.EARLY and old.tier is not Tier.EARLY:
        return old  # an early line beside an alarm must not hide that the alarm ended, nor when
    anew = is_new_onset(old, signal)
    newer = anew or (tier.rank >= old.tier.rank and at_us >= old.last_us)
    return replace(
        old,
        tier=max(old.tier, tier, key=lambda each: each.rank),
        onset=signal.onset if newer else old.onset,
        last_us=max(old.last_us, at_us),
        cleared_us=None if newer else old.cleared_us,
        floor=heard.place.floor,
        alone=old.alone or alone,
    )
