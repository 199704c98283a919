"""Rows of the ledger on the local disk, both ways: `alerting.store` in SQLite's words.

Tables and columns are PostgreSQL's, so that the same rows go into both. Of a signal that a look has
mirrored no more is known than its id and which incident holds its onset; `own` rows were decided
here.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping, Sequence
from typing import Any

from alerting import rows
from alerting.carriers import Tally
from alerting.corroborate import OTHERS_MAX
from alerting.fold import MEMBERS_SHOWN, Found, Item, Move, OffsetMoved, Partition, Wanted
from alerting.model import ALARMING_US, Beside, Incident, Member, Nature
from alerting.rows import Write

SEEN_MAX = 50_000
"""Mirrored signals kept: they tell what was seen and who holds an onset."""

TABLES = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE alert_offset (
    topic TEXT, partition INTEGER, next_offset INTEGER NOT NULL, arrived_ms INTEGER NOT NULL,
    PRIMARY KEY (topic, partition));
CREATE TABLE incident (
    id TEXT PRIMARY KEY, site INTEGER, kind TEXT, nature TEXT, tier TEXT, state TEXT, verdict TEXT,
    verdict_cause TEXT, verdict_devices TEXT, version INTEGER, opened_us INTEGER, onset_us INTEGER,
    last_us INTEGER, changed_us INTEGER, closed_us INTEGER, late INTEGER, deciding TEXT,
    members INTEGER, alarm_member TEXT, alarm_us INTEGER);
CREATE INDEX incident_of_key ON incident (site, kind, nature);
CREATE TABLE incident_device (
    incident TEXT, member TEXT, device INTEGER, tier TEXT, onset TEXT, joined_us INTEGER,
    last_us INTEGER, cleared_us INTEGER, floor INTEGER, alone INTEGER NOT NULL DEFAULT 1,
    PRIMARY KEY (incident, member)) WITHOUT ROWID;
CREATE TABLE silence (
    subject TEXT, nature TEXT, carrier TEXT, device INTEGER, onset TEXT, onset_us INTEGER,
    ended_us INTEGER, PRIMARY KEY (subject, nature)) WITHOUT ROWID;
CREATE INDEX silence_of_carrier ON silence (carrier) WHERE ended_us IS NULL;
CREATE TABLE signal (
    seq INTEGER PRIMARY KEY, id TEXT UNIQUE, onset TEXT NOT NULL, rule TEXT, rule_version INTEGER,
    kind TEXT, tier TEXT, phase TEXT, subject_type TEXT, subject TEXT, site INTEGER, device INTEGER,
    onset_us INTEGER, event_us INTEGER, received_us INTEGER, generation INTEGER, late INTEGER,
    self_test INTEGER, evidence TEXT, nature TEXT NOT NULL, stored_us INTEGER, incident TEXT,
    became TEXT, own INTEGER NOT NULL DEFAULT 0);
CREATE INDEX signal_of_onset ON signal (onset) WHERE incident IS NOT NULL;
CREATE INDEX signal_own ON signal (seq) WHERE own;
CREATE INDEX signal_of_water ON signal (site, event_us) WHERE kind = 'water';
CREATE INDEX signal_of_loss ON signal (device, onset_us) WHERE kind IN ('offline', 'fault');
CREATE TABLE transition (
    id TEXT PRIMARY KEY, incident TEXT, version INTEGER, cause TEXT UNIQUE, cause_kind TEXT,
    what TEXT, at_us INTEGER, event_us INTEGER, actor TEXT, late INTEGER, before TEXT, after TEXT,
    payload TEXT);
CREATE TABLE outbox (
    seq INTEGER PRIMARY KEY, transition TEXT UNIQUE, incident TEXT, at_us INTEGER, value TEXT,
    published INTEGER NOT NULL DEFAULT 0);
CREATE TABLE message (
    seq INTEGER PRIMARY KEY, id TEXT UNIQUE, transition TEXT, incident TEXT, responder TEXT,
    channel TEXT, step INTEGER, nature TEXT, urgency INTEGER, why TEXT, body TEXT, made_us INTEGER,
    signal_us INTEGER, state TEXT, reason TEXT NOT NULL DEFAULT '', attempts INTEGER,
    first_us INTEGER, next_us INTEGER, lease_holder TEXT, lease_until_us INTEGER, ended_us INTEGER,
    own INTEGER NOT NULL DEFAULT 0, touched INTEGER NOT NULL DEFAULT 0);
CREATE INDEX message_lane ON message (responder, channel, urgency DESC, next_us, seq)
    WHERE state = 'due';
CREATE INDEX message_leased ON message (responder, channel) WHERE lease_until_us IS NOT NULL;
CREATE INDEX message_of_transition ON message (transition);
CREATE TABLE message_attempt (
    message TEXT, attempt INTEGER, started_us INTEGER, ended_us INTEGER, outcome TEXT,
    status INTEGER, detail TEXT NOT NULL DEFAULT '', PRIMARY KEY (message, attempt));
"""


