"""Dead letters: what could not be read, byte for byte, with its reason, in `sizao.rejects.v1`.

Value: the payload as it came. Header names follow the dead-letter habit (`dlt-*`) where it has one.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from ingest.decode import Decoded
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
DUP = "sizao-dup"
STORED = "sizao-stored"

STORED_ROW = np.dtype([("point", "<u4"), ("event_us", "<i8")])
"""One reading that the same message gave all the same: replayed, it must not become two."""
STORED_MAX = 10_000  # rows: 120 kB; a batch that gave more leaves the header out

PAYLOAD_MAX = 1_536 * 1024
"""Bytes of one that is kept. A record has 2 MiB at most, any topic, `STORED` and the rest included.
Mosquitto as we set it up sends less; a broker that sends more (mqtt.packet_bytes_max) would end the
bridge for good.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reject:
    """One dead letter. `arrived_us`: microseconds UTC; `device`: 0 where it is not known.

    `count`: how many messages it stands for; above 1 only where one tells of a flood. `dup`: the
    broker said that it had sent it before. `stored`: the readings that came of it beside what was
    refused, as STORED_ROW; None where nobody knows.
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
    dup: bool
    stored: bytes | None
    count: int = 1


def partition_of(carrier: str, partitions: int) -> int:
    """All of a carrier's rejects lie in one partition."""
    return zlib.crc32(carrier.encode()) % partitions


def stored_of(decoded: Decoded) -> list[bytes | None]:
    """Of each refused message the readings that it gave all the same, as STORED_ROW; None where
    there are too many to be said.
    """
    if not decoded.refused:
        return []
    rows = np.empty(len(decoded.point), STORED_ROW)
    rows["point"], rows["event_us"] = decoded.point, decoded.event_us
    said = rows.tobytes()
    messages = [refused.message for refused in decoded.refused]
    starts, ends = (np.searchsorted(decoded.message, messages, side) for side in ("left", "right"))
    size = STORED_ROW.itemsize
    return [
        said[start * size : end * size] if end - start <= STORED_MAX else None
        for start, end in zip(starts.tolist(), ends.tolist(), strict=True)
    ]


def record(
    message: Message,
    refused: Refused,
    *,
    lane: Lane,
    bridge: str,
    partitions: int,
    stored: bytes | None,
    count: int = 1,
) -> Outgoing:
    """The Kafka record of one refused message. A payload of PAYLOAD_MAX and any topic fit; what is
    longer is cut, which its detail says.
    """
    carrier, payload, detail = carrier_of(message.topic), message.payload, refused.detail
    if len(payload) > PAYLOAD_MAX:
        detail = f"the first {PAYLOAD_MAX} of {len(payload)} bytes; {detail}"
        payload = payload[:PAYLOAD_MAX]
    return Outgoing(
        topic=topics.REJECTS.name,
        partition=partition_of(carrier, partitions),
        value=payload,
        headers=[
            (frame.CRC_HEADER, frame.crc(payload)),
            (REASON, refused.reason.encode()),
            (DETAIL, detail.encode()),
            (TOPIC, message.topic),
            (ARRIVED, b"%d" % message.arrived_us),
            (CARRIER, carrier.encode()),
            (LANE, lane.encode()),
            (DEVICE, b"%d" % refused.device),
            (BRIDGE, bridge.encode()),
            *([(COUNT, b"%d" % count)] if count > 1 else []),
            *([(DUP, b"1")] if message.dup else []),
            *([] if stored is None else [(STORED, stored)]),
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
            dup=DUP in said,
            stored=_whole_rows(said.get(STORED)),
        )
    except (KeyError, ValueError) as error:
        raise BadRecord(frame.FrameFault.METADATA, f"reject headers: {error!r}") from error


def _whole_rows(stored: bytes | None) -> bytes | None:
    """Raises ValueError where it is not whole rows."""
    if stored is not None:
        np.frombuffer(stored, STORED_ROW)
    return stored
