"""`make bench`: real servers, our real processes, a load of our own; JSON under build/bench/.

Measures, on one machine, with everything on board:
- the cost of running idle, and CPU microseconds per reading of every process at two rates of
  one-reading JSON messages over QoS 1, with the slope between them (fixed cost falls out);
- the same for gateway batches of 50 readings;
- sensor to signal (readable in Kafka) and sensor to page (webhook accepted) among 1,000 and 8,000
  messages a second, for devices that jump over the limit: from the publish of the reading that
  decided, the second hot one;
- that every reading acknowledged to a device is one row of the table.

Slow figures never fail; wrong counts do (exit 1).
"""

from __future__ import annotations

import argparse
import json
import sys
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from deploy.local import bench_district, bench_proc
from deploy.local.bench_district import BenchDistrict
from deploy.local.bench_load import Bench, Shape, slope
from deploy.local.bench_watch import SignalWatch, spread_ms
from deploy.local.failure import ServerError
from deploy.local.patience import wait_for
from deploy.local.places import BUILD, private_place, remove_run
from deploy.local.receiver import Receiver
from deploy.local.servers import Servers
from deploy.local.stack import Stack
from sizao.clock import monotonic_s, now_us
from sizao.errors import SizaoError
from sizao.signal import Kind, Phase

SCHEMA = "sizao.bench/1"
LATENCY_RATES = (1_000, 8_000)
RATES = (2_000, 8_000)
BATCH_RATE = 800  # messages of 50 readings
PAGES_S = 30.0  # after that a page is missing
TICK_MS = 20  # of the bridge, whatever the load


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """How long each part lasts, seconds."""

    idle_s: float
    warm_s: float
    latency_s: tuple[float, ...]  # at each of LATENCY_RATES
    window_s: float
    batch_s: float
    fires: int  # at each of them


PROFILES = {
    "quick": Profile(idle_s=3, warm_s=2, latency_s=(6,), window_s=6, batch_s=0, fires=20),
    "default": Profile(idle_s=8, warm_s=4, latency_s=(25, 12), window_s=25, batch_s=12, fires=100),
}


def run(profile: Profile, stack: ExitStack) -> dict[str, Any]:
    """Start everything, measure, say what came out."""
    folder = private_place("bench")
    district = bench_district.build(profile.fires * len(profile.latency_s))
    _say("starting Mosquitto, Kafka, PostgreSQL")
    servers = stack.enter_context(Servers(folder, fresh=True))
    remove_run(folder / "sizao")  # of the last run, whose servers are gone
    ours = Stack(servers, folder / "sizao")
    stack.callback(ours.stop)
    receiver = stack.enter_context(Receiver())
    _prepare(ours, district, receiver)
    _say("starting our processes")
    ours.start()
    bench = Bench(ours, ours.folder)
    _say(f"idle for {profile.idle_s:g} s")
    idle = bench.idle(profile.idle_s)
    with SignalWatch(servers.addresses.kafka_bootstrap) as watch:
        latency = [
            _latency(bench, watch, receiver, shape) for shape in _latency_shapes(district, profile)
        ]
    runs = [bench.run(_announced(shape)) for shape in _shapes(district, profile)]
    return {
        "tick_ms": TICK_MS,
        "idle": idle,
        "latency": latency,
        "runs": runs,
        "slope_us_per_reading": slope(runs[0], runs[1]),
        "counts": bench.counts(),
    }


def _prepare(ours: Stack, district: BenchDistrict, receiver: Receiver) -> None:
    ours.configure()
    _one_tick(ours.config)
    ours.command("migrate")
    _say(f"registering {len(district.rows):,} devices behind {len(district.carriers)} carriers")
    ours.register(district.change(), "bench")
    receiver.secret = ours.add_responder("bench", bench_district.TOP, receiver.url, "alarm")


def _one_tick(config: Path) -> None:
    """Kafka and its readers cost per tick: with one that grows under load no slope means much."""
    yaml = YAML()
    settings = yaml.load(config)
    settings["bridge"].update(tick_ms=TICK_MS, tick_busy_ms=TICK_MS)
    yaml.dump(settings, config)


def _shapes(district: BenchDistrict, profile: Profile) -> list[Shape]:
    found = [
        Shape(
            name=f"single-{rate}",
            rate=rate,
            warm_s=profile.warm_s,
            window_s=profile.window_s,
            devices=district.sensors,
        )
        for rate in RATES
    ]
    if profile.batch_s:
        found.append(
            Shape(
                name=f"batch50-{BATCH_RATE * bench_district.KEYS_A_GATEWAY}",
                rate=BATCH_RATE,
                warm_s=profile.warm_s,
                window_s=profile.batch_s,
                devices=district.gateways,
            )
        )
    return found


