"""What a tap listens to, and what of each message is its device's. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from ingest import explain
from ingest.check import judge
from ingest.decode import Decoded, decode
from ingest.device_types.reasons import Reason
from ingest.device_types.schema import CARRIER, KEY
from ingest.explain import Said
from ingest.faults import nearest
from ingest.mqtt.message import Message
from ingest.refused import Refused
from ingest.reject_search import topic_filter
from ingest.routes import PARTS, District
from sizao.errors import BadInput
from sizao.registry.model import View
from sizao.units import Lane

WAITING_MAX = 1_000
WAITING_BYTES_MAX = 8 << 20
_NO_SUCH_TOPIC = {Reason.UNKNOWN_TOPIC, Reason.BROKEN_TYPE}
_WILD = frozenset("+#/\0")


class Target(NamedTuple):
    """A registered device."""

    device: int
    carrier: str
    key: str


def target(view: View, name: str, carrier: str) -> Target:
    """The device that `key` or `carrier/key` names. Raises BadInput: none, or those that fit."""
    if not carrier and "/" in name and not _having(view, name):
        carrier, _, name = name.partition("/")
    found = [one for one in _having(view, name) if carrier in {"", one.carrier}]
    if len(found) == 1:
        return found[0]
    if found:
        them = ", ".join(f"{one.carrier}/{one.key}" for one in found)
        raise BadInput(f"device {name}: under several carriers, expected one of {them}")
    if carrier and carrier not in view.roster:
        near = nearest(carrier, list(view.roster))
        raise BadInput(f"unknown carrier: {carrier!r}" + (f"; nearest: {near}" if near else ""))
    rosters = [view.roster[carrier]] if carrier else view.roster.values()
    near = nearest(name, {key for roster in rosters for key in roster})
    raise BadInput(
        f"unknown device: {name!r}"
        + (f"; nearest: {near}" if near else "")
        + "; one that nobody has registered is heard by --topic"
    )


def _having(view: View, key: str) -> list[Target]:
    return [
        Target(roster[key], carrier, key)
        for carrier, roster in sorted(view.roster.items())
        if key in roster
    ]


def filter_of(text: str) -> str:
    """A topic filter for what devices say. Raises BadInput for any other: Mosquitto grants every
    subscription and then passes nothing on that the user may not read, so the tap would wait.
    """
    if text.split("/", maxsplit=1)[0] not in {"up", "+", "#"}:
        raise BadInput(f"--topic {text!r}: devices speak under up/; expected such as up/CARRIER/#")
    return topic_filter(text, "--topic")


def filters_of(district: District, one: Target) -> tuple[str, ...]:
    """Topics on which the device's type speaks, or its gateway for it. Raises BadInput: none."""
    kind = district.type_of[one.device]
    filters = {
        topic_of(pattern.levels, one)
        for patterns in district.patterns.values()
        for pattern in patterns
        if kind in {reader // PARTS for reader in pattern.readers}
    }
    if not filters:
        why = "; ".join(f"{name}: {fault}" for name, fault in sorted(district.broken.items()))
        raise BadInput(f"device {one.key}: its type {district.name_of(kind)} has no topic; {why}")
    return tuple(sorted(filters))


def topic_of(levels: Sequence[str], one: Target) -> str:
    """A pattern's topic for a device. A key that can be no level of a topic stands as `+`."""
    key = "+" if _WILD & {*one.key} else one.key
    return "/".join({CARRIER: one.carrier, KEY: key}.get(level, level) for level in levels)


def lane_of(district: District, topic: bytes) -> Lane:
    """The lane of the types that have such a topic; where none has, that of its third level."""
    for lane in Lane:
        found = district.resolve(lane, topic)
        if isinstance(found, int) or found.reason not in _NO_SUCH_TOPIC:
            return lane
    return Lane.ALARM if topic.split(b"/")[2:3] == [b"alarm"] else Lane.TELEMETRY


class Shown(NamedTuple):
    """One message and what became of it; without `readings` and `refused` nothing was the tap's."""

    message: Message
    readings: list[Said]
    refused: list[str]

    @property
    def empty(self) -> bool:
        """Whether nothing is said of the device."""
        return not self.readings and not self.refused


def shown(district: District, message: Message, one: Target | None) -> Shown:
    """By the registry of today; with a device only what is its own, or nobody's."""
    decoded = decode(district, lane_of(district, message.topic), [message])
    return _of(decoded, district.view, message, one)


def shown_by(text: str, name: str, message: Message, key: str) -> Shown:
    """By a device-type file; `key`: of this device alone, "" for all. Raises BadInput."""
    decoded, view = judge(text, name, message)
    device = view.device_key.index(key) if key in view.device_key[1:] else -1
    return _of(decoded, view, message, Target(device, "", key) if key else None)


def _of(decoded: Decoded, view: View, message: Message, one: Target | None) -> Shown:
    said = [
        words
        for device, words in explain.readings(view, decoded)
        if one is None or device == one.device
    ]
    lines = [line for refused in decoded.refused for line in _lines(refused, view, one)]
    return Shown(message, said, lines)


def _lines(refused: Refused, view: View, one: Target | None) -> list[str]:
    faults = list(refused.faults)
    if one is not None and not refused.whole:
        faults = [fault for fault in faults if fault.device == one.device or fault.where == one.key]
    return explain.faults(view, faults)


@dataclass(slots=True)
class Waiting:
    """Messages that the terminal has not shown yet, bounded: what finds no room is counted.

    The broker is never made to wait: it would keep the messages of a tap for ever.
    """

    messages: deque[Message] = field(default_factory=deque)
    size: int = 0
    heard: int = 0
    missed: int = 0

    def take(self, message: Message) -> bool:
        """A message came; there is always room for the next."""
        self.heard += 1
        fits = self.size + message.size <= WAITING_BYTES_MAX or not self.messages
        if fits and len(self.messages) < WAITING_MAX:
            self.messages.append(message)
            self.size += message.size
        else:
            self.missed += 1
        return True

    def next(self) -> Message | None:
        """The oldest; None where there is none."""
        if not self.messages:
            return None
        message = self.messages.popleft()
        self.size -= message.size
        return message
