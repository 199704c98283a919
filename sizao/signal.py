"""The signal: what a detector says about a subject. Second of the two wire contracts.

A Kafka record in CloudEvents binary mode: `ce_*` headers and a JSON value (`Signal`), `crc` header
as in a frame. Ids are hashes of what they name, so a replay writes the same ids again and every
reader can be idempotent:

    onset id  = hash(rule, version, subject, tier, onset time, self-test)   one raise, all of it
    record id = hash(onset id, phase, event minute)                         one record

A higher tier is an onset of its own, at once, never a refresh of the lower one. So is an alarm that
a device says in the second in which it says that it is tested: under one id it was dropped as seen.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable
from datetime import UTC, datetime
from enum import StrEnum

import msgspec

from sizao import frame, topics
from sizao.errors import BadRecord
from sizao.units import BY_NAME

VERSION = 1
CE_TYPE = "cn.sizao.signal.v1"
CE_SCHEMA = "urn:sizao:signal:1"
BYTES_MAX = 64 * 1024
EVIDENCE_KEYS_MAX = 32
EVIDENCE_LIST_MAX = 64
NAME_CHARS_MAX = 128  # of a rule and of a subject: both stand in indexes, whose rows are bounded
ID_MAX = 2**31 - 1  # registry ids are PostgreSQL integers: one record beyond it would end alert
MINUTE_US = 60_000_000
DIGEST_BYTES = 16


class Kind(StrEnum):
    """What is the matter. The first five are incidents; the rest slow work orders."""

    FIRE = "fire"
    GAS = "gas"
    CO = "co"
    UNREAD = "unread"
    SYSTEM = "system"
    ELECTRICAL = "electrical"
    WATER = "water"
    SUPERVISORY = "supervisory"
    SHIELDED = "shielded"
    FAULT = "fault"
    OFFLINE = "offline"
    TAMPER = "tamper"


class Tier(StrEnum):
    """How sure and how pressing, rising."""

    EARLY = "early"
    ALARM = "alarm"
    URGENT = "urgent"

    @property
    def rank(self) -> int:
        """0, 1, 2: for comparing."""
        return _RANK[self]


_RANK = {Tier.EARLY: 0, Tier.ALARM: 1, Tier.URGENT: 2}


class Phase(StrEnum):
    """Where an onset stands: begun, still on (at most one record each minute), over."""

    RAISE = "raise"
    REFRESH = "refresh"
    CLEAR = "clear"


DEVICE_SAYS: dict[int, tuple[Kind, Tier]] = {
    BY_NAME["fire_state"].code: (Kind.FIRE, Tier.ALARM),
    BY_NAME["call_point_state"].code: (Kind.FIRE, Tier.URGENT),
    BY_NAME["gas_state"].code: (Kind.GAS, Tier.ALARM),
    BY_NAME["co_state"].code: (Kind.CO, Tier.ALARM),
    BY_NAME["tamper_state"].code: (Kind.TAMPER, Tier.ALARM),
    BY_NAME["flow_state"].code: (Kind.WATER, Tier.ALARM),
    BY_NAME["electrical_state"].code: (Kind.ELECTRICAL, Tier.ALARM),
    BY_NAME["arc_state"].code: (Kind.ELECTRICAL, Tier.URGENT),
}
"""What a device means when it says ALARM, by quantity code: the rule `direct`, and the hand-over
past Kafka, which has to give the same ids.
"""
HOLD_S = 600
"""A device counts as alarming for so long after its last alarm message."""


class SubjectType(StrEnum):
    """What a signal speaks about."""

    POINT = "point"
    ZONE = "zone"
    DEVICE = "device"
    CARRIER = "carrier"
    STAGE = "stage"


class SignalFault(StrEnum):
    """Why a record is not a signal: the closed label of every reader's counter."""

    UNREADABLE = "unreadable"  # without a value: a tombstone, or damaged (sizao.records)
    TOO_LARGE = "too_large"
    CRC_MISSING = "crc_missing"
    CRC_WRONG = "crc_wrong"
    HEADERS = "headers"
    NOT_JSON = "not_json"
    BOUNDS = "bounds"
    ID = "id"


