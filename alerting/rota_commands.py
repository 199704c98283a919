"""`sizao rota`: the duty rota, checked and asked."""

from __future__ import annotations

import asyncio
import json
from datetime import date, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import BaseModel, ConfigDict

from alerting.rota import Level, Rota, watch
from alerting.rota_file import Document, read_rota
from alerting.rota_lint import PEOPLE_MIN, VERIFIED_DAYS, Thin, thin
from alerting.working_days import DAY_US, days, instant_us, local
from sizao import clock
from sizao.db import DatabaseSettings, connected
from sizao.errors import BadInput
from sizao.registry.load import load as load_registry
from sizao.registry.model import View
from sizao.settings import load
from sizao.topics import PARTITIONS_DEFAULT

app = typer.Typer(no_args_is_help=True, help="Who is on duty.")
WEEK_US = 7 * DAY_US
SCHEMA_FILE = "rota.schema.json"
File = Annotated[Path, typer.Argument(help="the rota (YAML)")]
Config = Annotated[
    Path | None,
    typer.Option("--config", envvar="SIZAO_CONFIG", help="settings file: check against the areas"),
]


class Settings(BaseModel):
    """What these commands need of the settings file."""

    model_config = ConfigDict(extra="forbid")

    database: DatabaseSettings = DatabaseSettings()


def _view(config: Path) -> View:
    settings = load(config, Settings)

    async def run() -> View:
        async with connected(settings.database, "rota") as connection:
            return (await load_registry(connection, PARTITIONS_DEFAULT)).newest

    return asyncio.run(run())


def _communities(rota: Rota, view: View | None) -> dict[str, frozenset[str]]:
    """Code -> codes on the way to it; without a registry those that the rota itself names."""
    if view is None:
        codes = {
            code
            for team in rota.teams.values()
            if team.level is Level.COMMUNITY
            for code in team.areas
        }
        return {code: frozenset({code}) for code in sorted(codes)}
    return {
        area.code: frozenset(above.code for above in view.path(area.id))
        for area in view.areas.values()
        if area.level == Level.COMMUNITY
    }


@app.command("check")
def check_command(
    file: File,
    config: Config = None,
    first: Annotated[
        str, typer.Option("--from", metavar="YYYY-MM-DD", help="first day of the week; else today")
    ] = "",
    limit: Annotated[int, typer.Option(help="bad hours told", min=1)] = 20,
) -> None:
    """Every fault of the file, then each hour of a week that is too thin; exit 2 for either."""
    view = _view(config) if config is not None else None
    codes = None if view is None else {area.code for area in view.areas.values()}
    rota = read_rota(file, codes)
    begin_us = instant_us(rota.zone, _day(first, rota), 0)
    communities = _communities(rota, view)
    bad = [
        f"{file}: calendar: {year} is in none of its years, expected the holidays of that year"
        for year in _strange_years(rota, begin_us)
    ]
    hours = thin(rota, communities, begin_us, begin_us + WEEK_US)
    bad += [f"{file}: {_told(rota, one)}" for one in hours[:limit]]
    if len(hours) > limit:
        bad.append(f"{file}: ... and {len(hours) - limit:,} more")
    if bad:
        raise BadInput("\n".join(bad))
    typer.echo(
        f"{file}: {len(rota.teams):,} teams, {len(rota.people):,} people;"
        f" {len(communities):,} communities have {PEOPLE_MIN} verified people at every hour of the"
        f" week from {local(rota.zone, begin_us):%Y-%m-%d}"
    )


@app.command("show")
def show_command(
    file: File,
    at: Annotated[str, typer.Option("--at", help="YYYY-MM-DD HH:MM by the rota's clock")] = "",
    area: Annotated[str, typer.Option("--area", help="only teams bound to this code")] = "",
) -> None:
    """Who is on duty, until when, and who next."""
    rota = read_rota(file)
    at_us = _moment(at, rota) if at else clock.now_us()
    for team in rota.teams.values():
        if area and area not in team.areas:
            continue
        found = watch(rota, team.name, at_us)
        until = "no change in two weeks"
        if found.until_us is not None:
            until = f"until {local(rota.zone, found.until_us):%a %Y-%m-%d %H:%M}"
            until += f", then {', '.join(found.following) or 'nobody'}"
        typer.echo(f"{team.level} {team.name}: {', '.join(found.people) or 'nobody'} {until}")


@app.command("schema")
def schema_command() -> None:
    """JSON Schema of the rota, for editors."""
    typer.echo(schema_text(), nl=False)


def schema_text() -> str:
    """As docs/rota.schema.json has it."""
    schema: dict[str, Any] = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": "urn:sizao:rota",
        **Document.model_json_schema(),
    }
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def _told(rota: Rota, one: Thin) -> str:
    begin, end = local(rota.zone, one.from_us), local(rota.zone, one.until_us)
    what = []
    if one.verified < PEOPLE_MIN:
        what.append(
            f"{one.verified} of {PEOPLE_MIN} people verified in the last {VERIFIED_DAYS} days"
        )
    if not one.voice:
        what.append("nobody at night who can be called")
    return f"{one.community}: {begin:%a %Y-%m-%d %H:%M} to {end:%a %H:%M}: {'; '.join(what)}"


def _strange_years(rota: Rota, begin_us: int) -> list[int]:
    if not rota.calendar.years:
        return []  # a rota of weekends only says so by naming no calendar
    years = {day.year for day in days(rota.zone, begin_us, begin_us + WEEK_US - 1)}
    return sorted(years - rota.calendar.years)


def _day(text: str, rota: Rota) -> date:
    if not text:
        return local(rota.zone, clock.now_us()).date()
    try:
        return date.fromisoformat(text)
    except ValueError as error:
        raise BadInput(f"--from: got {text!r}, expected a day such as 2026-03-02") from error


def _moment(text: str, rota: Rota) -> int:
    try:
        wall = datetime.fromisoformat(text)
    except ValueError as error:
        said = f"--at: got {text!r}, expected a time such as '2026-03-02 08:00'"
        raise BadInput(said) from error
    return instant_us(rota.zone, wall.date(), wall.hour * 60 + wall.minute)
