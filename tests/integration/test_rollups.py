"""Roll-ups against real Kafka and PostgreSQL: a minute is what its readings say, whatever dies."""

import asyncio
import random
import sys

import numpy as np
from fix_rollups import MINUTE_US, PARTITIONS, archiving, until, value_of

from ingest import rollup_store
from sizao import clock
from sizao.topics import READINGS

RUN = "import sys, pathlib, ingest.archive as a; a.process(pathlib.Path(sys.argv[1]))"
GRACE_US = 1_000_000


async def test_a_minute_closes_soon_after_its_end_and_late_readings_change_it(district):
    rng = np.random.default_rng(1)
    begin_us = district.now_us
    async with archiving(district.settings) as (service,):
        for _ in range(6):
            await district.send(rng)
            district.now_us += 10_000_000
        await district.send(rng)
        assert district.now_us == begin_us + MINUTE_US
        await district.reach(begin_us + MINUTE_US + GRACE_US - 1)
        await district.closes(begin_us)
        await until(lambda: stored(district))
        assert await district.closed_until_us() == begin_us
        ended_s = clock.monotonic_s()
        await district.reach(begin_us + MINUTE_US + GRACE_US)
        await district.closes(begin_us + MINUTE_US, deadline_s=3.0)
        assert clock.monotonic_s() - ended_s < 3.0  # and the grace: 5 s after the minute
        before = await district.equals_oracle()
        await district.send(rng, late_us=47 * 60 * MINUTE_US)
        await district.send(rng, late_us=3 * MINUTE_US)
        await district.reach(begin_us + 2 * MINUTE_US + GRACE_US)
        await district.closes(begin_us + 2 * MINUTE_US)
        assert len(await district.equals_oracle()) > len(before)
        assert value_of(service, "rollup_closings_total") >= 2
        await until(lambda: waits_for_nothing(service), 10)


async def waits_for_nothing(service):
    """An archive with nothing to store is not stuck, though its roll-ups were the last to store."""
    return service.stages["store"].waiting_since_s is None


async def stored(district):
    return (await district.query("SELECT count(*) FROM reading"))[0][0] == district.sent


