"""`sizao device-type apply | list | show | export` against a database of the test's own."""

import asyncio
import json

import pytest
from fix_bridge import HEAT

from detectors import rules
from detectors.catalogue import rows as catalogue
from ingest.device_types.compiled import compile_type
from sizao import db
from sizao.registry.write import store_catalogue
from sizao.units import BY_NAME

ROOM = HEAT.replace("generic.heat", "acme.room").replace("heat_detector: yes", "heat_detector: no")
HUMID = ROOM.replace(
    "expected_interval_s:",
    '  humidity_pct: {pointer: /hum, unit: "%", optional: yes}\nexpected_interval_s:',
)
# Other topics, units and times, and one quantity more of the alarm lane.
_SAYS = "{pointer: /s, unit: state, states: {a: normal, b: alarm}, optional: yes}"
FIRE = HUMID.replace("telemetry", "alarm").replace("maximum: 850", "scale: 2")
FIRE = FIRE.replace("unix_s", "unix_ms").replace(
    "  humidity_pct:", f"  fire_state: {_SAYS}\n  humidity_pct:"
)
for was, now in (
    ('"ts": 1772352000', '"ts": 1772352000000'),
    ('"ts": 1772348400', '"ts": 1772348400000'),
    ('"ts": 946684800', '"ts": 946684800000'),
    ("value: 21.4", "value: 42.8"),
    ("value: -3", "value: -6"),
    ("value: 64", "value: 128"),
):
    FIRE = FIRE.replace(was, now)
DEVICES = """\
key,carrier,type,area
r1,gateway,acme.room,b1-f3
r2,gateway,acme.room,b2
"""
DIRECT = "direct: The device itself says alarm"
HEATS = [
    f"{rule.NAME}: {str(rule.__doc__).splitlines()[0].removesuffix('.')}"
    for rule in rules.discover()
    if "temperature_c" in rule.READS
]
assert "heat_rise: A temperature rises over its own slow baseline" in HEATS


async def store(settings) -> None:
    async with db.connected(settings, "test") as connection:
        await store_catalogue(connection, catalogue())


def line_of(words):
    return next(n for n, text in enumerate(ROOM.splitlines(), 1) if words in text)


@pytest.fixture
def settled(office):
    """The shipped types, places, devices of the type `acme.room`, and the catalogue."""
    asyncio.run(store(office.settings))
    office.settle()  # generation 3
    office.run("device-type", "apply", office.file("room.yaml", ROOM))
    office.run("devices", "import", office.file("rooms.csv", DEVICES), "--crs", "wgs84")
    return office


def points(office, generation=None):
    """(key, quantity) of the live points of the type's devices."""
    registry = office.registry()
    view = registry.at(registry.generation if generation is None else generation)
    wanted = {"r1", "r2"}
    return {
        (view.device_key[device], int(quantity))
        for device, quantity, live in zip(
            view.point_device, view.point_quantity, view.point_live, strict=True
        )
        if live and view.device_key[device] in wanted
    }


def test_a_new_type_a_changed_one_and_one_that_is_as_it_was(office):
    asyncio.run(store(office.settings))
    office.settle()
    room = office.file("room.yaml", ROOM)
    said = office.run("device-type", "apply", room, "--dry-run")
    shown = [
        "room.yaml: acme.room: new, version 1; no devices yet",
        "  points     + temperature_c",
        f"  detectors  + {HEATS[0]}",
        *(f"             + {heat}" for heat in HEATS[1:]),
    ]
    counts = "1 new, 0 changed, 0 unchanged; 0 points begin, 0 end"
    assert said.splitlines() == [*shown, f"{counts}; dry run, nothing is changed"]
    assert office.registry().generation == 3
    said = office.run("device-type", "apply", room)
    assert said.splitlines() == [*shown, f"{counts}; generation 4"]
    said = office.run("device-type", "apply", room)
    assert said.splitlines() == [
        "room.yaml: acme.room: unchanged, version 1",
        "0 new, 0 changed, 1 unchanged; 0 points begin, 0 end; generation 4",
    ]


