"""`sizao contacts`: the people of sites and units. No output has a whole name or number."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Awaitable, Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Annotated, TypeVar

import typer
from pydantic import BaseModel, ConfigDict, Field

from alerting import contact_store, contacts, phones, vault
from alerting.rota_lint import VERIFIED_DAYS
from sizao import clock
from sizao.db import Connection, DatabaseSettings, connected
from sizao.errors import BadInput
from sizao.registry.load import load as load_registry
from sizao.registry.model import View
from sizao.settings import load
from sizao.topics import PARTITIONS_DEFAULT

app = typer.Typer(no_args_is_help=True, help="The people of sites and units.")
Config = Annotated[
    Path, typer.Option("--config", envvar="SIZAO_CONFIG", help="the settings file (YAML)")
]
T = TypeVar("T")


class ContactSettings(BaseModel):
    """Section `contacts`."""

    model_config = ConfigDict(extra="forbid")

    key_file: Path | None = Field(
        default=None, description="base64 of 32 bytes; relative to the settings file"
    )


class Settings(BaseModel):
    """What these commands need of the settings file."""

    model_config = ConfigDict(extra="forbid")

    database: DatabaseSettings = DatabaseSettings()
    contacts: ContactSettings = ContactSettings()


@app.command("import")
def import_command(
    file: Annotated[Path, typer.Argument(help="contacts (CSV)")],
    config: Config,
    replace: Annotated[  # noqa: FBT002 - typer reads the default from here
        bool, typer.Option("--replace", help="of the sites in the file, remove who is not in it")
    ] = False,
) -> None:
    """Add and change contacts; all of the file or nothing."""
    sealing = _vault(config)
    text = _content(file)

    async def run(connection: Connection, view: View) -> tuple[int, contact_store.Stored]:
        found = contacts.read(text, str(file), _inside(view), _today())
        stored = await contact_store.store(connection, sealing, found, replace=replace)
        return len(found), stored

    count, stored = _asked(config, run)
    typer.echo(
        f"{file}: {count:,} contacts, {stored.added:,} added, {stored.changed:,} changed,"
        f" {stored.removed:,} removed; sealed with key {sealing.id}"
    )


@app.command("show")
def show_command(
    site: Annotated[str, typer.Argument(help="code of a site")], config: Config
) -> None:
    """Who is known at a site, masked."""
    sealing = _vault(config)

    async def run(connection: Connection, view: View) -> list[contacts.Contact]:
        known = _inside(view)
        if site not in known:
            raise BadInput(
                f"no site {site!r}, expected the code of one{contacts.near(site, known)}"
            )
        return await contact_store.load(connection, sealing, [site])

    for one in _asked(config, run):
        verified = f"answered {one.verified}" if one.verified else "never verified"
        where = one.unit or one.site
        name, phone = phones.masked_name(one.name), phones.masked(one.phone)
        typer.echo(f"{where}  {one.role}  {name}  {phone}  {one.language}  {verified}")


@app.command("report")
def report_command(
    config: Config,
    limit: Annotated[int, typer.Option(help="sites shown", min=1)] = 50,
    as_json: Annotated[bool, typer.Option("--json", help="all of them as JSON")] = False,  # noqa: FBT002 - typer reads the default from here
) -> None:
    """Sites where nobody has answered on a number for half a year, and how many a community."""

    async def run(connection: Connection, view: View) -> tuple[View, list[contacts.Unreached], int]:
        sites = _inside(view)
        known = await contact_store.counted(connection)
        return view, contacts.unreached(sites, known, _today()), len(sites)

    view, found, sites = _asked(config, run)
    by_code = {area.code: area for area in view.areas.values()}

    def community(site: str) -> str:
        path = view.path(by_code[site].id)
        return next((area.code for area in path if area.level == "community"), "")

    counts = Counter(community(one.site) for one in found)
    if as_json:
        rows = [
            {
                "site": one.site,
                "community": community(one.site),
                "contacts": one.contacts,
                "verified": one.verified and one.verified.isoformat(),
            }
            for one in found
        ]
        typer.echo(json.dumps({"sites": sites, "unreached": rows, "communities": counts}, indent=2))
        return
    typer.echo(
        f"{len(found):,} of {sites:,} sites have no contact that answered in {VERIFIED_DAYS} days"
    )
    for code, count in counts.most_common():
        typer.echo(f"  {code or '(no community)'}: {count:,}")
    for one in found[:limit]:
        said = f"{one.contacts} contacts, the newest answered {one.verified or 'never'}"
        name = by_code[one.site].name_zh
        typer.echo(f"{one.site} {name}: {said if one.contacts else 'no contact'}")
    if len(found) > limit:
        typer.echo(f"... and {len(found) - limit:,} more (--limit)")


@app.command("key")
def key_command(file: Annotated[Path, typer.Argument(help="to be made")]) -> None:
    """Make a new key file; keep a copy apart from the database's backups."""
    made = vault.make(file)
    typer.echo(f"{file}: key {made.id}; name it in the settings: contacts: {{key_file: ...}}")


def _vault(config: Path) -> vault.Vault:
    key_file = load(config, Settings).contacts.key_file
    return vault.read(None if key_file is None else config.parent / key_file)


def _asked(config: Path, run: Callable[[Connection, View], Awaitable[T]]) -> T:
    settings = load(config, Settings)

    async def whole() -> T:
        async with connected(settings.database, "contacts") as connection:
            view = (await load_registry(connection, PARTITIONS_DEFAULT)).newest
            return await run(connection, view)

    return asyncio.run(whole())


def _inside(view: View) -> dict[str, frozenset[str]]:
    """Site -> codes of the areas inside of it."""
    found: dict[str, set[str]] = {
        area.code: set() for area in view.areas.values() if area.level == "site"
    }
    for area in view.areas.values():
        for above in view.path(area.id)[:-1]:
            if above.code in found:
                found[above.code].add(area.code)
    return {code: frozenset(inside) for code, inside in found.items()}


def _today() -> date:
    """Of a clock a day ahead at most: whoever answered this morning in China has done so today."""
    return (datetime.fromtimestamp(clock.now_us() / 1e6, UTC) + timedelta(hours=14)).date()


def _content(file: Path) -> str:
    try:
        raw = file.read_bytes()
        return raw.decode("utf-8-sig")
    except OSError as error:
        raise BadInput(f"{file}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise BadInput(f"{file}:{line}: not UTF-8, expected it; save the sheet as UTF-8") from error
