"""`sizao rejects`: what devices said that nobody could read, and what can be read of it now."""

from __future__ import annotations

import asyncio
import heapq
import json
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import aclosing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, NamedTuple

import typer
from rich.console import Console
from rich.progress import Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from ingest import explain, log_span, rejects, replay_store
from ingest.check import judge
from ingest.decode import Decoded, decode
from ingest.mqtt.message import Message
from ingest.reject_search import Where, place, span_us, where
from ingest.rejects import Reject
from ingest.replayer import RejectSettings, Report, run
from ingest.routes import district
from sizao import clock
from sizao.db import connected
from sizao.document import read
from sizao.errors import BadInput, BadRecord
from sizao.kafka import Incoming
from sizao.registry.load import load as load_registry
from sizao.registry.model import View
from sizao.settings import load
from sizao.topics import PARTITIONS_DEFAULT, REJECTS

app = typer.Typer(no_args_is_help=True, help="What devices said that nobody could read.")

Config = Annotated[
    Path, typer.Option("--config", envvar="SIZAO_CONFIG", help="the settings file (YAML)")
]
WhereOption = Annotated[
    list[str] | None,
    typer.Option(
        "--where",
        metavar="KEY=VALUE",
        help="reason, carrier, device (a key), lane or topic (an MQTT filter); may be repeated,"
        " of several values of one key any will do",
    ),
]
Since = Annotated[str, typer.Option(help="how far back: 90s, 30m, 24h, 14d at most")]
AsJson = Annotated[bool, typer.Option("--json", help="one JSON object a line")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="judge and count, write nothing")]

_PIPE_WIDTH = 200
_HEAD_BYTES = 48
_UNREADABLE = "unreadable"


class Row(NamedTuple):
    """One line of the list, ordered by arrival."""

    arrived_us: int
    id: str
    reason: str
    detail: str
    carrier: str
    lane: str
    device: int
    topic: str
    size: int
    head: bytes


@dataclass(slots=True)
class Listed:
    """The newest rows asked for, of `count`; `names` are the keys of their devices."""

    limit: int
    count: int = 0
    unreadable: int = 0
    newest: list[Row] = field(default_factory=list)
    by: Counter[tuple[str, str]] = field(default_factory=Counter)
    names: dict[int, str] = field(default_factory=dict)

    def take(self, row: Row) -> None:
        """Count a row and keep it while it is among the newest."""
        self.count += 1
        self.by[row.reason, row.carrier] += 1
        if len(self.newest) < self.limit:
            heapq.heappush(self.newest, row)
        else:
            heapq.heappushpop(self.newest, row)


@app.command("list")
def list_command(
    config: Config,
    asked: WhereOption = None,
    since: Since = "24h",
    limit: Annotated[
        int, typer.Option(min=1, max=100_000, help="the newest so many; all are kept in memory")
    ] = 200,
    count: Annotated[bool, typer.Option("--count", help="by reason and carrier")] = False,  # noqa: FBT002 - typer reads the default from here
    as_json: AsJson = False,  # noqa: FBT002 - as above
) -> None:
    """Show what was refused, the newest last; what came after the start is not waited for."""
    said, since_us = where(asked or []), clock.now_us() - span_us(since)
    listed = asyncio.run(_list(load(config, RejectSettings), said, since_us, limit))
    if count:
        _tell_count(listed, as_json=as_json)
    else:
        _tell_rows(listed, as_json=as_json)
    if listed.count > limit and not count:
        typer.echo(f"the newest {limit:,} of {listed.count:,}: --limit shows more", err=True)
    if listed.unreadable:
        typer.echo(f"{listed.unreadable:,} records of the topic cannot be read (ADR 4)", err=True)


async def _list(settings: RejectSettings, asked: Where, since_us: int, limit: int) -> Listed:
    listed = Listed(limit)
    async with connected(settings.database, "rejects") as connection:
        partitions = await replay_store.partitions(connection)
        ids = await replay_store.ids_of(connection, sorted(asked.devices))
        span = log_span.read(settings.kafka, REJECTS.name, partitions, since_us)
        async with aclosing(span):
            async for records in span:
                for record in records:
                    try:
                        reject = rejects.read(record.value, record.headers)
                    except BadRecord as error:
                        listed.unreadable += 1
                        if not asked:
                            listed.take(_unreadable(record, error))
                        continue
                    if asked.takes(reject, ids):
                        listed.take(_row(record, reject))
        devices = {row.device for row in listed.newest}
        listed.names = await replay_store.keys_of(connection, sorted(devices))
    return listed


