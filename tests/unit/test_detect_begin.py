"""Where a fold begins to read, which partitions a shard has, what settings refuse."""

import pytest
from pydantic import ValidationError

from detectors.begin import Begin, Gap, begin
from detectors.settings import DetectSection, shard_of


@pytest.mark.parametrize(
    ("kept", "committed", "expected"),
    [
        (None, None, Begin(seek=10)),
        (None, 10, Begin(seek=10)),
        (None, 15, Begin(seek=15, warm=True)),
        (None, 20, Begin(seek=20, warm=True)),
        (None, 9, Begin(seek=10, gap=Gap.EXPIRED)),
        (None, 21, Begin(seek=10, gap=Gap.SHORTER)),
        (10, None, Begin(seek=10)),
        (12, None, Begin(seek=12, check=True)),
        (12, 15, Begin(seek=12, check=True)),
        (20, 15, Begin(seek=20, check=True)),
        (9, 15, Begin(seek=10, gap=Gap.EXPIRED)),
        (21, 15, Begin(seek=10, gap=Gap.SHORTER)),
    ],
)
def test_where_to_begin_in_a_log_from_10_to_20(kept, committed, expected):
    assert begin(kept=kept, committed=committed, first=10, end=20) == expected


@pytest.mark.parametrize("kept", [12, 20, 21, 9])
def test_a_log_that_is_another_is_read_from_its_start(kept):
    begins = begin(kept=kept, committed=15, first=10, end=20, replaced=True)
    assert begins == Begin(seek=10, gap=Gap.REPLACED)


def test_shards_share_all_partitions_between_them():
    every = shard_of("0/1", 5)
    assert len(every) == 10
    shares = [shard_of(f"{index}/3", 5) for index in range(3)]
    assert sorted(pair for share in shares for pair in share) == sorted(every)
    # Both lanes of a site go to the same process.
    assert {number for _, number in shares[1]} == {1, 4}


@pytest.mark.parametrize("shard", ["1/1", "4/4", "0/0", "-1/4", "a/4", "0", "0/4/1", ""])
def test_a_shard_that_reads_nothing_is_refused(shard):
    with pytest.raises(ValidationError):
        DetectSection(shard=shard)
