"""What several devices of a site say together: the tier that a fire gets by it. Pure.

All by event time, ten minutes apart at most (`ALARMING_US`: so long a device counts as alarming),
and within one site and nature:

    alarm and another device in alarm, anywhere in the site        urgent
    alarm where e-bikes are charged                                urgent
    any tier, and water flows or a pump runs                       urgent
    early, and another early on the same floor or the one above    alarm
    early, and then its device falls silent or says a fault        alarm

Two that are early are an alarm only if each speaks for itself: a building that is heated moves all
of its thermometers a little, and a cloud of steam two in one kitchen. (Early by itself comes once
in 14 device-years, reference: detection.md section 6; two of one floor in ten minutes are no
chance.) Fire spreads upwards: of two floors the later is the same or the next above. Where a site
has no floors it is one; a device whose floor nobody said is beside the likes of it alone.

A sensor that rose, has not cleared, and is lost within ten minutes may have burnt. It was early
only, else it is an alarm already and its loss says nothing new. What a person closed stays closed.
A gateway of the site that falls silent while the fire lasts joins it, so that whoever is there
knows what they do not hear; it raises nothing.
"""

from __future__ import annotations

from alerting.member import member_name
from alerting.model import ALARMING_US, Beside, Heard, Incident, Member
from sizao.signal import Kind, Phase, Signal, SubjectType, Tier

KINDS = frozenset({Kind.WATER, Kind.OFFLINE, Kind.FAULT})
"""Kinds that are no incident, and may matter to a fire."""
FAULT_RULE, FAULT_QUANTITY = "condition", "fault_state"
"""A device itself says that it is broken. What we think of its values (flickering, stuck) is no
loss: a broken thermometer is early and faulty all day.
"""
WEAK_RULES = frozenset({"heat_zone", "heat_cusum"})
"""Early for a rise of 1.5 K among neighbours, or of 2 K that lasts: so does a heated floor."""
STEAM = "steam_hpa_per_k"
"""Evidence of a rise that steam explains."""
OTHERS_MAX = 64
"""Members of an early fire that a newcomer is held against, the newest: more are a heated house."""


def beside(signal: Signal) -> Beside | None:
    """What of a signal is remembered for a fire: that water flows, or when a device was lost."""
    at_us = signal.event_us
    if signal.kind is Kind.WATER:
        matters = signal.phase is not Phase.CLEAR
    else:
        matters, at_us = signal.phase is Phase.RAISE and is_loss(signal), signal.onset_us
    if not matters:
        return None
    return Beside(kind=signal.kind, site=signal.site, device=signal.device, at_us=at_us)


def is_loss(signal: Signal) -> bool:
    """Whether it says that the device itself is lost."""
    if signal.kind is Kind.OFFLINE:
        return signal.device > 0
    quantity = signal.evidence.get("quantity")
    return signal.kind is Kind.FAULT and (signal.rule, quantity) == (FAULT_RULE, FAULT_QUANTITY)


def is_alone(signal: Signal) -> bool:
    """Whether a device speaks for itself: it did not move a little among others that did, and what
    it saw was no steam.
    """
    return signal.rule not in WEAK_RULES and STEAM not in signal.evidence


def own_tier(heard: Heard) -> Tier:
    """Of the device of a fire signal, with what is held of that device."""
    signal = heard.signal
    lost = signal.tier is Tier.EARLY and any(
        one.kind is not Kind.WATER
        and one.device == signal.device > 0
        and signal.onset_us <= one.at_us <= signal.event_us + ALARMING_US
        for one in heard.beside
    )
    return Tier.ALARM if lost else signal.tier


def fire_tier(incident: Incident | None, heard: Heard, own: Tier) -> Tier:
    """Of the fire, by a signal of it; `own`: `own_tier` of the signal."""
    signal = heard.signal
    if any(
        one.kind is Kind.WATER and abs(one.at_us - signal.event_us) <= ALARMING_US
        for one in heard.beside
    ):
        return Tier.URGENT
    if own is not Tier.EARLY:
        return _alarm_tier(incident, heard, signal.event_us)
    return Tier.ALARM if _two_are_early(incident, heard) else Tier.EARLY


def _alarm_tier(incident: Incident | None, heard: Heard, at_us: int) -> Tier:
    """Of a fire with this device in alarm."""
    second = (
        incident is not None
        and incident.alarm_member not in {"", member_name(heard.signal)}
        and abs(at_us - incident.alarm_us) <= ALARMING_US
    )
    if second or heard.place.charging:
        return Tier.URGENT
    return max(Tier.ALARM, heard.signal.tier, key=lambda tier: tier.rank)


def _two_are_early(incident: Incident | None, heard: Heard) -> bool:
    signal, name = heard.signal, member_name(heard.signal)
    if incident is None or not signal.device or not is_alone(signal):
        return False
    return any(
        other.name != name
        and other.device > 0
        and other.alone
        and abs(other.last_us - signal.event_us) <= ALARMING_US
        and _spreads(other, heard)
        for other in incident.known.values()
    )


def _spreads(other: Member, heard: Heard) -> bool:
    """Whether the later of the two is on the earlier one's floor, or on the next above."""
    floors = other.floor, heard.place.floor
    if floors[0] == floors[1]:
        return True
    lower, upper = floors if other.joined_us <= heard.signal.onset_us else floors[::-1]
    if lower is None or upper is None:
        return False
    return upper == lower + 1 or (lower, upper) == (-1, 1)  # few buildings have a floor 0


def joining(incident: Incident, heard: Heard) -> tuple[Tier, Tier, int] | None:
    """What a signal of `KINDS` does to an open fire: the tier of its member, of the fire, and when
    it happened; None for nothing.
    """
    signal = heard.signal
    if signal.phase is Phase.CLEAR or incident.key.kind is not Kind.FIRE:
        return None
    if signal.kind is Kind.WATER and _lasts(incident, signal.event_us):
        return signal.tier, Tier.URGENT, signal.event_us
    if signal.subject.type is SubjectType.CARRIER:
        here = heard.place.carrier_site == incident.key.site
        told = here and _lasts(incident, signal.onset_us)
        return (signal.tier, incident.tier, signal.onset_us) if told else None
    member = incident.known.get(member_name(signal))
    if member is None or not is_loss(signal) or not _was_rising(member, signal.onset_us):
        return None
    tier = _alarm_tier(incident, heard, signal.onset_us)
    return (Tier.ALARM, tier, signal.onset_us) if tier.rank > incident.tier.rank else None


def _lasts(incident: Incident, at_us: int) -> bool:
    """Whether a fire is spoken of at that time."""
    return incident.onset_us - ALARMING_US <= at_us <= incident.last_us + ALARMING_US


def _was_rising(member: Member, lost_us: int) -> bool:
    over = member.cleared_us is not None and member.cleared_us < lost_us
    rose = member.joined_us <= lost_us <= member.last_us + ALARMING_US
    return member.tier is Tier.EARLY and rose and not over
