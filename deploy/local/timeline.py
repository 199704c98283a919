"""The demo's time line: what happened when, counted from ignition."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console
from rich.table import Table

from deploy.local.fire import FIXED_57_C, Fire
from deploy.local.receiver import Receiver
from sizao.db import Connection, DatabaseSettings, connected

SECOND_US = 1_000_000
STYLES = {"fire": "bold red", "signal": "yellow", "page": "bold green", "other": "dim"}


@dataclass(frozen=True, slots=True, order=True)
class Row:
    """One line; `seconds` after ignition by the devices' clocks."""

    seconds: float
    kind: str
    what: str
    detail: str = field(default="", compare=False)


def known(fire: Fire, fixed_s: float) -> list[Row]:
    """What the record itself says."""
    return [
        Row(0.0, "fire", "ignition", f"{fire.test}, UL FSRI"),
        Row(fixed_s, "other", f"a {FIXED_57_C:g} °C detector sounds", "the first of these four"),
    ]


def read(database: DatabaseSettings, site: str, ignition_us: int) -> list[Row]:
    """First signal of each tier at the burning site, and what a second device made urgent, from
    the time-series store.
    """

    async def query() -> tuple[list[tuple[Any, ...]], list[tuple[Any, ...]]]:
        async with connected(database, "timeline") as connection:
            return await _signals(connection, site), await _seconds(connection, site)

    signals, seconds = asyncio.run(query())
    rows = []
    for tier, event_us, rule, key, evidence in signals:
        words = evidence if isinstance(evidence, dict) else json.loads(evidence)
        rows.append(
            Row((event_us - ignition_us) / SECOND_US, "signal", f"{tier}: {rule}", _why(key, words))
        )
    for event_us, key in seconds:
        after_s = (event_us - ignition_us) / SECOND_US
        rows.append(Row(after_s, "signal", "urgent: second device", f"{key} is in alarm too"))
    return rows


async def _seconds(connection: Connection, site: str) -> list[tuple[Any, ...]]:
    cursor = await connection.execute(
        "SELECT t.event_us, d.key FROM transition t JOIN signal s ON s.id = t.cause"
        " JOIN area a ON a.id = s.site AND a.to_gen IS NULL"
        " JOIN device d ON d.id = s.device AND d.to_gen IS NULL"
        " WHERE a.code = %s AND t.what = 'raised' AND t.after ->> 'tier' = 'urgent'"
        " AND s.tier <> 'urgent' ORDER BY t.event_us LIMIT 1",
        (site,),
    )
    return await cursor.fetchall()


async def _signals(connection: Connection, site: str) -> list[tuple[Any, ...]]:
    cursor = await connection.execute(
        "SELECT DISTINCT ON (s.tier) s.tier, s.event_us, s.rule, d.key, s.evidence FROM signal s"
        " JOIN area a ON a.id = s.site AND a.to_gen IS NULL"
        " JOIN device d ON d.id = s.device AND d.to_gen IS NULL"
        " WHERE a.code = %s AND s.phase = 'raise' ORDER BY s.tier, s.event_us",
        (site,),
    )
    return await cursor.fetchall()


def _why(key: str, evidence: Mapping[str, Any]) -> str:
    """Which sensor, what it read, and by how much that is too much."""
    value = (evidence.get("values") or [None])[-1]
    words = [key]
    if isinstance(value, float):
        words.append(f"{value:.1f} °C")
    if "rise_k" in evidence:
        words.append(
            f"{evidence['rise_k']:.1f} K over its own baseline {evidence['baseline_c']:.1f}"
        )
    elif "limit_c" in evidence:
        words.append(f"limit {evidence['limit_c']:g} twice")
    return ", ".join(words)


def pages(
    receivers: Mapping[str, Receiver],
    device_us: Callable[[int], int],
    wall_us: Callable[[int], int],
    ignition_us: int,
) -> list[Row]:
    """First accepted page of each receiver and tier."""
    rows, seen = [], set()
    for name, receiver in receivers.items():
        for page in receiver.pages.accepted:
            if (name, page.tier) in seen:
                continue
            seen.add((name, page.tier))
            lag_s = (page.at_us - wall_us(page.event_us)) / SECOND_US
            rows.append(
                Row(
                    (device_us(page.at_us) - ignition_us) / SECOND_US,
                    "page",
                    f"{name} has the {page.tier} page",
                    f"{lag_s:.2f} s after the reading was sent; signature good",
                )
            )
    return rows


def weather(fire: Fire, seconds: float) -> str:
    """Hottest report so far, for the progress bar."""
    newest = []
    for trace in fire.traces:
        index = int((trace.time_s <= seconds).sum()) - 1
        newest.append(float(trace.temperature_c[max(index, 0)]))
    return f"{clocked(seconds)}  ceiling {max(newest):5.1f} °C"


def clocked(seconds: float) -> str:
    """Minutes and seconds with a sign."""
    tenths = round(abs(seconds) * 10)
    return f"{'-' if seconds < 0 else '+'}{tenths // 600}:{tenths % 600 / 10:04.1f}"


def show(console: Console, rows: list[Row], speed: float) -> None:
    """Print the time line."""
    table = Table(title=f"Time line, from ignition ({speed:g} x)", title_justify="left")
    table.add_column("time", justify="right")
    table.add_column("what")
    table.add_column("detail", style="dim")
    for row in rows:
        table.add_row(clocked(row.seconds), f"[{STYLES[row.kind]}]{row.what}", row.detail)
    console.print()
    console.print(table)


def verdict(
    console: Console,
    rows: list[Row],
    receivers: Mapping[str, Receiver],
    fixed_s: float,
    published: int,
) -> int:
    """Say whether it worked; the exit code. A page that came late has come, and is called late."""
    refused = {name: got.pages.refused for name, got in receivers.items() if got.pages.refused}
    paged = [row for row in rows if row.kind == "page" and row.what == "station has the alarm page"]
    if refused:
        console.print(f"[bold red]Pages were refused.[/bold red] {refused}")
        return 1
    if not paged:
        console.print("[bold red]The alarm page did not arrive.[/bold red]")
        return 1
    lead_s = fixed_s - paged[0].seconds
    style, when = ("bold green", "before") if lead_s > 0 else ("bold yellow", "after")
    console.print(
        f"\n  [{style}]The station knew {abs(lead_s):.0f} s {when} a {FIXED_57_C:g} °C detector"
        f" would have sounded.[/{style}]  {published:,} messages sent, all acknowledged.\n"
    )
    return 0
