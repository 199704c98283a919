"""What the bench sends, profile by profile."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from deploy.local.bench_district import KEYS_A_GATEWAY, BenchDistrict, Size
from deploy.local.load import Device
from deploy.local.load_payload import Form
from sizao.errors import BadInput

FIRES_PER_S = 4.0
"""Each is an incident with a page of its own: enough for a p99, few enough to cost little."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One load of a profile. `rate`: messages a second."""

    rate: float
    window_s: float
    what: str = "sensors"  # or lone, columns, packed: a list of the district
    tls: bool = False
    slope: bool = False

    @property
    def name(self) -> str:
        """As it is shown."""
        per = {"columns": "json-x50", "packed": "binary-x50", "lone": "lone"}.get(self.what, "json")
        readings = KEYS_A_GATEWAY if self.what in {"columns", "packed"} else 1
        return f"{per}-{self.rate * readings / 1000:g}k" + ("-tls" if self.tls else "")

    @property
    def fires(self) -> int:
        """How many devices burn in its window."""
        return round(self.window_s * FIRES_PER_S)


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """`steady`: at one tick of 20 ms; `free`: at the tick as shipped; `knee`: rates beyond, until
    p99 is over a second.
    """

    size: Size
    idle_s: float
    warm_s: float
    steady: tuple[Step, ...]
    free: tuple[Step, ...] = ()
    knee: tuple[Step, ...] = ()
    marks: bool = False

    @property
    def steps(self) -> tuple[Step, ...]:
        """All, in their order."""
        return *self.steady, *self.free, *self.knee

    @property
    def fires(self) -> int:
        """Of all steps together: every device burns once."""
        return sum(step.fires for step in self.steps)

    def only(self, names: Sequence[str]) -> Profile:
        """With the steps of these names; whole without names. Raises BadInput: none is left."""
        if not names:
            return self
        steady, free, knee = (
            tuple(step for step in part if step.name in names)
            for part in (self.steady, self.free, self.knee)
        )
        if not steady + free + knee:
            has = ", ".join(dict.fromkeys(step.name for step in self.steps))
            raise BadInput(f"no shape {', '.join(names)} in this profile; it has {has}")
        return replace(self, steady=steady, free=free, knee=knee)


def _slope(seconds: float, *rates: float) -> tuple[Step, ...]:
    return tuple(Step(rate=rate, window_s=seconds, slope=True) for rate in rates)


def _batches(seconds: float, columns: float, packed: float) -> tuple[Step, ...]:
    return (
        Step(rate=columns, window_s=seconds, what="columns"),
        Step(rate=packed, window_s=seconds, what="packed"),
    )


_SMALL = Size(sensors=3_000, connections=200, gateways=10)
_MIDDLE = Size(sensors=20_000, connections=1_000, gateways=400)
_WHOLE = Size(sensors=50_000, connections=1_000, gateways=400, lone=10_000)
_SLOPE_RATES = (10_000.0, 20_000.0, 30_000.0)

PROFILES = {
    "quick": Profile(size=_SMALL, idle_s=2, warm_s=1.5, steady=_slope(5, 2_000, 8_000)),
    "default": Profile(
        size=_MIDDLE,
        idle_s=6,
        warm_s=3,
        steady=_slope(12, *_SLOPE_RATES),
        free=_batches(12, 6_000, 8_000),
    ),
    "full": Profile(
        size=_WHOLE,
        idle_s=10,
        warm_s=5,
        steady=_slope(20, *_SLOPE_RATES),
        free=(
            Step(rate=30_000, window_s=60),
            *_batches(30, 6_000, 8_000),
            Step(rate=20_000, window_s=20, what="lone"),
            Step(rate=15_000, window_s=20, tls=True),
        ),
        knee=tuple(Step(rate=rate, window_s=60) for rate in (36_000, 40_000, 44_000)),
        marks=True,
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """What to send: `rate` messages a second for `warm_s` + `window_s`, measured in the window."""

    name: str
    rate: float
    warm_s: float
    window_s: float
    devices: Sequence[Device]
    fires: int = 0
    form: Form = Form.JSON
    tls: bool = False

    @property
    def seconds(self) -> float:
        """Length of the load: it lasts a little longer than the window."""
        return self.warm_s + self.window_s + 1.0

    @property
    def readings(self) -> int:
        """Readings that a message of the steady load carries."""
        return len(self.devices[0][1])


@dataclass(slots=True)
class Shaper:
    """Makes shapes of steps; whoever has burnt does not burn again."""

    district: BenchDistrict
    warm_s: float
    burnt: int = field(default=0, init=False)

    def shape(self, step: Step) -> Shape:
        """The next one."""
        burning = self.district.burning[self.burnt : self.burnt + step.fires]
        self.burnt += step.fires
        steady: list[Device] = getattr(self.district, step.what)
        return Shape(
            name=step.name,
            rate=step.rate,
            warm_s=self.warm_s,
            window_s=step.window_s,
            devices=[*steady, *burning],
            fires=step.fires,
            form=Form.BINARY if step.what == "packed" else Form.JSON,
            tls=step.tls,
        )
