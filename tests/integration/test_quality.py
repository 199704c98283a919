"""Quality against real Kafka and PostgreSQL: exact whatever dies; what is bad, and what says so."""

import asyncio
import json
import random
import sys
from collections import Counter
from dataclasses import dataclass, field
from datetime import date

import numpy as np
import psycopg
import pytest
from fix_quality import DAY, UTC8_MIN, totals
from typer.testing import CliRunner

from ingest import quality, rejects
from ingest.archive import ArchiveSection, ArchiveSettings
from ingest.commands import app
from ingest.device_types.reasons import Reason
from ingest.mqtt.message import Message
from ingest.onboarding import shipped
from ingest.quality import COUNTS
from ingest.quality_clock import SECOND_US
from ingest.quality_fault import Params
from ingest.quality_loop import QualitySection
from ingest.quality_rows import roster
from ingest.quality_store import QualityStore
from ingest.refused import Fault, Refused
from sizao import db, frame, signal
from sizao.errors import BadInput
from sizao.frame import Frame
from sizao.kafka import KafkaSettings, Outgoing, Producer, Reader, make_topics
from sizao.registry.load import load
from sizao.registry.write import AreaRow, CarrierRow, Change, DeviceRow, TypeRow, apply
from sizao.signal import Phase
from sizao.topics import ALARMS, CONDITIONS, READINGS, REJECTS
from sizao.units import Lane

PARTITIONS = 4
DEADLINE_S = 60.0
STEP_S = 60  # a frame each minute of the log's clock, not each second: the same in a sixtieth
RUN = f"""
import sys, pathlib, ingest.archive as archive, ingest.quality as quality
quality.LISTEN_US_MAX = {STEP_S * SECOND_US}
archive.process(pathlib.Path(sys.argv[1]))
"""
UNJUDGED = f"""
import asyncio, ingest.quality_loop as loop
loop.Quality._judge = lambda *_: asyncio.sleep(0)
{RUN}"""
DAY_S = 86_400
BEGIN_S = 1_772_377_200  # 2026-03-01T15:00:00Z, an hour before midnight in China
FIRST = date(2026, 3, 2)
FIRST_DAY = (FIRST - date(1970, 1, 1)).days
TEMPERATURE = 1
DOCUMENT = dict(shipped())["generic/heat.yaml"].replace(
    "expected_interval_s: 10", "expected_interval_s: 600"
)
BEFORE = DAY - FIRST_DAY  # fix_quality counts from another day
KEYS = ("good", "gaps", "silent", "isolated", "planned", "noisy")


@dataclass
class Place:
    settings: ArchiveSettings
    dsn: str
    config: object
    producer: Producer
    points: dict = field(default_factory=dict)
    devices: dict = field(default_factory=dict)
    partition: int = 0
    ends: dict = field(default_factory=dict)

    def query(self, text, *parameters):
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            cursor = connection.execute(text, parameters)
            return cursor.fetchall() if cursor.description else []

    def run(self, *words):
        done = CliRunner().invoke(
            app, ["quality", *words, "--config", str(self.config)], catch_exceptions=False
        )
        assert done.exit_code == 0, done.output
        return done.stdout


async def until(condition):
    async with asyncio.timeout(DEADLINE_S):
        while not (said := await asyncio.to_thread(condition)):  # noqa: ASYNC110 - servers
            await asyncio.sleep(0.02)  # between two looks, within a time-out
    return said


@pytest.fixture
async def place(servers, postgres_db, settings, tmp_path):
    kafka = KafkaSettings(bootstrap=servers.kafka.bootstrap)
    section = ArchiveSection(quality=QualitySection(flush_s=0.2))
    all_of_it = ArchiveSettings(kafka=kafka, database=settings, archive=section)
    config = tmp_path / "sizao.yaml"
    config.write_text(all_of_it.model_dump_json())  # JSON is YAML
    await make_topics(kafka, partitions=PARTITIONS)
    producer = Producer(kafka, client_id="test")
    await producer.start()
    made = Place(all_of_it, postgres_db, config, producer)
    await _register(made)
    await _begin_at_the_end(made)
    yield made
    await producer.stop()


