"""The archive against real Kafka and PostgreSQL: every reading sent is one row, whatever dies."""

import asyncio
import random
import sys
from collections import defaultdict
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import psycopg
import pytest
from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete
from psycopg.conninfo import conninfo_to_dict

from ingest import archive_store
from ingest.archive import Archive, ArchiveSection, ArchiveSettings, shard_of
from ingest.archive_place import STORED_BEFORE, Gap
from sizao import clock, db, frame, log, units
from sizao.errors import Retriable
from sizao.frame import Frame, FrameFault
from sizao.kafka import KafkaSettings, Outgoing, Producer, Reader, make_topics
from sizao.metrics import Metrics
from sizao.registry.write import AreaRow, CarrierRow, Change, DeviceRow, TypeRow, apply
from sizao.service import Service
from sizao.topics import ALARMS, READINGS

PARTITIONS = 4
ROWS = 25
DEADLINE_S = 60.0
RUN = "import sys, pathlib, ingest.archive as a; a.process(pathlib.Path(sys.argv[1]))"


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


async def delete_before(kafka, partition, offset):
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka.bootstrap)
    await admin.start()
    try:
        await admin.delete_records({partition: RecordsToDelete(offset)})
    finally:
        await admin.close()


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


async def test_every_reading_is_a_row_and_bad_records_are_passed_by(place):
    await place.send(20)
    damaged = bytearray(frame.encode(frame.heartbeat(
        received_us=clock.now_us(), generation=1, writer="t0.telemetry", sequence=1,
    )))  # fmt: skip
    good = outgoing(READINGS.name, 1, bytes(damaged))
    damaged[40] ^= 1
    await place.producer.send([
        Outgoing(topic=READINGS.name, partition=1, value=bytes(damaged), headers=good.headers),
        Outgoing(topic=ALARMS.name, partition=2, value=b"hello"),
    ])  # fmt: skip
    await place.send(20)
    async with archiving(place.settings) as (service,):
        await place.caught_up()
        skipped = "records_skipped_total"
        assert value_of(service, skipped, reason=FrameFault.CRC_WRONG) == 1
        assert value_of(service, skipped, reason=FrameFault.CRC_MISSING) == 1
        assert value_of(service, "rows_total") == 40 * ROWS
        assert service.ready == {"kafka": True, "database": True}
        assert service.progress.keys() == {"readings.in", "readings.out", "alarms.in", "alarms.out"}
        await until(partial(waiting, service, 0))


async def waiting(service, lanes):
    return sum(since_s is not None for since_s in service.oldest.values()) == lanes


async def test_heartbeats_move_the_offset_and_store_nothing(place):
    beat = frame.encode(
        frame.heartbeat(received_us=5, generation=1, writer="t9.telemetry", sequence=77)
    )
    await place.producer.send([outgoing(READINGS.name, 3, beat)] * 3)
    told = "SELECT next_offset, received_us, writers FROM archive_offset WHERE writer = %s"
    async with archiving(place.settings):
        found = await until(lambda: place.query(told, "t9.telemetry"))
    assert found[0][1:] == (5, {"t9.telemetry": 77})
    assert await place.rows() == []


async def test_a_bridge_with_a_wrong_clock_stops_nothing(place):
    await place.send(1, received_us=3_600_000_000)
    await place.send(1, received_us=4_070_908_800_000_000)  # 2099
    await place.send(1)
    async with archiving(place.settings):
        await place.caught_up()


async def test_killed_at_any_point_it_stores_each_reading_once(place):
    rng = random.Random(2026)
    kills = 0
    sending = True

    async def send():
        nonlocal sending
        for _ in range(60):
            await place.send(8)
            await asyncio.sleep(0.1)
        sending = False

    async with asyncio.TaskGroup() as group:
        group.create_task(send())
        while sending:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-c", RUN, str(place.config), stderr=asyncio.subprocess.DEVNULL
            )
            stored = await place.count()

            async def stores(before=stored):
                return not sending or await place.count() != before

            await until(stores)
            await asyncio.sleep(rng.uniform(0, 0.6))
            process.kill()
            await process.wait()
            kills += 1
    assert kills >= 3
    async with archiving(place.settings):
        await place.caught_up()


async def test_two_on_one_shard_store_each_reading_once(place):
    async with archiving(place.settings, copies=2) as services:
        for _ in range(40):
            await place.send(8)
            await asyncio.sleep(0.05)
        await place.caught_up()
        assert sum(value_of(one, "offsets_moved_total") for one in services) > 0
        assert sum(value_of(one, "rows_total") for one in services) == len(place.sent)


async def test_without_compare_and_set_two_would_double(place, monkeypatch):
    """The proof above can turn red."""
    anywhere = archive_store._MOVE.replace(
        "AND next_offset = %s", "AND next_offset >= 0 * %s::bigint"
    )
    monkeypatch.setattr(archive_store, "_MOVE", anywhere)
    async with archiving(place.settings, copies=2):
        await place.send(40)

        async def doubled():
            return await place.count() > len(place.sent)

        await until(doubled)


