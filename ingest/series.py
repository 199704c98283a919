"""The bridge's series, per lane; every label value made at start."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ingest.device_types.reasons import Reason
from ingest.plan import Plan
from sizao.metrics import Metrics
from sizao.units import Lane


class LaneSeries:
    """What one lane counts. Counts are taken when Kafka has what is counted."""

    def __init__(self, metrics: Metrics, lane: Lane) -> None:
        """Names begin with the lane: `sizao_bridge_alarm_messages_total`."""

        def name(what: str) -> str:
            return f"{lane}_{what}"

        self.messages = metrics.counter(name("messages"), "acknowledged towards the broker or dead")
        self.readings = metrics.counter(name("readings"), "rows written to Kafka")
        self.frames = metrics.counter(name("frames"), "frames written, heartbeats included")
        self.rejects = metrics.reasons(name("rejects"), "refusals by reason", "reason", Reason)
        self.unread = metrics.counter(
            name("unread"), "messages of which something that can say an alarm could not be read"
        )
        self.unread_signals = metrics.counter(
            name("unread_signals"), "signals that told of them: at most one a minute and subject"
        )
        self.late = metrics.counter(name("late"), "rows over a minute old when they came")
        self.redelivered = metrics.counter(
            name("redelivered"), "messages that the broker sent again"
        )
        self.retained = metrics.counter(
            name("retained"), "messages dropped: kept by a broker of MQTT 3.1.1, not said now"
        )
        self.clock_corrected = metrics.counter(
            name("clock_corrected"), "entries whose device clock was not believed"
        )
        self.stale_acks = metrics.counter(
            name("stale_acks"), "acknowledgements dropped because their connection had died"
        )
        self.sessions_lost = metrics.counter(
            name("sessions_lost"), "reconnects on which the broker had forgotten the session"
        )
        self.connects = metrics.counter(name("connects"), "connections made to the broker")
        self.pauses = metrics.counter(name("pauses"), "times that reading stopped at a bound")
        self.leaves = metrics.counter(name("leaves"), "disconnects on purpose after a long pause")
        self.held_messages = metrics.gauge(name("held_messages"), "read and not yet acknowledged")
        self.held_bytes = metrics.gauge(name("held_bytes"), "their payloads")
        self.not_looked_at = metrics.counter(
            name("not_looked_at"), "messages that a slip of ours kept from the hand-over"
        )
        self.kafka_wait = metrics.seconds(name("kafka_wait_seconds"), "until Kafka acknowledged")
        self.tick_late = metrics.seconds(name("tick_late_seconds"), "how late a tick began")

    def written(self, effects: Plan) -> None:
        """Kafka has it all."""
        self.messages.inc(len(effects.messages))
        self.readings.inc(effects.readings)
        self.frames.inc(effects.frames)
        self.unread.inc(effects.unread)
        self.unread_signals.inc(effects.unread_signals)
        self.late.inc(effects.late_rows)
        self.redelivered.inc(effects.redelivered)
        self.clock_corrected.inc(len(effects.corrected_device))
        for reason, count in effects.rejects.items():
            self.rejects.add(reason, count)


class ClockErrors:
    """By device id: how often its clock was not believed, and how far it was off the last time."""

    def __init__(self) -> None:
        """Grows with the registry."""
        self.count: npt.NDArray[np.uint32] = np.zeros(0, np.uint32)
        self.last_us: npt.NDArray[np.int64] = np.zeros(0, np.int64)

    def note(self, device: npt.NDArray[np.int32], off_us: npt.NDArray[np.int64]) -> None:
        """Count one tick's corrections."""
        if not len(device):
            return
        missing = int(device.max()) + 1 - len(self.count)
        if missing > 0:
            self.count = np.pad(self.count, (0, missing))
            self.last_us = np.pad(self.last_us, (0, missing))
        np.add.at(self.count, device, 1)
        self.last_us[device] = off_us

    def shown(self, keys: Sequence[str], worst_max: int = 10) -> dict[str, object]:
        """For `/readyz`: how many devices, and those that were corrected most often.

        `keys`: device key by id, of a registry that is not older than what was noted.
        """
        worst = np.arange(len(self.count))
        if len(worst) > worst_max:  # 6 ms of the loop at 400,000 devices; sorting all takes 30
            worst = np.argpartition(self.count, -worst_max)[-worst_max:]
        worst = worst[np.argsort(self.count[worst])[::-1]]
        return {
            "devices": int(np.count_nonzero(self.count)),
            "worst": [
                {
                    "device": keys[device],
                    "corrected": int(self.count[device]),
                    "last_off_s": round(int(self.last_us[device]) / 1e6, 3),
                }
                for device in worst.tolist()
                if self.count[device]
            ],
        }
