"""The third task of `sizao archive`: once a minute, what is too old or too much goes.

It has a connection of its own and holds up nobody: a partition is detached CONCURRENTLY, which
takes no lock that a reader or writer waits for, and dropped when no reader can see it any more. A
reader of the whole table that takes long delays that, and the next round goes on where this one was
stopped. What it does then would hold up who makes a partition; so those of the next hours are made
before, and for one that a wrong clock asks for, the wait is short. Where `reading` is a hypertable,
TimescaleDB's own policies do this (ingest/timescale.py).
"""

from __future__ import annotations

import asyncio
import ipaddress
import os
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass

from ingest.retention import HOUR_US, Drop, Hour, KeepSection, Why, hour_of, plan
from sizao import clock
from sizao.db import Connection, DatabaseSettings, connected, translated
from sizao.errors import Permanent, SizaoError
from sizao.service import Service

_EACH_S = 60.0
_ROUND_S = 300.0  # 48 drops; each statement has a time-out of its own
_DETACH_MS = 10_000  # so long a detach waits for readers; nobody waits for it
_FINALIZE_MS = 3_000  # so long the end of one that was stopped may hold up `reading_cover`
_COVER = "SELECT reading_cover(ARRAY[now(), now() + interval '1 hour', now() + interval '2 hours'])"
_REFUSED_DAYS = 30  # rows of reading_refused: long enough for somebody to look

_KIND = """
    SELECT relkind::text, EXISTS (SELECT FROM pg_extension WHERE extname = 'timescaledb'),
        pg_database_size(current_database())
    FROM pg_class WHERE oid = 'reading'::regclass"""
# `loose`: we detached it, and ended before it was dropped. What a person detached stays.
_HOURS = """
    SELECT c.relname, pg_total_relation_size(c.oid), obj_description(c.oid, 'pg_class'),
        coalesce(i.inhdetachpending, false), i.inhrelid IS NULL
    FROM pg_class c LEFT JOIN pg_inherits i ON i.inhrelid = c.oid
    WHERE c.relkind = 'r' AND c.relname ~ '^reading_[0-9]{8}_[0-9]{2}$'
        AND c.relnamespace = (SELECT relnamespace FROM pg_class WHERE oid = 'reading'::regclass)
        AND (i.inhparent = 'reading'::regclass
            OR i.inhrelid IS NULL AND obj_description(c.oid, 'pg_class') = 'going')"""
_FORGET = "DELETE FROM reading_refused WHERE refused_at < now() - make_interval(days => %s)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What stands in the database. `pending`, `loose`: by name, half gone already."""

    partitioned: bool
    extension: bool
    size: int
    hours: list[Hour]
    pending: set[str]
    loose: set[str]


