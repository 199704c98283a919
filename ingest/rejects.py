"""Dead letters: what could not be read, byte for byte, with its reason, in `sizao.rejects.v1`.

Value: the payload as it came. Header names follow the dead-letter habit (`dlt-*`) where it has one.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from dataclasses import dataclass

from ingest.device_types.reasons import Reason
from ingest.mqtt.message import Message
from ingest.refused import Refused
from ingest.routes import carrier_of
from sizao import frame, topics
from sizao.errors import BadRecord
from sizao.kafka import Outgoing
from sizao.units import Lane

REASON = "dlt-reason"
DETAIL = "dlt-exception"
TOPIC = "dlt-original-topic"
ARRIVED = "dlt-original-timestamp"
CARRIER = "sizao-carrier"
LANE = "sizao-lane"
DEVICE = "sizao-device"
BRIDGE = "sizao-bridge"
COUNT = "sizao-count"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reject:
    """One dead letter. `arrived_us`: microseconds UTC; `device`: 0 where it is not known.

    `count`: how many messages it stands for; above 1 only where one tells of a flood.
    """

    payload: bytes
    reason: Reason
    detail: str
    topic: bytes
    arrived_us: int
    carrier: str
    lane: Lane
    device: int
    bridge: str
    count: int = 1


def partition_of(carrier: str, partitions: int) -> int:
    """All of a carrier's rejects lie in one partition."""
    return zlib.crc32(carrier.encode()) % partitions


def record(
    message: Message,
    refused: Refused,
    *,
    lane: Lane,
    bridge: str,
    partitions: int,
    count: int = 1,
) -> Outgoing:
    """The Kafka record of one refused message. A payload of 1 MiB and any topic fit."""
    carrier = carrier_of(message.topic)
    return Outgoing(
        topic=topics.REJECTS.name,
        partition=partition_of(carrier, partitions),
        value=message.payload,
        headers=[
            (frame.CRC_HEADER, frame.crc(message.payload)),
            (REASON, refused.reason.encode()),
            (DETAIL, refused.detail.encode()),
            (TOPIC, message.topic),
            (ARRIVED, b"%d" % message.arrived_us),
            (CARRIER, carrier.encode()),
            (LANE, lane.encode()),
            (DEVICE, b"%d" % refused.device),
            (BRIDGE, bridge.encode()),
            *([(COUNT, b"%d" % count)] if count > 1 else ()),
        ],
        timestamp_ms=message.arrived_us // 1000,
    )


def read(value: bytes | None, headers: Iterable[tuple[str, bytes]]) -> Reject:
    """Read a dead letter. Raises BadRecord when it is none of ours or is damaged."""
    said = dict(headers)
    payload = value or b""
    frame.check_crc(payload, said.items())
    try:
        return Reject(
            payload=payload,
            reason=Reason(said[REASON].decode()),
            detail=said[DETAIL].decode(),
            topic=said[TOPIC],
            arrived_us=int(said[ARRIVED]),
            carrier=said[CARRIER].decode(),
            lane=Lane(said[LANE].decode()),
            device=int(said[DEVICE]),
            bridge=said[BRIDGE].decode(),
            count=int(said.get(COUNT, b"1")),
        )
    except (KeyError, ValueError) as error:
        raise BadRecord(frame.FrameFault.METADATA, f"reject headers: {error!r}") from error
