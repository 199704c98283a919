"""Past what cannot be read, in made-up logs: all that is good comes, and comes once."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sizao.errors import Retriable
from sizao.records import Incoming, around_damage, up_to_damage


def record(offset, pair=("t", 0), value=b"x"):
    topic, number = pair
    return Incoming(
        topic=topic,
        partition=number,
        offset=offset,
        value=value,
        headers=(),
        key=None,
        timestamp_ms=1000 + offset,
    )


class Log:
    """A partition whose batches begin at the given offsets; those in `bad` cannot be read."""

    def __init__(self, sizes, bad, pair=("t", 0)):
        ends = list(itertools.accumulate(sizes))
        self.batches = [range(end - size, end) for end, size in zip(ends, sizes, strict=True)]
        self.bad, self.pair, self.end = bad, pair, ends[-1]
        self.looks, self.open = 0, False

    async def start(self):
        self.open = True

    async def stop(self):
        self.open = False

    async def at(self, offset):
        self.looks += 1
        number = next(n for n, batch in enumerate(self.batches) if offset in batch)
        return None if number in self.bad else record(offset, self.pair)


@given(
    sizes=st.lists(st.integers(1, 300), min_size=1, max_size=6),
    bad=st.integers(0, 5),
    start=st.integers(0, 600),
    count_max=st.integers(1, 700),
)
async def test_all_that_is_good_comes_once_and_one_batch_is_lost(sizes, bad, start, count_max):
    log = Log(sizes, {bad})
    start = min(start, log.end - 1)
    found, lost = await up_to_damage(log.at, start, log.end, count_max)
    offsets = [one.offset for one in found]
    assert offsets == list(range(start, start + len(found)))
    behind = start + len(found)
    damaged = log.batches[bad] if bad < len(sizes) else range(0)
    if behind in damaged and len(found) < count_max:
        assert lost == range(behind, damaged.stop)
    else:
        assert not lost
        assert len(found) == min(count_max, log.end - start)
    assert log.looks <= len(found) + 2 * 10 + 2


async def test_damage_at_the_end_of_the_log_ends_there():
    log = Log([5, 7], {1})
    found, lost = await up_to_damage(log.at, 3, log.end, 100)
    assert ([one.offset for one in found], lost) == ([3, 4], range(5, 12))


async def test_each_partition_goes_on_from_where_it_stands():
    logs = {("a", 0): Log([4, 4], {1}, ("a", 0)), ("b", 1): Log([6], set(), ("b", 1))}
    logs["b", 2] = Log([3], set(), ("b", 2))
    stands = {("a", 0): (2, 7), ("b", 1): (5, 7), ("b", 2): (3, 7)}
    ends = {pair: log.end for pair, log in logs.items()}
    found = await around_damage(lambda pairs: logs[pairs[0]], stands, ends, 100)
    assert [(one.topic, one.partition, one.offset, one.value) for one in found] == [
        *[("a", 0, offset, b"x") for offset in (2, 3)],
        *[("a", 0, offset, None) for offset in (4, 5, 6, 7)],
        ("b", 1, 5, b"x"),
    ]
    # One that cannot be read bears the arrival of the one before it.
    assert {one.timestamp_ms for one in found if one.value is None} == {1003}
    assert not any(log.open for log in logs.values())
    assert logs["b", 2].looks == 0


async def test_a_broker_that_goes_away_meanwhile_ends_it_and_leaves_no_client():
    log = Log([4, 4], {1})

    async def away(offset):
        raise Retriable("away")

    log.at = away
    with pytest.raises(Retriable):
        await around_damage(lambda pairs: log, {("t", 0): (0, 0)}, {("t", 0): 8}, 10)
    assert not log.open
