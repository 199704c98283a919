"""One run: a seed in, everything that happened out.

First the faults, then `quiet`: faults stop, everything is up again, and all that is under way has
to drain within `DRAIN_S` of virtual time.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from simulation import place
from simulation.alert import Alert, Responders
from simulation.bridge import Bridge
from simulation.broker import Broker, Session
from simulation.clockwork import SECOND_US, START_US, Clockwork, Crash, Task
from simulation.detect import Detect
from simulation.fleet import Fleet, script
from simulation.log import Log

from sizao.units import Lane

DRAIN_S = 1200
_LOOK_S = 2
_STEPS = (0, 1, 2, 3, 5, 8, 13, 40)


@dataclass(frozen=True)
class Fault:
    """`weight` against the others; `begin` does it."""

    name: str
    begin: Callable[[], None]


class World:
    """All parts of one run."""

    def __init__(self, seed: int, flaw: str = "", focus: tuple[str, ...] = ()) -> None:
        """`flaw`: a guard that is left out. `focus`: the faults of this run, and many of them."""
        rng = random.Random(seed)
        flaws = frozenset({flaw})
        self.focus = focus
        self.seed, self.rng = seed, rng
        self.work = work = Clockwork(rng)
        filters = {lane: place.compiled(place.GENERATIONS).filters(lane) for lane in Lane}
        window = rng.choice([12, 40, 200])
        self.broker = Broker({lane: Session(work, filters[lane], window) for lane in Lane})
        self.log = Log(work)
        self.responders = Responders(work)
        self.script = script(rng)
        self.bridge = Bridge(work, self.broker, self.log, self.script.pace, flaws)
        self.detect = Detect(work, self.log, flaws)
        self.alert = Alert(work, self.log, self.responders, flaws)
        self.fleet = Fleet(work, self.broker, self.script)
        self.faults_end_us = START_US + round(self.script.seconds * SECOND_US)
        self.drained_us: int | None = None
        self.people = rng.random() < 0.4
        self.calm = False

    # -- the run

    def run(self) -> World:
        work = self.work
        for part in (self.bridge, self.detect, self.alert, self.fleet):
            part.start()
        work.spawn("faults", self._faults())
        work.spawn("registry", self._new_generation())
        if self.people:
            work.spawn("people", self.alert.people())
        work.run(self.faults_end_us)
        self._quiet()
        while self.drained_us is None and work.now_us < self.faults_end_us + DRAIN_S * SECOND_US:
            work.run(work.now_us + _LOOK_S * SECOND_US)
            self._look()
        return self

    def _quiet(self) -> None:
        for owner in ("faults", "fleet", "people"):
            self.work.kill(owner)
        self.work.disarm()
        self.calm = True
        self.log.up, self.log.doubt = True, 0.0
        self.responders.mood = "well"
        self.alert.database_away_until_us = 0
        held = (self.bridge.shut_until_us, self.detect.late_until_us, self.alert.late_until_us)
        for until_us in held:
            until_us.update(dict.fromkeys(until_us, 0))
        self.bridge.pace = 0.3
        self.work.note("faults stop")

    def _look(self) -> None:
        """Note when all is drained. The bridge goes first, or its heartbeats would never end."""
        if not self.bridge.idle:
            return
        self.bridge.crash()
        until_us = self.faults_end_us + DRAIN_S * SECOND_US
        while self.work.now_us < until_us and not (self.detect.idle and self.alert.idle):
            self.work.run(self.work.now_us + _LOOK_S * SECOND_US)
        if self.detect.idle and self.alert.idle:
            self.drained_us = self.work.now_us
        else:
            self.work.note(f"not drained: {self.detect.idle=} {self.alert.idle=}")
            self.work.run(until_us)

    def _new_generation(self) -> Task:
        """A device is added while all runs."""
        yield self.rng.uniform(0, self.script.seconds)
        self.bridge.generation = place.GENERATIONS
        self.work.note("registry generation 2")
        yield 5  # by then the bridge has it
        self.fleet.all_registered = True

    # -- faults

    def _faults(self) -> Task:
        """Each seed has its own few kinds of fault: so some seeds have much of one kind."""
        rng = self.rng
        known = self._known()
        chosen = [fault for fault in known if rng.random() < 0.5] or known
        share = rng.choice([8, 25, 60])
        if self.focus:
            chosen, share = [fault for fault in known if fault.name in self.focus], 80
        self.work.note(f"faults: {', '.join(fault.name for fault in chosen)}")
        while True:
            yield rng.expovariate(share / self.script.seconds)
            rng.choice(chosen).begin()

    def _known(self) -> list[Fault]:
        parts = (self.bridge, self.detect, self.alert)
        return [
            *(Fault(f"{part.NAME} crashes", self._crash(part)) for part in parts),
            Fault("cut", self._cut),
            Fault("broker restarts", self._broker_restarts),
            Fault("lane shut", self._lane_shut),
            Fault("kafka away", self._kafka_away),
            Fault("sends in doubt", self._doubt),
            Fault("partitions apart", self._partitions_apart),
            Fault("readings late", self._readings_late),
            Fault("responders misbehave", self._misbehave),
            Fault("database away", self._database_away),
            Fault("clock steps", self._clock_steps),
            Fault("disk of detect", self._disk),
        ]

    def _crash(self, part: Bridge | Detect | Alert) -> Callable[[], None]:
        def die() -> None:
            self.work.note(f"{part.NAME} crashes")
            part.crash()
            self.work.spawn("restart", self._restart(part), self.rng.choice([0.1, 2, 20]))

        def arm() -> None:
            amid = self.rng.random() < 0.7
            self.work.arm(part.NAME, Crash(self.rng.choice(_STEPS), amid, die))

        return arm

    @staticmethod
    def _restart(part: Bridge | Detect | Alert) -> Task:
        part.start()
        yield 0

    def _later(self, seconds: float, undo: Callable[[], None]) -> None:
        def task() -> Task:
            if not self.calm:
                undo()
            yield 0

        self.work.spawn("later", task(), seconds)

    def _until_us(self, *seconds: float) -> int:
        return self.work.now_us + round(self.rng.choice(seconds) * SECOND_US)

    def _cut(self) -> None:
        lane = self.rng.choice(list(Lane))
        self.work.note(f"{lane} connection cut")
        self.broker.sessions[lane].cut()

    def _broker_restarts(self) -> None:
        self.work.note("broker restarts, acknowledgements forgotten")
        for session in self.broker.sessions.values():
            session.forget(self.work.now_us - SECOND_US)

    def _lane_shut(self) -> None:
        lane = self.rng.choice(list(Lane))
        self.work.note(f"{lane} shut")
        self.broker.sessions[lane].cut()
        self.bridge.shut_until_us[lane] = self._until_us(5, 30, 90)

    def _kafka_away(self) -> None:
        self.work.note("kafka away")
        self.log.up = False

        def back() -> None:
            self.log.up = True

        self._later(self.rng.choice([1, 10, 40]), back)

    def _doubt(self) -> None:
        self.log.doubt = self.rng.choice([0.05, 0.3])

        def over() -> None:
            self.log.doubt = 0.0

        self._later(30, over)

    def _partitions_apart(self) -> None:
        """One partition's signals come to alert long after the others'."""
        pair = self.rng.choice(list(self.alert.late_until_us))
        self.alert.late_until_us[pair] = self._until_us(10, 60)

    def _readings_late(self) -> None:
        """One lane's frames come to detect long after the other's."""
        topic = self.rng.choice(sorted({topic for topic, _ in self.detect.late_until_us}))
        until_us = self._until_us(10, 60, 120)
        for pair in self.detect.late_until_us:
            if pair[0] == topic:
                self.detect.late_until_us[pair] = until_us

    def _misbehave(self) -> None:
        self.responders.mood = self.rng.choice(
            ["mixed", "mixed", "refuse", "500", "429", "mute", "deaf"]
        )

        def well() -> None:
            self.responders.mood = "well"

        self._later(self.rng.choice([5, 20, 60]), well)

    def _database_away(self) -> None:
        self.alert.database_away_until_us = self._until_us(5, 30)

    def _clock_steps(self) -> None:
        off_us = self.rng.choice([-10, -3, 0, 3]) * SECOND_US
        self.work.note(f"the bridge's clock steps to {off_us / SECOND_US:+g} s")
        self.bridge.step_clock(off_us)

    def _disk(self) -> None:
        if not self.detect.folds:
            self.work.note(self.detect.damage_disk())
            return
        self.detect.crash()
        self.work.note(f"detect crashes: {self.detect.damage_disk()}")
        self.work.spawn("restart", self._restart(self.detect), self.rng.choice([0.1, 5]))
