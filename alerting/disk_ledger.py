"""The ledger on the local disk: what PostgreSQL held last, and what was decided without it.

One SQLite file of one process, locked for its life. Rows with `own` were decided here and are not
merged yet; all others mirror PostgreSQL, and the last of them may be lost at any time: Kafka's
records from the mirrored offsets on say them again. So what is mirrored is no more than written to
the file (synchronous=NORMAL), while a decision is on the disk before anybody is told (FULL).

Every call waits for the disk: `alerting.disk_thread` makes them on a thread of their own.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from alerting import disk_outbox, disk_rows
from alerting.fold import Changes, Compose, Item, Move, Partition, fold, follow, wanted
from alerting.ledger import Answer, Next
from alerting.mirror import Known, Look
from alerting.outbox import Claim, Record
from alerting.rows import Row
from sizao.errors import Retriable

SCHEMA = 2
_PAGE = 4096
_BUSY_S = 0.5  # another process has it, and keeps it
_PRIMARY = 0xFF  # of SQLite's extended result codes
_DAMAGE = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
_MIRRORED = frozenset({"incident", "incident_device", "signal", "silence", "message"})


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
        self._connection = sqlite3.connect(
            path, timeout=_BUSY_S, isolation_level=None, check_same_thread=False
        )
        run = self._connection.execute
        run("PRAGMA locking_mode=EXCLUSIVE")
        run("PRAGMA journal_mode=WAL")
        (version,) = run("PRAGMA user_version").fetchone()
        if version not in {0, SCHEMA}:
            raise sqlite3.DatabaseError(f"{path} is of schema {version}, not {SCHEMA}")
        if version == 0:
            self._connection.executescript(
                f"BEGIN;{disk_rows.TABLES};PRAGMA user_version={SCHEMA};COMMIT"
            )
        run(f"PRAGMA max_page_count={size_mib * (1 << 20) // _PAGE}")

    def close(self) -> None:
        """Let the file go."""
        self._connection.close()

    def set_aside(self) -> None:
        """Let the file go, and keep it under another name. Raises OSError."""
        with suppress(sqlite3.Error):
            self.close()
        set_aside(self.path)

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
            disk_rows.advance(one, moves)
            items = disk_rows.fresh(one, items)
            folded = fold(disk_rows.look_up(one, wanted(items)), items, now_us)
            shown = {incident: disk_rows.shown(one, incident) for incident in folded.told}
            changes = follow(folded, shown, now_us, compose, moves)
            for write in changes.writes:
                disk_rows.put(one, write, own=write.table in {"signal", "message"})
        return changes

    # ---- mirroring

    def mirror(self, changes: Changes) -> None:
        """What PostgreSQL has just committed."""
        with self._transaction(lasting=False) as one:
            for write in changes.writes:
                if write.table in _MIRRORED:
                    disk_rows.put(one, write)
            disk_rows.set_offsets(
                one,
                {pair: (move.next_offset, move.arrived_ms) for pair, move in changes.moves.items()},
            )
            disk_rows.trim(one)

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
                one.execute("DELETE FROM silence")
            for write in seen.writes:
                disk_rows.put(one, write)
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
            disk_rows.set_offsets(one, seen.offsets)
            disk_rows.trim(one)
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
        """Kafka has them. By their ids: a sequence begins anew once everything is handed over, and
        an absence may have ended, and another begun, while Kafka was waited for.
        """
        with self._transaction(lasting=True) as one:
            one.executemany(
                "UPDATE outbox SET published = 1 WHERE transition = ?",
                [(each.transition,) for each in records],
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

    def handed(self, delivery: Sequence[Row], attempts: Sequence[Row]) -> None:
        """PostgreSQL has these pages and attempts, each with its end."""
        with self._transaction(lasting=True) as one:
            one.executemany(
                "DELETE FROM message WHERE id = ? AND state <> 'due'",
                [(row["id"],) for row in delivery],
            )
            one.executemany(
                "DELETE FROM message_attempt WHERE message = ? AND attempt = ? AND ended_us = ?",
                [(row["message"], row["attempt"], row["ended_us"]) for row in attempts],
            )

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
        set_aside(path)
        return DiskLedger(path, size_mib)


def set_aside(path: Path) -> None:
    """Keep a damaged file under another name, for a person. Raises OSError."""
    path.replace(path.with_suffix(".damaged"))
    path.with_name(f"{path.name}-wal").unlink(missing_ok=True)


def is_damage(error: BaseException | None) -> bool:
    """Whether this, or what it came from, says that the file is no sound database."""
    while error is not None:
        if getattr(error, "sqlite_errorcode", 0) & _PRIMARY in _DAMAGE:
            return True
        error = error.__cause__
    return False
