"""What roll-ups cost beside the raw rows: `python -m deploy.local.bench_rollups`.

Some minutes of readings through the archive's own functions into a real PostgreSQL, as often
without roll-ups as with them; CPU of this process and of the server's backend by reading and by
rolled row, size on disk, and how long a question for one point takes. JSON on standard output.
Without Kafka: that side does not change. The flat table is what the parts were chosen over.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import resource
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from psycopg.conninfo import conninfo_to_dict

from deploy.local.places import private_place, remove_run
from deploy.local.postgres import Postgres
from ingest import rollup, rows
from ingest.archive_store import Load, Move
from ingest.rollup import Heard
from ingest.rollup_parts import MINUTE_US, Parts, redelivered
from ingest.rollup_store import RollupStore
from sizao.clock import monotonic_s
from sizao.db import Connection, DatabaseSettings, connected, migrate
from sizao.frame import Frame
from sizao.kafka import Partition

PAIR: Partition = ("sizao.readings.v1", 0)
BASE_US = 1_772_352_000_000_000
BATCH, FRAME = 40_000, 2_000  # rows: of a transaction, of a frame
DAY_MINUTES = 1_440
SHAPES = {
    "400,000 points, 6 a minute": (400_000, 6),
    "1,200,000 points, 2 a minute": (1_200_000, 2),
}
_FLAT = """
    CREATE TABLE flat (point integer, minute timestamptz, count integer, low real, high real,
        total float8, first_us integer, first real, last_us integer, last real, flags smallint);
    CREATE INDEX flat_point ON flat (point, minute)"""
_FILL = """
    INSERT INTO flat SELECT b.block * 32 + u.slot, b.minute, u.count, u.low, u.high, u.total,
        u.first_us, u.first, u.last_us, u.last, u.flags
    FROM (SELECT * FROM reading_minute_part WHERE minute = to_timestamp(%s)) b
    CROSS JOIN LATERAL unnest(b.slot, b.count, b.low, b.high, b.total, b.first_us, b.first,
        b.last_us, b.last, b.flags)
        u (slot, count, low, high, total, first_us, first, last_us, last, flags)
    ORDER BY 1"""


@dataclass
class Cpu:
    """Seconds of this process and of the server's backends since it was made."""

    backends: list[int]
    client_s: float = field(default=0.0)
    server_s: float = field(default=0.0)

    def __post_init__(self) -> None:
        self._client_s, self._server_s = self._now()

    def _now(self) -> tuple[float, float]:
        used = resource.getrusage(resource.RUSAGE_SELF)
        tick = os.sysconf("SC_CLK_TCK")
        server = 0
        for backend in self.backends:
            words = Path(f"/proc/{backend}/stat").read_text().rsplit(")", 1)[1].split()
            server += int(words[11]) + int(words[12])
        return used.ru_utime + used.ru_stime, server / tick

    def stop(self) -> None:
        """Keep what was used."""
        client_s, server_s = self._now()
        self.client_s += client_s - self._client_s
        self.server_s += server_s - self._server_s


