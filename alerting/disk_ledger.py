"""The ledger on the local disk: what PostgreSQL held last, and what was decided without it.

One SQLite file of one process, locked for its life. Its tables are PostgreSQL's by name and column,
so that the same rows go into both. Rows with `own` were decided here and are not merged yet; all
others mirror PostgreSQL and may be lost at any time: Kafka's records from the mirrored offsets on
say them again. So a mirrored write is no more than a write to the file (synchronous=NORMAL), while
a decision is on the disk before anybody is told (FULL).

Every call here waits for the disk: `alerting.keeper` makes them on a thread of their own.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from alerting import disk_outbox, rows
from alerting.fold import (
    MEMBERS_SHOWN,
    Changes,
    Compose,
    Found,
    Item,
    Move,
    OffsetMoved,
    Partition,
    Wanted,
    fold,
    follow,
    wanted,
)
from alerting.ledger import Answer, Next
from alerting.mirror import Known, Look
from alerting.model import Incident, Member, Nature
from alerting.outbox import Claim, Record
from alerting.rows import Row, Write
from sizao.errors import Retriable

SCHEMA = 1
SEEN_MAX = 50_000
"""Mirrored signals kept: they tell what was seen and who holds an onset."""
_PAGE = 4096
_MIRRORED = frozenset({"incident", "incident_device", "signal", "message"})

_TABLES = """
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
    last_us INTEGER, cleared_us INTEGER, PRIMARY KEY (incident, member)) WITHOUT ROWID;
CREATE TABLE signal (
    seq INTEGER PRIMARY KEY, id TEXT UNIQUE, onset TEXT NOT NULL, rule TEXT, rule_version INTEGER,
    kind TEXT, tier TEXT, phase TEXT, subject_type TEXT, subject TEXT, site INTEGER, device INTEGER,
    onset_us INTEGER, event_us INTEGER, received_us INTEGER, generation INTEGER, late INTEGER,
    self_test INTEGER, evidence TEXT, nature TEXT NOT NULL, stored_us INTEGER, incident TEXT,
    became TEXT, own INTEGER NOT NULL DEFAULT 0);
CREATE INDEX signal_of_onset ON signal (onset) WHERE incident IS NOT NULL;
CREATE INDEX signal_own ON signal (seq) WHERE own;
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


class LedgerFull(Retriable):
    """The ledger has reached its bound; what it holds is safe, more does not fit."""


