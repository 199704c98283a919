"""The two pictures of a report, as SVG of our own: no library, no network."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape

import numpy as np

from detectors.evaluation.pack import Floats
from detectors.evaluation.protocol import WITHIN_S
from detectors.evaluation.tables import delays, devices_of, tests_of
from detectors.evaluation.trial import TIERS, Trial

SHOWN = (*TIERS, "A1R, guarded", "vendor 46/56", "fixed 57")
COLOURS = ("#e69f00", "#d55e00", "#000000", "#0072b2", "#56b4e9", "#009e73", "#cc79a7", "#999999")
# Okabe and Ito's, told apart by the colour-blind too.
BEFORE_S = 60.0
_WIDTH, _HEIGHT, _LEFT, _BOTTOM, _TOP, _RIGHT = 760, 340, 54, 40, 14, 170


class Chart:
    """A frame with two straight scales; `parts` are its elements."""

    def __init__(self, x: tuple[float, float], y: tuple[float, float]) -> None:
        """Ranges in the units of the axes."""
        self._x, self._y = x, y
        self.parts: list[str] = []

    def at(self, x: float, y: float) -> tuple[float, float]:
        """A point on the paper."""
        (x0, x1), (y0, y1) = self._x, self._y
        across = (_WIDTH - _LEFT - _RIGHT) * (x - x0) / (x1 - x0)
        up = (_HEIGHT - _BOTTOM - _TOP) * (y - y0) / (y1 - y0)
        return _LEFT + across, _HEIGHT - _BOTTOM - up

    def text(self, x: float, y: float, text: str, more: str = "") -> None:
        """Words at a place on the paper."""
        self.parts.append(f'<text x="{x:.1f}" y="{y:.1f}"{more}>{escape(text)}</text>')

    def line(self, points: Sequence[tuple[float, float]], colour: str, more: str = "") -> None:
        """A line through points of the axes."""
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in (self.at(*point) for point in points))
        self.parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}"{more}/>')

    def key(self, place: int, colour: str, text: str, more: str = "") -> None:
        """A line of the legend, on the right."""
        x, y = _WIDTH - _RIGHT + 12, _TOP + 12 + 16 * place
        ends = f'x1="{x}" x2="{x + 18}" y1="{y - 4}" y2="{y - 4}"'
        self.parts.append(f'<line {ends} stroke="{colour}" stroke-width="2"{more}/>')
        self.text(x + 23, y, text)

    def axes(self, across: str, up: str) -> None:
        """Ticks and names."""
        (x0, x1), (y0, y1) = self._x, self._y
        for tick in _ticks(x0, x1):
            x, y = self.at(tick, y0)
            self.line([(tick, y0), (tick, y1)], "#e5e5e5")
            self.text(x, y + 15, f"{tick:g}", ' text-anchor="middle"')
        for tick in _ticks(y0, y1):
            x, y = self.at(x0, tick)
            self.line([(x0, tick), (x1, tick)], "#e5e5e5")
            self.text(x - 6, y + 4, f"{tick:g}", ' text-anchor="end"')
        self.text((_LEFT + _WIDTH - _RIGHT) / 2, _HEIGHT - 6, across, ' text-anchor="middle"')
        turned = f' transform="rotate(-90 12 {_HEIGHT / 2:.0f})" text-anchor="middle"'
        self.text(12, _HEIGHT / 2, up, turned)

    def svg(self, title: str) -> str:
        """The whole picture."""
        body = "\n".join(self.parts)
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img"'
            f' font-family="sans-serif" font-size="11"><title>{escape(title)}</title>\n{body}\n'
            "</svg>\n"
        )


def _ticks(low: float, high: float) -> Iterator[float]:
    """Four to ten round numbers."""
    rough = (high - low) / 7
    scale = 10.0 ** np.floor(np.log10(rough))
    step = next(each * scale for each in (1, 2, 5, 10) if each * scale >= rough)
    tick = np.ceil(low / step) * step
    while tick <= high + step * 1e-9:
        yield round(float(tick), 9)
        tick += step


def distribution(fires: Sequence[Trial]) -> str:
    """Share of the eligible devices found by each detector, by time since ignition."""
    chart = Chart((0, WITHIN_S), (0, 100))
    chart.axes("seconds after ignition", "% of eligible devices found")
    for place, (name, colour) in enumerate(zip(SHOWN, COLOURS, strict=False)):
        each = delays(fires, devices_of, name)
        chart.line(_steps(np.sort(each.delay_s[each.heard])), colour, ' stroke-width="2"')
        chart.key(place, colour, name)
    return chart.svg("Detection time")


def _steps(delay_s: Floats) -> list[tuple[float, float]]:
    points, share = [(0.0, 0.0)], 0.0
    for index, at_s in enumerate(delay_s[delay_s < WITHIN_S].tolist(), 1):
        points += [(at_s, share), (at_s, share := 100 * index / len(delay_s))]
    return [*points, (WITHIN_S, share)]


def slow_one(fires: Sequence[Trial]) -> tuple[Trial, str]:
    """The test that the alarm tier found later than three of four, so that nobody picks it."""
    timed = [
        (float(delay), place, index)
        for place, one in enumerate(fires)
        for index, delay in enumerate(delays([one], tests_of, TIERS[1]).delay_s)
        if delay < WITHIN_S
    ]
    if not timed:
        return fires[0], fires[0].pack.tests[0]
    _, place, index = sorted(timed)[len(timed) * 3 // 4]
    return fires[place], fires[place].pack.tests[index]


def one_fire(trial: Trial, test: str) -> str:
    """Temperatures of a test's counted devices, and who spoke when."""
    ignition_s = trial.pack.ignition_s(test)
    traces = [
        one
        for one in trial.channels("temperature_c")
        if one.test == test and trial.pack.counted(one.device)
    ]
    said = {name: trial.at(name, [(test, one.device) for one in traces]) for name in SHOWN}
    first = {name: float(at_s.min()) - ignition_s for name, at_s in said.items() if len(at_s)}
    until_s = min(WITHIN_S, max([120.0, *first.values()]) + 60)
    near = [
        (one.time_s - ignition_s, one.value)
        for one in traces
        if ((one.time_s >= ignition_s - BEFORE_S) & (one.time_s <= ignition_s + until_s)).any()
    ]
    shown = [(at_s[_between(at_s, until_s)], c[_between(at_s, until_s)]) for at_s, c in near]
    values = np.concatenate([np.zeros(0), *(value for _, value in shown)])
    low, high = (values.min() - 5, values.max() + 5) if len(values) else (0.0, 100.0)
    chart = Chart((-BEFORE_S, until_s), (float(low), float(high)))
    chart.axes("seconds after ignition", "degC")
    chart.line([(0, low), (0, high)], "#cc0000", ' stroke-dasharray="2 3"')
    chart.key(0, "#cc0000", "ignition", ' stroke-dasharray="2 3"')
    for at_s, value in shown:
        points = list(zip(at_s.tolist(), value.tolist(), strict=True))
        chart.line(points, "#888888", ' stroke-width="1.5"')
    chart.key(1, "#888888", f"{len(shown)} ceiling sensors")
    for place, (name, colour) in enumerate(zip(SHOWN, COLOURS, strict=False), 2):
        if name in first and -BEFORE_S <= first[name] <= until_s:
            # One below the other, as several often speak at the same reading.
            top = high - (high - low) * 0.06 * place
            chart.line([(first[name], low), (first[name], top)], colour, ' stroke-width="2"')
        told = f"{first[name]:.0f} s" if name in first else "never"
        chart.key(place, colour, f"{name}: {told}")
    return chart.svg(f"{trial.pack.name}, {test}")


def _between(at_s: Floats, until_s: float) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
    found: np.ndarray[tuple[int, ...], np.dtype[np.bool_]] = (at_s >= -BEFORE_S) & (at_s <= until_s)
    return found
