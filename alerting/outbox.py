"""What leaves the house: claims on due messages, the ledger of attempts, records for Kafka.

A message is claimed with a lease and its attempt is written down before any byte leaves; the end
is recorded only by whoever holds the claim. A killed process leaves an attempt without an end and
a lease that lapses; the next claim marks that attempt unknown and sends again, under the same id.

Repeats of a responder's channel go one at a time, the more urgent first, then in the order of
falling due. First attempts of pages that nobody may delay (`PRESSING`) wait for no repeat and not
for one another, up to LANE_MAX on their way: with one at a time, a receiver that hung kept a fire's
first attempt waiting for 150 s behind five others, and 20 fires took a slow one 38 s.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from alerting import rows
from alerting.ledger import (
    DETAIL_CHARS_MAX,
    Answer,
    MessageState,
    Next,
    Outcome,
    Reason,
    next_attempt,
)
from alerting.policy import PRESSING
from sizao.db import Connection, translated

DRAIN_MAX = 200
_DRAIN_LOCK = 0x51_2A8
CUT_OFF = "cut off: the process ended before the answer was recorded"


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A message to send now: attempt number `attempt`, the first having begun at `first_us`.

    `dedup_unknown`: nobody could be asked whether another process has sent it already.
    """

    id: str
    responder: str
    channel: str
    body: str
    attempt: int
    first_us: int
    signal_us: int
    dedup_unknown: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """A transition on its way to Kafka."""

    seq: int
    transition: str
    incident: str
    what: str
    event_us: int
    at_us: int
    value: str


LANE_MAX = 16
"""Attempts of one responder's channel on their way at once: no flood for a duty desk's server."""

assert PRESSING == 3, "stands in the query and in the index message_repeat"  # noqa: PLR2004

# Lane by lane: the first of a lane goes before the second of any other, so that receivers that hang
# cannot take all places; repeats go beside firsts, or a storm would keep a page that failed once.
# Through the indexes, whatever the statistics say: with a plain DISTINCT ON, 20,000 due messages
# made this query run into the statement's time-out.
_CLAIM = b"""
WITH RECURSIVE lanes AS (
    (SELECT responder, channel FROM message WHERE state = 'due'
        ORDER BY responder, channel LIMIT 1)
    UNION ALL
    SELECT following.responder, following.channel FROM lanes CROSS JOIN LATERAL
        (SELECT m.responder, m.channel FROM message m
            WHERE m.state = 'due' AND (m.responder, m.channel) > (lanes.responder, lanes.channel)
            ORDER BY m.responder, m.channel LIMIT 1) following
), under_way AS (
    SELECT responder, channel, busy.count, busy.repeats FROM lanes CROSS JOIN LATERAL
        (SELECT count(*), count(*) FILTER (WHERE attempts > 1 OR urgency < 3) AS repeats
            FROM message m WHERE m.responder = lanes.responder AND m.channel = lanes.channel
                AND m.lease_until_us > %(now)s) busy
), firsts AS (
    SELECT first.id, first.urgency, first.seq, under_way.count + first.nth AS place
    FROM under_way CROSS JOIN LATERAL
        (SELECT id, urgency, seq, row_number() OVER (ORDER BY urgency DESC, seq) AS nth
            FROM message
            WHERE state = 'due' AND attempts = 0 AND responder = under_way.responder
                AND channel = under_way.channel AND urgency >= 3 AND next_us <= %(now)s
            ORDER BY urgency DESC, seq LIMIT greatest(%(lane)s - under_way.count, 0)) first
), heads AS (
    SELECT head.id, head.urgency, head.seq FROM under_way CROSS JOIN LATERAL
        (SELECT m.id, m.urgency, m.seq FROM generate_series(9, 0, -1) AS level CROSS JOIN LATERAL
            (SELECT id, urgency, seq FROM message
                WHERE state = 'due' AND (attempts > 0 OR urgency < 3)
                    AND responder = under_way.responder AND channel = under_way.channel
                    AND urgency = level AND next_us <= %(now)s
                    AND (lease_until_us IS NULL OR lease_until_us <= %(now)s)
                ORDER BY next_us, seq LIMIT 1) m
            ORDER BY m.urgency DESC LIMIT 1) head
    WHERE under_way.repeats = 0
), wanted AS (
    SELECT id FROM (SELECT id, urgency, seq, place, 0 AS turn FROM firsts
        UNION ALL SELECT id, urgency, seq, 1, 1 FROM heads) a
    ORDER BY place, turn, urgency DESC, seq LIMIT %(limit)s
), locked AS (
    SELECT id FROM message
    WHERE id = ANY(ARRAY(SELECT id FROM wanted)) AND state = 'due' AND next_us <= %(now)s
        AND (lease_until_us IS NULL OR lease_until_us <= %(now)s)
    FOR UPDATE SKIP LOCKED
)
UPDATE message SET lease_holder = %(holder)s, lease_until_us = %(until)s,
    attempts = attempts + 1, first_us = coalesce(first_us, %(now)s)
FROM locked WHERE message.id = locked.id
RETURNING message.id, responder, channel, body, attempts, first_us, signal_us, urgency, seq
"""


