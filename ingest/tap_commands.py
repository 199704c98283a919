"""`sizao tap`: what a device says, live, and what the registry of today makes of it."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ingest import explain
from ingest.device_types.load import load as load_type
from ingest.reject_commands import AsJson, Config, console
from ingest.tap import Shown, filter_of
from ingest.tapping import Request, Tap, TapSettings
from sizao.document import read
from sizao.errors import BadInput
from sizao.settings import load

_RAW_CHARACTERS = 600  # of a payload; --raw shows all


def tap_command(
    config: Config,
    device: Annotated[str, typer.Argument(metavar="DEVICE", help="its key, or carrier/key")] = "",
    carrier: Annotated[str, typer.Option(help="under which it is registered")] = "",
    topic: Annotated[
        str, typer.Option(help="an MQTT filter instead of a device that nobody has registered yet")
    ] = "",
    type_file: Annotated[
        Path | None,
        typer.Option("--type", help="judge by this device-type file, not by the registry"),
    ] = None,
    raw: Annotated[bool, typer.Option("--raw", help="what came, whole, and nothing else")] = False,  # noqa: FBT002 - typer reads the default from here
    count: Annotated[int, typer.Option(min=0, help="end after so many; 0: never")] = 0,
    seconds: Annotated[float, typer.Option(min=0, help="end after so long; 0: never")] = 0.0,
    as_json: AsJson = False,  # noqa: FBT002 - as above
) -> None:
    """Show what a device says, as it comes: raw beside decoded. Ctrl-C ends it."""
    if bool(device) == bool(topic):
        raise BadInput("expected either a DEVICE (key, or carrier/key) or --topic FILTER")
    request = Request(
        device=device,
        carrier=carrier,
        topic=filter_of(topic) if topic else "",
        document=read(type_file) if type_file else "",
        document_name=str(type_file or ""),
        raw=raw,
        limit=count,
        seconds=seconds,
    )
    if request.document:
        load_type(request.document, request.document_name)
    screen = Screen(raw=raw, as_json=as_json)
    totals = asyncio.run(Tap(load(config, TapSettings), request, screen.show, screen.note).run())
    screen.note(
        f"{totals.shown:,} messages, {totals.refused:,} of them with something refused;"
        f" {totals.others:,} without a word of this device; {totals.missed:,} not shown"
    )


class Screen:
    """Messages on standard output, notes beside them on standard error."""

    def __init__(self, *, raw: bool, as_json: bool) -> None:
        """`raw`: only what came, whole."""
        self._raw = raw
        self._as_json = as_json
        self._out = console()
        self._err = Console(stderr=True, highlight=False, soft_wrap=True)

    def note(self, text: str) -> None:
        """A line about the tap itself."""
        self._err.print(Text(explain.printable(text), style="dim"))

    def show(self, shown: Shown) -> None:
        """One message. Raises OSError when nobody reads."""
        if self._as_json:
            self._out.file.write(json.dumps(as_json(shown), ensure_ascii=False) + "\n")
        else:
            message = shown.message
            topic = explain.printable(message.topic.decode(errors="backslashreplace"))
            head = f"{explain.instant(message.arrived_us)} {topic} {len(message.payload):,} bytes"
            self._out.print(Text(head, style="bold"))
            self._out.print(self._whole(shown) if self._raw else _beside(shown))
        self._out.file.flush()

    def _whole(self, shown: Shown) -> Text:
        payload = shown.message.payload
        text = explain.text_of(payload)
        return Text("\n".join(explain.hex_dump(payload)) if text is None else text)


def _beside(shown: Shown) -> Table:
    table = Table.grid(padding=(0, 2), expand=True)
    table.add_column(ratio=2, overflow="fold")
    table.add_column(ratio=3, overflow="fold")
    right = Text("\n").join(
        [Text(explain.printable(said.words), style="green") for said in shown.readings]
        + [Text(f"refused: {line}", style="red") for line in shown.refused]
        or [Text("no readings", style="yellow")]
    )
    table.add_row(Text(explain.raw(shown.message.payload, _RAW_CHARACTERS)), right)
    return table


def as_json(shown: Shown) -> dict[str, object]:
    """One message as a JSON object."""
    message = shown.message
    return {
        "arrived": explain.instant(message.arrived_us),
        "topic": message.topic.decode(errors="backslashreplace"),
        "bytes": len(message.payload),
        "payload_text": explain.text_of(message.payload),
        "payload_hex": message.payload.hex(),
        "readings": [
            {
                "device": said.device,
                "quantity": said.quantity,
                "value": said.value,
                "unit": said.unit,
                "event": explain.instant(said.event_us),
                "flags": list(said.flags),
            }
            for said in shown.readings
        ],
        "refused": shown.refused,
    }
