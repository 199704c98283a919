"""detect against a real Kafka: killed, restarted, disturbed, it says what an offline fold says."""

import asyncio
import itertools
import shutil
import subprocess
import sys
from contextlib import asynccontextmanager

import pytest
import structlog
from fix_detect import T0_US, Point, registry, setup
from fix_detect import frame as frame_of
from fix_topics import renew

from detectors import detect as loop
from detectors.offline import fold_records
from detectors.settings import DetectSettings
from sizao import frame, signal
from sizao.kafka import OffsetGone, Outgoing, Producer, Reader
from sizao.metrics import Metrics
from sizao.registry import cache
from sizao.service import Service
from sizao.topics import ALARMS, READINGS, SIGNALS

pytestmark = pytest.mark.slow
PARTITIONS = range(4)
SOURCES = [(topic.name, number) for topic in (ALARMS, READINGS) for number in PARTITIONS]
TOLD = [(SIGNALS.name, number) for number in PARTITIONS]
DEADLINE_S = 60.0
START = "from detectors.commands import app; app()"

KNOWN = registry(
    [
        *(Point(number + 1, partition=number % 4) for number in range(12)),
        *(Point(number + 21, "fire_state", partition=number % 4) for number in range(4)),
    ]
)


@pytest.fixture
def state(tmp_path):
    """A state folder whose registry cache serves, because no database answers."""
    folder = tmp_path / "state"
    cache.save(KNOWN, folder)
    return folder


def settings_of(kafka, state, **more) -> DetectSettings:
    return DetectSettings.model_validate(
        {
            "kafka": kafka.model_dump(),
            "database": {"port": 1},
            "detect": {"state": state, "snapshot_s": 0.2, "commit_s": 0.2, **more},
            "watch_disks": {"early_percent": 100, "alarm_percent": 100},  # see conftest
        }
    )


def record(topic, partition, value, headers, received_us) -> Outgoing:
    """A record that arrived when its frame was closed, as the bridge stamps it."""
    return Outgoing(
        topic=topic,
        partition=partition,
        value=value,
        headers=headers,
        timestamp_ms=received_us // 1000,
    )


def written(topic, partition, readings, received_s, generation=1) -> Outgoing:
    lane = "alarm" if topic == ALARMS.name else "telemetry"
    made = frame_of(readings, received_s=received_s, writer=f"b0.{lane}", generation=generation)
    value = frame.encode(made)
    return record(topic, partition, value, frame.headers(value), made.received_us)


def tick(now_s, heat_c, state=0.0) -> list[Outgoing]:
    """One frame for each partition of both topics, at one instant."""
    return [
        out
        for number in PARTITIONS
        for out in (
            written(
                READINGS.name, number,
                [(point, now_s - point / 100, heat_c + point / 10)
                 for point in range(1, 13) if (point - 1) % 4 == number],
                now_s,
            ),
            written(
                ALARMS.name, number, [(number + 21, now_s, state)] if state else [], now_s
            ),
        )
    ]  # fmt: skip


def quiet(from_s, to_s) -> list[list[Outgoing]]:
    return [tick(now_s, 20.0) for now_s in range(from_s, to_s, 10)]


def burning(from_s, to_s) -> list[list[Outgoing]]:
    """2 K each ten seconds from 20 to 90 degC, the smoke alarms in the middle of it."""
    return [
        tick(now_s, min(20.0 + (now_s - from_s) / 5, 90.0), float(150 < now_s - from_s < 500))
        for now_s in range(from_s, to_s, 10)
    ]


@asynccontextmanager
async def log(kafka):
    """A producer of frames and a reader of everything."""
    producer = Producer(kafka, client_id="test")
    reader = Reader(kafka, [*SOURCES, *TOLD], client_id="test", group="sizao-detect")
    await producer.start()
    await reader.start()
    try:
        yield producer, reader
    finally:
        await producer.stop()
        await reader.stop()


async def fetched(reader):
    """What comes; a position that the client tried before a seek may be gone from the log."""
    try:
        return await reader.fetch(100)
    except OffsetGone:
        return []


