"""`sizao rules`: what the detectors' parameters are, where they come from, and to set them."""

from __future__ import annotations

import asyncio
import getpass
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import BaseModel
from rich.console import Console
from rich.table import Table

from detectors import parameters, rules, tuning
from detectors.catalogue import purpose
from detectors.parameters import DISTRICT
from detectors.rule import Rule
from detectors.sets import Place
from detectors.settings import DetectSection
from detectors.tuning import Effect, Where
from sizao.db import Connection, DatabaseSettings, connected, translated
from sizao.errors import BadInput, Raced
from sizao.registry.load import load as load_registry
from sizao.registry.model import View
from sizao.registry.write import Change, ParameterRow, apply, partitions_of
from sizao.settings import load
from sizao.topics import PARTITIONS_DEFAULT

app = typer.Typer(no_args_is_help=True, help="Parameters of the detectors, by place, type, device.")

_TRIES = 3
_WIDTH = 160  # where no terminal says how wide it is
_TEXT_MAX = 500  # of --why and --by
_SAID = """
    SELECT p.id, p.who, p.why, g.made_at, p.from_gen
    FROM rule_parameter p JOIN generation g ON g.id = p.from_gen
    WHERE p.from_gen <= %(at)s AND coalesce(p.to_gen > %(at)s, true)"""


class RulesSettings(BaseModel):
    """What `sizao rules` reads of the settings file."""

    database: DatabaseSettings = DatabaseSettings()
    detect: DetectSection = DetectSection()


Config = Annotated[
    Path, typer.Option("--config", envvar="SIZAO_CONFIG", help="the settings file (YAML)")
]
Named = Annotated[str, typer.Argument(metavar="RULE", help="such as heat_rise")]
District = Annotated[bool, typer.Option("--district", help="wherever nothing else is said")]
Area = Annotated[str, typer.Option("--area", help="code of a street, community, floor, room...")]
Site = Annotated[str, typer.Option("--site", help="code of a site")]
Type = Annotated[str, typer.Option("--type", help="name of a device type")]
Device = Annotated[str, typer.Option("--device", help="its key, or carrier/key")]
Carrier = Annotated[str, typer.Option("--carrier", help="under which the device is registered")]
Why = Annotated[str, typer.Option("--why", help="kept with the parameter")]
Who = Annotated[str, typer.Option("--by", help="who decided it; left out: who runs this")]
Between = Annotated[str, typer.Option("--between", help="local time of events: 22:00-06:00")]
Days = Annotated[str, typer.Option("--days", help="on which that begins: mon-fri or sat,sun")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="check and count, change nothing")]
AsJson = Annotated[bool, typer.Option("--json", help="for programs")]


# --- set, unset -----------------------------------------------------------------------------------


@app.command("set")
def set_command(
    rule: Named,
    words: Annotated[list[str], typer.Argument(metavar="NAME=VALUE...")],
    config: Config,
    why: Why,
    district: District = False,  # noqa: FBT002 - typer reads the default from here
    area: Area = "",
    site: Site = "",
    kind: Type = "",
    device: Device = "",
    carrier: Carrier = "",
    between: Between = "",
    days: Days = "",
    by: Who = "",
    dry_run: DryRun = False,  # noqa: FBT002 - as above
    as_json: AsJson = False,  # noqa: FBT002 - as above
) -> None:
    """Set parameters of a rule for a scope, always or at certain hours."""
    settings = load(config, RulesSettings)
    where = Where(
        district=district, area=area, site=site, type=kind, device=device, carrier=carrier
    )
    asked = tuning.rule_named(rule, rules.discover())
    values = tuning.values_of(asked, words)
    window = tuning.window_of(between, days, tuning.offset_of(settings.detect.utc_offset))
    said = _said(by, why)

    def decide(view: View) -> list[ParameterRow]:
        return tuning.to_set(view, asked, tuning.place_of(view, where), values, window, **said)

    cause = f"rules set {asked.NAME} {' '.join(words)}: {why}"
    _change(settings, asked, decide, cause, dry_run=dry_run, as_json=as_json)


