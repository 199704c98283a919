"""All changes of incidents go through here: signals in batches, people's actions one by one.

The order of effects of a batch (S22); a crash between any two leaves the step before undone, since
all are one transaction, and the batch is read from Kafka again:

    1. move the consumed offsets by compare-and-set; their row locks make a second alert wait here,
       and then find them moved
    2. read what the batch touches, the open incidents under row locks
    3. fold the batch over it (`alerting.book`)
    4. write signals, incidents, members, transitions
    5. write what follows from the transitions: the outbox for Kafka and the messages to people
    6. commit; only then is anybody woken

Records that were stored before find their ids and change nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from alerting import rows
from alerting.book import Book
from alerting.incident import decide, member_name
from alerting.model import (
    INCIDENT_KINDS,
    Action,
    Effect,
    Incident,
    Key,
    Member,
    Nature,
    NotAllowed,
    Placed,
    Recorded,
    Transition,
    What,
)
from sizao.db import Connection, translated
from sizao.errors import Permanent, Refused
from sizao.kafka import Partition
from sizao.signal import Signal

MEMBERS_SHOWN = 20
"""Members of an incident that a notice names, first come first."""
MESSAGES_MAX = 5_000
"""Pages of one batch, 15 MB of words. A batch with more is stored record by record."""
_ROWS_MAX = 500  # of one statement


class OffsetMoved(Permanent):
    """Another alert process has stored these records; read the offsets again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """Consumed offset of one partition: from (None: no row yet), to, arrival of the newest."""

    expected: int | None
    next_offset: int
    arrived_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """A signal to store; `arrived_us`: when the log had it."""

    signal: Signal
    nature: Nature
    arrived_us: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Composed:
    """What follows from one transition: the record for Kafka ("" for none), rows of `message`.

    `left_out`: how many more would have been told; `unrouted`: a fire that reaches nobody.
    """

    record: str
    messages: Sequence[rows.Row]
    left_out: int = 0
    unrouted: bool = False


Compose = Callable[[Incident, Transition, Sequence[Member], int], Composed]
"""(incident after, transition, members to name, arrival of its signal) -> what follows."""


@dataclass(slots=True, kw_only=True)
class Followed:
    """What followed from the transitions of a batch: counts."""

    messages: int = 0
    left_out: int = 0
    unrouted: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """What a batch did: for counting, after the commit."""

    recorded: tuple[Recorded, ...]
    transitions: tuple[Transition, ...]
    followed: Followed


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
) -> Taken:
    """Store one batch, once. Cancelled or failed: nothing of it is stored.

    Raises OffsetMoved when another alert was first, Refused for rows that the database never takes,
    Retriable while it is away.
    """
    with translated():
        async with connection.transaction():
            await _advance(connection, moves)
            items = await _fresh(connection, items)
            book, stood = await _book(connection, items)
            effects: list[Effect] = []
            arrivals: dict[str, int] = {}
            stands: dict[str, Incident] = {}
            for item in items:
                done = book.hear(item.signal, item.nature, now_us)
                effects += done
                for effect in done:
                    if isinstance(effect, Transition):
                        arrivals[effect.id] = item.arrived_us
                        key = Key(item.signal.site, item.signal.kind, item.nature)
                        stands[effect.id] = book.newest[key]
            changed = [one for one in book.newest.values() if stood.get(one.id) is not one]
            await _write(connection, changed, effects, now_us)
            transitions = tuple(e for e in effects if isinstance(e, Transition))
            followed = await _follow(connection, transitions, stands, arrivals, compose)
    recorded = tuple(effect for effect in effects if isinstance(effect, Recorded))
    return Taken(recorded=recorded, transitions=transitions, followed=followed)


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
            await _write(connection, [stands], effects, now_us)
            transitions = [effect for effect in effects if isinstance(effect, Transition)]
            after = {transition.id: stands for transition in transitions}
            await _follow(connection, transitions, after, {}, compose)
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


