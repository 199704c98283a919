"""A district whose readings go through the real log and the real archive into real tables."""

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import numpy as np
import psycopg
import pytest
from fix_registry import DEVICES, PLACES, change

from ingest.archive import Archive, ArchiveSection, ArchiveSettings, shard_of
from sizao import clock, frame, log
from sizao.frame import Frame
from sizao.kafka import KafkaSettings, Outgoing, Producer, Reader, make_topics
from sizao.metrics import Metrics
from sizao.registry.write import Change, DeviceRow
from sizao.service import Service
from sizao.topics import ALARMS, INCIDENTS, READINGS

PARTITIONS = 4
DEADLINE_S = 60.0
MINUTE_US = 60_000_000
LATE = 1
BEFORE_MIN = 300
"""The log's clock begins so long before now and never comes to it: tests say when minutes end."""


@dataclass
class District:
    """Points by topic and partition; every frame is one like no other."""

    settings: ArchiveSettings
    dsn: str
    config: object
    producer: Producer
    now_us: int
    points: dict = field(default_factory=dict)
    sequence: int = 0
    sent: int = 0

    async def send(self, rng, *, frames=8, rows=12, late_us=0, flags=0):
        """Frames round all partitions; times of events up to a minute back, or `late_us`."""
        records = []
        for number in range(frames):
            pair = sorted(self.points)[number % len(self.points)]
            late = np.full(rows, late_us) if late_us else np.zeros(rows, int)
            made = self._frame(
                point=rng.choice(self.points[pair], rows).astype(np.uint32),
                event_us=self.now_us - rng.integers(0, 2 * MINUTE_US // 3, rows) - late,
                value=(rng.integers(0, 400, rows) / 4).astype(np.float32),
                flags=np.full(rows, flags | (LATE if late_us else 0), np.uint8),
            )
            records.append(outgoing(*pair, made))
            self.sent += rows
        await self.producer.send(records)

    async def reach(self, now_us):
        """Everybody's clock goes on to a time, by heartbeats."""
        self.now_us = now_us
        empty = [np.empty(0, kind) for kind in (np.uint32, np.int64, np.float32, np.uint8)]
        await self.producer.send(
            [outgoing(*pair, self._frame(*empty)) for pair in shard_of("0/1", PARTITIONS)]
        )

    def _frame(self, point, event_us, value, flags):
        self.sequence += 1
        return Frame(
            point=point, event_us=event_us, value=value, flags=flags, received_us=self.now_us,
            generation=1, writer="t0.telemetry", sequence=self.sequence,
        )  # fmt: skip

    async def query(self, text, *parameters):
        async with await psycopg.AsyncConnection.connect(self.dsn, autocommit=True) as connection:
            cursor = await connection.execute(text, parameters)
            return await cursor.fetchall() if cursor.description else []

    async def closed_until_us(self):
        """Of the partition that is last."""
        asked = (
            "SELECT (extract(epoch FROM min(until)) * 1000000)::bigint FROM reading_minute_closed"
        )
        return (await self.query(asked))[0][0] or 0

    async def closes(self, until_us, deadline_s=DEADLINE_S):
        """Wait for a minute to close."""

        async def closed():
            return await self.closed_until_us() >= until_us

        await until(closed, deadline_s)

    async def equals_oracle(self):
        """Every minute before the newest closed one, as SQL makes it from the table `reading`."""
        closed_us = await self.closed_until_us()
        where = f"WHERE minute < to_timestamp({closed_us // 1_000_000})"
        oracle = f"""SELECT * FROM (
            SELECT point, date_trunc('minute', event) AS minute, count(*), min(value), max(value),
                avg(value::float8), (array_agg(value ORDER BY event, value))[1],
                (array_agg(value ORDER BY event DESC, value DESC))[1], bit_or(flags)
            FROM reading GROUP BY 1, 2) m {where} ORDER BY 1, 2"""
        kept = f"""SELECT point, minute, count, min, max, mean, first, last, flags
            FROM reading_minute {where} ORDER BY 1, 2"""
        wanted = await self.query(oracle)
        assert wanted
        assert await self.query(kept) == wanted
        return wanted


def outgoing(topic, partition, made):
    value = frame.encode(made)
    return Outgoing(topic=topic, partition=partition, value=value, headers=frame.headers(value))


async def until(condition, deadline_s=DEADLINE_S):
    """Look until the condition is true; returns what it said."""
    async with asyncio.timeout(deadline_s):
        while not (said := await condition()):  # noqa: ASYNC110 - servers tell nobody
            await asyncio.sleep(0.02)
    return said


@asynccontextmanager
async def archiving(settings, copies=1):
    """Archives in this process, cancelled at the end; yields their services."""
    services = [Service("archive", log.setup("archive"), Metrics("archive")) for _ in range(copies)]
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(Archive(one, settings).run()) for one in services]
        yield services
        for task in tasks:
            task.cancel()


def value_of(service, name, **labels):
    return service.metrics.registry.get_sample_value(f"sizao_archive_{name}", labels or None)


@pytest.fixture
async def district(servers, settings, connection, postgres_db, tmp_path):
    kafka = KafkaSettings(bootstrap=servers.kafka.bootstrap)
    await make_topics(kafka, partitions=PARTITIONS)
    await change(connection, PLACES)
    heats = [DeviceRow(f"h{n}", "gateway", "heat", f"site-{n % 8}") for n in range(160)]
    await change(connection, Change(devices=[*DEVICES.devices, *heats]))
    archive = ArchiveSettings(kafka=kafka, database=settings, archive=ArchiveSection(idle_s=0.2))
    config = tmp_path / "sizao.yaml"
    config.write_text(archive.model_dump_json())  # JSON is YAML
    await _begin_at_the_end(kafka, connection)
    producer = Producer(kafka, client_id="test")
    await producer.start()
    now_us = clock.now_us() - BEFORE_MIN * MINUTE_US
    made = District(archive, postgres_db, config, producer, now_us - now_us % MINUTE_US)
    made.sequence = clock.now_us()
    rows = await made.query("SELECT id, partition, quantity >= 64 FROM point ORDER BY id")
    for point, partition, alarm in rows:
        pair = ((ALARMS if alarm else READINGS).name, partition)
        made.points.setdefault(pair, []).append(point)
    yield made
    await producer.stop()


async def _begin_at_the_end(kafka, connection):
    """What other tests have written is none of ours."""
    incidents = [(INCIDENTS.name, number) for number in range(PARTITIONS)]
    for table, pairs in (
        ("archive_offset", shard_of("0/1", PARTITIONS)),
        ("evidence_offset", incidents),
    ):
        reader = Reader(kafka, pairs, client_id="test")
        await reader.start()
        for pair, end in (await reader.ends()).items():
            insert = f"INSERT INTO {table} (topic, partition, next_offset) VALUES (%s, %s, %s)"
            await connection.execute(insert, (*pair, end))
        await reader.stop()
