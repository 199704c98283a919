"""A look at PostgreSQL for the ledger on the local disk: what has changed there since the last.

What this process stores itself is mirrored with each batch. Looks bring the rest: what people did,
what another alert stored, what a former life left.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from alerting import rows, store
from alerting.fold import Partition
from alerting.rows import Row, Write
from sizao.db import Connection, translated

CLOSED_KEPT_US = 86_400_000_000
"""A closed incident is remembered for a day: what belongs to it stays silent."""
DUE_MAX = 20_000
"""Due messages mirrored, the most urgent first: 60 MB of words."""

BESIDE_KEPT_US = 1_200_000_000
"""What is no incident matters to a fire ten minutes before and after, or later where it is late."""

SILENT_MAX = 20_000
"""Silent subjects mirrored, carriers first, then the newest. With 300,000 devices of a platform
silent, a look took longer than the disk may, each time, and there was no ledger. In an absence a
carrier that they are of may be told of later; the merge makes up for it.
"""

_SILENT = "SELECT * FROM silence WHERE ended_us IS NULL ORDER BY device > 0, onset_us DESC LIMIT %s"
_BESIDE = (
    "SELECT id, onset, rule, kind, phase, site, device, onset_us, event_us, nature, incident,"
    " evidence FROM signal WHERE kind IN ('water', 'offline', 'fault')"
    " AND stored_us > %s ORDER BY stored_us DESC LIMIT 2000"
)
_MESSAGE_COLUMNS = (
    "id, transition, incident, responder, channel, step, nature, urgency, why, body, made_us,"
    " signal_us, next_us, state, attempts"
)
_CHUNK = 500  # incidents of one statement
_MEMBERS = f"SELECT {rows.MEMBER_COLUMNS} FROM incident_device WHERE incident = ANY(%s)"
_HOLDERS = (
    "SELECT DISTINCT ON (onset, nature) id, onset, nature, incident FROM signal"
    " WHERE incident = ANY(%s) ORDER BY onset, nature, event_us DESC"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What is mirrored: of each open incident version, last event time and members; messages."""

    incidents: Mapping[str, tuple[int, int, int]] = field(default_factory=dict)
    messages: set[str] = field(default_factory=set)


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What a look brought, all of one instant. `whole`: it replaces what was mirrored. `due`: of
    every due message attempts, first, next, holder, lease, id. Incidents closed before `forget_us`
    are of no more use, nor are those that are `gone`.
    """

    writes: Sequence[Write]
    offsets: Mapping[Partition, tuple[int, int]]
    due: Sequence[tuple[object, ...]]
    gone: Sequence[str]
    forget_us: int
    whole: bool


async def look(connection: Connection, known: Known, now_us: int, *, whole: bool) -> Look:
    """Compare PostgreSQL with what is `known`. Raises Retriable while it is away."""
    forget_us = now_us - CLOSED_KEPT_US
    with translated():
        async with connection.transaction():
            await connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            offsets = await store.offsets(connection)
            cursor = await connection.execute(
                "SELECT id, version, last_us, members FROM incident WHERE closed_us IS NULL"
            )
            opened = {row[0]: row[1:] for row in await cursor.fetchall()}
            there = {} if whole else known.incidents
            changed = [name for name, state in opened.items() if there.get(name) != state]
            changed += [name for name in there if name not in opened]
            incidents = await _rows(
                connection,
                f"SELECT {rows.INCIDENT_COLUMNS} FROM incident WHERE id = ANY(%s)"
                " OR (%s AND closed_us > %s)",
                (changed, whole, forget_us),
            )
            ids = [str(row["id"]) for row in incidents]
            writes = [Write(table="incident", keys="id", rows=incidents)]
            for start in range(0, len(ids), _CHUNK):
                some = (ids[start : start + _CHUNK],)
                members = await _rows(connection, _MEMBERS, some)
                writes.append(Write(table="incident_device", keys="incident, member", rows=members))
                held = await _rows(connection, _HOLDERS, some)
                writes.append(Write(table="signal", once=True, rows=held))
            if whole:
                writes += await _once(connection, now_us)
            due, messages = await _due(connection, known.messages)
    writes.append(Write(table="message", once=True, rows=messages))
    return Look(
        writes=[write for write in writes if write.rows],
        offsets=offsets,
        due=due,
        gone=[name for name in there if name not in opened and name not in ids],
        forget_us=forget_us,
        whole=whole,
    )


async def _once(connection: Connection, now_us: int) -> list[Write]:
    """Who is silent, and what may matter to a fire of the last minutes: what came later is ours."""
    silent = await _rows(connection, _SILENT, (SILENT_MAX,))
    beside = await _rows(connection, _BESIDE, (now_us - BESIDE_KEPT_US,))
    return [
        Write(table="silence", keys="subject, nature", rows=silent),
        Write(table="signal", once=True, rows=beside),
    ]


async def _due(
    connection: Connection, known: set[str]
) -> tuple[list[tuple[object, ...]], list[Row]]:
    """How every due message stands, and whole rows of those that are not known."""
    cursor = await connection.execute(
        "SELECT attempts, first_us, next_us, lease_holder, lease_until_us, id FROM message"
        " WHERE state = 'due' ORDER BY urgency DESC, seq LIMIT %s",
        (DUE_MAX,),
    )
    due: list[tuple[object, ...]] = list(await cursor.fetchall())
    fresh = [one[-1] for one in due if one[-1] not in known]
    query = f"SELECT {_MESSAGE_COLUMNS} FROM message WHERE id = ANY(%s) ORDER BY seq"
    return due, await _rows(connection, query, (fresh,))


async def _rows(connection: Connection, query: str, parameters: Sequence[object]) -> list[Row]:
    cursor = await connection.execute(query.encode(), parameters)
    names = [column.name for column in cursor.description or ()]
    return [dict(zip(names, row, strict=True)) for row in await cursor.fetchall()]
