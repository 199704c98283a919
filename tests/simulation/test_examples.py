"""Single stories, told step by step: what a seed once showed, or nearly showed."""

from __future__ import annotations

import random

from simulation import place
from simulation.bridge import Bridge
from simulation.broker import Broker, Session
from simulation.clockwork import SECOND_US, Clockwork
from simulation.detect import Detect
from simulation.log import Log

from sizao import signal
from sizao.topics import SIGNALS
from sizao.units import Lane


class Small:
    """Broker, bridge, Kafka and detect, without chance faults."""

    def __init__(self) -> None:
        self.work = work = Clockwork(random.Random(0))
        filters = {lane: place.compiled(place.GENERATIONS).filters(lane) for lane in Lane}
        self.broker = Broker({lane: Session(work, filters[lane], 40) for lane in Lane})
        self.log = Log(work)
        self.bridge = Bridge(work, self.broker, self.log, 0.1, frozenset())
        self.detect = Detect(work, self.log, frozenset())
        self.bridge.start()
        self.detect.start()
        self.run(2)

    def run(self, seconds: float) -> None:
        self.work.run(self.work.now_us + round(seconds * SECOND_US))

    def signals(self) -> list[tuple[str, str, str]]:
        said = [signal.decode(one.value, one.headers) for one in self.log.all(SIGNALS)]
        return [(one.rule, str(one.tier), str(one.phase)) for one in said]

    def say_twice(self, topic: str, payload: bytes) -> None:
        """The broker forgets the acknowledgement and sends it again, marked DUP."""
        token = self.broker.publish(topic, payload)
        self.run(5)
        for session in self.broker.sessions.values():
            session.forget(0)
        self.run(10)
        assert len(self.bridge.arrivals[token]) == 2


QUIET = ("up/c2/telemetry/h4", b'{"temperature": 20.0}')
HOT = ("up/c2/telemetry/h4", b'{"temperature": 90.0}')


def test_one_corrupt_reading_is_no_fire():
    small = Small()
    for message in (QUIET, HOT, QUIET):
        small.broker.publish(*message)
        small.run(5)
    assert small.signals() == []


def test_one_corrupt_reading_with_its_own_time_is_no_fire_when_it_comes_twice():
    small = Small()
    at_s = small.work.now_s + 1
    small.say_twice(HOT[0], b'{"temperature": 90.0, "ts": %d}' % at_s)
    assert small.signals() == []


def test_one_corrupt_reading_without_a_time_is_no_fire_when_it_comes_twice():
    small = Small()
    small.say_twice(*HOT)
    assert small.signals() == []


def test_nor_when_it_lies_behind_a_newer_reading():
    # Seed 275: a clock that runs ahead, and one message without a time.
    small = Small()
    ahead_s = small.work.now_s + 50
    small.broker.publish(QUIET[0], b'{"temperature": 20.0, "ts": %d}' % ahead_s)
    small.run(2)
    small.say_twice(*HOT)
    assert small.signals() == []
    small.broker.publish(*HOT)
    small.run(5)
    assert small.signals() == [("heat_fixed", "urgent", "raise")]
