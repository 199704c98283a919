"""Kafka as a model: ordered partitions, nothing lost once acknowledged, away now and then."""

from __future__ import annotations

from dataclasses import dataclass, field

from simulation.clockwork import Clockwork, Task
from simulation.place import PARTITIONS

from sizao.kafka import Incoming, Outgoing, Partition
from sizao.topics import TOPICS


def pairs(*topics) -> list[Partition]:
    return [(topic.name, number) for topic in topics for number in range(PARTITIONS)]


@dataclass
class Log:
    """`doubt`: the chance that a send fails although Kafka has a part of it, or all. `order`: the
    how manieth append of all a record was.
    """

    work: Clockwork
    up: bool = True
    doubt: float = 0.0
    records: dict[Partition, list[Incoming]] = field(
        default_factory=lambda: {pair: [] for pair in pairs(*TOPICS)}
    )
    committed: dict[Partition, int] = field(default_factory=dict)
    count: int = 0
    order: dict[tuple[Partition, int], int] = field(default_factory=dict)

    def append(self, one: Outgoing) -> None:
        found = self.records[one.topic, one.partition]
        self.count += 1
        self.order[(one.topic, one.partition), len(found)] = self.count
        found.append(
            Incoming(
                topic=one.topic,
                partition=one.partition,
                offset=len(found),
                value=one.value,
                headers=tuple(one.headers),
                key=one.key,
                timestamp_ms=one.timestamp_ms or self.work.now_us // 1000,
            )
        )

    def end(self, pair: Partition) -> int:
        return len(self.records[pair])

    def read(self, pair: Partition, offset: int, limit: int) -> list[Incoming]:
        return self.records[pair][offset : offset + limit] if self.up else []

    def offset_at(self, pair: Partition, at_ms: int) -> int | None:
        """The first record that is not older."""
        for one in self.records[pair]:
            if one.timestamp_ms >= at_ms:
                return one.offset
        return None

    def send(self, records: list[Outgoing]) -> Task:
        """As a producer behind `patiently`: ends when Kafka has all. A send that fails for what it
        does not know is repeated whole, so a record may be there twice; killed within, in part.
        """
        while records:
            while not self.up:
                yield 0.5
            lost_at = -1
            if self.work.rng.random() < self.doubt:
                lost_at = self.work.rng.randrange(len(records))
            yield self.work.rng.choice([0, 0, 0.02, 0.3, 2])
            for place, one in enumerate(records):
                yield 0
                self.append(one)
                if place == lost_at:
                    break
            yield 0
            if lost_at < 0:
                return
            self.work.note(f"send in doubt after {lost_at + 1} of {len(records)}")
            yield 0.25

    def all(self, *topics) -> list[Incoming]:
        return [one for pair in pairs(*topics) for one in self.records[pair]]
