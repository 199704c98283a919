"""The `sizao` command. Rooms offer theirs by entry point (`sizao.commands`), so this imports none.

Exit codes: 0 done, 1 failed, 2 bad input, 3 lost progress (restart me).
"""

from __future__ import annotations

import asyncio
import io
import sys
from collections.abc import Awaitable, Callable
from importlib.metadata import entry_points
from pathlib import Path
from typing import Annotated

import typer
from pydantic import BaseModel, ConfigDict

from sizao import service
from sizao.db import Connection, DatabaseSettings, connected, migrate
from sizao.errors import BadInput, SizaoError
from sizao.kafka import KafkaSettings, make_topics
from sizao.registry.write import DetectorRow, fix_partitions, partitions_of, store_catalogue
from sizao.settings import load
from sizao.topics import PARTITIONS_DEFAULT

Config = Annotated[
    Path, typer.Option("--config", envvar="SIZAO_CONFIG", help="the settings file (YAML)")
]


class MigrateSettings(BaseModel):
    """What `sizao migrate` needs of the settings file."""

    model_config = ConfigDict(extra="forbid")

    kafka: KafkaSettings = KafkaSettings()
    database: DatabaseSettings = DatabaseSettings()


app = typer.Typer(
    name="sizao",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Fire alerts of a city district: from the sensor to the people who can help.",
)


@app.command("migrate")
def migrate_command(
    config: Config,
    partitions: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=1024,
            help="of each topic; fixed at the first run, for life; left out: as it is, else"
            f" {PARTITIONS_DEFAULT}",
        ),
    ] = None,
) -> None:
    """Bring the database schema and the Kafka topics up to date."""
    settings = load(config, MigrateSettings)

    async def all_of_it() -> tuple[list[str], list[str], list[str]]:
        async with connected(settings.database, "migrate") as connection:
            applied = await migrate(connection)
            # Topics first: a number that they refuse must not be stored for life.
            count = await partitions_of(connection, partitions)
            topics = await make_topics(settings.kafka, partitions=count)
            await fix_partitions(connection, count)
            await store_catalogue(connection, detectors)
            said = [await step(config, connection) for step in steps()]
        return applied, topics, said

    detectors = catalogue()
    applied, topics, said = asyncio.run(all_of_it())
    typer.echo(f"migrations applied: {', '.join(applied) or 'none, up to date'}")
    typer.echo(f"topics made: {', '.join(topics) or 'none, all there'}")
    typer.echo(f"detectors: {', '.join(row.name for row in detectors) or 'none'}")
    for line in said:
        typer.echo(line)


def catalogue() -> list[DetectorRow]:
    """The detectors that rooms offer, in the order of their names."""
    found: list[DetectorRow] = []
    for entry in entry_points(group="sizao.detectors"):
        found += entry.load()()
    return sorted(found, key=lambda row: row.name)


Step = Callable[[Path, Connection], Awaitable[str]]
"""What a room adds to `sizao migrate`: settings file and connection in, a line to tell out."""


def steps() -> list[Step]:
    """The steps that rooms offer, in the order of their names."""
    found = sorted(entry_points(group="sizao.migrate"), key=lambda entry: entry.name)
    return [entry.load() for entry in found]


def assemble() -> typer.Typer:
    """The whole command: ours and every room's, in the order of their names."""
    for entry in sorted(entry_points(group="sizao.commands"), key=lambda entry: entry.name):
        room: typer.Typer = entry.load()
        app.registered_commands += room.registered_commands
        app.registered_groups += room.registered_groups
    return app


def main() -> None:
    """Run the command line; our errors become one line on standard error and an exit code."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A terminal in GBK has no sign for some of what devices say: escaped, it ends no command.
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        assemble()(standalone_mode=True)
    except BadInput as error:
        typer.echo(str(error), err=True)
        sys.exit(service.BAD_INPUT)
    except (SizaoError, OSError) as error:
        typer.echo(f"{type(error).__name__}: {error}", err=True)
        sys.exit(service.FAILED)


if __name__ == "__main__":
    main()
