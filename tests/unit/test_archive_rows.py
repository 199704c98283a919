"""The COPY buffer: byte for byte what psycopg itself would send."""

import struct
from datetime import UTC, datetime, timedelta

import numpy as np
import psycopg
from hypothesis import given
from hypothesis import strategies as st
from psycopg import adapt, pq

from ingest.rows import TIME_US_END, build, storable
from sizao.frame import Frame, heartbeat

NOW_US = 1_772_352_000_123_456
HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)
TRAILER = b"\xff\xff"
TYPES = ("timestamptz", "timestamptz", "int4", "float4", "int2")


def frame(point, event_us, value, flags, received_us=NOW_US):
    return Frame(
        point=np.array(point, np.uint32),
        event_us=np.array(event_us, np.int64),
        value=np.array(value, np.float32),
        flags=np.array(flags, np.uint8),
        received_us=received_us,
        generation=1,
        writer="b0.telemetry",
        sequence=1,
    )


def as_time(us):
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=us)


def by_psycopg(rows):
    """The same rows by psycopg's own binary dumpers."""
    transformer = adapt.Transformer()
    oids = [psycopg.adapters.types[name].oid for name in TYPES]
    transformer.set_dumper_types(oids, pq.Format.BINARY)
    out = bytearray(HEADER)
    for row in rows:
        out += struct.pack(">h", len(row))
        for item in transformer.dump_sequence(row, [adapt.PyFormat.BINARY] * len(row)):
            out += struct.pack(">i", len(item)) + bytes(item)
    return bytes(out + TRAILER)


READING = st.tuples(
    st.integers(0, 2**31 - 1),
    st.integers(0, TIME_US_END - 1),
    st.floats(width=32, allow_nan=False, allow_infinity=False),
    st.integers(0, 255),
)
FRAME = st.tuples(st.integers(0, TIME_US_END - 1), st.lists(READING, max_size=6))


@given(st.lists(FRAME, max_size=4))
def test_bytes_are_those_of_psycopg(said):
    frames = [
        frame(*([column[i] for column in rows] for i in range(4)), received_us=received_us)
        for received_us, rows in said
    ]
    expected = by_psycopg(
        (as_time(received_us), as_time(event_us), point, float(np.float32(value)), flags)
        for received_us, rows in said
        for point, event_us, value, flags in rows
    )
    rows = build(frames)
    assert bytes(rows.buffer) == expected
    assert (rows.count, rows.refused) == (sum(len(rows) for _, rows in said), 0)


def test_golden():
    rows = build([frame([7], [NOW_US - 1], [21.5], [8])])
    assert rows.buffer.hex() == (
        "5047434f50590aff0d0a00" "00000000" "00000000"  # signature, flags, extension
        "0005"
        "00000008" "0002eef0a02a8240"
        "00000008" "0002eef0a02a823f"
        "00000004" "00000007"
        "00000004" "41ac0000"
        "00000002" "0008"
        "ffff"
    )  # fmt: skip


def test_no_rows_is_still_a_whole_copy():
    assert bytes(build([]).buffer) == HEADER + TRAILER
    beat = heartbeat(received_us=NOW_US, generation=1, writer="b0.alarm", sequence=1)
    assert bytes(build([beat, beat]).buffer) == HEADER + TRAILER


def test_what_no_column_can_hold_is_left_out_and_its_neighbours_stay():
    rows = build(
        [
            frame([1, 2**31, 3, 4], [0, NOW_US, -1, TIME_US_END - 1], [1, 2, 3, 4], [0, 0, 0, 0]),
            frame([5, 6], [TIME_US_END, NOW_US], [5, 6], [0, 0]),
        ]
    )
    assert (rows.count, rows.refused) == (3, 3)
    fine = by_psycopg(
        (as_time(NOW_US), as_time(event_us), point, float(point), 0)
        for point, event_us in ((1, 0), (4, TIME_US_END - 1), (6, NOW_US))
    )
    assert bytes(rows.buffer) == fine


def test_arrival_must_fit_too():
    assert storable(frame([], [], [], [], received_us=TIME_US_END - 1))
    assert not storable(frame([], [], [], [], received_us=TIME_US_END))
