"""Takes the time at which signals can be read from Kafka, in a thread of its own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterable, Sequence
from typing import Self

import numpy as np

from deploy.local.bench_result import Spread
from sizao import signal
from sizao.clock import now_us
from sizao.errors import BadRecord
from sizao.kafka import KafkaSettings, Reader
from sizao.signal import Signal
from sizao.topics import PARTITIONS_DEFAULT, SIGNALS

_WAIT_MS = 100
_STOP_S = 20.0


class SignalWatch:
    """Use as a context manager; `seen` grows meanwhile."""

    def __init__(self, bootstrap: str) -> None:
        self.seen: list[tuple[Signal, int]] = []
        self._settings = KafkaSettings(bootstrap=bootstrap)
        self._ready = threading.Event()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._watch()), name="signals")

    async def _watch(self) -> None:
        wanted = [(SIGNALS.name, number) for number in range(PARTITIONS_DEFAULT)]
        reader = Reader(self._settings, wanted, client_id="sizao-bench")
        await reader.start()
        try:
            for pair, end in (await reader.ends()).items():
                reader.seek(pair, end)
            self._ready.set()
            while not self._ended.is_set():
                for record in await reader.fetch(_WAIT_MS):
                    self._take(record.value, record.headers, now_us())
        finally:
            await reader.stop()

    def _take(
        self, value: bytes | None, headers: Iterable[tuple[str, bytes]], arrived_us: int
    ) -> None:
        try:
            self.seen.append((signal.decode(value, headers), arrived_us))
        except BadRecord:
            return

    def __enter__(self) -> Self:
        self._thread.start()
        if not self._ready.wait(_STOP_S):
            raise TimeoutError("signals cannot be read from Kafka")
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join(_STOP_S)


def spread(waits_us: Iterable[int]) -> Spread:
    """Count, median, 99th percentile and maximum."""
    waits_ms = np.array(list(waits_us), np.float64) / 1000
    if not len(waits_ms):
        return Spread(count=0)
    p50, p99 = np.percentile(waits_ms, [50, 99])
    return Spread(
        count=len(waits_ms),
        p50=round(float(p50), 1),
        p99=round(float(p99), 1),
        max=round(float(waits_ms.max()), 1),
    )


def late_us(newest: Sequence[tuple[int, int]], from_us: int, now_us: int) -> int:
    """How late signals are now. `newest`: event and arrival of the last one, or nothing; while none
    comes, the silence since `from_us` counts.
    """
    if not newest:
        return now_us - from_us
    event_us, at_us = newest[-1]
    return max(at_us - event_us, now_us - max(at_us, from_us))
