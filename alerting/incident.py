"""The incident: what people handle. Decided here, stored by `alerting.store`.

Theory of operation. At most one incident is open per site, kind and nature. A signal of a kind
that is an incident opens one, joins the open one, or raises its tier; a person acknowledges it,
says what it is (the verdict, apart from who is moving where), and closes it. Every change is a
transition with one cause; `_MOVES` lists the changes there are, anything else raises NotAllowed
and changes nothing:

    none          -- opened -------> open
    open          -- joined, raised, renewed, verdict --> open
    open          -- acknowledged -> acknowledged
    acknowledged  -- verdict ------> acknowledged
    acknowledged  -- joined, raised, renewed --> open    nobody has acknowledged the new part yet
    acknowledged  -- closed -------> closed              only with a verdict

Silence needs a reason (`Became`). Silent are: a record seen before, a device in it that goes on,
repeats within ten minutes, or began and was received before the last transition (a log that catches
up), a clear (it is recorded and closes nothing), and what belongs to a closed incident: a record of
an onset that it holds, or an onset of one of its devices, from before the close and heard before
it, at no higher tier. All else pages, late ones too: too many is cheaper than a fire too few. What
is told of takes back every verdict but `fire`: it was given about less.

Which tier several devices make together, and what a kind that is no incident does to a fire, stands
in `alerting.corroborate`.

Ids are hashes, so a replay of the log writes the same rows again. One partition brings all signals
of one site and kind in order, which is why any interleaving of partitions gives the same ids.
"""

from __future__ import annotations

from dataclasses import replace

from alerting.corroborate import KINDS, fire_tier, is_alone, is_loss, joining, own_tier
from alerting.member import is_new_onset, member_name, member_with
from alerting.model import (
    ACTION_CHARS_MAX,
    ACTIONS,
    ACTOR_CHARS_MAX,
    CAUSE_CHARS_MAX,
    DETECT,
    DEVICES_MAX,
    INCIDENT_KINDS,
    LATE_US,
    Action,
    Became,
    CauseKind,
    Conflict,
    Effect,
    Heard,
    Incident,
    Input,
    Key,
    Member,
    Nature,
    NotAllowed,
    Placed,
    Recorded,
    State,
    Transition,
    Verdict,
    What,
)
from sizao.signal import Kind, Phase, Signal, Tier, digest

_MOVES: dict[tuple[State | None, What], State] = {
    (None, What.OPENED): State.OPEN,
    (State.OPEN, What.JOINED): State.OPEN,
    (State.OPEN, What.RAISED): State.OPEN,
    (State.OPEN, What.RENEWED): State.OPEN,
    (State.OPEN, What.VERDICT): State.OPEN,
    (State.OPEN, What.ACKNOWLEDGED): State.ACKNOWLEDGED,
    (State.ACKNOWLEDGED, What.VERDICT): State.ACKNOWLEDGED,
    (State.ACKNOWLEDGED, What.JOINED): State.OPEN,
    (State.ACKNOWLEDGED, What.RAISED): State.OPEN,
    (State.ACKNOWLEDGED, What.RENEWED): State.OPEN,
    (State.ACKNOWLEDGED, What.CLOSED): State.CLOSED,
}


def incident_id(cause: str) -> str:
    """Identity from the first signal's record id, or from the action that opened it."""
    return digest("incident", cause)


def transition_id(incident: str, cause: str) -> str:
    """Identity of what one cause did to one incident."""
    return digest("transition", incident, cause)


def message_id(transition: str, responder: str, channel: str, step: int) -> str:
    """Identity of one page; all its repeats carry it."""
    return digest("message", transition, responder, channel, step)


def nature_of(mark: str, *, self_test: bool) -> Nature:
    """From the registry's mark of the device ("" for an unknown one) and the self-test key."""
    if mark in {Nature.TEST, Nature.CANARY}:
        return Nature(mark)
    return Nature.TEST if self_test else Nature.REAL


