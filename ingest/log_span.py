"""A stretch of a topic: from a time to where it ends when the reading begins, without waiting."""

from __future__ import annotations

import sys
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager

from sizao import clock
from sizao.errors import BadInput, Retriable
from sizao.kafka import Incoming, KafkaSettings, OffsetGone, Partition, Reader
from sizao.records import unreadable

_WAIT_MS = 500
_RECORDS_MAX = 500
SILENT_S_MAX = 30.0
"""Kafka brings nothing for so long though there is more: given up."""


async def read(
    settings: KafkaSettings,
    topic: str,
    partitions: int,
    since_us: int,
    until_us: int = sys.maxsize,
) -> AsyncGenerator[list[Incoming], None]:
    """Records that came at or after a time, one partition after the other, each in order, to the
    first that came after another time.

    Those that cannot be read come without a value (ADR 4). Raises Retriable when Kafka is away or
    silent. Memory: one fetch.
    """
    pairs = [(topic, number) for number in range(partitions)]
    async with _reading(settings, pairs) as reader:
        begins = await reader.offsets_at(dict.fromkeys(pairs, since_us // 1000))
        ends = await reader.ends()
    for pair in pairs:
        begin = begins[pair]
        if begin is None:
            continue
        async with aclosing(_partition(settings, pair, begin, ends[pair])) as found:
            async for records in found:
                yield records
                if records and records[-1].timestamp_ms * 1000 > until_us:
                    break


async def _partition(
    settings: KafkaSettings, pair: Partition, begin: int, end: int
) -> AsyncGenerator[list[Incoming], None]:
    if begin >= end:
        return
    async with _reading(settings, [pair]) as reader:
        reader.seek(pair, begin)
        next_offset, heard_s = begin, clock.monotonic_s()
        while next_offset < end:
            try:
                records = await reader.fetch(_WAIT_MS, _RECORDS_MAX)
            except OffsetGone:  # retention was faster
                next_offset = (await reader.starts())[pair]
                reader.seek(pair, next_offset)
                continue
            if records:
                next_offset, heard_s = records[-1].offset + 1, clock.monotonic_s()
                yield [record for record in records if record.offset < end]
            elif clock.monotonic_s() - heard_s > SILENT_S_MAX:
                raise Retriable(f"Kafka: nothing of {pair} came for {SILENT_S_MAX:g} s")


async def one(settings: KafkaSettings, pair: Partition, partitions: int, offset: int) -> Incoming:
    """One record; without a value where it cannot be read. Raises BadInput, Retriable."""
    _, number = pair
    if number >= partitions:
        raise BadInput(f"{number}:{offset}: partitions are 0 to {partitions - 1}")
    async with _reading(settings, [pair]) as reader:
        first, end = (await reader.starts())[pair], (await reader.ends())[pair]
        if not first <= offset < end:
            held = f"{number}:{first} to {number}:{end - 1}" if first < end else "nothing"
            raise BadInput(f"{number}:{offset}: not in the log; the partition holds {held}")
        found = await reader.at(offset)
    return unreadable(pair, offset, 0) if found is None else found


@asynccontextmanager
async def _reading(settings: KafkaSettings, pairs: list[Partition]) -> AsyncIterator[Reader]:
    reader = Reader(settings, pairs, client_id="sizao-rejects")
    await reader.start()
    try:
        yield reader
    finally:
        await reader.stop()