def test_the_plan_names_devices_points_and_detectors_and_is_what_happens(settled):
    file = settled.file("room.yaml", FIRE)
    before = points(settled)
    said = settled.run("device-type", "apply", file, "--dry-run").splitlines()
    assert points(settled) == before
    assert said == [
        "room.yaml: acme.room: changed, version 2; 2 devices (2 in service)",
        "  says       - up/{carrier}/telemetry/{key}",
        "             + up/{carrier}/alarm/{key}",
        "             ~ temperature_c: scale, maximum",
        "             ~ time",
        "             ~ examples",
        "  points     + humidity_pct x 2",
        "             + heard x 2",
        "             + fire_state x 2",
        f"  detectors  + {DIRECT}",
        "0 new, 1 changed, 0 unchanged; 6 points begin, 0 end; dry run, nothing is changed",
    ]
    assert settled.run("device-type", "apply", file).splitlines()[:-1] == said[:-1]
    new = {BY_NAME[name].code for name in ("humidity_pct", "heard", "fire_state")}
    assert points(settled) - before == {(key, code) for key in ("r1", "r2") for code in new}


def test_a_quantity_that_devices_measure_is_not_removed_by_a_slip(settled):
    settled.run("device-type", "apply", settled.file("room.yaml", HUMID))
    generation, before = settled.registry().generation, points(settled)
    file = settled.file("room.yaml", ROOM)
    line = line_of("quantities:")
    assert settled.refused("device-type", "apply", file) == [
        (
            f"room.yaml:{line}: quantities: got no humidity_pct, which 2 devices in service measure"
            " by version 2; expected it, or --allow-removal"
        )
    ]
    assert (settled.registry().generation, points(settled)) == (generation, before)
    said = settled.run("device-type", "apply", file, "--allow-removal").splitlines()
    assert said[-1] == "0 new, 1 changed, 0 unchanged; 0 points begin, 2 end; generation 7"
    assert "  points     - humidity_pct x 2" in said
    assert points(settled, generation) == before  # a replay still has them
    assert points(settled) == {("r1", 1), ("r2", 1)}


def test_devices_without_what_a_type_comes_to_need_are_named(settled):
    heat = settled.file("room.yaml", ROOM.replace("heat_detector: no", "heat_detector: yes"))
    line = line_of("heat_detector:")
    assert settled.refused("device-type", "apply", heat) == [
        (
            f"room.yaml:{line}: heat_detector: got 'yes', but 2 devices of this type have no"
            " heat_class (r1 under gateway, r2 under gateway); expected it to be imported first"
        )
    ]
    classes = DEVICES.replace("area\n", "area,heat_class\n").replace("b1-f3\n", "b1-f3,A1\n")
    file = settled.file("rooms.csv", classes.replace("b2\n", "b2,B\n"))
    settled.run("devices", "import", file, "--crs", "wgs84")
    assert "generation 7" in settled.run("device-type", "apply", heat)


def test_the_set_is_checked_with_the_types_in_force(settled):
    odd = ROOM.replace("acme.room", "acme.odd").replace("/telemetry/", "/x/")
    other = ROOM.replace("acme.room", "acme.other").replace("/telemetry/", "/x/")
    other = other.replace("lane: telemetry", "lane: alarm")
    settled.run("device-type", "apply", settled.file("odd.yaml", odd))
    generation = settled.registry().generation
    lane, name = line_of("lane:"), line_of("name:")
    said = settled.refused(
        "device-type",
        "apply",
        settled.file("room.yaml", HUMID),
        settled.file("other.yaml", other),
        settled.file("same.yaml", other.replace("lane: alarm", "lane: telemetry")),
    )
    assert said == [
        (
            f"same.yaml:{name}: name: got acme.other, which is also the name of other.yaml,"
            " expected another name"
        ),
        (
            f"same.yaml:{lane}: topics.0.lane: got telemetry for up/{{carrier}}/x/{{key}}, but"
            " up/{carrier}/x/{key} of other.yaml is of lane alarm; expected the same lane"
        ),
    ]
    said = settled.refused("device-type", "apply", settled.file("other.yaml", other))
    assert said == [
        (
            f"other.yaml:{lane}: topics.0.lane: got alarm for up/{{carrier}}/x/{{key}}, but"
            " up/{carrier}/x/{key} of (in force) acme.odd is of lane telemetry;"
            " expected the same lane"
        )
    ]
    bad = HUMID.replace("unit: degC", "unit: C").replace("acme.room", "a.b")
    good = settled.file("room.yaml", HUMID)
    (said,) = settled.refused("device-type", "apply", good, settled.file("bad.yaml", bad))
    assert said.startswith("bad.yaml:")
    assert settled.registry().generation == generation


