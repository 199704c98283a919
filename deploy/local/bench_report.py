"""A bench result as people read it: one line a run, Markdown for the README, a plot."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from deploy.local.bench_result import Result, Run, Spread, ratios

_SHOWN = ("bridge", "detect", "archive", "alert", "kafka", "postgresql", "mosquitto", "generator")
_WIDTH, _HEIGHT, _LEFT, _BOTTOM, _TOP = 760, 300, 60, 110, 30
_COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#f0e442", "#999999")
# Okabe and Ito's, told apart by the colour-blind too.


def brief(run: Run) -> str:
    """One line."""
    signal, page = run.sensor_to_signal_ms, run.sensor_to_page_ms
    own = run.cpu_us_per_reading
    costs = ", ".join(f"{name} {own[name]:g}" for name in ("bridge", "detect", "archive"))
    return (
        f"  signal p50/p99 {_ms(signal)}, page {_ms(page)} ms; us a reading: {costs};"
        f" busy {run.machine_percent['busy']} %, rows {run.rows.stored} of {run.rows.acknowledged}"
        + ("" if run.ended_after_s is None else f"; NOT CARRIED, ended after {run.ended_after_s} s")
    )


def _ms(spread: Spread) -> str:
    return "-" if spread.p50 is None else f"{spread.p50:.0f}/{spread.p99:.0f}"


def markdown(result: Result) -> str:
    """Tables for the README, with what a reader needs to judge them."""
    parts = [
        _where(result),
        _rates(result.runs),
        _costs(result),
    ]
    if result.marks:
        parts.append(_marks(result))
    if result.knee_per_s:
        parts.append(f"Highest rate with p99 below 1 s: {result.knee_per_s:,.0f} messages/s.")
    parts += [
        f"{run.name} was ended after {run.ended_after_s:g} s: not carried, 5 s behind and more."
        for run in result.runs
        if run.ended_after_s is not None
    ]
    if result.runs:
        shares = ratios(result.runs[min(1, len(result.runs) - 1)])
        told = ", ".join(f"{name} {shares[name]:g}" for name in _SHOWN[:6] if name in shares)
        parts.append(f"As a share of Mosquitto's CPU in one run: {told}.")
    return "\n\n".join(parts) + "\n"


def _where(result: Result) -> str:
    machine = result.machine
    changed = " and changes" if machine["modified"] else ""
    return (
        f"{machine['cores']} cores of {machine['cpu']}, {machine['memory_gb']} GB, Linux"
        f" {machine['kernel']}, Python {machine['python']} (an empty loop of 10 million takes"
        f" {machine['empty_loop_10m_s']} s); {result.devices:,} devices; QoS 1; profile"
        f" `{result.profile}`, {result.at}, commit {machine['commit']}{changed}."
    )


def _row(cells: Sequence[object]) -> str:
    return "| " + " | ".join(str(cell) for cell in cells) + " |"


def _table(head: Sequence[object], rows: Sequence[Sequence[object]]) -> str:
    return "\n".join([_row(head), _row(["---"] * len(head)), *(_row(row) for row in rows)])


def _rates(runs: Sequence[Run]) -> str:
    head = (
        "load", "readings/s", "connections", "TLS", "payload, bytes", "tick, ms",
        "signal p50 / p99 / max, ms", "page p50 / p99, ms", "busy", "rows stored of acknowledged",
    )  # fmt: skip
    rows = [
        (
            run.name,
            f"{run.messages_per_s * run.readings_per_message:,.0f}",
            f"{run.connections:,}",
            "yes" if run.tls else "no",
            f"{run.payload} {run.payload_bytes}",
            "-".join(str(one) for one in dict.fromkeys(run.tick_ms)),
            f"{_ms(run.sensor_to_signal_ms)}/{run.sensor_to_signal_ms.max or 0:.0f}",
            _ms(run.sensor_to_page_ms),
            f"{run.machine_percent['busy']:.0f} %",
            f"{run.rows.stored:,} of {run.rows.acknowledged:,}",
        )
        for run in runs
    ]
    return _table(head, rows)


def _costs(result: Result) -> str:
    names = [name for name in _SHOWN if any(name in run.cpu_percent for run in result.runs)]
    rows: list[Sequence[object]] = [
        (run.name, *(f"{run.cpu_us_per_reading.get(name, 0):.2f}" for name in names))
        for run in result.runs
    ]
    if result.slope_us:
        rows.append(("**one more reading**", *_told(result.slope_us, names)))
        rows.append(("at no load, % of a core", *_told(result.fixed_percent, names)))
    rows.append(("idle, % of a core", *_told(result.idle_percent, names)))
    memory = {
        name: max(run.rss_mb.get(name, 0) for run in result.runs) if result.runs else 0
        for name in names
    }
    rows.append(("memory at most, MB", *(f"{memory[name]:,}" for name in names)))
    return _table(("CPU, us a reading", *names), rows)


def _told(figures: dict[str, float], names: Sequence[str]) -> list[str]:
    return [f"{figures[name]:.2f}" if name in figures else "" for name in names]


def _marks(result: Result) -> str:
    rows = [
        (one.name, f"{one.wanted:g} {one.unit}", f"{one.got:g}", "yes" if one.reached else "**no**")
        for one in result.marks
    ]
    return _table(("mark", "at most", "measured", "reached"), rows)


def plot(result: Result) -> str:
    """CPU of every run, process upon process, and the p99 from sensor to signal above; SVG."""
    runs = result.runs
    scale = max((sum(_shares(run)) for run in runs), default=1.0) or 1.0
    inner = _HEIGHT - _BOTTOM - _TOP
    step = (_WIDTH - _LEFT) / max(len(runs), 1)
    parts = []
    for place, run in enumerate(runs):
        x, y = _LEFT + place * step + step * 0.15, float(_HEIGHT - _BOTTOM)
        for share, colour, name in zip(_shares(run), _COLOURS, _SHOWN, strict=True):
            high = share / scale * inner
            y -= high
            parts.append(
                f'<rect x="{x:.1f}" y="{y:.1f}" width="{step * 0.7:.1f}" height="{high:.1f}"'
                f' fill="{colour}"><title>{name}: {share:.1f} % of a core</title></rect>'
            )
        parts.append(_text(x, y - 6, f"p99 {run.sensor_to_signal_ms.p99 or 0:.0f} ms"))
        turned = f' transform="rotate(25 {x:.1f} {_HEIGHT - _BOTTOM + 14})"'
        parts.append(_text(x, _HEIGHT - _BOTTOM + 14, run.name, turned))
    for place, (colour, name) in enumerate(zip(_COLOURS, _SHOWN, strict=True)):
        x = _LEFT + place * 86
        parts.append(f'<rect x="{x}" y="{_HEIGHT - 20}" width="10" height="10" fill="{colour}"/>')
        parts.append(_text(x + 14, _HEIGHT - 11, name))
    parts.append(_text(4, _TOP - 12, f"CPU, up to {scale:.0f} % of a core"))
    body = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}"'
        f' font-family="sans-serif" font-size="11">\n{body}\n</svg>\n'
    )


def _shares(run: Run) -> list[float]:
    return [run.cpu_percent.get(name, 0.0) for name in _SHOWN]


def _text(x: float, y: float, text: str, more: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}"{more}>{escape(text)}</text>'
