"""The door to Kafka against a real broker: what waits, what fails, what is noticed."""

import asyncio
from dataclasses import replace
from functools import partial

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.record.util import calc_crc32c

from sizao import clock, frame, kafka, signal
from sizao.errors import BadInput, BadRecord, Permanent, Retriable
from sizao.kafka import KafkaSettings, OffsetGone, Outgoing, Producer, Reader
from sizao.signal import SignalFault
from sizao.topics import COMMANDS, READINGS, REJECTS, SIGNALS

WHERE = (SIGNALS.name, 0)
NOW_MS = clock.now_us() // 1000  # what bears an old time is what Kafka's retention takes


def record(value=b"x", topic=SIGNALS.name):
    headers = [("a", b"1")]
    return Outgoing(topic=topic, partition=0, value=value, headers=headers, timestamp_ms=NOW_MS)


@pytest.fixture
async def producer(clean_topics):
    made = Producer(clean_topics, client_id="test")
    await made.start()
    yield made
    await made.stop()


@pytest.fixture
async def reader(clean_topics):
    made = Reader(clean_topics, [WHERE], client_id="test", group="test")
    await made.start()
    yield made
    await made.stop()


async def read(reader, count):
    found = []
    async with asyncio.timeout(30):
        while len(found) < count:
            found += await reader.fetch(100)
    return found


async def test_what_is_sent_comes_back_whole(producer, reader):
    await producer.send([record(b"1"), record(b"2")])
    reader.seek(WHERE, 0)
    found = await read(reader, 2)
    assert [(one.offset, one.value, one.timestamp_ms) for one in found] == [
        (0, b"1", NOW_MS),
        (1, b"2", NOW_MS),
    ]
    assert list(found[0].headers) == [("a", b"1")]
    assert await reader.ends() == {WHERE: 2}
    assert await reader.starts() == {WHERE: 0}
    assert await reader.offsets_at({WHERE: NOW_MS + 1}) == {WHERE: None}


async def test_committed_offsets(producer, reader):
    assert await reader.committed() == {WHERE: None}
    await producer.send([record()])
    await reader.commit({WHERE: 1})
    assert await reader.committed() == {WHERE: 1}


async def away(ask):
    """Asked of a broker that is not there."""
    with pytest.raises(Retriable):
        await ask()


async def test_commits_to_a_killed_broker_end(servers, producer, reader):
    """Seen: detect stood in its commit, ready and unwatched, as long as Kafka was away."""
    await producer.send([record()])
    await reader.commit({WHERE: 1})
    await asyncio.to_thread(servers.kafka.kill)
    try:
        async with asyncio.timeout(20), asyncio.TaskGroup() as group:
            for ask in (partial(reader.commit, {WHERE: 1}), reader.committed):
                group.create_task(away(ask))
    finally:
        await asyncio.to_thread(servers.kafka.start)


async def test_an_offset_that_is_not_in_the_log_is_noticed(producer, reader):
    await producer.send([record()])
    reader.seek(WHERE, 99)
    with pytest.raises(OffsetGone) as gone:
        await read(reader, 1)
    assert gone.value.partitions == [WHERE]


async def test_a_record_too_large_for_its_topic_is_permanent(producer):
    await producer.send([record(b"r" * (1 << 20), REJECTS.name)])  # a whole payload fits there
    with pytest.raises(Permanent):
        await producer.send([record(b"s" * SIGNALS.record_bytes_max * 2)])
    await producer.send([record(b"after")])  # and harms nothing else


async def test_a_send_outlasts_a_killed_broker(servers, producer, reader):
    await producer.send([record(b"before")])
    await asyncio.to_thread(servers.kafka.kill)
    async with asyncio.TaskGroup() as group:
        sending = group.create_task(producer.send([record(b"meanwhile")]))
        with pytest.raises(Retriable):
            await kafka.probe(KafkaSettings(bootstrap=servers.addresses.kafka_bootstrap))
        assert not sending.done()
        await asyncio.to_thread(servers.kafka.start)
    reader.seek(WHERE, 0)
    assert [one.value for one in await read(reader, 2)] == [b"before", b"meanwhile"]


async def test_a_storm_of_records_in_one_send_fits_a_topic_of_small_ones(producer, reader):
    storm = [record(b"%04d" % number + b"s" * 1000) for number in range(1000)]
    await producer.send(storm)
    reader.seek(WHERE, 0)
    assert [one.value for one in await read(reader, 1000)] == [one.value for one in storm]


async def test_others_get_the_loop_while_a_storm_is_handed_over(producer, monkeypatch):
    """As long as the library has room it waits for nothing: the lane beside stood still."""
    handed_over, count, most = kafka._handed_over, 0, 0

    async def counted(*given):
        nonlocal count
        count += 1
        return await handed_over(*given)

    async def look():
        nonlocal most
        seen = 0
        while seen < 2_000:
            most, seen = max(most, count - seen), count
            await asyncio.sleep(0)

    monkeypatch.setattr(kafka, "_handed_over", counted)
    async with asyncio.TaskGroup() as group:
        group.create_task(look())
        await producer.send([record() for _ in range(2_000)])
    assert most <= 250


async def test_two_frames_of_the_largest_size_fit_one_send(producer, reader):
    await producer.send([record(b"f" * frame.BYTES_MAX, READINGS.name) for _ in range(2)])


