"""One tick of a lane as values: the records to write, what to acknowledge after that, the counts.

Changes nothing but the lane's own `Desk` (sequence, what was told, when each partition was last
written); waits for nothing, reads no clock.

Heartbeats are paced by monotonic time: the rising clock stands still while it is ahead of the wall,
and paced by that one they stopped until the wall had caught up.
"""

from __future__ import annotations

import itertools
import math
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from ingest import rejects, unread
from ingest.decode import Decoded, shielded
from ingest.device_types.reasons import Reason
from ingest.entries import Ints
from ingest.mqtt.message import Message
from ingest.noisy import Excess, Noisy
from ingest.refused import Fault, Refused
from ingest.routes import District, Leads
from ingest.unread import Unread
from sizao import frame, topics
from sizao.frame import ROWS_MAX, Frame
from sizao.kafka import Outgoing
from sizao.units import Lane

HEARTBEAT_S = 1.0
MESSAGES_MAX = 10_000
BYTES_MAX = 1 << 20
"""Of one plan, so much of the loop that both lanes share: bounded by messages alone, 10,000 batches
of 50 readings took it for 0.97 s."""
SPAN_US = 1_000_000
"""Of one plan, by arrival. A frame bears the arrival of its newest message, and what waited for
Kafka through an outage is to bear its own, not that of the return: else a person's decision in
between would look older than what it was about.
"""

# A temperature beside a fire state came over the alarm connection and goes to the readings.
WRITES = {Lane.ALARM: (topics.ALARMS, topics.READINGS), Lane.TELEMETRY: (topics.READINGS,)}


@dataclass(slots=True, kw_only=True)
class Desk:
    """What one lane remembers from tick to tick. `bridge` and lane name its frames' writer.

    `noisy`: never of the alarm lane, where whatever a device says is let pass. `received_us`: of
    the newest frame.
    """

    bridge: str
    lane: Lane
    sequence: int
    unread: Unread = field(default_factory=Unread)
    noisy: Noisy | None = None
    received_us: int = 0
    written_s: dict[tuple[str, int], float] = field(default_factory=dict)

    @property
    def writer(self) -> str:
        """The frames' writer."""
        return f"{self.bridge}.{self.lane}"


@dataclass(slots=True, kw_only=True)
class Plan:
    """What to do, in this order.

    1. Write `records` and wait until Kafka has acknowledged every one.
    2. Acknowledge `messages`, in the order in which they came.
    3. Count.

    Killed after 1: the broker sends the messages again, marked as such. `decoded` is what the
    messages in `heard` said: those that are not too many (ingest/noisy.py).
    """

    records: list[Outgoing]
    messages: Sequence[Message]
    heard: Sequence[Message]
    decoded: Decoded
    readings: int = 0
    frames: int = 0
    rejects: Counter[Reason] = field(default_factory=Counter)
    unread: int = 0
    unread_signals: int = 0
    late_rows: int = 0
    redelivered: int = 0
    corrected_device: Ints = field(default_factory=lambda: np.empty(0, np.int32))
    corrected_us: npt.NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))


def cut(messages: Sequence[Message], share: float = 1.0) -> int:
    """How many of these, from the first, make one plan; one at least. `share` of the bounds."""
    first = messages[: max(int(MESSAGES_MAX * share), 1)]
    if first and first[-1].arrived_us - first[0].arrived_us > SPAN_US:
        until_us = first[0].arrived_us + SPAN_US
        first = first[: bisect_right(first, until_us, key=lambda one: one.arrived_us)]
    sizes = [len(message.payload) + len(message.topic) for message in first]
    fit = bisect_right([*itertools.accumulate(sizes)], BYTES_MAX * share)
    return max(fit, min(len(first), 1))


def plan(
    desk: Desk,
    district: District,
    messages: Sequence[Message],
    stamp: Callable[[], int],
    *,
    now_s: float,
    listening: bool,
    backlog: bool = False,
) -> Plan:
    """Plan one tick. `stamp` gives the next instant of the bridge's rising clock; `now_s` is
    monotonic.

    `listening`: the lane hears its broker, so a partition without a frame gets a heartbeat.
    `backlog`: more has come already, so even a heartbeat must not speak of now.
    """
    heard, leads, excess = _admitted(desk, district, messages, now_s, listening=listening)
    decoded = shielded(district, desk.lane, heard, leads)
    effects = Plan(records=[], messages=messages, heard=heard, decoded=decoded)
    effects.readings = len(decoded.point)
    newest_us = messages[-1].arrived_us if messages else 0
    _frames(desk, district, decoded, newest_us, now_s, effects)
    if listening:
        _heartbeats(desk, district, newest_us if backlog else stamp(), now_s, effects)
    _tell_excess(desk, district, excess, len(messages) - len(heard), effects)
    for refused, stored in zip(decoded.refused, rejects.stored_of(decoded), strict=True):
        message = heard[refused.message]
        effects.records.append(
            rejects.record(
                message,
                refused,
                lane=desk.lane,
                bridge=desk.bridge,
                partitions=district.view.partitions,
                stored=stored,
            )
        )
        effects.rejects.update(dict.fromkeys((fault.reason for fault in refused.faults), 1))
        if desk.lane is Lane.ALARM and refused.unread:
            said = desk.unread.tell(district, message, refused)
            effects.unread += 1
            effects.unread_signals += len(said)
            effects.records += [unread.record(district, one) for one in said]
    effects.late_rows = int(np.count_nonzero(decoded.flags & int(frame.Flag.LATE)))
    effects.redelivered = [message.dup for message in messages].count(True)
    effects.corrected_device, effects.corrected_us = decoded.corrected_device, decoded.corrected_us
    return effects