def frames(rng: np.random.Generator, points: int, minute: int, count: int) -> list[Frame]:
    """A batch's worth of readings somewhere in a minute."""
    received_us = BASE_US + minute * MINUTE_US + count * MINUTE_US // 60
    return [
        Frame(
            point=rng.integers(1, points, FRAME).astype(np.uint32),
            event_us=received_us - rng.integers(0, MINUTE_US // 60, FRAME),
            value=rng.normal(20, 2, FRAME).astype(np.float32),
            flags=np.zeros(FRAME, np.uint8),
            received_us=received_us,
            generation=1,
            writer="b0.telemetry",
            sequence=count * 100 + number,
        )
        for number in range(BATCH // FRAME)
    ]


async def run(
    settings: DatabaseSettings, points: int, each: int, minutes: int, *, rolled: bool
) -> dict[str, Any]:
    """All minutes; the readings are made outside of the measured time."""
    rng = np.random.default_rng(1)
    store = RollupStore(settings)
    place = (await store.places({PAIR: 0}))[PAIR]
    state = rollup.start(await store.rollups({PAIR: place}))
    async with store._transaction() as connection:  # noqa: SLF001 - which backend serves it
        backend = connection.info.backend_pid
    cpu, settle = Cpu([backend]), Cpu([backend])
    readings = parts = 0
    longest_s = 0.0
    for minute in range(minutes):
        for count in range(points * each // BATCH):
            batch = frames(rng, points, minute, count)
            await store.cover({one.received_us // 3_600_000_000 for one in batch}, 3_600_000_000)
            cpu.__post_init__()
            built = rows.build(batch)
            load = Load(plain=built, again=rows.build([]), in_time=(), late=())
            await store.store({PAIR: Move(expected=place.next_offset, place=place)}, load)
            if rolled:
                heard = [Heard(PAIR, place.next_offset, one) for one in batch]
                rollup.take(state, heard, 0.0)
            cpu.stop()
            readings += built.count
        if rolled:
            settle.__post_init__()
            began_s = monotonic_s()
            done = rollup.settle(state, BASE_US + (minute + 1) * MINUTE_US)
            await store.settle(state.places, done.places, done.parts)
            rollup.settled(state, done)
            longest_s = max(longest_s, monotonic_s() - began_s)
            settle.stop()
            parts += sum(map(len, done.parts))
    await store.close()
    told: dict[str, Any] = {
        "readings": readings,
        "client_us": round((cpu.client_s + settle.client_s) / readings * 1e6, 3),
        "server_us": round((cpu.server_s + settle.server_s) / readings * 1e6, 3),
    }
    if rolled:
        told |= {
            "parts": parts,
            "settle_client_us_a_part": round(settle.client_s / parts * 1e6, 3),
            "settle_server_us_a_part": round(settle.server_s / parts * 1e6, 3),
            "longest_settle_s": round(longest_s, 2),
        }
    return told


async def ask(connection: Connection, points: int, minutes: int) -> dict[str, Any]:
    """Size, and the time of the question, one point after the other."""
    sizes = """SELECT sum(pg_table_size(inhrelid)), sum(pg_indexes_size(inhrelid)),
            sum((SELECT sum(c.reltuples) FROM pg_class c WHERE c.oid = inhrelid))
        FROM pg_inherits WHERE inhparent = 'reading_minute_part'::regclass"""
    table, index, _ = (await (await connection.execute(sizes)).fetchone()) or (0, 0, 0)
    took = []
    for point in np.random.default_rng(2).integers(1, points, 200).tolist():
        began_s = monotonic_s()
        await connection.execute(
            "SELECT * FROM reading_minutes(ARRAY[%s::integer], to_timestamp(%s), to_timestamp(%s))",
            (point, BASE_US // 1_000_000, BASE_US // 1_000_000 + minutes * 60),
        )
        took.append((monotonic_s() - began_s) * 1000)
    return {
        "table_mb": round(int(table) / 1e6, 1),
        "index_mb": round(int(index) / 1e6, 1),
        "ask_ms_p50": round(float(np.median(took)), 2),
        "ask_ms_p99": round(float(np.quantile(took, 0.99)), 2),
    }


async def day(settings: DatabaseSettings) -> dict[str, Any]:
    """One point over a whole day among 3,200 points that speak each minute."""
    parts: list[Parts] = []
    for minute in range(DAY_MINUTES):
        point = np.arange(3_200, dtype=np.uint32)
        event_us = np.full(3_200, BASE_US + (DAY_MINUTES + minute) * MINUTE_US)
        made = Frame(
            point=point, event_us=event_us, value=np.zeros(3_200, np.float32),
            flags=np.full(3_200, 2, np.uint8), received_us=BASE_US, generation=1, writer="b",
            sequence=1,
        )  # fmt: skip
        parts += redelivered([made])
    store = RollupStore(settings)
    none = rows.build([])
    await store.store({}, Load(plain=none, again=none, in_time=(), late=(), parts=parts))
    await store.close()
    took = []
    async with connected(settings, "bench") as connection:
        await connection.execute("VACUUM ANALYZE")
        for asked in range(0, 3_200, 64):
            began_s = monotonic_s()
            begin = BASE_US // 1_000_000 + 86_400
            cursor = await connection.execute(
                "SELECT * FROM reading_minutes(ARRAY[%s::integer], to_timestamp(%s),"
                " to_timestamp(%s))",
                (asked, begin, begin + 86_400),
            )
            assert len(await cursor.fetchall()) == DAY_MINUTES
            took.append((monotonic_s() - began_s) * 1000)
    return {
        "ask_day_ms_p50": round(float(np.median(took)), 2),
        "ask_day_ms_max": round(max(took), 2),
    }


async def flat(connection: Connection, minutes: int) -> dict[str, Any]:
    """The same rolled rows, flat under (point, minute), minute by minute in the order of points."""
    await connection.execute(_FLAT)
    backend = Cpu([connection.info.backend_pid])
    count = 0
    for minute in range(minutes):
        cursor = await connection.execute(_FILL, (BASE_US // 1_000_000 + minute * 60,))
        count += cursor.rowcount
    backend.stop()
    size = "SELECT pg_table_size('flat'), pg_indexes_size('flat')"
    table, index = (await (await connection.execute(size)).fetchone()) or (0, 0)
    await connection.execute("DROP TABLE flat")
    return {
        "rows": count,
        "server_us_a_row": round(backend.server_s / max(count, 1) * 1e6, 2),
        "table_mb": round(table / 1e6, 1),
        "index_mb": round(index / 1e6, 1),
    }


async def measure(postgres: Postgres, folder: Path, minutes: int) -> dict[str, Any]:
    """Every shape in a database of its own, before and after."""
    told: dict[str, Any] = {}
    for number, (name, (points, each)) in enumerate(SHAPES.items()):
        told[name] = {}
        for rolled in (False, True):
            parts = conninfo_to_dict(postgres.create_database(f"bench_{number}_{int(rolled)}"))
            secret = folder / "password"
            secret.write_text(str(parts["password"]))
            settings = DatabaseSettings(
                host=str(parts["host"]), port=int(str(parts["port"])), name=str(parts["dbname"]),
                user=str(parts["user"]), password_file=str(secret), statement_timeout_ms=300_000,
            )  # fmt: skip
            async with connected(settings, "bench") as connection:
                await migrate(connection)
                found = await run(settings, points, each, minutes, rolled=rolled)
                told[name]["after" if rolled else "before"] = found
                if rolled:
                    await connection.execute("VACUUM ANALYZE reading_minute_part")
                    told[name]["after"] |= await ask(connection, points, minutes)
                    told[name]["flat"] = await flat(connection, minutes)
                    told[name]["after"] |= await day(settings)
            postgres.drop_database(str(parts["dbname"]))
    return told


def main() -> None:
    """Start a PostgreSQL, measure, stop it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=int, default=3, choices=range(1, 61), metavar="1..60")
    minutes = parser.parse_args().minutes
    folder = private_place(f"bench-rollups-{os.getpid()}")
    postgres = Postgres(folder / "postgres")
    try:
        postgres.start()
        print(json.dumps(asyncio.run(measure(postgres, folder, minutes)), indent=1))
    finally:
        postgres.stop()
        remove_run(folder)


if __name__ == "__main__":
    main()
