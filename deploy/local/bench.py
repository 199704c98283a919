"""`make bench`: real servers, our real processes, a load of our own; JSON under build/bench/.

Measures, on one machine, with everything on board:
- the cost of running idle, CPU microseconds per reading of every process (servers included) at
  several rates of one-reading JSON messages over QoS 1, and the line through them: what one more
  reading costs, and what a process costs at no load;
- the same for gateway batches of 50 readings, JSON and packed, for thousands of connections, and
  with TLS (profile full);
- sensor to signal (readable in Kafka) and sensor to page (webhook accepted), for devices that jump
  over the limit: from the publish of the reading that decided, the second hot one;
- that every reading acknowledged to a device is one row of the table.

Slow figures never fail; wrong counts do (exit 1).

A load whose signals come ever later is ended, and said to be: the search for the knee ends there.

    python -m deploy.local.bench [--profile quick|default|full] [--shape NAME]... [--schema]
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from deploy.local import bench_district, bench_proc, bench_report
from deploy.local.bench_load import Bench
from deploy.local.bench_result import (
    Mark,
    Result,
    Run,
    holds,
    knee,
    line,
    mark,
    schema_text,
    verdict,
)
from deploy.local.bench_shapes import PROFILES, Profile, Shaper, Step
from deploy.local.bench_watch import SignalWatch
from deploy.local.failure import ServerError
from deploy.local.places import BUILD, private_place, remove_run
from deploy.local.receiver import Receiver
from deploy.local.servers import Servers
from deploy.local.stack import Stack
from sizao.clock import monotonic_s, now_us
from sizao.errors import SizaoError

TICK_MS = 20  # of the bridge, whatever the load
TICKS_SHIPPED_MS = (20, 50)
QUICK_MS, LATE_MS = 100.0, 1000.0


class _Run:
    """One run of a profile."""

    def __init__(self, profile: Profile, stack: ExitStack) -> None:
        """Start everything."""
        self.district = bench_district.build(profile.size, profile.fires)
        self._shaper = Shaper(district=self.district, warm_s=profile.warm_s)
        folder = private_place("bench")
        _say("starting Mosquitto, Kafka, PostgreSQL")
        servers = Servers(folder, fresh=True)
        stack.enter_context(servers)
        remove_run(folder / "sizao")  # of the last run, whose servers are gone
        if any(step.tls for step in profile.free):
            servers.mosquitto.secure()  # registering starts it again
        self.ours = Stack(servers, folder / "sizao")
        stack.callback(self.ours.stop)
        receiver = stack.enter_context(Receiver())
        self._prepare(receiver)
        _say("starting our processes")
        self.ours.start()
        watch = stack.enter_context(SignalWatch(servers.addresses.kafka_bootstrap))
        self.bench = Bench(self.ours, watch, receiver)
        self.bench.tick_ms = TICK_MS, TICK_MS

    def _prepare(self, receiver: Receiver) -> None:
        self.ours.configure()
        self._tick(TICK_MS, TICK_MS)
        self.ours.command("migrate")
        devices, carriers = len(self.district.rows), len(self.district.carriers)
        _say(f"registering {devices:,} devices behind {carriers:,} carriers")
        self.ours.register(self.district.change(), "bench")
        top = bench_district.TOP
        receiver.secret = self.ours.add_responder("bench", top, receiver.url, "alarm")

    def _tick(self, quick_ms: int, busy_ms: int) -> None:
        """Kafka and its readers cost per tick: with one that grows under load no line is one."""
        yaml = YAML()
        settings: dict[str, Any] = yaml.load(self.ours.config)
        settings["bridge"].update(tick_ms=quick_ms, tick_busy_ms=busy_ms)
        yaml.dump(settings, self.ours.config)

    def release(self) -> None:
        """From now on with the tick as it is shipped."""
        self._tick(*TICKS_SHIPPED_MS)
        bridge = self.ours.processes["bridge"]
        bridge.stop()
        bridge.start()
        self.bench.tick_ms = TICKS_SHIPPED_MS

    def steps(self, steps: tuple[Step, ...]) -> Iterator[Run]:
        """Carry out each that is asked for."""
        for step in steps:
            shape = self._shaper.shape(step)
            _say(f"{shape.name}: {shape.rate:g} messages/s for {shape.seconds:g} s")
            run = self.bench.run(shape)
            _say(bench_report.brief(run))
            yield run


def measure(profile: Profile, stack: ExitStack) -> dict[str, Any]:
    """Carry out a profile; the fields of a Result."""
    one = _Run(profile, stack)
    _say(f"idle for {profile.idle_s:g} s")
    idle_percent, idle_rss_mb = one.bench.idle(profile.idle_s)
    runs = list(one.steps(profile.steady))
    slope_us, fixed_percent = line([run for run in runs if run.readings_per_message == 1])
    if profile.free or profile.knee:
        one.release()
    runs += one.steps(profile.free)
    for run in one.steps(profile.knee):
        runs.append(run)
        if not holds(run, LATE_MS):
            break
    return {
        "devices": len(one.district.rows),
        "idle_percent": idle_percent,
        "idle_rss_mb": idle_rss_mb,
        "runs": runs,
        "slope_us": slope_us,
        "fixed_percent": fixed_percent,
        "knee_per_s": knee(runs, LATE_MS),
        "marks": marks(runs, slope_us, fixed_percent) if profile.marks else [],
        "wrong": verdict(runs),
    }


def marks(runs: list[Run], slope_us: dict[str, float], fixed: dict[str, float]) -> list[Mark]:
    """The budgets of docs/design.md, section 5, and what came of them."""
    found = [
        mark(f"{name}: CPU of one more reading", slope_us[name], wanted, "us")
        for name, wanted in (
            ("bridge", 4.0),
            ("detect", 0.5),
            ("archive", 0.5),
            ("postgresql", 0.9),
        )
        if name in slope_us
    ]
    found += [
        mark(f"{name}: at no load", fixed[name], 8.0, "% of a core")
        for name in ("bridge", "detect", "archive", "alert", "console")
        if name in fixed
    ]
    wanted_ms = {"json-30k": QUICK_MS, "json-40k": LATE_MS}
    wanted_ms |= {"json-x50-300k": QUICK_MS, "binary-x50-400k": QUICK_MS}
    found += [
        mark(f"{run.name}: sensor to signal, p99", run.sensor_to_signal_ms.p99 or 0.0, ms, "ms")
        for name, ms in wanted_ms.items()
        for run in [run for run in runs if run.name == name][-1:]
    ]
    return found


def _say(text: str) -> None:
    print(f"{datetime.fromtimestamp(now_us() / 1e6, UTC):%H:%M:%S} {text}", file=sys.stderr)


def main() -> int:
    """Parse, run, write, print."""
    parser = argparse.ArgumentParser(prog="python -m deploy.local.bench")
    parser.add_argument("--profile", choices=sorted(PROFILES), default="default")
    names = sorted({step.name for one in PROFILES.values() for step in one.steps})
    parser.add_argument(
        "--shape", action="append", default=[], choices=names, help="of the profile only these"
    )
    parser.add_argument("--schema", action="store_true", help="print the JSON Schema, run nothing")
    asked = parser.parse_args()
    if asked.schema:
        print(schema_text(), end="")
        return 0
    began_s, machine = monotonic_s(), bench_proc.machine()
    try:
        with ExitStack() as stack:
            found = measure(PROFILES[asked.profile].only(asked.shape), stack)
    except (ServerError, SizaoError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    result = Result(
        profile=asked.profile,
        at=datetime.fromtimestamp(now_us() / 1e6, UTC).isoformat(timespec="seconds"),
        machine=machine,
        seconds=round(monotonic_s() - began_s, 1),
        **found,
    )
    folder = BUILD / "bench"
    folder.mkdir(parents=True, exist_ok=True)
    out = folder / f"{asked.profile}.json"
    written = [_write(out, result.model_dump_json(by_alias=True, indent=1) + "\n")]
    written.append(_write(out.with_suffix(".md"), bench_report.markdown(result)))
    written.append(_write(out.with_suffix(".svg"), bench_report.plot(result)))
    print(out.read_text("utf-8"))
    print(bench_report.markdown(result), file=sys.stderr)
    _say(f"written: {', '.join(written)}" + "".join(f"\nWRONG: {one}" for one in result.wrong))
    return 1 if result.wrong else 0


def _write(file: Path, text: str) -> str:
    file.write_text(text, "utf-8")
    return str(file.relative_to(BUILD.parent))


if __name__ == "__main__":
    sys.exit(main())
