"""When a lane reads, when it stops reading, when it leaves the broker on purpose. No clock here.

The broker's window is no bound (each acknowledgement in order releases a whole window again), so
the bridge bounds what it holds. It never holds more and never drops: the broker's disk is the
buffer. While a client does not read, it misses the broker's ping answers, so after half the
keep-alive it leaves; the broker keeps its queue, and what was not acknowledged comes again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from ingest.mqtt.message import Message

SILENT_S_MAX = 2.0
"""Kafka silent for so long: telemetry waits at the broker, alarms come in as long as they fit."""

TURN_S = 0.05
"""A lane that plans for longer is cut shorter: half of what an alarm may wait in a district."""
_SHARE_MIN = 1 / 16  # 625 messages or 64 KiB: below it a frame would cost more than its rows


class Step(StrEnum):
    """What the lane does this tick."""

    READ = "read"
    PAUSE = "pause"
    LEAVE = "leave"


@dataclass(slots=True)
class _Read:
    """What is left of the messages of one read."""

    messages: int
    size: int
    since_s: float


@dataclass(slots=True)
class Held:
    """What a lane has read and not acknowledged yet, by read."""

    messages: int = 0
    size: int = 0
    reads: deque[_Read] = field(default_factory=deque)

    @property
    def oldest_s(self) -> float | None:
        """When the oldest was read; None while nothing is held."""
        return self.reads[0].since_s if self.reads else None

    def take(self, messages: int, size: int, now_s: float) -> None:
        """So many messages, one at least, came with one read."""
        self.messages += messages
        self.size += size
        self.reads.append(_Read(messages, size, now_s))

    def settle(self, messages: Sequence[Message]) -> None:
        """These, the oldest, are acknowledged, or their connection is gone."""
        done = 0
        while done < len(messages):
            read, left = self.reads[0], len(messages) - done
            if read.messages <= left:
                self.reads.popleft()
                part = read
            else:  # only here is each message looked at
                part = _Read(left, sum(one.size for one in messages[done:]), read.since_s)
                read.messages -= left
                read.size -= part.size
            done += part.messages
            self.messages -= part.messages
            self.size -= part.size


@dataclass(slots=True, kw_only=True)
class Flow:
    """Bounds of one lane, since when it has not read, and whether it has left for that."""

    messages_max: int
    bytes_max: int
    pause_s_max: float
    stops_when_silent: bool
    paused_since_s: float | None = field(default=None, init=False)
    left: bool = field(default=False, init=False)

    def room(self, messages: int, size: int) -> bool:
        """Whether one more message may be read; the last may be a mebibyte."""
        return messages < self.messages_max and size < self.bytes_max

    def full(self, messages: int, size: int, silent_s: float) -> bool:
        """Whether the lane may take no more now."""
        silent = self.stops_when_silent and silent_s > SILENT_S_MAX
        return silent or not self.room(messages, size)

    def step(self, messages: int, size: int, silent_s: float, now_s: float) -> Step:
        """Decide this tick from what is held unacknowledged and how long Kafka has been silent."""
        if not self.full(messages, size, silent_s):
            self.paused_since_s = None
            return Step.READ
        if self.paused_since_s is None:
            self.paused_since_s = now_s
        self.left = now_s - self.paused_since_s > self.pause_s_max
        return Step.LEAVE if self.left else Step.PAUSE

    def may_return(self, messages: int, size: int, silent_s: float) -> bool:
        """Back once there is room; after leaving on purpose once half is free, so that it does not
        leave at once.

        Only then: a broker that restarted while Kafka was away found no alarm connection until
        half of what was held had been written, though the bound was far.
        """
        self.paused_since_s = None
        share = 2 if self.left else 1
        back = not self.full(share * messages, share * size, silent_s)
        self.left = self.left and not back
        return back


@dataclass(slots=True)
class Tick:
    """20 ms, or 50 while the machine is busy: frames cost per tick, not per reading.

    Measured at every tick: how late it began. A tenth of the last lateness counts.
    """

    quick_s: float
    busy_s: float
    late_s: float = 0.0
    busy: bool = False

    def next_s(self, late_s: float) -> float:
        """Length of the next tick after one that began `late_s` late."""
        self.late_s += (late_s - self.late_s) / 10
        # Two thresholds, so that it does not swing between them.
        limit_s = self.quick_s / 8 if self.busy else self.quick_s / 2
        self.busy = self.late_s > limit_s
        return self.busy_s if self.busy else self.quick_s


@dataclass(slots=True)
class Turn:
    """How large a share of the largest plan a lane may make, so that the other gets its turn.

    A good message costs 2 us, one that is refused 40, so no fixed number bounds the time: 10,000
    refused ones held up the alarms for 0.4 s. What a plan took decides about the next. It begins
    small, for a flood comes unannounced, and grows only while plans are quick and more waits.
    """

    share: float = 0.25

    def took(self, took_s: float, *, more: bool) -> None:
        """A plan took so long; `more`: it was not all that waits."""
        if took_s > TURN_S:
            self.share = max(self.share * TURN_S / took_s, _SHARE_MIN)
        elif more and took_s < TURN_S / 2:
            self.share = min(self.share * 2, 1.0)
