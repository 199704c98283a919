"""The commands of this room."""

from __future__ import annotations

import json
import sys
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError

from detectors import rules, state
from detectors.backtest_commands import backtest_command
from detectors.detect import body
from detectors.evaluation import conformance, evaluate, protocol, report
from detectors.explain_commands import explain_command
from detectors.rules_commands import app as rules_app
from detectors.settings import DetectSection, DetectSettings
from sizao import service
from sizao.errors import BadInput
from sizao.settings import load_or_last_good, state_folder

app = typer.Typer()
app.command("backtest")(backtest_command)
app.command("explain")(explain_command)
app.add_typer(rules_app, name="rules")


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


@app.command("evaluate")
def evaluate_command(
    packs: Annotated[list[Path], typer.Argument(help="folders of packs (docs/packs.md)")],
    *,
    as_json: Annotated[bool, typer.Option("--json", help="the whole result as JSON")] = False,
    alarms: Annotated[
        Path | None, typer.Option(help="write every raise to this Parquet file")
    ] = None,
    html: Annotated[
        Path | None, typer.Option("--report", help="write a page with tables and plots")
    ] = None,
    sampling_s: Annotated[
        float,
        typer.Option("--sampling", min=0.1, max=60, help="seconds; of fire packs not `prepared`"),
    ] = protocol.SAMPLING_S,
    stressed: Annotated[
        bool, typer.Option("--stress", help="lose, delay, repeat and corrupt readings as well")
    ] = False,
    seed: Annotated[
        int, typer.Option(min=0, help="draws the tests of the bootstrap, and --stress")
    ] = 1,
) -> None:
    """Score the shipped rules on recorded fires and quiet rooms, beside simple detectors."""
    setup = state.setup_of(rules.discover())
    trials = evaluate.judge(packs, setup, sampling_s)
    found = evaluate.result(trials, setup, seed=seed, sampling_s=sampling_s, stressed=stressed)
    result = evaluate.plain(found)
    if alarms is not None:
        evaluate.write_alarms(alarms, trials)
    if html is not None:
        html.write_text(report.html(result, trials), "utf-8")
    typer.echo(json.dumps(result, indent=1, allow_nan=False) if as_json else report.text(result))


@app.command("conformance")
def conformance_command() -> None:
    """The EN 54-5 ramps through the shipped rules: the table of docs/en54-5.md."""
    typer.echo(conformance.markdown(conformance.table(state.setup_of(rules.discover()))))
