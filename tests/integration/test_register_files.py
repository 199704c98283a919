"""Areas and devices from files, against a real PostgreSQL: what comes in, and what is refused."""

import numpy as np
import pytest
from fix_register import AREAS, DEVICES

from ingest.coordinates import Crs, shifted, to_wgs84
from sizao import db
from sizao.registry.model import NO_FLOOR
from sizao.registry.write import AreaRow, Change, apply


def test_a_district_comes_from_two_files(office):
    said = office.run("areas", "import", office.file("a.csv", AREAS), "--crs", "wgs84")
    assert said == "a.csv: 8 areas: 8 added, 0 changed, 0 as they were; generation 2"
    devices = office.file("d.csv", DEVICES)
    said = office.run("devices", "import", devices, "--crs", "wgs84", "--create-carriers")
    assert (
        said
        == "d.csv: 5 devices: 5 added, 0 changed, 0 as they were, 2 carriers made; generation 3"
    )
    view = office.registry().newest
    floors = {area.code: area.floor for area in view.areas.values() if area.floor != NO_FLOOR}
    assert floors == {"b1-f-1": -1, "b1-f3": 3}
    heat = view.roster["h1"]["h1"]
    assert [area.code for area in view.path(view.device_area[heat])] == [
        "d", "s", "c", "b1", "b1-f3", "b1-f3-302",
    ]  # fmt: skip
    assert view.device_heat_class[heat] == 1
    assert view.device_state[view.roster["h2"]["h2"]] == "planned"
    assert view.areas[view.carrier_site["h2"]].code == "b2"
    assert view.carrier_site["gateway"] == 0  # known before, and left as it was
    smoke = view.device_type[view.roster["platform"]["861"]]
    assert view.types[smoke].name == "generic.smoke_state"
    assert (view.device_lon[view.roster["gateway"]["t1"]], view.device_lat[1]) == (
        135.1001,
        20.1001,
    )


def test_the_same_files_once_more_change_nothing(office):
    office.settle()
    said = office.run("areas", "import", office.file("a.csv", AREAS), "--crs", "wgs84")
    assert said.endswith("0 added, 0 changed, 8 as they were; generation 3")
    said = office.run("devices", "import", office.file("d.csv", DEVICES), "--crs", "wgs84")
    assert said.endswith("0 added, 0 changed, 5 as they were; generation 3")


def test_where_bikes_are_charged_is_said_and_kept(office):
    office.settle()
    head = "code,parent,level,name_zh,name_en"
    shed = office.file("s.csv", f"{head},use\nb3,c,site,车棚,Shed,charging\n")
    office.run("areas", "import", shed)
    # A list that does not speak of it changes nothing; one that leaves the cell empty does.
    again = office.file("s.csv", f"{head}\nb3,c,site,车棚,Shed\n")
    assert "1 as they were" in office.run("areas", "import", again)
    uses = {area.code: area.use for area in office.registry().newest.areas.values() if area.use}
    assert uses == {"b3": "charging"}
    assert "1 changed" in office.run(
        "areas", "import", office.file("s.csv", f"{head},use\nb3,c,site,车棚,Shed,\n")
    )
    assert {area.use for area in office.registry().newest.areas.values()} == {""}


def test_a_dry_run_counts_and_changes_nothing(office):
    office.settle()
    more = office.file("d.csv", DEVICES.replace("A1R", "C") + "n,gateway,generic.heat,b2,A2,,,\n")
    said = office.run("devices", "import", more, "--crs", "wgs84", "--dry-run")
    assert said == (
        "d.csv: 6 devices: 1 added, 1 changed, 4 as they were; dry run, nothing is changed"
    )
    assert office.registry().generation == 3


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_what_was_exported_changes_nothing_when_it_comes_back(office, ending):
    office.settle()
    file = office.folder / f"devices.{ending}"
    assert office.run("devices", "export", file) == f"devices.{ending}: 5 devices"
    said = office.run("devices", "import", file, "--crs", "wgs84")
    assert said.endswith("0 added, 0 changed, 5 as they were; generation 3")


@pytest.mark.parametrize("ending", ["csv", "geojson", "parquet"])
def test_exported_areas_change_nothing_when_they_come_back(office, ending):
    office.settle()
    file = office.folder / f"areas.{ending}"
    assert office.run("areas", "export", file) == f"areas.{ending}: 8 areas"
    said = office.run("areas", "import", file, "--crs", "wgs84")
    assert said.endswith("0 added, 0 changed, 8 as they were; generation 3")


