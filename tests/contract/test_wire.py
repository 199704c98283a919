"""The two wire contracts: golden bytes stay readable, damage is refused, nothing crashes."""

import base64
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from sizao import frame, signal
from sizao.errors import BadRecord

GOLDEN = json.loads((Path(__file__).parents[1] / "data" / "wire.json").read_text("utf-8"))


def small_frame(**changes) -> frame.Frame:
    fields = {
        "point": np.array([1, 70_000, 7], np.uint32),
        "event_us": np.array([1_772_352_000_000_000, 0, 1_772_352_000_500_000], np.int64),
        "value": np.array([21.5, -40.25, 54.0], np.float32),
        "flags": np.array([0, frame.Flag.LATE | frame.Flag.REDELIVERED, 8], np.uint8),
        "received_us": 1_772_352_001_000_000,
        "generation": 12,
        "writer": "b0.alarm",
        "sequence": 99,
    }
    return frame.Frame(**(fields | changes))


def same(one: frame.Frame, other: frame.Frame) -> bool:
    columns = ("point", "event_us", "value", "flags")
    plain = ("received_us", "generation", "writer", "sequence")
    return all(
        np.array_equal(getattr(one, name), getattr(other, name)) for name in columns
    ) and all(getattr(one, name) == getattr(other, name) for name in plain)


def a_signal(**changes) -> signal.Signal:
    fields = {
        "rule": "heat_rise",
        "rule_version": 1,
        "kind": signal.Kind.FIRE,
        "tier": signal.Tier.ALARM,
        "phase": signal.Phase.RAISE,
        "subject": signal.Subject(type=signal.SubjectType.POINT, id="70000"),
        "site": 42,
        "device": 17,
        "onset_us": 1_772_352_000_000_000,
        "event_us": 1_772_352_000_000_000,
        "received_us": 1_772_352_001_000_000,
        "generation": 12,
        "evidence": {"value_c": 27.5, "baseline_c": 21.25, "samples_c": [27.0, 27.5], "warm": True},
    }
    return signal.make(**(fields | changes))


@pytest.mark.parametrize("version", sorted(GOLDEN["frames"]))
def test_golden_frames_stay_readable(version):
    record = GOLDEN["frames"][version]
    value = base64.b64decode(record["value"])
    found = frame.decode(value, [("crc", record["crc"].encode())])
    assert same(found, small_frame())


@pytest.mark.parametrize("version", sorted(GOLDEN["signals"]))
def test_golden_signals_stay_readable_and_keep_their_ids(version):
    record = GOLDEN["signals"][version]
    headers = [(name, text.encode()) for name, text in record["headers"].items()]
    assert signal.decode(record["value"].encode(), headers) == a_signal()


def test_ids_are_fixed_for_ever():
    # Written down once. A change here doubles every open incident on the day it is installed.
    made = a_signal()
    assert made.onset == GOLDEN["ids"]["onset"]
    assert made.id == GOLDEN["ids"]["record"]
    tested = a_signal(self_test=True)
    assert len({made.onset, tested.onset}) == len({made.id, tested.id}) == 2
    assert signal.digest("a", "bc") != signal.digest("ab", "c")


@given(
    rows=st.integers(0, 50),
    received_us=st.integers(0, (1 << 62) - 1),
    sequence=st.integers(0, (1 << 62) - 1),
    writer=st.text(min_size=1, max_size=16),
    data=st.data(),
)
def test_frames_round_trip(rows, received_us, sequence, writer, data):
    finite = st.floats(width=32, allow_nan=False, allow_infinity=False)
    written = small_frame(
        point=data.draw(hnp.arrays(np.uint32, rows)),
        event_us=data.draw(hnp.arrays(np.int64, rows)),
        value=data.draw(hnp.arrays(np.float32, rows, elements=finite)),
        flags=data.draw(hnp.arrays(np.uint8, rows)),
        received_us=received_us,
        sequence=sequence,
        writer=writer,
    )
    value = frame.encode(written)
    assert same(frame.decode(value, frame.headers(value)), written)


def written_by_pyarrow(one: frame.Frame) -> bytes:
    """An Arrow stream of one batch, by nobody's hand."""
    plain = ("received_us", "generation", "writer", "sequence")
    metadata = {"sizao.frame": str(frame.VERSION)}
    metadata |= {name: str(getattr(one, name)) for name in plain}
    columns = [getattr(one, name) for name in frame.SCHEMA.names]
    batch = pa.record_batch(columns, schema=frame.SCHEMA.with_metadata(metadata))
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    return sink.getvalue().to_pybytes()


