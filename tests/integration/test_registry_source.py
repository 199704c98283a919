"""Where a process gets its registry: a database that is there, away, empty or gone back."""

import asyncio

import pytest
from fix_registry import DEVICES, PLACES, change

from sizao import db, log
from sizao.errors import Retriable
from sizao.metrics import Metrics
from sizao.registry import cache
from sizao.registry.load import load
from sizao.registry.source import Source
from sizao.registry.write import Change, DeviceRow
from sizao.service import Service


async def test_the_cache_keeps_everything_and_damage_is_noticed(connection, tmp_path):
    await change(connection, PLACES)
    await change(connection, DEVICES)
    registry = await load(connection, 4)
    cache.save(registry, tmp_path)
    kept = cache.restore(tmp_path)
    assert kept is not None
    assert (kept.generation, kept.partitions) == (2, 4)
    assert kept.newest.roster == registry.newest.roster
    assert kept.newest.areas.keys() == registry.newest.areas.keys()
    file = tmp_path / "registry.cache"
    damaged = bytearray(file.read_bytes())
    damaged[-100] ^= 1
    file.write_bytes(damaged)
    assert cache.restore(tmp_path) is None


def a_service():
    return Service("test", log.setup("test"), Metrics("test"))


async def test_the_cache_serves_while_postgresql_is_down(servers, settings, tmp_path):
    async with db.connected(settings, "test") as opened:
        await db.migrate(opened)
        await change(opened, PLACES)
        await change(opened, DEVICES)
    assert (await Source(a_service(), settings, tmp_path).open()).generation == 2
    await asyncio.to_thread(servers.postgres.kill)
    try:
        service = a_service()
        source = Source(service, settings, tmp_path)
        registry = await source.open()
        assert registry.newest.roster["gateway"]["a"] == 1
        assert service.ready == {"registry": False}
        with pytest.raises(Retriable):
            await db.probe(settings)
    finally:
        await asyncio.to_thread(servers.postgres.start)
    async with asyncio.TaskGroup() as group:
        following = group.create_task(source.follow())
        async with db.connected(settings, "test") as opened:
            await change(opened, Change(devices=[DeviceRow("z", "gateway", "heat", "room")]))
        assert await source.wait_for(3, deadline_s=30)
        following.cancel()
    assert source.current.newest.roster["gateway"]["z"] == 4


async def test_a_database_without_our_tables_leaves_the_last_registry_in_force(settings, tmp_path):
    service = a_service()
    source = Source(service, settings, tmp_path)
    async with db.connected(settings, "test") as opened, asyncio.TaskGroup() as group:
        opening = group.create_task(source.open())  # first start, not migrated: it waits
        await db.migrate(opened)
        await change(opened, PLACES)
        await opening
        following = group.create_task(source.follow())
        assert await source.wait_for(1, deadline_s=30)  # opened before or after the change
        await opened.execute("ALTER TABLE generation RENAME TO elsewhere")
        assert not await source.wait_for(2, deadline_s=1)
        assert service.ready == {"registry": False}
        assert (await Source(a_service(), settings, tmp_path).open()).generation == 1
        await opened.execute("ALTER TABLE elsewhere RENAME TO generation")
        await change(opened, DEVICES)
        assert await source.wait_for(2, deadline_s=30)
        following.cancel()


async def test_a_database_restored_from_a_backup_is_the_truth_unless_it_is_empty(
    settings, connection, tmp_path
):
    """Seen: the lost generation stayed in force until the restored one had caught up with it."""
    await change(connection, PLACES)
    await change(connection, DEVICES)
    source = Source(a_service(), settings, tmp_path)
    assert (await source.open()).generation == 2
    await connection.execute("DELETE FROM device")
    await connection.execute("DELETE FROM point")
    await connection.execute("DELETE FROM generation WHERE id = 2")
    await source._refresh()
    assert source.current.generation == 1
    assert source.current.newest.roster == {"gateway": {}, "platform": {}}
    kept = cache.restore(tmp_path)
    assert kept is not None
    assert kept.generation == 1
    await connection.execute("DELETE FROM generation")
    with pytest.raises(Retriable, match="generation 1 stays in force"):
        await source._refresh()
    assert source.current.generation == 1


async def test_without_cache_it_waits_for_the_database(servers, settings, tmp_path):
    async with db.connected(settings, "test") as opened:
        await db.migrate(opened)
        await change(opened, PLACES)
    await asyncio.to_thread(servers.postgres.kill)
    source = Source(a_service(), settings, tmp_path)
    async with asyncio.TaskGroup() as group:
        opening = group.create_task(source.open())
        await asyncio.to_thread(servers.postgres.start)
    assert opening.result().generation == 1
