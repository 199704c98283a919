"""Kafka as detect sees it, in memory: a log whose questions can be made to fail or to hang."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

from fix_detect import T0_US, frame

from sizao import frame as frames
from sizao.kafka import Incoming, Outgoing, Partition
from sizao.topics import ALARMS


class Log:
    """`before`: what a call of that name awaits first. `readers`: the partitions of each reader."""

    def __init__(self) -> None:
        self.records: dict[Partition, list[Incoming]] = {}
        self.committed: dict[Partition, int] = {}
        self.told: list[Outgoing] = []
        self.readers: list[list[Partition]] = []
        self.before: dict[str, Callable[[], Awaitable[None]]] = {}
        self.written = asyncio.Event()

    async def ask(self, name: str) -> None:
        if name in self.before:
            await self.before[name]()

    def write(self, topic: str, partition: int, readings, received_s: float, **more) -> None:
        lane = "alarm" if topic == ALARMS.name else "telemetry"
        there = self.records.setdefault((topic, partition), [])
        made = frame(readings, received_s=received_s, writer=f"b0.{lane}", **more)
        value = frames.encode(made)
        there.append(
            Incoming(
                topic=topic,
                partition=partition,
                offset=len(there),
                value=value,
                headers=frames.headers(value),
                key=None,
                timestamp_ms=(T0_US + round(received_s * 1e6)) // 1000,
            )
        )
        self.written.set()

    def end(self, pair: Partition) -> int:
        return len(self.records.get(pair, []))

    def reader(self, settings, partitions, *, client_id, group=None):
        return FakeReader(self, list(partitions), client_id)

    def producer(self, settings, *, client_id):
        return FakeProducer(self)


class FakeReader:
    """As sizao.kafka.Reader, for what detect asks."""

    def __init__(self, log: Log, pairs: list[Partition], client_id: str) -> None:
        self.log, self.pairs = log, pairs
        self.places: dict[Partition, int] = {}
        if client_id == "sizao-detect":
            log.readers.append(pairs)

    async def start(self) -> None:
        await self.log.ask("start")

    async def stop(self) -> None:
        self.places = {}

    def seek(self, pair: Partition, offset: int) -> None:
        self.places[pair] = offset

    async def fetch(self, wait_ms: int, records_max: int | None = None) -> list[Incoming]:
        self.log.written.clear()
        found = self._take()
        if not found:
            with suppress(TimeoutError):
                async with asyncio.timeout(wait_ms / 1000):
                    await self.log.written.wait()
            found = self._take()
        return found

    def _take(self) -> list[Incoming]:
        found = []
        for pair, place in self.places.items():
            found += self.log.records.get(pair, [])[place:]
            self.places[pair] = max(place, self.log.end(pair))
        return found

    async def at(self, offset: int) -> Incoming | None:
        return self.log.records[self.pairs[0]][offset]

    async def starts(self) -> dict[Partition, int]:
        return dict.fromkeys(self.pairs, 0)

    async def ends(self) -> dict[Partition, int]:
        await self.log.ask("ends")
        return {pair: self.log.end(pair) for pair in self.pairs}

    async def offsets_at(self, times_ms) -> dict[Partition, int | None]:
        return {
            pair: next(
                (one.offset for one in self.log.records[pair] if one.timestamp_ms >= at_ms), None
            )
            for pair, at_ms in times_ms.items()
        }

    async def committed(self) -> dict[Partition, int | None]:
        await self.log.ask("committed")
        return {pair: self.log.committed.get(pair) for pair in self.pairs}

    async def commit(self, offsets) -> None:
        await self.log.ask("commit")
        self.log.committed |= offsets


class FakeProducer:
    """As sizao.kafka.Producer."""

    def __init__(self, log: Log) -> None:
        self.log = log

    async def start(self) -> None:
        return

    async def send(self, records) -> None:
        self.log.told += records

    async def stop(self) -> None:
        return