def allowed(state: State | None, what: What) -> State:
    """State after. Raises NotAllowed for what the table does not list."""
    after = _MOVES.get((state, what))
    if after is None:
        raise NotAllowed(f"an incident that is {state or 'not there'} cannot be {what}")
    return after


def decide(
    incident: Incident | None, given: Input, now_us: int
) -> tuple[Incident | None, tuple[Effect, ...]]:
    """The newest incident of the input's key, open or closed, and an input: what stands then, and
    what is to be stored. The caller gives each signal record once.

    Raises NotAllowed or Conflict for an action, never for a signal.
    """
    if isinstance(given, Action):
        if incident is None:
            raise NotAllowed("there is no such incident")
        return _act(incident, given, now_us)
    assert incident is None or incident.key == key_of(given)
    if given.signal.kind not in INCIDENT_KINDS:
        return _beside(incident, given, now_us)
    if incident is None or incident.state is State.CLOSED:
        return _without_open(incident, given, now_us)
    if given.holder and given.holder != incident.id:
        return incident, (_recorded(given, given.holder, Became.AFTER_CLOSE),)
    if given.signal.phase is Phase.CLEAR:
        return _clear(incident, given)
    return _hear(incident, given, now_us)


def key_of(heard: Heard) -> Key:
    """Which incidents a signal concerns: those of a fire, where it may matter to one."""
    kind = heard.signal.kind
    return Key(heard.signal.site, Kind.FIRE if kind in KINDS else kind, heard.nature)


def _recorded(heard: Heard, incident: str, became: Became) -> Recorded:
    return Recorded(signal=heard.signal, nature=heard.nature, incident=incident, became=became)


def _without_open(
    closed: Incident | None, heard: Heard, now_us: int
) -> tuple[Incident | None, tuple[Effect, ...]]:
    """Nothing is open: open a new one, unless the signal belongs to what a person closed."""
    signal = heard.signal
    if heard.holder:
        return closed, (_recorded(heard, heard.holder, Became.AFTER_CLOSE),)
    if signal.phase is Phase.CLEAR:
        return closed, (_recorded(heard, "", Became.NOTHING_OPEN),)
    if closed is not None and _covered(closed, signal):
        return closed, (_recorded(heard, closed.id, Became.AFTER_CLOSE),)
    return _open(heard, now_us)


def _covered(closed: Incident, signal: Signal) -> bool:
    """Whoever closed it knew of this device, at this tier, at that time. Both times count: the
    device's clock may be hours slow, and then a new fire seems to be of before the close.
    """
    assert closed.closed_us is not None
    return (
        member_name(signal) in closed.known
        and max(signal.onset_us, signal.received_us) <= closed.closed_us
        and signal.tier.rank <= closed.tier.rank
    )


def _is_late(signal: Signal, now_us: int) -> bool:
    return signal.late or now_us - signal.event_us > LATE_US


def _open(heard: Heard, now_us: int) -> tuple[Incident, tuple[Effect, ...]]:
    signal, own = heard.signal, own_tier(heard)
    alone = is_alone(signal)
    member = member_with(None, heard, tier=own, at_us=signal.event_us, alone=alone)
    incident = Incident(
        id=incident_id(signal.id),
        key=key_of(heard),
        tier=_tier(None, heard, own),
        state=allowed(None, What.OPENED),
        version=1,
        opened_us=now_us,
        onset_us=signal.onset_us,
        last_us=signal.event_us,
        changed_us=now_us,
        late=_is_late(signal, now_us),
        deciding=signal.id,
        members=1,
        alarm_member=member.name if own is not Tier.EARLY else "",
        alarm_us=signal.event_us if own is not Tier.EARLY else 0,
        known={member.name: member},
    )
    transition = _because_of(signal, What.OPENED, {}, incident, now_us)
    placed = Placed(incident=incident.id, member=member)
    return incident, (transition, placed, _recorded(heard, incident.id, Became.OPENED))


