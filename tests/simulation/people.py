"""People who are paged, in virtual time: some sleep, some have their phone off, some answer."""

import heapq
from dataclasses import dataclass, field
from random import Random

from alerting.escalate import Progress, decide
from alerting.plan import By, Page, Plan, To
from alerting.working_days import SECOND_US

ASLEEP, PHONE_OFF = 0.20, 0.10
NO_ANSWER_S = 8  # after which an operator says that a phone is off
WOKEN = 0.25  # of the calls to somebody who sleeps
TEAM = {To.STATION: 2, To.OCCUPANT: 1, To.BUILDING_HEAD: 1, To.CONTROL_ROOM: 1}
AT_THE_LIST = 0.5  # a busy operator misses every second line


@dataclass
class Night:
    """One alarm and everybody around it. Times in seconds from its first page."""

    plan: Plan
    random: Random
    alert_down: list[tuple[float, float]] = field(default_factory=list)
    steps: dict[int, float] = field(default_factory=dict)
    levels: dict[int, str] = field(default_factory=dict)
    answers: list[tuple[float, To]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._events: list[tuple[float, int, To | int]] = []
        self._lost: set[int] = set()
        self._pending: dict[int, int] = {}
        self._phones = {
            to: [self._draw() for _ in range(TEAM.get(to, 1))]
            for to in To
            if to not in {To.OPERATOR, To.SOUNDERS, To.MAINTAINER}
        }

    def _draw(self) -> str:
        chance = self.random.random()
        if chance < ASLEEP:
            return "asleep"
        return "off" if chance < ASLEEP + PHONE_OFF else "awake"

    def run(self, until_s: float) -> None:
        """Ask `decide` when it wants to be asked, when somebody answers, when a phone is off."""
        now = 0.0
        while now < until_s:
            now = self._up_again(now)
            while self._events and self._events[0][0] <= now:
                _, _, what = heapq.heappop(self._events)
                if isinstance(what, To):
                    self.answers.append((now, what))
                else:
                    self._pending[what] -= 1
                    if not self._pending[what]:
                        self._lost.add(what)
            decision = decide(self.plan, self._progress(), round(now * SECOND_US))
            for one in decision.due:
                assert one.number not in self.steps, "a step went out twice"
                self.steps[one.number] = now
                self.levels[one.number] = one.step.level
                self._page(one.number, one.step.pages, now)
            wake = None if decision.wake_us is None else decision.wake_us / SECOND_US
            times = [event[0] for event in self._events[:1]] + ([] if wake is None else [wake])
            if not times:
                return
            now = max(min(times), now)

    def _up_again(self, now: float) -> float:
        return next((end for begin, end in self.alert_down if begin <= now < end), now)

    def _progress(self) -> Progress:
        return Progress(
            begun_us=0,
            sent={number: round(at * SECOND_US) for number, at in self.steps.items()},
            unreachable=frozenset(self._lost),
            answered=frozenset(to for _, to in self.answers),
        )

    def _page(self, number: int, pages: tuple[Page, ...], now: float) -> None:
        reached = 0
        for page in pages:
            if page.to is To.OPERATOR and self.random.random() < AT_THE_LIST:
                self._later(now + self.random.uniform(2, 40), To.OPERATOR)
            for phone in self._phones.get(page.to, ()):
                calls = By.VOICE in page.by
                reached += phone != "off"
                if phone == "awake" and self.random.random() < (0.9 if calls else 0.6):
                    self._later(now + self.random.uniform(3, 55), page.to)
                if phone == "asleep" and calls and self.random.random() < WOKEN:
                    self._later(now + self.random.uniform(15, 50), page.to)
        if not reached:  # every phone of this step is off: told once, NO_ANSWER_S after it
            self._pending[number] = 1
            self._later(now + NO_ANSWER_S, number)

    def _later(self, at: float, what: To | int) -> None:
        heapq.heappush(self._events, (at, len(self.steps) * 1000 + len(self._events), what))
