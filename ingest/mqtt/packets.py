"""MQTT 3.1.1 and 5, as much as a receiver needs: packets to bytes and back. Pure.

PUBLISH, of which there are many, is read by `ingest/mqtt/stream.py`. Names and numbers are those of
the OASIS standards (3.1.1 of 2014, 5.0 of 2019).
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from enum import IntEnum
from typing import Final, NamedTuple

LENGTH_BYTES_MAX: Final = 4
FAILURE: Final = 0x80  # reason codes from here on are refusals
QOS: Final = 1
PUBLISH: Final = 0x30  # upper half of its first byte
PING: Final = b"\xc0\x00"
GOODBYE: Final = b"\xe0\x00"
ACKS: Final = (b"", *(struct.pack(">BBH", 0x40, 2, number) for number in range(1, 65_536)))
"""The PUBACK of each packet identifier; that of 0, which QoS 0 has, is nothing."""

_NO_RETAINED: Final = 0x20 | QOS  # subscribe option: what was retained before is not wanted


class Version(IntEnum):
    """Protocol level as CONNECT says it."""

    V3 = 4
    V5 = 5


class ProtocolError(Exception):
    """The broker said what the standard forbids, or what we cannot hold."""


class Connack(NamedTuple):
    """Answer to CONNECT; `keepalive_s`: what the broker asks for instead of ours."""

    session_present: bool
    code: int
    reason: str
    keepalive_s: int | None
    packet_bytes_max: int | None


class Answer(NamedTuple):
    """Answer to SUBSCRIBE or UNSUBSCRIBE: a code for each filter. 3.1.1 has none for the latter."""

    number: int
    codes: bytes
    of_subscribe: bool


class Disconnect(NamedTuple):
    """The broker ends the connection."""

    code: int
    reason: str


Control = Connack | Answer | Disconnect


# -- to bytes --------------------------------------------------------------------------------------


def varint(value: int) -> bytes:
    """A variable byte integer, at most 268,435,455."""
    out = bytearray()
    while True:
        value, low = divmod(value, 128)
        out.append(low | (0x80 if value else 0))
        if not value:
            return bytes(out)


def _text(content: str) -> bytes:
    data = content.encode()
    if len(data) > 0xFFFF:  # noqa: PLR2004 - two bytes of length
        raise ValueError(f"{content[:40]!r}... has {len(data)} bytes, MQTT allows 65,535")
    return struct.pack(">H", len(data)) + data


def _packet(head: int, body: bytes) -> bytes:
    return bytes([head]) + varint(len(body)) + body


def connect(
    version: Version,
    client_id: str,
    *,
    username: str,
    password: str | None,
    keepalive_s: int,
    session_s: int,
    window: int,
) -> bytes:
    """CONNECT. A `session_s` of 0 begins without a session and leaves none.

    Topic aliases are not offered (their maximum is 0 when it is not named), nor is a largest packet
    named: the broker would drop what is larger, and tell nobody.
    """
    flags = (0x80 if username else 0) | (0x40 if password is not None else 0)
    flags |= 0x02 if session_s == 0 else 0
    body = _text("MQTT") + struct.pack(">BBH", version, flags, keepalive_s)
    if version is Version.V5:
        body += struct.pack(">BBIBH", 8, 0x11, session_s, 0x21, window)
    body += _text(client_id)
    body += _text(username) if username else b""
    body += _text(password) if password is not None else b""
    return _packet(0x10, body)


def subscribe(
    version: Version, number: int, filters: Sequence[str], *, retained: bool = False
) -> bytes:
    """SUBSCRIBE with QoS 1; with MQTT 5 what was retained before only when it is asked for."""
    five = version is Version.V5
    option = bytes([_NO_RETAINED if five and not retained else QOS])
    body = struct.pack(">H", number) + (b"\x00" if five else b"")
    return _packet(0x82, body + b"".join(_text(one) + option for one in filters))


def unsubscribe(version: Version, number: int, filters: Sequence[str]) -> bytes:
    """UNSUBSCRIBE."""
    body = struct.pack(">H", number) + (b"\x00" if version is Version.V5 else b"")
    return _packet(0xA2, body + b"".join(map(_text, filters)))


# -- from bytes ------------------------------------------------------------------------------------


def read_varint(data: bytes, place: int, end: int) -> tuple[int, int] | None:
    """(value, place behind it); None when `end` comes first. Raises ProtocolError."""
    value = 0
    for count in range(LENGTH_BYTES_MAX):
        if place >= end:
            return None
        byte = data[place]
        place += 1
        value |= (byte & 0x7F) << (7 * count)
        if byte < 0x80:  # noqa: PLR2004 - no more follow
            return value, place
    raise ProtocolError("a length of more than four bytes")


def past_properties(data: bytes, place: int, end: int) -> int:
    """Where the properties that begin at `place` end. Raises ProtocolError."""
    found = read_varint(data, place, end)
    if found is None or sum(found) > end:
        raise ProtocolError("properties that are longer than their packet")
    return sum(found)


def refuse_unwanted(head: int) -> None:
    """Raises ProtocolError at the first byte of a packet that a broker has no reason to send.

    Before the rest is there: a server that speaks something else may never send as much as its
    first bytes seem to announce.
    """
    if head & 0xF0 != PUBLISH and head not in _READERS:
        name = _UNWANTED.get(head >> 4, "a packet of no type")
        raise ProtocolError(f"{name} (first byte {head:#04x}), which nobody asked for")


def control(version: Version, head: int, body: bytes) -> Control | None:
    """Any whole packet but PUBLISH; None for PINGRESP. Raises ProtocolError."""
    try:
        return _READERS[head](version, body)
    except IndexError:
        raise ProtocolError(f"a packet that ends too early (first byte {head:#04x})") from None


def _pong(_version: Version, body: bytes) -> None:
    if body:
        raise ProtocolError("a PINGRESP with content")


def _connack(version: Version, body: bytes) -> Connack:
    flags, code = body[0], body[1]
    if flags > 1:
        raise ProtocolError(f"a CONNACK with flags {flags:#04x}")
    found: dict[int, bytes] = {}
    if version is Version.V5 and body[1:] == b"\x01":  # in the words of 3.1.1: it knows no other
        return Connack(False, 0x84, "mqtt.version 3.1.1 may help", None, None)  # noqa: FBT003 - no session
    if version is Version.V5:
        found = _properties(body, 2)
    elif len(body) != 2:  # noqa: PLR2004 - flags and code
        raise ProtocolError("a CONNACK of more than two bytes")
    return Connack(
        bool(flags), code, _reason(found), _number(found.get(0x13)), _number(found.get(0x27))
    )


def _answer(version: Version, body: bytes, *, of_subscribe: bool) -> Answer:
    number, place = body[0] << 8 | body[1], 2
    if version is Version.V5:
        place = past_properties(body, place, len(body))
    if (of_subscribe or version is Version.V5) == (place == len(body)):
        raise ProtocolError("an answer to a subscription without codes, or an old one with codes")
    return Answer(number, body[place:], of_subscribe)


def _suback(version: Version, body: bytes) -> Answer:
    return _answer(version, body, of_subscribe=True)


def _unsuback(version: Version, body: bytes) -> Answer:
    return _answer(version, body, of_subscribe=False)


def _disconnect(version: Version, body: bytes) -> Disconnect:
    if version is Version.V3:
        raise ProtocolError("a DISCONNECT from a broker of MQTT 3.1.1")
    if not body:
        return Disconnect(0, "")
    return Disconnect(body[0], _reason(_properties(body, 1)) if len(body) > 1 else "")


_Reader = Callable[[Version, bytes], Control | None]
_READERS: Final[dict[int, _Reader]] = {
    0x20: _connack, 0x90: _suback, 0xB0: _unsuback, 0xD0: _pong, 0xE0: _disconnect,
}  # fmt: skip
_UNWANTED: Final = {
    1: "a CONNECT", 4: "a PUBACK", 5: "a PUBREC", 6: "a PUBREL", 7: "a PUBCOMP", 8: "a SUBSCRIBE",
    10: "an UNSUBSCRIBE", 12: "a PINGREQ", 15: "an AUTH",
}  # fmt: skip

# Bytes of each property; a string or bytes behind two bytes of length; two of these; a varint.
_TEXT, _PAIR, _VARINT = -1, -2, -3
_SIZES: Final = {
    0x01: 1, 0x02: 4, 0x03: _TEXT, 0x08: _TEXT, 0x09: _TEXT, 0x0B: _VARINT, 0x11: 4, 0x12: _TEXT,
    0x13: 2, 0x15: _TEXT, 0x16: _TEXT, 0x17: 1, 0x18: 4, 0x19: 1, 0x1A: _TEXT, 0x1C: _TEXT,
    0x1F: _TEXT, 0x21: 2, 0x22: 2, 0x23: 2, 0x24: 1, 0x25: 1, 0x26: _PAIR, 0x27: 4, 0x28: 1,
    0x29: 1, 0x2A: 1,
}  # fmt: skip


def _properties(body: bytes, place: int) -> dict[int, bytes]:
    """Of the packet's last part: identifier -> content. Raises ProtocolError."""
    end = past_properties(body, place, len(body))
    if end != len(body):
        raise ProtocolError("bytes behind the properties")
    found: dict[int, bytes] = {}
    length = read_varint(body, place, end)
    assert length is not None
    place = length[1]
    while place < end:
        name = body[place]
        after = _behind(body, place + 1, end, _SIZES.get(name, 0))
        if after > end:
            raise ProtocolError(f"property {name:#04x}, which is unknown or too long")
        found[name] = body[place + 1 : after]
        place = after
    return found


