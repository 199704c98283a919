"""What the database has of device types beside those in force: their history, and who judges."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sizao.db import Connection, translated
from sizao.registry.write import DetectorRow


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """One version of a type; `until` is the generation that ended it, None while it is in force."""

    version: int
    since: int
    until: int | None
    made_at: datetime
    cause: str
    document: str


async def history(connection: Connection, name: str) -> list[Version]:
    """Every version of a type, oldest first; [] for an unknown name."""
    with translated():
        cursor = await connection.execute(
            "SELECT t.version, t.from_gen, t.to_gen, g.made_at, g.cause, t.document"
            " FROM device_type t JOIN generation g ON g.id = t.from_gen"
            " WHERE t.name = %s ORDER BY t.from_gen",
            (name,),
        )
        rows = await cursor.fetchall()
    return [
        Version(version=row[0], since=row[1], until=row[2], made_at=row[3], cause=row[4],
                document=row[5])
        for row in rows
    ]  # fmt: skip


async def catalogue(connection: Connection) -> list[DetectorRow]:
    """The detectors that `sizao migrate` has stored, by name."""
    with translated():
        cursor = await connection.execute(
            "SELECT name, version, lane, quantities, purpose FROM detector ORDER BY name"
        )
        return [DetectorRow(*row) for row in await cursor.fetchall()]