class DiskLedger:
    """The file. Raises Retriable (LedgerFull at its bound) from every method while the disk does
    not serve; then nothing of that call is stored.
    """

    def __init__(self, path: Path, size_mib: int) -> None:
        """Open or make it. Raises sqlite3.OperationalError while another process has it,
        sqlite3.DatabaseError when it is damaged or of another schema, OSError.
        """
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o600)
        self._size_mib = size_mib
        self._connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        run = self._connection.execute
        run("PRAGMA locking_mode=EXCLUSIVE")
        run("PRAGMA journal_mode=WAL")
        (version,) = run("PRAGMA user_version").fetchone()
        if version not in {0, SCHEMA}:
            raise sqlite3.DatabaseError(f"{path} is of schema {version}, not {SCHEMA}")
        if version == 0:
            self._connection.executescript(f"BEGIN;{_TABLES};PRAGMA user_version={SCHEMA};COMMIT")
        run(f"PRAGMA max_page_count={size_mib * (1 << 20) // _PAGE}")

    def close(self) -> None:
        """Let the file go."""
        self._connection.close()

    @contextmanager
    def _transaction(self, *, lasting: bool) -> Iterator[sqlite3.Connection]:
        """`lasting`: on the disk when this ends, over a power cut too."""
        one = self._connection
        try:
            one.execute(f"PRAGMA synchronous={'FULL' if lasting else 'NORMAL'}")
            one.execute("BEGIN IMMEDIATE")
            try:
                yield one
            except BaseException:
                if one.in_transaction:  # SQLite itself rolls back on a full disk
                    one.execute("ROLLBACK")
                raise
            one.execute("COMMIT")
        except sqlite3.Error as error:
            if one.in_transaction:
                one.execute("ROLLBACK")
            if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL:
                raise LedgerFull(
                    f"ledger {self.path}: no room (alert.ledger_mib is {self._size_mib}, or the"
                    " disk is full)"
                ) from error
            raise Retriable(f"ledger {self.path}: {error}") from error

    # ---- what was decided last

    @property
    def primed(self) -> bool:
        """Whether PostgreSQL was ever mirrored here: else nothing may be decided."""
        return bool(self._connection.execute("SELECT 1 FROM meta WHERE key = 'primed'").fetchone())

    def size(self) -> int:
        """Bytes of the file's pages in use."""
        (pages,) = self._connection.execute("PRAGMA page_count").fetchone()
        return int(pages) * _PAGE

    def waiting(self) -> int:
        """Signals decided here and not merged yet."""
        return int(self._connection.execute("SELECT count(*) FROM signal WHERE own").fetchone()[0])

    def offsets(self) -> dict[Partition, tuple[int, int]]:
        """As `alerting.store.offsets`."""
        found = self._connection.execute(
            "SELECT topic, partition, next_offset, arrived_ms FROM alert_offset"
        )
        return {(row[0], row[1]): (row[2], row[3]) for row in found}

    # ---- deciding

    def take(
        self,
        moves: Mapping[Partition, Move],
        items: Sequence[Item],
        now_us: int,
        compose: Compose,
    ) -> Changes:
        """As `alerting.store.take`, on what is mirrored. Raises OffsetMoved."""
        with self._transaction(lasting=True) as one:
            _advance(one, moves)
            items = _fresh(one, items)
            folded = fold(_look_up(one, wanted(items)), items, now_us)
            shown = {incident: _shown(one, incident) for incident in folded.told}
            changes = follow(folded, shown, now_us, compose, moves)
            for write in changes.writes:
                put(one, write, own=write.table in {"signal", "message"})
        return changes

    # ---- mirroring

    def mirror(self, changes: Changes) -> None:
        """What PostgreSQL has just committed."""
        with self._transaction(lasting=False) as one:
            for write in changes.writes:
                if write.table in _MIRRORED:
                    put(one, write)
            _set_offsets(
                one,
                {pair: (move.next_offset, move.arrived_ms) for pair, move in changes.moves.items()},
            )
            _trim(one)

    def known(self) -> Known:
        """What is mirrored, for `alerting.mirror.look` to compare with."""
        one = self._connection
        return Known(
            incidents={
                row[0]: row[1:]
                for row in one.execute(
                    "SELECT id, version, last_us, members FROM incident WHERE closed_us IS NULL"
                )
            },
            messages={row[0] for row in one.execute("SELECT id FROM message")},
        )

    def renew(self, seen: Look) -> None:
        """Take over what a look at PostgreSQL brought."""
        with self._transaction(lasting=False) as one:
            if seen.whole:
                one.execute("DELETE FROM incident")
                one.execute("DELETE FROM incident_device")
                one.execute("DELETE FROM signal WHERE NOT own")
            for write in seen.writes:
                put(one, write)
            one.executemany("DELETE FROM incident WHERE id = ?", [(name,) for name in seen.gone])
            old = one.execute("DELETE FROM incident WHERE closed_us < ?", (seen.forget_us,))
            if seen.gone or old.rowcount:
                one.execute(
                    "DELETE FROM incident_device WHERE incident NOT IN (SELECT id FROM incident)"
                )
            one.execute(
                "DELETE FROM message WHERE NOT own AND id NOT IN (SELECT value FROM json_each(?))",
                (json.dumps([state[-1] for state in seen.due]),),
            )
            one.executemany(
                "UPDATE message SET attempts = ?, first_us = ?, next_us = ?, lease_holder = ?,"
                " lease_until_us = ? WHERE id = ?",
                seen.due,
            )
            _set_offsets(one, seen.offsets)
            _trim(one)
            one.execute("INSERT OR IGNORE INTO meta VALUES ('primed', '1')")

    def ended(self, message: str) -> None:
        """PostgreSQL has the end of this message."""
        with self._transaction(lasting=False) as one:
            one.execute("DELETE FROM message WHERE id = ?", (message,))

    # ---- pages and records

    def claim(self, holder: str, **bounds: Any) -> list[Claim]:
        """As `alerting.outbox.claim`."""
        with self._transaction(lasting=True) as one:
            return disk_outbox.claim(one, holder, **bounds)

    def record(self, done: Claim, answer: Answer, now_us: int) -> Next:
        """As `alerting.outbox.record`."""
        with self._transaction(lasting=True) as one:
            return disk_outbox.record(one, done, answer, now_us)

    def release(self, holder: str, now_us: int) -> None:
        """As `alerting.outbox.release`."""
        with self._transaction(lasting=True) as one:
            disk_outbox.release(one, holder, now_us)

    def unpublished(self) -> list[Record]:
        """The oldest records that Kafka does not have yet."""
        return disk_outbox.unpublished(self._connection)

    def published(self, records: Sequence[Record]) -> None:
        """Kafka has them."""
        with self._transaction(lasting=True) as one:
            one.executemany(
                "UPDATE outbox SET published = 1 WHERE seq = ?", [(each.seq,) for each in records]
            )

    def depth(self, now_us: int) -> tuple[int, int, float]:
        """As `alerting.outbox.depth`."""
        return disk_outbox.depth(self._connection, now_us)

    # ---- merging

    def ask(self, query: str, parameters: Sequence[object] = ()) -> list[Row]:
        """Rows by column."""
        cursor = self._connection.execute(query, parameters)
        names = [column[0] for column in cursor.description]
        return [dict(zip(names, row, strict=True)) for row in cursor]

    def merged(self, signals: Sequence[str]) -> None:
        """PostgreSQL has these signals and what followed: they are mirrored ones from now on.

        Their messages stay own until their delivery is handed over too.
        """
        with self._transaction(lasting=True) as one:
            for name in signals:
                one.execute("UPDATE signal SET own = 0 WHERE id = ?", (name,))

    def handed_over(self) -> None:
        """PostgreSQL has everything: nothing here is own any more."""
        with self._transaction(lasting=True) as one:
            one.execute("DELETE FROM message WHERE state <> 'due'")
            one.execute("UPDATE message SET own = 0, touched = 0")
            one.execute("DELETE FROM message_attempt")
            one.execute("DELETE FROM outbox")
            one.execute("DELETE FROM transition")


