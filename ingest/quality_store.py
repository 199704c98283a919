"""Quality's side of the database: counts, what the fold must not forget, and the offsets, in one
transaction each time; so a kill at any point counts nothing twice and loses nothing.

As in `archive_store`, `WHERE next_offset = began` undoes a transaction whose place somebody else
has moved; `Moved` tells.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import date, timedelta

from ingest.archive_store import Moved, Store
from ingest.device_types.reasons import Reason
from ingest.quality import COUNTS
from ingest.quality_fault import Day, Params, Verdicts
from ingest.quality_rows import COLUMNS, DAY_END, IN_SERVICE, ISOLATED, Tables
from sizao.db import Connection
from sizao.kafka import Partition

_FIRST = """
    INSERT INTO quality_offset (topic, partition, next_offset) VALUES (%s, %s, %s)
    ON CONFLICT DO NOTHING"""
_KEPT = """
    SELECT topic, partition, next_offset, state, judged FROM quality_offset
    WHERE (topic, partition) IN (SELECT * FROM unnest(%s::text[], %s::integer[]))"""
_MOVE = """
    UPDATE quality_offset SET next_offset = %s, state = coalesce(%s, state), moved_at = now()
    WHERE topic = %s AND partition = %s AND next_offset = %s"""
_STAGE = """
    CREATE TEMP TABLE IF NOT EXISTS quality_staged (LIKE device_day) ON COMMIT DELETE ROWS"""
_COPY = f"COPY quality_staged ({', '.join(COLUMNS)}) FROM STDIN (FORMAT binary)"
# A flood may refuse more in a day than an integer holds.
_ADDED = ", ".join(f"{one} = least(d.{one}::bigint + excluded.{one}, 2147483647)" for one in COUNTS)
_ADD = f"""
    INSERT INTO device_day AS d ({", ".join(COLUMNS)}) SELECT {", ".join(COLUMNS)}
    FROM quality_staged
    ON CONFLICT (day, device) DO UPDATE SET interval_s = excluded.interval_s, {_ADDED}"""
_ADD_REJECTS = """
    INSERT INTO device_day_reject AS d (day, device, reason, count)
    SELECT * FROM unnest(%s::date[], %s::integer[], %s::text[], %s::bigint[])
    ON CONFLICT (day, device, reason) DO UPDATE SET count = d.count + excluded.count"""
# One value each: as rows, 1.2 million points would take the loop for seconds.
_DEVICES = f"""
    SELECT string_agg(int4send(d.id) || int4send(d.site) || int4send(a.partition::integer)
        || int4send(d.device_type) || int4send(CASE d.state
            WHEN 'in_service' THEN {IN_SERVICE} WHEN 'isolated' THEN {ISOLATED} ELSE 0 END), '')
    FROM device d JOIN area a ON a.id = d.site AND a.level = 'site' AND a.to_gen IS NULL
    WHERE d.to_gen IS NULL"""
_POINTS = """
    SELECT string_agg(int4send(id) || int4send(device) || int4send(quantity::integer), '')
    FROM point"""
_TYPES = """
    SELECT DISTINCT ON (id) id, document FROM device_type ORDER BY id, from_gen DESC"""
_JUDGED = """
    SELECT device, bad_before, why, received, expected, missed, rejects, out_of_range, corrected,
        stuck
    FROM (SELECT j.*, j.device = ANY(%(open)s) AS told, EXISTS (
            SELECT FROM device_day_judged b
            WHERE b.day = %(day)s - 1 AND b.device = j.device AND b.bad) AS bad_before
        FROM device_day_judged j WHERE j.day = %(day)s AND j.judged) c
    WHERE told OR silent OR (bad AND bad_before)
    ORDER BY told DESC, score DESC, missed DESC, device LIMIT %(limit)s"""
_JUDGE = """
    UPDATE quality_offset o SET judged = %s
    FROM unnest(%s::integer[], %s::date[]) AS e (partition, judged)
    WHERE o.topic = %s AND o.partition = e.partition AND o.judged IS NOT DISTINCT FROM e.judged"""
_PARAMS = """
    INSERT INTO quality_params ({names}) VALUES ({values})
    ON CONFLICT (singleton) DO UPDATE SET {updates}"""
_EPOCH = date(1970, 1, 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """Where a partition stands. `judged`: last day judged, days since 1970; None for none."""

    next_offset: int
    state: bytes | None
    judged: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """From the offset that the database should still have to the next to read."""

    expected: int
    next_offset: int
    state: bytes | None = None


def date_of(day: int) -> date:
    """Days since 1970 as PostgreSQL's date."""
    return _EPOCH + timedelta(days=min(max(day, 0), DAY_END))


