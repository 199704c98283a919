"""From Kafka's records to what the store takes."""

from __future__ import annotations

from dataclasses import dataclass, field

from alerting.rows import storable
from alerting.store import Item, Move
from sizao import signal
from sizao.kafka import Incoming, Partition
from sizao.registry.model import View
from sizao.signal import Signal


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
