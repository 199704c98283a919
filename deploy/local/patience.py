"""Waiting for something to become true, always with an end."""

from __future__ import annotations

import time
from collections.abc import Callable

from sizao.clock import monotonic_s

POLL_S = 0.02  # short beside any start or stop, long beside the look itself


def wait_for(condition: Callable[[], object], deadline_s: float) -> bool:
    """Look until `condition` is true, at most `deadline_s`; return whether it became so."""
    until = monotonic_s() + deadline_s
    while not condition():
        if monotonic_s() > until:
            return False
        time.sleep(POLL_S)
    return True
