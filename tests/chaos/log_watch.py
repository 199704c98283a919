"""When each reading could be read from Kafka, lane by lane: seen by a reader of the test's own."""

import asyncio
import threading
from typing import Self

import numpy as np

from sizao import frame
from sizao.clock import monotonic_s, now_us
from sizao.errors import BadRecord, SizaoError
from sizao.kafka import KafkaSettings, OffsetGone, Reader
from sizao.topics import ALARMS, PARTITIONS_DEFAULT, READINGS

START_S = 20.0
SILENT_S = 10.0  # a reader that brings nothing for so long is replaced: it may be stuck
LANES = ("alarm", "telemetry")


class LogWatch:
    """Use as a context manager. `newest_us[lane]`: device time of the newest reading in the log."""

    def __init__(self, bootstrap: str) -> None:
        self._settings = KafkaSettings(bootstrap=bootstrap)
        self._stands: dict = {}
        self._ready, self._ended = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._watch()), name="log")
        self._parts: dict[str, list] = {lane: [] for lane in LANES}
        self.newest_us = dict.fromkeys(LANES, 0)

    async def _watch(self) -> None:
        pairs = [(one.name, n) for one in (READINGS, ALARMS) for n in range(PARTITIONS_DEFAULT)]
        while not self._ended.is_set():
            reader = Reader(self._settings, pairs, client_id="oracle")
            try:
                await reader.start()
                ends = self._stands or await reader.ends()
                for pair in pairs:
                    self._stands[pair] = ends[pair]
                    reader.seek(pair, ends[pair])
                self._ready.set()
                await self._follow(reader)
            except (SizaoError, OffsetGone):
                await asyncio.sleep(0.2)
            finally:
                await reader.stop()

    async def _follow(self, reader: Reader) -> None:
        heard_s = monotonic_s()
        while not self._ended.is_set() and monotonic_s() - heard_s < SILENT_S:
            for record in await reader.fetch(100):
                heard_s = monotonic_s()
                self._stands[record.topic, record.partition] = record.offset + 1
                self._take(record)

    def _take(self, record) -> None:
        try:
            found = frame.decode(record.value, record.headers)
        except BadRecord:
            return
        if found.rows:
            lane = found.writer.rpartition(".")[2]
            self._parts[lane].append((now_us(), found.event_us.copy()))
            self.newest_us[lane] = max(self.newest_us[lane], int(found.event_us.max()))

    def seen(self, lane: str) -> dict[int, int]:
        """Device time -> when it could first be read."""
        found: dict[int, int] = {}
        for at_us, events in list(self._parts[lane]):
            for event in events.tolist():
                found.setdefault(event, at_us)
        return found

    def through_us(self, lane: str, acked_us: np.ndarray, ts_us: np.ndarray, window) -> int:
        """When the last message acknowledged in a window was in the log; 0 without one."""
        first_us, last_us = window
        wanted = set(ts_us[(acked_us >= first_us) & (acked_us < last_us)].tolist())
        last = 0
        for at_us, events in list(self._parts[lane]):
            if at_us >= first_us and not wanted.isdisjoint(events.tolist()):
                last = max(last, at_us)
        return last

    def __enter__(self) -> Self:
        self._thread.start()
        if not self._ready.wait(START_S):
            raise TimeoutError("the log cannot be read")
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join(START_S)
