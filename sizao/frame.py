"""The frame: a columnar batch of readings, one Kafka record. First of the two wire contracts.

Value: an Arrow IPC stream of one record batch with the columns of `SCHEMA`; the schema's metadata
carry version, `received_us`, registry generation, writer and sequence. Header `crc`: CRC-32 of the
value as eight lower-case hex digits; every reader checks it, because about a quarter of bit-flipped
Arrow frames decode as valid ones. Any Arrow reader (DuckDB, Spark, Flink) reads the value as it is.

A frame without rows is a heartbeat: its writer listened until `received_us` and heard nothing.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntFlag, StrEnum
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from sizao.errors import BadRecord

VERSION = 1
ROWS_MAX = 40_000  # 17 bytes a row: 680 kB, below BYTES_MAX
BYTES_MAX = 900_000  # below Kafka's default record limit of 1 MB with room for its headers
WRITER_BYTES_MAX = 64
CRC_HEADER = "crc"
_END_OF_STREAM = b"\xff\xff\xff\xff\0\0\0\0"

SCHEMA = pa.schema(
    [
        pa.field("point", pa.uint32(), nullable=False),
        pa.field("event_us", pa.int64(), nullable=False),
        pa.field("value", pa.float32(), nullable=False),
        pa.field("flags", pa.uint8(), nullable=False),
    ]
)


class Flag(IntFlag):
    """What the bridge knows about one reading's time and delivery."""

    LATE = 1  # its event time lay more than a minute before its arrival
    REDELIVERED = 2  # MQTT said DUP: the same message may have come before
    CLOCK_CORRECTED = 4  # the device's time was unbelievable, arrival stands instead
    NO_DEVICE_TIME = 8  # the payload had none, arrival stands instead


class FrameFault(StrEnum):
    """Why a record is not a frame: the closed label of every reader's counter."""

    UNREADABLE = "unreadable"  # without a value: a tombstone, or damaged (sizao.records)
    TOO_LARGE = "too_large"
    CRC_MISSING = "crc_missing"
    CRC_WRONG = "crc_wrong"
    NOT_ARROW = "not_arrow"
    SCHEMA = "schema"
    METADATA = "metadata"
    VERSION = "version"
    ROWS = "rows"
    NOT_FINITE = "not_finite"


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """Readings of one writer, one topic and one partition; columns of equal length.

    `received_us` is the writer's clock when it closed the frame (microseconds UTC, never going
    back); `writer` is bridge id and lane (`b0.alarm`); `sequence` grows by one with each frame of
    that writer and never restarts lower.
    """

    point: npt.NDArray[np.uint32]
    event_us: npt.NDArray[np.int64]
    value: npt.NDArray[np.float32]
    flags: npt.NDArray[np.uint8]
    received_us: int
    generation: int
    writer: str
    sequence: int

    @property
    def rows(self) -> int:
        """Number of readings."""
        return len(self.point)


def heartbeat(*, received_us: int, generation: int, writer: str, sequence: int) -> Frame:
    """An empty frame: the writer is listening."""
    return Frame(
        point=np.empty(0, np.uint32),
        event_us=np.empty(0, np.int64),
        value=np.empty(0, np.float32),
        flags=np.empty(0, np.uint8),
        received_us=received_us,
        generation=generation,
        writer=writer,
        sequence=sequence,
    )


def encode(frame: Frame) -> bytes:
    """Bytes of the Kafka value. Asserts the bounds: the bridge splits before it encodes."""
    assert frame.rows <= ROWS_MAX
    assert np.isfinite(frame.value).all()
    schema = SCHEMA.with_metadata(
        {
            b"sizao.frame": str(VERSION).encode(),
            b"received_us": str(frame.received_us).encode(),
            b"generation": str(frame.generation).encode(),
            b"writer": frame.writer.encode(),
            b"sequence": str(frame.sequence).encode(),
        }
    )
    batch = pa.record_batch([frame.point, frame.event_us, frame.value, frame.flags], schema=schema)
    # What a stream writer writes, at half the cost.
    value = b"".join((schema.serialize(), batch.serialize(), _END_OF_STREAM))
    assert len(value) <= BYTES_MAX
    return value


