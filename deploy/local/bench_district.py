"""The district that the bench loads: sensors behind shared carriers, gateways, rooms that burn."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path

from deploy.local.district import BATCH, HEAT, types
from deploy.local.load import Device
from deploy.local.places import REPOSITORY
from ingest.onboarding import load_all, operators, points_needed
from sizao.limits import class_code
from sizao.registry.write import AreaRow, CarrierRow, Change, DeviceRow, TypeRow

TOP = "bench"
PACKED = "bench.gateway_binary"
TYPES: Path = REPOSITORY / "deploy" / "local" / "types"
DEVICES_A_SITE = 40
KEYS_A_GATEWAY = 50
_SENSORS, _LONE, _COLUMNS, _PACKED, _BURNING = "bs", "bl", "bg", "bp", "bf"


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """How many of what. `lone`: sensors with a connection of their own each."""

    sensors: int
    connections: int
    gateways: int  # of either form
    lone: int = 0

    @property
    def devices(self) -> int:
        """All of them, those that burn left out."""
        return self.sensors + self.lone + 2 * self.gateways * KEYS_A_GATEWAY


@dataclass(slots=True)
class BenchDistrict:
    """Rows for the registry, and the devices of each part of the load."""

    areas: list[AreaRow] = field(default_factory=list)
    carriers: list[CarrierRow] = field(default_factory=list)
    rows: list[DeviceRow] = field(default_factory=list)
    sensors: list[Device] = field(default_factory=list)
    lone: list[Device] = field(default_factory=list)
    columns: list[Device] = field(default_factory=list)
    packed: list[Device] = field(default_factory=list)
    burning: list[Device] = field(default_factory=list)

    def change(self) -> Change:
        """All of it in one change."""
        documents = load_all(operators(TYPES))
        own = [TypeRow(name, document, points_needed(document)) for name, document in documents]
        return Change(
            areas=self.areas, carriers=self.carriers, types=types() + own, devices=self.rows
        )

    def add(self, device: Device, kind: str, sites: Iterator[str]) -> Device:
        """Register what a carrier speaks for, each key at the next site."""
        carrier, keys = device
        self.rows += [_device(key, carrier, kind, next(sites)) for key in keys]
        return device


def build(size: Size, fires: int) -> BenchDistrict:
    """The same at every call. Each of `fires` devices has a carrier and a site of its own."""
    made = BenchDistrict()
    made.areas.append(AreaRow(TOP, "", "district", "测试区", "Bench District"))
    count = -(-size.devices // DEVICES_A_SITE)
    sites = [f"{TOP}-{number:05}" for number in range(count)]
    made.areas += [_site(code) for code in sites]
    around = cycle(sites)
    made.carriers += [CarrierRow(f"{_SENSORS}-{number:04}") for number in range(size.connections)]
    for number in range(size.sensors):
        carrier = f"{_SENSORS}-{number % size.connections:04}"
        device = carrier, [f"s-{number:06}"]
        made.sensors.append(made.add(device, HEAT, around))
    for number in range(size.lone):
        name = f"{_LONE}-{number:05}"
        made.carriers.append(CarrierRow(name))
        made.lone.append(made.add((name, [name]), HEAT, around))
    for number in range(size.gateways):
        _gateways(made, number, around)
    for number in range(fires):
        name = f"{_BURNING}-{number:04}"
        made.areas.append(_site(f"{TOP}-{name}"))
        made.carriers.append(CarrierRow(name))
        made.burning.append(made.add((name, [name]), HEAT, iter([f"{TOP}-{name}"])))
    return made


def _gateways(made: BenchDistrict, number: int, sites: Iterator[str]) -> None:
    """One of each form."""
    columns, packed = f"{_COLUMNS}-{number:04}", f"{_PACKED}-{number:04}"
    made.carriers += [CarrierRow(columns), CarrierRow(packed)]
    named = [f"g-{number:04}-{key:02}" for key in range(KEYS_A_GATEWAY)]
    numbered = [f"{number << 16 | key:08x}" for key in range(KEYS_A_GATEWAY)]
    made.columns.append(made.add((columns, named), BATCH, sites))
    made.packed.append(made.add((packed, numbered), PACKED, sites))


def _site(code: str) -> AreaRow:
    return AreaRow(code, TOP, "site", f"{code}号", f"Site {code}")


def _device(key: str, carrier: str, kind: str, area: str) -> DeviceRow:
    return DeviceRow(key, carrier, kind, area, heat_class=class_code("A1"))
