"""A small district for the demo and the tests: invented, seeded, always the same.

11 streets, 111 communities, 2,000 devices; most of them state-only smoke alarms on NB-IoT, as in a
real district, the rest sensors of other kinds. Names are Chinese and English; coordinates lie on a
grid in the open ocean, so that nobody takes it for a real place.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from ingest.onboarding import load_all, points_needed, shipped
from sizao.limits import class_code
from sizao.registry.write import AreaRow, CarrierRow, Change, DeviceRow, TypeRow

STREETS = 11
COMMUNITIES = 111
DEVICES = 2_000
SEED = 20_26
HEAT, SMOKE, STATE, BATCH = (
    "generic.heat",
    "generic.smoke_heat",
    "generic.smoke_state",
    "generic.gateway_batch",
)
PLATFORMS = ("nb-platform-1", "nb-platform-2", "nb-platform-3")
GATEWAYS = 24
SENSORS_A_GATEWAY = 10
HEAT_DEVICES = 96
SMOKE_DEVICES = 60
FIRE_DEVICES = 4
LON, LAT = 152.0, 25.0  # open Pacific: no land within 800 km
SPREAD = 0.12

_STREET = (
    ("榕荫", "Rongyin"), ("望海", "Wanghai"), ("清溪", "Qingxi"), ("东岭", "Dongling"),
    ("白石", "Baishi"), ("荔园", "Liyuan"), ("新桥", "Xinqiao"), ("南塘", "Nantang"),
    ("松岗", "Songgang"), ("北环", "Beihuan"), ("云峰", "Yunfeng"),
)  # fmt: skip
_FIRST = (
    ("金", "Jin"), ("和", "He"), ("永", "Yong"), ("福", "Fu"), ("长", "Chang"), ("大", "Da"),
    ("龙", "Long"), ("兴", "Xing"), ("安", "An"), ("石", "Shi"), ("梅", "Mei"),
)  # fmt: skip
_SECOND = (
    ("湖", "hu"), ("坪", "ping"), ("田", "tian"), ("围", "wei"), ("岭", "ling"), ("泉", "quan"),
    ("湾", "wan"), ("井", "jing"), ("坑", "keng"), ("华", "hua"), ("城", "cheng"),
)  # fmt: skip


@dataclass(slots=True)
class District:
    """Rows for the registry, and who sends what in the simulation."""

    areas: list[AreaRow] = field(default_factory=list)
    carriers: list[CarrierRow] = field(default_factory=list)
    devices: list[DeviceRow] = field(default_factory=list)
    burning_site: str = ""
    burning: list[str] = field(default_factory=list)  # keys, one for each trace of the fire

    def change(self, what: str) -> Change:
        """The rows as a registry change: areas and carriers first, then devices."""
        if what == "devices":
            return Change(devices=self.devices)
        return Change(areas=self.areas, carriers=self.carriers, types=types())

    def keys_of(self, device_type: str) -> list[DeviceRow]:
        """Devices of a type, those of the burning room left out."""
        burning = set(self.burning)
        return [
            row for row in self.devices if row.device_type == device_type and row.key not in burning
        ]


def types() -> list[TypeRow]:
    """The shipped device types as registry rows."""
    return [
        TypeRow(name, document, points_needed(document)) for name, document in load_all(shipped())
    ]


def build() -> District:
    """The district; the same at every call."""
    rng = random.Random(SEED)  # noqa: S311 - a simulation, seeded so that it is the same each time
    district = District()
    district.areas.append(AreaRow("demo", "", "district", "四早示范区", "Sizao Demo District"))
    for number, (zh, en) in enumerate(_STREET, 1):
        code = f"demo-{number:02}"
        district.areas.append(AreaRow(code, "demo", "street", f"{zh}街道", f"{en} Street"))
    communities = [_community(district, number) for number in range(COMMUNITIES)]
    district.carriers += [CarrierRow(name) for name in PLATFORMS]
    _burning_house(district, communities[0])
    _gateways(district, communities, rng)
    _own_connections(district, communities, rng)
    _alarms(district, communities, rng)
    return district


def _community(district: District, number: int) -> str:
    street = number % STREETS + 1
    first, second = _FIRST[number // STREETS % len(_FIRST)], _SECOND[number % len(_SECOND)]
    code = f"demo-{street:02}-{number // STREETS + 1:02}"
    zh, en = f"{first[0]}{second[0]}社区", f"{first[1]}{second[1]} Community"
    district.areas.append(AreaRow(code, f"demo-{street:02}", "community", zh, en))
    return code


def _place(number: int) -> tuple[float, float]:
    """Longitude and latitude of the n-th site: a spiral-free grid, 64 a row."""
    row, column = divmod(number, 64)
    return round(LON + column * SPREAD / 64, 6), round(LAT + row * SPREAD / 64, 6)


def _site(district: District, community: str, kind: tuple[str, str]) -> AreaRow:
    number = sum(1 for area in district.areas if area.level == "site") + 1
    lon, lat = _place(number)
    row = AreaRow(
        f"site-{number:04}", community, "site", f"{number}号{kind[0]}", f"No. {number} {kind[1]}",
        lon, lat,
    )  # fmt: skip
    district.areas.append(row)
    return row


def _unit(district: District, site: AreaRow, floor: int, room: int) -> str:
    """Code of a room; its floor is made on the way."""
    story, unit = f"{site.code}-f{floor}", f"{site.code}-f{floor}-{floor}{room:02}"
    codes = {area.code for area in district.areas[-200:]}
    if story not in codes:
        district.areas.append(
            AreaRow(story, site.code, "floor", f"{floor}楼", f"Floor {floor}", floor=floor)
        )
    if unit not in codes:
        name = f"{floor}{room:02}"
        district.areas.append(AreaRow(unit, story, "unit", f"{name}室", f"Room {name}"))
    return unit


def _burning_house(district: District, community: str) -> None:
    site = _site(district, community, ("家具作坊", "Furniture Workshop"))
    room = _unit(district, site, 2, 1)
    for number in range(FIRE_DEVICES):
        key = f"heat-fire-{'abcd'[number]}"
        district.carriers.append(CarrierRow(key, site.code))
        district.devices.append(
            DeviceRow(key, key, HEAT, room, class_code("A1R"), lon=site.lon, lat=site.lat)
        )
        district.burning.append(key)
    district.burning_site = site.code


def _gateways(district: District, communities: list[str], rng: random.Random) -> None:
    for number in range(1, GATEWAYS + 1):
        site = _site(district, rng.choice(communities), ("厂房", "Factory"))
        name = f"gateway-{number:02}"
        district.carriers.append(CarrierRow(name, site.code))
        for sensor in range(SENSORS_A_GATEWAY):
            unit = _unit(district, site, 1 + sensor // 5, sensor % 5 + 1)
            key = f"{name}-t{sensor:02}"
            district.devices.append(DeviceRow(key, name, BATCH, unit, class_code("A2")))


def _own_connections(district: District, communities: list[str], rng: random.Random) -> None:
    kinds = [(HEAT, "heat", "A1R")] * HEAT_DEVICES + [(SMOKE, "smoke", "")] * SMOKE_DEVICES
    for number, (device_type, word, heat_class) in enumerate(kinds, 1):
        if number % 4 == 1:
            site = _site(district, rng.choice(communities), ("商铺", "Shop"))
        key = f"{word}-{number:04}"
        unit = _unit(district, site, 1, number % 4 + 1)
        district.carriers.append(CarrierRow(key, site.code))
        district.devices.append(
            DeviceRow(key, key, device_type, unit, class_code(heat_class) if heat_class else 0)
        )


def _alarms(district: District, communities: list[str], rng: random.Random) -> None:
    """Smoke alarms in dwellings until the district has all its devices."""
    serial = 0
    while len(district.devices) < DEVICES:
        site = _site(district, rng.choice(communities), ("民宅", "House"))
        for flat in range(rng.randint(3, 8)):
            if len(district.devices) == DEVICES:
                return
            serial += 1
            unit = _unit(district, site, 1 + flat // 2, flat % 2 + 1)
            imei = f"8600000000{serial:05}"
            platform = PLATFORMS[serial % len(PLATFORMS)]
            district.devices.append(DeviceRow(imei, platform, STATE, unit))