def _tier(incident: Incident | None, heard: Heard, own: Tier) -> Tier:
    return fire_tier(incident, heard, own) if heard.signal.kind is Kind.FIRE else own


def _hear(incident: Incident, heard: Heard, now_us: int) -> tuple[Incident, tuple[Effect, ...]]:
    """A raise or refresh while one is open."""
    signal, own = heard.signal, own_tier(heard)
    alone, at_us = is_alone(signal), signal.event_us
    member = member_with(_of(incident, signal), heard, tier=own, at_us=at_us, alone=alone)
    tier = _tier(incident, heard, own)
    stands = replace(incident, last_us=max(incident.last_us, at_us))
    if own is not Tier.EARLY and at_us >= incident.alarm_us:
        stands = replace(stands, alarm_member=member.name, alarm_us=at_us)
    return _told(stands, heard, member, own=own, tier=tier, now_us=now_us)


def _of(incident: Incident, signal: Signal) -> Member | None:
    return incident.known.get(member_name(signal))


def _beside(
    fire: Incident | None, heard: Heard, now_us: int
) -> tuple[Incident | None, tuple[Effect, ...]]:
    """A signal of a kind that is no incident: a matter of its own, or one of the fire beside it."""
    signal, holder = heard.signal, heard.holder
    if fire is None or fire.state is State.CLOSED or holder not in {"", fire.id}:
        became = Became.AFTER_CLOSE if holder else Became.SLOW
        return fire, (_recorded(heard, holder, became),)
    if holder:
        if signal.phase is Phase.CLEAR:
            return _clear(fire, heard)
        return fire, (_recorded(heard, holder, Became.SAME),)
    found = joining(fire, heard)
    if found is None:
        return fire, (_recorded(heard, "", Became.SLOW),)
    own, tier, at_us = found
    member = member_with(_of(fire, signal), heard, tier=own, at_us=at_us, alone=False)
    stands = fire
    if is_loss(signal) and at_us >= fire.alarm_us:
        stands = replace(fire, alarm_member=member.name, alarm_us=at_us)
    return _told(stands, heard, member, own=own, tier=tier, now_us=now_us)


def _told(
    incident: Incident, heard: Heard, member: Member, *, own: Tier, tier: Tier, now_us: int
) -> tuple[Incident, tuple[Effect, ...]]:
    """The incident with this member as it stands now, and a transition if that is news."""
    signal, old = heard.signal, _of(incident, heard.signal)
    what, became = _news(incident, old, signal, own=own, tier=tier)
    stands = replace(
        incident,
        known={**incident.known, member.name: member},
        members=incident.members + (old is None),
    )
    placed = Placed(incident=incident.id, member=member)
    if what is None:
        return stands, (placed, _recorded(heard, incident.id, became))
    if what is What.RAISED:
        stands = replace(stands, tier=tier, deciding=signal.id)
    stands = _moved(stands, what, now_us)
    if stands.verdict is not Verdict.FIRE:
        stands = replace(stands, verdict=None, verdict_cause="", verdict_devices=())
    transition = _because_of(signal, what, incident.face(), stands, now_us)
    return stands, (transition, placed, _recorded(heard, incident.id, became))


def _news(
    incident: Incident, old: Member | None, signal: Signal, *, own: Tier, tier: Tier
) -> tuple[What | None, Became]:
    """What there is to tell of a signal, if anything, and what it became."""
    if tier.rank > incident.tier.rank:
        return What.RAISED, Became.RAISED
    if old is None:
        return What.JOINED, Became.JOINED
    # That a device of it has risen is news for whoever thinks that all is known; while nobody has
    # acknowledged, each device of a growing fire would page three times.
    settled = incident.state is State.ACKNOWLEDGED or incident.verdict is not None
    rises = settled and old.tier.rank < own.rank
    anew = is_new_onset(old, signal) and not _is_told(incident, signal)
    if own is not Tier.EARLY and (rises or anew):
        return What.RENEWED, Became.RENEWED
    return None, Became.SAME


