"""The roll-ups' side of the database: parts and the places in the log, in one transaction.

As in `archive_store`, compare-and-set on the place undoes a transaction whose place somebody else
has moved; `Moved` tells.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

import numpy as np

from ingest import rollup_rows
from ingest.archive_place import Place
from ingest.archive_store import Load, Move, Moved, Outcome, Store, move_offsets
from ingest.rollup import HORIZON_US, RollPlace
from ingest.rollup_parts import Parts
from sizao import units
from sizao.db import Connection, DatabaseSettings
from sizao.errors import Refused, Retriable
from sizao.kafka import Partition
from sizao.topics import ALARMS, of_lane

_DAY_MINUTES = 1_440
_DAY_S = 86_400
_SALVAGE_S = 300  # ten minutes of a partition, made from the rows
_FIRST = """
    INSERT INTO rollup_offset (topic, partition, held, settled) VALUES (%s, %s, %s, %s)
    ON CONFLICT DO NOTHING"""
_PLACES = """
    SELECT topic, partition, held, settled, closed_us FROM rollup_offset
    WHERE (topic, partition) IN (SELECT * FROM unnest(%s::text[], %s::integer[]))"""
_MOVE = """
    UPDATE rollup_offset SET held = %s, settled = %s, closed_us = %s, moved_at = now()
    WHERE topic = %s AND partition = %s AND held = %s AND settled = %s AND closed_us = %s"""
# A reading lies at most a minute ahead of its arrival, and rows are found by arrival alone.
_SALVAGED = """
    FROM reading r JOIN (
        SELECT DISTINCT id FROM point WHERE partition = %(partition)s AND quantity = ANY(%(codes)s)
    ) p ON p.id = r.point
    WHERE r.received >= to_timestamp(%(since_us)s / 1000000) - interval '61 s'
        AND r.event >= to_timestamp(%(since_us)s / 1000000)
        AND r.event < to_timestamp(%(until_us)s / 1000000)"""
# What an earlier one has made of the same minutes.
_UNSALVAGE = """
    DELETE FROM reading_minute_part WHERE origin = %(origin)s
        AND minute >= to_timestamp(%(since_us)s / 1000000)"""
_SALVAGE = rollup_rows.INSERT.format(
    readings=f"{_SALVAGED} AND (r.flags & 2) = 0", origin="%(origin)s"
)


class RollupStore(Store):
    """The archive's one connection, with what roll-ups need besides."""

    def __init__(
        self, settings: DatabaseSettings, stepped: Callable[[], None] = lambda: None
    ) -> None:
        """Connects at the first use."""
        super().__init__(settings, stepped)
        self._days: set[int] = set()

    async def close(self) -> None:
        """Drop the connection; the next use makes another."""
        self._days.clear()
        await super().close()

    async def rollups(self, stored: Mapping[Partition, Place]) -> dict[Partition, RollPlace]:
        """Where to fold on; a partition never rolled up begins where the archive stands."""
        wanted = sorted(stored)
        first = [(*pair, stored[pair].next_offset, stored[pair].next_offset) for pair in wanted]
        async with self._transaction() as connection:
            cursor = connection.cursor()
            await cursor.executemany(_FIRST, first)
            topics, numbers = zip(*wanted, strict=True)
            await cursor.execute(_PLACES, (list(topics), list(numbers)))
            rows = await cursor.fetchall()
        return {
            (row[0], row[1]): RollPlace(held=row[2], settled=row[3], closed_us=row[4])
            for row in rows
        }

    async def store(
        self, moves: Mapping[Partition, Move], load: Load | None, *, careful: bool = False
    ) -> Outcome:
        """As above; the days of what is rolled up with the load have partitions then."""
        if load is not None:
            await self._cover_days(_days(load.parts) | load.days)
        return await super().store(moves, load, careful=careful)

    async def _cover_days(self, days: Collection[int]) -> None:
        """Make sure that these days (since 1970) have partitions."""
        missing = set(days) - self._days
        if missing:
            async with self._transaction() as connection:
                await _cover(connection, [day * _DAY_S for day in sorted(missing)])
            self._days |= missing

    async def settle(
        self,
        before: Mapping[Partition, RollPlace],
        after: Mapping[Partition, RollPlace],
        parts: Sequence[Parts],
    ) -> None:
        """Store parts and move the places, or neither. Raises Moved, Retriable.

        A part is refused where another archive has dropped its day: an error forgets which days are
        there, so the next try makes it again.
        """
        await self._cover_days(_days(parts))
        try:
            async with self._transaction() as connection:
                await _move(connection, before, after)
                await self._put_parts(connection, parts)
        except Refused as error:
            raise Retriable(str(error)) from error

    async def salvage(self, pair: Partition, move: Move | None, next_offset: int) -> None:
        """The log is not the one that was read: minutes that are open are made from `reading`.

        Late readings since the last settling are left out: no index leads to their minutes.
        """
        topic, number = pair
        codes = [one.code for one in units.QUANTITIES if of_lane(one.lane).name == topic]
        async with self._transaction() as connection:
            await connection.execute(f"SET LOCAL statement_timeout = '{_SALVAGE_S}s'".encode())
            self._step(_SALVAGE_S)
            if move is not None:
                await move_offsets(connection, {pair: move})
            cursor = await connection.execute(_PLACES, ([topic], [number]))
            row = await cursor.fetchone()
            if row is None:
                return  # nothing was ever rolled up
            before = RollPlace(held=row[2], settled=row[3], closed_us=row[4])
            after = RollPlace(held=next_offset, settled=next_offset, closed_us=before.closed_us)
            await _move(connection, {pair: before}, {pair: after})
            if not before.closed_us:
                return
            until_us = before.closed_us + HORIZON_US
            span = {
                "partition": number,
                "codes": codes,
                "since_us": before.closed_us,
                "until_us": until_us,
                "origin": 1 + 2 * number + (topic == ALARMS.name),
            }
            await _cover(connection, [before.closed_us // 1_000_000, until_us // 1_000_000])
            await connection.execute(_UNSALVAGE, span)
            await connection.execute(_SALVAGE, span)

    async def drop_minutes(self, before_us: int) -> int:
        """Drop the days that ended before an instant; returns how many."""
        async with self._transaction() as connection:
            await connection.execute("SET LOCAL lock_timeout = '2s'")  # readers may hold it up
            cursor = await connection.execute(
                "SELECT reading_minute_drop(to_timestamp(%s))", (before_us // 1_000_000,)
            )
            row = await cursor.fetchone()
        self._days.clear()
        return 0 if row is None else int(row[0])


def _days(parts: Iterable[Parts]) -> set[int]:
    return {day for one in parts for day in np.unique(one.minute // _DAY_MINUTES).tolist()}


async def _cover(connection: Connection, seconds: Iterable[int]) -> None:
    await connection.execute(
        "SELECT reading_minute_cover(array_agg(to_timestamp(s))) FROM unnest(%s::bigint[]) s",
        (list(seconds),),
    )


async def _move(
    connection: Connection,
    before: Mapping[Partition, RollPlace],
    after: Mapping[Partition, RollPlace],
) -> None:
    cursor = connection.cursor()
    await cursor.executemany(
        _MOVE,
        [
            (
                after[pair].held, after[pair].settled, after[pair].closed_us, *pair,
                before[pair].held, before[pair].settled, before[pair].closed_us,
            )
            for pair in sorted(after)
        ],
    )  # fmt: skip
    if cursor.rowcount != len(after):
        raise Moved(f"{cursor.rowcount} of {len(after)} roll-ups stood where expected")