@pytest.mark.parametrize("rows", [0, 1, 2, 7, 8, 9, 4_001, frame.ROWS_MAX])
@pytest.mark.parametrize(("received_us", "sequence"), [(0, 0), (9_876, (1 << 62) - 1), (88, 99)])
def test_a_frame_is_what_pyarrow_writes_byte_for_byte(rows, received_us, sequence):
    one = small_frame(
        point=np.arange(rows, dtype=np.uint32),
        event_us=np.arange(rows, dtype=np.int64),
        value=np.arange(rows, dtype=np.float32),
        flags=np.arange(rows).astype(np.uint8),
        received_us=received_us,
        sequence=sequence,
    )
    value = frame.encode(one)
    assert value == written_by_pyarrow(one)
    assert pa.ipc.open_stream(value).read_all().column("value").to_pylist() == one.value.tolist()
    for _ in range(2):  # by pyarrow, and known by its bytes
        assert same(frame.decode(value, frame.headers(value)), one)


def outcome(value: bytes) -> frame.Frame | str:
    try:
        return frame.decode(value, frame.headers(value))
    except BadRecord as error:
        return error.reason


def test_a_frame_known_by_its_bytes_says_what_pyarrow_reads(monkeypatch):
    """Whatever is damaged: the short way gives the same rows, or the same refusal."""
    value = frame.encode(small_frame())
    outcome(value)  # from now on its head is known
    whole = frame.encode(small_frame(sequence=98, received_us=5 * 10**15))
    damaged = [whole, *flips(whole), whole[:-1], whole + b"x", whole[:-8] + whole]
    known = [one for one in damaged if frame._known(one) is not None]
    assert len(damaged) * 0.05 < len(known) < len(damaged) * 0.5, "both ways are gone"
    short = [outcome(one) for one in damaged]
    monkeypatch.setattr(frame, "_known", lambda _: None)
    for one, other in zip(short, [outcome(one) for one in damaged], strict=True):
        assert one == other if isinstance(other, str) else same(one, other)


@given(
    tier=st.sampled_from(signal.Tier),
    phase=st.sampled_from(signal.Phase),
    kind=st.sampled_from(signal.Kind),
    event_us=st.integers(0, (1 << 50)),
    evidence=st.dictionaries(
        st.text(max_size=20),
        st.one_of(
            st.floats(allow_nan=False, allow_infinity=False),
            st.integers(-(1 << 53), 1 << 53),
            st.text(max_size=20),
            st.booleans(),
            st.lists(st.floats(allow_nan=False, allow_infinity=False), max_size=8),
        ),
        max_size=8,
    ),
)
def test_signals_round_trip(tier, phase, kind, event_us, evidence):
    made = a_signal(tier=tier, phase=phase, kind=kind, event_us=event_us, evidence=evidence)
    value = signal.encode(made)
    found = signal.decode(value, signal.headers(made, value))
    assert found == made
    assert signal.encode(found) == value


def flips(value: bytes):
    for bit in range(len(value) * 8):
        damaged = bytearray(value)
        damaged[bit // 8] ^= 1 << bit % 8
        yield bytes(damaged)


def test_no_flipped_bit_of_a_frame_passes():
    value = frame.encode(small_frame())
    headers = frame.headers(value)
    refused = 0
    for damaged in flips(value):
        with pytest.raises(BadRecord):
            frame.decode(damaged, headers)
        refused += 1
    assert refused == len(value) * 8


def test_no_flipped_bit_crashes_even_with_a_right_crc():
    """Not only the crc stands between damage and a crash of the reader."""
    reasons = set()
    for damaged in flips(frame.encode(small_frame())):
        try:
            frame.decode(damaged, frame.headers(damaged))
        except BadRecord as error:
            reasons.add(error.reason)
    assert reasons <= set(frame.FrameFault)
    assert len(reasons) >= 3


def test_no_flipped_bit_of_a_signal_passes():
    made = a_signal()
    value = signal.encode(made)
    headers = signal.headers(made, value)
    for damaged in flips(value):
        with pytest.raises(BadRecord):
            signal.decode(damaged, headers)


def arrow(table: dict, metadata: dict | None = None) -> bytes:
    batch = pa.record_batch(table)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema.with_metadata(metadata)) as stream:
        stream.write_batch(batch)
    return sink.getvalue().to_pybytes()


def columns(value: float = 1.0) -> dict:
    schema = frame.SCHEMA
    data = {"point": [1], "event_us": [1], "value": [value], "flags": [0]}
    return {name: pa.array(data[name], schema.field(name).type) for name in schema.names}


GOOD = {"sizao.frame": "1", "received_us": "1", "generation": "1", "writer": "b", "sequence": "1"}


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (b"", "not_arrow"),
        (b"hello", "not_arrow"),
        (b'{"temperature": 21}', "not_arrow"),
        (arrow({"x": [1]}), "schema"),
        (arrow({**columns(), "more": [1]}), "schema"),
        (arrow(columns(), {}), "schema"),  # our columns forbid nulls, these do not
    ],
)
def test_foreign_records_are_refused_with_a_reason(value, reason):
    with pytest.raises(BadRecord) as refusal:
        frame.decode(value, frame.headers(value))
    assert refusal.value.reason == reason