def _is_told(incident: Incident, signal: Signal) -> bool:
    """Whether the log only catches up with what was handed over. Both times as in `_covered`."""
    return max(signal.onset_us, signal.received_us) <= incident.changed_us


def _clear(incident: Incident, heard: Heard) -> tuple[Incident, tuple[Effect, ...]]:
    """Recorded; only a person closes."""
    signal = heard.signal
    old = incident.known.get(member_name(signal))
    if old is None:
        return incident, (_recorded(heard, "", Became.NOTHING_OPEN),)
    effects: tuple[Effect, ...] = (_recorded(heard, incident.id, Became.CLEARED),)
    if old.onset == signal.onset:
        member = replace(old, cleared_us=signal.event_us)
        incident = replace(incident, known={**incident.known, member.name: member})
        effects = (Placed(incident=incident.id, member=member), *effects)
    return incident, effects


def _moved(incident: Incident, what: What, now_us: int) -> Incident:
    return replace(
        incident,
        state=allowed(incident.state, what),
        version=incident.version + 1,
        changed_us=max(now_us, incident.changed_us),
    )


def _because_of(
    signal: Signal,
    what: What,
    before: dict[str, str | int | None],
    after: Incident,
    now_us: int,
) -> Transition:
    return Transition(
        id=transition_id(after.id, signal.id),
        incident=after.id,
        version=after.version,
        cause=signal.id,
        cause_kind=CauseKind.SIGNAL,
        what=what,
        at_us=now_us,
        event_us=signal.event_us,
        actor=DETECT,
        late=_is_late(signal, now_us),
        before=before,
        after=after.face(),
        payload={"rule": signal.rule, "device": signal.device, "member": member_name(signal)},
        signal=signal,
    )


def _act(incident: Incident, action: Action, now_us: int) -> tuple[Incident, tuple[Effect, ...]]:
    """A person's action. The version first: whoever acts on old news shall look again."""
    _check(action)
    if action.expected_version != incident.version:
        raise Conflict(incident, action.expected_version)
    stands = _moved(incident, action.what, now_us)
    payload: dict[str, str | int | list[int]] = {}
    if action.what is What.VERDICT:
        stands = replace(
            stands,
            verdict=action.verdict,
            verdict_cause=action.cause,
            verdict_devices=action.devices,
        )
        payload = {"cause": action.cause, "devices": list(action.devices)}
    if action.what is What.CLOSED:
        if incident.verdict is None:
            raise NotAllowed("an incident without a verdict cannot be closed; say what it was")
        stands = replace(stands, closed_us=stands.changed_us)
        payload = {"cause": action.cause}
    transition = Transition(
        id=transition_id(incident.id, action.id),
        incident=incident.id,
        version=stands.version,
        cause=action.id,
        cause_kind=CauseKind.ACTION,
        what=action.what,
        at_us=now_us,
        event_us=now_us,
        actor=action.actor,
        late=False,
        before=incident.face(),
        after=stands.face(),
        payload=payload,
    )
    return stands, (transition,)


def _check(action: Action) -> None:
    """Bounds, and what goes with what."""
    if action.what not in ACTIONS:
        raise NotAllowed(f"{action.what} is no action of a person")
    if (action.what is What.VERDICT) != (action.verdict is not None):
        raise NotAllowed(f"expected one of {', '.join(Verdict)} with a verdict, and only there")
    if not 1 <= len(action.id) <= ACTION_CHARS_MAX or not 1 <= len(action.actor) <= ACTOR_CHARS_MAX:
        raise NotAllowed("an action needs an id and an actor of 1 to 64 characters")
    if len(action.cause) > CAUSE_CHARS_MAX or len(action.devices) > DEVICES_MAX:
        raise NotAllowed(
            f"at most {CAUSE_CHARS_MAX} characters of cause and {DEVICES_MAX} devices fit"
        )
    if action.verdict is Verdict.FALSE_ALARM and not action.cause.strip():
        raise NotAllowed("a false alarm needs its cause: what made the device speak")