class Subject(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Registry id (point, zone, device), carrier name or stage name, as text."""

    type: SubjectType
    id: str


Evidence = dict[str, float | int | str | bool | list[float]]
"""Why: values, baseline, limit, quantity, unit... Times are `*_us`; numbers are finite."""


class Signal(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One record. Times in microseconds UTC.

    `onset_us`: event time of the raise; `event_us`: of this record; `received_us`: the log's clock
    when it was said. `site` and `device` are registry ids (0 where there is none). `late`: the
    deciding reading came more than a minute after its event. `self_test`: the device says that it
    is tested; `alert` decides the nature from it.
    """

    onset: str
    id: str
    rule: str
    rule_version: int
    kind: Kind
    tier: Tier
    phase: Phase
    subject: Subject
    site: int
    device: int
    onset_us: int
    event_us: int
    received_us: int
    generation: int
    late: bool
    self_test: bool
    evidence: Evidence
    version: int = VERSION


def digest(*parts: str | int) -> str:
    """32 hex digits (BLAKE2b-128) over the parts, each with its length, so no two lists collide."""
    hasher = hashlib.blake2b(digest_size=DIGEST_BYTES)
    for part in parts:
        data = str(part).encode()
        hasher.update(b"%d:" % len(data))
        hasher.update(data)
    return hasher.hexdigest()


def onset_id(
    rule: str, rule_version: int, subject: Subject, tier: Tier, onset_us: int, *, self_test: bool
) -> str:
    """Identity of one raise."""
    what = (rule, rule_version, subject.type, subject.id, tier, onset_us, int(self_test))
    return digest("onset", *what)


def record_id(onset: str, phase: Phase, event_us: int) -> str:
    """Identity of one record of an onset; a refresh repeats at most each event minute."""
    return digest("signal", onset, phase, event_us // MINUTE_US)


def make(
    *,
    rule: str,
    rule_version: int,
    kind: Kind,
    tier: Tier,
    phase: Phase,
    subject: Subject,
    site: int,
    device: int,
    onset_us: int,
    event_us: int,
    received_us: int,
    generation: int,
    evidence: Evidence,
    late: bool = False,
    self_test: bool = False,
) -> Signal:
    """A signal with its ids computed."""
    onset = onset_id(rule, rule_version, subject, tier, onset_us, self_test=self_test)
    return Signal(
        onset=onset,
        id=record_id(onset, phase, event_us),
        rule=rule,
        rule_version=rule_version,
        kind=kind,
        tier=tier,
        phase=phase,
        subject=subject,
        site=site,
        device=device,
        onset_us=onset_us,
        event_us=event_us,
        received_us=received_us,
        generation=generation,
        late=late,
        self_test=self_test,
        evidence=evidence,
    )


# So that 5,000 offline signals never stand before a fire, slow kinds have their own topic. What is
# wrong with ourselves is little, and told when it may be the cause of those 5,000.
_FAST = {
    Kind.FIRE, Kind.GAS, Kind.CO, Kind.UNREAD, Kind.SYSTEM, Kind.ELECTRICAL, Kind.WATER,
    Kind.TAMPER,
}  # fmt: skip


def topic_of(kind: Kind) -> topics.Topic:
    """Signals or conditions."""
    return topics.SIGNALS if kind in _FAST else topics.CONDITIONS


_encoder = msgspec.json.Encoder(order="deterministic")
_decoder = msgspec.json.Decoder(Signal)


def encode(signal: Signal) -> bytes:
    """Bytes of the Kafka value; equal signals give equal bytes."""
    value = _encoder.encode(signal)
    assert len(value) <= BYTES_MAX
    return value


def headers(signal: Signal, value: bytes, process: str = "detect") -> list[tuple[str, bytes]]:
    """CloudEvents attributes (Kafka binding, binary mode) and the crc. `process`: who says it."""
    time = datetime.fromtimestamp(signal.event_us / 1e6, UTC).isoformat()
    return [
        ("ce_specversion", b"1.0"),
        ("ce_id", signal.id.encode()),
        ("ce_source", f"/sizao/{process}/{signal.rule}".encode()),
        ("ce_type", CE_TYPE.encode()),
        ("ce_time", time.encode()),
        ("ce_dataschema", CE_SCHEMA.encode()),
        ("content-type", b"application/json"),
        (frame.CRC_HEADER, frame.crc(value)),
    ]


def decode(value: bytes | None, record_headers: Iterable[tuple[str, bytes]]) -> Signal:
    """Read a Kafka record. Raises BadRecord with a SignalFault; never anything else."""
    if value is None:
        raise BadRecord(SignalFault.UNREADABLE, "no value")
    if len(value) > BYTES_MAX:
        raise BadRecord(SignalFault.TOO_LARGE, f"{len(value)} bytes, {BYTES_MAX} fit")
    said = dict(record_headers)
    frame.check_crc(value, said.items())
    if said.get("ce_type") != CE_TYPE.encode():
        raise BadRecord(SignalFault.HEADERS, f"ce_type {said.get('ce_type')!r}, not {CE_TYPE}")
    signal = _decoded(value)
    _check(signal, said.get("ce_id") or b"")  # Kafka's headers may be null
    return signal


def _decoded(value: bytes) -> Signal:
    if len(value) > BYTES_MAX:
        raise BadRecord(SignalFault.TOO_LARGE, f"{len(value)} bytes, {BYTES_MAX} fit")
    try:
        return _decoder.decode(value)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise BadRecord(SignalFault.NOT_JSON, str(error)[:200]) from error


def _check(signal: Signal, ce_id: bytes) -> None:
    if signal.version != VERSION:
        raise BadRecord(SignalFault.HEADERS, f"version {signal.version}, not {VERSION}")
    times = (signal.onset_us, signal.event_us, signal.received_us, signal.generation)
    if not all(0 <= time < 1 << 62 for time in times) or len(signal.evidence) > EVIDENCE_KEYS_MAX:
        raise BadRecord(SignalFault.BOUNDS, f"times {times}, {len(signal.evidence)} evidence keys")
    ids = (signal.site, signal.device, signal.rule_version)
    if not all(0 <= number <= ID_MAX for number in ids):
        raise BadRecord(SignalFault.BOUNDS, f"site, device, rule version {ids}: 0 to {ID_MAX} fit")
    names = (signal.rule, signal.subject.id)
    if any(len(name) > NAME_CHARS_MAX for name in names):
        raise BadRecord(SignalFault.BOUNDS, f"rule or subject: {NAME_CHARS_MAX} characters fit")
    for name, item in signal.evidence.items():
        numbers = item if isinstance(item, list) else [item]
        if len(numbers) > EVIDENCE_LIST_MAX:
            raise BadRecord(SignalFault.BOUNDS, f"evidence {name}: {len(numbers)} values")
        if any(isinstance(number, float) and not math.isfinite(number) for number in numbers):
            raise BadRecord(SignalFault.BOUNDS, f"evidence {name} is not finite")
    what = (signal.rule, signal.rule_version, signal.subject, signal.tier, signal.onset_us)
    onset = onset_id(*what, self_test=signal.self_test)
    expected = record_id(onset, signal.phase, signal.event_us)
    if (signal.onset, signal.id, ce_id.decode("latin-1")) != (onset, expected, expected):
        raise BadRecord(SignalFault.ID, f"id {signal.id} is not the hash of its content")


HANDED_SIGNALS_MAX = 500
"""Of one request of the hand-over: what alert stores in one transaction."""
HANDED_BYTES_MAX = 1 << 20
"""Of its body: more than 500 signals of the rules that are handed over."""
HANDED_PATH = "/handover"


class _Handed(msgspec.Struct, frozen=True, kw_only=True):
    version: int
    signals: list[msgspec.Raw]


_handed = msgspec.json.Decoder(_Handed)


def encode_handed(signals: Iterable[Signal]) -> bytes:
    """Body of a request that hands signals over past Kafka; equal signals give equal bytes."""
    return b'{"version":%d,"signals":[%b]}' % (VERSION, b",".join(map(encode, signals)))


def decode_handed(body: bytes) -> tuple[list[Signal], list[BadRecord]]:
    """Signals of such a body, and what is wrong with the others: one never costs its neighbours.

    Raises BadRecord with a SignalFault when it is no such body.
    """
    try:
        handed = _handed.decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise BadRecord(SignalFault.NOT_JSON, str(error)[:200]) from error
    if handed.version != VERSION:
        raise BadRecord(SignalFault.HEADERS, f"version {handed.version}, not {VERSION}")
    if len(handed.signals) > HANDED_SIGNALS_MAX:
        fault = f"{len(handed.signals)} signals, {HANDED_SIGNALS_MAX} fit"
        raise BadRecord(SignalFault.TOO_LARGE, fault)
    found, faults = [], []
    for raw in handed.signals:
        try:
            signal = _decoded(bytes(raw))
            _check(signal, signal.id.encode())
        except BadRecord as error:
            faults.append(error)
        else:
            found.append(signal)
    return found, faults
