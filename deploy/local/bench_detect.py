"""Part of `make bench`: the detectors alone, all rules on, over a district of 400,000 devices.

Three points a device (temperature, smoke, CO), each reading some noise over a quiet value; frames
of several sizes through `state.fold`, in one process, no server beside. Tells readings a second of
CPU with and without decoding the record, bytes of state a point, and how long a snapshot takes to
make and a restart with it. JSON under build/bench/detect.json. Slow figures never fail.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from deploy.local import bench_proc
from deploy.local.places import BUILD
from detectors import rules, snapshot
from detectors import state as folds
from detectors.state import State
from sizao import frame as frames
from sizao.clock import monotonic_s, now_us
from sizao.frame import Frame
from sizao.limits import class_code
from sizao.registry.model import FOREVER, LEVELS, NO_FLOOR, TABLES, LifeState, Mark, Registry
from sizao.units import BY_NAME, Lane

SCHEMA = "sizao.bench.detect/1"
QUIET = {"temperature_c": (20.0, 0.1), "smoke_od_per_m": (0.002, 0.0005), "co_ppm": (1.0, 0.3)}
"""Mean and standard deviation of what the points read."""
DEVICES_A_SITE, FLOORS = 20, 4
SIZES = (1_000, 5_000, 10_000, 40_000)
ROUNDS = {1_000: 0.25, 5_000: 1.0, 10_000: 1.0, 40_000: 2.0}
"""How often every point reads while a size is measured."""
PERIOD_S = 10
T0_US = 1_700_000_000_000_000
SECOND_US = 1_000_000


def registry_of(devices: int) -> Registry:
    """Buildings of four floors; point 3 i + k + 1 is quantity k of device i + 1."""
    sites = -(-devices // DEVICES_A_SITE)
    areas = [_area(1, 0, LEVELS[0])]
    areas += [_area(2 + n, 1, "site") for n in range(sites)]
    first_floor = 2 + sites
    areas += [_area(first_floor + n, 2 + n // FLOORS, "floor") for n in range(sites * FLOORS)]
    device = np.arange(devices, dtype=np.int32)
    site = 2 + device // DEVICES_A_SITE
    held = {"from_gen": 1, "to_gen": FOREVER}
    area_table = pa.Table.from_pylist([row | held for row in areas], schema=TABLES["area"])
    rows = {
        "id": device + 1,
        "key": [f"d{n}" for n in range(devices)],
        "carrier": np.zeros(devices, np.int32),
        "device_type": np.zeros(devices, np.int32),
        "area": first_floor + (site - 2) * FLOORS + device % FLOORS,
        "site": site,
        "heat_class": np.full(devices, class_code("A1"), np.int16),
        "gas": np.zeros(devices, np.int16),
        "mark": [Mark.REAL.value] * devices,
        "state": [LifeState.IN_SERVICE.value] * devices,
        "lon": np.full(devices, np.nan),
        "lat": np.full(devices, np.nan),
    }
    kinds = len(QUIET)
    point = np.arange(devices * kinds, dtype=np.int32)
    codes = np.array([BY_NAME[name].code for name in QUIET], np.int16)
    points = {
        "id": point + 1,
        "device": point // kinds + 1,
        "quantity": codes[point % kinds],
        "site": site[point // kinds],
        "partition": np.zeros(len(point), np.int16),
    }
    tables = {name: pa.Table.from_pylist([], schema=schema) for name, schema in TABLES.items()}
    tables |= {"area": area_table, "device": _table("device", rows, devices)}
    tables["point"] = _table("point", points, len(point))
    return Registry(generation=1, partitions=1, tables=tables)


def _area(index: int, parent: int, level: str) -> dict[str, Any]:
    return {
        "id": index, "parent": parent, "level": level, "code": f"a{index}", "name_zh": "",
        "name_en": "", "lon": float("nan"), "lat": float("nan"),
        "partition": 0 if level == "site" else -1, "floor": NO_FLOOR,
    }  # fmt: skip


def _table(name: str, columns: dict[str, Any], count: int) -> pa.Table:
    held = {"from_gen": np.ones(count, np.int64), "to_gen": np.full(count, FOREVER)}
    whole = columns | held
    return pa.table([whole[one.name] for one in TABLES[name]], schema=TABLES[name])


class _Readings:
    """Frames of quiet readings, each point once in ten seconds, in an order that never changes."""

    def __init__(self, points: int, seed: int) -> None:
        """`seed` draws order and noise."""
        self._random = np.random.default_rng(seed)
        # Devices report all their quantities at once; which device follows which is chance.
        kinds = len(QUIET)
        device = self._random.permutation(points // kinds)
        self._order = (device[:, None] * kinds + np.arange(kinds)).reshape(-1).astype(np.int64)
        mean, spread = np.array(list(QUIET.values()), np.float32).T
        self._mean, self._spread = np.tile(mean, len(device)), np.tile(spread, len(device))
        self._at, self._sequence = 0, 0

    def frames(self, size: int, readings: int) -> Iterator[Frame]:
        """So many readings in frames of `size`."""
        for _ in range(max(1, readings // size)):
            place = (self._at + np.arange(size)) % len(self._order)
            slot = self._order[place]
            noise = self._random.standard_normal(size, np.float32)
            value = np.maximum(self._mean[slot] + noise * self._spread[slot], np.float32(0))
            arrived = self._at + 1 + np.arange(size)
            event_us = T0_US + arrived * PERIOD_S * SECOND_US // len(self._order)
            self._at, self._sequence = self._at + size, self._sequence + 1
            yield Frame(
                point=(slot + 1).astype(np.uint32),
                event_us=event_us,
                value=value,
                flags=np.zeros(size, np.uint8),
                received_us=int(event_us[-1]),
                generation=1,
                writer="bench",
                sequence=self._sequence,
            )


def measure(state: State, readings: _Readings, size: int, count: int) -> dict[str, Any]:
    """CPU of `count` readings in frames of `size`."""
    folded_s = decoded_s = 0.0
    rows = signals = 0
    for each in readings.frames(size, count):
        record = frames.encode(each)
        headers = frames.headers(record)
        begun_s = time.process_time()
        read = frames.decode(record, headers)
        between_s = time.process_time()
        said = folds.fold(state, state.view, read, state.next_offset)[1]
        folded_s += time.process_time() - between_s
        decoded_s += between_s - begun_s
        rows, signals = rows + each.rows, signals + len(said)
    return {
        "frame_rows": size,
        "readings": rows,
        "signals": signals,
        "fold_us_per_frame": round(folded_s / rows * size * 1e6, 1),
        "decode_us_per_frame": round(decoded_s / rows * size * 1e6, 1),
        "million_per_s": round(rows / folded_s / 1e6, 2),
        "million_per_s_with_decode": round(rows / (folded_s + decoded_s) / 1e6, 2),
    }


def restart(state: State, registry: Registry) -> dict[str, Any]:
    """A snapshot, and what a start makes of it."""
    with tempfile.TemporaryDirectory(dir=BUILD) as place:
        folder = Path(place)
        begun_s = monotonic_s()
        content = snapshot.pack(state)
        packed_s = monotonic_s()
        snapshot.write(folder, state.lane, state.partition, content)
        written_s = monotonic_s()
        size = len(content)
        del content
        found = snapshot.restore(folder, state.lane, state.partition, registry, state.setup)
        restored_s = monotonic_s()
    assert found.state is not None, found.refused
    assert not found.cold, found.cold
    return {
        "bytes": size,
        "pack_s": round(packed_s - begun_s, 2),
        "write_s": round(written_s - packed_s, 2),
        "restore_s": round(restored_s - written_s, 2),
    }


def run(devices: int) -> dict[str, Any]:
    """Make the district, warm it up, measure."""
    registry = registry_of(devices)
    view = registry.at(1)
    setup = folds.setup_of(rules.discover())
    before_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    state = folds.start(Lane.TELEMETRY, 0, view, setup)
    readings = _Readings(state.slots, seed=1)
    for each in readings.frames(40_000, 2 * state.slots):  # touch every page
        folds.fold(state, view, each, state.next_offset)
    sizes = [measure(state, readings, size, int(state.slots * ROUNDS[size])) for size in SIZES]
    grown_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kb
    columns = sum(column.nbytes for block in state.blocks.values() for column in block.values())
    return {
        "devices": devices,
        "points": state.slots,
        "rules": [f"{rule.NAME}@{rule.VERSION}" for rule in state.rules],
        "bytes_per_point": {
            "columns": round(columns / state.slots, 1),
            "resident": round(grown_kb * 1024 / state.slots, 1),
        },
        "sizes": sizes,
        "restart": restart(state, registry),
    }


def main() -> int:
    """Parse, run, write, print."""
    parser = argparse.ArgumentParser(prog="python -m deploy.local.bench_detect")
    parser.add_argument("--devices", type=int, default=400_000)
    given = parser.parse_args()
    head = {"schema": SCHEMA, "at": datetime.fromtimestamp(now_us() / 1e6, UTC)}
    out = BUILD / "bench" / "detect.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    result = {**head, "machine": bench_proc.machine(), **run(given.devices)}
    out.write_text(json.dumps(result, indent=1, default=str) + "\n", "utf-8")
    for one in result["sizes"]:
        rate, decoded = one["million_per_s"], one["million_per_s_with_decode"]
        _say(f"frames of {one['frame_rows']:>6,}: {rate} million readings/s, {decoded} decoded")
    _say(f"{result['bytes_per_point']} bytes a point, restart {result['restart']}")
    _say(f"written to {out.relative_to(BUILD.parent)}")
    return 0


def _say(line: str) -> None:
    print(f"detect: {line}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
