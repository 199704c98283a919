"""`sizao device-type`: from a sample payload to a type in force, and what is in force."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from ingest import skeleton, thing, type_plan, type_store
from ingest.check import Proof, check, proofs
from ingest.device_types import json_schema
from ingest.device_types.load import load
from ingest.device_types.schema import Format
from ingest.draft import Draft
from ingest.onboarding import Document, operators, shipped
from ingest.register import RegisterSettings, register, view_of
from sizao import service, settings
from sizao.db import DatabaseSettings, connected
from sizao.document import one_of, read
from sizao.errors import BadInput
from sizao.registry.model import View
from sizao.registry.write import DetectorRow

app = typer.Typer(no_args_is_help=True, help="Device types: one YAML file each.")

SAMPLE_BYTES_MAX = 1 << 20

Config = Annotated[
    Path, typer.Option("--config", envvar="SIZAO_CONFIG", help="the settings file (YAML)")
]
Files = Annotated[list[Path], typer.Argument(help="device-type files (YAML)")]
Name = Annotated[str, typer.Argument(help="vendor.model")]
Shipped = Annotated[bool, typer.Option("--shipped", help="all that Sizao brings")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="show, change nothing")]
Yes = Annotated[bool, typer.Option("--yes", help="do not ask on a terminal")]
AllowRemoval = Annotated[
    bool, typer.Option("--allow-removal", help="of quantities that devices in service measure")
]
Td = Annotated[bool, typer.Option("--td", help="as W3C Thing Description 1.1; left out: the YAML")]


@app.command("new")
def new_command(
    name: Name,
    out: Annotated[Path, typer.Option("--out", help="the operator's folder of device types")],
    kind: Annotated[Format, typer.Option("--format", help="shape of a payload")] = Format.JSON,
    sample: Annotated[
        Path | None, typer.Option("--sample", help="a payload as it came; of format json")
    ] = None,
    topic: Annotated[
        str | None, typer.Option("--topic", help="where it came, or a pattern of topics")
    ] = None,
) -> None:
    """Write a first file to go on with; with a sample, its fields are in it."""
    vendor, model = skeleton.place_of(name)
    file = out / vendor / f"{model}.yaml"
    if file.exists():
        raise BadInput(f"{file}: got a file that is there already, expected another name")
    if sample is None:
        template = resources.files("ingest") / "skeletons" / f"{kind}.yaml"
        text = skeleton.from_template(template.read_text("utf-8"), name, topic)
    elif kind is not Format.JSON:
        raise BadInput(f"--sample: got format {kind}, expected json; leave --sample out")
    else:
        text = skeleton.from_sample(name, _sample(sample), topic)
    _good([(str(file), text)])
    file.parent.mkdir(parents=True, exist_ok=True)
    (out / json_schema.FILE).write_text(json_schema.text(), "utf-8")
    file.write_text(text, "utf-8")
    typer.echo(f"{file}: go through it from the top, then `sizao device-type test {file}`")


def _sample(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(SAMPLE_BYTES_MAX)
    except OSError as error:
        raise BadInput(f"{path}: got a file that cannot be read ({error})") from error


@app.command("check")
def check_command(files: Files) -> None:
    """Check files and run their examples; every fault is told, one a line."""
    documents, unreadable = _texts(files)
    faults = [*unreadable, *check(documents)]
    for fault in faults:
        typer.echo(fault, err=True)
    if faults:
        sys.exit(service.BAD_INPUT)
    typer.echo(f"{len(documents)} device types are good, every example comes true")


@app.command("test")
def test_command(files: Files) -> None:
    """Run the examples and show what was expected of each and what came."""
    wrong = 0
    documents, faults = _texts(files)
    kinds = []
    for name, text in documents:
        try:
            kinds.append((name, text, load(text, name)))
        except BadInput as error:
            faults.append(str(error))
    if faults:
        raise BadInput("\n".join(faults))
    for name, text, kind in kinds:
        made = proofs(kind, text)
        typer.echo(f"{name}: {kind.name}")
        for number, proof in enumerate(made):
            typer.echo("\n".join(_shown(number, proof)))
        failed = sum(bool(proof.faults) for proof in made)
        typer.echo(f"  {len(made) - failed} of {len(made)} examples come true\n")
        wrong += failed
    if wrong:
        sys.exit(service.FAILED)


def _shown(number: int, proof: Proof) -> list[str]:
    """An example as a difference: - was expected and did not come, + came and was not expected."""
    head = f"  {'ok  ' if not proof.faults else 'FAIL'} {number}: {proof.note or '(no note)'}"
    if not proof.faults:
        return [head]
    left = list(proof.got)
    lines = []
    for line in proof.expected:
        came = line in left
        if came:
            left.remove(line)
        lines.append(f"         {' ' if came else '-'} {line}")
    return [f"{head} (line {proof.line})", *lines, *(f"         + {line}" for line in left)]


@app.command("apply")
def apply_command(
    config: Config,
    files: Annotated[list[Path] | None, typer.Argument(help="device-type files (YAML)")] = None,
    folder: Annotated[
        Path | None, typer.Option("--folder", help="all <vendor>/<model>.yaml of it")
    ] = None,
    with_shipped: Shipped = False,  # noqa: FBT002 - typer reads the default from here
    dry_run: DryRun = False,  # noqa: FBT002 - as above
    yes: Yes = False,  # noqa: FBT002 - as above
    allow_removal: AllowRemoval = False,  # noqa: FBT002 - as above
) -> None:
    """Put files into force, all of them or none; says first what that changes."""
    documents, unreadable = _texts(files or [])
    documents += operators(folder) if folder is not None else []
    documents += shipped() if with_shipped else []
    if not documents and not unreadable:
        raise BadInput("got no file, expected FILE..., --folder or --shipped")
    _good(documents, unreadable)
    made: list[type_plan.Plan] = []
    database = settings.load(config, RegisterSettings).database
    detectors = asyncio.run(_catalogue(database))

    def decide(view: View) -> Draft:
        """Show before it is stored: if the registry changes meanwhile, this is asked again."""
        plan = type_plan.plan(documents, view, detectors, allow_removal=allow_removal)
        made[:] = [plan]
        typer.echo("\n".join(type_plan.told(plan)))
        asks = not (dry_run or yes or plan.draft.empty) and sys.stdin.isatty()
        if asks:
            typer.confirm("apply this?", abort=True)
        return plan.draft

    cause = f"device types {', '.join(Path(name).name for name, _ in documents)[:200]}"
    outcome = asyncio.run(register(database, decide, cause, dry_run=dry_run))
    typer.echo(_summary(made[0], outcome.generation, dry_run=dry_run))


def _summary(plan: type_plan.Plan, generation: int, *, dry_run: bool) -> str:
    draft = plan.draft
    counts = f"{draft.added} new, {draft.altered} changed, {draft.same} unchanged"
    points = f"{plan.points_begin:,} points begin, {plan.points_end:,} end"
    end = "dry run, nothing is changed" if dry_run else f"generation {generation}"
    return f"{counts}; {points}; {end}"


@app.command("list")
def list_command(config: Config) -> None:
    """Every type in force, and what is shipped and not in force."""
    view = asyncio.run(_view(settings.load(config, RegisterSettings).database))
    ours = {load(text, name).name: text for name, text in shipped()}
    counts = np.bincount(
        view.device_type[view.device_live], minlength=max(view.types, default=0) + 1
    )
    rows = [("NAME", "VERSION", "FORMAT", "DEVICES", "ORIGIN", "DESCRIPTION")]
    for kind in sorted(view.types.values(), key=lambda kind: kind.name):
        origin = "operator" if kind.name not in ours else "shipped"
        origin = "changed" if origin == "shipped" and ours[kind.name] != kind.document else origin
        devices = f"{counts[kind.id]:,}"
        rows.append((kind.name, str(kind.version), *_of(kind.document, kind.name, devices, origin)))
    known = {kind.name for kind in view.types.values()}
    absent = sorted(ours.keys() - known)
    rows += [(name, "-", *_of(ours[name], name, "0", "not in force")) for name in absent]
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=False)]
        typer.echo("  ".join([*cells, row[5]]).rstrip())


def _of(document: str, name: str, devices: str, origin: str) -> tuple[str, str, str, str]:
    try:
        kind = load(document, name)
    except BadInput:
        return "?", devices, origin, "(cannot be read by this program)"
    return kind.format.value, devices, origin, kind.description


@app.command("show")
def show_command(
    name: Name,
    config: Config,
    version: Annotated[int | None, typer.Option("--version", help="left out: in force")] = None,
) -> None:
    """A type's document as it is stored, below its versions as comments."""
    versions = asyncio.run(_history(config, name))
    for one in versions:
        ended = f"to {one.until}" if one.until is not None else "in force"
        made = one.made_at.isoformat(timespec="seconds")
        typer.echo(
            f"# version {one.version}: from generation {one.since} {ended}; {made}; {one.cause}"
        )
    typer.echo(_chosen(versions, name, version).document.rstrip("\n"))