def test_a_column_left_out_says_nothing(office):
    """An old list must not put a device into service that was isolated since."""
    office.settle()
    office.run("devices", "isolate", "h1", "--carrier", "h1")
    short = (
        "key,carrier,type,area\nh1,h1,generic.heat,b1-f3-302\nt1,gateway,generic.gateway_batch,b2"
    )
    said = office.run("devices", "import", office.file("d.csv", short))
    assert said.endswith("0 added, 1 changed, 1 as they were; generation 5")
    view = office.registry().newest
    assert view.device_state[view.roster["h1"]["h1"]] == "isolated"
    assert view.device_heat_class[view.roster["h1"]["h1"]] == 1
    # Coordinates of the old place are not those of the new one.
    assert np.isnan(view.device_lon[view.roster["gateway"]["t1"]])


def in_system(crs: Crs) -> str:
    """DEVICES with their coordinates in another system."""
    lines = DEVICES.splitlines()
    for number, line in enumerate(lines):
        *cells, lon, lat = line.split(",")
        if lon not in {"", "lon"}:
            moved = shifted(np.array([float(lon)]), np.array([float(lat)]), crs)
            lines[number] = ",".join([*cells, *(repr(float(axis[0])) for axis in moved)])
    return "\n".join(lines)


@pytest.mark.parametrize("crs", [Crs.GCJ02, Crs.BD09])
def test_a_shifted_file_is_refused_and_named_or_read_as_what_it_is(office, crs):
    office.run("areas", "import", office.file("a.csv", AREAS), "--crs", "wgs84")
    file = office.file("d.csv", in_system(crs))
    (line,) = office.refused("devices", "import", file, "--crs", "wgs84", "--create-carriers")
    assert line.startswith("d.csv: lon: devices lie ")
    assert "m from their sites in the median, expected at most 100 m; looks like" in line
    assert line.endswith(f"give --crs {crs}")
    office.run("devices", "import", file, "--crs", crs, "--create-carriers")
    view = office.registry().newest
    at = view.device_lon[view.roster["gateway"]["t1"]], view.device_lat[view.roster["h2"]["h2"]]
    assert at == pytest.approx((135.1001, 20.2), abs=1e-7)


def test_areas_of_a_map_in_gcj02_come_in_as_wgs84(office):
    file = office.file("a.csv", AREAS)
    office.run("areas", "import", file, "--crs", "gcj02")
    site = next(area for area in office.registry().newest.areas.values() if area.code == "b1")
    expected = to_wgs84(np.array([135.1]), np.array([20.1]), Crs.GCJ02)
    assert (site.lon, site.lat) == (expected[0][0], expected[1][0])


def test_geojson_gives_the_middle_of_a_polygon(office):
    office.settle()
    square = "[[[135,20],[135.2,20],[135.2,20.1],[135,20.1],[135,20]]]"
    file = office.file(
        "a.geojson",
        '{"type": "FeatureCollection", "features": [{"type": "Feature", "properties": {"code": '
        '"b3", "parent": "c", "level": "site", "name_zh": "3号楼", "name_en": "No. 3"}, '
        f'"geometry": {{"type": "Polygon", "coordinates": {square}}}}}]}}',
    )
    office.run("areas", "import", file, "--crs", "cgcs2000")
    site = next(area for area in office.registry().newest.areas.values() if area.code == "b3")
    assert (site.lon, site.lat) == pytest.approx((135.1, 20.05))


def test_somebody_elses_change_meanwhile_is_taken_in(office, monkeypatch):
    """What was read is out of date: it is read once more, and nobody's change is lost."""
    from ingest import register

    office.settle()
    office.run("devices", "isolate", "h1", "--carrier", "h1")
    real, races = register.apply, []

    async def raced(connection, change, **options):
        if not races:
            races.append(change)
            async with db.connected(office.settings, "other") as other:
                meanwhile = Change(areas=[AreaRow("b9", "c", "site", "9", "9")])
                await apply(other, meanwhile, cause="other", partitions=4)
        return await real(connection, change, **options)

    monkeypatch.setattr(register, "apply", raced)
    said = office.run("devices", "commission", "h1", "--carrier", "h1")
    assert said == "h1 under h1 is in_service; generation 6"
    assert races
