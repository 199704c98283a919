"""What follows from a transition: who is told, in which words, and the record for the exchange."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import msgspec

from alerting import notice as notices
from alerting import policy
from alerting.contacts import Directory
from alerting.incident import message_id
from alerting.model import PAGED, Incident, Member, Nature, Transition
from alerting.notice import Notice
from alerting.rows import Row
from alerting.store import Composed
from sizao.registry.model import View

FIRST_STEP = 0


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
        unrouted: Callable[[], None],
    ) -> None:
        """`unrouted` is called for a paging transition of a real incident that reaches nobody."""
        self._view = view
        self._directory = directory
        self._renderers = renderers
        self._utc_offset_min = utc_offset_min
        self._unrouted = unrouted

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
        messages = self._messages(notice, arrived_us)
        if real and transition.what in PAGED and not messages:
            self._unrouted()
        return Composed(record=record, messages=messages)

    def _messages(self, notice: Notice, arrived_us: int) -> list[Row]:
        incident, transition = notice.incident, notice.transition
        directory, view = self._directory(), self._view()
        district = next((a.code for a in view.areas.values() if a.level == "district"), "")
        picks = policy.route(
            directory.responders,
            what=transition.what,
            key=incident.key,
            tier=incident.tier,
            areas=frozenset(area.code for area in notice.path),
            district=district,
        )
        bodies: dict[tuple[str, str], str] = {}
        found = []
        for pick in picks:
            one = pick.responder
            for channel in one.channels:
                address = directory.address(one.name, channel)
                if address is None or address[0] not in self._renderers:
                    continue
                words = address[0], one.language
                if words not in bodies:
                    renderer = self._renderers[address[0]]
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
        return found


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
