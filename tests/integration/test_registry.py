"""Registry and migrations against a real PostgreSQL."""

import asyncio

import numpy as np
import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from sizao import db, log
from sizao.errors import BadInput, Permanent, Retriable
from sizao.metrics import Metrics
from sizao.registry import cache
from sizao.registry.load import load
from sizao.registry.source import Source
from sizao.registry.write import AreaRow, CarrierRow, Change, DeviceRow, TypeRow, apply
from sizao.service import Service
from sizao.units import BY_NAME, Lane

TEMPERATURE, FIRE = BY_NAME["temperature_c"].code, BY_NAME["fire_state"].code
PLACES = Change(
    areas=[
        AreaRow("room", "site-1", "unit", "302室", "Room 302"),  # before its parent, on purpose
        AreaRow("d", "", "district", "区", "District"),
        AreaRow("s", "d", "street", "街道", "Street"),
        *(AreaRow(f"site-{n}", "s", "site", f"{n}号", f"No. {n}", 152.0, 25.0) for n in range(8)),
    ],
    carriers=[CarrierRow("gateway", "site-1"), CarrierRow("platform")],
    types=[TypeRow("heat", "name: heat", [TEMPERATURE]), TypeRow("smoke", "name: s", [FIRE, 13])],
)
DEVICES = Change(
    devices=[
        DeviceRow("a", "gateway", "heat", "room", 1, lon=152.0, lat=25.0),
        DeviceRow("b", "gateway", "heat", "site-2", 3),
        DeviceRow("a", "platform", "smoke", "site-3", mark="test"),
    ]
)


@pytest.fixture
def settings(postgres_db, tmp_path):
    parts = conninfo_to_dict(postgres_db)
    password = tmp_path / "password"
    password.write_text(parts["password"])
    return db.DatabaseSettings(
        host=parts["host"],
        port=int(parts["port"]),
        name=parts["dbname"],
        user=parts["user"],
        password_file=str(password),
    )


@pytest.fixture
async def connection(settings):
    async with db.connected(settings, "test") as opened:
        await db.migrate(opened)
        yield opened


async def change(connection, what, partitions=4):
    return await apply(connection, what, cause="test", partitions=partitions)


async def test_migrations_run_once_and_in_order(connection):
    names = [name for name, _, _ in db.migrations()]
    assert names == sorted(names)
    assert [name[:4] for name in names] == [f"{n:04}" for n in range(1, len(names) + 1)]
    assert await db.migrate(connection) == []


async def test_two_migrations_at_once_do_it_once(settings):
    async def one():
        async with db.connected(settings, "test") as opened:
            return await db.migrate(opened)

    async with asyncio.TaskGroup() as group:
        runs = [group.create_task(one()) for _ in range(3)]
    applied = [name for run in runs for name in run.result()]
    assert sorted(applied) == [name for name, _, _ in db.migrations()]


async def test_a_changed_migration_and_a_newer_database_are_refused(connection):
    await connection.execute("UPDATE migration SET sha256 = 'other' WHERE name LIKE '0001%'")
    with pytest.raises(Permanent, match=r"0001_registry.sql was changed after it was applied"):
        await db.migrate(connection)
    await connection.execute("INSERT INTO migration (name, sha256) VALUES ('9999_later.sql', '')")
    with pytest.raises(Permanent, match="9999_later"):
        await db.migrate(connection)


async def test_a_district_is_registered_and_read_back(connection):
    assert await change(connection, PLACES) == 1
    assert await change(connection, DEVICES) == 2
    view = (await load(connection, 4)).newest
    device = view.roster["gateway"]["a"]
    assert [area.code for area in view.path(view.device_area[device])] == [
        "d",
        "s",
        "site-1",
        "room",
    ]
    assert view.device_heat_class[device] == 1
    assert view.device_mark[view.roster["platform"]["a"]] == "test"
    assert view.areas[view.carrier_site["gateway"]].code == "site-1"
    point = view.points_of(
        np.array([device, device], np.int32), np.array([TEMPERATURE, 2], np.int32)
    )
    assert point[0] > 0
    assert point[1] == 0
    assert sorted(view.point_device[1:].tolist()) == [1, 2, 3, 3]
    assert np.array_equal(np.flatnonzero(view.point_live), [1, 2, 3, 4])


async def test_repeating_a_change_changes_nothing(connection):
    await change(connection, PLACES)
    await change(connection, DEVICES)
    assert await change(connection, PLACES) == 2
    assert await change(connection, DEVICES) == 2