def _id(record: Incoming) -> str:
    return f"{record.partition}:{record.offset}"


def _row(record: Incoming, reject: Reject) -> Row:
    return Row(
        arrived_us=reject.arrived_us,
        id=_id(record),
        reason=reject.reason,
        detail=reject.detail,
        carrier=reject.carrier,
        lane=reject.lane,
        device=reject.device,
        topic=reject.topic.decode(errors="backslashreplace"),
        size=len(reject.payload),
        head=reject.payload[:_HEAD_BYTES],
    )


def _unreadable(record: Incoming, error: BadRecord) -> Row:
    """One that is no dead letter of ours or is damaged; its time is that of the one before."""
    value = record.value or b""
    at_us = record.timestamp_ms * 1000
    detail = str(error)
    head = value[:_HEAD_BYTES]
    return Row(at_us, _id(record), _UNREADABLE, detail, "", "", 0, "", len(value), head)


def _tell_rows(listed: Listed, *, as_json: bool) -> None:
    rows = sorted(listed.newest)
    if as_json:
        for row in rows:
            typer.echo(json.dumps(_json(row, listed.names), ensure_ascii=False))
        return
    table = Table("id", "arrived", "reason", "carrier", "device", "topic", "bytes", "payload")
    for row in rows:
        cells = (
            row.id,
            explain.instant(row.arrived_us),
            row.reason,
            row.carrier,
            _name(row.device, listed.names),
            row.topic,
            str(row.size),
            explain.raw(row.head, _HEAD_BYTES),
        )
        table.add_row(*(Text(explain.printable(cell)) for cell in cells))
    console().print(table)


def _name(device: int, names: dict[int, str]) -> str:
    return names.get(device, f"#{device}") if device else ""


def _json(row: Row, names: dict[int, str]) -> dict[str, object]:
    return {
        "id": row.id,
        "arrived": explain.instant(row.arrived_us),
        "reason": row.reason,
        "detail": row.detail,
        "carrier": row.carrier,
        "lane": row.lane,
        "device": _name(row.device, names),
        "topic": row.topic,
        "bytes": row.size,
        "head_hex": row.head.hex(),
        "head_text": row.head.decode(errors="backslashreplace"),
    }


def _tell_count(listed: Listed, *, as_json: bool) -> None:
    table = Table("reason", "carrier", "rejects")
    for (reason, carrier), number in listed.by.most_common():
        if as_json:
            said = {"reason": reason, "carrier": carrier, "rejects": number}
            typer.echo(json.dumps(said, ensure_ascii=False))
        table.add_row(Text(reason), Text(explain.printable(carrier)), f"{number:,}")
    if not as_json:
        table.add_section()
        table.add_row("", "", f"{listed.count:,}")
        console().print(table)


def console() -> Console:
    """Standard output: as wide as the terminal, and wide enough where it is none."""
    out = Console(highlight=False)
    return out if out.is_terminal else Console(highlight=False, width=_PIPE_WIDTH)


@app.command("show")
def show_command(
    identity: Annotated[
        str, typer.Argument(metavar="ID", help="as `rejects list` shows it: 2:1047")
    ],
    config: Config,
    type_file: Annotated[
        Path | None,
        typer.Option("--type", help="judge it with this device-type file, not with the registry"),
    ] = None,
    payload: Annotated[
        Path | None, typer.Option("--payload", help="write the payload to this file, byte for byte")
    ] = None,
) -> None:
    """Show all of one: headers, payload, and what today's registry or a file makes of it."""
    number, offset = place(identity)
    settings = load(config, RejectSettings)
    record = asyncio.run(_record(settings, number, offset))
    if payload is not None:
        payload.write_bytes(record.value or b"")
        typer.echo(f"{payload}: {len(record.value or b''):,} bytes")
        return
    for name, value in record.headers:
        said = value.decode(errors="backslashreplace")
        if name == rejects.STORED:
            said = f"{len(value) // rejects.STORED_ROW.itemsize} readings came of it all the same"
        typer.echo(explain.printable(f"{name}: {said}"))
    _tell_payload(record.value or b"")
    try:
        reject = rejects.read(record.value, record.headers)
    except BadRecord as error:
        typer.echo(f"\n{identity} cannot be read: {error}")
        return
    typer.echo(f"\narrived {explain.instant(reject.arrived_us)}")
    decoded, view = _judged(settings, reject, type_file)
    typer.echo(f"{'the registry of today' if type_file is None else type_file} makes of it:")
    for line in _outcome(decoded, view):
        typer.echo(f"  {line}")