def _admitted(
    desk: Desk, district: District, messages: Sequence[Message], now_s: float, *, listening: bool
) -> tuple[Sequence[Message], Leads, list[Excess]]:
    """The messages to decode, where they lead, and what to tell of the others."""
    leads = district.leads(desk.lane, messages)
    if desk.noisy is None:
        return messages, leads, []
    kept, excess = desk.noisy.admit(
        district, desk.lane, messages, now_s, leads=leads, listening=listening
    )
    if len(kept) < len(messages):
        return [messages[place] for place in kept.tolist()], leads[kept], excess
    return messages, leads, excess


def _tell_excess(
    desk: Desk, district: District, excess: list[Excess], unheard: int, effects: Plan
) -> None:
    """What was not decoded: counted one by one, told at most once a minute and offender."""
    if unheard:
        effects.rejects[Reason.TOO_OFTEN] += unheard
    for one in excess:
        fault = Fault(Reason.TOO_OFTEN, f"{one.count} messages not decoded", one.device)
        effects.records.append(
            rejects.record(
                one.message,
                Refused(0, (fault,), whole=True, devices=()),
                lane=desk.lane,
                bridge=desk.bridge,
                partitions=district.view.partitions,
                stored=b"",
                count=one.count,
            )
        )


def _frames(
    desk: Desk,
    district: District,
    decoded: Decoded,
    newest_us: int,
    now_s: float,
    effects: Plan,
) -> None:
    """One frame per topic and partition, split at the frame's bound."""
    if not len(decoded.point):
        return
    place = decoded.partition * 2 + decoded.alarm
    order = place.argsort(kind="stable")
    point, event_us = decoded.point.take(order).astype(np.uint32), decoded.event_us.take(order)
    value, flags = decoded.value.take(order), decoded.flags.take(order)
    counts, end = np.bincount(place).tolist(), 0
    for number, count in enumerate(counts):
        first, end = end, end + count
        topic = topics.ALARMS if number % 2 else topics.READINGS
        for start in range(first, end, ROWS_MAX):
            some = slice(start, min(start + ROWS_MAX, end))
            one = Frame(
                point=point[some],
                event_us=event_us[some],
                value=value[some],
                flags=flags[some],
                received_us=_received_us(desk, newest_us),
                generation=district.view.generation,
                writer=desk.writer,
                sequence=_next(desk),
            )
            _write(desk, effects, topic.name, number // 2, one, now_s)


def _heartbeats(desk: Desk, district: District, at_us: int, now_s: float, effects: Plan) -> None:
    for topic in WRITES[desk.lane]:
        for partition in range(district.view.partitions):
            if now_s < _due_s(desk, topic.name, partition):
                continue
            one = frame.heartbeat(
                received_us=_received_us(desk, at_us),
                generation=district.view.generation,
                writer=desk.writer,
                sequence=_next(desk),
            )
            _write(desk, effects, topic.name, partition, one, now_s)


def heartbeat_due_s(desk: Desk, partitions: int) -> float:
    """When the next partition of the lane will have been without a frame for a second."""
    return min(
        _due_s(desk, topic.name, partition)
        for topic in WRITES[desk.lane]
        for partition in range(partitions)
    )


def _due_s(desk: Desk, topic: str, partition: int) -> float:
    return desk.written_s.get((topic, partition), -math.inf) + HEARTBEAT_S


def _received_us(desk: Desk, at_us: int) -> int:
    """Rising, whatever is written."""
    desk.received_us = max(desk.received_us + 1, at_us)
    return desk.received_us


def _next(desk: Desk) -> int:
    desk.sequence += 1
    return desk.sequence


def _write(desk: Desk, effects: Plan, topic: str, partition: int, one: Frame, now_s: float) -> None:
    value = frame.encode(one)
    desk.written_s[topic, partition] = now_s
    effects.frames += 1
    effects.records.append(
        Outgoing(
            topic=topic,
            partition=partition,
            value=value,
            headers=frame.headers(value),
            timestamp_ms=one.received_us // 1000,
        )
    )
