"""The commands of this room."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from ingest import archive
from ingest.bridge import body, first_start
from ingest.credential_commands import credentials
from ingest.evidence_commands import app as evidence
from ingest.quality_commands import quality_command
from ingest.register_commands import areas, devices
from ingest.reject_commands import app as rejects
from ingest.settings import BridgeSettings
from ingest.tap_commands import tap_command
from ingest.type_commands import app as device_types
from sizao import service
from sizao.document import Fault
from sizao.settings import load_or_last_good, state_folder

app = typer.Typer()
app.add_typer(device_types, name="device-type")
app.add_typer(areas, name="areas")
app.add_typer(devices, name="devices")
app.add_typer(rejects, name="rejects")
app.add_typer(evidence, name="evidence")
app.command("tap")(tap_command)
app.command("quality")(quality_command)
devices.add_typer(credentials, name="credentials")

Config = Annotated[
    Path, typer.Option("--config", envvar="SIZAO_CONFIG", help="the settings file (YAML)")
]


@app.command("bridge")
def bridge_command(config: Config) -> None:
    """Receive from the MQTT broker, decode, write frames to Kafka."""
    kept = state_folder(config, "bridge")

    def strict(settings: BridgeSettings) -> list[Fault]:
        return first_start(settings, state_folder(config, "bridge", settings.bridge.state))

    settings, wrong = load_or_last_good(config, BridgeSettings, kept, strict)
    settings.bridge.state = state_folder(config, "bridge", settings.bridge.state)
    sys.exit(service.run("bridge", settings.bridge.http, partial(body, settings), wrong))


@app.command("archive")
def archive_command(config: Config) -> None:
    """Store raw readings in the database, each exactly once."""
    sys.exit(archive.process(config))
