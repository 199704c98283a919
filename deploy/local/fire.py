"""A recorded fire as a housed sensor would have reported it.

The packs hold bare thermocouples. Each passes a first-order lag of 30 s (exact for straight lines
between samples), is read every 10 s and rounded to 0.1 K (docs/packs.md).
"""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc
import pyarrow.parquet as pq

from deploy.local.failure import ServerError
from detectors.evaluation.protocol import lagged

PACK = Path(__file__).with_name("fires") / "fsri_compartments_2018"
TEST = "RedAccent_Closed_Corner_3"
LAG_S = 30.0
PERIOD_S = 10.0
STEP_C = 0.1
FIXED_57_C = 57.0

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Trace:
    """What one device reports; `time_s` counts from ignition."""

    device: str
    time_s: Floats
    temperature_c: Floats

    def first_at(self, limit_c: float) -> float | None:
        """Seconds after ignition when the sensor is first at a limit, straight lines between the
        reports: a conventional detector waits for no report. None if never.
        """
        over = np.flatnonzero((self.temperature_c >= limit_c) & (self.time_s >= 0))
        if not len(over):
            return None
        first = int(over[0])
        if first == 0 or self.temperature_c[first - 1] >= limit_c:
            return float(self.time_s[first])
        rise = slice(first - 1, first + 1)
        return max(float(np.interp(limit_c, self.temperature_c[rise], self.time_s[rise])), 0.0)


@dataclass(frozen=True, slots=True)
class Fire:
    """One recorded test."""

    test: str
    source: str
    licence: str
    traces: tuple[Trace, ...]

    @property
    def lead_in_s(self) -> float:
        """Length of the quiet record before ignition."""
        return -min(float(trace.time_s[0]) for trace in self.traces)


def load(pack: Path = PACK, test: str = TEST) -> Fire:
    """Read one test of a pack. Raises ServerError naming the tests there are."""
    about = json.loads((pack / "pack.json").read_text("utf-8"))
    with (pack / "events.csv").open(encoding="utf-8") as file:
        events = list(csv.DictReader(file))
    ignition = [row for row in events if row["test"] == test and row["event"] == "ignition"]
    if not ignition:
        known = ", ".join(sorted({row["test"] for row in events}))
        raise ServerError(f"no test {test!r}", where=str(pack), knob=f"take one of {known}")
    zero_s = float(ignition[0]["time_s"])
    table = pq.read_table(pack / "readings.parquet")
    table = table.filter(pc.equal(table["test"], test))
    traces = []
    with (pack / "devices.csv").open(encoding="utf-8") as file:
        devices = [row["device"] for row in csv.DictReader(file)]
    for number, device in enumerate(devices):
        rows = table.filter(pc.equal(table["device"], device))
        time_s = rows["time_s"].to_numpy().astype(np.float64)
        value = lagged(time_s, rows["value"].to_numpy().astype(np.float64), LAG_S)
        # Devices do not sample in step: each begins a little later than the one before.
        at_s = np.arange(time_s[0] + number * PERIOD_S / len(devices), time_s[-1], PERIOD_S)
        read = np.round(np.interp(at_s, time_s, value) / STEP_C) * STEP_C
        traces.append(Trace(device, at_s - zero_s, np.round(read, 1)))
    return Fire(test, str(about["source"]), str(about["licence"]), tuple(traces))
