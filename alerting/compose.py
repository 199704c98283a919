"""What follows from a transition: who is told, in which words, and the record for the exchange."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import msgspec

from alerting import notice as notices
from alerting import policy
from alerting.fold import Composed
from alerting.incident import message_id
from alerting.model import PAGED, Incident, Member, Nature, Place, Transition
from alerting.notice import Notice
from alerting.place import place_of
from alerting.policy import Responder
from alerting.responders import Directory
from alerting.rows import Row
from sizao.registry.model import View
from sizao.signal import Signal

FIRST_STEP = 0
RECIPIENTS_MAX = 500
"""Of one transition: more than a street has; a fire that nobody can place goes to everybody."""


class Renderer(Protocol):
    """The part of a channel that makes words."""

    def render(self, notice: Notice, language: str, utc_offset_min: int) -> str:
        """The body of a page, made once."""


class Composer:
    """Holds how to look things up; the registry and the directory may change between batches."""

    def __init__(
        self,
        *,
        view: Callable[[], View],
        directory: Callable[[], Directory],
        renderers: Mapping[str, Renderer],
        utc_offset_min: int,
    ) -> None:
        """`renderers`: one for each channel that this process can send over."""
        self._view = view
        self._directory = directory
        self._renderers = renderers
        self._utc_offset_min = utc_offset_min
        self._found: tuple[Directory | None, list[Responder]] = (None, [])

    def __call__(
        self,
        incident: Incident,
        transition: Transition,
        members: Sequence[Member],
        arrived_us: int,
    ) -> Composed:
        """Waits for nothing: it runs inside the store's transaction."""
        notice = notices.build(self._view(), incident, transition, members)
        real = incident.key.nature is Nature.REAL
        record = msgspec.json.encode(notices.facts(notice)).decode() if real else ""
        messages, left_out = self._messages(notice, arrived_us)
        owed = transition.what in PAGED and policy.never_muted(incident.key, incident.tier)
        return Composed(
            record=record,
            messages=messages,
            left_out=left_out,
            unrouted=owed and not messages,
        )

    def place(self, signal: Signal) -> Place:
        """Where the subject of a signal stands, now."""
        return place_of(self._view(), signal)

    def _messages(self, notice: Notice, arrived_us: int) -> tuple[list[Row], int]:
        """Rows, and how many responders the bound leaves out."""
        incident, transition = notice.incident, notice.transition
        directory, view = self._directory(), self._view()
        district = next((a.code for a in view.areas.values() if a.level == "district"), "")
        picks = policy.route(
            self._reachable(directory),
            what=transition.what,
            key=incident.key,
            tier=incident.tier,
            areas=frozenset(area.code for area in notice.path),
            district=district,
        )
        bodies: dict[tuple[str, str], str] = {}
        found = []
        for pick in picks[:RECIPIENTS_MAX]:
            one = pick.responder
            for channel, kind in self._ways(directory, one):
                words = kind, one.language
                if words not in bodies:
                    renderer = self._renderers[kind]
                    bodies[words] = renderer.render(notice, one.language, self._utc_offset_min)
                found.append(
                    message_row(
                        responder=one.name,
                        channel=channel,
                        transition=transition,
                        nature=incident.key.nature,
                        urgency=policy.urgency(incident.key, incident.tier),
                        why=pick.why,
                        body=bodies[words],
                        arrived_us=arrived_us,
                    )
                )
        return found, max(len(picks) - RECIPIENTS_MAX, 0)

    def _reachable(self, directory: Directory) -> list[Responder]:
        """Whoever cannot be reached is nobody: a fire then goes to the next who can."""
        of, found = self._found  # together: the ledger's thread composes too
        if of is not directory:
            found = [one for one in directory.responders if self._ways(directory, one)]
            self._found = (directory, found)
        return found

    def _ways(self, directory: Directory, one: Responder) -> list[tuple[str, str]]:
        """A responder's channels that this process can send over: name within it, and kind."""
        ways = []
        for channel in one.channels:
            address = directory.address(one.name, channel)
            if address is not None and address[0] in self._renderers:
                ways.append((channel, address[0]))
        return ways


def message_row(
    *,
    responder: str,
    channel: str,
    transition: Transition,
    nature: Nature,
    urgency: int,
    why: policy.Why,
    body: str,
    arrived_us: int,
) -> Row:
    """A row of `message`, due at once."""
    return {
        "id": message_id(transition.id, responder, channel, FIRST_STEP),
        "transition": transition.id,
        "incident": transition.incident,
        "responder": responder,
        "channel": channel,
        "step": FIRST_STEP,
        "nature": nature,
        "urgency": urgency,
        "why": why,
        "body": body,
        "made_us": transition.at_us,
        "signal_us": arrived_us,
        "next_us": transition.at_us,
        "state": "due",
        "attempts": 0,
    }
