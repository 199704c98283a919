"""Readings that come again: each with a device's time is one row, against an oracle."""

import random
from collections import Counter
from itertools import groupby

import numpy as np
from fix_archive import archiving, until, value_of

from ingest import archive_batch
from ingest.archive_place import Gap
from ingest.redelivered import Parted
from sizao import clock
from sizao.frame import Flag, Frame
from sizao.topics import READINGS

SECOND_US = 1_000_000
MINUTE_US, HOUR_US = 60 * SECOND_US, 3_600 * SECOND_US
UNTIMED = Flag.NO_DEVICE_TIME | Flag.CLOCK_CORRECTED


class District:
    """Deliveries in the order of their arrival, and what the table must hold in the end."""

    def __init__(self, seed, readings=1_500):
        rng = random.Random(seed)
        start_us = clock.now_us() - 60 * HOUR_US
        self.deliveries = []  # (received, point, event, value, flags)
        for number in range(readings):
            first_us = start_us + rng.randrange(30 * HOUR_US)
            event_us = first_us - rng.choice(
                [rng.randrange(SECOND_US), rng.randrange(SECOND_US), rng.randrange(24 * HOUR_US)]
            )
            if rng.random() < 0.1:  # out of order: before its neighbours, or ahead of arrival
                event_us = first_us + rng.randrange(-10 * MINUTE_US, 59 * SECOND_US)
            kind = rng.choice([0, 0, 0, 0, 0, Flag.NO_DEVICE_TIME, Flag.CLOCK_CORRECTED])
            event_us = first_us if kind else event_us
            reading = (1 + number % 300, event_us, float(np.float32(number / 8)))
            self._deliver(rng, first_us, reading, kind)
        self.deliveries.sort()
        self.rows, self.untimed = Counter(), 0
        for received_us, *reading, flags in self.deliveries:
            again = bool(flags & Flag.REDELIVERED)
            self.untimed += bool(again and flags & UNTIMED)
            key = (*reading, received_us) if flags & UNTIMED else tuple(reading)
            self.rows[key] = 1

    def _deliver(self, rng, first_us, reading, kind):
        """Once, or up to three times more; of some the first never reached the log."""
        point, event_us, value = reading
        again = rng.choice([0, 0, 1, 3])
        wait_us = rng.choice([0, SECOND_US, 20 * MINUTE_US, 5 * HOUR_US])
        for number in range(again + 1):
            received_us = first_us + number * wait_us + number
            dup = number > 0 or rng.random() < 0.1
            event = received_us if kind else event_us
            flags = kind | (Flag.REDELIVERED if dup else 0)
            flags |= Flag.LATE if received_us - event > MINUTE_US else 0
            self.deliveries.append((received_us, point, event, value, int(flags)))

    def frames(self, writer):
        """A bridge closes its frame some time after a message has come; here up to 20 s."""
        ticks = groupby(self.deliveries, lambda one: one[0] // (20 * SECOND_US))
        for number, (_, some) in enumerate(ticks):
            received, point, event, value, flags = zip(*some, strict=True)
            yield Frame(
                point=np.array(point, np.uint32),
                event_us=np.array(event, np.int64),
                value=np.array(value, np.float32),
                flags=np.array(flags, np.uint8),
                received_us=max(received),
                generation=1,
                writer=writer,
                sequence=number + 1,
            )


async def stored(place):
    """As the oracle counts: a row without a device's time is told by its event."""
    return Counter(
        (point, event, value, event) if flags & UNTIMED else (point, event, value)
        for _, event, point, value, flags in await place.rows()
    )


async def until_stored(place, sequence):
    newest = "SELECT max((writers->>'d.telemetry')::bigint) FROM archive_offset"

    async def there():
        return (await place.query(newest))[0][0] == sequence

    await until(there)


async def test_each_reading_with_a_device_s_time_is_one_row(clean_topics, place):
    """Three times again, out of order, a day late, two archives, a log that came back shorter."""
    district = District(seed=5)
    frames = list(district.frames("d.telemetry"))
    half = len(frames) // 2
    await place.put(READINGS.name, 1, frames[:half])
    async with archiving(place.settings, copies=2):
        await until_stored(place, frames[half - 1].sequence)
    await place.query(
        f"UPDATE archive_offset SET next_offset = 9000 WHERE topic = '{READINGS.name}'"
    )
    await place.put(READINGS.name, 1, frames[half:])
    async with archiving(place.settings, copies=2) as services:
        await until_stored(place, frames[-1].sequence)
        assert sum(value_of(one, "gaps_total", reason=Gap.SHORTER) for one in services) > 0
    assert await stored(place) == district.rows


async def test_what_became_of_it_is_counted(clean_topics, place):
    district = District(seed=6, readings=500)
    frames = list(district.frames("d.telemetry"))
    await place.put(READINGS.name, 1, frames)
    async with archiving(place.settings) as (service,):
        await until_stored(place, frames[-1].sequence)
        again = {
            outcome: value_of(service, "rows_again_total", outcome=outcome)
            for outcome in ("stored", "found", "untimed")
        }
        flagged = sum(bool(one[-1] & Flag.REDELIVERED) for one in district.deliveries)
        assert again["untimed"] == district.untimed > 0
        assert sum(again.values()) == flagged
        assert min(again.values()) > 0
        assert value_of(service, "rows_total") == district.rows.total()
    assert await stored(place) == district.rows
    assert await rolled_up(place) == await delivered_again(place)


async def delivered_again(place):
    """Rows that came again and were stored, by point and minute."""
    return await place.query(
        "SELECT point, date_trunc('minute', event), count(*), min(value), max(value)"
        " FROM reading WHERE flags & 2 <> 0 GROUP BY 1, 2 ORDER BY 1, 2"
    )


async def rolled_up(place):
    """What the roll-ups hold of such rows: they leave with the rows, before any minute closes."""
    return await place.query(
        "SELECT b.block * 32 + u.slot, b.minute, sum(u.count)::bigint, min(u.low), max(u.high)"
        " FROM reading_minute_part b CROSS JOIN LATERAL"
        " unnest(b.slot, b.count, b.low, b.high, b.flags) u (slot, count, low, high, flags)"
        " WHERE u.flags & 2 <> 0 GROUP BY 1, 2 ORDER BY 1, 2"
    )


async def test_without_the_look_they_would_be_doubled(clean_topics, place, monkeypatch):
    """The proof above can turn red."""
    monkeypatch.setattr(
        archive_batch, "part", lambda frames: Parted(plain=list(frames), again=[], untimed=0)
    )
    district = District(seed=5, readings=300)
    frames = list(district.frames("d.telemetry"))
    await place.put(READINGS.name, 1, frames)
    async with archiving(place.settings):
        await until_stored(place, frames[-1].sequence)
    assert max((await stored(place)).values()) > 1


async def test_clocks_of_1970_and_2099_come_again_too(clean_topics, place):
    """Bridges whose own clock is wrong: their readings are rows like any other, once."""
    frames = []
    for number, at_us in enumerate((HOUR_US, 4_070_908_800 * SECOND_US, clock.now_us())):
        for turn in range(3):
            dup = Flag.REDELIVERED if turn else 0
            frames.append(Frame(
                point=np.array([1, 2], np.uint32),
                event_us=np.array([at_us, at_us - 2 * MINUTE_US]),
                value=np.array([20, 21], np.float32),
                flags=np.array([0, Flag.LATE], np.uint8) | np.uint8(dup),
                received_us=at_us + turn,
                generation=1,
                writer="d.telemetry",
                sequence=number * 3 + turn + 1,
            ))  # fmt: skip
    await place.put(READINGS.name, 1, frames)
    async with archiving(place.settings):
        await until_stored(place, frames[-1].sequence)
    assert await place.count() == 6
