"""Packs made up for tests, in the format of docs/packs.md."""

import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

NIST = Path(__file__).parent / "data" / "packs" / "nist_smoke_alarms_a"
"""Three flaming home fires with real alarms (NIST TN 1455, licence beside the data)."""
ABOUT = {
    "name": "made_up",
    "title": "Made up",
    "kind": "quiet",
    "source": "tests",
    "licence": "Apache-2.0",
    "redistributable": True,
    "sampling_s": 10.0,
    "notes": "",
}

Trace = tuple[str, str, Iterable[float], Iterable[float]]
"""Test, device, seconds, degC."""


def table(traces: Iterable[Trace], quantity: str = "temperature_c") -> pa.Table:
    """Readings sorted by test, then time."""
    rows = [
        (test, at_s, device, value)
        for test, device, time_s, values in traces
        for at_s, value in zip(time_s, values, strict=True)
    ]
    rows.sort(key=lambda row: row[:2])
    return pa.table(
        {
            "test": pa.array([row[0] for row in rows], pa.string()).dictionary_encode(),
            "device": pa.array([row[2] for row in rows], pa.string()).dictionary_encode(),
            "quantity": pa.array([quantity] * len(rows), pa.string()).dictionary_encode(),
            "time_s": pa.array([float(row[1]) for row in rows], pa.float64()),
            "value": pa.array([row[3] for row in rows], pa.float32()),
        }
    )


def write(
    folder: Path,
    readings: pa.Table,
    *,
    devices: str = "d1,z,r,2.4,ceiling\n",
    events: str = "",
    **about: object,
) -> Path:
    """A pack in `folder`; `devices` and `events` are the lines behind the heads."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "pack.json").write_text(json.dumps(ABOUT | about, indent=1), "utf-8")
    (folder / "devices.csv").write_text("device,zone,room,height_m,note\n" + devices, "utf-8")
    (folder / "events.csv").write_text("test,time_s,event,device,detail\n" + events, "utf-8")
    pq.write_table(readings, folder / "readings.parquet", compression="zstd")
    return folder


def calm(device: str = "d1", *, test: str = "t", for_s: float = 1200.0) -> Trace:
    """20 degC every 10 s."""
    time_s = np.arange(0.0, for_s, 10.0)
    return test, device, time_s, np.full(len(time_s), 20.0)