async def claim(
    connection: Connection, holder: str, *, now_us: int, lease_us: int, limit: int
) -> list[Claim]:
    """Claim at most `limit` due messages, and write their attempts down."""
    parameters = {"holder": holder, "now": now_us, "until": now_us + lease_us, "limit": limit}
    parameters["lane"] = LANE_MAX
    with translated():
        async with connection.transaction():
            cursor = await connection.execute(_CLAIM, parameters)
            found = sorted(await cursor.fetchall(), key=lambda row: (row[4] > 1, -row[7], row[8]))
            claims = [
                Claim(
                    id=row[0],
                    responder=row[1],
                    channel=row[2],
                    body=row[3],
                    attempt=row[4],
                    first_us=row[5],
                    signal_us=row[6],
                )
                for row in found
            ]
            if claims:
                await _cut_off(connection, [one.id for one in claims], now_us)
                attempts: list[rows.Row] = [
                    {"message": one.id, "attempt": one.attempt, "started_us": now_us, "detail": ""}
                    for one in claims
                ]
                await connection.execute(*rows.insert("message_attempt", attempts))
    return claims


async def _cut_off(connection: Connection, messages: Sequence[str], now_us: int) -> None:
    await connection.execute(
        "UPDATE message_attempt SET ended_us = %s, outcome = %s, detail = %s"
        " WHERE message = ANY(%s) AND ended_us IS NULL",
        (now_us, Outcome.UNKNOWN, CUT_OFF, list(messages)),
    )


async def release(connection: Connection, holder: str, now_us: int) -> int:
    """Give up the claims of a former life of `holder`; returns how many. They are due at once."""
    with translated():
        async with connection.transaction():
            cursor = await connection.execute(
                "UPDATE message SET lease_holder = NULL, lease_until_us = NULL, next_us = %s"
                " WHERE state = 'due' AND lease_holder = %s RETURNING id",
                (now_us, holder),
            )
            messages = [row[0] for row in await cursor.fetchall()]
            await _cut_off(connection, messages, now_us)
    return len(messages)


async def record(
    connection: Connection, done: Claim, holder: str, answer: Answer, now_us: int
) -> Next:
    """Write down the end of an attempt, and when the next one is.

    Whoever lost the claim meanwhile still completes the ledger, but decides nothing.
    """
    with translated():
        async with connection.transaction():
            cursor = await connection.execute(
                "SELECT count(*) FROM message m JOIN incident i ON i.id = m.incident"
                " WHERE m.id = %s AND i.closed_us IS NOT NULL",
                (done.id,),
            )
            (closed,) = await cursor.fetchone() or (0,)
            following = next_attempt(
                answer,
                attempts=done.attempt,
                first_us=done.first_us,
                now_us=now_us,
                incident_closed=bool(closed),
            )
            await _end_attempt(connection, done, answer, now_us)
            ended_us = None if following.state is MessageState.DUE else now_us
            await connection.execute(
                "UPDATE message SET state = %s, reason = %s, next_us = %s, ended_us = %s,"
                " lease_holder = NULL, lease_until_us = NULL"
                " WHERE id = %s AND lease_holder = %s AND attempts = %s",
                (
                    following.state,
                    following.reason,
                    following.at_us,
                    ended_us,
                    done.id,
                    holder,
                    done.attempt,
                ),
            )
    return following


