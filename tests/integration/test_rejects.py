"""Dead letters through a corrected type into the database: late, once, whatever is killed."""

import asyncio
import json
import secrets
import signal
import sys
from contextlib import asynccontextmanager
from dataclasses import replace

import psycopg
import pytest
from fix_bridge import HEAT, SMOKE_HEAT, Device
from fix_bridge_rig import PARTITIONS, rig
from typer.testing import CliRunner

from ingest import rejects, replay_store
from ingest.archive import Archive, ArchiveSection, ArchiveSettings
from ingest.commands import app
from ingest.replay import WRITER
from sizao import clock, frame, log
from sizao.errors import BadInput, Retriable
from sizao.frame import Flag
from sizao.kafka import Outgoing, Producer
from sizao.metrics import Metrics
from sizao.service import Service
from sizao.topics import ALARMS, READINGS, REJECTS
from sizao.units import BY_NAME

SOON_S = 30
WRONG = HEAT.replace("pointer: /temperature", "pointer: /temp")
SMOKELESS = SMOKE_HEAT.replace("pointer: /smoke", "pointer: /smok")
# Dies beside Kafka: before it has the frames, or after it has them and before that is noted.
KILLED = """
import os, signal, sys
from sizao import kafka
send, when = kafka.Producer.send, sys.argv.pop(1)
async def fatal(self, records):
    if when == "after":
        await send(self, records)
    os.kill(os.getpid(), signal.SIGKILL)
kafka.Producer.send = fatal
from sizao.cli import main
main()
"""


async def sizao(made, *words):
    """A command of ours, in a thread; its end as typer's runner tells it."""
    words = [*map(str, words), "--config", str(made.config)]
    return await asyncio.to_thread(CliRunner().invoke, app, words)


async def good(made, *words):
    done = await sizao(made, *words)
    assert done.exit_code == 0, done.output
    return done.stdout


