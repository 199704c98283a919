"""A small district for the tests of the bridge: one device a line, points as its type needs."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass

import pyarrow as pa

from ingest.mqtt.message import Message
from ingest.onboarding import points_needed, shipped
from ingest.routes import District, district
from sizao.errors import BadInput
from sizao.registry.model import FOREVER, TABLES, Registry, View
from sizao.units import BY_CODE

T0_US = 1_772_352_000_000_000
"""2026-03-01T08:00:00Z"""
HELD = {"from_gen": 1, "to_gen": FOREVER}
DOCUMENTS = dict(shipped())
HEAT = DOCUMENTS["generic/heat.yaml"]
SMOKE_HEAT = DOCUMENTS["generic/smoke_heat.yaml"]
SMOKE_STATE = DOCUMENTS["generic/smoke_state.yaml"]
BATCH = DOCUMENTS["generic/gateway_batch.yaml"]


@dataclass(frozen=True)
class Device:
    key: str
    document: str = HEAT
    carrier: str = "c1"
    site: int = 5
    partition: int = 0
    state: str = "in_service"
    gas: int = 0


def registry(
    devices: Iterable[Device],
    generation: int = 1,
    partitions: int = 4,
    revoked: Collection[str] = (),
) -> Registry:
    """Device ids from 1 in the order given; point ids likewise, by quantity code.

    A site lies in the partition of the first device that stands there.
    """
    devices = list(devices)
    documents = list(dict.fromkeys(device.document for device in devices))
    carriers = list(dict.fromkeys(device.carrier for device in devices))
    rows = {name: [] for name in TABLES}
    for index, document in enumerate(documents, 1):
        rows["device_type"].append(
            {"id": index, "name": f"type.{index}", "version": 1, "document": document, **HELD}
        )
    rows["area"] = [area | HELD for area in _sites(devices)]
    for index, carrier in enumerate(carriers, 1):
        row = {"id": index, "name": carrier, "site": 0, "revoked": carrier in revoked}
        rows["carrier"].append(row | HELD)
    for index, device in enumerate(devices, 1):
        rows["device"].append(
            {
                "id": index,
                "carrier": carriers.index(device.carrier) + 1,
                "device_type": documents.index(device.document) + 1,
                **_row(device),
            }
        )
        for code in _codes(device.document):
            rows["point"].append(
                {
                    "id": len(rows["point"]) + 1,
                    "device": index,
                    "quantity": code,
                    "site": device.site,
                    "partition": device.partition,
                    **HELD,
                }
            )
    tables = {
        name: pa.Table.from_pylist(content, schema=TABLES[name]) for name, content in rows.items()
    }
    return Registry(generation=generation, partitions=partitions, tables=tables)


def _row(device: Device) -> dict[str, object]:
    return {
        "key": device.key,
        "area": device.site,
        "site": device.site,
        "heat_class": 0,
        "gas": device.gas,
        "mark": "real",
        "state": device.state,
        "lon": float("nan"),
        "lat": float("nan"),
        **HELD,
    }


def _sites(devices: list[Device]) -> Iterable[dict[str, object]]:
    for site, partition in {one.site: one.partition for one in reversed(devices)}.items():
        area = {
            "id": site,
            "parent": 0,
            "level": "site",
            "code": f"s{site}",
            "partition": partition,
        }
        yield area | {"name_zh": "楼", "name_en": "House", "lon": float("nan"), "lat": float("nan")}


def _codes(document: str) -> list[int]:
    try:
        return points_needed(document)
    except BadInput:  # a broken type: its devices keep a temperature point
        return [1]


def small(*devices: Device) -> District:
    return district(registry(devices).newest)


def message(
    topic: str, payload: bytes | str, *, at_us: int = T0_US, dup: bool = False, number: int = 1
) -> Message:
    raw = payload.encode() if isinstance(payload, str) else payload
    return Message(topic.encode(), raw, at_us, dup, 1, number)


def shown(view: View, decoded) -> list[tuple[str, str, float]]:
    """Key, quantity and value of each reading."""
    return [
        (
            view.device_key[view.point_device[point]],
            BY_CODE[int(view.point_quantity[point])].name,
            round(float(value), 4),
        )
        for point, value in zip(decoded.point, decoded.value, strict=True)
    ]
