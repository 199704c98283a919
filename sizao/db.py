"""The only door to psycopg: connections with deadlines, and plain numbered migrations.

Every connection has a connect time-out, a server-side statement time-out and TCP keep-alives,
because a half-open connection otherwise waits for ever (psycopg#1371).
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from importlib import resources
from typing import Any, Literal

import psycopg
from psycopg import AsyncConnection, conninfo
from psycopg.rows import TupleRow
from psycopg_pool import AsyncConnectionPool
from pydantic import BaseModel, ConfigDict, Field

from sizao.errors import Permanent, Raced, Refused, Retriable, TooSlow

Connection = AsyncConnection[TupleRow]
Pool = AsyncConnectionPool[Connection]

_MIGRATION_LOCK = 0x51_2A0  # advisory lock: one migration at a time, whoever starts it
_CONNECT_TIMEOUT_S = 2
_PROBE_S = 2.0
_TCP_USER_TIMEOUT_MS = 10_000
_MIGRATION_S = 14_400  # of one file: an index over a month of readings
_MIGRATION_LOCK_S = 10  # who waits longer for a table holds up everybody behind
_IDLE_MS = 20_000  # beyond the outbox's wait for Kafka, the longest inside a transaction


class DatabaseSettings(BaseModel):
    """Where PostgreSQL is. The password comes from a file, never from here or the log."""

    model_config = ConfigDict(extra="forbid")

    host: str = "127.0.0.1"
    port: int = Field(default=5432, ge=1, le=65535)
    name: str = "sizao"
    user: str = "sizao"
    password_file: str | None = Field(default=None, description="file that holds the password")
    statement_timeout_ms: int = Field(default=10_000, ge=100)
    timescale: Literal["auto", "off", "require"] = Field(
        default="auto",
        description="raw readings in a hypertable: if `sizao migrate` finds TimescaleDB in the"
        " database before the first reading; never; or it fails",
    )

    def conninfo(self, application: str, *, idle_ms: int = 0) -> str:
        """Libpq connection string. Reads the password file: OSError names it when it is missing.

        `idle_ms`: how long a transaction may stand idle; 0 for ever.
        """
        password = None
        if self.password_file is not None:
            with open(self.password_file, encoding="utf-8") as file:  # noqa: PTH123 - a plain read
                password = file.read().strip()
        options = (
            f"-c statement_timeout={self.statement_timeout_ms} -c timezone=UTC"
            f" -c idle_in_transaction_session_timeout={idle_ms}"
        )
        return conninfo.make_conninfo(
            host=self.host,
            port=self.port,
            dbname=self.name,
            user=self.user,
            password=password,
            application_name=f"sizao-{application}",
            connect_timeout=_CONNECT_TIMEOUT_S,
            tcp_user_timeout=_TCP_USER_TIMEOUT_MS,
            keepalives_idle=5,
            keepalives_interval=2,
            keepalives_count=3,
            options=options,
        )


_AWAY = (
    psycopg.OperationalError,
    psycopg.InterfaceError,
    psycopg.errors.IdleInTransactionSessionTimeout,
    psycopg.errors.ReadOnlySqlTransaction,
)
_BEYOND_LIMITS = (
    psycopg.errors.ProgramLimitExceeded,
    psycopg.errors.StatementTooComplex,
    psycopg.errors.TooManyColumns,
)
_CONTENT = (psycopg.DataError, psycopg.IntegrityError)


@contextmanager
def translated() -> Iterator[None]:
    """Turn psycopg's errors into ours: Retriable when the server is away, Permanent otherwise.

    A session that the server ended because we stood still, and a server that is a read-only
    stand-by for now, are internal errors to psycopg; to us, an absence. A row beyond the server's
    limits is an operational error to psycopg, and was repeated for ever; to us, its content.
    """
    try:
        yield
    except psycopg.errors.QueryCanceled as error:
        raise TooSlow(_said(error)) from error
    except psycopg.errors.UniqueViolation as error:
        raise Raced(_said(error)) from error
    except psycopg.Error as error:
        if isinstance(error, _AWAY) and not isinstance(error, _BEYOND_LIMITS):
            raise Retriable(_said(error)) from error
        content = isinstance(error, _BEYOND_LIMITS + _CONTENT)
        raise (Refused if content else Permanent)(_said(error)) from error
    except OSError as error:
        raise Retriable(_said(error)) from error


@contextmanager
def enduring() -> Iterator[None]:
    """As `translated`, for loops that must go on: what is no absence (rights, schema, a broken
    index) is waited out as one, because ending the process would end the pages with it.
    """
    try:
        with translated():
            yield
    except Permanent as error:
        raise Retriable(str(error)) from error


def _said(error: Exception) -> str:
    return f"PostgreSQL: {error}".strip()


@asynccontextmanager
async def connected(
    settings: DatabaseSettings, application: str, *, answer_s: float | None = None
) -> AsyncIterator[Connection]:
    """One connection, closed on exit. Raises Retriable while the server is away; `answer_s` as for
    a pool.
    """
    with translated():
        connection = await _Answering.connect(
            settings.conninfo(application), autocommit=True, prepare_threshold=None
        )
    connection.answer_s = answer_s
    try:
        yield connection
    finally:
        await connection.close()


class _Answering(AsyncConnection[TupleRow]):
    """A connection that is cut when the server leaves one wait without an answer for `answer_s`.

    Not by a cancel: on a half-open connection that goes over another one, which hangs too, and the
    wait lasts ten seconds more (reliability.md M17). A socket that is shut down fails at once.
    """

    answer_s: float | None = None

    async def wait(self, *arguments: Any, **named: Any) -> Any:
        """Every wait for the server goes through here: statements, commits, checks of the pool."""
        if self.answer_s is None:
            return await super().wait(*arguments, **named)
        alarm = asyncio.get_running_loop().call_later(self.answer_s, self._cut)
        try:
            return await super().wait(*arguments, **named)
        finally:
            alarm.cancel()

    def _cut(self) -> None:
        if self.closed:
            return
        with contextlib.suppress(OSError), socket.socket(fileno=os.dup(self.fileno())) as twin:
            twin.shutdown(socket.SHUT_RDWR)


def pool(
    settings: DatabaseSettings,
    application: str,
    *,
    size_max: int = 4,
    answer_s: float | None = None,
) -> Pool:
    """A pool to be used with `async with`; requests fail after 2 s, returning connections are
    checked, and a database that comes back is found within 5 s (reliability.md M16).

    A process that stands still inside a transaction loses its locks after 20 s: a frozen console
    must not hold up the pages of a whole district. `answer_s`: how long the server may leave one
    statement without an answer before the connection is cut and Retriable raised.
    """

    async def configure(connection: Connection) -> None:
        assert isinstance(connection, _Answering)
        connection.answer_s = answer_s

    return AsyncConnectionPool(
        settings.conninfo(application, idle_ms=_IDLE_MS),
        connection_class=_Answering,
        configure=configure,
        min_size=1,
        max_size=size_max,
        timeout=2.0,
        reconnect_timeout=5.0,
        check=AsyncConnectionPool.check_connection,
        kwargs={"autocommit": True, "prepare_threshold": None},
        open=False,
    )


async def probe(settings: DatabaseSettings) -> None:
    """Fresh connection and one query. Raises Retriable when the database is away."""
    async with connected(settings, "probe", answer_s=_PROBE_S) as connection:
        with translated():
            await connection.execute("SELECT 1")


@asynccontextmanager
async def _transaction(connection: Connection) -> AsyncIterator[None]:
    with translated():
        async with connection.transaction():
            yield


def migrations() -> list[tuple[str, str, str]]:
    """(name, SHA-256, SQL) of each shipped file, in order."""
    folder = resources.files("sizao") / "migrations"
    found = sorted(
        (entry.name, entry.read_text(encoding="utf-8"))
        for entry in folder.iterdir()
        if entry.name.endswith(".sql")
    )
    return [(name, hashlib.sha256(sql.encode()).hexdigest(), sql) for name, sql in found]


async def migrate(connection: Connection) -> list[str]:
    """Bring the schema up to date; returns the names applied now.

    One transaction under an advisory lock: a cancelled or killed run leaves nothing applied. Raises
    Permanent when a file that was applied has changed since, or the database is ahead of us;
    Retriable when another run, or a reader of a table that changes, is in the way.
    """
    applied_now: list[str] = []
    async with _transaction(connection):
        await connection.execute("SELECT pg_advisory_xact_lock(%s)", (_MIGRATION_LOCK,))
        # The settings' time-out is for work: on a table with data an index takes longer.
        await connection.execute(f"SET LOCAL statement_timeout = '{_MIGRATION_S}s'".encode())
        await connection.execute(f"SET LOCAL lock_timeout = '{_MIGRATION_LOCK_S}s'".encode())
        await connection.execute(
            "CREATE TABLE IF NOT EXISTS migration (name text PRIMARY KEY, sha256 text NOT NULL,"
            " applied_at timestamptz NOT NULL DEFAULT now())"
        )
        cursor = await connection.execute("SELECT name, sha256 FROM migration")
        applied = {str(name): str(sha) for name, sha in await cursor.fetchall()}
        shipped = migrations()
        unknown = set(applied) - {name for name, _, _ in shipped}
        if unknown:
            raise Permanent(f"the database has migrations this program lacks: {sorted(unknown)}")
        for name, sha, sql in shipped:
            if applied.get(name, sha) != sha:
                raise Permanent(f"migration {name} was changed after it was applied; add a new one")
            if name not in applied:
                await connection.execute(sql.encode())
                await connection.execute(
                    "INSERT INTO migration (name, sha256) VALUES (%s, %s)", (name, sha)
                )
                applied_now.append(name)
    return applied_now
