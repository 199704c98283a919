"""One measured load: the generator as a process of its own, and what all others cost meanwhile."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from deploy.local import bench_proc
from deploy.local.bench_result import ByProcess, Rows, Run
from deploy.local.bench_shapes import Shape
from deploy.local.bench_watch import SignalWatch, late_us, spread
from deploy.local.failure import ServerError
from deploy.local.load import SETTLE_S
from deploy.local.load_payload import maker
from deploy.local.patience import wait_for
from deploy.local.places import REPOSITORY, hand_over
from deploy.local.receiver import Receiver
from deploy.local.stack import Stack, environment
from sizao.clock import monotonic_s, now_us
from sizao.db import connected
from sizao.signal import Kind, Phase, Signal

STORED_S = 60.0
PAGES_S = 30.0  # after that a page is missing
HOPELESS_S = 5.0  # signals that come so late come later and later: the rate is not carried
WATCH_S = 0.25
SAMPLED_ROWS = 4_000_000  # of more, every n-th point is looked at for doubles: it is a sort
_MICRO = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class _Window:
    """What was measured while the load ran; `generator`: what it said at its end."""

    before: bench_proc.Sample
    after: bench_proc.Sample
    from_us: int
    to_us: int
    frames: int
    rss_mb: dict[str, int]
    generator: dict[str, Any]
    ended_after_s: float | None


class Bench:
    """Carries out shapes one after the other and counts what must come out."""

    def __init__(self, stack: Stack, watch: SignalWatch, receiver: Receiver) -> None:
        """The stack runs already."""
        self._stack = stack
        self._watch = watch
        self._receiver = receiver
        self.tick_ms = (0, 0)

    def pids(self) -> dict[str, int]:
        """Our processes and the servers."""
        servers = {
            server.child.name.lower(): server.child.pid for server in self._stack.servers.all
        }
        return {name: one.pid for name, one in self._stack.processes.items()} | servers

    def idle(self, window_s: float) -> tuple[ByProcess, dict[str, int]]:
        """CPU without any message, in percent of one core, and memory."""
        before = bench_proc.sample(self.pids())
        time.sleep(window_s)
        after = bench_proc.sample(self.pids())
        return _percent(before, after), bench_proc.memory_mb(self.pids())

    def run(self, shape: Shape) -> Run:
        """Send, measure, and wait until the table has every reading."""
        signals, pages = len(self._watch.seen), len(self._receiver.pages.accepted)
        rows, began_us = self._counter("rows"), now_us()
        place = self._stack.folder / shape.name
        window = self._send(shape, place, signals)
        acked_us, readings = _oracle(shape, place)
        acknowledged = int(readings[acked_us > 0].sum())
        ended_s = monotonic_s()
        wait_for(lambda: self._counter("rows") - rows >= acknowledged, STORED_S)
        stored_after_s = round(monotonic_s() - ended_s, 2)
        fires = shape.fires if window.ended_after_s is None else len(self._raised(signals))
        wait_for(lambda: len(self._receiver.pages.accepted) - pages >= fires, PAGES_S)
        inside = (acked_us >= window.from_us) & (acked_us < window.to_us)
        measured = int(readings[inside].sum())
        return Run(
            name=shape.name,
            messages_per_s=shape.rate,
            readings_per_message=shape.readings,
            payload=shape.form.value,
            payload_bytes=len(maker(shape.devices[0][1], shape.form)(0.0, 0)),
            tls=shape.tls,
            connections=len({carrier for carrier, _ in shape.devices}),
            tick_ms=self.tick_ms,
            seconds=shape.window_s,
            readings=measured,
            frames=window.frames,
            cpu_us_per_reading=_each(window.before, window.after, measured),
            cpu_percent=_percent(window.before, window.after),
            machine_percent=_machine(window.before, window.after),
            rss_mb=window.rss_mb,
            generator=window.generator,
            ended_after_s=window.ended_after_s,
            rows=self._rows(acknowledged, began_us, stored_after_s),
            fires=shape.fires,
            sensor_to_signal_ms=spread(
                at_us - one.event_us for one, at_us in self._raised(signals)
            ),
            sensor_to_page_ms=spread(
                page.at_us - page.event_us for page in self._receiver.pages.accepted[pages:]
            ),
            pages_refused=dict(self._receiver.pages.refused),
        )

    def _send(self, shape: Shape, place: Path, signals: int) -> _Window:
        place.mkdir(exist_ok=True)
        users = {carrier: self._stack.carriers[carrier] for carrier, _ in shape.devices}
        hand_over(place / "users.json", json.dumps(users), None)
        hand_over(place / "devices.json", json.dumps(shape.devices), None)
        generator = self._generate(shape, place)
        try:
            said = generator.stdout.readline() if generator.stdout else ""
            if not said.startswith("started"):
                raise ServerError(f"the load {shape.name} did not start", where=str(place))
            time.sleep(shape.warm_s)
            pids = {**self.pids(), "generator": generator.pid}
            before, from_us, frames = bench_proc.sample(pids), now_us(), self._counter("frames")
            ended_after_s = self._watch_over(generator, shape, signals)
            after, to_us = bench_proc.sample(pids), now_us()
            frames = self._counter("frames") - frames
            memory = bench_proc.memory_mb(pids)
            out, _ = generator.communicate(timeout=shape.seconds + 2 * SETTLE_S)
        except subprocess.TimeoutExpired as error:
            raise ServerError(f"the load {shape.name} did not end", where=str(place)) from error
        finally:
            generator.kill()
            generator.wait()
        summary = json.loads(out or "{}")
        return _Window(
            before=before, after=after, from_us=from_us, to_us=to_us, frames=frames, rss_mb=memory,
            generator=summary, ended_after_s=ended_after_s or _fell_behind_s(summary, shape),
        )  # fmt: skip

    def _raised(self, start: int) -> list[tuple[Signal, int]]:
        """Fires among the signals seen from `start` on, and when."""
        return [
            (one, at_us)
            for one, at_us in self._watch.seen[start:]
            if one.phase is Phase.RAISE and one.kind is Kind.FIRE
        ]

    def _watch_over(
        self, generator: subprocess.Popen[str], shape: Shape, signals: int
    ) -> float | None:
        """Wait for the window's end. A load that is not carried is ended: what waits grows by the
        second, and took minutes to drain. Returns after how many seconds it was, else None.
        """
        began_s, from_us = monotonic_s(), now_us()
        while (passed_s := monotonic_s() - began_s) < shape.window_s:
            newest = [(one.event_us, at_us) for one, at_us in self._raised(signals)[-1:]]
            if shape.fires and late_us(newest, from_us, now_us()) > HOPELESS_S * _MICRO:
                generator.terminate()
                return round(passed_s, 1)
            time.sleep(min(WATCH_S, shape.window_s - passed_s))
        return None

    def _generate(self, shape: Shape, place: Path) -> subprocess.Popen[str]:
        mosquitto = self._stack.servers.mosquitto
        words: dict[str, object] = {
            "--host": mosquitto.host,
            "--port": mosquitto.tls_port if shape.tls else mosquitto.port,
            "--users": place / "users.json",
            "--devices": place / "devices.json",
            "--rate": shape.rate,
            "--seconds": shape.seconds,
            "--fires": shape.fires,
            "--fires-from": shape.warm_s,
            "--form": shape.form.value,
            "--out": place / "oracle.npz",
        }
        if shape.tls:
            words["--ca"] = mosquitto.authority
        flat = [str(word) for pair in words.items() for word in pair]
        return subprocess.Popen(
            [sys.executable, "-m", "deploy.local.load", *flat],
            stdout=subprocess.PIPE,
            text=True,
            env=environment(),
            cwd=REPOSITORY,
        )

    def _counter(self, name: str) -> int:
        """One of the archive's own."""
        page = self._stack.processes["archive"].page("/metrics")
        found = re.search(rf"^sizao_archive_{name}_total (\S+)", page, re.MULTILINE)
        return round(float(found[1])) if found else 0

    def _rows(self, acknowledged: int, began_us: int, stored_after_s: float) -> Rows:
        divisor = max(-(-acknowledged // SAMPLED_ROWS), 1)
        stored, sampled, distinct = asyncio.run(self._ask(began_us, divisor))
        return Rows(
            acknowledged=acknowledged,
            stored=stored,
            sampled=sampled,
            distinct=distinct,
            sample_divisor=divisor,
            stored_after_s=stored_after_s,
        )

    async def _ask(self, began_us: int, divisor: int) -> tuple[int, int, int]:
        since = "FROM reading WHERE received >= to_timestamp(%(since_s)s)"
        some = f"{since} AND point %% %(divisor)s = 0"
        values = {"since_s": began_us / _MICRO, "divisor": divisor}
        async with connected(self._stack.database(), "bench") as connection:
            await connection.execute("SET statement_timeout = '180s'")
            cursor = await connection.execute(f"SELECT count(*) {since}".encode(), values)
            stored = await cursor.fetchone()
            counts = f"SELECT count(*) n {some} GROUP BY point, event"
            query = f"SELECT sum(n)::bigint, count(*) FROM ({counts}) o"  # noqa: S608 - our own words
            cursor = await connection.execute(query.encode(), values)
            doubles = await cursor.fetchone()
        assert stored is not None
        assert doubles is not None
        return int(stored[0]), int(doubles[0] or 0), int(doubles[1])


def _fell_behind_s(said: dict[str, Any], shape: Shape) -> float | None:
    """When a generator ended by itself that this machine did not let keep its rate."""
    if not said or said["said"] == said["messages"]:
        return None
    until_s = float(said["said"]) / shape.rate
    return round(max(until_s - shape.warm_s, 0.0), 1)


def _oracle(shape: Shape, place: Path) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """When each message was acknowledged (0: never), and how many readings it carried."""
    said = np.load(place / "oracle.npz")
    carried = np.array([len(keys) for _, keys in shape.devices])
    return said["acked_us"], carried[said["device"]]


def _each(before: bench_proc.Sample, after: bench_proc.Sample, count: int) -> ByProcess:
    """Microseconds of each process for one of `count` readings."""
    return {
        name: round((after.cpu_s[name] - before.cpu_s[name]) * _MICRO / max(count, 1), 3)
        for name in before.cpu_s
    }


def _percent(before: bench_proc.Sample, after: bench_proc.Sample) -> ByProcess:
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
