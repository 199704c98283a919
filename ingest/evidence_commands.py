"""`sizao evidence`: the raw readings kept of an incident."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from ingest.register import RegisterSettings
from sizao.db import DatabaseSettings, connected, translated
from sizao.errors import BadInput
from sizao.settings import load

app = typer.Typer(help="Raw readings kept around incidents.")

ROWS_MAX = 1_000_000
_WIDTH = 160  # where no terminal says how wide it is
_PATIENCE = "SET statement_timeout = '60s'"
_WINDOW = """
    SELECT w.incident, coalesce(a.code, ''), w.state, to_timestamp(w.onset_us / 1000000.0),
        to_timestamp(w.from_us / 1000000.0), to_timestamp(w.until_us / 1000000.0),
        to_timestamp(w.closed_us / 1000000.0), w.rows
    FROM evidence_window w LEFT JOIN area a ON a.id = w.site AND a.to_gen IS NULL
    WHERE w.incident = %s"""
_READINGS = """
    SELECT r.event, n.device, n.carrier, n.quantity, r.value, n.unit, r.received, r.flags, r.point
    FROM (SELECT * FROM incident_reading WHERE incident = %s
        ORDER BY event, point, received LIMIT %s) r
    LEFT JOIN LATERAL (SELECT * FROM point_named n WHERE n.point = r.point LIMIT 1) n ON true
    ORDER BY r.event, r.point, r.received"""
_WINDOW_KEYS = ("incident", "site", "state", "onset", "from", "until", "closed", "rows")
_KEYS = (
    "event", "device", "carrier", "quantity", "value", "unit", "received", "flags", "point",
)  # fmt: skip


@app.command("show")
def show_command(
    incident: Annotated[str, typer.Argument(help="its id, as in sizao.incidents.v1")],
    config: Annotated[
        Path, typer.Option("--config", envvar="SIZAO_CONFIG", help="the settings file (YAML)")
    ],
    limit: Annotated[int, typer.Option(min=1, max=ROWS_MAX, help="the first so many")] = 10_000,
    as_json: Annotated[bool, typer.Option("--json", help="for programs")] = False,  # noqa: FBT002 - typer reads the default from here
) -> None:
    """Show the readings of an incident's site, in the order of their event times."""
    database = load(config, RegisterSettings).database
    found = asyncio.run(_found(database, incident, limit))
    if as_json:
        typer.echo(json.dumps(found, ensure_ascii=False, default=str))
        return
    console = Console()
    if not console.is_terminal:
        console = Console(width=_WIDTH)
    console.print(_table(found))


async def _found(database: DatabaseSettings, incident: str, limit: int) -> dict[str, Any]:
    async with connected(database, "evidence") as connection:
        with translated():
            await connection.execute(_PATIENCE)
            cursor = await connection.execute(_WINDOW, (incident,))
            window = await cursor.fetchone()
            if window is None:
                raise BadInput(
                    f"{incident}: no evidence is kept of such an incident; expected the whole id of"
                    " a real one, no older than `archive.evidence.kept_days`"
                )
            cursor = await connection.execute(_READINGS, (incident, limit))
            rows = await cursor.fetchall()
    readings = [dict(zip(_KEYS, row, strict=True)) for row in rows]
    return {**dict(zip(_WINDOW_KEYS, window, strict=True)), "readings": readings}


def _table(found: dict[str, Any]) -> Table:
    shown = len(found["readings"])
    title = f"{found['incident']} at {found['site']}: {found['state']}, {shown} of {found['rows']}"
    table = Table(title=title)
    for name in ("event", "device", "quantity", "value", "unit", "received"):
        table.add_column(name)
    for one in found["readings"]:
        table.add_row(
            str(one["event"]), str(one["device"]), str(one["quantity"]), f"{one['value']:g}",
            str(one["unit"]), str(one["received"]),
        )  # fmt: skip
    return table