async def test_sites_are_spread_and_stay_where_they_are(connection):
    await change(connection, PLACES)
    before = (await load(connection, 4)).newest
    sites = {a.code: a.partition for a in before.areas.values() if a.level == "site"}
    assert sorted(sites.values()) == [0, 0, 1, 1, 2, 2, 3, 3]
    renamed = Change(areas=[AreaRow(code, "s", "site", "新", "New") for code in sites])
    await change(connection, renamed)
    after = (await load(connection, 4)).newest
    assert {a.code: a.partition for a in after.areas.values() if a.level == "site"} == sites


async def test_the_partition_count_is_fixed_at_the_first_change(connection):
    await change(connection, PLACES, partitions=4)
    await change(connection, DEVICES, partitions=9)
    assert (await load(connection, 1)).partitions == 4


async def test_a_move_gives_new_points_and_an_old_generation_keeps_the_old(connection):
    await change(connection, PLACES)
    old = await change(connection, DEVICES)
    moved = DeviceRow("a", "gateway", "heat", "site-5", 1)
    new = await change(connection, Change(devices=[moved]))
    registry = await load(connection, 4)
    pair = np.array([1], np.int32), np.array([TEMPERATURE], np.int32)
    (before,), (after,) = registry.at(old).points_of(*pair), registry.at(new).points_of(*pair)
    assert 0 < before < after
    assert not registry.newest.point_live[before]
    linked = await connection.execute("SELECT moved_from FROM point WHERE id = %s", (int(after),))
    assert await linked.fetchone() == (before,)


async def test_an_area_that_moves_takes_its_devices_to_the_new_site(connection):
    """Seen: signals named the old site, and the words for people the new one."""
    await change(connection, PLACES)
    old = await change(connection, DEVICES)
    before = (await load(connection, 4)).newest
    new = await change(
        connection, Change(areas=[AreaRow("room", "site-6", "unit", "302室", "Room 302")])
    )
    registry = await load(connection, 4)
    view = registry.newest
    device = view.roster["gateway"]["a"]
    site = next(area for area in view.areas.values() if area.code == "site-6")
    assert view.device_site[device] == site.id
    assert [area.code for area in view.path(view.device_area[device])][-2:] == ["site-6", "room"]
    pair = np.array([device], np.int32), np.array([TEMPERATURE], np.int32)
    (was,), (now,) = registry.at(old).points_of(*pair), registry.at(new).points_of(*pair)
    assert 0 < was < now
    assert not view.point_live[was]
    assert (view.point_site[now], view.point_partition[now]) == (site.id, site.partition)
    linked = await connection.execute("SELECT moved_from FROM point WHERE id = %s", (int(now),))
    assert await linked.fetchone() == (was,)
    assert registry.at(old).device_site.tolist() == before.device_site.tolist()
    # The others stay as they are, and the same change once more changes nothing.
    assert view.device_site.tolist()[2:] == before.device_site.tolist()[2:]
    same = Change(areas=[AreaRow("room", "site-6", "unit", "302室", "Room 302")])
    assert await change(connection, same) == new


async def test_an_area_may_move_in_one_change_with_its_devices(connection):
    await change(connection, PLACES)
    await change(connection, DEVICES)
    both = Change(
        areas=[AreaRow("room", "site-6", "unit", "302室", "Room 302")],
        devices=[
            DeviceRow("a", "gateway", "heat", "room", 2),
            DeviceRow("n", "gateway", "heat", "room"),
        ],
    )
    await change(connection, both)
    view = (await load(connection, 4)).newest
    site = next(area.id for area in view.areas.values() if area.code == "site-6")
    devices = [view.roster["gateway"][key] for key in ("a", "n")]
    assert view.device_site[devices].tolist() == [site, site]
    rows = await connection.execute("SELECT count(*) FROM device WHERE key = 'a' AND id = 1")
    assert await rows.fetchone() == (2,)


async def test_slots_of_a_fold_are_stable_over_generations(connection):
    await change(connection, PLACES)
    first = await change(connection, DEVICES)
    more = [DeviceRow(f"n{n}", "platform", "heat", f"site-{n % 8}") for n in range(40)]
    last = await change(connection, Change(devices=more))
    registry = await load(connection, 4)
    for lane in Lane:
        for partition in range(4):
            before = registry.at(first).fold(lane, partition).point
            after = registry.at(last).fold(lane, partition).point
            assert np.array_equal(after[: len(before)], before)
    folds = [registry.newest.fold(lane, p).point for lane in Lane for p in range(4)]
    assert sorted(np.concatenate(folds).tolist()) == list(range(1, 45))


async def test_a_new_version_of_a_type_adds_and_ends_points(connection):
    await change(connection, PLACES)
    await change(connection, DEVICES)
    humidity = BY_NAME["humidity_pct"].code
    await change(connection, Change(types=[TypeRow("heat", "name: heat # 2", [humidity])]))
    view = (await load(connection, 4)).newest
    assert view.types[int(view.device_type[1])].version == 2
    assert not view.points_of(np.array([1], np.int32), np.array([TEMPERATURE], np.int32)).any()
    assert view.points_of(np.array([1], np.int32), np.array([humidity], np.int32)).all()