async def _book(connection: Connection, items: Sequence[Item]) -> tuple[Book, dict[str, Incident]]:
    """The book of a batch, and its incidents as they stood, by id."""
    about = [item for item in items if item.signal.kind in INCIDENT_KINDS]
    book = Book()
    if not about:
        return book, {}
    keys = sorted({Key(item.signal.site, item.signal.kind, item.nature) for item in about})
    # Locked in the order of ids, so that two batches and a person can never wait in a circle.
    found = await _incidents(connection, f"{_OF_KEYS} ORDER BY id FOR UPDATE", _columns(keys))
    missing = [key for key in keys if key not in {incident.key for incident in found}]
    if missing:
        found += await _incidents(connection, _CLOSED_LAST, _columns(missing))
    names = sorted({member_name(item.signal) for item in about})
    known = await _members(connection, [incident.id for incident in found], names)
    stood = [replace(one, known=known.get(one.id, {})) for one in found]
    book.newest = {incident.key: incident for incident in stood}
    onsets = sorted({item.signal.onset for item in about})
    cursor = await connection.execute(
        "SELECT DISTINCT onset, nature, incident FROM signal"
        " WHERE onset = ANY(%s) AND incident IS NOT NULL",
        (onsets,),
    )
    book.holders = {(row[0], Nature(row[1])): row[2] for row in await cursor.fetchall()}
    return book, {incident.id: incident for incident in stood}


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


async def _members(
    connection: Connection, incidents: list[str], names: list[str]
) -> dict[str, dict[str, Member]]:
    """Those of `names` that are in `incidents`."""
    cursor = await connection.execute(
        f"SELECT {rows.MEMBER_COLUMNS} FROM incident_device"
        " WHERE incident = ANY(%s) AND member = ANY(%s)".encode(),
        (incidents, names),
    )
    found: dict[str, dict[str, Member]] = {}
    for row in await cursor.fetchall():
        incident, member = rows.member_of(row)
        found.setdefault(incident, {})[member.name] = member
    return found


async def members_shown(connection: Connection, incidents: list[str]) -> dict[str, list[Member]]:
    """The first members of each incident."""
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


async def _write(
    connection: Connection,
    changed: Sequence[Incident],
    effects: Sequence[Effect],
    now_us: int,
) -> None:
    """Incidents first: everything else refers to them."""
    if changed:
        incidents = [rows.incident_row(incident) for incident in changed]
        await connection.execute(*rows.upsert("incident", "id", incidents))
    placed = {(e.incident, e.member.name): e for e in effects if isinstance(e, Placed)}
    if placed:
        members = [rows.member_row(effect) for effect in placed.values()]
        await connection.execute(*rows.upsert("incident_device", "incident, member", members))
    recorded = [rows.signal_row(e, now_us) for e in effects if isinstance(e, Recorded)]
    if recorded:
        await connection.execute(*rows.insert("signal", recorded, "ON CONFLICT DO NOTHING"))
    lines = [rows.transition_row(e) for e in effects if isinstance(e, Transition)]
    if lines:
        await connection.execute(*rows.insert("transition", lines))


async def _follow(
    connection: Connection,
    transitions: Sequence[Transition],
    stands: Mapping[str, Incident],
    arrivals: Mapping[str, int],
    compose: Compose,
) -> Followed:
    """Outbox and messages of transitions, in order."""
    followed = Followed()
    if not transitions:
        return followed
    shown = await members_shown(connection, sorted({one.incident for one in transitions}))
    records: list[rows.Row] = []
    messages: list[rows.Row] = []
    for one in transitions:
        members = shown.get(one.incident, [])
        composed = compose(stands[one.id], one, members, arrivals.get(one.id, 0))
        messages += composed.messages
        followed.left_out += composed.left_out
        followed.unrouted += composed.unrouted
        if len(messages) > MESSAGES_MAX and len(transitions) > 1:
            raise Refused(f"{len(messages)} pages in one batch, {MESSAGES_MAX} fit")
        if composed.record:
            records.append(
                {
                    "transition": one.id,
                    "incident": one.incident,
                    "at_us": one.at_us,
                    "value": composed.record,
                }
            )
    if records:
        await connection.execute(*rows.insert("outbox", records))
    for start in range(0, len(messages), _ROWS_MAX):
        some = messages[start : start + _ROWS_MAX]
        await connection.execute(*rows.insert("message", some, "ON CONFLICT DO NOTHING"))
    followed.messages = len(messages)
    return followed
