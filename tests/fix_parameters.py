"""A district of two streets whose devices have parameters set, for the tests of the detectors."""

from collections.abc import Iterable

import pyarrow as pa
from fix_detect import Point
from fix_detect import registry as plain

from sizao.registry.model import FOREVER, NO_FLOOR, TABLES, Registry

# id: parent, level
AREAS = {
    1: (0, "district"),
    2: (1, "street"),
    3: (1, "street"),
    5: (2, "site"),
    6: (2, "site"),
    7: (3, "site"),
    8: (5, "floor"),
    9: (8, "unit"),
    10: (7, "unit"),
}
HOMES = {1: 5, 2: 6, 3: 7, 4: 9, 5: 8, 6: 10}
"""Area of the device of each point; device id = 1000 + point id."""
KINDS = {1: 1, 2: 1, 3: 2, 4: 2, 5: 1, 6: 1}
NIGHT = (22 * 60, 6 * 60)


def row(number: int, rule: str, parameter: str, place, value: float, **more):
    """A row of rule_parameter that holds from generation 1 on."""
    window = {"from_minute": 0, "to_minute": 0, "days": 127, "offset_minutes": 0}
    held = {"from_gen": 1, "to_gen": FOREVER}
    scope, scope_id = place
    said = {"rule": rule, "parameter": parameter, "scope": scope, "scope_id": scope_id}
    return {"id": number, **said, "value": value, **window, **held, **more}


def district(
    rows: Iterable[dict], generation: int = 1, quantity: str = "temperature_c"
) -> Registry:
    """Points 1 to 6, each on a device of its own, at home as HOMES and KINDS say."""
    known = plain([Point(point, quantity) for point in HOMES], generation)
    held = {"from_gen": 1, "to_gen": FOREVER}
    areas = [
        {"id": one, "parent": parent, "level": level, "code": f"a{one}", "name_zh": "", "lon": 0.0,
         "name_en": "", "lat": 0.0, "partition": -1, "floor": NO_FLOOR, **held}
        for one, (parent, level) in AREAS.items()
    ]  # fmt: skip
    devices = known.tables["device"].to_pylist()
    for each in devices:
        each["area"], each["device_type"] = HOMES[each["id"] - 1000], KINDS[each["id"] - 1000]
    kinds = [{"id": n, "name": f"t{n}", "version": 1, "document": "", **held} for n in (1, 2)]
    carriers = [{"id": 1, "name": "c", "site": 0, "revoked": False, **held}]
    tables = {
        "area": areas, "device": devices, "device_type": kinds, "carrier": carriers,
        "rule_parameter": sorted(rows, key=lambda each: (each["id"], each["from_gen"])),
    }  # fmt: skip
    made = {name: pa.Table.from_pylist(each, schema=TABLES[name]) for name, each in tables.items()}
    return Registry(generation=generation, partitions=4, tables=known.tables | made)
