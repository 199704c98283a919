"""What was decided without PostgreSQL, back into it.

The signals of the ledger are folded once more, over PostgreSQL's own state and by the same code,
batch by batch with the time at which each was decided. Ids are hashes, so where nothing else had
happened every row comes out as it was told; where something had (a person's last action, another
alert), the signal joins what is there, versions follow from that, and what was told is kept under
the transition of the same signal. Each step is idempotent and ends in PostgreSQL before the ledger
lets go of it: killed anywhere, it is done again.

    1. `merge`, until nothing of our own is left: signals, incidents, transitions, pages
    2. `hand_over` of pages and attempts that have their end, piece by piece
    3. `hand_over`: how far the other pages got, and the offsets, forward in time
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import msgspec

from alerting import rows, store
from alerting.fold import Compose, Composed, Item, Partition, World
from alerting.model import Incident, Member, Nature, Transition
from alerting.rows import Row
from sizao.db import Connection, translated
from sizao.errors import Raced, Refused, Retriable, TooSlow
from sizao.signal import Kind, Phase, Signal, Subject, SubjectType, Tier

BATCH_MAX = 500
_LEASE_US = 15_000_000

OWN = (
    "SELECT * FROM signal WHERE own AND stored_us ="
    " (SELECT stored_us FROM signal WHERE own ORDER BY seq LIMIT 1) ORDER BY seq LIMIT ?"
)
TOLD = (
    "SELECT t.id, t.cause, t.version, coalesce(o.published, 0) AS published FROM transition t"
    " LEFT JOIN outbox o ON o.transition = t.id WHERE t.cause IN (SELECT value FROM json_each(?))"
)
PAGES = (
    "SELECT m.*, t.cause FROM message m JOIN transition t ON t.id = m.transition"
    " WHERE m.own AND t.cause IN (SELECT value FROM json_each(?)) ORDER BY m.seq"
)
DELIVERY = (
    "SELECT id, state, reason, attempts, first_us, next_us, lease_holder, lease_until_us, ended_us"
    " FROM message m WHERE (own OR touched)"
)
ATTEMPTS = "SELECT * FROM message_attempt"
PIECE = 2_000
"""Rows of one statement, 0.1 s. An hour with a receiver that hangs leaves 190,000 attempts: all of
them in one took longer than a statement may, each time, and nothing came back to PostgreSQL.
"""
_MERGED = (
    " NOT EXISTS (SELECT 1 FROM message w JOIN transition t ON t.id = w.transition"
    " JOIN signal s ON s.id = t.cause WHERE w.id = {} AND s.own) LIMIT ?"
)
ENDED = f"{DELIVERY} AND state <> 'due' AND {_MERGED.format('m.id')}"
ENDED_ATTEMPTS = f"{ATTEMPTS} a WHERE ended_us IS NOT NULL AND {_MERGED.format('a.message')}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What was decided and said without PostgreSQL because of some signals, all of one instant."""

    signals: Sequence[Row]
    transitions: Mapping[str, Row]
    """By cause."""
    pages: Sequence[Row]

    def of(self, some: Iterable[Row]) -> Told:
        """The part of it that these signals caused."""
        chosen = list(some)
        causes = {row["id"] for row in chosen}
        return Told(
            signals=chosen,
            transitions={cause: row for cause, row in self.transitions.items() if cause in causes},
            pages=[row for row in self.pages if row["cause"] in causes],
        )


def told(ask: Any) -> Told:
    """The oldest batch of the ledger that is not merged. `ask`: `DiskLedger.ask`."""
    signals = ask(OWN, (BATCH_MAX,))
    causes = (json.dumps([row["id"] for row in signals]),)
    return Told(
        signals=signals,
        transitions={str(row["cause"]): row for row in ask(TOLD, causes)},
        pages=ask(PAGES, causes),
    )


