"""An alarm-lane payload that nobody can decode or place is a signal, never just a reject.

One onset per subject (the device, or the carrier where no device is known) while it goes on: a
raise at once, then at most one refresh a minute. After ten quiet minutes the next is a new onset,
as with a device that alarms. A batch tells of each of its devices, for they stand at many sites.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field

from ingest.mqtt.message import Message
from ingest.refused import Refused
from ingest.routes import District, carrier_of
from sizao import signal, topics
from sizao.kafka import Outgoing
from sizao.signal import MINUTE_US, Kind, Phase, Signal, Subject, SubjectType, Tier
from sizao.units import Lane

RULE = "unread"
RULE_VERSION = 1
QUIET_US = 10 * MINUTE_US
SUBJECTS_MAX = 10_000  # the oldest is forgotten first, and would raise again: never silence
DEVICES_MAX = 64  # of one payload told one by one; their carrier tells of the rest
_SUBJECT_MAX = 128  # characters; a carrier's name comes from the topic, which anyone may invent
_SHOWN_BYTES = 64
_SHOWN_TOPIC = 200


@dataclass(slots=True)
class Onset:
    """One subject that cannot be read: since when, when last, when told, how many since then."""

    began_us: int
    last_us: int
    told_us: int
    count: int = 0


@dataclass(slots=True)
class Unread:
    """What was raised and goes on; bounded by SUBJECTS_MAX, the oldest word first."""

    onsets: OrderedDict[Subject, Onset] = field(default_factory=OrderedDict)

    def tell(self, district: District, message: Message, refused: Refused) -> list[Signal]:
        """The signals to write for one unread message; [] when its minute has been told."""
        parts = refused.by_device(DEVICES_MAX)
        said = [self._tell(district, message, part) for part in parts]
        return [one for one in said if one is not None]

    def _tell(self, district: District, message: Message, refused: Refused) -> Signal | None:
        subject = _subject(message, refused)
        now_us = message.arrived_us
        onset = self.onsets.get(subject)
        if onset is not None and now_us - onset.last_us > QUIET_US:
            onset = None
        phase = Phase.RAISE if onset is None else Phase.REFRESH
        if onset is None:
            onset = self.onsets[subject] = Onset(now_us, now_us, now_us)
        self.onsets.move_to_end(subject)
        while len(self.onsets) > SUBJECTS_MAX:
            self.onsets.popitem(last=False)
        onset.last_us = now_us
        onset.count += 1
        if phase is Phase.REFRESH and now_us // MINUTE_US <= onset.told_us // MINUTE_US:
            return None
        onset.told_us = now_us
        count, onset.count = onset.count, 0
        return _signal(district, message, refused, subject, phase, onset.began_us, count)


def _subject(message: Message, refused: Refused) -> Subject:
    if refused.device:
        return Subject(type=SubjectType.DEVICE, id=str(refused.device))
    return Subject(type=SubjectType.CARRIER, id=carrier_of(message.topic)[:_SUBJECT_MAX])


def _signal(
    district: District,
    message: Message,
    refused: Refused,
    subject: Subject,
    phase: Phase,
    onset_us: int,
    count: int,
) -> Signal:
    head = message.payload[:_SHOWN_BYTES]
    return signal.make(
        rule=RULE,
        rule_version=RULE_VERSION,
        kind=Kind.UNREAD,
        tier=Tier.ALARM,
        phase=phase,
        subject=subject,
        site=district.site_of(refused.device, carrier_of(message.topic)),
        device=refused.device,
        onset_us=onset_us,
        event_us=message.arrived_us,
        received_us=message.arrived_us,
        generation=district.view.generation,
        evidence={
            "reason": str(refused.reason),
            "detail": refused.detail,
            "count": count,
            "devices": len(refused.devices),
            "topic": message.topic[:_SHOWN_TOPIC].decode(errors="backslashreplace"),
            "lane": str(Lane.ALARM),
            "bytes": len(message.payload),
            "payload_hex": head.hex(),
            "payload_text": head.decode(errors="backslashreplace"),
        },
    )


def record(district: District, said: Signal) -> Outgoing:
    """The Kafka record of a signal: in the partition of its site, 0 where there is none."""
    value = signal.encode(said)
    area = district.view.areas.get(said.site)
    return Outgoing(
        topic=topics.SIGNALS.name,
        partition=max(area.partition, 0) if area else 0,
        key=said.subject.id.encode(errors="backslashreplace"),
        value=value,
        headers=signal.headers(said, value, "bridge"),
        timestamp_ms=said.received_us // 1000,
    )
