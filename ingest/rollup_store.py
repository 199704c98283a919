"""The roll-ups' side of the database: parts and the places in the log, in one transaction.

As in `archive_store`, compare-and-set on the place undoes a transaction whose place somebody else
has moved; `Moved` tells.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from ingest import rollup_rows
from ingest.archive_place import Place
from ingest.archive_store import Move, Moved, Store, copy_all, move_offsets
from ingest.rollup import HORIZON_US, RollPlace
from ingest.rollup_parts import Parts
from ingest.rollup_rows import BLOCK_POINTS
from sizao import units
from sizao.db import Connection, DatabaseSettings
from sizao.kafka import Partition
from sizao.topics import ALARMS, of_lane

_DAY_MINUTES = 1_440
_DAY_S = 86_400
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
_SALVAGE = f"""
    INSERT INTO reading_minute_part
    SELECT block, minute, array_agg(slot), array_agg(n), array_agg(low), array_agg(high),
        array_agg(total), array_agg(first_us), array_agg(first), array_agg(last_us),
        array_agg(last), array_agg(flags), %(origin)s
    FROM (
        SELECT point / {BLOCK_POINTS} AS block, minute, (point %% {BLOCK_POINTS})::smallint AS slot,
            count(*)::integer AS n, min(value) AS low, max(value) AS high,
            sum(value::double precision) AS total, min(us) AS first_us,
            (array_agg(value ORDER BY us, value))[1] AS first, max(us) AS last_us,
            (array_agg(value ORDER BY us DESC, value DESC))[1] AS last, bit_or(flags) AS flags
        FROM (
            SELECT r.point, r.value, r.flags, date_trunc('minute', r.event) AS minute,
                (extract(epoch FROM r.event - date_trunc('minute', r.event)) * 1000000)::integer
                    AS us
            {_SALVAGED} AND (r.flags & 2) = 0
        ) e GROUP BY point, minute
    ) m GROUP BY block, minute"""


class RollupStore(Store):
    """The archive's one connection, with what roll-ups need besides."""

    def __init__(self, settings: DatabaseSettings) -> None:
        """Connects at the first use."""
        super().__init__(settings)
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
        self,
        moves: Mapping[Partition, Move],
        rows: bytearray | None,
        parts: Sequence[Parts] = (),
    ) -> None:
        """As above; `parts` of the rows go with them."""
        await self.cover_days(parts)
        await super().store(moves, rows, parts)

    async def cover_days(self, parts: Iterable[Parts]) -> None:
        """Make sure that the days of these parts have partitions."""
        days = {
            day for one in parts for day in np.unique(one.minute // _DAY_MINUTES).tolist()
        } - self._days
        if days:
            async with self._transaction() as connection:
                await _cover(connection, [day * _DAY_S for day in sorted(days)])
            self._days |= days

    async def settle(
        self,
        before: Mapping[Partition, RollPlace],
        after: Mapping[Partition, RollPlace],
        parts: Sequence[Parts],
    ) -> None:
        """Store parts and move the places, or neither. Raises Moved, Retriable."""
        await self.cover_days(parts)
        async with self._transaction() as connection:
            await _move(connection, before, after)
            for one in parts:
                await copy_all(connection, rollup_rows.COPY, rollup_rows.build(one))

    async def salvage(self, pair: Partition, move: Move | None, next_offset: int) -> None:
        """The log is not the one that was read: minutes that are open are made from `reading`.

        Late readings since the last settling are left out: no index leads to their minutes.
        """
        topic, number = pair
        codes = [one.code for one in units.QUANTITIES if of_lane(one.lane).name == topic]
        async with self._transaction() as connection:
            await connection.execute("SET LOCAL statement_timeout = '300s'")
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
