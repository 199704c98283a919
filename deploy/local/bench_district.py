"""The district that the bench loads: sensors behind shared carriers, gateways, rooms that burn."""

from __future__ import annotations

from dataclasses import dataclass, field

from deploy.local.district import BATCH, HEAT, types
from deploy.local.load import Device
from sizao.limits import class_code
from sizao.registry.write import AreaRow, CarrierRow, Change, DeviceRow

TOP = "bench"
SENSORS = 4_000
SENSOR_CARRIERS = 200
SITES = 100
GATEWAYS = 80
KEYS_A_GATEWAY = 50


@dataclass(slots=True)
class BenchDistrict:
    """Rows for the registry, and the devices of each part of the load."""

    areas: list[AreaRow] = field(default_factory=list)
    carriers: list[CarrierRow] = field(default_factory=list)
    rows: list[DeviceRow] = field(default_factory=list)
    sensors: list[Device] = field(default_factory=list)
    gateways: list[Device] = field(default_factory=list)
    burning: list[Device] = field(default_factory=list)

    def change(self) -> Change:
        """All of it in one change."""
        return Change(areas=self.areas, carriers=self.carriers, types=types(), devices=self.rows)


def build(fires: int) -> BenchDistrict:
    """The same at every call. Each of `fires` devices has a carrier and a site of its own."""
    made = BenchDistrict()
    made.areas.append(AreaRow(TOP, "", "district", "测试区", "Bench District"))
    made.areas += [_site(f"{TOP}-{number:03}") for number in range(SITES)]
    made.carriers += [CarrierRow(f"bc-{number:03}") for number in range(SENSOR_CARRIERS)]
    for number in range(SENSORS):
        carrier, key = f"bc-{number % SENSOR_CARRIERS:03}", f"bs-{number:05}"
        made.sensors.append((carrier, [key]))
        made.rows.append(_device(key, carrier, HEAT, f"{TOP}-{number % SITES:03}"))
    for number in range(GATEWAYS):
        carrier = f"bg-{number:02}"
        keys = [f"{carrier}-{key:02}" for key in range(KEYS_A_GATEWAY)]
        made.carriers.append(CarrierRow(carrier))
        made.gateways.append((carrier, keys))
        site = f"{TOP}-{number % SITES:03}"
        made.rows += [_device(key, carrier, BATCH, site) for key in keys]
    for number in range(fires):
        name = f"bf-{number:04}"
        made.areas.append(_site(f"{TOP}-{name}"))
        made.carriers.append(CarrierRow(name))
        made.burning.append((name, [name]))
        made.rows.append(_device(name, name, HEAT, f"{TOP}-{name}"))
    return made


def _site(code: str) -> AreaRow:
    return AreaRow(code, TOP, "site", f"{code}号", f"Site {code}")


def _device(key: str, carrier: str, kind: str, area: str) -> DeviceRow:
    return DeviceRow(key, carrier, kind, area, heat_class=class_code("A1"))