def _tell_payload(payload: bytes) -> None:
    typer.echo(f"payload: {len(payload):,} bytes")
    text = explain.text_of(payload)
    if text is not None:
        typer.echo("\n" + "\n".join(map(explain.printable, text.splitlines())))
    typer.echo("\n" + "\n".join(explain.hex_dump(payload)))


async def _record(settings: RejectSettings, number: int, offset: int) -> Incoming:
    async with connected(settings.database, "rejects") as connection:
        partitions = await replay_store.partitions(connection)
    return await log_span.one(settings.kafka, (REJECTS.name, number), partitions, offset)


def _judged(
    settings: RejectSettings, reject: Reject, type_file: Path | None
) -> tuple[Decoded, View]:
    message = Message(reject.topic, reject.payload, reject.arrived_us, reject.dup, 0, 0)
    if type_file is not None:
        return judge(read(type_file), str(type_file), message)

    async def newest() -> View:
        async with connected(settings.database, "rejects") as connection:
            return (await load_registry(connection, PARTITIONS_DEFAULT)).newest

    view = asyncio.run(newest())
    return decode(district(view), reject.lane, [message]), view


def _outcome(decoded: Decoded, view: View) -> Iterator[str]:
    """Readings, then what was refused, a line each."""
    for _, said in explain.readings(view, decoded):
        yield said.words
    for refused in decoded.refused:
        yield from (f"refused: {line}" for line in explain.faults(view, list(refused.faults)))


@app.command("replay")
def replay_command(
    config: Config,
    asked: WhereOption = None,
    since: Since = "24h",
    dry_run: DryRun = False,  # noqa: FBT002 - typer reads the default from here
) -> None:
    """Make readings of what the registry of today can read, marked late, each once."""
    said = where(asked or [])
    if not said:
        raise BadInput("--where: missing; expected what to replay, such as reason=wrong_type")
    since_us = clock.now_us() - span_us(since)
    with _progress() as step:
        settings = load(config, RejectSettings)
        report = asyncio.run(run(settings, said, since_us, dry_run=dry_run, step=step))
    for line in _told(report, dry_run=dry_run):
        typer.echo(line)


def _told(report: Report, *, dry_run: bool) -> Iterator[str]:
    tally = report.tally
    yield f"rejects asked for: {tally.rejects:,}"
    part = f", {tally.in_part:,} of them in part" if tally.in_part else ""
    yield f"readable now: {tally.readable:,}{part}"
    would = "would be written" if dry_run else "written"
    yield f"readings {would}: {tally.readings:,}, all marked late"
    if tally.alarming:
        pages = "would be raised late and may page people" if dry_run else "raised late"
        yield f"  of these {tally.alarming:,} say an alarm: {pages}"
    if tally.repeated:
        yield f"  of these {tally.repeated:,} may be stored already: marked redelivered"
    yield f"stored before: {tally.settled:,}"
    reasons = ", ".join(f"{reason} {number:,}" for reason, number in tally.refused.most_common())
    yield f"still refused: {tally.refused.total():,}" + (f" ({reasons})" if reasons else "")
    if report.unreadable:
        yield f"records of the topic that cannot be read (ADR 4): {report.unreadable:,}"


@contextmanager
def _progress() -> Iterator[Callable[[str], None]]:
    """A line on standard error that says what is being done; nothing where that is no terminal."""
    shown = Console(stderr=True)
    columns = TextColumn("{task.description}"), TimeElapsedColumn()
    with Progress(*columns, console=shown, transient=True, disable=not shown.is_terminal) as bar:
        task = bar.add_task("")
        yield lambda text: bar.update(task, description=text)
