"""The database's side of `rejects replay`: one at a time, and what was made of which dead letter.

    note the batch -> Kafka acknowledges its frames -> note that it did

Killed in between: the batch is found unacknowledged. The next replay looks for its frames in the
log; if one is missing, the readings of that batch are written again, marked as redelivered.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from ingest.replay import Batch, Id
from sizao.db import Connection, translated
from sizao.errors import Retriable

_LOCK = 0x51_2AB
_DAY_US = 86_400_000_000
KEPT_US = 16 * _DAY_US
"""Notes outlive the dead letters, which the log keeps 14 days."""


class Unfinished(NamedTuple):
    """A batch whose frames may be in the log: topic, partition and sequence of each."""

    first_sequence: int
    began_us: int
    frames: list[tuple[str, int, int]]


class Noted(NamedTuple):
    """What replays have made of one dead letter."""

    readings: bytes
    doubtful: bool


_frames = msgspec.json.Decoder(list[tuple[str, int, int]])


async def partitions(connection: Connection) -> int:
    """How many partitions each topic has. Raises Retriable before the first registry."""
    with translated():
        cursor = await connection.execute("SELECT partitions FROM district")
        row = await cursor.fetchone()
    if row is None:
        raise Retriable("the district has no registry yet; import one")
    return int(row[0])


async def keys_of(connection: Connection, devices: Sequence[int]) -> dict[int, str]:
    """Newest key of each device id."""
    query = """
        SELECT DISTINCT ON (id) id, key FROM device WHERE id = ANY(%s) ORDER BY id, from_gen DESC"""
    with translated():
        cursor = await connection.execute(query, (list(devices),))
        return {int(row[0]): str(row[1]) for row in await cursor.fetchall()}


async def ids_of(connection: Connection, keys: Sequence[str]) -> frozenset[int]:
    """Every device that has, or had, one of these keys."""
    with translated():
        query = "SELECT DISTINCT id FROM device WHERE key = ANY(%s)"
        cursor = await connection.execute(query, (list(keys),))
        return frozenset(int(row[0]) for row in await cursor.fetchall())


async def begin(connection: Connection, now_us: int) -> None:
    """Take the lock for as long as the connection lives, and forget what has expired.

    Raises Retriable while another replay has it.
    """
    with translated():
        cursor = await connection.execute("SELECT pg_try_advisory_lock(%s)", (_LOCK,))
        row = await cursor.fetchone()
        if row is None or not row[0]:
            raise Retriable("another replay is under way; wait for its end")
        oldest_us = now_us - KEPT_US
        await connection.execute("DELETE FROM reject_replayed WHERE arrived_us < %s", (oldest_us,))
        await connection.execute(
            """
            DELETE FROM replay WHERE received_us < %s
                AND first_sequence < (SELECT max(first_sequence) FROM replay)
                AND NOT EXISTS (SELECT FROM reject_replayed WHERE batch = first_sequence)""",
            (oldest_us,),
        )


async def newest(connection: Connection) -> tuple[int, int]:
    """The writer's last sequence and the arrival of its last frame; zeros before the first."""
    with translated():
        cursor = await connection.execute(
            "SELECT coalesce(max(last_sequence), 0), coalesce(max(received_us), 0) FROM replay"
        )
        row = await cursor.fetchone()
    assert row is not None
    return int(row[0]), int(row[1])


async def unfinished(connection: Connection) -> list[Unfinished]:
    """Batches that nobody knows to be in the log, oldest first."""
    query = """
        SELECT first_sequence, began_us, frames::text FROM replay WHERE NOT acknowledged
        ORDER BY first_sequence"""
    with translated():
        cursor = await connection.execute(query)
        rows = await cursor.fetchall()
    return [Unfinished(row[0], row[1], _frames.decode(row[2])) for row in rows]


async def noted(connection: Connection, ids: Sequence[Id]) -> dict[Id, Noted]:
    """What is known of these dead letters."""
    if not ids:
        return {}
    query = """
        SELECT n.partition, n.record_offset, n.arrived_us, n.readings, r.acknowledged
        FROM unnest(%s::integer[], %s::bigint[], %s::bigint[])
            w (partition, record_offset, arrived_us)
        JOIN reject_replayed n USING (partition, record_offset, arrived_us)
        JOIN replay r ON r.first_sequence = n.batch"""
    with translated():
        cursor = await connection.execute(
            query, [list(column) for column in zip(*ids, strict=True)]
        )
        rows = await cursor.fetchall()
    found: dict[Id, Noted] = {}
    for number, offset, arrived_us, readings, acknowledged in rows:
        one = Id(number, offset, arrived_us)
        before = found.get(one, Noted(b"", doubtful=False))
        known = bytes(readings) if acknowledged else b""
        found[one] = Noted(before.readings + known, before.doubtful or not acknowledged)
    return found


async def note(connection: Connection, batch: Batch) -> int:
    """Before Kafka gets it; returns the number under which it is acknowledged.

    What a batch of unknown fate held of the same dead letters, this one holds again.
    """
    frames = [(topic, number, one.sequence) for topic, number, one in batch.frames]
    ones = [one for _, _, one in batch.frames]
    first = ones[0].sequence
    with translated():
        async with connection.transaction():
            cursor = connection.cursor()
            await cursor.execute(
                """
                DELETE FROM reject_replayed n USING replay r,
                    unnest(%s::integer[], %s::bigint[], %s::bigint[]) w (p, o, a)
                WHERE r.first_sequence = n.batch AND NOT r.acknowledged
                    AND (n.partition, n.record_offset, n.arrived_us) = (w.p, w.o, w.a)""",
                [list(column) for column in zip(*batch.notes, strict=True)],
            )
            await cursor.execute(
                """
                DELETE FROM replay WHERE NOT acknowledged
                    AND NOT EXISTS (SELECT FROM reject_replayed WHERE batch = first_sequence)"""
            )
            await cursor.execute(
                "INSERT INTO replay VALUES (%s, %s, %s, %s, %s::jsonb)",
                (
                    first,
                    ones[-1].sequence,
                    ones[0].received_us,
                    ones[-1].received_us,
                    msgspec.json.encode(frames).decode(),
                ),
            )
            await cursor.executemany(
                "INSERT INTO reject_replayed VALUES (%s, %s, %s, %s, %s)",
                [(*one, first, readings) for one, readings in batch.notes.items()],
            )
    return first


async def acknowledge(connection: Connection, first_sequence: int) -> None:
    """Every frame of the batch is in the log."""
    query = "UPDATE replay SET acknowledged = true WHERE first_sequence = %s"
    with translated():
        await connection.execute(query, (first_sequence,))
