"""What a broker sends, cut into packets: one walk over all bytes of a tick. Pure.

A message costs half a microsecond here. So there is no object per packet: topics, payloads and
packet identifiers go into lists side by side, and only what is no message is looked at by itself.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from ingest.mqtt.packets import (
    PUBLISH,
    Control,
    ProtocolError,
    Version,
    control,
    past_properties,
    read_varint,
    refuse_unwanted,
)

DUP: Final = 0x08
RETAIN: Final = 0x01
_SLACK: Final = 1 << 20  # beside the largest packet: what comes in a tick fits into one read
_PAD: Final = bytes(8)  # so that a header may be looked at before it is there


@dataclass(slots=True)
class Found:
    """Messages side by side, in their order; `heads`: first byte of each.

    `size`: bytes of topics and payloads. `packets`: messages and others. `fault`: why what follows
    cannot be read; what came before it is good.
    """

    topics: list[bytes] = field(default_factory=list)
    payloads: list[bytes] = field(default_factory=list)
    numbers: list[int] = field(default_factory=list)
    heads: bytearray = field(default_factory=bytearray)
    size: int = 0
    packets: int = 0
    controls: list[Control] = field(default_factory=list)
    fault: str = ""
    _counted: int = 0

    def count_messages(self) -> None:
        """Those that were added since the last time."""
        new = slice(self._counted, None)
        self._counted = len(self.topics)
        self.packets += len(self.topics[new])
        self.size += sum(map(len, self.topics[new])) + sum(map(len, self.payloads[new]))


class Stream:
    """The bytes of one connection that are not cut yet: at most a packet and 1 MiB."""

    def __init__(self, version: Version, packet_bytes_max: int) -> None:
        """Holds its whole buffer at once; the system gives the memory as it is used."""
        self._version = version
        self._longest = packet_bytes_max
        self._buffer = bytearray(packet_bytes_max + _SLACK)
        self._view = memoryview(self._buffer)
        self._end = 0
        self._wanted = 0

    @property
    def free(self) -> memoryview:
        """Where the next bytes go; empty while whole packets wait for a `walk`."""
        return self._view[self._end :]

    def filled(self, count: int) -> None:
        """So many bytes of `free` were written."""
        self._end += count

    def walk(self, packets_max: int, bytes_max: int) -> Found:
        """Cut off whole packets, at most so many and until messages have so many bytes.

        The last message may go beyond `bytes_max`, no other. After a `fault` there is nothing more
        to be had.
        """
        found = Found()
        if self._end < self._wanted:  # a large packet comes in pieces: not copied for each
            return found
        self._wanted = 0
        data = b"".join((self._view[: self._end], _PAD))
        place = 0
        try:
            while found.packets < packets_max:
                message = data[place] & 0xF0 == PUBLISH
                if message:
                    # Of bytes with what stands around messages, so it stops early rather than late,
                    # and goes on until it has moved no further.
                    stop = min(place + bytes_max - found.size, self._end)
                    try:
                        after = self._messages(data, place, found, packets_max, stop)
                    finally:
                        found.count_messages()
                else:
                    after = self._other(data, place, found)
                if after == place:
                    break
                place = after
            self._wanted = self._next_size(data, place)
        except ProtocolError as error:
            found.fault, place = f"protocol error: {error}", self._end
        rest = self._end - place
        if place and rest:
            self._buffer[:rest] = data[place : self._end]
        self._end = rest
        return found

    def _messages(self, data: bytes, place: int, found: Found, packets_max: int, stop: int) -> int:
        """Read PUBLISH packets that begin before `stop`, as long as one follows the other; returns
        where they end.
        """
        topics, payloads = found.topics.append, found.payloads.append
        numbers, heads = found.numbers.append, found.heads.append
        end, longest, five = self._end, self._longest, self._version is Version.V5
        left = packets_max - found.packets
        while place < stop and left > 0:
            head = data[place]
            if head & 0xF0 != PUBLISH:
                break
            start = place + 2
            length = data[place + 1]
            if length > 127:  # noqa: PLR2004 - one more byte of length
                length += (data[start] << 7) - 128
                start += 1
                if length > 16_383:  # noqa: PLR2004 - and one more
                    length, start = _length(data, place + 1, end)
            after = start + length
            if after > end or length > longest:
                break
            # Behind the topic: two bytes of packet identifier for QoS 1, which is the 2 here.
            qos = head & 0x06
            behind = start + 2 + (data[start] << 8 | data[start + 1])
            body = behind + qos
            number = 0
            if qos > 2 or body + five > after or behind == start + 2:  # noqa: PLR2004 - QoS 2
                raise ProtocolError(_why(qos))
            if qos:
                number = data[behind] << 8 | data[behind + 1]
                if not number:
                    raise ProtocolError("a message with QoS 1 and packet identifier 0")
            if five:
                body = past_properties(data, body, after) if data[body] else body + 1
            topics(data[start + 2 : behind])
            payloads(data[body:after])
            numbers(number)
            heads(head)
            left -= 1
            place = after
        return place

    def _other(self, data: bytes, place: int, found: Found) -> int:
        """Read one packet that is no PUBLISH; returns where it ends, `place` if it is not whole."""
        size = self._next_size(data, place)
        if not size or place + size > self._end:
            return place
        found.packets += 1
        length = read_varint(data, place + 1, self._end)
        assert length is not None
        one = control(self._version, data[place], data[length[1] : place + size])
        if one is not None:
            found.controls.append(one)
        return place + size

    def _next_size(self, data: bytes, place: int) -> int:
        """Bytes of the packet that begins here; 0 while its length is not known."""
        if place >= self._end:
            return 0
        refuse_unwanted(data[place])
        length = read_varint(data, place + 1, self._end)
        if length is None:
            return 0
        size, start = length
        if size > self._longest:
            raise ProtocolError(
                f"a packet of {size} bytes; mqtt.packet_bytes_max is {self._longest}"
            )
        return start + size - place


def _length(data: bytes, place: int, end: int) -> tuple[int, int]:
    """A length of three or four bytes; beyond `end` when it is not whole."""
    return read_varint(data, place, end) or (end, place)


def _why(qos: int) -> str:
    if qos > 2:  # noqa: PLR2004 - 2 is QoS 1
        return f"a message with QoS {qos >> 1}; QoS 1 is the most that was asked for"
    return "a message without a topic, or that ends within it"