class Retention:
    """Cancelled at any point it leaves partitions that are there, half gone, or gone."""

    def __init__(
        self,
        service: Service,
        database: DatabaseSettings,
        keep: KeepSection,
        volume: Callable[[Connection], Awaitable[int | None]] | None = None,
    ) -> None:
        """Connects in `run`. `volume`: how its size is found, for tests."""
        metrics = service.metrics
        self._service = service
        self._database = database
        self._keep = keep
        self._ask_volume = volume or self._volume
        self._dropped = metrics.reasons(
            "partitions_dropped", "hours of raw readings", "reason", tuple(Why)
        )
        self._failed = metrics.counter(
            "retention_failures", "rounds that did not come to their end"
        )
        self._size = metrics.gauge("database_bytes", "of the whole database")
        self._total = metrics.gauge("volume_bytes", "that holds it; 0: unknown, only age counts")
        self._hours = metrics.gauge("partitions", "hours of raw readings that are there")
        self._ok = True

    async def run(self) -> None:
        """For ever. Whatever disturbs a round is told once, and tried again."""
        while True:
            try:
                async with asyncio.timeout(_ROUND_S):
                    await self.round()
            except (SizaoError, TimeoutError) as error:
                self._failed.inc()
                if self._ok:
                    self._service.logger.warning("retention disturbed", error=str(error))
                self._ok = False
            else:
                self._ok = True
            await asyncio.sleep(_EACH_S)

    async def round(self) -> None:
        """Look, and drop what has to go. Raises SizaoError; what was dropped stays so."""
        async with connected(self._database, "retention") as connection:
            with suppress(SizaoError), translated():  # on a full disk, room is made all the same
                await connection.execute(_COVER)
            now_us = clock.now_us()
            found = await look(connection, now_us)
            volume = await self._ask_volume(connection)
            self._show(found, volume)
            if not found.partitioned:
                return
            for name in sorted(found.pending | found.loose):
                await drop(connection, name, attached=False, pending=name in found.pending)
                self._service.logger.info("half gone partition dropped", partition=name)
            whole = [h for h in found.hours if h.name not in found.pending | found.loose]
            for each in plan(whole, self._keep, now_us, found.size, volume):
                await drop(connection, each.hour.name, attached=True, pending=False)
                self._tell(each, now_us)
            with translated():
                await connection.execute(_FORGET, (_REFUSED_DAYS,))

    def _tell(self, drop: Drop, now_us: int) -> None:
        self._dropped.add(drop.why)
        self._hours.dec()
        hours = (now_us - drop.hour.since_us) // HOUR_US
        self._service.logger.info(
            "raw readings dropped", partition=drop.hour.name, reason=drop.why,
            megabytes=drop.hour.size // 1_000_000, hours_old=hours,
        )  # fmt: skip

    def _show(self, found: Found, volume: int | None) -> None:
        self._size.set(found.size)
        self._total.set(volume or 0)
        self._hours.set(len(found.hours))
        if not found.partitioned:
            kept = "by TimescaleDB"
        elif volume is None:
            kept = "by age alone: size of the volume unknown; set archive.keep.volume_gb"
        else:
            kept = "by age and volume"
        if found.partitioned and found.extension:
            kept += "; TimescaleDB is there and not used: see deploy/README.md"
        if self._service.facts.get("kept") != kept:
            self._service.logger.info("raw readings are kept", how=kept)
        self._service.facts["kept"] = kept

    async def _volume(self, connection: Connection) -> int | None:
        """Its bytes: as set, or of the file system where the server is on this machine."""
        if self._keep.volume_gb is not None:
            return int(self._keep.volume_gb * 1e9)
        if not is_here(self._database.host):
            return None
        try:
            with translated():
                cursor = await connection.execute("SELECT current_setting('data_directory')")
                row = await cursor.fetchone()
            assert row is not None
            system = os.statvfs(str(row[0]))
        except (Permanent, OSError):  # no right to ask, or it is in a container
            return None
        return system.f_frsize * system.f_blocks


def is_here(host: str) -> bool:
    """Whether a server's address is this machine's own: a socket's folder, or the loopback."""
    if host.startswith("/") or host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


async def look(connection: Connection, now_us: int) -> Found:
    """What is there. Raises SizaoError."""
    with translated():
        row = await (await connection.execute(_KIND)).fetchone()
        rows = await (await connection.execute(_HOURS)).fetchall()
    assert row is not None
    hours = [(hour_of(name, size, said, now_us), *rest) for name, size, said, *rest in rows]
    return Found(
        partitioned=row[0] == "p",
        extension=bool(row[1]),
        size=int(row[2]),
        hours=[hour for hour, *_ in hours if hour is not None],
        pending={hour.name for hour, pending, _ in hours if hour is not None and pending},
        loose={hour.name for hour, _, loose in hours if hour is not None and loose},
    )


async def drop(connection: Connection, name: str, *, attached: bool, pending: bool) -> None:
    """Let a partition go; nobody waits for us meanwhile. Raises TooSlow while readers see it.

    `name` is one that `look` found, so it holds no sign that SQL could mistake.
    """
    wait_ms = _FINALIZE_MS if pending else _DETACH_MS
    with translated():
        await connection.execute(f"SET statement_timeout = {wait_ms}".encode())
        if attached:
            await connection.execute(f"COMMENT ON TABLE {name} IS 'going'".encode())
        if attached or pending:
            how = "FINALIZE" if pending else "CONCURRENTLY"
            await connection.execute(f"ALTER TABLE reading DETACH PARTITION {name} {how}".encode())
        await connection.execute(f"DROP TABLE {name}".encode())
