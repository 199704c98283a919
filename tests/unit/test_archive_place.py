"""Where the archive stands: what a record, a shorter log or an expired one does to it."""

from dataclasses import dataclass, replace

import numpy as np

from ingest import archive_place as places
from ingest.archive import shard_of
from ingest.archive_batch import Batch
from ingest.archive_place import Gap, Place, Start
from ingest.rows import TIME_US_END
from sizao import frame
from sizao.frame import Frame, FrameFault

NOW_US = 1_772_352_000_000_000
MINUTE_US = 60_000_000


@dataclass
class Record:
    offset: int
    value: bytes | None
    headers: list
    topic: str = "sizao.readings.v1"
    partition: int = 0


def record(offset, *, writer="b0.telemetry", sequence=None, received_us=NOW_US, rows=1):
    content = Frame(
        point=np.arange(1, rows + 1, dtype=np.uint32),
        event_us=np.full(rows, received_us),
        value=np.zeros(rows, np.float32),
        flags=np.zeros(rows, np.uint8),
        received_us=received_us,
        generation=1,
        writer=writer,
        sequence=offset if sequence is None else sequence,
    )
    value = frame.encode(content)
    return Record(offset, value, frame.headers(value))


def place(next_offset, **changes):
    return replace(Place(next_offset=next_offset, writers={}), **changes)


READ = place(10, writer="b0.telemetry", sequence=9, received_us=NOW_US)


def test_reading_begins_at_the_frame_that_was_stored_last():
    assert places.start(READ, 0, 20) == Start(seek=9, check=True)
    assert places.start(READ, 0, 10) == Start(seek=9, check=True)


def test_nothing_to_check_after_a_bad_record_at_the_start_or_where_it_expired():
    assert places.start(place(10), 0, 20) == Start(seek=10)
    assert places.start(place(0), 0, 0) == Start(seek=0)
    assert places.start(READ, 10, 20) == Start(seek=10)


def test_a_log_that_does_not_fit_is_told():
    assert places.start(READ, 11, 20) == Start(seek=11, gap=Gap.EXPIRED)
    assert places.start(READ, 0, 9) == Start(seek=9, gap=Gap.SHORTER)


def test_another_frame_in_the_same_place_is_told():
    assert places.same(READ, record(9))
    assert not places.same(READ, record(9, sequence=8))
    assert not places.same(READ, record(9, writer="b1.telemetry"))
    assert not places.same(READ, Record(9, b"x", []))


def test_a_frame_moves_the_place_and_gives_its_rows():
    after, found, reason = places.advance(place(5), record(5, rows=3))
    assert (found.rows, reason) == (3, "")
    assert after == place(
        6, writer="b0.telemetry", sequence=5, received_us=NOW_US, writers={"b0.telemetry": 5}
    )


def test_a_bad_record_moves_the_place_alone():
    after, found, reason = places.advance(READ, Record(10, b"x", []))
    assert (found, reason) == (None, FrameFault.CRC_MISSING)
    assert after == replace(READ, next_offset=11, writer="", sequence=0)


def test_a_frame_from_beyond_the_table_s_time_is_refused():
    after, found, reason = places.advance(READ, record(10, received_us=TIME_US_END))
    assert (found, reason, after.received_us) == (None, places.OUT_OF_BOUNDS, NOW_US)


def test_repair_leaves_out_what_is_stored_until_it_has_passed_it():
    stored = replace(READ, writers={"b0.telemetry": 9, "b1.telemetry": 100})
    now = places.repaired(stored, 4)
    assert now.next_offset == 4
    assert places.repair_from_ms(stored) == (NOW_US - 5 * MINUTE_US) // 1000

    now, found, reason = places.advance(now, record(4, sequence=9))
    assert (found, reason) == (None, places.STORED_BEFORE)
    now, found, _ = places.advance(now, record(5, sequence=10))
    assert found is not None
    now, found, _ = places.advance(now, record(6, writer="b1.telemetry", sequence=100))
    assert found is None
    now, found, _ = places.advance(now, record(7, writer="b2.telemetry", sequence=1))
    assert found is not None
    assert now.repair is not None

    late = NOW_US + 5 * MINUTE_US + 1
    now, found, _ = places.advance(now, record(8, sequence=9, received_us=late))
    assert found is None, "what is stored ends no repair, whatever its clock said"
    now, found, _ = places.advance(now, record(9, sequence=11, received_us=late))
    assert found is not None
    assert now.repair is None
    now, found, _ = places.advance(now, record(10, sequence=2, received_us=late))
    assert found is not None, "after the repair nothing is left out"
    assert now.writers == {"b0.telemetry": 11, "b1.telemetry": 100, "b2.telemetry": 1}


def test_writers_are_bounded():
    crowd = place(0, writers={f"b{n}.telemetry": n for n in range(1, places.WRITERS_MAX + 1)})
    after, _, _ = places.advance(crowd, record(0, writer="new.telemetry", sequence=10**6))
    assert len(after.writers) == places.WRITERS_MAX
    assert "b1.telemetry" not in after.writers


def test_a_batch_moves_from_where_the_database_stands():
    pair = ("sizao.readings.v1", 0)
    batch = Batch(places={pair: place(5)})
    assert batch.take(record(5, rows=2)) == ""
    assert batch.take(record(6, rows=0)) == ""
    assert batch.take(Record(7, None, [])) == FrameFault.UNREADABLE
    assert (batch.rows, len(batch.frames)) == (2, 1)
    move = batch.moves()[pair]
    assert (move.expected, move.place.next_offset) == (5, 8)
    batch.stored()
    assert batch.moves() == {}
    batch.take(record(8, rows=0))
    assert batch.moves()[pair].expected == 8


def test_hours_are_those_of_the_frames_and_the_next():
    pair = ("sizao.readings.v1", 0)
    batch = Batch(places={pair: place(0)})
    batch.take(record(0, received_us=3_600_000_000 * 7))
    assert batch.hours(3_600_000_000 * 9 - 1) == {7, 8, 9}


def test_shards_share_the_partitions():
    whole = shard_of("0/1", 4)
    assert len(whole) == 8
    assert sorted(shard_of("0/3", 4) + shard_of("1/3", 4) + shard_of("2/3", 4)) == sorted(whole)
    assert shard_of("1/3", 4) == [("sizao.readings.v1", 1), ("sizao.alarms.v1", 1)]
