"""As much MQTT 5 as a simulated device needs: CONNECT, PUBLISH with QoS 1, PUBACK. Pure bytes.

Our own, because paho takes 20 us and more a message, and a generator that costs as much as what it
measures measures itself.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

CONNACK, PUBACK, DISCONNECT = 0x20, 0x40, 0xE0
FAILURE = 0x80  # reason codes from here on are refusals
_PUBLISH_QOS1 = 0x32
_CLEAN_USER_PASSWORD = 0xC2


class ProtocolError(Exception):
    """The broker said something that a device does not understand."""


def length(size: int) -> bytes:
    """A variable byte integer."""
    out = bytearray()
    while True:
        size, low = divmod(size, 128)
        out.append(low | (0x80 if size else 0))
        if not size:
            return bytes(out)


def text(content: str) -> bytes:
    """A string behind its length."""
    data = content.encode()
    return struct.pack(">H", len(data)) + data


def connect(name: str, password: str) -> bytes:
    """A clean session without keep-alive; client identifier and user are `name`."""
    body = text("MQTT") + bytes([5, _CLEAN_USER_PASSWORD, 0, 0, 0])
    body += text(name) + text(name) + text(password)
    return b"\x10" + length(len(body)) + body


@dataclass(frozen=True, slots=True)
class Topic:
    """A PUBLISH up to its packet identifier, for payloads of one size."""

    head: bytes

    @classmethod
    def of(cls, name: str, payload_size: int) -> Topic:
        """What precedes the packet identifier."""
        topic = text(name)
        size = len(topic) + 2 + 1 + payload_size
        return cls(bytes([_PUBLISH_QOS1]) + length(size) + topic)

    def publish(self, packet_id: int, payload: bytes) -> bytes:
        """The whole packet."""
        return self.head + packet_id.to_bytes(2, "big") + b"\0" + payload


@dataclass(slots=True)
class Answers:
    """Bytes from the broker, cut into packets."""

    _rest: bytes = field(default=b"")

    def feed(self, data: bytes) -> list[tuple[int, int, int]]:
        """(packet type, packet identifier, reason) of each whole packet.

        Identifier 0 for a CONNACK or DISCONNECT. Raises ProtocolError for any other packet.
        """
        data = self._rest + data
        found, place, end = [], 0, len(data)
        while place + 2 <= end:
            size = data[place + 1]
            if size >= FAILURE:
                raise ProtocolError(f"an answer of {size} bytes and more")
            after = place + 2 + size
            if after > end:
                break
            found.append(_answer(data[place] & 0xF0, data, place + 2, size))
            place = after
        self._rest = data[place:]
        return found


def _answer(kind: int, data: bytes, place: int, size: int) -> tuple[int, int, int]:
    if kind == PUBACK and size >= 2:  # noqa: PLR2004 - identifier; the reason is left out when 0
        packet_id = data[place] << 8 | data[place + 1]
        return kind, packet_id, data[place + 2] if size > 2 else 0  # noqa: PLR2004 - as above
    if kind == CONNACK and size >= 2:  # noqa: PLR2004 - flags, reason
        return kind, 0, data[place + 1]
    if kind == DISCONNECT:
        return kind, 0, data[place] if size else 0
    raise ProtocolError(f"packet type {kind >> 4} of {size} bytes")
