"""A result as people read it: Markdown for the terminal, one HTML file that needs nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2

from detectors.evaluation import plots
from detectors.evaluation.trial import Trial

TEMPLATE = Path(__file__).with_name("report.html.jinja")
LEVELS = {"devices": "device level", "zones": "zone level", "tests": "test level"}
_SHARES = ("share_60", "share_120", "share_300", "share_600")

Table = dict[str, Any]
Cells = list[str]


@dataclass(frozen=True, slots=True)
class Sheet:
    """One table with its title and what a reader needs to judge it."""

    title: str
    head: Cells
    rows: list[Cells]
    note: str = ""

    def markdown(self) -> str:
        """As a table of Markdown."""
        lines = [f"**{self.title}**", ""]
        lines += [
            _row(self.head),
            _row(["---"] * len(self.head)),
            *(_row(row) for row in self.rows),
        ]
        return "\n".join([*lines, "", self.note] if self.note else lines)


def _row(cells: Cells) -> str:
    return "| " + " | ".join(cells) + " |"


def sheets(result: Table) -> list[Sheet]:
    """Every table, marks first."""
    found = [_marks(result)] if result["marks"] else []
    for pack, table in result["fires"].items():
        found += [_fires(f"{pack}: {title}", table[level]) for level, title in LEVELS.items()]
        found.append(_leads(f"{pack}: lead of the rule, s", table["leads"]))
    found += [_smoke(pack, table) for pack, table in result["smoke"].items()]
    for pack, table in result["quiet"].items():
        found += [
            _quiet(f"{pack}: false alarms, {kind}", table[kind])
            for kind in ("indoor", "outdoor", "faulty")
            if kind in table
        ]
    if result["nuisance"].get("episodes"):
        found.append(_nuisance(result["nuisance"]))
    if "stress" in result:
        found.append(_stress(result["stress"]))
    return found


def text(result: Table) -> str:
    """All of it as Markdown."""
    return "\n\n".join(sheet.markdown() for sheet in sheets(result))


def html(result: Table, trials: Sequence[Trial]) -> str:
    """One page with its pictures inside."""
    fires = [one for one in trials if one.pack.kind == "fire"]
    pictures = []
    if fires:
        trial, test = plots.slow_one(fires)
        pictures = [
            ("Detection time, all fire packs", plots.distribution(fires)),
            (f"One fire: {trial.pack.name}, {test}", plots.one_fire(trial, test)),
        ]
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    template = environment.from_string(TEMPLATE.read_text("utf-8"))
    return template.render(result=result, sheets=sheets(result), pictures=pictures)


def _marks(result: Table) -> Sheet:
    rows = [
        [one["name"], one["wanted"], _number(one["got"]), "yes" if one["reached"] else "NO"]
        for one in result["marks"]
    ]
    return Sheet("Marks", ["mark", "wanted", "got", "reached"], rows)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}".removesuffix(".00")


def _spread(line: Table, key: str) -> str:
    low, high = line[f"{key}_95"]
    return f"{line[key]:.0f} [{low:.0f}, {high:.0f}]"


def _fires(title: str, lines: Table) -> Sheet:
    head = ["detector", "units", "before", "<= 60 s", "<= 120 s", "<= 300 s", "found",
            "mean, s", "median, s", "p90, s"]  # fmt: skip
    rows = []
    for name, line in lines.items():
        row = [name, str(line["units"]), str(line["before"])]
        if "mean_s" in line:
            row += [f"{100 * line[key]:.1f} %" for key in _SHARES]
            row += [_spread(line, "mean_s"), _spread(line, "median_s"), f"{line['p90_s']:.0f}"]
        rows.append(row + ["-"] * (len(head) - len(row)))
    note = "A miss counts as 600 s; [95 % by bootstrap over tests]; before: spoke before ignition."
    return Sheet(title, head, rows, note)


def _leads(title: str, leads: Table) -> Sheet:
    overs = sorted({over for row in leads.values() for over in row})
    rows = []
    for name, row in leads.items():
        cells = [name]
        for over in overs:
            line = row.get(over, {})
            cells.append(
                f"{_spread(line, 'mean_s')} ({line['median_s']:+.0f})" if "mean_s" in line else "-"
            )
        rows.append(cells)
    note = "Mean over tests of a test's mean [95 %] (median over pairs)."
    return Sheet(title, ["detector", *(f"over {over}" for over in overs)], rows, note)


def _smoke(pack: str, table: Table) -> Sheet:
    head = ["detector", "units", "before", "found", "mean, s", "mean beside photo, s", "first"]
    rows = [
        [
            name,
            str(line["units"]),
            str(line["before"]),
            str(line["found"]),
            _number(line["mean_s"]),
            _number(line.get("mean_beside_photoelectric_s")),
            f"{line['first_or_tied']} of {line['places']}" if "places" in line else "-",
        ]
        for name, line in table["rules"].items()
    ]
    note = "first: first, or tied with the real photoelectric alarm (median of those at the place)."
    return Sheet(f"{pack}: smoke", head, rows, note)


def _quiet(title: str, table: Table) -> Sheet:
    rows = []
    for name, line in table["rules"].items():
        low, high = line["per_device_year_95"]
        rate = f"{line['per_device_year']:.1f} [{low:.1f}, {high:.1f}]"
        told = f"< {high:.1f}" if not line["count"] else rate
        rows.append([name, str(line["count"]), told])
    note = f"{table['device_years']:.3f} device-years; exact 95 % Poisson interval, none: < 3/T."
    return Sheet(title, ["detector", "alarms", "per device-year"], rows, note)


def _nuisance(table: Table) -> Sheet:
    rows = [[name, f"{count} of {table['episodes']}"] for name, count in table["rules"].items()]
    return Sheet("Nuisance episodes that alarm", ["detector", "episodes"], rows)


def _stress(table: Table) -> Sheet:
    head = ["trouble", "tier", "units", "missed", "mean, s", "p99, s", "most, s"]
    rows = [
        [name, tier, str(line["units"]), str(line["missed"])]
        + [_number(line[key]) for key in ("mean_s", "p99_s", "most_s")]
        for name, tiers in table["delay"].items()
        for tier, line in tiers.items()
    ]
    note = "How much later than without, on the devices' time."
    return Sheet("Synthetic trouble on the recorded fires", head, rows, note)