def put(one: sqlite3.Connection, write: Write, *, own: bool = False) -> None:
    """The rows of a write, as `alerting.store.write` puts them into PostgreSQL."""
    columns = list(write.rows[0])
    marks = ", ".join(f":{column}" for column in columns)
    names = ", ".join(columns)
    if own:
        names, marks = f"{names}, own", f"{marks}, 1"
    query = f"INSERT INTO {write.table} ({names}) VALUES ({marks}) {write.rest}"
    one.executemany(query, [{name: _plain(row[name]) for name in columns} for row in write.rows])


def _plain(value: object) -> object:
    return json.dumps(value) if isinstance(value, (dict, list)) else value


def advance(one: sqlite3.Connection, moves: Mapping[Partition, Move]) -> None:
    """Move the consumed offsets by compare-and-set. Raises OffsetMoved."""
    for (topic, partition), move in sorted(moves.items()):
        if move.expected is None:
            cursor = one.execute(
                "INSERT INTO alert_offset VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING",
                (topic, partition, move.next_offset, move.arrived_ms),
            )
        else:
            cursor = one.execute(
                "UPDATE alert_offset SET next_offset = ?, arrived_ms = max(arrived_ms, ?)"
                " WHERE topic = ? AND partition = ? AND next_offset = ?",
                (move.next_offset, move.arrived_ms, topic, partition, move.expected),
            )
        if cursor.rowcount != 1:
            raise OffsetMoved(f"{topic}/{partition} is not at {move.expected} in the ledger")


def set_offsets(one: sqlite3.Connection, offsets: Mapping[Partition, tuple[int, int]]) -> None:
    """As PostgreSQL has them."""
    one.executemany(
        "INSERT OR REPLACE INTO alert_offset VALUES (?, ?, ?, ?)",
        [(*pair, *place) for pair, place in offsets.items()],
    )


def trim(one: sqlite3.Connection) -> None:
    """Forget the oldest mirrored signals beyond SEEN_MAX."""
    one.execute(
        "DELETE FROM signal WHERE NOT own AND seq <= (SELECT max(seq) FROM signal) - ?", (SEEN_MAX,)
    )


def fresh(one: sqlite3.Connection, items: Sequence[Item]) -> list[Item]:
    """Without the records that are known already."""
    known = "SELECT 1 FROM signal WHERE id = ?"
    return [item for item in items if not one.execute(known, (item.signal.id,)).fetchone()]


def look_up(one: sqlite3.Connection, about: Wanted | None) -> Found:
    """What a batch has to know."""
    if about is None:
        return Found()
    incidents: list[Incident] = []
    for key in about.keys:
        row = one.execute(
            f"SELECT {rows.INCIDENT_COLUMNS} FROM incident WHERE (site, kind, nature) = (?, ?, ?)"
            " ORDER BY closed_us IS NOT NULL, closed_us DESC LIMIT 1",
            key,
        ).fetchone()
        if row is not None:
            incidents.append(_incident(row))
    members = {incident.id: _members(one, incident, about.names) for incident in incidents}
    silences = _silences(one, about)
    holders = one.execute(
        "SELECT DISTINCT onset, nature, incident FROM signal"
        " WHERE onset IN (SELECT value FROM json_each(?)) AND incident IS NOT NULL",
        (json.dumps(about.onsets_with(silences["silent"])),),
    )
    return Found(
        incidents=incidents,
        members=members,
        holders={(row[0], Nature(row[1])): row[2] for row in holders},
        beside=_beside(one, about),
        **silences,
    )