def crc(value: bytes) -> bytes:
    """Content of the `crc` header."""
    return b"%08x" % zlib.crc32(value)


def headers(value: bytes) -> list[tuple[str, bytes]]:
    """Kafka headers of an encoded frame."""
    return [(CRC_HEADER, crc(value))]


def check_crc(value: bytes, record_headers: Iterable[tuple[str, bytes]]) -> None:
    """Raise BadRecord unless the `crc` header stands and fits."""
    said = dict(record_headers).get(CRC_HEADER)
    if said is None:
        raise BadRecord(FrameFault.CRC_MISSING, "no crc header; not written by Sizao")
    if said != crc(value):
        raise BadRecord(FrameFault.CRC_WRONG, f"header {said!r}, content {crc(value)!r}")


def decode(value: bytes | None, record_headers: Iterable[tuple[str, bytes]]) -> Frame:
    """Read a Kafka record; columns are read-only views into `value`.

    Raises BadRecord with a FrameFault for anything that is not a whole, undamaged frame.
    """
    if value is None:
        raise BadRecord(FrameFault.UNREADABLE, "no value")
    if len(value) > BYTES_MAX:
        raise BadRecord(FrameFault.TOO_LARGE, f"{len(value)} bytes, {BYTES_MAX} fit")
    check_crc(value, record_headers)
    try:
        stream = pa.ipc.open_stream(value)
        schema = stream.schema
        # Names are decoded only when asked for, so a damaged one raises here and not above.
        names, ours = schema.names, schema.equals(SCHEMA, check_metadata=False)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise BadRecord(FrameFault.NOT_ARROW, str(error)[:200]) from error
    if not ours:
        raise BadRecord(FrameFault.SCHEMA, f"columns {names}")
    received_us, generation, writer, sequence = _metadata(schema.metadata or {})
    point, event_us, value_column, flags = _columns(stream)
    if not np.isfinite(value_column).all():
        raise BadRecord(FrameFault.NOT_FINITE, "a value is NaN or infinite")
    return Frame(
        point=point,
        event_us=event_us,
        value=value_column,
        flags=flags,
        received_us=received_us,
        generation=generation,
        writer=writer,
        sequence=sequence,
    )


def _metadata(metadata: dict[bytes, bytes]) -> tuple[int, int, str, int]:
    version = metadata.get(b"sizao.frame")
    if version != str(VERSION).encode():
        raise BadRecord(FrameFault.VERSION, f"version {version!r}, this reader knows {VERSION}")
    try:
        received_us, generation, sequence = (
            int(metadata[key]) for key in (b"received_us", b"generation", b"sequence")
        )
        writer = metadata[b"writer"].decode()
    except (KeyError, ValueError) as error:
        raise BadRecord(FrameFault.METADATA, repr(error)[:200]) from error
    in_range = 0 <= received_us < 1 << 62 and 0 <= generation < 1 << 62 and 0 <= sequence < 1 << 62
    if not in_range or not 0 < len(writer) <= WRITER_BYTES_MAX:
        raise BadRecord(FrameFault.METADATA, f"{received_us=} {generation=} {sequence=} {writer=}")
    return received_us, generation, writer, sequence


def _columns(stream: pa.RecordBatchStreamReader) -> list[npt.NDArray[Any]]:
    """Views of the columns of the only batch."""
    try:
        batch = stream.read_next_batch()
        more = next(iter(stream), None)
        batch.validate(full=True)
    except (pa.ArrowException, OSError, ValueError, StopIteration) as error:
        raise BadRecord(FrameFault.NOT_ARROW, str(error)[:200]) from error
    if more is not None or batch.num_rows > ROWS_MAX:
        raise BadRecord(FrameFault.ROWS, f"one batch of at most {ROWS_MAX} rows expected")
    columns = batch.columns
    if any(column.null_count for column in columns):
        raise BadRecord(FrameFault.SCHEMA, "a column holds nulls")
    return [column.to_numpy(zero_copy_only=True) for column in columns]
