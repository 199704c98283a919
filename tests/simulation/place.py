"""The district of the simulation: who stands where, under which mark, and who is told."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import pyarrow as pa
from fix_bridge import BATCH, HEAT, SMOKE_HEAT, SMOKE_STATE

from alerting.model import INCIDENT_KINDS, Nature
from alerting.policy import Responder
from alerting.responders import Directory
from ingest.onboarding import points_needed
from ingest.routes import District, district
from sizao.limits import STATIC_MINIMUM_C, class_code
from sizao.registry.model import FOREVER, TABLES, Registry, View
from sizao.signal import Kind, Tier
from sizao.units import BY_NAME

PARTITIONS = 2
GENERATIONS = 2
DOCUMENTS = (HEAT, SMOKE_HEAT, SMOKE_STATE, BATCH)
TEMPERATURE, FIRE = BY_NAME["temperature_c"].code, BY_NAME["fire_state"].code


@dataclass(frozen=True)
class Thing:
    """A device. Several natures share site 4, so that nothing but the nature keeps them apart."""

    key: str
    document: str
    carrier: str
    site: int
    heat_class: str = ""
    mark: str = "real"
    from_gen: int = 1


THINGS = (
    Thing("h1", HEAT, "c1", 4),
    Thing("h2", HEAT, "c1", 5, "A2"),
    Thing("h3", HEAT, "c1", 6, "B"),
    Thing("h4", HEAT, "c2", 7),
    Thing("h5", HEAT, "c2", 4),
    Thing("h-test", HEAT, "c2", 4, mark="test"),
    Thing("h-canary", HEAT, "c2", 4, mark="canary"),
    Thing("s1", SMOKE_HEAT, "c3", 4),
    Thing("s2", SMOKE_HEAT, "c3", 5),
    Thing("s3", SMOKE_HEAT, "c3", 8),
    Thing("s-test", SMOKE_HEAT, "c3", 4, mark="test"),
    Thing("n1", SMOKE_STATE, "nb", 6),
    Thing("n2", SMOKE_STATE, "nb", 7),
    Thing("n3", SMOKE_STATE, "nb", 8),
    Thing("t1", BATCH, "g1", 5),
    Thing("t2", BATCH, "g1", 5),
    Thing("t3", BATCH, "g1", 5),
    Thing("h-new", HEAT, "c1", 6, from_gen=2),
)
BY_KEY = {thing.key: thing for thing in THINGS}
DEVICE = {thing.key: number for number, thing in enumerate(THINGS, 1)}
MARK = {number: thing.mark for number, thing in enumerate(THINGS, 1)}
CARRIERS = {"c1": 0, "c2": 7, "c3": 0, "nb": 0, "g1": 5}
"""Name -> site of the carrier itself."""

# Id, parent, level, code, partition: two streets, and sites in both partitions.
_AREAS = (
    (1, 0, "district", "D", -1),
    (2, 1, "street", "ST1", -1),
    (3, 1, "street", "ST2", -1),
    (4, 2, "site", "S4", 0),
    (5, 2, "site", "S5", 1),
    (6, 2, "site", "S6", 0),
    (7, 3, "site", "S7", 1),
    (8, 3, "site", "S8", 0),
)
_PARTITION = {number: partition for number, *_, partition in _AREAS}


def _rows() -> dict[str, list[dict[str, object]]]:
    held = {"from_gen": 1, "to_gen": FOREVER}
    nowhere = {"lon": float("nan"), "lat": float("nan")}
    rows: dict[str, list[dict[str, object]]] = {name: [] for name in TABLES}
    for number, parent, level, code, partition in _AREAS:
        area = {"id": number, "parent": parent, "level": level, "code": code}
        names = {"name_zh": f"{code}号", "name_en": code, "partition": partition}
        rows["area"].append(area | names | nowhere | held)
    for number, (name, site) in enumerate(CARRIERS.items(), 1):
        carrier = {"id": number, "name": name, "site": site, "revoked": False}
        rows["carrier"].append(carrier | held)
    for number, document in enumerate(DOCUMENTS, 1):
        kind = {"id": number, "name": f"type.{number}", "version": 1, "document": document}
        rows["device_type"].append(kind | held)
    for thing in THINGS:
        since = {"from_gen": thing.from_gen, "to_gen": FOREVER}
        device = {
            "id": DEVICE[thing.key],
            "key": thing.key,
            "carrier": list(CARRIERS).index(thing.carrier) + 1,
            "device_type": DOCUMENTS.index(thing.document) + 1,
            "area": thing.site,
            "site": thing.site,
            "heat_class": class_code(thing.heat_class),
            "gas": 0,
            "mark": thing.mark,
            "state": "in_service",
        }
        rows["device"].append(device | nowhere | since)
        for code in points_needed(thing.document):
            point = {"id": len(rows["point"]) + 1, "device": DEVICE[thing.key], "quantity": code}
            where = {"site": thing.site, "partition": _PARTITION[thing.site]}
            rows["point"].append(point | where | since)
    return rows


@cache
def _tables() -> dict[str, pa.Table]:
    return {
        name: pa.Table.from_pylist(content, schema=TABLES[name])
        for name, content in _rows().items()
    }


@cache
def point(key: str, quantity: int) -> int:
    (found,) = [
        row["id"]
        for row in _tables()["point"].to_pylist()
        if (row["device"], row["quantity"]) == (DEVICE[key], quantity)
    ]
    return found


@cache
def limits_c() -> dict[int, float]:
    """The fixed limit of each temperature point."""
    classes = {DEVICE[thing.key]: class_code(thing.heat_class) for thing in THINGS}
    return {
        row["id"]: float(STATIC_MINIMUM_C[classes[row["device"]]])
        for row in _tables()["point"].to_pylist()
        if row["quantity"] == TEMPERATURE
    }


class _Views(dict[int, View]):
    """The registry keeps one view for its size; these are small, and folds ask to and fro."""

    def clear(self) -> None:
        pass


@cache
def registry(generation: int = GENERATIONS) -> Registry:
    """As a process sees it that knows up to `generation`. Nobody changes it, so seeds share it."""
    return Registry(generation=generation, partitions=PARTITIONS, tables=_tables(), _views=_Views())


@cache
def compiled(generation: int) -> District:
    """The bridge's district; what it remembers of topics is a cache, so seeds may share it."""
    return district(registry(generation).newest)


def _responder(name, area, natures, min_tier=Tier.EARLY, kinds=INCIDENT_KINDS) -> Responder:
    return Responder(
        name=name,
        area=area,
        kinds=frozenset(kinds),
        natures=frozenset(natures),
        min_tier=min_tier,
        language="zh",
        channels=("hook",),
    )


_LAB = _responder("lab", "D", [Nature.TEST, Nature.CANARY])
# In the last three, filters alone would leave fires to nobody: policy has to loosen them.
DIRECTORIES = (
    (_LAB, _responder("duty", "D", [Nature.REAL]), _responder("st2", "ST2", [Nature.REAL])),
    (_LAB, _responder("urgent-only", "D", [Nature.REAL], Tier.URGENT)),
    (_LAB, _responder("gas-only", "D", [Nature.REAL], kinds=[Kind.GAS])),
    (_LAB, _responder("elsewhere", "ST2", [Nature.REAL])),
)


def directory(choice: int) -> Directory:
    told = DIRECTORIES[choice % len(DIRECTORIES)]
    entry = {"channel": "webhook", "name": "hook"}
    return Directory(
        version=1, responders=told, addresses={(one.name, "hook"): dict(entry) for one in told}
    )