async def everything(reader, partitions):
    """All records of some partitions, in log order."""
    ends = await reader.ends()
    found = []
    for pair in [*SOURCES, *TOLD]:
        reader.seek(pair, 0 if pair in partitions else ends[pair])
    async with asyncio.timeout(DEADLINE_S):
        while len(found) < sum(ends[pair] for pair in partitions):
            found += [
                one for one in await fetched(reader) if (one.topic, one.partition) in partitions
            ]
    return found


async def said(reader) -> dict[str, bytes]:
    """Signals by id. The same id twice must be the same bytes."""
    found: dict[str, bytes] = {}
    for one in await everything(reader, TOLD):
        told = signal.decode(one.value, one.headers)
        assert found.setdefault(told.id, one.value) == one.value
        assert one.key == told.subject.id.encode()
    return found


async def settled(reader) -> None:
    """Until detect has committed all there is: what it had to say is then acknowledged."""
    ends = await reader.ends()
    async with asyncio.timeout(DEADLINE_S):
        while True:
            committed = await reader.committed()
            if all(committed[pair] == ends[pair] for pair in SOURCES):
                return
            await asyncio.sleep(0.05)


async def expected(reader, known=KNOWN) -> dict[str, bytes]:
    records = await everything(reader, SOURCES)
    return {each.id: signal.encode(each) for each in fold_records(records, known, setup(["b0"]))}


@asynccontextmanager
async def detecting(settings):
    """detect in this process; yields its service."""
    service = Service("detect", structlog.get_logger(), Metrics("detect"))
    task = asyncio.create_task(loop.body(settings, service))  # noqa: TID251 - a test owns it
    try:
        yield service
        assert not task.done(), task.result()
    finally:
        task.cancel()
        await asyncio.wait([task])


def count_of(service, name, **labels):
    return service.metrics.registry.get_sample_value(f"sizao_detect_{name}_total", labels or None)


def started(config) -> subprocess.Popen:
    return subprocess.Popen([sys.executable, "-c", START, "detect", "--config", str(config)])


async def told_at_least(reader, count) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while True:
            ends = await reader.ends()
            if sum(ends[pair] for pair in TOLD) >= count:
                return
            await asyncio.sleep(0.02)


async def test_killed_in_the_middle_of_the_fire_it_says_what_an_offline_fold_says(
    clean_topics, state, tmp_path
):
    config = tmp_path / "sizao.yaml"
    config.write_text(
        f"kafka: {{bootstrap: '{clean_topics.bootstrap}'}}\n"
        "database: {port: 1}\n"
        f"detect: {{state: '{state}', snapshot_s: 0.2, commit_s: 0.2}}\n",
        encoding="utf-8",
    )
    frames = iter([*quiet(0, 1200), *burning(1200, 1800), *quiet(1800, 2500)])
    async with log(clean_topics) as (producer, reader):
        # Ticks written while it runs, and signals after which it is killed.
        for ticks, raised in [(130, 1), (12, 20), (8, 30), (30, 60)]:
            process = started(config)
            try:
                for outgoing in itertools.islice(frames, ticks):
                    await producer.send(outgoing)
                await told_at_least(reader, raised)
                assert process.poll() is None
            finally:
                process.kill()
                process.wait()
        process = started(config)
        try:
            for outgoing in frames:
                await producer.send(outgoing)
            await settled(reader)
        finally:
            process.kill()
            process.wait()
        wanted = await expected(reader)
        assert await said(reader) == wanted
    for phase in signal.Phase:
        assert sum(f'"phase":"{phase}"'.encode() in value for value in wanted.values()) > 10


async def test_without_snapshots_the_rules_warm_up_silently(clean_topics, state):
    settings = settings_of(clean_topics, state)
    async with log(clean_topics) as (producer, reader):
        for outgoing in [*quiet(0, 4000), *burning(4000, 4100)]:
            await producer.send(outgoing)
        async with detecting(settings):
            await settled(reader)
        before = await said(reader)
        assert before
        shutil.rmtree(state)
        cache.save(KNOWN, state)
        for outgoing in burning(4100, 4200):
            await producer.send(outgoing)
        async with detecting(settings) as service:
            await settled(reader)
            # Of 410 instants the last 180 were folded again, and then the 10 new ones.
            assert count_of(service, "frames") == (180 + 10 + 1) * 8
        after = await said(reader)
        assert {*before} < {*after} <= {*(await expected(reader))}
        assert len(await everything(reader, TOLD)) == len(after)  # nothing was said twice


