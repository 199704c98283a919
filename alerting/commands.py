"""The commands of this room."""

from __future__ import annotations

import asyncio
import sys
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from alerting import contact_commands, policy_commands, responders, rota_commands
from alerting.alert import Alert, Settings
from alerting.console import serve
from alerting.page_test import accepted, page_test
from sizao import service
from sizao.db import connected
from sizao.registry.load import load as load_registry
from sizao.service import Service
from sizao.settings import load, load_or_last_good, state_folder
from sizao.topics import PARTITIONS_DEFAULT

Config = Annotated[
    Path, typer.Option("--config", envvar="SIZAO_CONFIG", help="the settings file (YAML)")
]
app = typer.Typer()
responders_app = typer.Typer(help="Who can be told.", no_args_is_help=True)
page = typer.Typer(help="Pages to responders.", no_args_is_help=True)
app.add_typer(responders_app, name="responders")
app.add_typer(page, name="page")
app.add_typer(contact_commands.app, name="contacts")
app.add_typer(policy_commands.app, name="policy")
app.add_typer(rota_commands.app, name="rota")


@app.command("alert")
def alert_command(config: Config) -> None:
    """Decide incidents from signals and tell people."""
    state = state_folder(config, "alert")
    settings, wrong = load_or_last_good(config, Settings, state)

    async def body(running: Service) -> None:
        await Alert(running, settings, state).run()

    sys.exit(service.run("alert", settings.alert.http, body, wrong))


@app.command("console")
def console_command(config: Config) -> None:
    """Serve the operator's page and API on this machine."""
    state = state_folder(config, "console")
    settings, wrong = load_or_last_good(config, serve.Settings, state)

    async def body(running: Service) -> None:
        await serve.run(running, settings, state)

    sys.exit(service.run("console", settings.console.http, body, wrong))


@responders_app.command("import")
def import_command(
    file: Annotated[Path, typer.Argument(help="responders (YAML)")],
    config: Config,
    replace: Annotated[  # noqa: FBT002 - typer reads the default from here
        bool, typer.Option("--replace", help="remove everybody who is not in the file")
    ] = False,
) -> None:
    """Add and change responders; all of the file or nothing."""
    settings = load(config, Settings)

    async def run() -> tuple[int, int, int]:
        async with connected(settings.database, "responders") as connection:
            registry = await load_registry(connection, PARTITIONS_DEFAULT)
            areas = {area.code for area in registry.newest.areas.values()}
            entries = responders.read(file, areas)
            return len(entries), *await responders.store(connection, entries, replace=replace)

    count, changed, removed = asyncio.run(run())
    typer.echo(f"responders: {count} in {file}, {changed} added or changed, {removed} removed")


@page.command("test")
def page_test_command(
    responder: Annotated[str, typer.Argument(help="name of a responder")], config: Config
) -> None:
    """Send a test page over each channel of a responder; exit 0 when all accepted it."""
    settings = load(config, Settings)
    send = partial(
        page_test,
        deadline_s=settings.alert.delivery.attempt_deadline_s,
        utc_offset_min=settings.alert.utc_offset_min,
    )
    tried = asyncio.run(send(settings.database, responder))
    for one in tried:
        status = f" (status {one.answer.status})" if one.answer.status else ""
        detail = f": {one.answer.detail}" if one.answer.detail else ""
        typer.echo(f"{responder} over {one.channel}: {one.answer.outcome}{status}{detail}")
    sys.exit(service.DONE if accepted(tried) else service.FAILED)
