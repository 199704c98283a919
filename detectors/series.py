"""What detect shows on /metrics."""

from __future__ import annotations

from detectors.begin import Gap
from detectors.snapshot import Refusal
from detectors.state import Discard, State
from sizao.frame import Frame, FrameFault
from sizao.metrics import Metrics
from sizao.signal import Kind, Phase, Signal


class Series:
    """Every label value is made at start (style S18)."""

    def __init__(self, metrics: Metrics) -> None:
        """Registers all series."""
        self.frames = metrics.counter("frames", "frames folded, heartbeats too")
        self.rows = metrics.counter("rows", "readings folded")
        self.skipped = metrics.reasons(
            "records_skipped", "records that are no frames", "reason", FrameFault
        )
        self.discards = metrics.reasons("rows_discarded", "rows not judged", "reason", Discard)
        self.signals = {
            phase: metrics.reasons(f"signals_{phase}", f"signals said: {phase}", "kind", Kind)
            for phase in Phase
        }
        self.gaps = metrics.reasons("gaps", "wanted offsets not in the log", "reason", Gap)
        self.generations_missed = metrics.counter(
            "generations_missed", "generations that frames carried and the registry did not bring"
        )
        self.parameters_ignored = metrics.gauge(
            "parameters_ignored", "rows of parameters that the rules of this program do not take"
        )
        self.commits_failed = metrics.counter("commits_failed", "offset commits that failed")
        self.snapshots_failed = metrics.counter("snapshots_failed", "snapshots not written")
        self.snapshots_refused = metrics.reasons(
            "snapshots_refused", "snapshots passed over at start", "reason", Refusal
        )
        self.seconds = metrics.seconds(
            "signal_seconds", "from the arrival of the deciding frame to Kafka's acknowledgement"
        )

    def count(self, state: State, frame: Frame) -> None:
        """A frame went into a fold; takes the fold's discards over."""
        self.frames.inc()
        self.rows.inc(frame.rows)
        for reason, rows in state.discards.items():
            self.discards.add(reason, rows)
        state.discards.clear()

    def said(self, signal: Signal, now_us: int) -> None:
        """A signal was acknowledged."""
        self.signals[signal.phase].add(signal.kind)
        if signal.phase is Phase.RAISE:
            self.seconds.observe(max(0.0, (now_us - signal.received_us) / 1e6))