@pytest.mark.parametrize("commit", ["on", "off"])
async def test_postgres_killed_in_the_middle_loses_and_doubles_nothing(servers, place, commit):
    name = place.settings.database.name
    await place.query(f"ALTER DATABASE {name} SET synchronous_commit = {commit}")
    async with archiving(place.settings) as (service,):
        for turn in range(30):
            await place.send(8)
            if turn in {8, 20}:
                await asyncio.to_thread(servers.postgres.kill)
            if turn in {14, 24}:
                await until(partial(waiting, service, 2))
                await asyncio.to_thread(servers.postgres.start)
            await asyncio.sleep(0.1)
        await place.caught_up()
        await until(partial(waiting, service, 0))


async def test_kafka_killed_in_the_middle_loses_and_doubles_nothing(servers, place):
    async with archiving(place.settings):
        await place.send(40)
        await asyncio.to_thread(servers.kafka.kill)
        await asyncio.to_thread(servers.kafka.start)
        await place.send(40)
        await place.caught_up()


async def test_started_before_its_servers_it_waits_for_them(servers, place):
    await place.send(16)
    await asyncio.to_thread(servers.postgres.kill)
    await asyncio.to_thread(servers.kafka.kill)
    async with archiving(place.settings) as (service,):
        await asyncio.to_thread(servers.postgres.start)
        await until_ready(service, "database")
        assert not service.ready["kafka"]
        await asyncio.to_thread(servers.kafka.start)
        await place.caught_up()
        assert service.ready == {"kafka": True, "database": True}


async def test_the_watchdog_s_probe_tells_idle_from_stuck(place):
    service = Service("archive", log.setup("archive"), Metrics("archive"))
    stuck = Archive(service, place.settings)
    try:
        stuck._wanted = shard_of("0/1", PARTITIONS)
        await stuck._resume()
        stuck._reading.begin()
        with pytest.raises(Retriable, match="nothing to read"):
            await service.stages["read"].probe()
        await place.send(1)
        await service.stages["read"].probe()
    finally:
        await stuck._close()


@pytest.mark.parametrize(
    ("gap", "change"),
    [
        (Gap.SHORTER, "next_offset = next_offset + 1000"),
        (Gap.REPLACED, "sequence = sequence + 1"),
    ],
)
async def test_a_log_that_came_back_other_is_noticed_and_read_again(
    clean_topics, place, gap, change
):
    """What is read again must hold nothing of other tests, so the topics are empty."""
    await place.send(40)
    async with archiving(place.settings):
        await place.caught_up()
    await place.query(f"UPDATE archive_offset SET {change} WHERE topic = '{READINGS.name}'")
    await place.send(40)
    async with archiving(place.settings) as (service,):
        await place.caught_up()
        assert value_of(service, "gaps_total", reason=gap) == PARTITIONS
        assert value_of(service, "records_skipped_total", reason=STORED_BEFORE) >= 20


async def test_records_that_expired_unread_are_counted(place):
    pair = (READINGS.name, 0)
    await place.send(16)
    async with archiving(place.settings):
        await place.caught_up()
    where = "SELECT next_offset FROM archive_offset WHERE (topic, partition) = (%s, %s)"
    ((next_offset,),) = await place.query(where, *pair)
    await place.send(16)
    await delete_before(place.settings.kafka, TopicPartition(*pair), next_offset + 1)
    lost = place.frames[pair][-2]  # 2 of the second 16 frames lie there, the first is gone
    place.sent = [row for row in place.sent if row[0] != lost]
    async with archiving(place.settings) as (service,):
        await place.caught_up()
        assert value_of(service, "gaps_total", reason=Gap.EXPIRED) == 1
        assert value_of(service, "records_lost_total") == 1


async def test_names_for_people(place):
    assert await place.query("SELECT code, name, unit FROM quantity ORDER BY code") == [
        (one.code, one.name, one.unit) for one in sorted(units.QUANTITIES, key=lambda q: q.code)
    ]
    areas = [AreaRow("d", "", "district", "区", "D"), AreaRow("s", "d", "site", "楼", "House")]
    change = Change(
        areas=areas,
        carriers=[CarrierRow("c")],
        types=[TypeRow("t", "document", [1])],
        devices=[DeviceRow("k", "c", "t", "s")],
    )
    async with db.connected(place.settings.database, "test") as connection:
        await apply(connection, change, cause="test", partitions=PARTITIONS)
        isolated = Change(devices=[DeviceRow("k", "c", "t", "s", state="isolated")])
        await apply(connection, isolated, cause="test", partitions=PARTITIONS)
    await place.send(1, rows=1)
    async with archiving(place.settings):
        await place.caught_up()
    named = "SELECT device, carrier, quantity, unit, site, site_en, value FROM reading_named"
    found = await place.query(named)
    assert found == [("k", "c", "temperature_c", "degC", "s", "House", place.sent[0][3])]
