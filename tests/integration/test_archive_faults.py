"""A database that refuses a row, has no room, or falls silent: nothing is lost, or told early."""

import asyncio
from contextlib import asynccontextmanager, suppress

import numpy as np
import pytest
from fix_archive import archiving, until, value_of

from ingest import rows
from ingest.archive_store import Store
from sizao import clock
from sizao.frame import Frame
from sizao.topics import READINGS

POISON = 4_096.5  # the trigger below refuses it, and no sender of these tests gives it
OFFSETS = "SELECT topic, partition, next_offset FROM archive_offset ORDER BY 1, 2"
TRIGGER = """
    CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        IF {when} THEN RAISE EXCEPTION 'no room or no sense' USING ERRCODE = '{code}'; END IF;
        RETURN new;
    END $$;
    CREATE TRIGGER refuse BEFORE INSERT ON reading FOR EACH ROW EXECUTE FUNCTION refuse()"""


async def send_poison(place, values, rows_each=100):
    """One frame; `values` in its midst are refused by the table. The others are in `sent`."""
    now_us = clock.now_us()
    value = np.arange(rows_each, dtype=np.float32)
    where = np.linspace(3, rows_each - 2, len(values)).astype(int)
    value[where] = values
    made = Frame(
        point=np.arange(1, rows_each + 1, dtype=np.uint32),
        event_us=np.full(rows_each, now_us),
        value=value,
        flags=np.zeros(rows_each, np.uint8),
        received_us=now_us,
        generation=1,
        writer="t0.telemetry",
        sequence=place.sequence + 1,
    )
    place.sequence += 1
    await place.put(READINGS.name, 1, [made])
    healthy = np.setdiff1d(np.arange(rows_each), where)
    place.sent += [(now_us, now_us, int(n) + 1, float(value[n]), 0) for n in healthy]


async def test_a_row_that_the_table_refuses_costs_its_neighbours_nothing(place):
    await place.query(TRIGGER.format(when=f"new.value = {POISON}", code="22P02"))
    await place.send(20)
    await send_poison(place, [POISON, POISON])
    await place.send(20)
    async with archiving(place.settings) as (service,):
        await place.caught_up()
        await until_counted(service, 2)
        assert value_of(service, "rows_refused_total", reason="bounds") == 0
        assert service.ready["database"]
    kept = await place.query("SELECT point, value, why FROM reading_refused ORDER BY point")
    assert [row[:2] for row in kept] == [(4, POISON), (99, POISON)]
    assert "no room or no sense" in kept[0][2]


async def until_counted(service, count):
    async def there():
        return value_of(service, "rows_refused_total", reason="database") == count

    await until(there)


async def test_nan_and_infinity_that_get_past_our_own_checks_are_refused_alone(place, monkeypatch):
    """A frame cannot hold them (sizao/frame.py); the table's own check is the second look."""

    def spoilt(frames):
        made = rows.build(frames)
        values = np.frombuffer(made.buffer, rows._ROW, made.count, len(rows.HEADER))["value"]
        for number, bad in enumerate((np.nan, np.inf, -np.inf)):
            values[np.flatnonzero(values == POISON + number)] = bad
        return made

    monkeypatch.setattr("ingest.archive_batch.build", spoilt)
    await send_poison(place, [POISON, POISON + 1, POISON + 2])
    await place.send(8)
    async with archiving(place.settings) as (service,):
        await place.caught_up()
        await until_counted(service, 3)
    kept = await place.query("SELECT value::text FROM reading_refused ORDER BY 1")
    assert kept == [("-Infinity",), ("Infinity",), ("NaN",)]


async def test_a_table_that_refuses_everything_loses_nothing(place):
    """That is no row's fault: it waits for a person."""
    await place.query(TRIGGER.format(when="true", code="22P02"))
    await place.send(8)
    stood = await place.query(OFFSETS)
    async with archiving(place.settings) as (service,):
        await until_away(service)
        assert await place.query(OFFSETS) == stood
        await place.query("DROP TRIGGER refuse ON reading")
        await place.caught_up()
        assert value_of(service, "rows_refused_total", reason="database") == 0
    assert await place.query("SELECT FROM reading_refused") == []


async def until_away(service):
    async def away():
        return service.ready["database"] is False and not service.stages["store"].waiting_since_s

    await until(away)


async def test_a_full_disk_is_waited_out(place):
    """As PostgreSQL says it (53100): a tablespace cannot be made small everywhere."""
    await place.send(8)
    async with archiving(place.settings) as (service,):
        await place.caught_up()
        stood = await place.query(OFFSETS)
        await place.query(TRIGGER.format(when="true", code="53100"))
        await place.send(40)
        await until_away(service)
        assert await place.query(OFFSETS) == stood
        assert any(since_s is not None for since_s in service.oldest.values())
        await place.query("DROP TRIGGER refuse ON reading")
        await place.caught_up()
        assert service.ready["database"]


async def test_a_partition_that_was_dropped_is_made_again(place):
    """Retention may drop an hour that a log read again still brings."""
    hour_us = 3_600_000_000
    old_us = clock.now_us() // hour_us * hour_us - 50 * hour_us
    async with archiving(place.settings):
        await place.send(4, received_us=old_us)
        await place.caught_up()
        ((name,),) = await place.query(
            "SELECT inhrelid::regclass::text FROM pg_inherits"
            " WHERE inhparent = 'reading'::regclass ORDER BY 1 LIMIT 1"
        )
        await place.query(f"DROP TABLE {name}")
        place.sent.clear()
        await place.send(4, received_us=old_us)
        await place.caught_up()
    assert await place.query("SELECT FROM reading_refused") == []


class Silent:
    """A proxy to PostgreSQL that can fall silent: it takes bytes, and passes none on."""

    def __init__(self):
        self.silent = False
        self.connections = 0

    @asynccontextmanager
    async def before(self, host, port):
        """Yields the port to connect to."""

        async def serve(reader, writer):
            self.connections += 1
            there, back = await asyncio.open_connection(host, port)
            with suppress(OSError):
                async with asyncio.TaskGroup() as group:
                    group.create_task(self._pass_on(reader, back))
                    group.create_task(self._pass_on(there, writer))
            for end in (writer, back):
                end.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        try:
            yield server.sockets[0].getsockname()[1]
        finally:
            server.close()

    async def _pass_on(self, source, sink):
        deaf = False
        while data := await source.read(65_536):
            deaf = deaf or self.silent  # this connection never speaks again: half-open
            if not deaf:
                sink.write(data)
                await sink.drain()
        sink.close()


@pytest.mark.slow
async def test_a_half_open_connection_is_given_up_in_time(place, monkeypatch):
    """M17: the peer acknowledges and never answers. The deadline of a step is 15 s as shipped, here
    0.5 s; then psycopg takes 10 s to believe that it was cancelled: 25 s of the promised 45.
    """
    monkeypatch.setattr(Store, "margin_s", 0.0)
    proxy, settings = Silent(), place.settings
    async with proxy.before(settings.database.host, settings.database.port) as port:
        patient = settings.database.model_copy(update={"port": port, "statement_timeout_ms": 500})
        settings = settings.model_copy(update={"database": patient})
        async with archiving(settings) as (service,):
            await place.send(8)
            await place.caught_up()
            proxy.silent = True
            began_s = clock.monotonic_s()
            await place.send(8)
            await until_away(service)
            proxy.silent = False
            await place.caught_up()
            assert clock.monotonic_s() - began_s < 20  # psycopg's 10 s, and a slow machine
