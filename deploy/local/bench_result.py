"""What a bench run says: one schema for every profile, and what people read first of it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

SCHEMA = "sizao.bench/2"
FILE = "bench.schema.json"
_US_A_PERCENT = 10_000  # of a core, in a second

ByProcess = dict[str, float]


class _Closed(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Spread(_Closed):
    """Milliseconds."""

    count: int
    p50: float | None = None
    p99: float | None = None
    max: float | None = None


class Rows(_Closed):
    """Of one run. Doubles are looked for among the points whose number the divisor divides."""

    acknowledged: int = Field(description="readings")
    stored: int
    sampled: int = Field(description="rows looked at for doubles")
    distinct: int = Field(description="of those, distinct (point, event time)")
    sample_divisor: int
    stored_after_s: float = Field(description="from the end of the load")


class Run(_Closed):
    """One load."""

    name: str
    messages_per_s: float
    readings_per_message: int
    payload: str = Field(description="json or binary")
    payload_bytes: int
    tls: bool
    connections: int
    tick_ms: tuple[int, int] = Field(description="of the bridge: quick, and busy")
    seconds: float = Field(description="of the window that is measured")
    readings: int = Field(description="acknowledged within it")
    frames: int
    cpu_us_per_reading: ByProcess
    cpu_percent: ByProcess = Field(description="of one core")
    machine_percent: dict[str, float] = Field(description="of all cores: busy; others: not ours")
    rss_mb: dict[str, int]
    generator: dict[str, Any]
    ended_after_s: float | None = Field(
        default=None,
        description="the load was ended early: signals, or the generator, were 5 s behind",
    )
    rows: Rows
    fires: int
    sensor_to_signal_ms: Spread
    sensor_to_page_ms: Spread
    pages_refused: dict[str, int]


class Mark(_Closed):
    """A figure that was promised."""

    name: str
    wanted: float
    got: float
    unit: str
    reached: bool


class Result(_Closed):
    """One run of a profile. CPU of a server includes its children."""

    schema_: str = Field(default=SCHEMA, alias="schema")
    profile: str
    at: str
    machine: dict[str, Any]
    devices: int
    idle_percent: ByProcess = Field(description="of one core, without any message")
    idle_rss_mb: dict[str, int]
    runs: list[Run]
    slope_us: ByProcess = Field(description="CPU of one more reading, over the rates at one tick")
    fixed_percent: ByProcess = Field(description="of a core at no load, by the same line")
    knee_per_s: float = Field(description="highest rate of one-reading messages with p99 < 1 s")
    marks: list[Mark]
    wrong: list[str] = Field(description="counts that are not what they must be")
    seconds: float


def schema_text() -> str:
    """The JSON Schema as it is published."""
    return json.dumps(Result.model_json_schema(by_alias=True), indent=1) + "\n"


def line(runs: Sequence[Run]) -> tuple[ByProcess, ByProcess]:
    """Least squares over rates at one tick: us of one more reading, % of a core at no load."""
    if len({run.readings / run.seconds for run in runs}) < 2:  # noqa: PLR2004 - a line has two points
        return {}, {}
    rates = [run.readings / run.seconds for run in runs]
    middle = sum(rates) / len(rates)
    spread = sum((rate - middle) ** 2 for rate in rates)
    slopes: ByProcess = {}
    fixed: ByProcess = {}
    for name in runs[0].cpu_percent:
        costs = [run.cpu_percent[name] for run in runs]
        mean = sum(costs) / len(costs)
        rise = sum((r - middle) * (c - mean) for r, c in zip(rates, costs, strict=True)) / spread
        slopes[name] = round(rise * _US_A_PERCENT, 3)
        fixed[name] = round(mean - rise * middle, 2)
    return slopes, fixed


def verdict(runs: Sequence[Run]) -> list[str]:
    """What is wrong with the counts; empty when everything arrived exactly once."""
    wrong = []
    for run in runs:
        rows, said = run.rows, run.generator
        if rows.stored != rows.acknowledged or rows.distinct != rows.sampled:
            wrong.append(f"{run.name}: rows are not the acknowledged readings: {rows}")
        early = run.ended_after_s is not None
        if said["acknowledged"] != said["said" if early else "messages"]:
            wrong.append(f"{run.name}: {said}")
        heard = run.sensor_to_signal_ms.count, run.sensor_to_page_ms.count
        # Ended early, not all burnt; whoever did is heard of by signal and page.
        fires = heard[0] if early else run.fires
        if min(heard) < fires or run.pages_refused:
            wrong.append(f"{run.name}: {fires} fires, {heard[0]} signals, {heard[1]} pages")
    return wrong


def holds(run: Run, p99_ms: float) -> bool:
    """Whether a load was carried to its end below a p99."""
    return run.ended_after_s is None and (run.sensor_to_signal_ms.p99 or p99_ms) < p99_ms


def knee(runs: Sequence[Run], p99_ms: float) -> float:
    """Highest rate of one-reading messages below a p99; 0 if there is none."""
    good = [
        run.messages_per_s for run in runs if run.readings_per_message == 1 and holds(run, p99_ms)
    ]
    return max(good, default=0.0)


def mark(name: str, got: float, wanted: float, unit: str) -> Mark:
    """One that is reached at or below what is wanted."""
    return Mark(name=name, got=got, wanted=wanted, unit=unit, reached=0 < got <= wanted)


def ratios(run: Run) -> Mapping[str, float]:
    """Costs as a share of Mosquitto's in the same run: what stays the same on another machine."""
    broker = run.cpu_us_per_reading["mosquitto"] or 1.0
    return {name: round(cost / broker, 3) for name, cost in run.cpu_us_per_reading.items()}
