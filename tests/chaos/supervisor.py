"""Starts our processes again as systemd would: a second after one has been killed, or has ended to
be replaced (exit code 3). Any other end is a fault, and is remembered. Measures their memory.
"""

import threading
from collections import Counter, defaultdict
from typing import Self

from chaos.schedule import OURS

from sizao.clock import monotonic_s

RESTART_S = 1.0
LOOK_S = 0.1
KILLED, LOST_PROGRESS = 137, 3


class Supervisor:
    """Use as a context manager while the stack runs. Nobody else starts or reaps meanwhile."""

    def __init__(self, stack) -> None:
        self._processes = {name: stack.processes[name] for name in OURS}
        self._down_s: dict[str, float] = {}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="supervisor")
        self.ends: defaultdict[str, Counter[int]] = defaultdict(Counter)
        self.rss_mb: Counter[str] = Counter()

    def unexpected(self) -> list[str]:
        """Ends that no fault of ours explains."""
        return [
            f"{name} ended with {code}, {count} times"
            for name, codes in self.ends.items()
            for code, count in codes.items()
            if code not in {KILLED, LOST_PROGRESS}
        ]

    def _watch(self) -> None:
        while not self._ended.wait(LOOK_S):
            for name, process in self._processes.items():
                if process.child.alive():
                    self.rss_mb[name] = max(self.rss_mb[name], process.child.rss_kb() // 1024)
                elif name not in self._down_s:
                    process.child.terminate()  # reaps it
                    self.ends[name][process.child.code] += 1
                    self._down_s[name] = monotonic_s()
                elif monotonic_s() - self._down_s[name] >= RESTART_S:
                    del self._down_s[name]
                    process.launch()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
