"""`sizao areas` and `sizao devices`: the registry from and to files, and one device at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from ingest import areas as area_rows
from ingest import devices as device_rows
from ingest import geojson, lifecycle, sheet
from ingest.coordinates import Crs
from ingest.draft import Draft
from ingest.register import Outcome, RegisterSettings, register, view_of
from sizao.db import connected
from sizao.registry.model import LifeState, View
from sizao.settings import load

areas = typer.Typer(no_args_is_help=True, help="The tree of places: district to room.")
devices = typer.Typer(no_args_is_help=True, help="Devices: who they are, where, in which state.")

Config = Annotated[
    Path, typer.Option("--config", envvar="SIZAO_CONFIG", help="the settings file (YAML)")
]
System = Annotated[
    Crs | None,
    typer.Option("--crs", help="of the file's coordinates; must be said when it has any"),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="check and count, change nothing")]
CreateCarriers = Annotated[
    bool, typer.Option("--create-carriers", help="make carriers that are not known")
]
Key = Annotated[str, typer.Argument(help="key of a device")]
Carrier = Annotated[str, typer.Option("--carrier", help="under which it is registered")]


@areas.command("import")
def areas_import(
    file: Annotated[Path, typer.Argument(help="areas (.csv, .geojson)")],
    config: Config,
    crs: System = None,
    dry_run: DryRun = False,  # noqa: FBT002 - typer reads the default from here
) -> None:
    """Add and change areas; all of the file or nothing."""
    with progress() as step:
        step(f"reading {file.name}")
        read = geojson.read if file.suffix in geojson.ENDINGS else sheet.read
        rows = read(file, area_rows.LAYOUT)
        decide = partial(area_rows.draft, rows, crs=crs)
        outcome = _register(config, decide, f"areas import {file.name}", dry_run, step)
    _tell(file, "areas", outcome, dry_run=dry_run)


@areas.command("export")
def areas_export(
    file: Annotated[Path, typer.Argument(help="to be written (.csv, .geojson)")], config: Config
) -> None:
    """Write every area, coordinates in WGS 84."""
    columns = area_rows.columns(view_now(config))
    if file.suffix in geojson.ENDINGS:
        geojson.write(file, columns, area_rows.INTEGERS)
    else:
        sheet.write(file, columns, area_rows.LAYOUT)
    typer.echo(f"{file}: {len(columns['code']):,} areas")


@devices.command("import")
def devices_import(
    file: Annotated[Path, typer.Argument(help="devices (.csv, .parquet)")],
    config: Config,
    crs: System = None,
    create_carriers: CreateCarriers = False,  # noqa: FBT002 - typer reads the default from here
    dry_run: DryRun = False,  # noqa: FBT002 - as above
) -> None:
    """Add and change devices; all of the file or nothing."""
    with progress() as step:
        step(f"reading {file.name}")
        rows = sheet.read(file, device_rows.LAYOUT)
        decide = partial(device_rows.draft, rows, crs=crs, create_carriers=create_carriers)
        outcome = _register(config, decide, f"devices import {file.name}", dry_run, step)
    _tell(file, "devices", outcome, dry_run=dry_run)


@devices.command("export")
def devices_export(
    file: Annotated[Path, typer.Argument(help="to be written (.csv, .parquet)")], config: Config
) -> None:
    """Write every device, coordinates in WGS 84."""
    columns = device_rows.columns(view_now(config))
    sheet.write(file, columns, device_rows.LAYOUT)
    typer.echo(f"{file}: {len(columns['key']):,} devices")


@devices.command("move")
def move_command(
    key: Key,
    carrier: Carrier,
    to: Annotated[str, typer.Option("--to", help="code of the area where it is now")],
    config: Config,
) -> None:
    """Register a device at another place; in another site it gets new points."""

    def decide(view: View) -> Draft:
        return lifecycle.move(device_rows.Known(view), carrier, key, to)

    _one(config, decide, f"devices move {key}", f"{key} under {carrier} is in {to}")


@devices.command("swap")
def swap_command(
    key: Key,
    carrier: Carrier,
    to: Annotated[str, typer.Option("--to", help="key of the thing that takes its place")],
    config: Config,
    to_carrier: Annotated[str, typer.Option(help="left out: the same, or its own name")] = "",
    create_carriers: CreateCarriers = False,  # noqa: FBT002 - typer reads the default from here
) -> None:
    """Give place, points and history of a device to a new key."""

    def decide(view: View) -> Draft:
        known = device_rows.Known(view)
        return lifecycle.swap(known, carrier, key, to, to_carrier, create_carriers=create_carriers)

    _one(config, decide, f"devices swap {key}", f"{to} has the place of {key}")


@devices.command("isolate")
def isolate_command(key: Key, carrier: Carrier, config: Config) -> None:
    """Isolate a device in service; `commission` ends it."""
    _become(config, carrier, key, LifeState.ISOLATED)


@devices.command("retire")
def retire_command(key: Key, carrier: Carrier, config: Config) -> None:
    """Retire a device for good; its key stays known, what it says is refused."""
    _become(config, carrier, key, LifeState.RETIRED)


@devices.command("commission")
def commission_command(key: Key, carrier: Carrier, config: Config) -> None:
    """Put a planned or isolated device into service, or one that was retired by mistake."""
    _become(config, carrier, key, LifeState.IN_SERVICE)


@devices.command("revoke")
def revoke_command(
    carrier: Annotated[str, typer.Argument(help="MQTT user name")],
    reason: Annotated[str, typer.Option("--reason", help="kept with the generation")],
    config: Config,
) -> None:
    """Refuse at the bridge, within 10 s, all that comes over a carrier's connection."""
    _trust(config, carrier, f"devices revoke {carrier}: {reason}", revoked=True)


