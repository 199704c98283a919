"""The fold without Kafka: the same records give the same signals, whoever reads them."""

from __future__ import annotations

from collections.abc import Iterable

from detectors import record as records_of
from detectors import state as folds
from detectors.record import Record
from detectors.state import Setup, State
from sizao.errors import BadRecord
from sizao.registry.model import Registry
from sizao.signal import Signal


def fold_records(records: Iterable[Record], registry: Registry, setup: Setup) -> list[Signal]:
    """Signals of the records of both lanes, each partition in log order; damaged ones say nothing.

    The registry must know every generation that the records carry.
    """
    states: dict[tuple[str, int], State] = {}
    found: list[Signal] = []
    for record in records:
        key = (record.topic, record.partition)
        if key not in states:
            lane = records_of.LANES[record.topic]
            states[key] = records_of.cold(lane, record.partition, registry, setup)
        try:
            frame = records_of.read(record)
        except BadRecord:
            folds.skip(states[key], record.offset)
        else:
            found += records_of.judge(states[key], frame, record.offset, registry)
    return found
