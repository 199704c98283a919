"""`sizao page test`: one page through the real channel, nature test, in the ledger like others."""

from __future__ import annotations

import secrets
from dataclasses import dataclass

from alerting import channels, deliver, outbox, policy, responders, rows
from alerting.compose import message_row
from alerting.deliver import Channel
from alerting.incident import allowed, incident_id, transition_id
from alerting.ledger import Answer, Outcome
from alerting.model import CauseKind, Incident, Key, Nature, Transition, What
from alerting.notice import Notice
from sizao import clock, http
from sizao.db import DatabaseSettings, connected
from sizao.errors import BadInput
from sizao.signal import Kind, Tier

ACTOR = "page test"


@dataclass(frozen=True, slots=True, kw_only=True)
class Tried:
    """What one channel answered."""

    channel: str
    answer: Answer


def _notice(action: str, now_us: int) -> Notice:
    """A page about nothing: an incident that was never opened."""
    incident = Incident(
        id=incident_id(action),
        key=Key(0, Kind.SYSTEM, Nature.TEST),
        tier=Tier.EARLY,
        state=allowed(None, What.OPENED),
        version=1,
        opened_us=now_us,
        onset_us=now_us,
        last_us=now_us,
        changed_us=now_us,
        late=False,
        deciding="",
        members=0,
    )
    transition = Transition(
        id=transition_id(incident.id, action),
        incident=incident.id,
        version=1,
        cause=action,
        cause_kind=CauseKind.ACTION,
        what=What.OPENED,
        at_us=now_us,
        event_us=now_us,
        actor=ACTOR,
        late=False,
        before={},
        after=incident.face(),
        payload={},
    )
    return Notice(
        incident=incident,
        transition=transition,
        path=(),
        lon=None,
        lat=None,
        devices=(),
        late_min=0,
    )


async def page_test(
    database: DatabaseSettings, name: str, *, deadline_s: float, utc_offset_min: int
) -> list[Tried]:
    """Page a responder over each of its channels once, and record the attempts.

    Raises BadInput for a name nobody has, Retriable while the database is away.
    """
    async with connected(database, "page-test") as connection, http.Client() as client:
        directory = await responders.load(connection)
        responder = next((one for one in directory.responders if one.name == name), None)
        if responder is None:
            raise BadInput(f"no responder {name!r}{responders.nearest(name, directory)}")
        ways: dict[str, Channel] = {
            kind: channels.module(kind).make(client) for kind in channels.names()
        }
        now_us = clock.now_us()
        action = secrets.token_hex(16)
        notice = _notice(action, now_us)
        tried = []
        for channel in responder.channels:
            address = directory.address(name, channel)
            assert address is not None, "the directory lists only what it has"
            if address[0] not in ways:
                continue
            body = ways[address[0]].render(notice, responder.language, utc_offset_min)
            claim = await outbox.begin_once(
                connection, _row(notice, name, channel, body), clock.now_us()
            )
            answer = await deliver.send(
                ways, directory, claim, now_us=clock.now_us(), deadline_s=deadline_s
            )
            await outbox.end_once(connection, claim, answer, clock.now_us())
            tried.append(Tried(channel=channel, answer=answer))
    return tried


def _row(notice: Notice, responder: str, channel: str, body: str) -> rows.Row:
    row = message_row(
        responder=responder,
        channel=channel,
        transition=notice.transition,
        nature=Nature.TEST,
        urgency=0,
        why=policy.Why.ASKED,
        body=body,
        arrived_us=0,
    )
    return {**row, "transition": None, "incident": None}


def accepted(tried: list[Tried]) -> bool:
    """Whether every channel took the page."""
    return bool(tried) and all(one.answer.outcome is Outcome.ACCEPTED for one in tried)
