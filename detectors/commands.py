"""The commands of this room."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError

from detectors.detect import body
from detectors.settings import DetectSection, DetectSettings
from sizao import service
from sizao.errors import BadInput
from sizao.settings import load_or_last_good, state_folder

app = typer.Typer()


@app.command("detect")
def detect_command(
    config: Annotated[
        Path, typer.Option("--config", envvar="SIZAO_CONFIG", help="the settings file (YAML)")
    ],
    shard: Annotated[
        str, typer.Option(help="i/n, from 0: only partitions whose number divided by n leaves i")
    ] = "",
) -> None:
    """Fold readings and alarms into signals."""
    kept = state_folder(config, "detect")
    settings, wrong = load_or_last_good(config, DetectSettings, kept)
    settings.detect.state = state_folder(config, "detect", settings.detect.state)
    if shard:
        settings = _sharded(settings, shard)
    sys.exit(service.run("detect", settings.detect.http, partial(body, settings), wrong))


def _sharded(settings: DetectSettings, shard: str) -> DetectSettings:
    try:
        section = DetectSection(**{**settings.detect.model_dump(), "shard": shard})
    except ValidationError as error:
        raise BadInput(f"--shard {shard}: expected i/n, i from 0 and below n, as 0/4") from error
    return settings.model_copy(update={"detect": section})