def _latency_shapes(district: BenchDistrict, profile: Profile) -> list[Shape]:
    """Fires among quiet messages, each at a site of its own; every device burns once."""
    found = []
    for number, seconds in enumerate(profile.latency_s):
        burning = district.burning[number * profile.fires : (number + 1) * profile.fires]
        found.append(
            Shape(
                name=f"latency-{LATENCY_RATES[number]}",
                rate=LATENCY_RATES[number],
                warm_s=profile.warm_s,
                window_s=seconds,
                devices=[*district.sensors, *burning],
                fires=profile.fires,
            )
        )
    return found


def _latency(bench: Bench, watch: SignalWatch, receiver: Receiver, shape: Shape) -> dict[str, Any]:
    signals_before, pages_before = len(watch.seen), len(receiver.pages.accepted)
    result = bench.run(_announced(shape))
    pages_wanted = pages_before + shape.fires
    wait_for(lambda: len(receiver.pages.accepted) >= pages_wanted, PAGES_S)
    signals = [
        at_us - one.event_us
        for one, at_us in watch.seen[signals_before:]
        if one.phase is Phase.RAISE and one.kind is Kind.FIRE
    ]
    pages = receiver.pages.accepted[pages_before:]
    return {
        "fires": shape.fires,
        "sensor_to_signal_ms": spread_ms(signals),
        "sensor_to_page_ms": spread_ms(page.at_us - page.event_us for page in pages),
        "pages_refused": dict(receiver.pages.refused),
        "run": result,
    }


def _announced(shape: Shape) -> Shape:
    _say(
        f"{shape.name}: {shape.rate:g} messages/s of {shape.readings} readings"
        f" for {shape.seconds:g} s"
    )
    return shape


def _say(text: str) -> None:
    print(f"{datetime.fromtimestamp(now_us() / 1e6, UTC):%H:%M:%S} {text}", file=sys.stderr)


def verdict(result: dict[str, Any]) -> list[str]:
    """What is wrong with the counts; empty when everything arrived exactly once."""
    wrong = []
    counts = result["counts"]
    if len({counts["acknowledged"], counts["stored"], counts["distinct"]}) != 1:
        wrong.append(f"rows are not the acknowledged readings: {counts}")
    for one in _runs(result):
        said = one["generator"]
        if said["acknowledged"] != said["messages"]:
            wrong.append(f"{one['name']}: {said}")
    for one in result["latency"]:
        heard = one["sensor_to_signal_ms"]["count"], one["sensor_to_page_ms"]["count"]
        if min(heard) < one["fires"] or one["pages_refused"]:
            wrong.append(f"{one['fires']} fires gave {heard[0]} signals and {heard[1]} pages")
    return wrong


def _runs(result: dict[str, Any]) -> list[dict[str, Any]]:
    return [*(one["run"] for one in result["latency"]), *result["runs"]]


def table(result: dict[str, Any]) -> str:
    """The figures that people look at first."""
    idle, runs = result["idle"], _runs(result)
    lines = [f"{'CPU':<12}{'idle %':>10}" + "".join(f"{one['name']:>15}" for one in runs)]
    lines[0] += f"{'slope':>10}   (us a reading, besides idle)"
    for name, percent in idle["cpu_percent"].items():
        cells = "".join(f"{one['cpu_us_per_reading'][name]:>15}" for one in runs)
        each = result["slope_us_per_reading"][name]
        lines.append(f"{name:<12}{percent:>10}{cells}{each:>10}")
    others = "".join(f"{one['machine_percent']['others']:>15}" for one in runs)
    lines.append(f"{'others %':<12}{'':>10}{others}   (of the machine, not ours)")
    for one in result["latency"]:
        words = {key: one[key] for key in ("sensor_to_signal_ms", "sensor_to_page_ms")}
        lines.append(f"{one['run']['name']}: {words}")
    lines.append(f"counts: {result['counts']}")
    return "\n".join(lines)


def main() -> int:
    """Parse, run, write, print."""
    parser = argparse.ArgumentParser(prog="python -m deploy.local.bench")
    parser.add_argument("--profile", choices=sorted(PROFILES), default="default")
    name = parser.parse_args().profile
    began_s = monotonic_s()
    head = {"schema": SCHEMA, "profile": name, "at": datetime.fromtimestamp(now_us() / 1e6, UTC)}
    machine = bench_proc.machine()
    try:
        with ExitStack() as stack:
            result = run(PROFILES[name], stack)
    except (ServerError, SizaoError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    wrong = verdict(result)
    took = {"seconds": round(monotonic_s() - began_s, 1), "wrong": wrong}
    text = json.dumps({**head, "machine": machine, **result, **took}, indent=1, default=str)
    out = _file(name)
    out.write_text(text + "\n", "utf-8")
    print(text)
    print(table(result), file=sys.stderr)
    _say(f"written to {out.relative_to(BUILD.parent)}" + "".join(f"\nWRONG: {w}" for w in wrong))
    return 1 if wrong else 0


def _file(profile: str) -> Path:
    folder = BUILD / "bench"
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"{profile}.json"


if __name__ == "__main__":
    sys.exit(main())
