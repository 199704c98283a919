"""`sizao quality`: the devices that are worst, and why."""

from __future__ import annotations

import asyncio
import difflib
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from ingest.register import RegisterSettings
from sizao.db import Connection, DatabaseSettings, connected, translated
from sizao.errors import BadInput
from sizao.settings import load

LIMIT_MAX = 10_000
DAYS_MAX = 400
_WIDTH = 160  # where no terminal says how wide it is
# The worst first and alone: the names of 400,000 devices take longer than a statement may.
_WORST = """
    SELECT device FROM device_day_judged
    WHERE day = ANY(%(days)s) AND bad AND (%(site)s = '' AND %(type)s = '' OR device IN (
        SELECT id FROM device WHERE to_gen IS NULL
        AND (%(site)s = '' OR site IN (SELECT id FROM area WHERE code = %(site)s))
        AND (%(type)s = '' OR device_type IN (SELECT id FROM device_type WHERE name = %(type)s))))
    GROUP BY device ORDER BY sum(score) DESC, sum(missed) DESC, device LIMIT %(limit)s"""
_NAMED = """
    SELECT device, carrier, device_type, site, site_zh, site_en, state,
        count(*), max(day), sum(score), sum(received), sum(expected), sum(missed), sum(rejects),
        sum(out_of_range), sum(corrected), max(stuck), jsonb_agg(why), jsonb_agg(by_reason)
    FROM device_quality WHERE day = ANY(%(days)s) AND device_id = ANY(%(devices)s) AND bad
    GROUP BY device_id, device, carrier, device_type, site, site_zh, site_en, state
    ORDER BY sum(score) DESC, sum(missed) DESC, device_id"""
_COLUMNS = (
    "device", "carrier", "device_type", "site", "site_zh", "site_en", "state",
    "bad_days", "last_bad_day", "score", "received", "expected", "missed", "rejects",
    "out_of_range", "corrected", "stuck", "why", "by_reason",
)  # fmt: skip
# Thirty days of 400,000 devices take as long as a statement may elsewhere; here a person waits.
_PATIENCE = "SET statement_timeout = '300s'"
_KNOWN = {
    "--site": "SELECT DISTINCT code FROM area WHERE level = 'site'",
    "--type": "SELECT DISTINCT name FROM device_type",
}

Row = dict[str, Any]


def quality_command(
    config: Annotated[
        Path, typer.Option("--config", envvar="SIZAO_CONFIG", help="the settings file (YAML)")
    ],
    day: Annotated[
        datetime | None,
        typer.Option("--day", formats=["%Y-%m-%d"], help="one day; left out: the newest few"),
    ] = None,
    days: Annotated[int, typer.Option(min=1, max=DAYS_MAX, help="so many, up to the newest")] = 7,
    site: Annotated[str, typer.Option(help="code of a site")] = "",
    kind: Annotated[str, typer.Option("--type", help="name of a device type")] = "",
    limit: Annotated[int, typer.Option(min=1, max=LIMIT_MAX)] = 50,
    as_json: Annotated[bool, typer.Option("--json", help="for programs")] = False,  # noqa: FBT002 - typer reads the default from here
) -> None:
    """Tell which devices are bad, worst first: silent, gaps, rejects, range, clock, stuck."""
    database = load(config, RegisterSettings).database
    span = None if day is None else (day.date(), day.date())
    span, rows = asyncio.run(_worst(database, span, days, site, kind, limit))
    if as_json:
        typer.echo(json.dumps(rows, ensure_ascii=False, default=str))
    elif span is None:
        typer.echo("no day is counted yet; `sizao archive` counts")
    elif not rows:
        typer.echo(f"{_shown(span)}: no bad device")
    else:
        console = Console()
        if not console.is_terminal:
            console = Console(width=_WIDTH)
        console.print(_table(span, rows))


async def _worst(
    database: DatabaseSettings,
    span: tuple[date, date] | None,
    days: int,
    site: str,
    kind: str,
    limit: int,
) -> tuple[tuple[date, date] | None, list[Row]]:
    async with connected(database, "quality") as connection:
        with translated():
            await connection.execute(_PATIENCE)
            for option, word in (("--site", site), ("--type", kind)):
                await _check(connection, option, word)
            if span is None:
                cursor = await connection.execute("SELECT max(day) FROM device_day")
                newest = await cursor.fetchone()
                if newest is None or newest[0] is None:
                    return None, []
                span = newest[0] - timedelta(days=days - 1), newest[0]
            count = (span[1] - span[0]).days + 1
            wanted = {
                "days": [span[0] + timedelta(days=n) for n in range(count)],
                "site": site,
                "type": kind,
                "limit": limit,
            }
            cursor = await connection.execute(_WORST, wanted)
            devices = [row[0] for row in await cursor.fetchall()]
            cursor = await connection.execute(_NAMED, {**wanted, "devices": devices})
            return span, [_row(one) for one in await cursor.fetchall()]


async def _check(connection: Connection, option: str, word: str) -> None:
    """Raise BadInput for a name that nothing has."""
    if not word:
        return
    cursor = await connection.execute(_KNOWN[option].encode())
    known = [str(row[0]) for row in await cursor.fetchall()]
    if word not in known:
        near = difflib.get_close_matches(word, known, n=1)
        said = f"; nearest: {near[0]}" if near else ""
        raise BadInput(f"{option} {word}: not registered, expected one of the registry's{said}")


def _row(found: Sequence[Any]) -> Row:
    row = dict(zip(_COLUMNS, found, strict=True))
    row["why"] = sorted({why for one in row["why"] for why in one})
    reasons: Counter[str] = Counter()
    for one in row["by_reason"]:
        reasons.update(one or {})
    row["by_reason"] = dict(reasons.most_common())
    for name in ("score", "expected"):
        row[name] = None if row[name] is None else round(float(row[name]), 2)
    return {name: int(item) if _whole(item) else item for name, item in row.items()}


def _whole(item: object) -> bool:
    """PostgreSQL sums integers to numbers of any length."""
    return not isinstance(item, str | list | dict | float | date | None)


def _shown(span: tuple[date, date]) -> str:
    return str(span[0]) if span[0] == span[1] else f"{span[0]} to {span[1]}"


def _table(span: tuple[date, date], rows: Iterable[Row]) -> Table:
    table = Table(title=f"bad devices, {_shown(span)}, worst first", title_justify="left", box=None)
    for name in ("device", "carrier", "type", "site", "days"):
        table.add_column(name, no_wrap=True)
    table.add_column("received", justify="right", no_wrap=True)
    table.add_column("missed", justify="right", no_wrap=True)
    table.add_column("why", no_wrap=True)
    for row in rows:
        due = "?" if row["expected"] is None else f"{row['expected']:,.0f}"
        table.add_row(
            row["device"], row["carrier"], row["device_type"], row["site"], str(row["bad_days"]),
            f"{row['received']:,} of {due}", f"{row['missed']:,}", _why(row),
        )  # fmt: skip
    return table


def _why(row: Row) -> str:
    reasons = ", ".join(f"{reason} {count:,}" for reason, count in row["by_reason"].items())
    return ", ".join(row["why"]) + (f" ({reasons})" if reasons else "")