async def test_what_is_asked_of_a_point(district):
    rng = np.random.default_rng(2)
    begin_us = district.now_us
    async with archiving(district.settings):
        await district.send(rng, frames=80)
        await district.reach(begin_us + GRACE_US)
        await district.closes(begin_us)
        wanted = await district.equals_oracle()
        point = wanted[len(wanted) // 2][0]
        ask = "SELECT * FROM reading_minutes(ARRAY[%s, 1], to_timestamp(%s), to_timestamp(%s))"
        span = ((begin_us - 10 * MINUTE_US) // 1_000_000, (begin_us + 10 * MINUTE_US) // 1_000_000)
        found = await district.query(ask, point, *span)
        assert {row[9] for row in found if row[1].timestamp() * 1e6 < begin_us} == {True}
        closed = [row[:9] for row in found if row[9]]
        assert closed == [row for row in wanted if row[0] in {1, point}]
        assert await district.query(ask, 1, span[1], span[1] + 600) == []


async def test_killed_at_any_point_each_reading_is_in_one_minute(district):
    rng, dice = np.random.default_rng(3), random.Random(2026)
    for turn in range(3):
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", RUN, str(district.config), stderr=asyncio.subprocess.DEVNULL
        )
        before_us = await district.closed_until_us()
        async with asyncio.timeout(30):
            while await district.closed_until_us() == before_us or dice.random() < 0.3:
                await district.send(rng, rows=5, late_us=dice.choice([0, 0, 90 * MINUTE_US]))
                await district.send(rng, frames=2, rows=2, flags=2 if turn % 2 else 0)
                await district.reach(district.now_us + 5_000_000)
                await asyncio.sleep(dice.uniform(0, 0.1))  # so that a kill falls anywhere
        process.kill()
        await process.wait()
    async with archiving(district.settings):
        end_us = district.now_us - district.now_us % MINUTE_US + MINUTE_US
        await district.reach(end_us + GRACE_US)
        await district.closes(end_us)
        assert await stored(district)
        await district.equals_oracle()


async def test_two_on_one_shard_count_each_reading_once(district):
    rng = np.random.default_rng(4)
    begin_us = district.now_us
    async with archiving(district.settings, copies=2) as services:
        for _ in range(30):
            await district.send(rng, rows=4)
            await district.reach(district.now_us + 10_000_000)
            await asyncio.sleep(0.05)  # so that both come to store some
        await until(lambda: stored(district))
        assert sum(value_of(one, "offsets_moved_total") for one in services) > 0
    async with archiving(district.settings):  # one alone: two that fight need not come to close
        await district.reach(begin_us + 6 * MINUTE_US + GRACE_US)
        await district.closes(begin_us + 6 * MINUTE_US)
        await district.equals_oracle()


async def test_without_compare_and_set_two_would_count_twice(district, monkeypatch):
    """The proof above can turn red."""
    anywhere = rollup_store._MOVE.replace(
        "held = %s AND settled = %s AND closed_us = %s",
        "%s::bigint + %s::bigint + %s::bigint >= 0",
    )
    monkeypatch.setattr(rollup_store, "_MOVE", anywhere)
    rng = np.random.default_rng(5)
    async with archiving(district.settings):
        await district.send(rng)
        await until(lambda: stored(district))
    async with archiving(district.settings, copies=2):
        await district.reach(district.now_us + MINUTE_US + GRACE_US)

        async def doubled():
            counted = "SELECT sum(c) FROM reading_minute_part, unnest(count) c"
            return ((await district.query(counted))[0][0] or 0) > district.sent

        await until(doubled)


async def test_a_log_that_came_back_shorter_leaves_open_minutes_whole(clean_topics, district):
    rng = np.random.default_rng(6)
    begin_us = district.now_us
    async with archiving(district.settings):
        await district.send(rng)
        await district.reach(begin_us + GRACE_US)
        await district.closes(begin_us)
        await district.reach(begin_us + 2 * MINUTE_US // 3)  # from here on nothing sent is late
        for _ in range(3):
            await district.send(rng)
            await district.reach(district.now_us + 5_000_000)
        await until(lambda: stored(district))
    for _ in range(2):  # what an earlier one has made of a minute is made anew
        await district.query(
            "UPDATE archive_offset SET next_offset = next_offset + 1000 WHERE topic = %s",
            READINGS.name,
        )
        async with archiving(district.settings) as (service,):
            await district.send(rng)
            await until(lambda: stored(district))
            assert value_of(service, "rollup_salvaged_total") == PARTITIONS
    async with archiving(district.settings):
        await district.reach(begin_us + MINUTE_US + GRACE_US)
        await district.closes(begin_us + MINUTE_US)
        await district.equals_oracle()


async def test_old_days_are_dropped_and_come_again(district):
    rng = np.random.default_rng(7)
    await district.query("SELECT reading_minute_cover(ARRAY[now() - interval '402 days'])")
    begin_us = district.now_us
    async with archiving(district.settings) as (service,):
        await district.send(rng)
        await district.reach(begin_us + GRACE_US)
        await district.closes(begin_us)

        async def dropped():
            return value_of(service, "rollup_days_dropped_total") == 1

        await until(dropped)
        await district.equals_oracle()
        kept = "SELECT reading_minute_drop(to_timestamp(%s))"
        day_s = 86_400 * ((begin_us - 2 * MINUTE_US) // 1_000_000 // 86_400)
        assert await district.query(kept, day_s) == [(0,)]


async def test_a_day_that_another_archive_has_dropped_is_made_again(district):
    rng = np.random.default_rng(8)
    async with archiving(district.settings):
        for turn in range(3):
            begin_us = district.now_us
            if turn == 2:  # by now its day is known to be there
                await district.query(
                    "DO $$ DECLARE name text; BEGIN FOR name IN SELECT inhrelid::regclass::text"
                    " FROM pg_inherits WHERE inhparent = 'reading_minute_part'::regclass"
                    " LOOP EXECUTE 'DROP TABLE ' || name; END LOOP; END $$"
                )
            await district.send(rng)
            await district.reach(begin_us + MINUTE_US + GRACE_US)
            await district.closes(begin_us + MINUTE_US - begin_us % MINUTE_US)
