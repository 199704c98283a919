"""The frame: a columnar batch of readings, one Kafka record. First of the two wire contracts.

Value: an Arrow IPC stream of one record batch with the columns of `SCHEMA`; the schema's metadata
carry version, `received_us`, registry generation, writer and sequence. Header `crc`: CRC-32 of the
value as eight lower-case hex digits; every reader checks it, because about a quarter of bit-flipped
Arrow frames decode as valid ones. Any Arrow reader (DuckDB, Spark, Flink) reads the value as it is.

A frame without rows is a heartbeat: its writer listened until `received_us` and heard nothing.

What precedes the columns is the same from frame to frame but for a few digits and the number of
rows. So it is taken from pyarrow once and filled in; a reader knows such a frame byte for byte, and
asks pyarrow about any other: 4 instead of 19 us to write 50 readings, 8 instead of 34 to read them,
and four partitions pay that each tick, in processes that find their caches cold.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntFlag, StrEnum
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from sizao.errors import BadRecord

VERSION = 1
ROWS_MAX = 40_000  # 17 bytes a row: 680 kB, below BYTES_MAX
BYTES_MAX = 900_000  # below Kafka's default record limit of 1 MB with room for its headers
WRITER_BYTES_MAX = 64
_NUMBER_END = 1 << 62  # of what the metadata counts
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
    rows = frame.rows
    assert rows <= ROWS_MAX
    assert np.isfinite(frame.value).all()
    received_us, sequence = b"%d" % frame.received_us, b"%d" % frame.sequence
    head = _head(frame.writer, frame.generation, len(received_us), len(sequence))
    columns: list[npt.NDArray[Any]] = [frame.point, frame.event_us, frame.value, frame.flags]
    assert [len(column) for column in columns] == [rows] * len(columns)
    assert [column.dtype for column in columns] == _TYPES
    parts = [head.first, sequence, head.middle, received_us, head.last, _batch_head(rows)]
    for column in columns:
        parts += [column.tobytes(), _PADDING[column.nbytes % _ALIGNED]]
    parts.append(_END_OF_STREAM)
    value = b"".join(parts)
    assert len(value) <= BYTES_MAX
    return value


# --- what precedes the columns -----------------------------------------------------------------

_ALIGNED = 8
_PADDING = [b"\0" * (-size % _ALIGNED) for size in range(_ALIGNED)]
_TYPES = [np.dtype(kind) for kind in (np.uint32, np.int64, np.float32, np.uint8)]
_HEADS_MAX = 256  # of a writer and generation each; a bridge has one or two, a reader all bridges'


class _Head(NamedTuple):
    """The schema as Arrow writes it, cut where `sequence` and `received_us` stand."""

    first: bytes
    middle: bytes
    last: bytes
    sequence_at: int
    middle_at: int
    received_at: int
    last_at: int
    end: int
    generation: int
    writer: str


@lru_cache(maxsize=_HEADS_MAX)
def _head(writer: str, generation: int, received_digits: int, sequence_digits: int) -> _Head:
    """The place of a text in Arrow's bytes is that of its length and content behind one another."""
    received_us, sequence = b"8" * received_digits, b"9" * sequence_digits
    schema = SCHEMA.with_metadata(
        {
            b"sizao.frame": b"%d" % VERSION,
            b"received_us": received_us,
            b"generation": b"%d" % generation,
            b"writer": writer.encode(),
            b"sequence": sequence,
        }
    )
    text: bytes = schema.serialize().to_pybytes()
    sequence_at = text.index(_counted(sequence)) + _COUNT
    received_at = text.rindex(_counted(received_us)) + _COUNT
    middle_at, last_at = sequence_at + sequence_digits, received_at + received_digits
    return _Head(
        first=text[:sequence_at], middle=text[middle_at:received_at], last=text[last_at:],
        sequence_at=sequence_at, middle_at=middle_at, received_at=received_at, last_at=last_at,
        end=len(text), generation=generation, writer=writer,
    )  # fmt: skip


_COUNT = 4  # bytes of a text's length


def _counted(text: bytes) -> bytes:
    return len(text).to_bytes(_COUNT, "little") + text


@lru_cache(maxsize=4096)
def _batch_head(rows: int) -> bytes:
    """What Arrow writes between the schema and the columns: it depends on their length alone."""
    columns = [np.zeros(rows, kind) for kind in _TYPES]
    whole: bytes = pa.record_batch(columns, schema=SCHEMA).serialize().to_pybytes()
    return whole[: len(whole) - _body(rows)]


def _body(rows: int) -> int:
    """Bytes of the columns, each padded."""
    return sum(-(-rows * kind.itemsize // _ALIGNED) * _ALIGNED for kind in _TYPES)


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
    frame = _known(value)
    if frame is None:
        frame = _any(value)
        _learn(value, frame)
    if not np.isfinite(frame.value).all():
        raise BadRecord(FrameFault.NOT_FINITE, "a value is NaN or infinite")
    return frame


def _any(value: bytes) -> Frame:
    """By pyarrow: whoever wrote it."""
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
    in_range = all(0 <= one < _NUMBER_END for one in (received_us, generation, sequence))
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


# --- frames that are known by their bytes --------------------------------------------------------

_KNOWN_MAX = 64  # heads of which a frame came lately: two for each bridge
_known_heads: tuple[_Head, ...] = ()
_ROWS_AT = _batch_head(ROWS_MAX).index(ROWS_MAX.to_bytes(8, "little"))


def _learn(value: bytes, frame: Frame) -> None:
    """Remember the head of a frame that is written as we write it."""
    global _known_heads  # noqa: PLW0603 - a cache: what stands in it changes no answer
    head = _head(
        frame.writer, frame.generation, len(b"%d" % frame.received_us), len(b"%d" % frame.sequence)
    )
    if value.startswith(head.first) and head not in _known_heads:
        _known_heads = (head, *_known_heads[: _KNOWN_MAX - 1])


def _known(value: bytes) -> Frame | None:
    """A frame whose every byte before the columns is one that we would have written, else None."""
    for head in _known_heads:
        if (
            value.startswith(head.last, head.last_at)
            and value.startswith(head.middle, head.middle_at)
            and value.startswith(head.first)
        ):
            break
    else:
        return None
    sequence = value[head.sequence_at : head.middle_at]
    received_us = value[head.received_at : head.last_at]
    rows = _rows(value, head.end)
    if rows < 0 or not _in_range(sequence) or not _in_range(received_us):
        return None
    start, columns = head.end + len(_batch_head(rows)), []
    for kind in _TYPES:
        columns.append(np.frombuffer(value, kind, rows, start))
        start += -(-rows * kind.itemsize // _ALIGNED) * _ALIGNED
    point, event_us, value_column, flags = columns
    return Frame(
        point=point,
        event_us=event_us,
        value=value_column,
        flags=flags,
        received_us=int(received_us),
        generation=head.generation,
        writer=head.writer,
        sequence=int(sequence),
    )


def _in_range(digits: bytes) -> bool:
    return digits.isdigit() and int(digits) < _NUMBER_END


def _rows(value: bytes, start: int) -> int:
    """How many the batch at `start` has, if it is the only one and whole; else -1."""
    for rows in (int.from_bytes(value[start + _ROWS_AT : start + _ROWS_AT + 8], "little"), 0):
        if (
            rows <= ROWS_MAX
            and value.startswith(_batch_head(rows), start)
            and value.endswith(_END_OF_STREAM)
            and len(value) == start + len(_batch_head(rows)) + _body(rows) + len(_END_OF_STREAM)
        ):
            return rows
    return -1