async def test_a_send_that_waits_for_room_says_nothing_twice(servers, producer, reader):
    """Kafka is away for longer than the library waits for room in its queue."""
    await asyncio.to_thread(servers.kafka.kill)
    storm = [record(b"%04d" % number + b"s" * 1000) for number in range(1000)]

    async def patiently():
        while True:
            try:
                return await producer.send(storm)
            except Retriable:
                await asyncio.sleep(0.1)

    async with asyncio.TaskGroup() as group:
        group.create_task(patiently())
        await asyncio.sleep(7)
        await asyncio.to_thread(servers.kafka.start)
    reader.seek(WHERE, 0)
    assert [one.value for one in await read(reader, 1000)] == [one.value for one in storm]
    assert await reader.ends() == {WHERE: 1000}


async def test_a_partition_that_the_topic_lacks_is_permanent_and_named(producer, reader):
    with pytest.raises(Permanent, match=f"{SIGNALS.name} has no partition 4"):
        await producer.send([record(b"before"), replace(record(), partition=4)])
    assert await reader.ends() == {WHERE: 0}


async def test_an_absent_broker_is_retriable_and_stopping_ends(producer):
    absent = KafkaSettings(bootstrap="127.0.0.1:1")
    for client in (
        Producer(absent, client_id="test"),
        Reader(absent, [WHERE], client_id="test"),
    ):
        with pytest.raises(Retriable):
            await client.start()
        await client.stop()


async def test_questions_to_a_killed_broker_are_retriable_and_stopping_ends(servers, clean_topics):
    reader = Reader(clean_topics, [WHERE], client_id="test")
    await reader.start()
    reader.seek(WHERE, 0)
    await asyncio.to_thread(servers.kafka.kill)
    try:
        assert await reader.fetch(1000) == []
        async with asyncio.TaskGroup() as group:
            for ask in (reader.starts, reader.ends, partial(reader.offsets_at, {WHERE: 0})):
                group.create_task(away(ask))
        await reader.stop()
    finally:
        await asyncio.to_thread(servers.kafka.start)


async def test_a_record_whose_time_lies_far_off_is_taken(producer):
    """By default Kafka refuses what is an hour ahead, for good: a wrong clock ended the bridge."""
    for timestamp_ms in (0, clock.now_us() // 1000 + 86_400_000, 4_070_908_800_000):
        # A topic that no test reads by time.
        await producer.send([replace(record(topic=COMMANDS.name), timestamp_ms=timestamp_ms)])


async def test_topics_are_made_once(clean_topics):
    assert await kafka.make_topics(clean_topics, partitions=4) == []


async def test_another_number_of_partitions_than_the_topics_have_is_refused(clean_topics):
    with pytest.raises(BadInput, match="has 4 partitions, the district 8; give"):
        await kafka.make_topics(clean_topics, partitions=8)


# --- records that cannot be read ----------------------------------------------------------------

OTHER = (READINGS.name, 3)


async def write_badly_named_header(settings, pair, count):
    """One batch of `count` records, the key of the second one's header not UTF-8."""
    topic, number = pair
    client = AIOKafkaProducer(bootstrap_servers=settings.bootstrap)
    await client.start()
    try:
        batch = client.create_batch()
        for index in range(count):
            headers = [("head!", b"1")] if index == 1 else []
            batch.append(key=None, value=b"%d" % index, timestamp=2000, headers=headers)
        content = bytearray(bytes(batch._build()).replace(b"head!", b"he\xffd!"))
        content[17:21] = calc_crc32c(content[21:]).to_bytes(4, "big")
        batch._buffer = content
        await (await client.send_batch(batch, topic, partition=number))
    finally:
        await client.stop()


async def test_a_header_that_is_not_utf8_is_passed_over_and_counts_as_unreadable(
    clean_topics, producer
):
    """Seen: a bare UnicodeDecodeError; detect, archive and alert ended at it again and again."""
    reader = Reader(clean_topics, [WHERE, OTHER], client_id="test")
    await reader.start()
    try:
        for pair in (WHERE, OTHER):
            reader.seek(pair, 0)
        await producer.send([record(b"a"), record(b"b")])
        await write_badly_named_header(clean_topics, WHERE, 3)
        await producer.send([record(b"c"), record(b"d", READINGS.name)])
        await producer.send([replace(record(b"e", READINGS.name), partition=3)])
        found = await read(reader, 7)
        assert [one.offset for one in found if one.topic == SIGNALS.name] == [0, 1, 2, 3, 4, 5]
        assert [one.value for one in found if one.topic == SIGNALS.name] == [
            b"a", b"b", b"0", None, None, b"c",
        ]  # fmt: skip
        assert [one.value for one in found if one.topic == READINGS.name] == [b"e"]
        for one in found:
            if one.value is None:
                with pytest.raises(BadRecord, match=SignalFault.UNREADABLE):
                    signal.decode(one.value, one.headers)
        await producer.send([record(b"f")])
        assert [one.value for one in await read(reader, 1)] == [b"f"]
    finally:
        await reader.stop()


async def test_a_batch_damaged_on_the_brokers_disk_is_passed_over(servers, clean_topics, producer):
    for value in (b"before", b"damaged-here", b"behind"):
        await producer.send([record(value)])
    await asyncio.to_thread(servers.kafka.stop)  # in order: one that was killed repairs its log
    try:
        (segment,) = servers.kafka.data.rglob(f"{SIGNALS.name}-0/*.log")
        content = segment.read_bytes()
        assert content.count(b"damaged-here") == 1
        with segment.open("r+b") as file:
            file.seek(content.index(b"damaged-here"))
            file.write(b"e")
    finally:
        await asyncio.to_thread(servers.kafka.start)
    reader = Reader(clean_topics, [WHERE], client_id="test")
    await reader.start()
    try:
        reader.seek(WHERE, 0)
        assert [one.value for one in await read(reader, 3)] == [b"before", None, b"behind"]
    finally:
        await reader.stop()
