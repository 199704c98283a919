"""What the console reads: incidents with their time line, signals, messages and attempts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from alerting import rows, store
from alerting.model import Incident, Member, State
from sizao.db import Connection, translated
from sizao.signal import Tier

LIST_MAX = 200
LINES_MAX = 500
LINES_EACH = 30  # of one incident on the page: its newest
Json = dict[str, Any]

_FILTERS = {"kind": "kind", "nature": "nature", "tier": "tier", "state": "state", "site": "site"}
_ORDER = (
    " ORDER BY nature <> 'real', array_position(ARRAY['urgent', 'alarm', 'early'], tier),"
    " state <> 'open', opened_us, kind <> 'fire', id"
)
_CLOSED_ORDER = " ORDER BY closed_us DESC"


async def listing(
    connection: Connection, filters: dict[str, str | int], *, closed: bool = False
) -> list[Incident]:
    """Open incidents, or the last closed ones: real before others, by tier, those that nobody has
    acknowledged first, the oldest of them on top. At most LIST_MAX.
    """
    where = ["closed_us IS NOT NULL" if closed else "closed_us IS NULL"]
    where += [f"{_FILTERS[name]} = %s" for name in filters]
    query = (
        f"SELECT {rows.INCIDENT_COLUMNS} FROM incident WHERE {' AND '.join(where)}"
        f"{_CLOSED_ORDER if closed else _ORDER} LIMIT {LIST_MAX}"
    )
    with translated():
        cursor = await connection.execute(query.encode(), list(filters.values()))
        return [rows.incident_of(row) for row in await cursor.fetchall()]


async def incident(connection: Connection, wanted: str) -> Incident | None:
    """One incident."""
    query = f"SELECT {rows.INCIDENT_COLUMNS} FROM incident WHERE id = %s"
    with translated():
        cursor = await connection.execute(query.encode(), (wanted,))
        row = await cursor.fetchone()
    return None if row is None else rows.incident_of(row)


async def members(connection: Connection, incidents: list[str]) -> dict[str, list[Member]]:
    """The first members of each incident."""
    with translated():
        return await store.members_shown(connection, incidents)


async def deciding(connection: Connection, incidents: Sequence[Incident]) -> dict[str, Json]:
    """Rule and evidence of the signals that set the tiers, by record id."""
    wanted = [incident.deciding for incident in incidents]
    found = await _read(connection, "id, rule, evidence", "signal WHERE id = ANY(%s)", (wanted,))
    return {one["id"]: one for one in found}


async def count_open(connection: Connection) -> dict[str, int]:
    """How many real incidents are open by tier, and under `open` how many nobody has acknowledged;
    those beyond what a list shows are counted too.
    """
    found = await _read(
        connection,
        "tier, state, count",
        "(SELECT tier, state, count(*) AS count FROM incident"
        " WHERE closed_us IS NULL AND nature = 'real' GROUP BY tier, state) counted",
        (),
    )
    counts = dict.fromkeys([*Tier, State.OPEN], 0)
    for one in found:
        counts[one["tier"]] += one["count"]
        if one["state"] == State.OPEN:
            counts[State.OPEN] += one["count"]
    return {str(name): count for name, count in counts.items()}


async def timeline(
    connection: Connection,
    incidents: Sequence[str],
    after_version: int = 0,
    each: int = LINES_MAX,
) -> list[Json]:
    """The newest transitions of each incident, in order."""
    found = await _read(
        connection,
        "id, incident, version, cause, cause_kind, what, at_us, event_us, actor, late, before,"
        " after, payload",
        "unnest(%s::text[]) AS wanted (name) CROSS JOIN LATERAL (SELECT * FROM transition t"
        " WHERE t.incident = wanted.name AND version > %s ORDER BY version DESC LIMIT %s) newest",
        (list(incidents), after_version, each),
    )
    return sorted(found, key=lambda one: (one["incident"], one["version"]))


async def signals(connection: Connection, incident_id: str) -> list[Json]:
    """Signals of an incident with their evidence, by event time."""
    return await _read(
        connection,
        "id, onset, rule, rule_version, kind, tier, phase, subject_type, subject, site, device,"
        " onset_us, event_us, received_us, stored_us, late, self_test, nature, became, evidence",
        f"signal WHERE incident = %s ORDER BY event_us, id LIMIT {LINES_MAX}",
        (incident_id,),
    )


async def messages(
    connection: Connection, incidents: Sequence[str], each: int = LINES_MAX
) -> list[Json]:
    """The newest messages of each incident, in order, each with its attempts. Where they go stays
    out: an address may be personal.
    """
    found = await _read(
        connection,
        "id, seq, incident, transition, responder, channel, step, nature, why, state, reason,"
        " attempts, made_us, first_us, next_us, ended_us",
        "unnest(%s::text[]) AS wanted (name) CROSS JOIN LATERAL (SELECT * FROM message m"
        " WHERE m.incident = wanted.name ORDER BY seq DESC LIMIT %s) newest",
        (list(incidents), each),
    )
    found.sort(key=lambda one: one["seq"])
    tries = await _read(
        connection,
        "message, attempt, started_us, ended_us, outcome, status, detail",
        "message_attempt WHERE message = ANY(%s) ORDER BY message, attempt",
        ([one["id"] for one in found],),
    )
    by_message: dict[str, list[Json]] = {}
    for one in tries:
        by_message.setdefault(one.pop("message"), []).append(one)
    return [{**one, "ledger": by_message.get(one["id"], [])} for one in found]


async def _read(
    connection: Connection, columns: str, rest: str, parameters: Sequence[object]
) -> list[Json]:
    names = [name.strip() for name in columns.split(",")]
    with translated():
        cursor = await connection.execute(
            f"SELECT {columns} FROM {rest}".encode(),
            parameters,
        )
        return [dict(zip(names, row, strict=True)) for row in await cursor.fetchall()]
