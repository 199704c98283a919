"""EN 54-5 ramps through the shipped rules: when the fixed and the differential path respond.

Air rises at 1 to 30 K a minute from the class's typical application temperature. A sensor of time
constant tau shows T0 + r (t - tau (1 - exp(-t/tau))); solved for static maximum less typical
temperature, with 20 s for A1 and 60 s for the others, this gives the norm's upper limits to half a
second. So the slowest sensor that may be sold is fed for the upper limits, and a bare one for the
lower limits, read every 10 s at ten phases, after an hour at rest.

The norm's paths are `PATHS`. `heat_rise` and what else speaks earlier is our addition and is shown
apart: a notice may be earlier than any detector may, the path that stands for one may not.

Source of limits: EN 54-5:2017, recalled and cross-checked by the formula above (docs/en54-5.md says
how sure each is). This adds to approved detection and replaces none.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from detectors.evaluation.pack import Channel, Device, Floats, Pack
from detectors.evaluation.watch import Alarm, watch
from detectors.state import Setup
from sizao.limits import class_code

PATHS = ("heat_fixed", "heat_rate")
RATES_K_PER_MIN = (1, 3, 5, 10, 20, 30)
TYPICAL_C = {"A1": 25, "A2": 25, "B": 40, "C": 55, "D": 70, "E": 85, "F": 100, "G": 115}
HIGHEST_AMBIENT_K = 25
"""Maximum over typical application temperature, of every class."""
_LOWER_S = {
    "A1": (1740, 433, 249, 60, 30, 20),
    "": (1740, 433, 249, 120, 60, 40),
}
_UPPER_S = {
    "A1": (2420, 820, 500, 260, 140, 100),
    "": (2760, 960, 600, 330, 193, 145),
}
_TAU_S = {"A1": 20.0, "": 60.0}
SAMPLING_S = 10.0
PHASES = 10
_REST_S = 3600.0
_SPAN_S = 3000.0
_STEP_C = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """Of one class at one rate: seconds from the begin of the ramp, None for none.

    `first_s`: bare sensor, luckiest phase; `last_s`: slowest sensor, unluckiest phase; `early_s`:
    the first word of any rule about the slowest sensor.
    """

    heat_class: str
    rate: int
    lower_s: int
    upper_s: int
    first_s: float | None
    last_s: float | None
    early_s: float | None

    @property
    def within(self) -> bool:
        """Whether both limits are kept."""
        return (
            self.first_s is not None
            and self.last_s is not None
            and self.lower_s <= self.first_s
            and self.last_s <= self.upper_s
        )


def _key(heat_class: str) -> str:
    return "A1" if heat_class == "A1" else ""


def limits_s(heat_class: str, rate: int) -> tuple[int, int]:
    """Lower and upper limit of response of a class at a rate, in seconds."""
    place = RATES_K_PER_MIN.index(rate)
    return _LOWER_S[_key(heat_class)][place], _UPPER_S[_key(heat_class)][place]


def ramp_c(time_s: Floats, start_c: float, rate: float, tau_s: float) -> Floats:
    """What a sensor shows in air that rises from 0 s on at `rate` K/min; at rest before."""
    since_s = np.maximum(time_s, 0.0)
    behind_s = tau_s * -np.expm1(-since_s / tau_s) if tau_s else np.zeros_like(since_s)
    shown: Floats = start_c + rate / 60 * (since_s - behind_s)
    return shown


@dataclass(frozen=True, slots=True)
class Case:
    """One sensor in one air. `show`: what it shows at times from -1 h on."""

    name: str
    heat_class: str
    time_s: Floats
    shown_c: Floats


def _times(phase: int) -> Floats:
    first_s = -_REST_S + phase * SAMPLING_S / PHASES
    times: Floats = np.arange(first_s, _SPAN_S, SAMPLING_S)
    return times


def ramp(heat_class: str, rate: float, tau_s: float, *, start_c: float | None = None) -> list[Case]:
    """A ramp at every phase; from the class's typical temperature unless said."""
    begin_c = TYPICAL_C[heat_class.rstrip("RS")] if start_c is None else start_c
    return [
        Case(
            f"{heat_class} {rate:g} {tau_s:g} {begin_c:g} {phase}",
            heat_class,
            times := _times(phase),
            ramp_c(times, begin_c, rate, tau_s),
        )
        for phase in range(PHASES)
    ]