async def _register(place):
    states = {"isolated": "isolated", "planned": "planned"}
    change = Change(
        areas=[AreaRow("d", "", "district", "区", "D"), AreaRow("s", "d", "site", "楼", "House")],
        carriers=[CarrierRow("c")],
        types=[TypeRow("generic.heat", DOCUMENT, [TEMPERATURE])],
        devices=[
            DeviceRow(key, "c", "generic.heat", "s", 1, state=states.get(key, "in_service"))
            for key in KEYS
        ],
    )
    async with db.connected(place.settings.database, "test") as connection:
        await db.migrate(connection)
        await apply(connection, change, cause="test", partitions=PARTITIONS)
        view = (await load(connection, PARTITIONS)).newest
    place.devices = view.roster["c"]
    of = view.point_device.tolist()
    place.points = {key: of.index(device) for key, device in place.devices.items()}
    (place.partition,) = {area.partition for area in view.areas.values()} - {-1}


async def _begin_at_the_end(place):
    topics = (READINGS, ALARMS, REJECTS, CONDITIONS)
    pairs = [(topic.name, number) for topic in topics for number in range(PARTITIONS)]
    reader = Reader(place.settings.kafka, pairs, client_id="test")
    await reader.start()
    place.ends = await reader.ends()
    await reader.stop()
    for (topic, number), end in place.ends.items():
        for table in ("quality_offset", "archive_offset"):
            place.query(
                f"INSERT INTO {table} (topic, partition, next_offset) VALUES (%s, %s, %s)",
                topic, number, end,
            )  # fmt: skip