async def merge(
    connection: Connection, what: Told, compose: World, holder: str, now_us: int
) -> list[str]:
    """Store a batch; returns ids of signals that PostgreSQL never takes, which are passed over.

    Raises Retriable, and then nothing or a part is stored, which is found at the next try.
    """
    try:
        await _merge(connection, what, compose, holder, now_us)
    except Raced as error:  # another alert opened the same incident: there to join next time
        raise Retriable(str(error)) from error
    except (Refused, TooSlow) as error:
        if len(what.signals) > 1:
            refused: list[str] = []
            for row in what.signals:
                refused += await merge(connection, what.of([row]), compose, holder, now_us)
            return refused
        if isinstance(error, TooSlow):
            raise
        (row,) = what.signals
        if row["evidence"] == "{}":
            return [str(row["id"])]
        bare = replace(what, signals=[{**row, "evidence": "{}"}])
        return await merge(connection, bare, compose, holder, now_us)
    return []


async def _merge(
    connection: Connection, what: Told, compose: World, holder: str, now_us: int
) -> None:
    items = []
    for row in what.signals:
        signal, nature = _signal(row), Nature(str(row["nature"]))
        place = compose.place(signal)
        items += [Item(signal=signal, nature=nature, arrived_us=0, place=place)]
    decided_us = _int(what.signals[0]["stored_us"])
    with translated():
        async with connection.transaction():
            await store.take(connection, {}, items, decided_us, _unsaid(compose, what))
            await _pages(connection, what.pages, holder, now_us)


def _unsaid(compose: Compose, what: Told) -> Compose:
    """What follows from a transition, but for what the ledger has said because of its cause."""
    ways: dict[object, set[tuple[object, object]]] = {}
    for row in what.pages:
        ways.setdefault(row["cause"], set()).add((row["responder"], row["channel"]))

    def composed(
        incident: Incident, transition: Transition, members: Sequence[Member], arrived_us: int
    ) -> Composed:
        found = compose(incident, transition, members, arrived_us)
        before = what.transitions.get(transition.cause)
        if before is None:
            return found
        same = (before["id"], before["version"]) == (transition.id, transition.version)
        had = ways.get(transition.cause, set())
        return replace(
            found,
            record="" if same and before["published"] else found.record,
            messages=[
                one for one in found.messages if (one["responder"], one["channel"]) not in had
            ],
            unrouted=found.unrouted and not had,
        )

    return composed


async def _pages(connection: Connection, pages: Sequence[Row], holder: str, now_us: int) -> None:
    """The pages that were made without PostgreSQL, under the transition of the same signal; where
    there is none, because PostgreSQL knew better, under the newest of its incident. They are ours
    to send until `hand_over`.
    """
    if not pages:
        return
    causes = sorted({str(row["cause"]) for row in pages})
    cursor = await connection.execute(
        "SELECT s.id, coalesce(mine.id, newest.id), s.incident FROM signal s"
        " LEFT JOIN transition mine ON mine.cause = s.id AND mine.cause_kind = 'signal'"
        " LEFT JOIN LATERAL (SELECT id FROM transition t WHERE t.incident = s.incident"
        " ORDER BY version DESC LIMIT 1) newest ON true WHERE s.id = ANY(%s)",
        (causes,),
    )
    places = {row[0]: row[1:] for row in await cursor.fetchall()}
    found: list[Row] = []
    for page in pages:
        transition, incident = places.get(page["cause"], (None, None))
        if transition is None:
            continue  # the signal itself was refused, which is counted
        row = {key: item for key, item in page.items() if key not in _OURS}
        row |= {"transition": transition, "incident": incident}
        if row["state"] == "due":
            row |= {"lease_holder": holder, "lease_until_us": now_us + _LEASE_US}
        found.append(row)
    if found:
        await store.write(connection, [rows.Write(table="message", once=True, rows=found)])


_OURS = frozenset({"seq", "own", "touched", "cause"})