@pytest.mark.parametrize(
    ("metadata", "reason"),
    [
        ({}, "version"),
        (GOOD | {"sizao.frame": "2"}, "version"),
        (GOOD | {"received_us": "yesterday"}, "metadata"),
        (GOOD | {"received_us": "-1"}, "metadata"),
        (GOOD | {"writer": "x" * 65}, "metadata"),
        ({key: text for key, text in GOOD.items() if key != "sequence"}, "metadata"),
    ],
)
def test_bad_metadata_is_refused_with_a_reason(metadata, reason):
    batch = pa.record_batch(list(columns().values()), schema=frame.SCHEMA)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, frame.SCHEMA.with_metadata(metadata)) as stream:
        stream.write_batch(batch)
    value = sink.getvalue().to_pybytes()
    with pytest.raises(BadRecord) as refusal:
        frame.decode(value, frame.headers(value))
    assert refusal.value.reason == reason


def test_a_frame_without_crc_or_of_two_batches_or_with_nan_is_refused():
    value = frame.encode(small_frame())
    with pytest.raises(BadRecord, match="crc_missing"):
        frame.decode(value, [])
    with pytest.raises(BadRecord, match="too_large"):
        frame.decode(b"x" * (frame.BYTES_MAX + 1), [])
    with pytest.raises(BadRecord, match="unreadable"):
        frame.decode(None, [])
    for batches, number, reason in ((2, 1.0, "rows"), (0, 1.0, "not_arrow"), (1, np.nan, "not_f")):
        batch = pa.record_batch(list(columns(number).values()), schema=frame.SCHEMA)
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, frame.SCHEMA.with_metadata(GOOD)) as stream:
            for _ in range(batches):
                stream.write_batch(batch)
        value = sink.getvalue().to_pybytes()
        with pytest.raises(BadRecord, match=reason):
            frame.decode(value, frame.headers(value))


def resealed(made: signal.Signal, edit) -> tuple[bytes, list[tuple[str, bytes]]]:
    """A forged record: changed content under a right crc."""
    data = json.loads(signal.encode(made))
    edit(data)
    value = json.dumps(data).encode()
    return value, signal.headers(made, value)


@pytest.mark.parametrize(
    ("edit", "reason"),
    [
        (lambda data: data.update(tier="urgent"), "id"),
        (lambda data: data.update(event_us=data["event_us"] + signal.MINUTE_US), "id"),
        (lambda data: data.update(version=2), "headers"),
        (lambda data: data.update(kind="flood"), "not_json"),
        (lambda data: data.update(extra=1), "not_json"),
        (lambda data: data.update(received_us=-1), "bounds"),
        (lambda data: data.update(site=-1), "bounds"),
        (lambda data: data.update(device=1 << 31), "bounds"),
        (lambda data: data.update(generation=1 << 62), "bounds"),
        (lambda data: data.update(rule_version=1 << 31), "bounds"),
        (lambda data: data.update(evidence={str(n): 1 for n in range(33)}), "bounds"),
        (lambda data: data.update(evidence={"a": [1.0] * 65}), "bounds"),
        (lambda data: data.update(rule="r" * 129), "bounds"),
        (lambda data: data.update(subject={"type": "carrier", "id": "c" * 129}), "bounds"),
    ],
)
def test_forged_signals_are_refused_with_a_reason(edit, reason):
    with pytest.raises(BadRecord) as refusal:
        signal.decode(*resealed(a_signal(), edit))
    assert refusal.value.reason == reason


def test_a_header_without_a_value_is_refused_with_a_reason():
    """Kafka allows null header values: one such record ended every reader, again and again."""
    value = signal.encode(a_signal())
    good = dict(signal.headers(a_signal(), value))
    for name, reason in (("ce_id", "id"), ("ce_type", "headers"), ("crc", "crc_missing")):
        with pytest.raises(BadRecord) as refusal:
            signal.decode(value, (good | {name: None}).items())
        assert refusal.value.reason == reason


def test_a_full_frame_fits_its_bounds():
    rows = frame.ROWS_MAX
    value = frame.encode(
        small_frame(
            point=np.zeros(rows, np.uint32),
            event_us=np.zeros(rows, np.int64),
            value=np.zeros(rows, np.float32),
            flags=np.zeros(rows, np.uint8),
            writer="w" * frame.WRITER_BYTES_MAX,
        )
    )
    assert len(value) <= frame.BYTES_MAX
    assert frame.decode(value, frame.headers(value)).rows == rows
