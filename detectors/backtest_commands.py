"""`sizao backtest`: what changed rules would have said, before they are put in force."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import typer
from pydantic import BaseModel
from rich.console import Console
from rich.table import Table

from detectors import archived, backtest, changes, rules, state
from detectors.backtest import Judged, Pair, Verdicts
from detectors.backtest_run import Asked, Done, run
from detectors.changes import Changes
from sizao import clock
from sizao.db import DatabaseSettings
from sizao.document import one_of, read
from sizao.errors import BadInput
from sizao.registry.load import load as load_registry
from sizao.registry.model import Registry, View
from sizao.settings import load
from sizao.topics import PARTITIONS_DEFAULT

_SAY_S = 5.0
_WIDTH = 160  # where no terminal says how wide it is
_SHOWN_MAX = 20
_FORMATS = ["%Y-%m-%dT%H:%M:%SZ", "%Y-%m-%dT%H:%M:%S%z", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%d"]


class BacktestSettings(BaseModel):
    """Sections of the settings file that are read."""

    database: DatabaseSettings = DatabaseSettings()


def backtest_command(
    config: Annotated[
        Path, typer.Option("--config", envvar="SIZAO_CONFIG", help="the settings file (YAML)")
    ],
    from_at: Annotated[
        datetime, typer.Option("--from", formats=_FORMATS, help="arrivals from here on; UTC")
    ],
    to_at: Annotated[datetime, typer.Option("--to", formats=_FORMATS, help="and before this")],
    rules_file: Annotated[
        Path, typer.Option("--rules", help="YAML: rule -> parameter -> value, or rule: off")
    ],
    *,
    community: Annotated[
        str, typer.Option(help="code of a community, or of another area above sites")
    ] = "",
    site: Annotated[str, typer.Option(help="code of a site")] = "",
    within_min: Annotated[
        float, typer.Option("--within", min=0, max=1440, help="minutes: farther is another raise")
    ] = 10,
    as_json: Annotated[bool, typer.Option("--json", help="for programs")] = False,
    alarms: Annotated[
        Path | None, typer.Option(help="write every raise to this Parquet file")
    ] = None,
) -> None:
    """Tell what changed rules would have raised, missed or moved over archived readings."""
    database = load(config, BacktestSettings).database
    found = changes.read(read(rules_file), str(rules_file), rules.discover())
    span = [archived.micros(_utc(at)) for at in (from_at, to_at)]
    if span[0] >= span[1]:
        raise BadInput(f"--from {from_at} --to {to_at}: expected the first before the second")
    where = (community, site)
    done, asked = asyncio.run(_done(database, found, span, where, within_min * 60))
    verdicts = Verdicts(done.incidents, asked.within_s)
    result = _plain(done, asked, found, backtest.judged(done.pairs, verdicts))
    if alarms is not None:
        _write(alarms, done, verdicts)
    if as_json:
        typer.echo(json.dumps(result, ensure_ascii=False, allow_nan=False))
    else:
        _show(result)


def _utc(at: datetime) -> datetime:
    return at if at.tzinfo else at.replace(tzinfo=UTC)


async def _done(
    database: DatabaseSettings,
    found: Changes,
    span: list[int],
    where: tuple[str, str],
    within_s: float,
) -> tuple[Done, Asked]:
    async with archived.reading_only(database, "backtest") as connection:
        registry = await load_registry(connection, PARTITIONS_DEFAULT)
        asked = Asked(
            from_us=span[0], until_us=span[1], sites=_sites(registry, *where), within_s=within_s
        )
        shipped = state.setup_of(rules.discover())
        return await run(connection, registry, shipped, found, asked, _Teller()), asked


def _sites(registry: Registry, community: str, site: str) -> tuple[int, ...]:
    """Sites at or below an area; none for the whole district. Raises BadInput."""
    if not (community or site):
        return ()
    if community and site:
        raise BadInput("--community and --site: expected one of them")
    view, code = registry.newest, community or site
    option = "--community" if community else "--site"
    known = {
        area.code: area.id for area in view.areas.values() if (area.level == "site") == bool(site)
    }
    if code not in known:
        near = one_of(code, known).partition("; ")[2]
        raise BadInput(f"{option} {code}: not registered, expected a code{near and '; ' + near}")
    found = tuple(
        area.id
        for area in view.areas.values()
        if area.level == "site" and known[code] in {above.id for above in view.path(area.id)}
    )
    if not found:
        raise BadInput(f"{option} {code}: it holds no site, expected an area above some")
    return found


class _Teller:
    """Says on standard error how far it is, now and then."""

    def __init__(self) -> None:
        self._began_s = self._said_s = clock.monotonic_s()

    def __call__(self, name: str, share: float, readings: int) -> None:
        now_s = clock.monotonic_s()
        if now_s - self._said_s < _SAY_S:
            return
        self._said_s = now_s
        rate = readings / (now_s - self._began_s)
        typer.echo(f"{name}: {share:.0%}, {readings:,} readings, {rate:,.0f} a second", err=True)


# --- the result ---------------------------------------------------------------------------------


def _community(view: View, site: int) -> str:
    """Code of the community of a site, else of the area right above it."""
    path = view.path(site)
    codes = [area.code for area in path if area.level == "community"]
    above = [area.code for area in path[:-1]]
    return (codes or above or [f"site {site}"])[-1]


def _plain(done: Done, asked: Asked, found: Changes, judged: list[Judged]) -> dict[str, Any]:
    view = done.view
    of_site = {
        site: _community(view, site)
        for site in {int(one) for one in np.unique(view.device_site)}
        | {pair.one.site for pair in done.pairs}
    }
    codes = np.array([of_site[int(site)] for site in view.device_site])
    rows = backtest.tallies(done.pairs, of_site)
    years = {code: done.device_years(codes == code, asked) for code, _, _ in rows if code}
    years[""] = done.device_years(codes == codes, asked)  # noqa: PLR0124 - all of them
    spoken = {one.incident.id for one in judged}
    real = [one for one in judged if one.incident.nature == "real"]
    return {
        "from": archived.moment(asked.from_us).isoformat(),
        "to": archived.moment(asked.until_us).isoformat(),
        "rules": found.plain(),
        "warm_up_s": done.warm_up_s,
        "within_s": asked.within_s,
        "readings": done.readings,
        "readings_of_unknown_points": done.outside,
        "devices": int(np.count_nonzero(done.heard)),
        "device_years": years[""],
        "fires": [_incident(view, one) for one in real if one.incident.verdict == "fire"],
        "false_alarms": [
            _incident(view, one) for one in real if one.incident.verdict == "false_alarm"
        ],
        "fires_that_neither_raised": [
            _incident(view, Judged(one))
            for one in done.incidents
            if (one.verdict, one.nature) == ("fire", "real") and one.id not in spoken
        ],
        "incidents_without_verdict": sum(not one.incident.verdict for one in real),
        "rows": [
            {"community": code, "rule": rule, "tier": tier, **one.plain(years[code])}
            for (code, rule, tier), one in rows.items()
        ],
    }


def _incident(view: View, one: Judged) -> dict[str, Any]:
    site = view.areas.get(one.incident.site)
    return {
        "incident": one.incident.id,
        "site": "" if site is None else site.code,
        "kind": one.incident.kind,
        "onset": archived.moment(one.incident.onset_us).isoformat(),
        "missed": one.missed,
        "first_alarm_later_s": one.later_s,
    }


def _write(path: Path, done: Done, verdicts: Verdicts) -> None:
    """Every raise, with what became of it."""
    view = done.view
    rows = [_row(view, verdicts, pair) for pair in done.pairs]
    schema = pa.schema(
        [(name, pa.string()) for name in _TEXTS]
        + [("in_force", pa.timestamp("us", "UTC")), ("changed", pa.timestamp("us", "UTC"))]
        + [("later_s", pa.float64())]
    )
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), path, compression="zstd")


_TEXTS = (
    "what", "community", "site", "device", "kind", "tier", "rule", "changed_rule", "verdict",
    "incident", "onset", "changed_onset",
)  # fmt: skip


def _row(view: View, verdicts: Verdicts, pair: Pair) -> dict[str, Any]:
    one, incident = pair.one, verdicts.of(pair.one)
    site = view.areas.get(one.site)
    return {
        "what": pair.what.value,
        "community": _community(view, one.site),
        "site": "" if site is None else site.code,
        "device": view.device_key[one.device] if one.device < len(view.device_key) else "",
        "kind": one.kind,
        "tier": one.tier,
        "rule": one.rule,
        "changed_rule": None if pair.new is None else pair.new.rule,
        "verdict": None if incident is None else incident.verdict,
        "incident": None if incident is None else incident.id,
        "onset": None if pair.old is None else pair.old.onset,
        "changed_onset": None if pair.new is None else pair.new.onset,
        "in_force": None if pair.old is None else archived.moment(pair.old.onset_us),
        "changed": None if pair.new is None else archived.moment(pair.new.onset_us),
        "later_s": pair.later_s if pair.old and pair.new else None,
    }


# --- words --------------------------------------------------------------------------------------


def _show(result: dict[str, Any]) -> None:
    console = Console()
    if not console.is_terminal:
        console = Console(width=_WIDTH)
    for line in _verdicts(result):
        typer.echo(line)
    console.print(_table(result))


def _verdicts(result: dict[str, Any]) -> Iterator[str]:
    """Real fires that would be missed first."""
    fires = result["fires"]
    for one in fires:
        if one["missed"]:
            yield (
                f"A REAL FIRE WOULD HAVE BEEN MISSED: incident {one['incident']} at {one['site']},"
                f" onset {one['onset']}"
            )
    late = [one for one in fires if (one["first_alarm_later_s"] or 0) > 0]
    for one in late[:_SHOWN_MAX]:
        later_s = one["first_alarm_later_s"]
        yield f"a real fire later by {later_s:.0f} s: incident {one['incident']} at {one['site']}"
    if len(late) > _SHOWN_MAX:
        yield f"and {len(late) - _SHOWN_MAX} more"
    for one in result["fires_that_neither_raised"][:_SHOWN_MAX]:
        yield (
            f"a real fire that neither raises (no readings left, or told by another way): incident"
            f" {one['incident']} at {one['site']}"
        )
    missed = sum(one["missed"] for one in fires)
    spared = sum(one["missed"] for one in result["false_alarms"])
    yield (
        f"real fires: {missed} of {len(fires)} missed, {len(late)} later; false alarms:"
        f" {spared} of {len(result['false_alarms'])} spared; incidents without a verdict:"
        f" {result['incidents_without_verdict']}"
    )
    yield (
        f"{result['from']} to {result['to']}: {result['readings']:,} readings of"
        f" {result['devices']:,} devices, {result['device_years']:.4g} device-years; changed:"
        f" {json.dumps(result['rules'])}"
    )


def _table(result: dict[str, Any]) -> Table:
    table = Table(title="raises, by the rules in force and by the changed ones")
    for name in ("community", "rule", "tier"):
        table.add_column(name)
    for name in (
        "in force", "changed", "raised", "missed", "earlier (median)", "later (median)",
        "a device-year", "changed",
    ):  # fmt: skip
        table.add_column(name, justify="right")
    for one in result["rows"]:
        table.add_row(
            one["community"] or "all", one["rule"] or "all", one["tier"] or "all",
            str(one["in_force"]), str(one["changed"]), str(one["raised"]), str(one["missed"]),
            _moved(one["earlier"], one["earlier_s_median"]),
            _moved(one["later"], one["later_s_median"]),
            _rate(one["in_force_per_device_year"]), _rate(one["changed_per_device_year"]),
        )  # fmt: skip
    return table


def _moved(count: int, seconds: float | None) -> str:
    return str(count) if seconds is None else f"{count} ({seconds:.0f} s)"


def _rate(rate: float | None) -> str:
    return "" if rate is None else f"{rate:.3g}"
