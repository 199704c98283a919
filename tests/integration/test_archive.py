"""The archive against real Kafka and PostgreSQL: every reading sent is one row, whatever dies."""

import asyncio
import random
import sys
from functools import partial

import pytest
from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete
from fix_archive import PARTITIONS, ROWS, archiving, outgoing, until, until_ready, value_of

from ingest import archive_store
from ingest.archive import Archive, shard_of
from ingest.archive_place import STORED_BEFORE, Gap
from sizao import clock, db, frame, log, units
from sizao.errors import Retriable
from sizao.frame import FrameFault
from sizao.kafka import Outgoing
from sizao.metrics import Metrics
from sizao.registry.write import AreaRow, CarrierRow, Change, DeviceRow, TypeRow, apply
from sizao.service import Service
from sizao.topics import ALARMS, READINGS

RUN = "import sys, pathlib, ingest.archive as a; a.process(pathlib.Path(sys.argv[1]))"


async def delete_before(kafka, partition, offset):
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka.bootstrap)
    await admin.start()
    try:
        await admin.delete_records({partition: RecordsToDelete(offset)})
    finally:
        await admin.close()


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
        turns = 0
        while turns < 60 or kills < 3:  # on a busy machine a process takes seconds to start
            turns += 1
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


async def test_a_clock_of_2099_hides_nothing_of_a_log_that_came_back_other(clean_topics, place):
    await place.send(2 * PARTITIONS, received_us=4_070_908_800_000_000)
    async with archiving(place.settings):
        await place.caught_up()
    await place.query("UPDATE archive_offset SET next_offset = next_offset + 1000")
    await place.send(40)
    async with archiving(place.settings):
        await place.caught_up(10)


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
