"""One measured load: the generator as a process of its own, and what all others cost meanwhile."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from deploy.local import bench_proc
from deploy.local.failure import ServerError
from deploy.local.load import SETTLE_S, Device
from deploy.local.patience import wait_for
from deploy.local.places import REPOSITORY, hand_over
from deploy.local.stack import Stack, environment
from sizao.clock import monotonic_s, now_us
from sizao.db import connected

STORED_S = 60.0
_MICRO = 1_000_000


@dataclass(frozen=True, kw_only=True)
class Shape:
    """What to send: `rate` messages a second for `warm_s` + `window_s`, measured in the window."""

    name: str
    rate: float
    warm_s: float
    window_s: float
    devices: Sequence[Device]
    fires: int = 0

    @property
    def seconds(self) -> float:
        """Length of the load: it lasts a little longer than the window."""
        return self.warm_s + self.window_s + 1.0

    @property
    def readings(self) -> int:
        """Readings that a message carries."""
        return len(self.devices[0][1])


class Bench:
    """Carries out shapes one after the other and counts what must come out."""

    def __init__(self, stack: Stack, folder: Path) -> None:
        """The stack runs already."""
        self._stack = stack
        self._folder = folder
        self._expected = 0

    def pids(self) -> dict[str, int]:
        """Our processes and the servers."""
        servers = {
            server.child.name.lower(): server.child.pid for server in self._stack.servers.all
        }
        return {name: one.pid for name, one in self._stack.processes.items()} | servers

    def idle(self, window_s: float) -> dict[str, Any]:
        """CPU without any message: heartbeats, polling, snapshots. In percent of one core."""
        before = bench_proc.sample(self.pids())
        time.sleep(window_s)
        after = bench_proc.sample(self.pids())
        return {
            "seconds": window_s,
            "cpu_percent": _percent(before, after),
            "rss_mb": bench_proc.memory_mb(self.pids()),
        }

    def run(self, shape: Shape) -> dict[str, Any]:
        """Send, measure, and wait until the table has every reading."""
        users = {carrier: self._stack.carriers[carrier] for carrier, _ in shape.devices}
        place = self._folder / shape.name
        place.mkdir(exist_ok=True)
        hand_over(place / "users.json", json.dumps(users), None)
        hand_over(place / "devices.json", json.dumps(shape.devices), None)
        generator = self._generate(shape, place)
        try:
            said = generator.stdout.readline() if generator.stdout else ""
            if not said.startswith("started"):
                raise ServerError(f"the load {shape.name} did not start", where=str(place))
            time.sleep(shape.warm_s)
            pids = {**self.pids(), "generator": generator.pid}
            before, from_us, frames = bench_proc.sample(pids), now_us(), self._frames()
            time.sleep(shape.window_s)
            after, to_us, frames = bench_proc.sample(pids), now_us(), self._frames() - frames
            memory = bench_proc.memory_mb(pids)
            out, _ = generator.communicate(timeout=shape.seconds + 2 * SETTLE_S)
        finally:
            generator.kill()
            generator.wait()
        summary = json.loads(out or "{}")
        oracle = np.load(place / "oracle.npz")
        acked = oracle["acked_us"]
        readings = int(((acked >= from_us) & (acked < to_us)).sum()) * shape.readings
        return {
            "name": shape.name,
            "messages_per_s": shape.rate,
            "readings_per_message": shape.readings,
            "connections": len(users),
            "seconds": shape.window_s,
            "readings": readings,
            "frames": frames,
            "cpu_us_per_reading": _each(before, after, readings),
            "cpu_us_per_frame": _each(before, after, frames),
            "cpu_percent": _percent(before, after),
            "machine_percent": _machine(before, after),
            "rss_mb": memory,
            "generator": summary,
            "rows": self._settle(int((acked > 0).sum()) * shape.readings),
        }

    def _generate(self, shape: Shape, place: Path) -> subprocess.Popen[str]:
        at = self._stack.servers.addresses
        words = {
            "--host": at.mqtt_host,
            "--port": at.mqtt_port,
            "--users": place / "users.json",
            "--devices": place / "devices.json",
            "--rate": shape.rate,
            "--seconds": shape.seconds,
            "--fires": shape.fires,
            "--fires-from": shape.warm_s,
            "--out": place / "oracle.npz",
        }
        flat = [str(word) for pair in words.items() for word in pair]
        return subprocess.Popen(
            [sys.executable, "-m", "deploy.local.load", *flat],
            stdout=subprocess.PIPE,
            text=True,
            env=environment(),
            cwd=REPOSITORY,
        )

    def _frames(self) -> int:
        """Frames with readings stored so far, as the archive counts them."""
        page = self._stack.processes["archive"].page("/metrics")
        found = re.search(r"^sizao_archive_frames_total (\S+)", page, re.MULTILINE)
        return round(float(found[1])) if found else 0

    def _settle(self, acknowledged: int) -> dict[str, Any]:
        """Wait for the archive; says what was acknowledged and what is stored, doubles apart."""
        self._expected += acknowledged
        began_s = monotonic_s()
        wait_for(lambda: self._count("count(*)") >= self._expected, STORED_S)
        return {"acknowledged": acknowledged, "stored_after_s": round(monotonic_s() - began_s, 2)}

    def counts(self) -> dict[str, int]:
        """All that was acknowledged, all rows, and rows that are no double."""
        return {
            "acknowledged": self._expected,
            "stored": self._count("count(*)"),
            "distinct": self._count("count(DISTINCT (point, event))"),
        }

    def _count(self, what: str) -> int:
        async def ask() -> int:
            async with connected(self._stack.database(), "bench") as connection:
                await connection.execute("SET statement_timeout = '60s'")
                cursor = await connection.execute(f"SELECT {what} FROM reading".encode())  # noqa: S608
                row = await cursor.fetchone()
            return int(row[0]) if row else 0

        return asyncio.run(ask())


def _each(before: bench_proc.Sample, after: bench_proc.Sample, count: int) -> dict[str, float]:
    """Microseconds of each process for one of `count` things."""
    return {
        name: round((after.cpu_s[name] - before.cpu_s[name]) * _MICRO / max(count, 1), 3)
        for name in before.cpu_s
    }


def _percent(before: bench_proc.Sample, after: bench_proc.Sample) -> dict[str, float]:
    passed_s = after.at_s - before.at_s
    return {
        name: round(100 * (after.cpu_s[name] - before.cpu_s[name]) / passed_s, 2)
        for name in before.cpu_s
    }


def _machine(before: bench_proc.Sample, after: bench_proc.Sample) -> dict[str, float]:
    """How busy the machine was, and how much of that was not ours: figures beside it are noisy."""
    capacity_s = (after.at_s - before.at_s) * bench_proc.cores()
    ours_s = sum(after.cpu_s.values()) - sum(before.cpu_s.values())
    busy_s = after.busy_s - before.busy_s
    return {
        "busy": round(100 * busy_s / capacity_s, 1),
        "others": round(100 * max(busy_s - ours_s, 0.0) / capacity_s, 1),
    }


def slope(low: Mapping[str, Any], high: Mapping[str, Any]) -> dict[str, float]:
    """CPU microseconds that one more reading costs, between two rates of the same kind."""
    rates = [one["readings"] / one["seconds"] for one in (low, high)]
    return {
        name: round(
            (high["cpu_percent"][name] - low["cpu_percent"][name]) / 100 * _MICRO
            / (rates[1] - rates[0]),
            3,
        )
        for name in low["cpu_percent"]
        if name in high["cpu_percent"]
    }  # fmt: skip