def test_a_folder_is_applied_as_a_whole_with_what_is_shipped(office):
    (office.folder / "types" / "acme").mkdir(parents=True)
    office.file("types/acme/room.yaml", ROOM)
    said = office.run("device-type", "apply", "--folder", office.folder / "types", "--shipped")
    assert said.splitlines()[0] == "types/acme/room.yaml: acme.room: new, version 1; no devices yet"
    assert said.splitlines()[-1].startswith("1 new, 0 changed, ")
    assert office.refused("device-type", "apply") == [
        "got no file, expected FILE..., --folder or --shipped"
    ]


def test_each_version_stays_and_decodes_what_came_under_it(settled):
    """A thermometer that says tenths from now on: what is stored keeps its meaning."""
    tenths = ROOM.replace("unit: degC", "unit: degC\n    scale: 0.1").replace("-127", "-1270")
    for was, now in (("21.4", "214"), ("-3", "-30"), ("64", "640"), (": -127}", ": -1270}")):
        tenths = tenths.replace(f'"temperature": {was}', f'"temperature": {now}')
    settled.run("device-type", "apply", settled.file("room.yaml", tenths))
    registry = settled.registry()
    before, after = registry.at(registry.generation - 1), registry.newest
    kind = next(one.id for one in after.types.values() if one.name == "acme.room")
    assert (before.types[kind].version, after.types[kind].version) == (1, 2)
    assert (before.types[kind].document, after.types[kind].document) == (ROOM, tenths)
    scales = [
        compile_type(view.types[kind].document, "t")[0].fields[0].scale for view in (before, after)
    ]
    assert scales == [1.0, 0.1]
    assert points(settled, before.generation) == points(settled)  # the same points, the same unit


def test_what_is_in_force_is_listed_shown_and_exported(settled):
    settled.run("device-type", "apply", settled.file("heat.yaml", HEAT + "# ours\n"))
    said = settled.run("device-type", "list").splitlines()
    assert said[0].split() == ["NAME", "VERSION", "FORMAT", "DEVICES", "ORIGIN", "DESCRIPTION"]
    rows = {line.split()[0]: line.split()[1:5] for line in said[1:]}
    assert rows["acme.room"] == ["1", "json", "2", "operator"]
    assert rows["generic.heat"] == ["2", "json", "2", "changed"]
    assert rows["generic.gateway_batch"] == ["1", "json_columns", "1", "shipped"]
    settled.run("device-type", "apply", settled.file("room.yaml", HUMID))
    said = settled.run("device-type", "show", "acme.room").splitlines()
    assert said[0].startswith("# version 1: from generation 4 to 7; 20")
    assert said[1].startswith("# version 2: from generation 7 in force; 20")
    assert said[0].endswith("; device types room.yaml")
    assert "\n".join(said[2:]) == HUMID.strip()
    said = settled.run("device-type", "show", "acme.room", "--version", 1).splitlines()
    assert "\n".join(said[2:]) == ROOM.strip()
    assert settled.refused("device-type", "show", "acme.room", "--version", 3) == [
        "--version: got 3, expected one of 1, 2 of acme.room"
    ]
    (said,) = settled.refused("device-type", "show", "acme.rom")
    assert said.startswith("got the unknown type 'acme.rom', expected one of acme.room, ")
    assert said.endswith("; nearest: acme.room")
    assert settled.run("device-type", "export", "acme.room") == HUMID.strip()
    made = json.loads(settled.run("device-type", "export", "acme.room", "--td"))
    assert made["id"] == "urn:sizao:device-type:acme.room"
    assert made["version"] == {"instance": "2"}
    assert list(made["properties"]) == ["temperature_c", "humidity_pct"]
