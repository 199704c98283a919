"""One partition as the loop holds it: what is passed over, how a warm-up ends."""

import mmap
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from fix_detect import Point, cold, frame, registry, run

from detectors.fold import Fold
from detectors.rule import Column, empty_block, move_block
from detectors.state import last_of
from sizao import frame as frames

KNOWN = registry([Point(1)])
GROWN = registry([Point(1), Point(4, from_gen=2), Point(9, from_gen=2)], generation=2)


@dataclass
class Record:
    offset: int
    value: bytes | None
    headers: list[tuple[str, bytes]] = field(default_factory=list)
    topic: str = ""
    partition: int = 0


def record(offset, made):
    value = frames.encode(made)
    return Record(offset, value, frames.headers(value))


READ = frame([(1, 0, 20.0)], sequence=7)


@pytest.mark.parametrize(
    ("first", "replaced"),
    [
        (record(4, READ), False),
        (record(4, frame([(1, 0, 20.0)], sequence=8)), True),
        (record(4, frame([(1, 0, 20.0)], sequence=7, writer="b1.telemetry")), True),
        (record(4, frame([(1, 0, 20.0)], sequence=7, received_s=1)), True),
        (Record(4, b"no frame", []), True),
        (Record(4, None, []), False),  # it cannot be read any more: that tells nothing
        (record(3, frame([], sequence=1)), False),
    ],
)
def test_the_first_record_is_the_one_that_was_read_last(first, replaced):
    fold = Fold(cold(KNOWN), check=True)
    fold.state.next_offset = 4
    run(fold.state, [READ])
    assert fold.state.last == last_of(READ)
    assert fold.passes_over(first)
    assert (fold.replaced, fold.check) == (replaced, False)
    # From then on all of another log is passed over, until it is placed anew.
    assert fold.passes_over(record(5, READ)) == replaced


def test_without_a_check_records_read_before_are_only_passed_over():
    fold = Fold(cold(KNOWN))
    run(fold.state, [READ])
    assert fold.passes_over(record(0, frame([], sequence=99)))
    assert not fold.passes_over(record(1, READ))
    assert not fold.replaced


def warming(kept, warmed, speak_from=2):
    return Fold(warmed, speak_from=speak_from, kept=kept, cold=["features@1"])


def test_blocks_that_were_cold_join_those_that_were_kept_whoever_knows_more():
    heat = [frame([(1, at_s, 20.0)], sequence=at_s) for at_s in (0, 60)]
    for newer in ("kept", "warmed"):
        states = {name: cold(GROWN, generation=1) for name in ("kept", "warmed")}
        for state in states.values():
            run(state, heat)
        run(states[newer], [frame([], generation=2)], GROWN)
        fold = warming(**states)
        baseline = states["warmed"].blocks["features@1"]["age_s"].max()
        fold.join(1)
        assert fold.kept is not None
        fold.join(2)
        assert (fold.kept, fold.cold) == (None, [])
        assert fold.state is states["kept"]
        assert fold.state.view.generation == 2
        assert {
            len(column) for block in fold.state.blocks.values() for column in block.values()
        } == {3}
        assert fold.state.blocks["features@1"]["age_s"].max() == baseline == 60


def test_a_warm_up_over_another_log_is_noticed_where_it_ends():
    kept, warmed = cold(KNOWN), cold(KNOWN)
    run(kept, [READ])
    run(warmed, [frame([(1, 0, 20.0)], sequence=8)])
    fold = warming(kept, warmed, speak_from=1)
    fold.join(1)
    assert fold.replaced
    assert fold.state is kept


def resident_bytes():
    pages = Path("/proc/self/statm").read_text(encoding="utf-8").split()[1]
    return int(pages) * mmap.PAGESIZE


def test_columns_that_nobody_touches_take_no_memory_over_again():
    """A fold of 1.2 million slots grew by 1.6 GB when one device was added."""
    slots, columns = 150_000, tuple(Column(f"c{number}", "int64") for number in range(20))
    blocks = [empty_block(columns, slots) for _ in range(10)]
    before = resident_bytes()
    for added in (1, 2):
        for index, block in enumerate(blocks):
            place = np.arange(slots + added - 1)
            blocks[index] = move_block(block, columns, slots + added, place)
    assert resident_bytes() - before < 24_000_000  # of 240 MB
