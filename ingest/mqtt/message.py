"""One MQTT message as it came."""

from __future__ import annotations

import msgspec


class Message(msgspec.Struct, gc=False):
    """A PUBLISH that waits for its acknowledgement.

    `arrived_us`: microseconds UTC, no two messages of one bridge share it. `dup`: the broker says
    that it sent this before. `epoch` is the connection that it came on: packet ids mean something
    on that one only, and a late acknowledgement on another would lose a stranger's message.
    """

    topic: bytes
    payload: bytes
    arrived_us: int
    dup: bool
    epoch: int
    packet_id: int

    @property
    def size(self) -> int:
        """Bytes of payload and topic: what holding it costs, roughly."""
        return len(self.payload) + len(self.topic)
