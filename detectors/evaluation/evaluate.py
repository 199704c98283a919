"""Packs in, one result out: what `sizao evaluate` prints, and the table of alarms."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from detectors.evaluation import marks, pack, quiet, stress, tables, trial
from detectors.evaluation.trial import TIERS, Trial
from detectors.state import Setup
from sizao.errors import BadInput

VERSION = 1
ALL = "all"
ALARMS = pa.schema(
    [
        ("pack", pa.string()),
        ("test", pa.string()),
        ("device", pa.string()),
        ("time_s", pa.float64()),
        ("tier", pa.string()),
        ("rule", pa.string()),
        ("kind", pa.string()),
    ]
)

Table = dict[str, Any]


def judge(folders: Sequence[Path], setup: Setup, sampling_s: float) -> list[Trial]:
    """Every pack, checked before the first is judged. Raises BadInput."""
    packs = [pack.load(folder) for folder in folders]
    names = [one.name for one in packs]
    for folder, name in zip(folders, names, strict=True):
        if names.count(name) > 1:
            raise BadInput(f"{folder / pack.ABOUT}:name: got {name!r}, which another pack of this"
                           " run has too, expected names that differ")  # fmt: skip
    return [trial.judge(one, setup, sampling_s) for one in packs]


def result(
    trials: Sequence[Trial], setup: Setup, *, seed: int, sampling_s: float, stressed: bool = False
) -> Table:
    """All tables. `seed` draws the tests of the bootstrap; times in seconds, rates per year."""
    fires = [one for one in trials if one.pack.kind == "fire"]
    still = [one for one in trials if one.pack.kind != "fire"]
    found: Table = {
        "version": VERSION,
        "seed": seed,
        "sampling_s": sampling_s,
        "rules": [{"name": rule.NAME, "version": rule.VERSION} for rule in setup.rules],
        "packs": [_about(one) for one in trials],
        "fires": {name: tables.fires(some, seed) for name, some in _groups(fires)},
        "smoke": {one.pack.name: table for one in fires if (table := tables.smoke(one))},
        "quiet": {name: quiet.false_alarms(some) for name, some in _groups(still)},
        "nuisance": quiet.nuisance(still),
        "before_ignition": [line for one in fires for line in _before(one)],
    }
    if stressed and fires:
        found["stress"] = stress.stress(fires, setup, seed)
    found["marks"] = marks.marks(found)
    return found


def _groups(trials: Sequence[Trial]) -> list[tuple[str, Sequence[Trial]]]:
    apart = [(one.pack.name, [one]) for one in trials]
    return [*apart, (ALL, trials)] if trials else []


def _about(one: Trial) -> Table:
    return {
        "name": one.pack.name,
        "kind": one.pack.kind,
        "licence": one.pack.licence,
        "redistributable": one.pack.redistributable,
        "prepared": one.pack.prepared,
        "tests": len(one.pack.tests),
        "channels_fed": len(one.fed),
        "eligible": sum(fed.eligible for fed in one.fed),
        "raises": len(one.alarms),
    }


def _before(one: Trial) -> list[Table]:
    """Eligible devices about which a tier spoke before ignition."""
    return [
        {"pack": one.pack.name, "test": test, "device": device, "tier": tier}
        for tier in TIERS
        for test, device, places in tables.devices_of(one)
        if (at_s := one.at(tier, places)).size and at_s.min() < one.pack.ignition_s(test)
    ]


def plain(value: Any) -> Any:
    """As JSON knows it: no NaN, no infinity (null), no tuple; six digits after the point."""
    if isinstance(value, dict):
        return {key: plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    if isinstance(value, float):
        return round(value, 6) if math.isfinite(value) else None
    return value


def write_alarms(file: Path, trials: Sequence[Trial]) -> None:
    """Every raise of the shipped rules as Parquet, packs as given, then by time."""
    rows = [asdict(alarm) for one in trials for alarm in one.alarms]
    pq.write_table(pa.Table.from_pylist(rows, schema=ALARMS), file, compression="zstd")
