"""Read raw readings back from the database, in slices of bounded size.

A slice is one short statement that takes no lock but the reader's own, in a session that can only
read: neither the archive nor its retention waits for it longer than that. The server packs each
column into one binary value (1.9 us a row, where COPY takes 17.7 and rows 5.7: a busy machine), and
stops at `ROWS_MAX`; then the slice is halved, so that no burst of arrivals fills the memory.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np

from detectors.rebuild import Readings
from sizao.db import Connection, DatabaseSettings, connected, translated
from sizao.errors import Permanent, TooSlow

ROWS_MAX = 500_000
"""Of a slice: 12 MB, and three times that while it is sorted."""
STATEMENT_S = 60
LOCK_S = 5
_FIRST_US = 60_000_000
_LONGEST_US = 3_600_000_000
_SHORTEST_US = 1_000
_POSTGRES_EPOCH_US = 946_684_800_000_000  # timestamptz counts from 2000-01-01
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

# Without a sort or workers, rows come in the order in which they lie, which is that of their COPY.
_SESSION = f"""
    SET default_transaction_read_only = on;
    SET statement_timeout = '{STATEMENT_S}s';
    SET lock_timeout = '{LOCK_S}s';
    SET max_parallel_workers_per_gather = 0;
    SET synchronize_seqscans = off"""
_SLICE = """
    SELECT count(*), string_agg(timestamptz_send(received), ''),
        string_agg(timestamptz_send(event), ''), string_agg(int4send(point), ''),
        string_agg(float4send(value), ''), string_agg(int2send(flags), '')
    FROM (SELECT received, event, point, value, flags FROM {table}
        WHERE received >= %(from)s AND received < %(until)s{where} LIMIT %(limit)s) r"""


@dataclass(frozen=True, kw_only=True)
class Scope:
    """Which rows. `table` and `where` are texts of this room's code, never from outside."""

    table: str = "reading"
    where: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict)


def of_points(points: Sequence[int]) -> Scope:
    """Rows of some points."""
    return Scope(where=" AND point = ANY(%(points)s)", parameters={"points": list(points)})


def of_partitions(partitions: Sequence[int]) -> Scope:
    """Rows of the points of some partitions."""
    where = " AND point IN (SELECT id FROM point WHERE partition = ANY(%(partitions)s))"
    return Scope(where=where, parameters={"partitions": list(partitions)})


def of_incident(incident: str) -> Scope:
    """Rows that are kept as evidence."""
    where = " AND incident = %(incident)s"
    return Scope(table="incident_reading", where=where, parameters={"incident": incident})


@asynccontextmanager
async def reading_only(database: DatabaseSettings, application: str) -> AsyncIterator[Connection]:
    """A connection that can write nothing, and waits for nobody long. Raises Retriable."""
    async with connected(database, application, answer_s=STATEMENT_S + LOCK_S) as connection:
        with translated():
            await connection.execute(_SESSION.encode())
        yield connection


async def slices(
    connection: Connection, scope: Scope, from_us: int, until_us: int, cuts: Sequence[int] = ()
) -> AsyncIterator[tuple[int, Readings]]:
    """Readings that arrived in [from_us, until_us), in order: the end of each slice, and its rows.

    No slice reaches across a cut. Raises Retriable while the database is away, Permanent where a
    millisecond holds more than a slice.
    """
    at_us, length_us = from_us, _FIRST_US
    while at_us < until_us:
        end_us = min([at_us + length_us, until_us, *(cut for cut in cuts if cut > at_us)])
        rows = await _slice(connection, scope, at_us, end_us)
        if rows is None:
            length_us = (end_us - at_us) // 2
            if length_us < _SHORTEST_US:
                raise Permanent(
                    f"over {ROWS_MAX} readings, or {STATEMENT_S} s of reading, at"
                    f" {moment(at_us)}: expected less in {_SHORTEST_US} us"
                )
            continue
        yield end_us, rows
        if len(rows.point) < ROWS_MAX // 4:
            length_us = min(2 * length_us, _LONGEST_US)
        at_us = end_us


async def _slice(
    connection: Connection, scope: Scope, from_us: int, until_us: int
) -> Readings | None:
    """All rows of a span; None where they are too many for one slice."""
    asked = {
        **scope.parameters,
        "from": moment(from_us),
        "until": moment(until_us),
        "limit": ROWS_MAX + 1,
    }
    query = _SLICE.format(table=scope.table, where=scope.where).encode()
    try:
        with translated():
            async with connection.cursor(binary=True) as cursor:
                await cursor.execute(query, asked)
                found = await cursor.fetchone()
    except TooSlow:
        return None
    assert found is not None
    return None if found[0] > ROWS_MAX else _unpacked(found[1:])


def _unpacked(columns: Sequence[bytes | None]) -> Readings:
    """Columns as PostgreSQL sends them, each number big-endian."""
    received, event, point, value, flags = (column or b"" for column in columns)
    return Readings(
        np.frombuffer(received, ">i8").astype(np.int64) + _POSTGRES_EPOCH_US,
        np.frombuffer(event, ">i8").astype(np.int64) + _POSTGRES_EPOCH_US,
        np.frombuffer(point, ">i4").astype(np.uint32),
        np.frombuffer(value, ">f4").astype(np.float32),
        np.frombuffer(flags, ">i2").astype(np.uint8),
    )


def moment(at_us: int) -> datetime:
    """Microseconds UTC as a time, exactly."""
    return _EPOCH + timedelta(microseconds=at_us)


def micros(at: datetime) -> int:
    """A time as microseconds UTC, exactly."""
    return (at - _EPOCH) // timedelta(microseconds=1)
