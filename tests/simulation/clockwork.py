"""Virtual time. A process is a set of generators that yield how many seconds they wait.

Nothing sleeps and nothing runs in parallel: the one next in time goes on to its next `yield`. So a
`yield 0` marks a place where a process may be killed, or where somebody else may come between.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable, Generator
from dataclasses import dataclass, field

SECOND_US = 1_000_000
START_US = 1_772_352_000 * SECOND_US
"""2026-03-01T08:00:00Z"""

Task = Generator[float, None, None]


@dataclass
class Running:
    owner: str
    task: Task
    dead: bool = False
    amid: bool = False  # its last yield was a 0: it is in the middle of something


@dataclass
class Crash:
    """Instead of the owner's next step but `steps`; `amid`: only steps amid something count."""

    steps: int
    amid: bool
    happen: Callable[[], None]


@dataclass
class Clockwork:
    """Time, chance and what runs. All chance comes from `rng`, so a seed tells the whole story."""

    rng: random.Random
    now_us: int = START_US
    notes: list[str] = field(default_factory=list)
    _heap: list[tuple[int, float, int, Running]] = field(default_factory=list)
    _count: int = 0
    _running: list[Running] = field(default_factory=list)
    _armed: dict[str, Crash] = field(default_factory=dict)

    @property
    def now_s(self) -> float:
        return self.now_us / SECOND_US

    def note(self, what: str) -> None:
        self.notes.append(f"{(self.now_us - START_US) / SECOND_US:9.3f}  {what}")

    def spawn(self, owner: str, task: Task, delay_s: float = 0.0) -> None:
        one = Running(owner, task)
        self._running.append(one)
        self._push(one, delay_s)

    def _push(self, one: Running, delay_s: float) -> None:
        self._count += 1
        one.amid = delay_s == 0
        at_us = self.now_us + round(delay_s * SECOND_US)
        heapq.heappush(self._heap, (at_us, self.rng.random(), self._count, one))

    def arm(self, owner: str, crash: Crash) -> None:
        self._armed[owner] = crash

    def disarm(self) -> None:
        self._armed.clear()

    def kill(self, owner: str) -> None:
        """All tasks of the owner end where they stand."""
        for one in self._running:
            if one.owner == owner:
                one.dead = True
                one.task.close()
        self._running = [one for one in self._running if not one.dead]

    def run(self, until_us: int) -> None:
        while self._heap and self._heap[0][0] <= until_us:
            self._step()
        self.now_us = until_us

    def _step(self) -> None:
        at_us, _, _, one = heapq.heappop(self._heap)
        if one.dead:
            return
        self.now_us = max(self.now_us, at_us)
        armed = self._armed.get(one.owner)
        if armed is not None and (one.amid or not armed.amid):
            armed.steps -= 1
            if armed.steps < 0:
                del self._armed[one.owner]
                armed.happen()
                return
        try:
            delay_s = next(one.task)
        except StopIteration:
            one.dead = True
            self._running.remove(one)
        else:
            if not one.dead:
                self._push(one, delay_s)
