"""An MQTT broker with persistent sessions, as far as QoS 1 towards the bridge goes.

What is not acknowledged is sent again on the next connection, marked DUP, in the old order. A
packet id is used again as soon as it is free, as the protocol allows.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from simulation.clockwork import Clockwork

from sizao.units import Lane


@dataclass(frozen=True)
class Item:
    """What a device published. `token` is the simulation's own name for it."""

    token: int
    topic: bytes
    payload: bytes


@dataclass
class Packet:
    item: Item
    packet_id: int
    dup: bool


def fits(pattern: str, topic: str) -> bool:
    """MQTT topic filters; `a/#` takes `a` too."""
    want, have = pattern.split("/"), topic.split("/")
    if want[-1] == "#":
        want = want[:-1]
        have = have[: len(want)]
    return len(want) == len(have) and all(a in {"+", b} for a, b in zip(want, have, strict=True))


@dataclass
class Session:
    """One client's. `epoch` names the connection; 0 while there is none. `done`: token of what was
    acknowledged -> how much Kafka had when the PUBACK left.
    """

    work: Clockwork
    filters: tuple[str, ...]
    window: int
    epoch: int = 0
    waiting: deque[Item] = field(default_factory=deque)
    in_flight: dict[int, Item] = field(default_factory=dict)
    again: deque[int] = field(default_factory=deque)
    on_the_way: list[tuple[int, int]] = field(default_factory=list)
    recent: list[tuple[int, int, Item]] = field(default_factory=list)
    done: dict[int, int] = field(default_factory=dict)
    _epochs: int = 0

    def connect(self) -> int:
        self.cut()
        self._epochs += 1
        self.epoch = self._epochs
        self.again = deque(self.in_flight)
        return self.epoch

    def cut(self) -> None:
        """The connection is gone, and with it some of the acknowledgements on their way."""
        arrived = self.work.rng.randint(0, len(self.on_the_way))
        for packet_id, mark in self.on_the_way[:arrived]:
            self._acknowledged(packet_id, mark)
        self.on_the_way = []
        self.epoch = 0

    def read(self, limit: int) -> list[Packet]:
        for packet_id, mark in self.on_the_way:
            self._acknowledged(packet_id, mark)
        self.on_the_way = []
        found = []
        while len(found) < limit and self.again:
            packet_id = self.again.popleft()
            if packet_id in self.in_flight:
                found.append(Packet(self.in_flight[packet_id], packet_id, dup=True))
        while len(found) < limit and self.waiting and len(self.in_flight) < self.window:
            packet_id = self._free_id()
            self.in_flight[packet_id] = item = self.waiting.popleft()
            found.append(Packet(item, packet_id, dup=False))
        return found

    def _free_id(self) -> int:
        return next(number for number in range(1, 65_536) if number not in self.in_flight)

    def acknowledge(self, epoch: int, packet_id: int, mark: int) -> bool:
        """A PUBACK leaves the bridge; False when that connection is gone."""
        if epoch != self.epoch:
            return False
        self.on_the_way.append((packet_id, mark))
        return True

    def _acknowledged(self, packet_id: int, mark: int) -> None:
        item = self.in_flight.pop(packet_id, None)
        if item is not None:
            self.done.setdefault(item.token, mark)
            self.recent.append((self.work.now_us, packet_id, item))
            self.recent = self.recent[-50:]

    def forget(self, since_us: int) -> None:
        """The broker was killed: acknowledgements since then never came."""
        self.cut()
        lost = {number: item for at_us, number, item in self.recent if at_us >= since_us}
        self.in_flight = {n: i for n, i in lost.items() if n not in self.in_flight} | self.in_flight
        self.recent = []

    @property
    def empty(self) -> bool:
        return not self.waiting and not self.in_flight


@dataclass
class Broker:
    sessions: dict[Lane, Session]
    published: list[Item] = field(default_factory=list)

    def publish(self, topic: str, payload: bytes) -> int:
        item = Item(len(self.published), topic.encode(), payload)
        self.published.append(item)
        for session in self.sessions.values():
            if any(fits(pattern, topic) for pattern in session.filters):
                session.waiting.append(item)
        return item.token
