"""Registry and migrations against a real PostgreSQL."""

import asyncio

import numpy as np
import psycopg
import pytest
from fix_registry import DEVICES, PLACES, TEMPERATURE, change

from sizao import db
from sizao.errors import BadInput, Permanent, Raced
from sizao.registry.load import load
from sizao.registry.model import NO_FLOOR
from sizao.registry.write import AreaRow, CarrierRow, Change, DeviceRow, SwapRow, TypeRow, apply
from sizao.units import BY_NAME, Lane


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
            Change(devices=[DeviceRow("x", "gateway", "heat", "room", heat_class=17)]),
            "heat class 17: expected 0 to 16",
        ),
        (Change(devices=[DeviceRow("x", "gateway", "heat", "room", heat_class=-1)]), "class -1"),
        (
            Change(devices=[DeviceRow("x", "gateway", "heat", "room", gas=5)]),
            "gas 5: expected 0 to 4",
        ),
        (Change(devices=[DeviceRow("a/b", "gateway", "heat", "room")]), "key a/b: 1 to 128"),
        (
            Change(devices=[DeviceRow("x", "gateway", "heat", "room")] * 2),
            "row 2: key x stands twice",
        ),
        (Change(areas=[AreaRow("t", "site-1", "street", "街", "S")]), "cannot stand under site-1"),
        (Change(areas=[AreaRow("t", "gone", "site", "楼", "B")]), "parent gone is unknown"),
        (
            Change(areas=[AreaRow("f", "site-1", "floor", "1", "1", floor=201)]),
            "floor 201: expected",
        ),
        (Change(areas=[AreaRow("f", "s", "site", "1", "1", floor=1)]), "of level floor alone"),
        (Change(swaps=[SwapRow("x", "gateway", "y", "gateway")]), "x under carrier gateway is unk"),
        (Change(swaps=[SwapRow("x", "gateway", "y", "gatewy")]), "y: carrier gatewy is unknown"),
        (Change(swaps=[SwapRow("x", "gateway", "y/", "gateway")]), "key y/: 1 to 128"),
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


async def test_a_swap_keeps_the_device_and_takes_no_key_that_is_taken(connection):
    await change(connection, PLACES)
    await change(connection, DEVICES)
    taken = SwapRow("a", "gateway", "b", "gateway")
    with pytest.raises(BadInput, match="row 1: device b is registered under carrier gateway"):
        await change(connection, Change(swaps=[taken]))
    twice = [SwapRow("a", "gateway", "x", "gateway"), SwapRow("b", "gateway", "x", "gateway")]
    with pytest.raises(BadInput, match="row 2: a key stands twice in this change: b or x"):
        await change(connection, Change(swaps=twice))
    new = await change(connection, Change(swaps=[SwapRow("a", "gateway", "x", "platform")]))
    registry = await load(connection, 4)
    assert registry.newest.roster["platform"]["x"] == 1
    assert registry.at(new - 1).roster["gateway"]["a"] == 1
    assert np.flatnonzero(registry.newest.point_live).tolist() == [1, 2, 3, 4]


async def test_a_change_made_from_an_older_registry_is_refused(connection):
    await change(connection, PLACES)
    with pytest.raises(Raced, match="generation 1, not 0 any more"):
        await apply(connection, DEVICES, cause="test", partitions=4, based_on=0)
    assert await apply(connection, DEVICES, cause="test", partitions=4, based_on=1) == 2


async def test_a_floor_has_a_number_that_may_change(connection):
    await change(connection, PLACES)
    await change(connection, Change(areas=[AreaRow("f", "site-1", "floor", "1", "1")]))
    numbered = Change(areas=[AreaRow("f", "site-1", "floor", "1", "1", floor=-2)])
    assert await change(connection, numbered) == 3
    assert await change(connection, numbered) == 3
    registry = await load(connection, 4, points=False)
    floors = {area.code: area.floor for area in registry.newest.areas.values()}
    assert (floors["f"], floors["room"]) == (-2, NO_FLOOR)


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


async def test_a_long_document_comes_back_whole(connection):
    document = "# " + "x" * (3 << 20)
    await change(connection, Change(types=[TypeRow("long", document, [1])]))
    registry = await load(connection, 4)
    assert registry.newest.types[1].document == document


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
