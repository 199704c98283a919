"""Evidence's side of the database: windows with the offsets of the transitions, and the copying."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ingest.archive_store import Moved, Store
from ingest.evidence import Slice, Window
from sizao.kafka import Partition
from sizao.topics import ALARMS, READINGS

WINDOWS_MAX = 1_000  # of one turn; the others' turn comes
_FIRST = """
    INSERT INTO evidence_offset (topic, partition, next_offset) VALUES (%s, %s, 0)
    ON CONFLICT DO NOTHING"""
_OFFSETS = """
    SELECT topic, partition, next_offset FROM evidence_offset
    WHERE (topic, partition) IN (SELECT * FROM unnest(%s::text[], %s::integer[]))"""
_MOVE = """
    UPDATE evidence_offset SET next_offset = %s, moved_at = now()
    WHERE topic = %s AND partition = %s AND next_offset = %s"""
_COLUMNS = "incident, version, site, onset_us, from_us, until_us, closed_us, copied_us"
_KNOWN = f"SELECT {_COLUMNS} FROM evidence_window WHERE incident = ANY(%s)"
_KEEP = f"""
    INSERT INTO evidence_window ({_COLUMNS}) VALUES (%s, %s, %s, %s, %s, %s, %s, %s)
    ON CONFLICT (incident) DO UPDATE SET version = excluded.version, onset_us = excluded.onset_us,
        from_us = excluded.from_us, until_us = excluded.until_us, closed_us = excluded.closed_us,
        copied_us = least(evidence_window.copied_us, excluded.copied_us),
        state = CASE WHEN evidence_window.state = 'full' THEN 'full' ELSE 'copying' END"""
# The close may be heard of after everything before it has been copied.
_FINISH = """
    UPDATE evidence_window SET state = 'done'
    WHERE state = 'copying' AND copied_us >= until_us + %s"""
_COPYING = f"""
    SELECT coalesce(a.partition, -1), {", ".join(f"w.{name}" for name in _COLUMNS.split(", "))}
    FROM evidence_window w
    LEFT JOIN area a ON a.id = w.site AND a.level = 'site' AND a.to_gen IS NULL
    WHERE w.state = 'copying' ORDER BY w.copied_us LIMIT {WINDOWS_MAX}"""
# Up to which arrival everything is stored. A topic of which nothing came for a minute, while the
# other goes on, has nothing on its way; one archive stores both.
_STORED = """
    SELECT o.partition, min(o.received_us) FROM archive_offset o
    WHERE o.topic = ANY(%s) AND o.moved_at > (SELECT max(n.moved_at) FROM archive_offset n
        WHERE n.partition = o.partition AND n.topic = ANY(%s)) - interval '1 min'
    GROUP BY o.partition"""
_LOCKED = """
    SELECT incident, site FROM evidence_window WHERE incident = ANY(%s) AND state = 'copying'
    ORDER BY incident FOR UPDATE"""
_COPY = """
    WITH copied AS (
        INSERT INTO incident_reading (incident, point, event, received, value, flags)
        SELECT w.incident, r.point, r.event, r.received, r.value, r.flags
        FROM evidence_window w
        JOIN (SELECT DISTINCT id, site FROM point WHERE site = ANY(%(sites)s)) p ON p.site = w.site
        JOIN reading r ON r.point = p.id
        WHERE w.incident = ANY(%(incidents)s)
            AND r.received >= to_timestamp(%(since_us)s / 1000000.0)
            AND r.received < to_timestamp(%(until_us)s / 1000000.0)
            AND r.event >= to_timestamp(w.from_us / 1000000.0)
            AND r.event <= to_timestamp(w.until_us / 1000000.0)
        ON CONFLICT DO NOTHING RETURNING incident
    ), counted AS (SELECT incident, count(*) AS n FROM copied GROUP BY incident)
    UPDATE evidence_window w SET rows = w.rows + coalesce(c.n, 0),
        copied_us = greatest(w.copied_us, %(until_us)s),
        state = CASE WHEN w.rows + coalesce(c.n, 0) >= %(rows_max)s THEN 'full' ELSE 'copying' END
    FROM evidence_window v LEFT JOIN counted c ON c.incident = v.incident
    WHERE v.incident = w.incident AND w.incident = ANY(%(incidents)s)
    RETURNING coalesce(c.n, 0), w.state"""


class EvidenceStore(Store):
    """One dedicated connection; used by one task."""

    async def offsets(self, wanted: Sequence[Partition]) -> dict[Partition, int]:
        """Where to read on; a partition never read begins at its beginning: the topic holds a year,
        and what raw readings are still there of it is worth keeping.
        """
        async with self._transaction() as connection:
            cursor = connection.cursor()
            await cursor.executemany(_FIRST, list(wanted))
            topics, numbers = zip(*wanted, strict=True)
            await cursor.execute(_OFFSETS, (list(topics), list(numbers)))
            return {(row[0], row[1]): row[2] for row in await cursor.fetchall()}

    async def known(self, incidents: Sequence[str]) -> dict[str, Window]:
        """Windows of some incidents."""
        async with self._transaction() as connection:
            cursor = await connection.execute(_KNOWN, (list(incidents),))
            return {row[0]: _window(row) for row in await cursor.fetchall()}

    async def keep(
        self, moves: Mapping[Partition, tuple[int, int]], windows: Sequence[Window]
    ) -> None:
        """Move the offsets from one to the other, and keep the windows. Raises Moved, Retriable."""
        async with self._transaction() as connection:
            cursor = connection.cursor()
            moved = [(moves[pair][1], *pair, moves[pair][0]) for pair in sorted(moves)]
            await cursor.executemany(_MOVE, moved)
            if cursor.rowcount != len(moves):
                raise Moved(f"{cursor.rowcount} of {len(moves)} offsets stood where expected")
            if windows:
                rows = [
                    (
                        one.incident, one.version, one.site, one.onset_us, one.from_us,
                        one.until_us, one.closed_us, one.copied_us,
                    )
                    for one in sorted(windows, key=lambda one: one.incident)
                ]  # fmt: skip
                await cursor.executemany(_KEEP, rows)

    async def copying(self, late_us: int) -> dict[int, list[Window]]:
        """Windows not finished, by partition; -1: of a place that nobody knows.

        Finished: copied beyond its end by `late_us`, for late readings.
        """
        found: dict[int, list[Window]] = {}
        async with self._transaction() as connection:
            await connection.execute(_FINISH, (late_us,))
            cursor = await connection.execute(_COPYING)
            for row in await cursor.fetchall():
                found.setdefault(row[0], []).append(_window(row[1:]))
        return found

    async def stored_us(self) -> dict[int, int]:
        """By partition: readings that came before are in the table."""
        topics = [READINGS.name, ALARMS.name]
        async with self._transaction() as connection:
            cursor = await connection.execute(_STORED, (topics, topics))
            return {row[0]: row[1] for row in await cursor.fetchall()}

    async def copy(self, one: Slice, rows_max: int) -> tuple[int, int]:
        """Copy a slice; returns rows kept and windows that are full. Repeating it changes nothing.

        Raises TooSlow where it is to be asked for less.
        """
        async with self._transaction() as connection:
            await connection.execute("SET LOCAL statement_timeout = '30s'")
            self._step(30.0)
            # In one order: two archives may copy for the same.
            cursor = await connection.execute(_LOCKED, (list(one.incidents),))
            found = await cursor.fetchall()
            asked = {
                "incidents": [row[0] for row in found],
                "sites": list({row[1] for row in found}),
                "since_us": one.since_us,
                "until_us": one.until_us,
                "rows_max": rows_max,
            }
            cursor = await connection.execute(_COPY, asked)
            told = await cursor.fetchall()
        return sum(row[0] for row in told), sum(row[1] == "full" for row in told)

    async def expire(self, before_us: int, incidents_max: int) -> int:
        """Delete incidents whose window ended before an instant; returns how many."""
        async with self._transaction() as connection:
            cursor = await connection.execute(
                "DELETE FROM evidence_window WHERE incident IN ("
                " SELECT incident FROM evidence_window WHERE until_us < %s LIMIT %s)",
                (before_us, incidents_max),
            )
            return cursor.rowcount


def _window(row: Sequence[object]) -> Window:
    names = ("incident", "version", "site", "onset_us", "from_us", "until_us", "closed_us")
    known = dict(zip((*names, "copied_us"), row, strict=True))
    return Window(**known)  # type: ignore[arg-type] # columns of our own table