@devices.command("restore")
def restore_command(
    carrier: Annotated[str, typer.Argument(help="MQTT user name")],
    config: Config,
    reason: Annotated[str, typer.Option("--reason", help="kept with the generation")] = "",
) -> None:
    """Trust a revoked carrier again, once it has a new password."""
    why = f": {reason}" if reason else ""
    _trust(config, carrier, f"devices restore {carrier}{why}", revoked=False)


def _trust(config: Path, carrier: str, cause: str, *, revoked: bool) -> None:
    def decide(view: View) -> Draft:
        return lifecycle.revoke(device_rows.Known(view), carrier, revoked=revoked)

    done = f"carrier {carrier} is {'revoked' if revoked else 'trusted'}"
    _one(config, decide, cause, done)


def _become(config: Path, carrier: str, key: str, state: LifeState) -> None:
    def decide(view: View) -> Draft:
        return lifecycle.become(device_rows.Known(view), carrier, key, state)

    _one(config, decide, f"devices {key} {state}", f"{key} under {carrier} is {state}")


def _one(config: Path, decide: Callable[[View], Draft], cause: str, done: str) -> None:
    outcome = _register(config, decide, cause, dry_run=False, step=lambda _: None)
    already = " already" if outcome.draft.empty else ""
    typer.echo(f"{done}{already}; generation {outcome.generation}")


def _register(
    config: Path,
    decide: Callable[[View], Draft],
    cause: str,
    dry_run: bool,  # noqa: FBT001 - handed through from the command line
    step: Callable[[str], None],
) -> Outcome:
    database = load(config, RegisterSettings).database
    return asyncio.run(register(database, decide, cause, dry_run=dry_run, step=step))


def view_now(config: Path) -> View:
    """The registry as it is, without its points. Raises BadInput, Retriable, Permanent."""

    async def read() -> View:
        async with connected(load(config, RegisterSettings).database, "export") as connection:
            return await view_of(connection)

    return asyncio.run(read())


def _tell(file: Path, what: str, outcome: Outcome, *, dry_run: bool) -> None:
    draft = outcome.draft
    counts = f"{draft.added:,} added, {draft.altered:,} changed, {draft.same:,} as they were"
    if draft.change.carriers:
        counts += f", {len(draft.change.carriers):,} carriers made"
    end = "dry run, nothing is changed" if dry_run else f"generation {outcome.generation}"
    typer.echo(f"{file}: {draft.rows:,} {what}: {counts}; {end}")


@contextmanager
def progress() -> Iterator[Callable[[str], None]]:
    """Says on a terminal which step runs and for how long; nothing elsewhere."""
    console = Console(stderr=True)
    shown = TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn()
    with Progress(*shown, console=console, disable=not console.is_terminal) as bar:

        def step(text: str) -> None:
            for task in bar.task_ids:
                bar.update(task, total=1, completed=1)
            bar.add_task(text, total=None)

        yield step
        for task in bar.task_ids:
            bar.update(task, total=1, completed=1)
