"""A record of the log as rooms see it, and how a reader gets past those that cannot be read.

Kafka's client raises for a header key that is not UTF-8, and for a batch whose checksum does not
fit: for the whole fetch, without the place, after it has taken records of other partitions which
nobody gets, and again at every try. Each reader process ended, and ended again at the same offset.
A client decodes a batch from its start, so what follows in the batch is lost with it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from sizao.errors import Permanent

Headers = Sequence[tuple[str, bytes]]
Partition = tuple[str, int]
"""Topic name and partition number."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outgoing:
    """A record to write. `timestamp_ms` is arrival time; never a device's clock."""

    topic: str
    partition: int
    value: bytes
    headers: Headers = ()
    key: bytes | None = None
    timestamp_ms: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Incoming:
    """A record read. Without a value: a tombstone, or one that cannot be read, whose
    `timestamp_ms` is that of the record before it.
    """

    topic: str
    partition: int
    offset: int
    value: bytes | None
    headers: Headers
    key: bytes | None
    timestamp_ms: int


@dataclass
class OffsetGone(Permanent):
    """The wanted offset is not in the log: retention passed it, or the log came back shorter."""

    partitions: list[Partition] = field(default_factory=list)

    def __str__(self) -> str:
        """Name the partitions."""
        return f"Kafka: the wanted offset is no longer in the log of {self.partitions}"


Stand = tuple[int, int]
"""Next offset to hand out of a partition, and arrival of the newest record handed out."""
ReadAt = Callable[[int], Awaitable[Incoming | None]]
"""The record at an offset of one partition; None where it cannot be read."""


class Alone(Protocol):
    """A reader of one partition. `at` raises Retriable when Kafka brings nothing at all."""

    async def start(self) -> None: ...  # noqa: D102 - the name says it
    async def at(self, offset: int) -> Incoming | None: ...  # noqa: D102
    async def stop(self) -> None: ...  # noqa: D102


async def around_damage(
    alone: Callable[[Sequence[Partition]], Alone],
    stands: Mapping[Partition, Stand],
    ends: Mapping[Partition, int],
    count_max: int,
) -> list[Incoming]:
    """What a fetch that failed should have brought, those that cannot be read without a value.

    Each partition by a client of its own: what waits of others would hold up every step.
    """
    found: list[Incoming] = []
    for pair, (offset, arrived_ms) in stands.items():
        if offset >= ends[pair]:
            continue
        reader, share = alone([pair]), max(1, count_max // len(stands))
        try:
            await reader.start()
            good, lost = await up_to_damage(reader.at, offset, ends[pair], share)
        finally:
            await reader.stop()
        newest_ms = good[-1].timestamp_ms if good else arrived_ms
        found += good
        found += [unreadable(pair, each, newest_ms) for each in lost]
    return found


def unreadable(pair: Partition, offset: int, arrived_ms: int) -> Incoming:
    """What stands for a record that cannot be read."""
    topic, number = pair
    return Incoming(
        topic=topic,
        partition=number,
        offset=offset,
        value=None,
        headers=(),
        key=None,
        timestamp_ms=arrived_ms,
    )


async def up_to_damage(
    read: ReadAt, start: int, end: int, count_max: int
) -> tuple[list[Incoming], range]:
    """Records from `start` to the first that cannot be read, and the offsets that are lost there.

    At most `count_max` records, so there may be no damage among them; `end` is the end of the log.
    """
    found: list[Incoming] = []
    while start < end and len(found) < count_max:
        record = await read(start)
        if record is None:
            return found, range(start, await _behind(read, start, end))
        found.append(record)
        start = record.offset + 1
    return found, range(start, start)


async def _behind(read: ReadAt, bad: int, end: int) -> int:
    """The first offset behind the batch of `bad` that can be read: in growing steps, then halves,
    as each look costs a fetch. Two such batches close together count as one.
    """
    step, good = 1, min(bad + 1, end)
    while good < end and await read(good) is None:
        bad, step = good, step * 2
        good = min(bad + step, end)
    while good - bad > 1:
        middle = (bad + good) // 2
        if await read(middle) is None:
            bad = middle
        else:
            good = middle
    return good