@app.command("export")
def export_command(
    name: Name,
    config: Config,
    td: Td = False,  # noqa: FBT002 - as above
) -> None:
    """A type in force, for other programs."""
    chosen = _chosen(asyncio.run(_history(config, name)), name, None)
    if td:
        made = thing.thing(load(chosen.document, name), chosen.version)
        typer.echo(json.dumps(made, indent=2, ensure_ascii=False))
    else:
        typer.echo(chosen.document.rstrip("\n"))


@app.command("schema")
def schema_command() -> None:
    """The JSON Schema of device-type files, so that an editor completes and checks them."""
    typer.echo(json_schema.text(), nl=False)


def _texts(files: Sequence[Path]) -> tuple[list[Document], list[str]]:
    """Texts of the files that can be read, and a fault for each other."""
    found: list[Document] = []
    unreadable: list[str] = []
    for file in files:
        try:
            found.append((str(file), read(file)))
        except BadInput as error:
            unreadable.append(str(error))
    return found, unreadable


def _good(documents: list[Document], unreadable: Sequence[str] = ()) -> None:
    """Raise BadInput with every fault of every file, examples that do not come true included."""
    faults = [*unreadable, *check(documents)]
    if faults:
        raise BadInput("\n".join(faults))


def _chosen(
    versions: list[type_store.Version], name: str, version: int | None
) -> type_store.Version:
    found = [one for one in versions if version in {None, one.version}]
    if not found:
        known = ", ".join(str(one.version) for one in versions)
        raise BadInput(f"--version: got {version}, expected one of {known} of {name}")
    return found[-1]


async def _history(config: Path, name: str) -> list[type_store.Version]:
    database = settings.load(config, RegisterSettings).database
    async with connected(database, "device-type") as connection:
        versions = await type_store.history(connection, name)
        if not versions:
            view = await view_of(connection)
            known = sorted(kind.name for kind in view.types.values())
            raise BadInput(f"got the unknown type {name!r}, expected {one_of(name, known)}")
    return versions


async def _catalogue(database: DatabaseSettings) -> list[DetectorRow]:
    async with connected(database, "device-type") as connection:
        return await type_store.catalogue(connection)


async def _view(database: DatabaseSettings) -> View:
    async with connected(database, "device-type") as connection:
        return await view_of(connection)
