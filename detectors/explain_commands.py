"""`sizao explain`: why a signal was said, and whether the archive says it again."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import BaseModel

from detectors import archived, catalogue, explain, rules, state
from detectors.explain import Outcome, Verdict
from detectors.recompute import Replayed, recompute
from sizao.db import Connection, DatabaseSettings, translated
from sizao.errors import BadInput
from sizao.registry.load import load as load_registry
from sizao.registry.model import View
from sizao.service import FAILED
from sizao.settings import load
from sizao.signal import Kind, Phase, Signal, Subject, SubjectType, Tier
from sizao.topics import PARTITIONS_DEFAULT

_ID_CHARS = 32
_PREFIX_CHARS_MIN = 6
_SHOWN_MAX = 5
_COLUMNS = (
    "id", "onset", "rule", "rule_version", "kind", "tier", "phase", "subject_type", "subject",
    "site", "device", "onset_us", "event_us", "received_us", "generation", "late", "self_test",
    "evidence", "nature", "incident", "became",
)  # fmt: skip
_SELECT = f"SELECT {', '.join(_COLUMNS)} FROM signal WHERE "
# The raise stands for its onset. Slow kinds belong to no incident, and their onsets to no index.
_BY = (
    "id = %(id)s",
    "onset = %(id)s AND incident IS NOT NULL",
    "onset = %(id)s",
    "id > %(id)s AND id < %(id)s || 'g'",
)


class ExplainSettings(BaseModel):
    """Sections of the settings file that are read."""

    database: DatabaseSettings = DatabaseSettings()


def explain_command(
    signal: Annotated[str, typer.Argument(help="id of a signal's record, or of its onset")],
    config: Annotated[
        Path, typer.Option("--config", envvar="SIZAO_CONFIG", help="the settings file (YAML)")
    ],
    *,
    back_h: Annotated[
        float,
        typer.Option("--back", min=0, max=72, help="hours before the onset; 0: until it is equal"),
    ] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="for programs")] = False,
) -> None:
    """Explain a signal, and compute it again from the archive: exit 0 if equal, 1 if not."""
    database = load(config, ExplainSettings).database
    told = asyncio.run(_told(database, signal.strip().lower(), int(back_h * 3600)))
    if as_json:
        typer.echo(json.dumps(told, ensure_ascii=False))
    else:
        typer.echo("\n".join(_words(told)))
    if told["recomputed"]["verdict"] not in {Verdict.EQUAL, Verdict.CLOSE}:
        raise typer.Exit(FAILED)


async def _told(database: DatabaseSettings, wanted: str, back_s: int) -> dict[str, Any]:
    async with archived.reading_only(database, "explain") as connection:
        row = await _found(connection, wanted)
        said = _signal(row)
        registry = await load_registry(connection, PARTITIONS_DEFAULT)
        view = registry.at(said.generation)
        setup = state.setup_of(rules.discover())
        hindrance = explain.hindrance(said, setup.rules, view)
        if hindrance:
            done = Replayed(Outcome(Verdict.IMPOSSIBLE, hindrance), said.onset_us)
        else:
            incident = row["incident"] or ""
            done = await recompute(connection, said, incident, view, setup, back_s)
    return _plain(row, said, view, setup, done)


async def _found(connection: Connection, wanted: str) -> dict[str, Any]:
    """The row of a record, or of the first record of an onset. Raises BadInput."""
    if not (
        _PREFIX_CHARS_MIN <= len(wanted) <= _ID_CHARS and set(wanted) <= set("0123456789abcdef")
    ):
        raise BadInput(
            f"{wanted}: expected the {_ID_CHARS} hex digits of a signal's record or onset, or the"
            f" first {_PREFIX_CHARS_MIN} of a record's"
        )
    with translated():
        for where in _BY[:-1] if len(wanted) == _ID_CHARS else _BY[-1:]:
            order = f" ORDER BY event_us, phase <> 'raise' LIMIT {_SHOWN_MAX}"
            cursor = await connection.execute((_SELECT + where + order).encode(), {"id": wanted})
            found = [dict(zip(_COLUMNS, row, strict=True)) for row in await cursor.fetchall()]
            if len(found) > 1 and where == _BY[-1]:
                some = ", ".join(row["id"] for row in found)
                raise BadInput(f"{wanted}: several signals begin so: {some}; expected more digits")
            if found:
                return found[0]
        cursor = await connection.execute("SELECT max(received_us) FROM signal")
        newest = await cursor.fetchone()
    reach = archived.moment(newest[0]) if newest and newest[0] else "nothing"
    raise BadInput(
        f"{wanted}: no such record or onset in the table `signal`, where alert stores all that it"
        f" hears (the newest said at: {reach}); expected an id as a page's evidence, the console or"
        " sizao.signals.v1 has it"
    )


def _signal(row: dict[str, Any]) -> Signal:
    return Signal(
        onset=row["onset"], id=row["id"], rule=row["rule"], rule_version=row["rule_version"],
        kind=Kind(row["kind"]), tier=Tier(row["tier"]), phase=Phase(row["phase"]),
        subject=Subject(type=SubjectType(row["subject_type"]), id=row["subject"]),
        site=row["site"], device=row["device"], onset_us=row["onset_us"],
        event_us=row["event_us"], received_us=row["received_us"], generation=row["generation"],
        late=row["late"], self_test=row["self_test"], evidence=row["evidence"],
    )  # fmt: skip


def _plain(
    row: dict[str, Any], said: Signal, view: View, setup: state.Setup, done: Replayed
) -> dict[str, Any]:
    place = explain.place_of(said, view)
    rule = next((rule for rule in setup.rules if said.rule == rule.NAME), None)
    used = explain.parameters_of(setup, said, view)
    return {
        "signal": {name: row[name] for name in _COLUMNS if name != "evidence"},
        "purpose": "" if rule is None else catalogue.purpose(rule),
        "parameters": {} if used is None else asdict(used.params),
        "rule_parameters": "" if used is None else used.digest,
        "device": {"key": place.device, "carrier": place.carrier, "type": place.device_type},
        "place": [{"level": level, "code": code, "name": name} for level, code, name in place.path],
        "evidence": explain.grouped(said.evidence),
        "samples": done.samples,
        "recomputed": {
            **explain.plain(done.outcome),
            "tolerance": explain.TOLERANCE,
            "from_us": done.from_us,
            "points": done.points,
            "raw_rows": done.raw_rows,
            "evidence_rows": done.evidence_rows,
        },
    }


# --- words --------------------------------------------------------------------------------------


def _words(told: dict[str, Any]) -> Iterator[str]:
    one, device, again = told["signal"], told["device"], told["recomputed"]
    yield f"signal {one['id']}: {one['phase']} of onset {one['onset']}"
    yield _line("said", f"{one['tier']}, {one['kind']}{_marks(one)}, by {one['rule']} version"
                        f" {one['rule_version']}: {told['purpose']}")  # fmt: skip
    about = " ".join(
        f"{name} {device[name]}" for name in ("key", "carrier", "type") if device[name]
    )
    yield _line("about", f"{one['subject_type']} {one['subject']}, device {about or 'none'}")
    yield _line("where", " > ".join(f"{each['name']} ({each['code']})" for each in told["place"]))
    yield _line("when", f"onset {_at(one['onset_us'])}, decided by {_at(one['event_us'])}")
    yield _line("", f"said at {_at(one['received_us'])}, registry generation {one['generation']}")
    became = f"incident {one['incident']}" if one["incident"] else "no incident"
    yield _line("became", f"{one['became']} ({became}, {one['nature']})")
    for name, evidence in told["evidence"].items():
        yield _line(name, _said(evidence) or "none")
    yield _line("parameters", f"{_said(told['parameters']) or 'none'} ({told['rule_parameters']})")
    yield _line("archive", _archive(again))
    for each in told["samples"]:
        late_s = (each["received_us"] - each["event_us"]) / 1e6
        yield _line(
            "", f"{_at(each['event_us'])}  {each['value']:.7g}  arrived {late_s:.1f} s later"
        )
    yield _line("recomputed", f"{again['verdict']}: {again['why']}")
    for each in again["differences"]:
        yield _line("", f"{each['name']}: said {each['said']}, now {each['found']}")


def _line(name: str, text: str) -> str:
    return f"  {name:<11} {text}"


def _marks(one: dict[str, Any]) -> str:
    return "".join(f", {mark}" for mark in ("late", "self_test") if one[mark])


def _said(evidence: dict[str, Any]) -> str:
    return ", ".join(f"{name} {_value(name, value)}" for name, value in evidence.items())


def _value(name: str, value: Any) -> str:
    if name.endswith("_us") and isinstance(value, int):
        return _at(value)
    if isinstance(value, bool | str):
        return value if isinstance(value, str) else str(value).lower()
    values: Sequence[float] = value if isinstance(value, list) else [value]
    return " ".join(f"{each:.7g}" for each in values)


def _archive(again: dict[str, Any]) -> str:
    kept = f" and {again['evidence_rows']} kept as evidence" if again["evidence_rows"] else ""
    return (
        f"{again['raw_rows']} raw readings{kept} of {again['points']} points of the site, from"
        f" {_at(again['from_us'])} on"
    )


def _at(at_us: int) -> str:
    return archived.moment(at_us).isoformat(sep=" ", timespec="milliseconds").replace("+00:00", "Z")