def _behind(body: bytes, place: int, end: int, size: int) -> int:
    """Where a property of this size ends; beyond `end` when it is too long or unknown."""
    if size > 0:
        return place + size
    if size == _VARINT:
        found = read_varint(body, place, end)
        return end + 1 if found is None else found[1]
    for _ in range({_TEXT: 1, _PAIR: 2}.get(size, 0)):
        if place + 2 > end:
            return end + 1
        place += 2 + (body[place] << 8 | body[place + 1])
    return place if size else end + 1


def _number(content: bytes | None) -> int | None:
    return None if content is None else int.from_bytes(content, "big")


def _reason(found: dict[int, bytes]) -> str:
    return found.get(0x1F, b"")[2:].decode(errors="backslashreplace")[:200]


# -- in words --------------------------------------------------------------------------------------

_WORDS: Final = {
    0x00: "success", 0x80: "unspecified error", 0x81: "malformed packet", 0x82: "protocol error",
    0x83: "implementation specific error", 0x84: "unsupported protocol version",
    0x85: "client identifier not valid", 0x86: "bad user name or password", 0x87: "not authorized",
    0x88: "server unavailable", 0x89: "server busy", 0x8A: "banned", 0x8B: "server shutting down",
    0x8D: "keep alive timeout", 0x8E: "session taken over", 0x8F: "topic filter invalid",
    0x93: "receive maximum exceeded", 0x95: "packet too large", 0x97: "quota exceeded",
    0x98: "administrative action", 0x9C: "use another server", 0x9D: "server moved",
    0x9F: "connection rate exceeded", 0xA1: "subscription identifiers not supported",
    0xA2: "wildcard subscriptions not supported",
}  # fmt: skip
_WORDS_3: Final = (
    "accepted", "unacceptable protocol version", "identifier rejected", "server unavailable",
    "bad user name or password", "not authorized",
)  # fmt: skip


def words(code: int, reason: str = "") -> str:
    """A reason code of MQTT 5 as people read it, with what the broker adds."""
    text = _WORDS.get(code, f"reason {code:#04x}")
    return f"{text} ({reason})" if reason else text


def refusal(version: Version, answer: Connack) -> str:
    """Why a CONNACK refuses; "" when it accepts."""
    if not answer.code:
        return ""
    if version is Version.V5:
        return words(answer.code, answer.reason)
    known = answer.code < len(_WORDS_3)
    return _WORDS_3[answer.code] if known else f"return code {answer.code}"
