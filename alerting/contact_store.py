"""Contacts in PostgreSQL: sealed on the way in, opened on the way out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import msgspec

from alerting.contacts import Contact, Role
from alerting.vault import Vault
from sizao.db import Connection, translated
from sizao.errors import BadInput

_LOCK = 0x51_2A9


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """What an import did."""

    added: int
    changed: int
    removed: int


_Key = tuple[str, str, str, bytes]
_SELECT = """
SELECT site, unit, role, tag, sealed, key_id, language, verified FROM contact
WHERE site = ANY(%s) ORDER BY site, unit, role, tag
"""
_UPSERT = """
INSERT INTO contact (site, unit, role, tag, sealed, key_id, language, verified)
SELECT * FROM unnest(%s::text[], %s::text[], %s::text[], %s::bytea[], %s::bytea[], %s::text[],
                     %s::text[], %s::date[])
ON CONFLICT (site, unit, role, tag) DO UPDATE SET (sealed, key_id, language, verified)
    = (EXCLUDED.sealed, EXCLUDED.key_id, EXCLUDED.language, EXCLUDED.verified)
"""
_DELETE = """
DELETE FROM contact USING unnest(%s::text[], %s::text[], %s::text[], %s::bytea[])
    AS gone (site, unit, role, tag)
WHERE (contact.site, contact.unit, contact.role, contact.tag)
    = (gone.site, gone.unit, gone.role, gone.tag)
"""
_OTHER_KEY = (
    "SELECT key_id, count(*), count(DISTINCT site) FROM contact WHERE key_id <> %s GROUP BY 1"
)


async def store(
    connection: Connection, vault: Vault, contacts: Sequence[Contact], *, replace: bool = False
) -> Stored:
    """Write contacts in one transaction. `replace`: of the sites named, whoever is not here goes.

    Raises Retriable while the database is away, BadInput where another key has sealed what stays;
    then nothing is written.
    """
    sites = sorted({one.site for one in contacts})
    given = {_key(one, vault): one for one in contacts}
    with translated():
        async with connection.transaction():
            await connection.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
            rows = await (await connection.execute(_SELECT, (sites,))).fetchall()
            old = {row[:4]: row for row in rows}
            gone = [key for key in old if key not in given] if replace else []
            fresh = [
                (key, one)
                for key, one in given.items()
                if key not in old or _differs(old[key], one, vault)
            ]
            if gone:
                await connection.execute(
                    _DELETE, [list(column) for column in zip(*gone, strict=True)]
                )
            if fresh:
                await connection.execute(_UPSERT, _columns(fresh, vault))
            await _one_key(connection, vault)
    added = sum(key not in old for key, _ in fresh)
    return Stored(added=added, changed=len(fresh) - added, removed=len(gone))


async def _one_key(connection: Connection, vault: Vault) -> None:
    """Under two keys half of a district could not be told, and nobody would know which half."""
    found = await (await connection.execute(_OTHER_KEY, (vault.id,))).fetchall()
    if found:
        key_id, count, sites = found[0]
        raise BadInput(
            f"contacts.key_file: got key {vault.id}, but {count:,} contacts of {sites:,} sites are"
            f" sealed with {key_id}; expected that key, or one file of all sites and --replace"
        )


async def load(connection: Connection, vault: Vault, sites: Iterable[str]) -> list[Contact]:
    """Contacts of some sites, in order of place. Raises BadInput for another key."""
    with translated():
        rows = await (await connection.execute(_SELECT, (list(sites),))).fetchall()
    return [_opened(row, vault) for row in rows]


async def counted(connection: Connection) -> dict[str, tuple[int, date | None]]:
    """Site -> how many contacts, and the newest day on which one of them answered. Needs no key."""
    with translated():
        cursor = await connection.execute(
            "SELECT site, count(*), max(verified) FROM contact GROUP BY site"
        )
        return {site: (count, verified) for site, count, verified in await cursor.fetchall()}


def _key(one: Contact, vault: Vault) -> _Key:
    return (one.site, one.unit, str(one.role), vault.tag(one.phone.encode()))


def _about(site: str, unit: str, role: str) -> bytes:
    return f"{site}|{unit}|{role}".encode()


def _differs(row: tuple[Any, ...], one: Contact, vault: Vault) -> bool:
    return row[5] != vault.id or _opened(row, vault) != one


def _opened(row: tuple[Any, ...], vault: Vault) -> Contact:
    site, unit, role, _, sealed, key_id, language, verified = row
    plain = vault.open(bytes(sealed), _about(site, unit, role), key_id)
    name, phone = msgspec.json.decode(plain, type=tuple[str, str])
    return Contact(
        site=site,
        unit=unit,
        role=Role(role),
        name=name,
        phone=phone,
        language=language,
        verified=verified,
    )


def _columns(fresh: Sequence[tuple[_Key, Contact]], vault: Vault) -> list[list[Any]]:
    rows = [
        (
            *key,
            vault.seal(msgspec.json.encode((one.name, one.phone)), _about(*key[:3])),
            vault.id,
            one.language,
            one.verified,
        )
        for key, one in fresh
    ]
    return _turned(rows)


def _turned(rows: Sequence[tuple[Any, ...]]) -> list[list[Any]]:
    """Columns of rows."""
    return [list(column) for column in zip(*rows, strict=True)]
