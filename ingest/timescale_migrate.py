"""The archive's step of `sizao migrate`: hours of our own, or a hypertable."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from pydantic import BaseModel

from ingest.retention import KeepSection
from ingest.timescale import State, plan
from sizao.db import Connection, DatabaseSettings, translated
from sizao.errors import BadInput
from sizao.settings import load

_LOOK = """
    SELECT coalesce(e.extversion, ''), coalesce(quote_ident(n.nspname), ''),
        EXISTS (SELECT FROM pg_available_extensions WHERE name = 'timescaledb'),
        coalesce(current_setting('timescaledb.license', true), '') = 'apache',
        c.relkind::text
    FROM pg_class c LEFT JOIN pg_extension e ON e.extname = 'timescaledb'
    LEFT JOIN pg_namespace n ON n.oid = e.extnamespace
    WHERE c.oid = 'reading'::regclass"""
# Views of the extension; the schema is its own, the same in every version.
_HYPERTABLE = """
    SELECT h.compression_enabled FROM timescaledb_information.hypertables h
    WHERE (h.hypertable_schema, h.hypertable_name) = (
        SELECT n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE c.oid = 'reading'::regclass)"""
_POLICIES = """
    SELECT proc_name, coalesce(config->>'compress_after', config->>'drop_after')::interval
    FROM timescaledb_information.jobs
    WHERE hypertable_name = 'reading' AND proc_name IN ('policy_compression', 'policy_retention')"""


class _Archive(BaseModel):
    """Of `archive:` what is needed here; the process itself checks the rest."""

    keep: KeepSection = KeepSection()


class _Settings(BaseModel):
    database: DatabaseSettings = DatabaseSettings()
    archive: _Archive = _Archive()


async def step(config: Path, connection: Connection) -> str:
    """Do what is missing, in one transaction; returns what to tell. Raises BadInput, SizaoError."""
    settings = load(config, _Settings)
    with translated():
        async with connection.transaction():
            made = plan(
                await look(connection), settings.database.timescale, settings.archive.keep.days
            )
            if made.refused:
                raise BadInput(f"{config}: database.timescale: require: {made.said}")
            for statement in made.statements:
                await connection.execute(statement.encode())
    return f"raw readings: {made.said}"


async def look(connection: Connection) -> State:
    """What is there. Raises psycopg's errors."""
    row = await (await connection.execute(_LOOK)).fetchone()
    assert row is not None
    version, schema, available, apache, kind = row
    hypertable, policies = None, dict[str, timedelta]()
    if version:
        hypertable = await (await connection.execute(_HYPERTABLE)).fetchone()
        found = await (await connection.execute(_POLICIES)).fetchall()
        policies = {str(name): after for name, after in found}
    rows = await (await connection.execute("SELECT EXISTS (SELECT FROM reading)")).fetchone()
    assert rows is not None
    return State(
        version=version,
        schema=schema,
        available=available,
        apache=apache,
        kind=kind,
        rows=bool(rows[0]),
        hypertable=hypertable is not None,
        columnstore=hypertable is not None and bool(hypertable[0]),
        compress_after=policies.get("policy_compression"),
        drop_after=policies.get("policy_retention"),
    )
