"""From Kafka's records to what the store takes."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import msgspec

from alerting.fold import Item, Move
from alerting.incident import nature_of
from alerting.place import place_of
from alerting.rows import storable
from sizao import signal
from sizao.kafka import Incoming, Partition
from sizao.registry.model import View
from sizao.registry.source import Source
from sizao.signal import Signal

_GENERATION_WAIT_S = 2.2  # the registry is polled each 2 s
_MISSED_MAX = 64  # generations that did not come; each is waited for once


@dataclass(slots=True)
class Batch:
    """Decoded records with the offsets that they move."""

    moves: dict[Partition, Move] = field(default_factory=dict)
    items: list[Item] = field(default_factory=list)

    def move(self, record: Incoming, expected: int | None) -> None:
        """Pass a record; `expected`: where its partition stood before the batch."""
        one = record.topic, record.partition
        if one in self.moves:
            expected = self.moves[one].expected
        self.moves[one] = Move(
            expected=expected, next_offset=record.offset + 1, arrived_ms=record.timestamp_ms
        )


def decode(record: Incoming) -> Signal:
    """The signal of a record, in a form that the database can hold. Raises BadRecord."""
    return storable(signal.decode(record.value, record.headers))


def mark_of(view: View, device: int) -> str:
    """The registry's mark; "" for a device that it does not know, whose signals are real."""
    return view.device_mark[device] if 0 < device < len(view.device_mark) else ""


class Marks:
    """Gives signals nature and place by what the registry says of their devices."""

    def __init__(self, source: Source) -> None:
        """`source` follows the registry."""
        self._source = source
        self._missed: deque[int] = deque(maxlen=_MISSED_MAX)

    async def items(self, heard: Sequence[tuple[Signal, int]]) -> list[Item]:
        """What the store takes of signals with their arrivals (us)."""
        await self._know(max((found.generation for found, _ in heard), default=0))
        view = self._source.current.newest
        return [
            Item(
                signal=found,
                nature=nature_of(mark_of(view, found.device), self_test=found.self_test),
                arrived_us=arrived_us,
                place=place_of(view, found),
            )
            for found, arrived_us in heard
        ]

    async def _know(self, generation: int) -> None:
        """Give a registry that is just changing one poll, once per generation: a test device must
        not page as a real one because its row came with the same apply.
        """
        if generation <= self._source.current.generation or generation in self._missed:
            return
        if not await self._source.wait_for(generation, _GENERATION_WAIT_S):
            self._missed.append(generation)


def bare(item: Item) -> Item:
    """The same signal without evidence: that it speaks matters more than why."""
    return replace(item, signal=msgspec.structs.replace(item.signal, evidence={}))
