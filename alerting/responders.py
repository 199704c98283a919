"""Who can be reached, and where: a YAML file of responders in, the directory out.

    responders:
      - name: station-gangtou
        area: "440307010003"          # code of a node of the area tree
        kinds: [fire, gas, co]
        min_tier: alarm               # early, alarm, urgent
        language: zh
        channels:
          - {channel: webhook, url: "https://station.example/sizao", secret_file: station.key}

An import is all or nothing and idempotent. It adds and changes; whoever is not in the file stays,
unless `--replace` says that the file is the whole truth. Secrets stay in their files.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from alerting import channels
from alerting.model import INCIDENT_KINDS, Nature
from alerting.policy import Responder
from sizao.db import Connection, translated
from sizao.document import Located, parse, validate
from sizao.document import read as read_text
from sizao.errors import BadInput
from sizao.signal import Kind, Tier

RESPONDERS_MAX = 20_000
CHANNELS_MAX = 8
_LOCK = 0x51_2A7
Name = Annotated[str, Field(pattern=r"^[\w][\w. -]{0,63}$")]
_name: TypeAdapter[str] = TypeAdapter(Name)
Address = dict[str, object]


class Entry(BaseModel):
    """One responder as people write it. `channels` is checked by the channel's own model."""

    model_config = ConfigDict(extra="forbid")

    name: Name
    area: str
    kinds: list[str] = Field(min_length=1)
    natures: list[str] = Field(default=["real"], min_length=1)
    min_tier: Literal["early", "alarm", "urgent"] = "alarm"
    language: Literal["zh", "en"] = "zh"
    channels: list[dict[str, Any]] = Field(min_length=1, max_length=CHANNELS_MAX)


class Document(BaseModel):
    """The file."""

    model_config = ConfigDict(extra="forbid")

    responders: list[Entry] = Field(min_length=1, max_length=RESPONDERS_MAX)


@dataclass(frozen=True, slots=True, kw_only=True)
class Directory:
    """Everybody who can be reached, at one version of the table."""

    version: int
    responders: tuple[Responder, ...]
    addresses: Mapping[tuple[str, str], Address]
    """(responder, channel's name within it) -> its entry."""

    def address(self, responder: str, channel: str) -> tuple[str, Address] | None:
        """Channel file and address; None for one that is no longer there."""
        entry = self.addresses.get((responder, channel))
        if entry is None:
            return None
        where = {key: item for key, item in entry.items() if key not in {"channel", "name"}}
        return str(entry["channel"]), where


def nearest(name: str, directory: Directory) -> str:
    """A hint for whoever mistyped a responder's name."""
    near = difflib.get_close_matches(name, [one.name for one in directory.responders], n=1)
    return f"; nearest: {near[0]}" if near else ""


EMPTY = Directory(version=-1, responders=(), addresses={})


def read(path: Path, areas: set[str]) -> list[Entry]:
    """Responders of a file, checked completely. `areas`: codes that the registry knows.

    Raises BadInput with `file:line: key: what, expected, nearest` for every fault.
    """
    located = parse(read_text(path), str(path))
    document = validate(located, Document, str(path))
    faults: list[str] = []
    names: set[str] = set()
    for index, entry in enumerate(document.responders):
        at = ("responders", index)
        if entry.name in names:
            faults.append(_fault(path, located, (*at, "name"), f"{entry.name!r} stands twice"))
        names.add(entry.name)
        faults += _unknown(path, located, (*at, "area"), entry.area, areas)
        for key, known in (("kinds", set(INCIDENT_KINDS)), ("natures", set(Nature))):
            for place, word in enumerate(getattr(entry, key)):
                faults += _unknown(path, located, (*at, key, place), word, known)
        faults += _channel_faults(path, located, at, entry)
    if faults:
        raise BadInput("\n".join(faults))
    return document.responders


def _fault(path: Path, located: Located, at: tuple[str | int, ...], text: str) -> str:
    return f"{path}:{located.line(at)}: {'.'.join(str(part) for part in at)}: {text}"


def _unknown(
    path: Path, located: Located, at: tuple[str | int, ...], word: str, known: set[Any]
) -> Iterator[str]:
    if word in known:
        return
    near = difflib.get_close_matches(word, sorted(known), n=1)
    text = f"unknown {word!r}"
    if len(known) <= len(Kind):
        text += f", expected one of {', '.join(sorted(known))}"
    yield _fault(path, located, at, text + (f"; nearest: {near[0]}" if near else ""))