def open_ledger(path: Path, size_mib: int) -> DiskLedger:
    """As DiskLedger; a file that nobody can read is set aside and made anew: PostgreSQL's offsets
    stand where it went away, so Kafka says everything again.
    """
    try:
        return DiskLedger(path, size_mib)
    except sqlite3.OperationalError:
        raise
    except sqlite3.DatabaseError:
        path.replace(path.with_suffix(".damaged"))
        path.with_name(f"{path.name}-wal").unlink(missing_ok=True)
        return DiskLedger(path, size_mib)


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


def _advance(one: sqlite3.Connection, moves: Mapping[Partition, Move]) -> None:
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


def _set_offsets(one: sqlite3.Connection, offsets: Mapping[Partition, tuple[int, int]]) -> None:
    one.executemany(
        "INSERT OR REPLACE INTO alert_offset VALUES (?, ?, ?, ?)",
        [(*pair, *place) for pair, place in offsets.items()],
    )


def _trim(one: sqlite3.Connection) -> None:
    one.execute(
        "DELETE FROM signal WHERE NOT own AND seq <= (SELECT max(seq) FROM signal) - ?", (SEEN_MAX,)
    )


def _fresh(one: sqlite3.Connection, items: Sequence[Item]) -> list[Item]:
    known = "SELECT 1 FROM signal WHERE id = ?"
    return [item for item in items if not one.execute(known, (item.signal.id,)).fetchone()]


def _look_up(one: sqlite3.Connection, about: Wanted | None) -> Found:
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
    members: dict[str, dict[str, Member]] = {}
    for incident in incidents:
        found = one.execute(
            f"SELECT {rows.MEMBER_COLUMNS} FROM incident_device WHERE incident = ?"
            " AND member IN (SELECT value FROM json_each(?))",
            (incident.id, json.dumps(about.names)),
        )
        members[incident.id] = {row[1]: rows.member_of(row)[1] for row in found}
    holders = one.execute(
        "SELECT DISTINCT onset, nature, incident FROM signal"
        " WHERE onset IN (SELECT value FROM json_each(?)) AND incident IS NOT NULL",
        (json.dumps(about.onsets),),
    )
    return Found(
        incidents=incidents,
        members=members,
        holders={(row[0], Nature(row[1])): row[2] for row in holders},
    )


def _incident(row: Sequence[Any]) -> Incident:
    values = list(row)
    values[8], values[15] = json.loads(row[8]), bool(row[15])
    return rows.incident_of(values)


def _shown(one: sqlite3.Connection, incident: str) -> list[Member]:
    found = one.execute(
        f"SELECT {rows.MEMBER_COLUMNS} FROM incident_device WHERE incident = ?"
        " ORDER BY joined_us, member LIMIT ?",
        (incident, MEMBERS_SHOWN),
    )
    return [rows.member_of(row)[1] for row in found]