@pytest.mark.parametrize(
    ("wrong", "expected"),
    [
        (Change(devices=[DeviceRow("x", "gatewy", "heat", "room")]), "carrier gatewy is unknown"),
        (Change(devices=[DeviceRow("x", "gateway", "haet", "room")]), "type haet is unknown"),
        (Change(devices=[DeviceRow("x", "gateway", "heat", "nowhere")]), "area nowhere is unknown"),
        (Change(devices=[DeviceRow("x", "gateway", "heat", "s")]), "lies in no site"),
        (Change(devices=[DeviceRow("x", "gateway", "heat", "room", lat=91.0)]), "not WGS 84"),
        (Change(devices=[DeviceRow("x", "gateway", "heat", "room", state="on")]), "state on"),
        (
            Change(devices=[DeviceRow("x", "gateway", "heat", "room", heat_class=9)]),
            "heat class 9: expected 0 to 8",
        ),
        (Change(devices=[DeviceRow("x", "gateway", "heat", "room", heat_class=-1)]), "class -1"),
        (Change(devices=[DeviceRow("a/b", "gateway", "heat", "room")]), "key a/b: 1 to 128"),
        (
            Change(devices=[DeviceRow("x", "gateway", "heat", "room")] * 2),
            "row 2: key x stands twice",
        ),
        (Change(areas=[AreaRow("t", "site-1", "street", "街", "S")]), "cannot stand under site-1"),
        (Change(areas=[AreaRow("t", "gone", "site", "楼", "B")]), "parent gone is unknown"),
        (Change(carriers=[CarrierRow("a/b")]), "MQTT user name"),
        (
            Change(
                areas=[AreaRow("hall", "s", "zone", "厅", "Hall")],
                devices=[DeviceRow("x", "gateway", "heat", "hall")],
            ),
            r"area hall \(zone\) lies in no site",
        ),
    ],
)
async def test_a_wrong_row_is_named_and_nothing_is_changed(connection, wrong, expected):
    await change(connection, PLACES)
    with pytest.raises(BadInput, match=expected):
        await change(connection, wrong)
    assert (await load(connection, 4)).generation == 1


async def test_an_area_with_devices_cannot_leave_every_site(connection):
    await change(connection, PLACES)
    await change(connection, DEVICES)
    out = Change(areas=[AreaRow("room", "s", "unit", "302室", "Room 302")])
    with pytest.raises(BadInput, match="row 1: area room: it would lie in no site, with 1 devices"):
        await change(connection, out)
    assert (await load(connection, 4)).generation == 2


async def test_every_fault_is_told_at_once_up_to_fifty(connection):
    await change(connection, PLACES)
    rows = [DeviceRow(f"x{n}", "nobody", "heat", "room") for n in range(60)]
    with pytest.raises(BadInput) as refusal:
        await change(connection, Change(devices=rows))
    assert len(str(refusal.value).splitlines()) == 51


async def test_two_changes_at_once_keep_ids_dense(settings, connection):
    await change(connection, PLACES)

    async def one(prefix):
        rows = [DeviceRow(f"{prefix}{n}", "platform", "heat", "room") for n in range(20)]
        async with db.connected(settings, "test") as own:
            return await change(own, Change(devices=rows))

    async with asyncio.TaskGroup() as group:
        runs = [group.create_task(one(prefix)) for prefix in "abc"]
    assert sorted(run.result() for run in runs) == [2, 3, 4]
    view = (await load(connection, 4)).newest
    assert np.array_equal(np.flatnonzero(view.point_live), np.arange(1, 61))


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


async def test_a_long_document_comes_back_whole(connection):
    document = "# " + "x" * (3 << 20)
    await change(connection, Change(types=[TypeRow("long", document, [1])]))
    registry = await load(connection, 4)
    assert registry.newest.types[1].document == document


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


async def test_a_view_of_a_later_generation_is_the_newest_known(connection):
    await change(connection, PLACES)
    registry = await load(connection, 4)
    assert registry.at(99).generation == 1
    assert registry.at(0).roster == {}


def test_a_wrong_password_file_is_named(tmp_path):
    settings = db.DatabaseSettings(password_file=str(tmp_path / "absent"))
    with pytest.raises(OSError, match="absent"):
        settings.conninfo("test")


async def test_errors_of_the_server_are_ours(connection):
    with pytest.raises(Permanent), db.translated():
        await connection.execute("SELECT 1 / 0")
    with pytest.raises(psycopg.Error):
        await connection.execute("SELECT nothing")