def _channel_faults(
    path: Path, located: Located, at: tuple[str | int, ...], entry: Entry
) -> Iterator[str]:
    """Faults of one responder's channels; fills in names and absolute paths on the way."""
    taken: set[str] = set()
    for index, given in enumerate(entry.channels):
        here = (*at, "channels", index)
        kind = str(given.get("channel", ""))
        if kind not in channels.names():
            yield from _unknown(path, located, (*here, "channel"), kind, set(channels.names()))
            continue
        try:
            given["name"] = name = _name.validate_python(given.get("name", kind))
        except ValidationError:
            text = (
                f"got {str(given['name'])[:80]!r}, expected 1 to 64 letters, digits, . _ - or space"
            )
            yield _fault(path, located, (*here, "name"), text)
            continue
        if name in taken:
            yield _fault(path, located, here, f"a second channel {name!r}; give it a name:")
        taken.add(name)
        if isinstance(given.get("secret_file"), str):
            given["secret_file"] = str((path.parent / given["secret_file"]).absolute())
        yield from _address_faults(path, located, here, kind, given)


def _address_faults(
    path: Path, located: Located, at: tuple[str | int, ...], kind: str, given: dict[str, Any]
) -> Iterator[str]:
    module = channels.module(kind)
    where = {key: item for key, item in given.items() if key not in {"channel", "name"}}
    try:
        module.Address.model_validate(where)
        module.check(where)
    except ValidationError as error:
        for fault in error.errors(include_url=False, include_input=False):
            word = str(fault["loc"][-1])
            text = fault["msg"].removeprefix("Value error, ")
            near = difflib.get_close_matches(word, list(module.Address.model_fields), n=1)
            if fault["type"] == "extra_forbidden":
                text = "unknown key" + (f"; nearest: {near[0]}" if near else "")
            yield _fault(path, located, (*at, word), text)
    except BadInput as error:
        yield _fault(path, located, (*at, "secret_file"), str(error))


def _row(entry: Entry) -> dict[str, object]:
    return {**entry.model_dump(), "kinds": sorted(entry.kinds), "natures": sorted(entry.natures)}


_COLUMNS = "name, area, kinds, natures, min_tier, language, channels"
_UPSERT = f"""
INSERT INTO responder ({_COLUMNS})
SELECT {_COLUMNS} FROM jsonb_populate_recordset(NULL::responder, %s::jsonb)
ON CONFLICT (name) DO UPDATE SET (area, kinds, natures, min_tier, language, channels)
    = (EXCLUDED.area, EXCLUDED.kinds, EXCLUDED.natures, EXCLUDED.min_tier, EXCLUDED.language,
       EXCLUDED.channels)
WHERE responder IS DISTINCT FROM EXCLUDED
"""


async def store(
    connection: Connection, entries: list[Entry], *, replace: bool = False
) -> tuple[int, int]:
    """Write responders in one transaction; returns (added or changed, removed).

    Raises Retriable while the database is away; then nothing is written.
    """
    names = [entry.name for entry in entries]
    with translated():
        async with connection.transaction():
            await connection.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
            rows = msgspec.json.encode([_row(entry) for entry in entries]).decode()
            changed = (await connection.execute(_UPSERT.encode(), (rows,))).rowcount
            removed = 0
            if replace:
                cursor = await connection.execute(
                    "DELETE FROM responder WHERE NOT name = ANY(%s)", (names,)
                )
                removed = cursor.rowcount
            if changed or removed:
                await connection.execute("UPDATE responder_version SET version = version + 1")
    return changed, removed


async def load(connection: Connection, known: Directory = EMPTY) -> Directory:
    """The directory; `known` itself when nothing changed since."""
    with translated():
        async with connection.transaction():
            await connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            cursor = await connection.execute("SELECT version FROM responder_version")
            (version,) = await cursor.fetchone() or (0,)
            if version == known.version:
                return known
            cursor = await connection.execute(
                f"SELECT {_COLUMNS} FROM responder ORDER BY name".encode()
            )
            rows = await cursor.fetchall()
    addresses = {(row[0], str(entry["name"])): entry for row in rows for entry in row[6]}
    return Directory(
        version=version,
        responders=tuple(
            Responder(
                name=name,
                area=area,
                kinds=frozenset(Kind(kind) for kind in kinds),
                natures=frozenset(Nature(nature) for nature in natures),
                min_tier=Tier(min_tier),
                language=language,
                channels=tuple(str(entry["name"]) for entry in entries),
            )
            for name, area, kinds, natures, min_tier, language, entries in rows
        ),
        addresses=addresses,
    )