def _members(one: sqlite3.Connection, incident: Incident, names: list[str]) -> dict[str, Member]:
    """Those of `names`, and the newest of an early fire."""
    select = f"SELECT {rows.MEMBER_COLUMNS} FROM incident_device WHERE incident = ?"
    named = f"{select} AND member IN (SELECT value FROM json_each(?))"
    found = one.execute(named, (incident.id, json.dumps(names))).fetchall()
    if incident.is_early_fire:
        newest = f"{select} ORDER BY last_us DESC, member LIMIT ?"
        found += one.execute(newest, (incident.id, OTHERS_MAX)).fetchall()
    return {row[1]: rows.member_of(row)[1] for row in found}


_QUANTITY = "json_extract(evidence, '$.quantity')"


def _beside(one: sqlite3.Connection, about: Wanted) -> list[tuple[Nature, Beside]]:
    """What lies beside the fires of a batch, as far as this process has stored it."""
    water = (
        f"SELECT {rows.BESIDE_COLUMNS} FROM signal WHERE kind = 'water' AND phase <> 'clear'"
        " AND site = :site AND nature = :nature AND event_us"
        f" BETWEEN :event_us - {ALARMING_US} AND :event_us + {ALARMING_US} LIMIT 1"
    )
    loss = (
        f"SELECT {rows.BESIDE_COLUMNS} FROM signal WHERE kind IN ('offline', 'fault')"
        " AND phase = 'raise' AND device = :device AND device > 0 AND site = :site"
        f" AND nature = :nature AND onset_us BETWEEN :onset_us AND :event_us + {ALARMING_US}"
        f" AND {rows.is_loss(_QUANTITY)} LIMIT 1"
    )
    found = []
    for fire in about.fires:
        found += one.execute(water, fire._asdict()).fetchall()
        found += one.execute(loss, fire._asdict()).fetchall()
    return [rows.beside_of(row) for row in found]


def _silences(one: sqlite3.Connection, about: Wanted) -> dict[str, Any]:
    """Who of the asked is silent, and how many of each carrier."""
    silent = one.execute(
        f"SELECT {rows.SILENCE_COLUMNS} FROM silence WHERE ended_us IS NULL"
        " AND subject IN (SELECT value FROM json_each(?))",
        (json.dumps(about.silent),),
    )
    tallies = one.execute(
        "SELECT carrier, nature, count(*), (SELECT json_group_array(onset_us) FROM"
        " (SELECT onset_us FROM silence one WHERE one.ended_us IS NULL AND one.device > 0"
        " AND one.carrier = silence.carrier AND one.nature = silence.nature"
        " ORDER BY onset_us LIMIT ?)) FROM silence WHERE ended_us IS NULL"
        " AND device > 0 AND carrier IN (SELECT value FROM json_each(?)) GROUP BY carrier, nature",
        (about.oldest_max, json.dumps(about.carriers)),
    )
    return {
        "silent": dict(rows.silence_of(row) for row in silent),
        "tallies": {
            (row[0], Nature(row[1])): Tally(count=row[2], oldest=tuple(sorted(json.loads(row[3]))))
            for row in tallies
        },
    }


def _incident(row: Sequence[Any]) -> Incident:
    values = list(row)
    values[8], values[15] = json.loads(row[8]), bool(row[15])
    return rows.incident_of(values)


def shown(one: sqlite3.Connection, incident: str) -> list[Member]:
    """The first members of an incident."""
    found = one.execute(
        f"SELECT {rows.MEMBER_COLUMNS} FROM incident_device WHERE incident = ?"
        " ORDER BY joined_us, member LIMIT ?",
        (incident, MEMBERS_SHOWN),
    )
    return [rows.member_of(row)[1] for row in found]