def plunge(heat_class: str, tau_s: float) -> list[Case]:
    """From cold air into air at the class's maximum application temperature, held for 50 min."""
    high_c = TYPICAL_C[heat_class.rstrip("RS")] + HIGHEST_AMBIENT_K
    cold_c = high_c - 45.0  # A1: 5 degC, where the norm keeps the plunge of A classes
    found = []
    for phase in range(PHASES):
        times = _times(phase)
        share = -np.expm1(-np.maximum(times, 0.0) / tau_s) if tau_s else (times >= 0).astype(float)
        shown = cold_c + (high_c - cold_c) * share
        found += [Case(f"{heat_class} plunge {tau_s:g} {phase}", heat_class, times, shown)]
    return found


def said(cases: Sequence[Case], setup: Setup) -> dict[str, list[Alarm]]:
    """What the rules say of each case, by its name; each stands in a building of its own."""
    devices = {
        one.name: Device(one.name, "", "", "ceiling", class_code(one.heat_class)) for one in cases
    }
    channels = tuple(
        Channel(one.name, one.name, "temperature_c", one.time_s, _shown(one)) for one in cases
    )
    pack = Pack(
        name="en54-5",
        kind="quiet",
        licence="",
        redistributable=True,
        sampling_s=SAMPLING_S,
        prepared=True,
        devices=devices,
        events=(),
        channels=channels,
        tests=tuple(devices),
    )
    found: dict[str, list[Alarm]] = {name: [] for name in devices}
    for alarm in watch(pack, channels, setup):
        found[alarm.device].append(alarm)
    return found


def _shown(one: Case) -> Floats:
    rounded: Floats = np.round(np.round(one.shown_c / _STEP_C) * _STEP_C, 6)
    return rounded


def _first(alarms: Iterable[Alarm], rules: tuple[str, ...] = ()) -> float | None:
    times = [one.time_s for one in alarms if not rules or one.rule in rules]
    return min(times, default=None)


def table(setup: Setup) -> list[Response]:
    """Every class at every rate."""
    cases = {
        (heat_class, rate, tau_s): ramp(heat_class, rate, tau_s)
        for heat_class in TYPICAL_C
        for rate in RATES_K_PER_MIN
        for tau_s in (0.0, _TAU_S[_key(heat_class)])
    }
    heard = said([one for some in cases.values() for one in some], setup)
    return [
        _response(heat_class, rate, cases, heard)
        for heat_class in TYPICAL_C
        for rate in RATES_K_PER_MIN
    ]


def _response(
    heat_class: str,
    rate: int,
    cases: dict[tuple[str, int, float], list[Case]],
    heard: dict[str, list[Alarm]],
) -> Response:
    bare = [heard[one.name] for one in cases[heat_class, rate, 0.0]]
    slow = [heard[one.name] for one in cases[heat_class, rate, _TAU_S[_key(heat_class)]]]
    firsts = [at_s for one in bare if (at_s := _first(one, PATHS)) is not None]
    lasts = [_first(one, PATHS) for one in slow]
    words = [at_s for one in slow if (at_s := _first(one)) is not None]
    lower_s, upper_s = limits_s(heat_class, rate)
    all_there = [at_s for at_s in lasts if at_s is not None]
    return Response(
        heat_class=heat_class,
        rate=rate,
        lower_s=lower_s,
        upper_s=upper_s,
        first_s=min(firsts, default=None),
        last_s=max(all_there) if len(all_there) == len(lasts) else None,
        early_s=min(words, default=None),
    )


def markdown(rows: Sequence[Response]) -> str:
    """The table of docs/en54-5.md."""
    head = (
        "class", "K/min", "not before, s", "bare sensor, first", "slowest sensor, last",
        "not after, s", "kept", "first word of any rule, s",
    )  # fmt: skip
    lines = [f"| {' | '.join(head)} |", f"|{' --- |' * len(head)}"]
    for one in rows:
        cells = (
            one.heat_class, one.rate, one.lower_s, _cell(one.first_s), _cell(one.last_s),
            one.upper_s, "yes" if one.within else "**no**", _cell(one.early_s),
        )  # fmt: skip
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines) + "\n"


def _cell(at_s: float | None) -> str:
    return "none" if at_s is None else f"{at_s:.0f}"
