"""The only reader of clocks. Everything else is handed the time (style S3)."""

from __future__ import annotations

import time


def now_us() -> int:
    """Wall clock, microseconds UTC. May step; for stamps, never for durations."""
    return time.time_ns() // 1000


def monotonic_s() -> float:
    """Monotonic seconds: for durations and deadlines, meaningless across processes."""
    return time.monotonic()


class Rising:
    """A wall clock that never goes back and never says the same instant twice.

    After a step back of the wall clock it goes on in steps of one microsecond until the wall has
    caught up, so that times stamped by one process keep their order.
    """

    def __init__(self, at_least_us: int = 0) -> None:
        """Every instant given out lies after `at_least_us`."""
        self._last_us = at_least_us

    def not_before(self, at_us: int) -> None:
        """Whoever goes on for another gives out no instant that the other had."""
        self._last_us = max(self._last_us, at_us)

    def now_us(self, count: int = 1) -> int:
        """The next instant, microseconds UTC; the first of `count` in a row, all the caller's."""
        first_us = max(now_us(), self._last_us + 1)
        self._last_us = first_us + count - 1
        return first_us
