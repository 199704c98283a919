"""What leaves the house while PostgreSQL is away: `alerting.outbox` over the ledger on the disk.

The same rules: a message is claimed and its attempt written down before any byte leaves; repeats of
a responder's channel go one at a time; first attempts of what nobody may delay go beside them. That
nobody else has sent it cannot be known here, so each attempt is marked dedup=unknown.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection, Sequence

from alerting.ledger import (
    DETAIL_CHARS_MAX,
    Answer,
    MessageState,
    Next,
    Outcome,
    next_attempt,
)
from alerting.outbox import CUT_OFF, DRAIN_MAX, LANE_MAX, Claim, Record
from alerting.policy import PRESSING

DEDUP_UNKNOWN = "dedup=unknown"

# From one lane to the next by the index, without reading what waits behind the head of each.
_LANES = """
WITH RECURSIVE lane (responder, channel) AS (
    SELECT * FROM (SELECT responder, channel FROM message WHERE state = 'due'
        ORDER BY responder, channel LIMIT 1)
    UNION ALL
    SELECT m.responder, m.channel FROM lane JOIN message m ON m.seq = (
        SELECT seq FROM message WHERE state = 'due'
            AND (responder, channel) > (lane.responder, lane.channel)
        ORDER BY responder, channel LIMIT 1)
) SELECT responder, channel FROM lane
"""
_FREE = (
    "state = 'due' AND responder = ? AND channel = ? AND next_us <= ?"
    " AND (lease_until_us IS NULL OR lease_until_us <= ?)"
    " AND id NOT IN (SELECT value FROM json_each(?))"
)


def claim(
    one: sqlite3.Connection,
    holder: str,
    *,
    now_us: int,
    lease_us: int,
    limit: int,
    under_way: Collection[str] = (),
) -> list[Claim]:
    """As `alerting.outbox.claim`; `under_way`: what this process is sending already."""
    wanted: list[tuple[int, int, int, int]] = []
    busy = json.dumps(list(under_way))
    for responder, channel in one.execute(_LANES).fetchall():
        lane = (responder, channel, now_us, now_us, busy)
        count, repeats = one.execute(
            "SELECT count(*), coalesce(sum(attempts > 1 OR urgency < ?), 0) FROM message"
            " WHERE responder = ? AND channel = ? AND lease_until_us > ?",
            (PRESSING, responder, channel, now_us),
        ).fetchone()
        firsts = one.execute(
            f"SELECT seq, urgency FROM message WHERE {_FREE} AND attempts = 0 AND urgency >= ?"
            " ORDER BY urgency DESC, seq LIMIT ?",
            (*lane, PRESSING, max(LANE_MAX - count, 0)),
        )
        for nth, (seq, urgency) in enumerate(firsts, count + 1):
            wanted.append((nth, 0, -urgency, seq))
        if repeats == 0:
            heads = one.execute(
                f"SELECT seq, urgency FROM message WHERE {_FREE} AND (attempts > 0 OR urgency < ?)"
                " ORDER BY urgency DESC, next_us, seq LIMIT 1",
                (*lane, PRESSING),
            )
            wanted += [(1, 1, -urgency, seq) for seq, urgency in heads]
    return [_claimed(one, holder, seq, now_us, lease_us) for *_, seq in sorted(wanted)[:limit]]


def _claimed(one: sqlite3.Connection, holder: str, seq: int, now_us: int, lease_us: int) -> Claim:
    row = one.execute(
        "UPDATE message SET lease_holder = ?, lease_until_us = ?, attempts = attempts + 1,"
        " first_us = coalesce(first_us, ?), touched = 1 WHERE seq = ?"
        " RETURNING id, responder, channel, body, attempts, first_us, signal_us",
        (holder, now_us + lease_us, now_us, seq),
    ).fetchone()
    _cut_off(one, [row[0]], now_us)
    one.execute(
        "INSERT OR REPLACE INTO message_attempt (message, attempt, started_us) VALUES (?, ?, ?)",
        (row[0], row[4], now_us),
    )
    return Claim(
        id=row[0],
        responder=row[1],
        channel=row[2],
        body=row[3],
        attempt=row[4],
        first_us=row[5],
        signal_us=row[6],
        dedup_unknown=True,
    )


def _cut_off(one: sqlite3.Connection, messages: Sequence[str], now_us: int) -> None:
    one.executemany(
        "UPDATE message_attempt SET ended_us = ?, outcome = ?, detail = ?"
        " WHERE message = ? AND ended_us IS NULL",
        [(now_us, Outcome.UNKNOWN, CUT_OFF, name) for name in messages],
    )


def release(one: sqlite3.Connection, holder: str, now_us: int) -> None:
    """As `alerting.outbox.release`."""
    mine = one.execute(
        "UPDATE message SET lease_holder = NULL, lease_until_us = NULL, next_us = ?, touched = 1"
        " WHERE state = 'due' AND lease_holder = ? RETURNING id",
        (now_us, holder),
    ).fetchall()
    _cut_off(one, [row[0] for row in mine], now_us)


def record(one: sqlite3.Connection, done: Claim, answer: Answer, now_us: int) -> Next:
    """As `alerting.outbox.record`; also for an attempt that began while PostgreSQL was there."""
    closed = one.execute(
        "SELECT 1 FROM message m JOIN incident i ON i.id = m.incident"
        " WHERE m.id = ? AND i.closed_us IS NOT NULL",
        (done.id,),
    ).fetchone()
    following = next_attempt(
        answer,
        attempts=done.attempt,
        first_us=done.first_us,
        now_us=now_us,
        incident_closed=closed is not None,
    )
    mark = f"{DEDUP_UNKNOWN} " if done.dedup_unknown else ""
    one.execute(
        "INSERT INTO message_attempt VALUES (?, ?, ?, ?, ?, ?, ?)"
        " ON CONFLICT (message, attempt) DO UPDATE SET ended_us = EXCLUDED.ended_us,"
        " outcome = EXCLUDED.outcome, status = EXCLUDED.status, detail = EXCLUDED.detail",
        (
            done.id,
            done.attempt,
            now_us,
            now_us,
            answer.outcome,
            answer.status,
            f"{mark}{answer.detail}"[:DETAIL_CHARS_MAX].strip(),
        ),
    )
    one.execute(
        "UPDATE message SET state = ?, reason = ?, next_us = ?, ended_us = ?, touched = 1,"
        " attempts = ?, first_us = ?, lease_holder = NULL, lease_until_us = NULL"
        " WHERE id = ? AND attempts <= ?",
        (
            following.state,
            following.reason,
            following.at_us,
            None if following.state is MessageState.DUE else now_us,
            done.attempt,
            done.first_us,
            done.id,
            done.attempt,
        ),
    )
    return following


def unpublished(one: sqlite3.Connection) -> list[Record]:
    """The oldest records that Kafka does not have yet."""
    found = one.execute(
        "SELECT o.seq, o.transition, o.incident, t.what, t.event_us, o.at_us, o.value"
        " FROM outbox o JOIN transition t ON t.id = o.transition"
        " WHERE NOT published ORDER BY o.seq LIMIT ?",
        (DRAIN_MAX,),
    )
    return [
        Record(
            seq=row[0],
            transition=row[1],
            incident=row[2],
            what=row[3],
            event_us=row[4],
            at_us=row[5],
            value=row[6],
        )
        for row in found
    ]


def depth(one: sqlite3.Connection, now_us: int) -> tuple[int, int, float]:
    """As `alerting.outbox.depth`."""
    row = one.execute(
        "SELECT (SELECT count(*) FROM outbox WHERE NOT published), count(*), min(made_us)"
        " FROM message WHERE state = 'due'"
    ).fetchone()
    return row[0], row[1], 0.0 if row[2] is None else max(now_us - row[2], 0) / 1e6