_DELIVERY = b"""
UPDATE message m SET state = x.state, reason = x.reason,
    attempts = greatest(m.attempts, x.attempts), first_us = coalesce(m.first_us, x.first_us),
    next_us = x.next_us, ended_us = x.ended_us,
    lease_holder = x.lease_holder, lease_until_us = x.lease_until_us
FROM jsonb_populate_recordset(NULL::message, %s::jsonb) x
WHERE m.id = x.id AND m.state = 'due' AND (x.state <> 'due' OR m.lease_holder IS NULL
    OR m.lease_holder = %s OR m.lease_until_us <= %s)
"""
_ATTEMPTS = b"""
INSERT INTO message_attempt SELECT x.* FROM jsonb_populate_recordset(NULL::message_attempt,
    %s::jsonb) x JOIN message m ON m.id = x.message
ON CONFLICT (message, attempt) DO UPDATE SET ended_us = EXCLUDED.ended_us,
    outcome = EXCLUDED.outcome, status = EXCLUDED.status, detail = EXCLUDED.detail
WHERE message_attempt.ended_us IS NULL
"""
# Forward in time. In one log that is forward by offset too; in one that came back shorter while we
# were away, the greater offset is the old one's, and would skip what was not read yet.
_FORWARD = b"""
INSERT INTO alert_offset SELECT * FROM jsonb_populate_recordset(NULL::alert_offset, %s::jsonb)
ON CONFLICT (topic, partition) DO UPDATE SET
    next_offset = CASE WHEN EXCLUDED.arrived_ms > alert_offset.arrived_ms
            THEN EXCLUDED.next_offset
        WHEN EXCLUDED.arrived_ms < alert_offset.arrived_ms THEN alert_offset.next_offset
        ELSE greatest(alert_offset.next_offset, EXCLUDED.next_offset) END,
    arrived_ms = greatest(alert_offset.arrived_ms, EXCLUDED.arrived_ms)
"""


async def hand_over(
    connection: Connection,
    *,
    delivery: Sequence[Row],
    attempts: Sequence[Row],
    offsets: Mapping[Partition, tuple[int, int]],
    holder: str,
    now_us: int,
) -> None:
    """How far each page got, and what was read. A page that PostgreSQL has the end of keeps it; one
    that another alert is sending stays with it, unless we have the end.
    """
    places: list[Row] = [
        {"topic": topic, "partition": number, "next_offset": at, "arrived_ms": arrived_ms}
        for (topic, number), (at, arrived_ms) in offsets.items()
    ]
    with translated():
        async with connection.transaction():
            for start in range(0, len(delivery), PIECE):
                some = _json(delivery[start : start + PIECE])
                await connection.execute(_DELIVERY, (some, holder, now_us))
            for start in range(0, len(attempts), PIECE):
                await connection.execute(_ATTEMPTS, (_json(attempts[start : start + PIECE]),))
            if places:
                await connection.execute(_FORWARD, (_json(places),))


def _json(found: Sequence[Row]) -> str:
    return msgspec.json.encode(list(found)).decode()


def _int(value: object) -> int:
    assert isinstance(value, int)
    return value


def _signal(row: Mapping[str, Any]) -> Signal:
    """From a row of the ledger, which is whole where it is our own."""
    return Signal(
        onset=row["onset"],
        id=row["id"],
        rule=row["rule"],
        rule_version=row["rule_version"],
        kind=Kind(row["kind"]),
        tier=Tier(row["tier"]),
        phase=Phase(row["phase"]),
        subject=Subject(type=SubjectType(row["subject_type"]), id=row["subject"]),
        site=row["site"],
        device=row["device"],
        onset_us=row["onset_us"],
        event_us=row["event_us"],
        received_us=row["received_us"],
        generation=row["generation"],
        late=bool(row["late"]),
        self_test=bool(row["self_test"]),
        evidence=json.loads(row["evidence"]),
    )
