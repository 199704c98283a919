"""Part of `make bench`: a district of 400,000 devices from two files.

Runs the commands that an operator runs, each as a process of its own against a real PostgreSQL, and
tells time, CPU and memory of each: import of areas and devices, the same files once more, a list
in which every hundredth device changed, export; then what a bridge and a detector do with the
registry when they start. JSON under build/bench/registry.json. Slow figures never fail.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import resource
import subprocess
import sys
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from deploy.local import bench_proc
from deploy.local.district import SMOKE, types
from deploy.local.failure import ServerError
from deploy.local.places import BUILD, private_place, remove_run
from deploy.local.servers import Servers
from deploy.local.stack import Stack, environment
from ingest.register import RegisterSettings
from ingest.routes import district
from sizao.clock import monotonic_s, now_us
from sizao.db import connected
from sizao.errors import SizaoError
from sizao.registry import cache
from sizao.registry.load import load
from sizao.registry.model import Registry
from sizao.registry.write import Change
from sizao.settings import load as load_settings
from sizao.topics import PARTITIONS_DEFAULT
from sizao.units import Lane

SCHEMA = "sizao.bench.registry/1"
DEVICES_A_SITE, FLOORS, STREETS, COMMUNITIES, PLATFORMS = 20, 4, 11, 111, 50
CHANGED_EVERY = 100
LON, LAT, STEP, COLUMNS = 134.0, 20.0, 0.001, 200  # a grid in the open ocean


def write_areas(file: Path, devices: int) -> int:
    """District, streets, communities, sites with their floors; returns how many lines."""
    lines = ["code,parent,level,name_zh,name_en,floor,lon,lat", "big,,district,大区,Big,,,"]
    lines += [f"st{n:02},big,street,{n}街道,Street {n},,," for n in range(STREETS)]
    for n in range(COMMUNITIES):
        lines.append(f"co{n:03},st{n % STREETS:02},community,{n}社区,Community {n},,,")
    for n in range(-(-devices // DEVICES_A_SITE)):
        lon, lat = _place(n)
        lines.append(f"b{n:05},co{n % COMMUNITIES:03},site,{n}号楼,No. {n},,{lon:.6f},{lat:.6f}")
        lines += [f"b{n:05}-f{f},b{n:05},floor,{f}楼,Floor {f},{f},," for f in range(1, FLOORS + 1)]
    file.write_text("\n".join(lines) + "\n", "utf-8")
    return len(lines) - 1


def _place(site: int) -> tuple[float, float]:
    row, column = divmod(site, COLUMNS)
    return LON + column * STEP, LAT + row * STEP


def write_devices(file: Path, devices: int, *, moved: bool = False) -> None:
    """Smoke detectors of four points behind platforms; with `moved` some are on another floor."""
    lines = ["key,carrier,type,area,heat_class,state,lon,lat"]
    for n in range(devices):
        site = n // DEVICES_A_SITE
        floor = n % FLOORS + 1
        if moved and n % CHANGED_EVERY == 0:
            floor = floor % FLOORS + 1
        lon, lat = _place(site)
        lines.append(
            f"86{n:013},platform-{n % PLATFORMS},{SMOKE},b{site:05}-f{floor},,,"
            f"{lon + 0.0001:.6f},{lat:.6f}"
        )
    file.write_text("\n".join(lines) + "\n", "utf-8")


def measured(stack: Stack, *words: str) -> dict[str, Any]:
    """Run a command of ours; time, CPU and highest memory of its process, and what it said."""
    began_s = monotonic_s()
    child = subprocess.Popen(
        [sys.executable, "-m", *words, "--config", str(stack.config)],
        env=environment(),
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None
    with child.stdout:
        said = child.stdout.read().strip()
    _, status, used = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise ServerError(f"{' '.join(words)} ended with {child.returncode}")
    return {
        "seconds": round(monotonic_s() - began_s, 2),
        "cpu_s": round(used.ru_utime + used.ru_stime, 2),
        "memory_mb": used.ru_maxrss // 1024,
        "said": said.replace(f"{stack.folder}/", ""),
    }


def run(devices: int, stack: ExitStack) -> dict[str, Any]:
    """Start the servers, run the commands, say what came out."""
    folder = private_place("bench-registry")
    servers = stack.enter_context(Servers(folder, fresh=True))
    remove_run(folder / "sizao")
    ours = Stack(servers, folder / "sizao")
    ours.configure()
    ours.command("migrate")
    ours.register(Change(types=types()), "bench")
    areas, first, second = (ours.folder / name for name in ("a.csv", "d.csv", "d2.csv"))
    count = write_areas(areas, devices)
    write_devices(first, devices)
    write_devices(second, devices, moved=True)
    cli = ("sizao.cli", "devices")
    imported = (*cli, "import", "--crs", "wgs84", "--create-carriers")
    steps: dict[str, tuple[str, ...]] = {
        "areas_import": ("sizao.cli", "areas", "import", "--crs", "wgs84", str(areas)),
        "devices_import": (*imported, str(first)),
        "devices_repeat": (*imported, str(first)),
        "devices_changed": (*imported, str(second)),
        "devices_move_one": (
            *cli,
            "move",
            f"86{0:013}",
            "--carrier",
            "platform-0",
            "--to",
            "b00001",
        ),
        "devices_export": (*cli, "export", str(ours.folder / "out.parquet")),
        "start": ("deploy.local.bench_registry", "--start"),
    }
    figures = {}
    for name, words in steps.items():
        figures[name] = measured(ours, *words)
        print(f"{name:<18}{figures[name]}", file=sys.stderr)
    figures["start"] = {**figures["start"], **json.loads(figures["start"].pop("said"))}
    return {"devices": devices, "areas": count, **figures}


def start(config: Path) -> dict[str, Any]:
    """What the bridge and `detect` do with the registry at their start, in seconds."""

    async def read() -> Registry:
        database = load_settings(config, RegisterSettings).database
        async with connected(database, "bench") as connection:
            return await load(connection, PARTITIONS_DEFAULT)

    took: dict[str, Any] = {}
    last_s = monotonic_s()

    def lap(name: str) -> None:
        nonlocal last_s
        now_s = monotonic_s()
        took[name], last_s = round(now_s - last_s, 2), now_s

    registry = asyncio.run(read())
    lap("load_s")
    view = registry.newest
    lap("view_s")
    district(view)
    lap("bridge_s")
    for lane in Lane:
        for partition in range(view.partitions):
            view.fold(lane, partition)
    lap("folds_s")
    took["memory_peak_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    folder = config.parent / "cache"
    cache.save(registry, folder)
    lap("cache_save_s")
    cache.restore(folder)
    lap("cache_restore_s")
    took["points"] = int(view.point_live.sum())
    return took


def main() -> int:
    """Parse, run, write, print."""
    parser = argparse.ArgumentParser(prog="python -m deploy.local.bench_registry")
    parser.add_argument("--devices", type=int, default=400_000)
    parser.add_argument("--start", action="store_true", help="measure a start; used by itself")
    parser.add_argument("--config", type=Path)
    given = parser.parse_args()
    if given.start:
        print(json.dumps(start(given.config)))
        return 0
    head = {"schema": SCHEMA, "at": datetime.fromtimestamp(now_us() / 1e6, UTC)}
    machine = bench_proc.machine()
    try:
        with ExitStack() as stack:
            result = run(given.devices, stack)
    except (ServerError, SizaoError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    out = BUILD / "bench" / "registry.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps({**head, "machine": machine, **result}, indent=1, default=str)
    out.write_text(text + "\n", "utf-8")
    print(f"written to {out.relative_to(BUILD.parent)}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
