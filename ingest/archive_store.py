"""The archive's side of the database: rows and offsets in one transaction.

Theory of operation: `archive_offset` says which record of a partition comes next. A batch moves it
from where the batch began to where it ended, `WHERE next_offset = began`, and stores the rows in
the same transaction. If another archive was faster, or a commit that looked failed had succeeded,
the update finds nothing, the transaction is undone and `Moved` is raised: the caller reads the
place again. So a row is stored exactly once without a unique index. It would be so with
`synchronous_commit = off` too (rows and place are lost together and read again: tested); it stays
on, because at two commits a second it costs nothing and spares the second reading.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import msgspec

from ingest.archive_place import Place, Repair
from ingest.rows import COPY
from sizao.db import Connection, DatabaseSettings, connected, translated
from sizao.errors import Retriable, SizaoError
from sizao.kafka import Partition

_PLACES = """
    SELECT topic, partition, next_offset, writer, sequence, received_us, writers::text, repair::text
    FROM archive_offset WHERE (topic, partition) IN (
        SELECT * FROM unnest(%s::text[], %s::integer[]))"""
_FIRST = """
    INSERT INTO archive_offset (topic, partition, next_offset) VALUES (%s, %s, %s)
    ON CONFLICT DO NOTHING"""
_MOVE = """
    UPDATE archive_offset SET next_offset = %s, writer = %s, sequence = %s, received_us = %s,
        writers = %s::jsonb, repair = %s::jsonb, moved_at = now()
    WHERE topic = %s AND partition = %s AND next_offset = %s"""

_writers = msgspec.json.Decoder(dict[str, int])
_repair = msgspec.json.Decoder(Repair)


class Moved(SizaoError):
    """Another archive, or a commit of ours that looked failed, has moved an offset."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """From the offset that the database should still have to a new place."""

    expected: int
    place: Place


class Store:
    """One dedicated connection, opened when needed, dropped after an error. Used by one task."""

    def __init__(self, settings: DatabaseSettings) -> None:
        """Connects at the first use."""
        self._settings = settings
        self._open = AsyncExitStack()
        self._connection: Connection | None = None
        self._covered: set[int] = set()

    async def close(self) -> None:
        """Drop the connection; the next use makes another."""
        self._connection = None
        self._covered.clear()
        await self._open.aclose()

    @asynccontextmanager
    async def _transaction(self) -> AsyncIterator[Connection]:
        """A transaction; an error or a cancellation undoes it and drops the connection."""
        try:
            if self._connection is None:
                self._connection = await self._open.enter_async_context(
                    connected(self._settings, "archive")
                )
            with translated():
                async with self._connection.transaction():
                    yield self._connection
        except BaseException:
            await self.close()
            raise

    async def partitions(self) -> int:
        """How many partitions the district has. Raises Retriable before the first registry."""
        async with self._transaction() as connection:
            cursor = await connection.execute("SELECT partitions FROM district")
            row = await cursor.fetchone()
        if row is None:
            raise Retriable("the district has no registry yet; import one")
        return int(row[0])

    async def places(self, firsts: Mapping[Partition, int]) -> dict[Partition, Place]:
        """Where to read on; a partition never stored begins at its offset in `firsts`."""
        wanted = sorted(firsts)
        async with self._transaction() as connection:
            cursor = connection.cursor()
            await cursor.executemany(_FIRST, [(*pair, firsts[pair]) for pair in wanted])
            topics, numbers = zip(*wanted, strict=True)
            await cursor.execute(_PLACES, (list(topics), list(numbers)))
            rows = await cursor.fetchall()
        return {(row[0], row[1]): _place(*row[2:]) for row in rows}

    async def cover(self, hours: Iterable[int], hour_us: int) -> None:
        """Make sure that partitions for these hours (since 1970) exist."""
        missing = sorted(set(hours) - self._covered)
        if not missing:
            return
        seconds = [hour * hour_us // 1_000_000 for hour in missing]
        async with self._transaction() as connection:
            await connection.execute(
                "SELECT reading_cover(array_agg(to_timestamp(s))) FROM unnest(%s::bigint[]) s",
                (seconds,),
            )
        self._covered.update(missing)

    async def store(self, moves: Mapping[Partition, Move], rows: bytearray | None) -> None:
        """Move the offsets, and store a COPY of rows, or neither.

        Raises Moved, Retriable. After Retriable or a cancellation the transaction may have been
        committed: repeat it, and Moved tells.
        """
        # Sorted: two archives lock in the same order.
        parameters = [_parameters(pair, moves[pair]) for pair in sorted(moves)]
        async with self._transaction() as connection:
            cursor = connection.cursor()
            await cursor.executemany(_MOVE, parameters)
            if cursor.rowcount != len(moves):
                raise Moved(f"{cursor.rowcount} of {len(moves)} offsets stood where expected")
            if rows is not None:
                async with cursor.copy(COPY) as copy:
                    await copy.write(rows)


def _place(
    next_offset: int, writer: str, sequence: int, received_us: int, writers: str, repair: str | None
) -> Place:
    return Place(
        next_offset=next_offset,
        writer=writer,
        sequence=sequence,
        received_us=received_us,
        writers=_writers.decode(writers),
        repair=None if repair is None else _repair.decode(repair),
    )


def _parameters(pair: Partition, move: Move) -> tuple[str | int | None, ...]:
    place = move.place
    return (
        place.next_offset,
        place.writer,
        place.sequence,
        place.received_us,
        msgspec.json.encode(place.writers).decode(),
        None if place.repair is None else msgspec.json.encode(place.repair).decode(),
        *pair,
        move.expected,
    )