async def test_without_anything_committed_all_of_the_log_is_said(clean_topics, state):
    async with log(clean_topics) as (producer, reader):
        for outgoing in [*quiet(0, 700), *burning(700, 1000)]:
            await producer.send(outgoing)
        async with detecting(settings_of(clean_topics, state)):
            await settled(reader)
        assert await said(reader) == await expected(reader) != {}


async def test_two_shards_say_together_what_one_says(clean_topics, state, tmp_path):
    cache.save(KNOWN, tmp_path / "other")
    async with log(clean_topics) as (producer, reader):
        for outgoing in [*quiet(0, 700), *burning(700, 1000)]:
            await producer.send(outgoing)
        async with detecting(settings_of(clean_topics, state, shard="0/2")) as service:
            async with detecting(settings_of(clean_topics, tmp_path / "other", shard="1/2")):
                await settled(reader)
            assert service.facts["partitions"] == [f"{t}/{n}" for t, n in SOURCES if n % 2 == 0]
        assert await said(reader) == await expected(reader) != {}


async def test_damaged_records_are_counted_and_the_stream_goes_on(clean_topics, state):
    good = written(READINGS.name, 0, [(1, 0, 90.0)], 0)
    damaged = [
        record(READINGS.name, 0, b"nonsense", [], T0_US),
        record(READINGS.name, 0, b"nonsense", [("crc", frame.crc(b"nonsense"))], T0_US),
        record(READINGS.name, 0, good.value[:-1] + b"!", good.headers, T0_US),
    ]
    async with log(clean_topics) as (producer, reader):
        second = written(READINGS.name, 0, [(1, 1, 90.0)], 1)
        await producer.send([good, damaged[0], second, *damaged[1:]])
        async with detecting(settings_of(clean_topics, state)) as service:
            await settled(reader)
            for reason in ("crc_missing", "not_arrow", "crc_wrong"):
                assert count_of(service, "records_skipped", reason=reason) == 1
        assert len(await said(reader)) == 1


@pytest.mark.parametrize(("before", "gap"), [(90, "shorter"), (10, "replaced")])
async def test_a_log_that_came_back_shorter_is_read_from_its_start(
    clean_topics, state, before, gap
):
    """Also when it has grown past the place that was read, and looks whole."""
    settings = settings_of(clean_topics, state)
    async with log(clean_topics) as (producer, reader):
        for outgoing in quiet(0, 900)[:: 90 // before]:
            await producer.send(outgoing)
        async with detecting(settings):
            await settled(reader)
    await renew(clean_topics)
    async with log(clean_topics) as (producer, reader):
        for outgoing in burning(900, 1070):
            await producer.send(outgoing)
        async with detecting(settings) as service:
            await settled(reader)
            assert count_of(service, "gaps", reason=gap) == len(SOURCES)
        rules = {signal.decode(one.value, one.headers).rule
                 for one in await everything(reader, TOLD)}  # fmt: skip
        # heat_rise too: the state of the points outlives the log.
        assert rules >= {"heat_rise", "direct"}


async def test_a_generation_that_never_comes_holds_up_once_and_is_counted(
    clean_topics, state, monkeypatch
):
    monkeypatch.setattr(loop, "_GENERATION_WAIT_S", 0.3)
    hot = [written(READINGS.name, 0, [(1, at, 90.0)], at, generation=7) for at in range(4)]
    async with log(clean_topics) as (producer, reader):
        await producer.send(hot)
        async with detecting(settings_of(clean_topics, state)) as service:
            await settled(reader)
            assert count_of(service, "generations_missed") == 1
        assert len(await said(reader)) == 1


async def test_kafka_killed_and_started_again_loses_no_signal(servers, clean_topics, state):
    frames = [*quiet(0, 700), *burning(700, 1000)]
    async with log(clean_topics) as (producer, reader):
        for outgoing in frames[:76]:
            await producer.send(outgoing)
        async with detecting(settings_of(clean_topics, state)):
            await settled(reader)
            await asyncio.to_thread(servers.kafka.kill)
            await asyncio.sleep(1)
            await asyncio.to_thread(servers.kafka.start)
            for outgoing in frames[76:]:
                await producer.send(outgoing)
            await settled(reader)
        assert await said(reader) == await expected(reader) != {}
