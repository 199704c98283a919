"""An archive against real Kafka and PostgreSQL, and an oracle of what was sent."""

import asyncio
from collections import defaultdict
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import numpy as np
import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from ingest.archive import Archive, ArchiveSection, ArchiveSettings, shard_of
from sizao import clock, db, frame, log
from sizao.frame import Frame
from sizao.kafka import KafkaSettings, Outgoing, Producer, Reader, make_topics
from sizao.metrics import Metrics
from sizao.service import Service
from sizao.topics import ALARMS, READINGS

PARTITIONS = 4
ROWS = 25
DEADLINE_S = 60.0


@dataclass
class Place:
    """A database of our own, and the log as it is: other tests' frames lie before our offsets."""

    settings: ArchiveSettings
    dsn: str
    config: object
    producer: Producer
    sequence: int = 0
    sent: list = field(default_factory=list)
    frames: dict = field(default_factory=lambda: defaultdict(list))

    async def send(self, frames=1, *, rows=ROWS, received_us=None):
        """Frames of readings like no other, round the partitions of both topics."""
        records = []
        for _ in range(frames):
            self.sequence += 1
            received = clock.now_us() if received_us is None else received_us
            made = Frame(
                point=np.arange(1, rows + 1, dtype=np.uint32),
                event_us=received - np.arange(rows) * 1_000 - self.sequence % 1_000,
                value=np.arange(rows, dtype=np.float32) + self.sequence % 4096 / 4,
                flags=np.full(rows, self.sequence % 16, np.uint8),
                received_us=received,
                generation=1,
                writer="t0.telemetry",
                sequence=self.sequence,
            )
            topic = (READINGS, ALARMS)[self.sequence // PARTITIONS % 2]
            pair = (topic.name, self.sequence % PARTITIONS)
            records.append(outgoing(*pair, frame.encode(made)))
            self.frames[pair].append(received)
            columns = (made.event_us, made.point, made.value, made.flags)
            self.sent += [
                (received, *row) for row in zip(*(c.tolist() for c in columns), strict=True)
            ]
        await self.producer.send(records)

    async def put(self, topic, partition, frames):
        """Frames as they are; the test keeps its own account of them."""
        values = [frame.encode(each) for each in frames]
        await self.producer.send([outgoing(topic, partition, value) for value in values])

    async def rows(self):
        """All that is stored, in the form of `sent`."""
        query = """SELECT (extract(epoch FROM received) * 1000000)::bigint,
            (extract(epoch FROM event) * 1000000)::bigint, point, value, flags FROM reading"""
        return await self.query(query)

    async def query(self, text, *parameters):
        async with await psycopg.AsyncConnection.connect(self.dsn, autocommit=True) as connection:
            cursor = await connection.execute(text, parameters)
            return await cursor.fetchall() if cursor.description else []

    async def caught_up(self, deadline_s=DEADLINE_S):
        """Wait until everything sent is stored, then compare it row by row."""
        await until(self._all_there, deadline_s)
        assert sorted(await self.rows()) == sorted(self.sent)

    async def _all_there(self):
        return await self.count() >= len(self.sent)

    async def count(self):
        """Rows stored; -1 while the database is away."""
        try:
            return (await self.query("SELECT count(*) FROM reading"))[0][0]
        except psycopg.OperationalError:
            return -1


async def until(condition, deadline_s=DEADLINE_S):
    """Look until the condition is true; returns what it said."""
    async with asyncio.timeout(deadline_s):
        while not (said := await condition()):  # noqa: ASYNC110 - servers tell nobody
            await asyncio.sleep(0.02)
    return said


async def until_ready(service, what):
    async def there():
        return service.ready[what]

    await until(there)


def outgoing(topic, partition, value):
    return Outgoing(topic=topic, partition=partition, value=value, headers=frame.headers(value))


@pytest.fixture
async def place(servers, postgres_db, tmp_path):
    parts = conninfo_to_dict(postgres_db)
    secret = tmp_path / "password"
    secret.write_text(parts["password"])
    database = db.DatabaseSettings(
        host=parts["host"],
        port=int(parts["port"]),
        name=parts["dbname"],
        user=parts["user"],
        password_file=str(secret),
    )
    kafka = KafkaSettings(bootstrap=servers.kafka.bootstrap)
    settings = ArchiveSettings(kafka=kafka, database=database, archive=ArchiveSection(idle_s=0.2))
    config = tmp_path / "sizao.yaml"
    config.write_text(settings.model_dump_json())  # JSON is YAML
    await make_topics(kafka, partitions=PARTITIONS)
    async with db.connected(database, "test") as connection:
        await db.migrate(connection)
        await connection.execute("INSERT INTO district (partitions) VALUES (4)")
        await _begin_at_the_end(kafka, connection)
    producer = Producer(kafka, client_id="test")
    await producer.start()
    yield Place(settings, postgres_db, config, producer, sequence=clock.now_us())
    await producer.stop()


async def _begin_at_the_end(kafka, connection):
    reader = Reader(kafka, shard_of("0/1", PARTITIONS), client_id="test")
    await reader.start()
    for pair, end in (await reader.ends()).items():
        await connection.execute(
            "INSERT INTO archive_offset (topic, partition, next_offset) VALUES (%s, %s, %s)",
            (*pair, end),
        )
    await reader.stop()


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