@app.command("unset")
def unset_command(
    rule: Named,
    config: Config,
    why: Why,
    names: Annotated[
        list[str] | None, typer.Argument(metavar="NAME...", help="left out: all")
    ] = None,
    district: District = False,  # noqa: FBT002 - typer reads the default from here
    area: Area = "",
    site: Site = "",
    kind: Type = "",
    device: Device = "",
    carrier: Carrier = "",
    between: Between = "",
    days: Days = "",
    by: Who = "",
    dry_run: DryRun = False,  # noqa: FBT002 - as above
    as_json: AsJson = False,  # noqa: FBT002 - as above
) -> None:
    """End what is set at a scope, at all hours unless some are named; the next scope holds."""
    settings = load(config, RulesSettings)
    where = Where(
        district=district, area=area, site=site, type=kind, device=device, carrier=carrier
    )
    asked = tuning.rule_named(rule, rules.discover())
    wanted = tuning.names_of(asked, names or [])
    window = tuning.window_of(between, days, 0) if between or days else None
    said = _said(by, why)

    def decide(view: View) -> list[ParameterRow]:
        return tuning.to_unset(view, asked, tuning.place_of(view, where), wanted, window, **said)

    cause = f"rules unset {asked.NAME} {' '.join(wanted)}: {why}"
    _change(settings, asked, decide, cause, dry_run=dry_run, as_json=as_json)


