"""Rows of this room's tables, both ways. Pure.

Rows are written as one JSON array per statement (`jsonb_populate_recordset`): one round trip for a
batch, whatever its size, and no SQL built from values.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from alerting.corroborate import FAULT_QUANTITY, FAULT_RULE
from alerting.model import (
    Beside,
    Effect,
    Incident,
    Key,
    Member,
    Nature,
    Placed,
    Recorded,
    Silenced,
    Silent,
    State,
    Transition,
    Verdict,
)
from sizao.signal import Evidence, Kind, Signal, Tier

Row = dict[str, object]

INCIDENT_COLUMNS = (
    "id, site, kind, nature, tier, state, verdict, verdict_cause, verdict_devices, version,"
    " opened_us, onset_us, last_us, changed_us, closed_us, late, deciding, members, alarm_member,"
    " alarm_us"
)
MEMBER_COLUMNS = (
    "incident, member, device, tier, onset, joined_us, last_us, cleared_us, floor, alone"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Write:
    """Rows of one table, all of one shape. `keys`: the row replaces an older one of the same;
    "" with `once`: an older one stays.
    """

    table: str
    rows: Sequence[Row]
    keys: str = ""
    once: bool = False

    @property
    def rest(self) -> str:
        """What follows the rows in the statement: both our databases speak it."""
        if self.keys:
            values = ", ".join(f"{column} = EXCLUDED.{column}" for column in self.rows[0])
            return f"ON CONFLICT ({self.keys}) DO UPDATE SET {values}"
        return "ON CONFLICT DO NOTHING" if self.once else ""


def writes(
    changed: Sequence[Incident],
    effects: Sequence[Effect],
    now_us: int,
    records: Sequence[Row],
    messages: Sequence[Row],
) -> list[Write]:
    """Incidents first: everything else refers to them."""
    placed = {(e.incident, e.member.name): e for e in effects if isinstance(e, Placed)}
    silenced = {(e.name, e.nature): e for e in effects if isinstance(e, Silenced)}
    found = [
        Write(table="incident", keys="id", rows=[incident_row(one) for one in changed]),
        Write(
            table="incident_device",
            keys="incident, member",
            rows=[member_row(effect) for effect in placed.values()],
        ),
        Write(
            table="signal",
            once=True,
            rows=[signal_row(e, now_us) for e in effects if isinstance(e, Recorded)],
        ),
        Write(
            table="transition",
            rows=[transition_row(e) for e in effects if isinstance(e, Transition)],
        ),
        Write(
            table="silence",
            keys="subject, nature",
            rows=[silence_row(one) for one in silenced.values()],
        ),
        Write(table="outbox", rows=records),
        Write(table="message", once=True, rows=messages),
    ]
    return [one for one in found if one.rows]


def insert(table: str, rows: Sequence[Row], rest: str = "") -> tuple[bytes, tuple[str]]:
    """Statement and parameters that insert `rows`, all of one shape. Names come from this room's
    code, never from outside.
    """
    columns = ", ".join(rows[0])
    query = (
        f"INSERT INTO {table} ({columns}) SELECT {columns}"
        f" FROM jsonb_populate_recordset(NULL::{table}, %s::jsonb) {rest}"
    )
    return query.encode(), (msgspec.json.encode(list(rows)).decode(),)


def incident_row(incident: Incident) -> Row:
    """Columns as in INCIDENT_COLUMNS."""
    return {
        "id": incident.id,
        "site": incident.key.site,
        "kind": incident.key.kind,
        "nature": incident.key.nature,
        "tier": incident.tier,
        "state": incident.state,
        "verdict": incident.verdict,
        "verdict_cause": incident.verdict_cause,
        "verdict_devices": list(incident.verdict_devices),
        "version": incident.version,
        "opened_us": incident.opened_us,
        "onset_us": incident.onset_us,
        "last_us": incident.last_us,
        "changed_us": incident.changed_us,
        "closed_us": incident.closed_us,
        "late": incident.late,
        "deciding": incident.deciding,
        "members": incident.members,
        "alarm_member": incident.alarm_member,
        "alarm_us": incident.alarm_us,
    }


def incident_of(row: Sequence[Any]) -> Incident:
    """An incident from a row of INCIDENT_COLUMNS, without members."""
    return Incident(
        id=row[0],
        key=Key(row[1], Kind(row[2]), Nature(row[3])),
        tier=Tier(row[4]),
        state=State(row[5]),
        verdict=None if row[6] is None else Verdict(row[6]),
        verdict_cause=row[7],
        verdict_devices=tuple(row[8]),
        version=row[9],
        opened_us=row[10],
        onset_us=row[11],
        last_us=row[12],
        changed_us=row[13],
        closed_us=row[14],
        late=row[15],
        deciding=row[16],
        members=row[17],
        alarm_member=row[18],
        alarm_us=row[19],
    )


def member_row(placed: Placed) -> Row:
    """Columns as in MEMBER_COLUMNS."""
    member = placed.member
    return {
        "incident": placed.incident,
        "member": member.name,
        "device": member.device,
        "tier": member.tier,
        "onset": member.onset,
        "joined_us": member.joined_us,
        "last_us": member.last_us,
        "cleared_us": member.cleared_us,
        "floor": member.floor,
        "alone": member.alone,
    }


def member_of(row: Sequence[Any]) -> tuple[str, Member]:
    """Incident id and member from a row of MEMBER_COLUMNS."""
    return row[0], Member(
        name=row[1],
        device=row[2],
        tier=Tier(row[3]),
        onset=row[4],
        joined_us=row[5],
        last_us=row[6],
        cleared_us=row[7],
        floor=row[8],
        alone=bool(row[9]),
    )


def signal_row(recorded: Recorded, now_us: int) -> Row:
    """A signal and what it became."""
    signal = recorded.signal
    return {
        "id": signal.id,
        "onset": signal.onset,
        "rule": signal.rule,
        "rule_version": signal.rule_version,
        "kind": signal.kind,
        "tier": signal.tier,
        "phase": signal.phase,
        "subject_type": signal.subject.type,
        "subject": signal.subject.id,
        "site": signal.site,
        "device": signal.device,
        "onset_us": signal.onset_us,
        "event_us": signal.event_us,
        "received_us": signal.received_us,
        "generation": signal.generation,
        "late": signal.late,
        "self_test": signal.self_test,
        "evidence": signal.evidence,
        "nature": recorded.nature,
        "stored_us": now_us,
        "incident": recorded.incident or None,
        "became": recorded.became,
    }


SILENCE_COLUMNS = "subject, nature, carrier, onset, onset_us"


def silence_row(silenced: Silenced) -> Row:
    """Who is, or was, offline."""
    silent = silenced.silent
    return {
        "subject": silenced.name,
        "nature": silenced.nature,
        "carrier": silent.carrier,
        "device": silenced.device,
        "onset": silent.onset,
        "onset_us": silent.onset_us,
        "ended_us": silenced.ended_us,
    }


def silence_of(row: Sequence[Any]) -> tuple[tuple[str, Nature], Silent]:
    """Who is silent, from a row of SILENCE_COLUMNS."""
    return (row[0], Nature(row[1])), Silent(carrier=row[2], onset=row[3], onset_us=row[4])


def is_loss(quantity: str) -> str:
    """The condition of `corroborate.is_loss`, of rows that name a device. `quantity`: how this
    database takes it out of the evidence.
    """
    return f"(kind = 'offline' OR (rule = '{FAULT_RULE}' AND {quantity} = '{FAULT_QUANTITY}'))"


BESIDE_COLUMNS = (
    "kind, nature, site, device, CASE kind WHEN 'water' THEN event_us ELSE onset_us END"
)


def beside_of(row: Sequence[Any]) -> tuple[Nature, Beside]:
    """What may matter to a fire, from a row of BESIDE_COLUMNS."""
    return Nature(row[1]), Beside(kind=Kind(row[0]), site=row[2], device=row[3], at_us=row[4])


def transition_row(transition: Transition) -> Row:
    """A line of the time line."""
    return {
        "id": transition.id,
        "incident": transition.incident,
        "version": transition.version,
        "cause": transition.cause,
        "cause_kind": transition.cause_kind,
        "what": transition.what,
        "at_us": transition.at_us,
        "event_us": transition.event_us,
        "actor": transition.actor,
        "late": transition.late,
        "before": transition.before,
        "after": transition.after,
        "payload": transition.payload,
    }


def outbox_row(transition: Transition, value: str) -> Row:
    """A transition on its way to Kafka."""
    return {
        "transition": transition.id,
        "incident": transition.incident,
        "at_us": transition.at_us,
        "value": value,
    }


def storable(signal: Signal) -> Signal:
    """The signal without what PostgreSQL's text and jsonb cannot hold (NUL, lone surrogates)."""
    subject = msgspec.structs.replace(signal.subject, id=_text(signal.subject.id))
    evidence: Evidence = {
        _text(name): _text(item) if isinstance(item, str) else item
        for name, item in signal.evidence.items()
    }
    return msgspec.structs.replace(
        signal, rule=_text(signal.rule), subject=subject, evidence=evidence
    )


def _text(text: str) -> str:
    if text.isascii() and text.isprintable():
        return text
    return text.encode("utf-8", "replace").decode().replace("\0", " ")