def frames(place):
    """Three days, a bit before them and a bit behind, of words each ten minutes."""
    for n in range((3 * DAY_S + 3 * 3_600) // STEP_S):
        at_us = (BEGIN_S + n * STEP_S) * SECOND_US
        day, who = day_of(at_us), set()
        if n % 10 == 0:
            who |= {"good"} | ({"isolated"} if day < 1 else set())
        if n % 10 == 1 and (n % 30 == 1 or day == 2):
            who |= {"gaps"}  # one of three, but all of them on the last day
        if n % 10 == 2 and day != 0:
            who |= {"silent"}
        points = sorted(place.points[key] for key in who)
        yield Frame(
            point=np.array(points, np.uint32),
            event_us=np.full(len(points), at_us + 7),
            value=np.full(len(points), 20 + n % 7, np.float32),
            flags=np.full(len(points), n // 10 % 2, np.uint8),
            received_us=at_us,
            generation=1,
            writer="t0.telemetry",
            sequence=n,
        )


def day_of(at_us):
    """Whole days in China since the midnight behind BEGIN_S."""
    return (at_us // SECOND_US + UTC8_MIN * 60) // DAY_S - FIRST_DAY


def letters(place):
    """A flood of one device each hour, and sometimes a value beyond all bounds of another."""
    noisy, good = place.devices["noisy"], place.devices["good"]
    for hour in range(3 * 24):
        at_us = (BEGIN_S + 3_600 + hour * 3_600) * SECOND_US
        yield at_us, noisy, Reason.TOO_OFTEN, 40
        if hour % 3 == 0:
            yield at_us + 1, good, Reason.OUT_OF_RANGE, 1


def records(place):
    found = []
    for one in frames(place):
        value = frame.encode(one)
        found.append(
            Outgoing(topic=READINGS.name, partition=place.partition, value=value,
                     headers=frame.headers(value))
        )  # fmt: skip
    refused = [
        rejects.record(
            Message(b"up/c/telemetry/x", b"raw", at_us, dup=False, epoch=1, packet_id=1),
            Refused(0, (Fault(reason, "", device),), whole=True, devices=()),
            lane=Lane.TELEMETRY, bridge="t0", partitions=PARTITIONS, count=count, stored=b"",
        )
        for at_us, device, reason, count in letters(place)
    ]  # fmt: skip
    return refused, found


def expected(place):
    """(day, device) -> counts, by one fold of all that was sent, and of what can be by hand."""
    store = QualityStore(place.settings.database)

    async def tables():
        try:
            return roster(await store.tables())
        finally:
            await store.close()

    state = quality.start(asyncio.run(tables()), [place.partition], UTC8_MIN)
    by_hand = Counter()
    for one in frames(place):
        quality.fold(state, place.partition, one)
        for point in one.point.tolist():
            by_hand[day_of(one.received_us) - BEFORE, point] += 1
    found = totals(quality.settle(state))
    for at_us, device, reason, count in letters(place):
        row = found[day_of(at_us) - BEFORE, device]
        row["rejects"] += count
        row["out_of_range"] += count * (reason is Reason.OUT_OF_RANGE)
    for (day, point), count in by_hand.items():
        (key,) = {key for key, of in place.points.items() if of == point}
        assert found[day, place.devices[key]]["received"] == count
    return found


async def test_killed_at_any_point_it_counts_everything_once_and_says_what_stays_bad(
    place, monkeypatch
):
    monkeypatch.setattr(quality, "LISTEN_US_MAX", STEP_S * SECOND_US)
    rng = random.Random(2026)
    refused, found = records(place)
    pair = (READINGS.name, place.partition)
    end = place.ends[pair] + len(found)
    sent = 0

    def stands():
        where = "SELECT next_offset FROM quality_offset WHERE (topic, partition) = (%s, %s)"
        return place.query(where, *pair)[0][0]

    await place.producer.send(refused)
    while sent < len(found):
        some = found[sent : sent + len(found) // 3 + 1]
        sent += len(some)
        last = sent == len(found)  # killed when all is counted, and the last days are not judged
        process = await begun(place, UNJUDGED if last else RUN)
        enough = end if last else stands() + 1
        await place.producer.send(some)
        await until(lambda enough=enough: stands() >= enough)
        await asyncio.sleep(rng.uniform(0, 0.4))  # killed at any point
        process.kill()
        await process.wait()
    process = await begun(place)
    try:
        await until(lambda: place.query("SELECT 1 FROM quality_offset WHERE judged = '2026-03-04'"))
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()
    names = ", ".join(COUNTS)
    rows = place.query(f"SELECT day, device, {names} FROM device_day")
    stored = {
        ((day - FIRST).days - BEFORE, device): dict(zip(COUNTS, counts, strict=True))
        for day, device, *counts in rows
    }
    assert stored == await asyncio.to_thread(expected, place)
    await says(place)
    await asyncio.to_thread(people, place)


async def begun(place, what=RUN):
    with place.config.with_name("archive.log").open("a", encoding="utf-8") as log:
        return await asyncio.create_subprocess_exec(
            sys.executable, "-c", what, str(place.config), stderr=log
        )


async def says(place):
    reader = Reader(place.settings.kafka, [(CONDITIONS.name, place.partition)], client_id="test")
    await reader.start()
    reader.seek((CONDITIONS.name, place.partition), place.ends[CONDITIONS.name, place.partition])
    said = {}
    async with asyncio.timeout(DEADLINE_S):
        while len(said) < 7:
            for record in await reader.fetch(200):
                one = signal.decode(record.value, record.headers)
                said[one.id] = one
    await reader.stop()
    key = {device: key for key, device in place.devices.items()}
    told = sorted((key[one.device], one.event_us, one.phase) for one in said.values())
    assert [(who, phase) for who, _, phase in told] == [
        ("gaps", Phase.RAISE), ("gaps", Phase.CLEAR),
        ("noisy", Phase.RAISE), ("noisy", Phase.REFRESH), ("noisy", Phase.REFRESH),
        ("silent", Phase.RAISE), ("silent", Phase.CLEAR),
    ]  # fmt: skip
    by_key = {key[one.device]: one for one in said.values() if one.phase is Phase.RAISE}
    midnight_us = (BEGIN_S + 3_600) * SECOND_US
    assert {one.onset_us for one in by_key.values()} == {midnight_us}
    assert by_key["gaps"].event_us == midnight_us + 2 * DAY_S * SECOND_US
    assert place.query("SELECT device FROM quality_fault") == [(place.devices["noisy"],)]


def people(place):
    """The view and the command."""
    rows = json.loads(place.run("--json"))
    told = {row["device"]: row for row in rows}
    assert [row["device"] for row in rows] == ["noisy", "isolated", "gaps", "silent"]
    assert told["noisy"]["why"] == ["rejects", "silent"]
    assert told["noisy"]["by_reason"] == {"too_often": 3 * 24 * 40}
    assert told["gaps"]["bad_days"] == 2
    assert told["silent"]["last_bad_day"] == str(FIRST)
    lines = place.run("--day", str(FIRST), "--site", "s", "--type", "generic.heat").splitlines()
    assert [line.split()[0] for line in lines[2:]] == ["silent", "noisy", "gaps"]
    assert "rejects, silent (too_often 960)" in lines[3]
    assert place.run("--day", "2020-01-01").strip() == "2020-01-01: no bad device"
    with pytest.raises(BadInput, match=r"--type generic.hear: .*nearest: generic.heat"):
        place.run("--type", "generic.hear")


async def test_a_quality_that_cannot_count_holds_up_no_reading(place):
    place.query("DROP TABLE quality_params CASCADE")
    _, found = records(place)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", RUN, str(place.config), stderr=asyncio.subprocess.PIPE
    )
    try:
        async with asyncio.timeout(DEADLINE_S):
            while b"quality begins again" not in await process.stderr.readline():
                pass
        await place.producer.send(found[:600])
        rows = sum(frame.decode(one.value, one.headers).rows for one in found[:600])
        await until(lambda: place.query("SELECT count(*) FROM reading") == [(rows,)])
        assert process.returncode is None
    finally:
        process.terminate()
        await process.communicate()


JUDGED = [
    ({}, []),
    ({"received": 0}, []),
    ({"received": 0, "missed": 1}, ["silent"]),
    ({"received": 0, "missed": 1, "seconds": 21_599}, []),
    ({"missed": 15}, ["gaps"]),
    ({"missed": 14}, []),
    ({"missed": 2, "seconds": 21_600, "interval_s": 21_600}, []),
    ({"missed": 3, "seconds": 21_600, "interval_s": 0}, ["gaps"]),
    ({"received": 90, "rejects": 10}, ["rejects"]),
    ({"received": 91, "rejects": 9}, []),
    ({"received": 90, "rejects": 10, "out_of_range": 10}, ["out_of_range"]),
    ({"received": 80, "rejects": 20, "out_of_range": 10}, ["rejects", "out_of_range"]),
    ({"received": 100, "corrected": 10}, ["clock"]),
    ({"received": 100, "corrected": 9}, []),
    ({"stuck": 1}, ["stuck"]),
]


async def test_what_a_bad_day_is(place):
    store = QualityStore(place.settings.database)
    await store.params(Params())
    await store.params(Params())
    await store.close()
    said = await asyncio.to_thread(place.run)
    assert said.strip() == "no day is counted yet; `sizao archive` counts"
    names = ("interval_s", *COUNTS)
    usual = dict.fromkeys(names, 0) | {"interval_s": 600, "seconds": 86_400, "received": 144}
    for number, (changes, _) in enumerate(JUDGED, 1):
        row = usual | changes
        place.query(
            f"INSERT INTO device_day (day, device, {', '.join(names)})"
            f" VALUES ('2026-03-02', %s, {', '.join(['%s'] * len(names))})",
            number, *(row[name] for name in names),
        )  # fmt: skip
    found = place.query("SELECT why, score, bad FROM device_day_judged ORDER BY device")
    assert [why for why, _, _ in found] == [why for _, why in JUDGED]
    assert all((score > 0) == bool(why) == bad for why, score, bad in found)
    assert max(score for _, score, _ in found) == 1


async def test_a_long_report_is_not_cut_off_by_the_limit_of_a_statement(place):
    quick = place.settings.database.model_copy(update={"statement_timeout_ms": 100})
    settings = place.settings.model_copy(update={"database": quick})
    place.config.write_text(settings.model_dump_json())
    waits = (
        "SELECT 1 FROM pg_stat_activity WHERE application_name = 'sizao-quality'"
        " AND wait_event_type = 'Lock' AND clock_timestamp() - query_start > '200ms'"
    )
    async with await psycopg.AsyncConnection.connect(place.dsn) as other:
        await other.execute("LOCK TABLE device_day")
        async with asyncio.TaskGroup() as group:
            said = group.create_task(asyncio.to_thread(place.run))
            await until(lambda: said.done() or place.query(waits))
            await other.commit()
    assert said.result().strip() == "no day is counted yet; `sizao archive` counts"