def _said(by: str, why: str) -> dict[str, str]:
    if not why.strip() or len(why) > _TEXT_MAX:
        raise BadInput(f"--why: got {len(why)} characters, expected 1 to {_TEXT_MAX}: a reason")
    if not by:
        try:
            by = getpass.getuser()
        except (KeyError, OSError) as error:  # a container whose user has no name
            raise BadInput("--by: expected who decided it: this user has no name") from error
    return {"who": by[:_TEXT_MAX], "why": why}


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a change does, and the generation in force after it."""

    rows: list[ParameterRow]
    effect: Effect
    generation: int


async def change(
    database: DatabaseSettings,
    rule: Rule,
    decide: Callable[[View], list[ParameterRow]],
    cause: str,
    *,
    dry_run: bool = False,
) -> Outcome:
    """Decide on the registry as it is and apply in one transaction, again if raced, three times.

    Raises BadInput, Raced, Retriable; nothing is changed then, nor when it is cancelled.
    """
    async with connected(database, "rules") as connection:
        for left in reversed(range(_TRIES)):
            view = (await load_registry(connection, PARTITIONS_DEFAULT)).newest
            rows = decide(view)
            found = tuning.effect(view, tuning.after(view, rows), rule)
            tuning.check(found, rule)
            if dry_run:
                return Outcome(rows=rows, effect=found, generation=view.generation)
            try:
                generation = await apply(
                    connection,
                    Change(parameters=rows),
                    cause=cause,
                    partitions=await partitions_of(connection, None),
                    based_on=view.generation,
                )
            except Raced:
                if not left:
                    raise
            else:
                return Outcome(rows=rows, effect=found, generation=generation)
    raise AssertionError("unreachable")


def _change(
    settings: RulesSettings,
    rule: Rule,
    decide: Callable[[View], list[ParameterRow]],
    cause: str,
    *,
    dry_run: bool,
    as_json: bool,
) -> None:
    done = asyncio.run(change(settings.database, rule, decide, cause, dry_run=dry_run))
    if as_json:
        said = {"dry_run": dry_run, "generation": done.generation, **asdict(done.effect)}
        typer.echo(json.dumps(said | {"rows": [asdict(row) for row in done.rows]}))
        return
    devices, points = done.effect.devices, done.effect.points
    end = "dry run, nothing is changed" if dry_run else f"generation {done.generation}"
    verb = "would be" if dry_run else "are"
    typer.echo(
        f"{rule.NAME}: {devices:,} devices, {points:,} points {verb} judged otherwise; {end}"
    )


# --- show -----------------------------------------------------------------------------------------


@app.command("show")
def show_command(
    config: Config,
    rule: Annotated[str, typer.Argument(metavar="RULE", help="left out: all")] = "",
    area: Area = "",
    site: Site = "",
    kind: Type = "",
    device: Device = "",
    carrier: Carrier = "",
    generation: Annotated[
        int, typer.Option(min=0, help="as a signal names it; left out: the newest")
    ] = 0,
    as_json: AsJson = False,  # noqa: FBT002 - typer reads the default from here
) -> None:
    """Tell what holds at a scope, left out: in the district, and where each value comes from."""
    settings = load(config, RulesSettings)
    where = Where(area=area, site=site, type=kind, device=device, carrier=carrier)
    if where == Where():
        where = Where(district=True)
    known = rules.discover()
    wanted = [tuning.rule_named(rule, known)] if rule else list(known)
    found = asyncio.run(shown(settings.database, wanted, where, generation))
    if as_json:
        typer.echo(json.dumps(found, ensure_ascii=False, default=str))
        return
    console = Console()
    if not console.is_terminal:
        console = Console(width=_WIDTH)
    typer.echo(f"generation {found['generation']}, {found['scope']}")
    for one in found["rules"]:
        if rule or one["rows"]:
            console.print(_table(one))
        else:
            typer.echo(f"{one['rule']}: as shipped. {one['purpose']}")
        for row in one["rows"] if rule else ():
            typer.echo(
                f"  {row['parameter']} = {row['value']:g} at {row['scope']}, {row['when']}, since"
                f" generation {row['generation']} of {row['made_at']:%Y-%m-%d %H:%M} UTC,"
                f" by {row['who']}: {row['why']}"
            )
    for text in found["ignored"]:
        typer.echo(f"not taken by this version of the program, and without effect: {text}")


async def shown(
    database: DatabaseSettings, wanted: Sequence[Rule], where: Where, generation: int
) -> dict[str, Any]:
    """Parameters at a scope and a generation (0: the newest), as JSON has them."""
    async with connected(database, "rules") as connection:
        registry = await load_registry(connection, PARTITIONS_DEFAULT, points=False)
        if generation > registry.generation:
            raise BadInput(f"--generation {generation}: the newest is {registry.generation}")
        view = registry.at(generation or registry.generation)
        said = await _who_and_why(connection, view.generation)
    place = tuning.place_of(view, where)
    rows = parameters.rows_of(view)
    return {
        "generation": view.generation,
        "scope": tuning.shown_place(view, place),
        "rules": [_rule(view, rule, place, said) for rule in wanted],
        "ignored": [
            f"{row.rule} {row.parameter} = {row.value:g} at {tuning.shown_place(view, row.place)}"
            for row in parameters.ignored(rows, rules.discover())
        ],
    }


async def _who_and_why(connection: Connection, at: int) -> dict[int, dict[str, Any]]:
    with translated():
        cursor = await connection.execute(_SAID, {"at": at})
        names = ("who", "why", "made_at", "generation")
        return {row[0]: dict(zip(names, row[1:], strict=True)) for row in await cursor.fetchall()}


def _rule(view: View, rule: Rule, place: Place, said: dict[int, dict[str, Any]]) -> dict[str, Any]:
    deciding = tuning.in_force(view, rule, place)
    chain = tuning.chain_of(view, place)
    everywhere = place[0] == DISTRICT
    found = []
    for one in parameters.taken(rule).values():
        entry: dict[str, Any] = {
            "name": one.name, "value": one.shipped, "from": "shipped", "windows": [],
            "unit": one.unit, "shipped": one.shipped, "low": one.bound.low,
            "high": one.bound.high, "fixed": one.fixed, "reason": one.bound.reason,
        }  # fmt: skip
        for row in deciding.get(one.name, ()):
            decided = {
                "value": one.of(row.value), "from": tuning.shown_place(view, row.place)
            }  # fmt: skip
            if row.window.always:
                entry |= decided
            else:
                when = tuning.shown_window(row.window)
                entry["windows"] = [*entry["windows"], {"when": when, **decided}]
        found += [entry]
    return {
        "rule": rule.NAME,
        "version": rule.VERSION,
        "purpose": purpose(rule),
        "parameters": found,
        "sets": [
            {"rule_parameters": each.digest, "values": asdict(each.params)}
            for each in tuning.sets_in(view, rule, place)
        ],
        "rows": [
            {
                "parameter": row.parameter, "value": row.value,
                "scope": tuning.shown_place(view, row.place),
                "when": tuning.shown_window(row.window), **said.get(row.id, {}),
            }
            for row in parameters.rows_of(view)
            if row.rule == rule.NAME and (everywhere or row.place in chain)
        ],
    }  # fmt: skip


def _table(found: dict[str, Any]) -> Table:
    sets = ", ".join(each["rule_parameters"] for each in found["sets"])
    table = Table(title=f"{found['rule']} version {found['version']}, sets {sets}", box=None)
    for name in ("parameter", "value", "unit", "from", "shipped", "bounds", "why these bounds"):
        table.add_column(name, justify="right" if name in {"value", "shipped"} else "left")
    for one in found["parameters"]:
        bounds = "fixed" if one["fixed"] else f"{one['low']:g} to {one['high']:g}"
        table.add_row(
            one["name"], f"{one['value']:g}", one["unit"], one["from"], f"{one['shipped']:g}",
            bounds, one["reason"],
        )  # fmt: skip
        for window in one["windows"]:
            source = f"{window['from']}, {window['when']}"
            table.add_row("", f"{window['value']:g}", one["unit"], source)
    return table