class QualityStore(Store):
    """One dedicated connection; used by one task."""

    margin_s = 60.0  # several statements in one step: a flush of a district takes 5 s, and more

    async def params(self, params: Params) -> None:
        """Say from where on a day is bad."""
        said = asdict(params)
        query = _PARAMS.format(
            names=", ".join(said),
            values=", ".join(["%s"] * len(said)),
            updates=", ".join(f"{name} = excluded.{name}" for name in said),
        )
        async with self._transaction() as connection:
            await connection.execute(query.encode(), list(said.values()))

    async def kept(self, firsts: Mapping[Partition, int]) -> dict[Partition, Kept]:
        """Where to go on; a partition never read begins at its offset in `firsts`."""
        wanted = sorted(firsts)
        topics, numbers = zip(*wanted, strict=True)
        async with self._transaction() as connection:
            cursor = connection.cursor()
            await cursor.executemany(_FIRST, [(*pair, firsts[pair]) for pair in wanted])
            await cursor.execute(_KEPT, (list(topics), list(numbers)))
            rows = await cursor.fetchall()
        return {
            (row[0], row[1]): Kept(
                next_offset=row[2],
                state=None if row[3] is None else bytes(row[3]),
                judged=None if row[4] is None else (row[4] - _EPOCH).days,
            )
            for row in rows
        }

    async def tables(self) -> Tables:
        """The registry as it is now: 12 bytes a point, not its names."""
        async with self._transaction() as connection:
            await connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            cursor = await connection.execute("SELECT coalesce(max(id), 0) FROM generation")
            row = await cursor.fetchone()
            assert row is not None
            cursor = await connection.execute(_TYPES)
            documents = {int(number): str(text) for number, text in await cursor.fetchall()}
            return Tables(
                generation=int(row[0]),
                devices=await _bytes(connection, _DEVICES),
                points=await _bytes(connection, _POINTS),
                documents=documents,
            )

    async def flush(
        self,
        moves: Mapping[Partition, Move],
        copies: Iterable[bytes],
        rejects: Mapping[tuple[int, int, Reason], int],
    ) -> None:
        """Move the offsets and add the counts, or neither. Raises Moved, Retriable.

        After Retriable or a cancellation it may have been done: repeat it, and Moved tells.
        """
        parameters = [
            (moves[pair].next_offset, moves[pair].state, *pair, moves[pair].expected)
            for pair in sorted(moves)
        ]
        async with self._transaction() as connection:
            cursor = connection.cursor()
            await cursor.executemany(_MOVE, parameters)
            if cursor.rowcount != len(moves):
                raise Moved(f"{cursor.rowcount} of {len(moves)} offsets stood where expected")
            await cursor.execute(_STAGE)
            for rows in copies:
                async with cursor.copy(_COPY.encode()) as copy:
                    await copy.write(rows)
                await cursor.execute(_ADD.encode())
                await cursor.execute("TRUNCATE quality_staged")
            if rejects:
                days, devices, reasons = zip(*rejects, strict=True)
                dates = [date_of(day) for day in days]
                counts = list(rejects.values())
                await cursor.execute(_ADD_REJECTS, (dates, list(devices), list(reasons), counts))

    async def judged(self, day: int, faults_max: int) -> tuple[dict[int, Day], dict[int, int]]:
        """What `quality_fault.judge` asks: days, and the first day of open faults."""
        async with self._transaction() as connection:
            cursor = await connection.execute("SELECT device, onset FROM quality_fault")
            since = {int(device): (at - _EPOCH).days for device, at in await cursor.fetchall()}
            wanted = {"day": date_of(day), "open": list(since), "limit": faults_max}
            cursor = await connection.execute(_JUDGED, wanted)
            return {int(row[0]): Day(*row[1:]) for row in await cursor.fetchall()}, since

    async def settle(
        self,
        topic: str,
        judged: Mapping[int, int | None],
        day: int,
        verdicts: Verdicts,
        kept_days: int,
    ) -> None:
        """A day is judged and told: keep what is open, delete what is old.

        `judged`: the last day of each partition before. Raises Moved where it is another.
        """
        last = [None if one is None else date_of(one) for one in judged.values()]
        async with self._transaction() as connection:
            cursor = await connection.execute(_JUDGE, (date_of(day), list(judged), last, topic))
            if cursor.rowcount != len(judged):
                raise Moved(f"{cursor.rowcount} of {len(judged)} partitions stood where expected")
            await connection.execute(
                "INSERT INTO quality_fault SELECT * FROM unnest(%s::integer[], %s::date[])"
                " ON CONFLICT DO NOTHING",
                (list(verdicts.begun), [date_of(since) for since in verdicts.begun.values()]),
            )
            await connection.execute(
                "DELETE FROM quality_fault WHERE device = ANY(%s)", (verdicts.ended,)
            )
            for table in ("device_day", "device_day_reject"):
                await connection.execute(
                    f"DELETE FROM {table} WHERE day < %s".encode(), (date_of(day - kept_days),)
                )


async def _bytes(connection: Connection, query: str) -> bytes:
    cursor = connection.cursor(binary=True)
    await cursor.execute(query.encode())
    row = await cursor.fetchone()
    return b"" if row is None or row[0] is None else bytes(row[0])
