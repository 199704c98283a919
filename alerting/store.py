"""All changes of incidents go through here: signals in batches, people's actions one by one.

The order of effects of a batch (S22); a crash between any two leaves the step before undone, since
all are one transaction, and the batch is read from Kafka again:

    1. move the consumed offsets by compare-and-set; their row locks make a second alert wait here,
       and then find them moved
    2. look up what the batch touches, the open incidents under row locks; what may matter to a fire
       that is not open yet has no row to lock: the sites' turns are taken before
    3. fold the batch over it (`alerting.fold`)
    4. write signals, incidents, members, transitions, the outbox for Kafka and the messages
    5. commit; only then is anybody woken

Records that were stored before find their ids and change nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from alerting import rows
from alerting.carriers import Tally
from alerting.corroborate import OTHERS_MAX
from alerting.fold import (
    MEMBERS_SHOWN,
    Changes,
    Compose,
    Folded,
    Found,
    Item,
    Move,
    OffsetMoved,
    Wanted,
    fold,
    follow,
    wanted,
)
from alerting.incident import decide
from alerting.model import (
    ALARMING_US,
    Action,
    Beside,
    Incident,
    Key,
    Member,
    Nature,
    NotAllowed,
    Silent,
    What,
)
from alerting.rows import Write
from sizao.db import Connection, translated
from sizao.kafka import Partition
from sizao.signal import Kind

_ROWS_MAX = 500  # of one statement
_TURN_LOCK = 0x51_2AA  # class of advisory locks
_TURNS = 64  # for all sites: one lock a site would fill the server's table of locks


async def offsets(connection: Connection) -> dict[Partition, tuple[int, int]]:
    """Next offset and newest arrival (ms) of every partition ever consumed."""
    with translated():
        cursor = await connection.execute(
            "SELECT topic, partition, next_offset, arrived_ms FROM alert_offset"
        )
        return {(row[0], row[1]): (row[2], row[3]) for row in await cursor.fetchall()}


async def take(
    connection: Connection,
    moves: Mapping[Partition, Move],
    items: Sequence[Item],
    now_us: int,
    compose: Compose,
) -> Changes:
    """Store one batch, once; returns what it wrote. Cancelled or failed: nothing of it is stored.

    Raises OffsetMoved when another alert was first, Refused for rows that the database never takes,
    Retriable while it is away.
    """
    with translated():
        async with connection.transaction():
            await _advance(connection, moves)
            items = await _fresh(connection, items)
            folded = fold(await _look_up(connection, wanted(items)), items, now_us)
            shown = await members_shown(connection, folded.told)
            changes = follow(folded, shown, now_us, compose, moves)
            await write(connection, changes.writes)
    return changes


async def act(
    connection: Connection, incident: str, action: Action, now_us: int, compose: Compose
) -> Incident:
    """Do what a person asked; returns how the incident then stands. The same action id again does
    nothing and returns the same.

    Raises NotAllowed, Conflict, or Retriable while the database is away.
    """
    with translated():
        async with connection.transaction():
            found = await _incidents(connection, "WHERE id = %s FOR UPDATE", (incident,))
            cursor = await connection.execute(
                "SELECT incident FROM transition WHERE cause = %s AND cause_kind = 'action'",
                (action.id,),
            )
            done = await cursor.fetchone()
            if done is not None and found and done[0] == incident:
                return found[0]
            if done is not None:
                raise NotAllowed(f"action {action.id} was done to another incident")
            stands, effects = decide(found[0] if found else None, action, now_us)
            assert stands is not None
            folded = Folded(changed=[stands], effects=effects)
            folded = replace(folded, stands={one.id: stands for one in folded.transitions})
            shown = await members_shown(connection, folded.told)
            await write(connection, follow(folded, shown, now_us, compose).writes)
            if action.what is What.CLOSED:
                await connection.execute(
                    "UPDATE message SET state = 'cancelled', next_us = NULL, ended_us = %s"
                    " WHERE incident = %s AND state = 'due' AND lease_holder IS NULL",
                    (now_us, incident),
                )
    return stands


async def _advance(connection: Connection, moves: Mapping[Partition, Move]) -> None:
    for (topic, partition), move in sorted(moves.items()):
        if move.expected is None:
            cursor = await connection.execute(
                "INSERT INTO alert_offset (topic, partition, next_offset, arrived_ms)"
                " VALUES (%s, %s, %s, %s) ON CONFLICT DO NOTHING",
                (topic, partition, move.next_offset, move.arrived_ms),
            )
        else:
            cursor = await connection.execute(
                "UPDATE alert_offset SET next_offset = %s, arrived_ms = greatest(arrived_ms, %s)"
                " WHERE topic = %s AND partition = %s AND next_offset = %s",
                (move.next_offset, move.arrived_ms, topic, partition, move.expected),
            )
        if cursor.rowcount != 1:
            raise OffsetMoved(f"{topic}/{partition} is no longer at {move.expected}")


async def _fresh(connection: Connection, items: Sequence[Item]) -> list[Item]:
    """Without the records that are stored already."""
    ids = [item.signal.id for item in items]
    if not ids:
        return []
    cursor = await connection.execute("SELECT id FROM signal WHERE id = ANY(%s)", (ids,))
    seen = {row[0] for row in await cursor.fetchall()}
    return [item for item in items if item.signal.id not in seen]


async def _look_up(connection: Connection, about: Wanted | None) -> Found:
    if about is None:
        return Found()
    await _in_turn(connection, about.keys)
    # Locked in the order of ids, so that two batches and a person can never wait in a circle.
    found = await _incidents(connection, f"{_OF_KEYS} ORDER BY id FOR UPDATE", _columns(about.keys))
    there = {incident.key for incident in found}
    missing = [key for key in about.keys if key not in there]
    if missing:
        found += await _incidents(connection, _CLOSED_LAST, _columns(missing))
    silent = await _silent(connection, about)
    cursor = await connection.execute(
        "SELECT DISTINCT onset, nature, incident FROM signal"
        " WHERE onset = ANY(%s) AND incident IS NOT NULL",
        (about.onsets_with(silent),),
    )
    return Found(
        incidents=found,
        members=await _members(connection, found, about.names),
        holders={(row[0], Nature(row[1])): row[2] for row in await cursor.fetchall()},
        beside=await _beside(connection, about),
        silent=silent,
        tallies=await _tallies(connection, about),
    )


async def _in_turn(connection: Connection, keys: Sequence[Key]) -> None:
    """One batch at a time about the fires of a site. Two topics bring a fire and the loss of its
    sensor; stored at once, neither saw the other, and the fire stayed early.
    """
    turns = sorted({key.site % _TURNS for key in keys if key.kind is Kind.FIRE})
    if turns:
        await connection.execute(
            "SELECT pg_advisory_xact_lock(%s, turn) FROM unnest(%s::integer[]) AS turn",
            (_TURN_LOCK, turns),
        )


_QUANTITY = "evidence ->> 'quantity'"
_BESIDE = (
    "SELECT found.* FROM unnest(%s::integer[], %s::text[], %s::integer[], %s::bigint[],"
    " %s::bigint[]) AS fire (site, nature, device, onset_us, event_us) CROSS JOIN LATERAL ("
    f"(SELECT {rows.BESIDE_COLUMNS} FROM signal WHERE kind = 'water' AND phase <> 'clear'"
    " AND site = fire.site AND nature = fire.nature AND event_us"
    f" BETWEEN fire.event_us - {ALARMING_US} AND fire.event_us + {ALARMING_US} LIMIT 1)"
    f" UNION ALL (SELECT {rows.BESIDE_COLUMNS} FROM signal WHERE kind IN ('offline', 'fault')"
    " AND phase = 'raise' AND device = fire.device AND device > 0 AND site = fire.site"
    " AND nature = fire.nature AND onset_us"
    f" BETWEEN fire.onset_us AND fire.event_us + {ALARMING_US}"
    f" AND {rows.is_loss(_QUANTITY)} LIMIT 1)) found"
)


async def _beside(connection: Connection, about: Wanted) -> list[tuple[Nature, Beside]]:
    """What lies beside the fires of a batch: of each fire one of water and one of its loss."""
    if not about.fires:
        return []
    columns = [list(column) for column in zip(*about.fires, strict=True)]
    cursor = await connection.execute(_BESIDE.encode(), columns)
    return [rows.beside_of(row) for row in await cursor.fetchall()]


async def _silent(connection: Connection, about: Wanted) -> dict[tuple[str, Nature], Silent]:
    if not about.silent:
        return {}
    cursor = await connection.execute(
        f"SELECT {rows.SILENCE_COLUMNS} FROM silence"
        " WHERE ended_us IS NULL AND subject = ANY(%s)".encode(),
        (about.silent,),
    )
    return dict(rows.silence_of(row) for row in await cursor.fetchall())


async def _tallies(connection: Connection, about: Wanted) -> dict[tuple[str, Nature], Tally]:
    if not about.carriers:
        return {}
    cursor = await connection.execute(
        "SELECT carrier, nature, count(*), ARRAY(SELECT onset_us FROM silence one"
        " WHERE one.ended_us IS NULL AND one.device > 0 AND one.carrier = silence.carrier"
        " AND one.nature = silence.nature ORDER BY onset_us LIMIT %s) FROM silence"
        " WHERE ended_us IS NULL AND device > 0 AND carrier = ANY(%s) GROUP BY carrier, nature",
        (about.oldest_max, about.carriers),
    )
    return {
        (row[0], Nature(row[1])): Tally(count=row[2], oldest=tuple(row[3]))
        for row in await cursor.fetchall()
    }


_KEYS = "unnest(%s::integer[], %s::text[], %s::text[]) AS wanted (site, kind, nature)"
_OF_KEYS = f"WHERE closed_us IS NULL AND (site, kind, nature) IN (SELECT * FROM {_KEYS})"
_CLOSED_LAST = (
    f"WHERE id IN (SELECT newest.id FROM {_KEYS} CROSS JOIN LATERAL"
    " (SELECT id FROM incident i WHERE closed_us IS NOT NULL"
    " AND (i.site, i.kind, i.nature) = (wanted.site, wanted.kind, wanted.nature)"
    " ORDER BY closed_us DESC LIMIT 1) newest)"
)


def _columns(keys: Sequence[Key]) -> tuple[list[int], list[str], list[str]]:
    sites, kinds, natures = zip(*keys, strict=True)
    return list(sites), [str(kind) for kind in kinds], [str(nature) for nature in natures]


async def _incidents(
    connection: Connection, where: str, parameters: Sequence[object]
) -> list[Incident]:
    query = f"SELECT {rows.INCIDENT_COLUMNS} FROM incident {where}"
    cursor = await connection.execute(query.encode(), parameters)
    return [rows.incident_of(row) for row in await cursor.fetchall()]


_OTHERS = (
    f" UNION SELECT {rows.MEMBER_COLUMNS} FROM unnest(%s::text[]) AS wanted (id) CROSS JOIN LATERAL"
    " (SELECT * FROM incident_device d WHERE d.incident = wanted.id"
    " ORDER BY last_us DESC, member LIMIT %s) newest"
)


async def _members(
    connection: Connection, incidents: Sequence[Incident], names: list[str]
) -> dict[str, dict[str, Member]]:
    """Those of `names` that are in `incidents`, and the newest of an early fire."""
    ids, early = [one.id for one in incidents], [one.id for one in incidents if one.is_early_fire]
    cursor = await connection.execute(
        f"SELECT {rows.MEMBER_COLUMNS} FROM incident_device"
        f" WHERE incident = ANY(%s) AND member = ANY(%s){_OTHERS}".encode(),
        (ids, names, early, OTHERS_MAX),
    )
    found: dict[str, dict[str, Member]] = {}
    for row in await cursor.fetchall():
        incident, member = rows.member_of(row)
        found.setdefault(incident, {})[member.name] = member
    return found


async def members_shown(connection: Connection, incidents: list[str]) -> dict[str, list[Member]]:
    """The first members of each incident."""
    if not incidents:
        return {}
    cursor = await connection.execute(
        f"SELECT {rows.MEMBER_COLUMNS} FROM unnest(%s::text[]) AS wanted (id) CROSS JOIN LATERAL"
        " (SELECT * FROM incident_device d WHERE d.incident = wanted.id"
        " ORDER BY joined_us, member LIMIT %s) first".encode(),
        (incidents, MEMBERS_SHOWN),
    )
    found: dict[str, list[Member]] = {}
    for row in await cursor.fetchall():
        incident, member = rows.member_of(row)
        found.setdefault(incident, []).append(member)
    return found


async def write(connection: Connection, writes: Sequence[Write]) -> None:
    """Statements of a bounded size, in order."""
    for one in writes:
        for start in range(0, len(one.rows), _ROWS_MAX):
            some = one.rows[start : start + _ROWS_MAX]
            await connection.execute(*rows.insert(one.table, some, one.rest))