async def _end_attempt(connection: Connection, done: Claim, answer: Answer, now_us: int) -> None:
    await connection.execute(
        "UPDATE message_attempt SET ended_us = %s, outcome = %s, status = %s, detail = %s"
        " WHERE message = %s AND attempt = %s",
        (
            now_us,
            answer.outcome,
            answer.status,
            answer.detail[:DETAIL_CHARS_MAX],
            done.id,
            done.attempt,
        ),
    )


async def begin_once(connection: Connection, row: rows.Row, now_us: int) -> Claim:
    """A page with one attempt and no other, which nobody claims: born at its end, so that neither
    it nor its kill holds up a page of the same responder.
    """
    ended = {"attempts": 1, "first_us": now_us, "next_us": None, "ended_us": now_us}
    row = {**row, **ended, "state": MessageState.CANCELLED, "reason": Reason.ONCE}
    attempt: rows.Row = {
        "message": row["id"], "attempt": 1, "started_us": now_us, "detail": ""
    }  # fmt: skip
    with translated():
        async with connection.transaction():
            await connection.execute(*rows.insert("message", [row]))
            await connection.execute(*rows.insert("message_attempt", [attempt]))
    return Claim(
        id=str(row["id"]),
        responder=str(row["responder"]),
        channel=str(row["channel"]),
        body=str(row["body"]),
        attempt=1,
        first_us=now_us,
        signal_us=0,
    )


async def end_once(connection: Connection, done: Claim, answer: Answer, now_us: int) -> None:
    """Write down what became of it."""
    with translated():
        async with connection.transaction():
            await _end_attempt(connection, done, answer, now_us)
            if answer.outcome is Outcome.ACCEPTED:
                await connection.execute(
                    "UPDATE message SET state = %s, reason = %s, ended_us = %s WHERE id = %s",
                    (MessageState.ACCEPTED, Reason.ACCEPTED, now_us, done.id),
                )


async def depth(connection: Connection, now_us: int) -> tuple[int, int, float]:
    """Records waiting for Kafka, messages due, and the age in seconds of the oldest of these."""
    with translated():
        cursor = await connection.execute(
            "SELECT (SELECT count(*) FROM outbox), count(*), min(made_us) FROM message"
            " WHERE state = 'due'"
        )
        row = await cursor.fetchone()
    assert row is not None
    oldest_s = 0.0 if row[2] is None else max(now_us - row[2], 0) / 1e6
    return row[0], row[1], oldest_s


async def drain(connection: Connection, publish: Callable[[list[Record]], Awaitable[None]]) -> int:
    """Hand the oldest records to `publish` and delete them; returns how many.

    One process at a time, so that an incident's versions stay in order. A crash between the two
    publishes them again, under the same ids. Raises what `publish` raises.
    """
    with translated():
        async with connection.transaction():
            cursor = await connection.execute(
                "SELECT pg_try_advisory_xact_lock(%s)", (_DRAIN_LOCK,)
            )
            (mine,) = await cursor.fetchone() or (False,)
            if not mine:
                return 0
            cursor = await connection.execute(
                "SELECT o.seq, o.transition, o.incident, t.what, t.event_us, o.at_us, o.value"
                " FROM outbox o JOIN transition t ON t.id = o.transition ORDER BY o.seq LIMIT %s",
                (DRAIN_MAX,),
            )
            records = [
                Record(
                    seq=row[0],
                    transition=row[1],
                    incident=row[2],
                    what=row[3],
                    event_us=row[4],
                    at_us=row[5],
                    value=row[6],
                )
                for row in await cursor.fetchall()
            ]
            if records:
                await publish(records)
                await connection.execute(
                    "DELETE FROM outbox WHERE seq = ANY(%s)", ([one.seq for one in records],)
                )
    return len(records)