async def killed(made, when, *words):
    """Exit code of a process that dies beside Kafka."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", KILLED, when, *words, "--config", str(made.config)
    )
    async with asyncio.timeout(SOON_S):
        return await process.wait()


@pytest.fixture
async def bridge(servers, postgres_db, tmp_path):
    """A bridge before 4 heat sensors of a wrong type and a smoke detector of another."""
    name = f"x{secrets.token_hex(3)}"
    devices = [Device(f"h{i}", WRONG, carrier=name, site=i) for i in range(4)]
    devices.append(Device("s", SMOKELESS, carrier=name, site=3))
    async with rig(servers, postgres_db, tmp_path, devices) as made:
        made.name = name
        await made.start()
        yield made


RIGHT = {WRONG: HEAT, SMOKELESS: SMOKE_HEAT}


async def correct(made):
    """The corrected types come into the registry under the same names."""
    made.devices = [replace(one, document=RIGHT[one.document]) for one in made.devices]
    await made.settle_registry()


async def say(made, count):
    """Readings that the wrong type cannot read; (point, event_us) of each."""
    publisher, promised = made.publisher(made.name), set()
    base_s = clock.now_us() // 1_000_000 - 1_000
    for number in range(count):
        key, at_s = f"h{number % 4}", base_s + number
        payload = json.dumps({"temperature": 20 + number, "ts": at_s})
        publisher.publish(f"up/{made.name}/telemetry/{key}", payload, at_s)
        promised.add((made.point(made.name, key, 1), at_s * 1_000_000))
    await publisher.drain()
    assert len(publisher.acknowledged) == count
    return promised


async def say_smoke(made):
    """One of whose three fields the wrong type cannot read one; the point that is missing."""
    publisher = made.publisher(made.name)
    said = '{"state": "alarm", "smoke": 1, "temperature": 60}'
    publisher.publish(f"up/{made.name}/alarm/s", said, "smoke")
    await publisher.drain()
    return made.point(made.name, "s", BY_NAME["smoke_od_per_m"].code)


async def rejected(made, count):
    """Until the bridge has written so many dead letters of this test."""

    def enough(records):
        found = [dict(record.headers).get(rejects.BRIDGE) for record in records]
        return found.count(made.bridge.encode()) == count

    assert enough(await made.records(REJECTS, enough))


@asynccontextmanager
async def archiving(made):
    """An archive that begins where the log ended when the test began."""
    settings = ArchiveSettings(
        kafka=made.kafka,
        database=made.database_settings,
        archive=ArchiveSection(idle_s=0.2),
    )
    async with await psycopg.AsyncConnection.connect(made.database, autocommit=True) as connection:
        for (topic, number), end in made.starts.items():
            if topic in {READINGS.name, ALARMS.name}:
                await connection.execute(
                    "INSERT INTO archive_offset VALUES (%s, %s, %s)",
                    (topic, number, end),
                )
    service = Service("archive", log.setup("archive"), Metrics("archive"))
    async with asyncio.TaskGroup() as group:
        task = group.create_task(Archive(service, settings).run())
        yield
        task.cancel()


async def stored(made):
    """((point, event_us), flags) of each row."""
    async with await psycopg.AsyncConnection.connect(made.database) as connection:
        cursor = await connection.execute(
            "SELECT point, (extract(epoch FROM event) * 1000000)::bigint, flags FROM reading"
        )
        return [((row[0], row[1]), row[2]) for row in await cursor.fetchall()]


async def caught_up(made):
    """Until the archive has stored what the log holds now."""
    ends = {}
    for topic in (READINGS, ALARMS):
        reader = await made.reader(topic)
        ends |= await reader.ends()
        await reader.stop()
    query = "SELECT topic, partition, next_offset FROM archive_offset"
    async with asyncio.timeout(SOON_S):
        while True:
            async with await psycopg.AsyncConnection.connect(made.database) as connection:
                rows = await (await connection.execute(query)).fetchall()
            if all(next_offset >= ends[topic, number] for topic, number, next_offset in rows):
                return
            await asyncio.sleep(0.05)  # between two looks; the deadline is the time-out above


async def test_from_a_wrong_type_to_late_readings_each_once(bridge):
    promised, smoke = await say(bridge, 4), await say_smoke(bridge)
    stranger = bridge.publisher(bridge.name).publish
    stranger(f"up/{bridge.name}/telemetry/h9", '{"temperature": 9}', "stranger")
    await rejected(bridge, 6)
    asked = ("rejects", "replay", "--since", "1h", "--where", f"carrier={bridge.name}")
    told = await good(bridge, *asked)
    assert "still refused: 6 (missing_field 5, unknown_device 1)" in told
    await correct(bridge)
    assert "readings would be written: 5" in await good(bridge, *asked, "--dry-run")
    async with archiving(bridge):
        await caught_up(bridge)
        before = await stored(bridge)
        assert len(before) == 2, "the state and the temperature beside the bad field"
        await refused_while_another_runs(bridge, asked)

        # Killed before Kafka has anything.
        assert await killed(bridge, "before", *asked) == -signal.SIGKILL
        assert "readings written: 5" in await good(bridge, *asked)
        assert await batches(bridge) == [True]
        assert "stored before: 5" in await good(bridge, *asked)

        # Killed when Kafka has all of it, and nobody has noted that.
        bridge.devices.append(Device("h9", HEAT, carrier=bridge.name))
        await bridge.settle_registry()
        assert await killed(bridge, "after", *asked) == -signal.SIGKILL
        assert await batches(bridge) == [True, False]
        assert "readings written: 0" in await good(bridge, *asked)
        assert await batches(bridge) == [True, True]
        assert "stored before: 6" in await good(bridge, *asked)
        await caught_up(bridge)
        found = [row for row in await stored(bridge) if row not in before]
    points = [point for (point, _), _ in found]
    assert sorted(row for row, _ in found if row in promised) == sorted(promised), "each once"
    assert points.count(smoke) == points.count(bridge.point(bridge.name, "h9", 1)) == 1
    assert len(found) == 6
    assert all(flags & Flag.LATE for _, flags in found)
    await frames_are_in_order(bridge)


async def batches(made):
    """Of each batch of a replay whether Kafka is known to have it."""
    async with await psycopg.AsyncConnection.connect(made.database) as connection:
        query = "SELECT acknowledged FROM replay ORDER BY first_sequence"
        return [row[0] for row in await (await connection.execute(query)).fetchall()]


async def refused_while_another_runs(made, asked):
    async with await psycopg.AsyncConnection.connect(made.database) as connection:
        await connection.execute("SELECT pg_advisory_lock(%s)", (replay_store._LOCK,))
        done = await sizao(made, *asked)
    assert isinstance(done.exception, Retriable)
    assert "another replay is under way" in str(done.exception)


async def frames_are_in_order(made):
    """The replays' frames between the bridge's: sequence and arrival never go back."""
    records = await made.records(READINGS, lambda found: len(found) > 3 * PARTITIONS)
    frames = [frame.decode(record.value, record.headers) for record in records]
    mine = [one for one in frames if one.writer == WRITER and one.rows]
    assert mine
    for number in range(PARTITIONS):
        here = [
            one
            for one, record in zip(frames, records, strict=True)
            if record.partition == number and one.writer == WRITER
        ]
        for kind in ("sequence", "received_us"):
            values = [getattr(one, kind) for one in here]
            assert values == sorted(set(values))
    heartbeats = {one.writer for one in frames if not one.rows}
    assert heartbeats == {f"{made.bridge}.alarm", f"{made.bridge}.telemetry"}


async def test_list_and_show(bridge, tmp_path):
    await say(bridge, 3)
    raw = b'\x00\xff{"temperature": \x1b[2J'
    bridge.publisher(bridge.name).publish(f"up/{bridge.name}/telemetry/h0", raw, 9)
    await bridge.publisher(bridge.name).drain()
    await rejected(bridge, 4)
    await spoil(bridge)
    mine = ("--where", f"carrier={bridge.name}")
    rows = [
        json.loads(line)
        for line in (await good(bridge, "rejects", "list", "--json", *mine)).splitlines()
    ]
    assert [row["reason"] for row in rows] == ["missing_field"] * 3 + ["not_json"]
    assert [row["device"] for row in rows] == ["h0", "h1", "h2", "h0"]
    assert rows[3]["head_hex"] == raw.hex()
    counted = await good(bridge, "rejects", "list", "--count", "--json", *mine)
    assert {"reason": "not_json", "carrier": bridge.name, "rejects": 1} in map(
        json.loads, counted.splitlines()
    )
    done = await sizao(bridge, "rejects", "list", "--limit", "5000")
    assert "unreadable" in done.stdout
    assert "cannot be read (ADR 4)" in done.stderr
    assert rows[3]["id"] in done.stdout
    assert "\x1b" not in done.stdout
    cut = await sizao(bridge, "rejects", "list", "--limit", "2", *mine)
    assert "the newest 2 of 4: --limit shows more" in cut.stderr
    await shows(bridge, rows, raw, tmp_path)


async def spoil(made):
    """Records that are no dead letters of ours."""
    producer = Producer(made.kafka, client_id="spoil")
    await producer.start()
    await producer.send(
        [
            Outgoing(topic=REJECTS.name, partition=1, value=b"hello"),
            Outgoing(
                topic=REJECTS.name,
                partition=2,
                value=b"x",
                headers=[(frame.CRC_HEADER, b"00000000")],
            ),
        ]
    )
    await producer.stop()


async def shows(made, rows, raw, tmp_path):
    told = await good(made, "rejects", "show", rows[0]["id"])
    assert '"temperature": 20' in told
    assert "refused: missing_field: temperature_c (h0)" in told
    (tmp_path / "heat.yaml").write_text(HEAT)
    told = await good(made, "rejects", "show", rows[0]["id"], "--type", tmp_path / "heat.yaml")
    assert "h0 temperature_c 20 degC" in told
    told = await good(made, "rejects", "show", rows[3]["id"])
    assert raw[:8].hex(" ") in told
    file = tmp_path / "payload"
    await good(made, "rejects", "show", rows[3]["id"], "--payload", str(file))
    assert file.read_bytes() == raw
    wrongs = {"9:1": "partitions are 0 to 3", "0:999999": "not in the log", "x": "expected an id"}
    told = await good(made, "rejects", "list", "--json", "--limit", "5000")
    damaged = [json.loads(line) for line in told.splitlines() if "crc_wrong" in line][-1]
    told = await good(made, "rejects", "show", damaged["id"])
    assert "cannot be read: crc_wrong" in told
    for wrong, words in wrongs.items():
        done = await sizao(made, "rejects", "show", wrong)
        assert isinstance(done.exception, BadInput)
        assert words in str(done.exception)
