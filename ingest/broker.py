"""What the MQTT broker counts of itself: messages that it has dropped, told once each. Pure.

A full queue of an absent bridge is no news to whoever publishes: each gets "Success", and what does
not fit is dropped. The broker's counter is the only trace, and begins at 0 with each of its starts.
So the newest count that people were told of is kept on disk with the broker's start: whoever was
away meanwhile finds out when it comes back.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

DROPPED = b"$SYS/broker/publish/messages/dropped"
UPTIME = b"$SYS/broker/uptime"
STORED = b"$SYS/broker/store/messages/bytes"
CONNECTED = b"$SYS/broker/clients/connected"
TOPICS = (DROPPED, UPTIME, STORED, CONNECTED)
BOOT_SLACK_US = 60_000_000  # the wall clock's and the broker's seconds; a start moves it by more
SECOND_US = 1_000_000
_DIGITS_MAX = 18


class Kept(NamedTuple):
    """What people know: so many dropped by the broker that started then."""

    dropped: int
    booted_us: int


def kept_of(text: str) -> Kept | None:
    """As the file has it; None for a damaged one, whose broker is then a new acquaintance."""
    numbers = [number_of(word.encode()) for word in text.split()]
    if len(numbers) != len(Kept._fields) or None in numbers:
        return None
    return Kept(*(number or 0 for number in numbers))


def number_of(payload: bytes) -> int | None:
    """`17`, or `17 seconds`; None for what is no count."""
    digits = payload.split(b" ", 1)[0]
    return int(digits) if digits.isdigit() and len(digits) <= _DIGITS_MAX else None


@dataclass(slots=True)
class Dropped:
    """The count, and from where on it is news. `kept`: what stands on disk; `last`: heard before
    this connection; `base`: where the trouble that stands began; `said`: up to where it was said.
    """

    kept: Kept | None
    last: Kept | None = None
    base: int = 0
    said: int = 0
    _count: int | None = None
    _booted_us: int | None = None

    def connected(self) -> None:
        """A new connection: it may be another broker's life."""
        self._count = self._booted_us = None

    def hear(self, topic: bytes, number: int, now_us: int) -> None:
        """One of the broker's numbers came."""
        placed = self._now() is not None
        if topic == UPTIME:
            self._booted_us = now_us - number * SECOND_US
        elif topic == DROPPED:
            self._count = number
        now = self._now()
        if now is None:
            return
        if not placed:
            self._place(now)
        self.last = now

    def _now(self) -> Kept | None:
        if self._count is None or self._booted_us is None:
            return None
        return Kept(self._count, self._booted_us)

    def _place(self, now: Kept) -> None:
        before = self.last or self.kept
        if before is None:  # what it dropped before our first start was not meant for us
            self.base = self.said = now.dropped
        elif now.dropped < before.dropped or _is_another(before, now):
            self.base = self.said = 0
        elif self.last is None:
            self.base = self.said = before.dropped

    def grown(self) -> bool:
        """Whether there is more to say; asked once for each."""
        now = self._now()
        if now is None or now.dropped <= self.said:
            return False
        self.said = now.dropped
        return True

    def settle(self, *, stands: bool, told: bool) -> Kept | None:
        """What to keep on disk, if another than what is there. `stands`: the trouble; `told`: the
        log has it. Until then nothing is kept: a watcher that is killed says it again.
        """
        now = self._now()
        if now is None or (stands and not told):
            return None
        if not stands:
            self.base = self.said
        same = self.kept and self.kept.dropped == self.said and not _is_another(self.kept, now)
        if same:
            return None
        self.kept = Kept(self.said, now.booted_us)
        return self.kept


def _is_another(before: Kept, now: Kept) -> bool:
    """Whether the broker has started since."""
    return abs(now.booted_us - before.booted_us) > BOOT_SLACK_US
