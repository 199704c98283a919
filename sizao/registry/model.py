"""The read model: every row that ever was, with the generations between which it held.

`Registry` is what the database says up to `generation`; `View` is the district at one generation,
as numpy arrays indexed by the dense ids of devices and points. A fold asks for the view of the
generation that a frame carries, so a replay judges as the first run did.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from sizao import units
from sizao.units import Lane

FOREVER = (1 << 62) - 1
"""`to_gen` of a row that still holds."""
NO_FLOOR = -(1 << 15)
"""`floor` of an area that is none, or whose number nobody has said."""

Ints = npt.NDArray[np.int32]


class Mark(StrEnum):
    """What the registry says a device is for; decides the nature of its incidents."""

    REAL = "real"
    TEST = "test"
    CANARY = "canary"


class LifeState(StrEnum):
    """A device's life-cycle."""

    PLANNED = "planned"
    IN_SERVICE = "in_service"
    ISOLATED = "isolated"
    RETIRED = "retired"


LEVELS: tuple[str, ...] = (
    "district", "street", "community", "grid", "estate", "site", "floor", "zone", "unit",
)  # fmt: skip
"""Levels of the area tree from the top; any but the first may be missing."""

CHARGING = "charging"
USES: tuple[str, ...] = ("", CHARGING)
"""What an area and all below it is used for, as far as alarms are judged by it."""

_TEXT = pa.large_string()
_GENERATIONS = [pa.field("from_gen", pa.int64()), pa.field("to_gen", pa.int64())]


def _table(*columns: tuple[str, pa.DataType]) -> pa.Schema:
    return pa.schema([pa.field(name, kind) for name, kind in columns] + _GENERATIONS)


# Column order is that of the SELECTs in load.py.
TABLES: dict[str, pa.Schema] = {
    "area": _table(
        ("id", pa.int32()),
        ("parent", pa.int32()),  # 0 at the top
        ("level", _TEXT),
        ("code", _TEXT),
        ("name_zh", _TEXT),
        ("name_en", _TEXT),
        ("lon", pa.float64()),  # WGS 84; NaN where unknown
        ("lat", pa.float64()),
        ("partition", pa.int16()),  # of a site; -1 elsewhere
        ("floor", pa.int16()),  # number of a floor; NO_FLOOR elsewhere
        ("use", _TEXT),  # one of USES
    ),
    "carrier": _table(
        ("id", pa.int32()), ("name", _TEXT), ("site", pa.int32()), ("revoked", pa.bool_())
    ),
    "device_type": _table(
        ("id", pa.int32()), ("name", _TEXT), ("version", pa.int32()), ("document", _TEXT)
    ),
    "device": _table(
        ("id", pa.int32()),
        ("key", _TEXT),
        ("carrier", pa.int32()),
        ("device_type", pa.int32()),
        ("area", pa.int32()),
        ("site", pa.int32()),
        ("heat_class", pa.int16()),
        ("gas", pa.int16()),  # place in sizao.units.GASES
        ("mark", _TEXT),
        ("state", _TEXT),
        ("lon", pa.float64()),
        ("lat", pa.float64()),
    ),
    "point": _table(
        ("id", pa.int32()),
        ("device", pa.int32()),
        ("quantity", pa.int16()),
        ("site", pa.int32()),
        ("partition", pa.int16()),
    ),
    "rule_parameter": _table(
        ("id", pa.int32()),
        ("rule", _TEXT),
        ("parameter", _TEXT),
        ("scope", _TEXT),
        ("scope_id", pa.int32()),
        ("value", pa.float64()),
        *((name, pa.int16()) for name in ("from_minute", "to_minute", "days", "offset_minutes")),
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Area:
    """One node of the tree. `lon`, `lat` are NaN, `floor` is NO_FLOOR where unknown."""

    id: int
    parent: int
    level: str
    code: str
    name_zh: str
    name_en: str
    lon: float
    lat: float
    partition: int
    floor: int = NO_FLOOR
    use: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceType:
    """One version of a device type; `document` is its YAML."""

    id: int
    name: str
    version: int
    document: str


@dataclass(frozen=True, kw_only=True)
class View:
    """The district at one generation.

    Arrays are indexed by the id (device, point); index 0 is nobody. A row that does not hold at
    this generation has `device_live` or `point_live` false but keeps its columns when it held
    before, so that a late record can still be placed. `revoked`: names of carriers. `parameters`:
    live rows of rule_parameter, which detectors alone can read.
    """

    generation: int
    partitions: int
    areas: dict[int, Area]
    types: dict[int, DeviceType]
    carrier_names: dict[int, str]
    carrier_site: dict[str, int]
    revoked: frozenset[str]
    device_key: list[str]
    device_carrier: Ints
    device_type: Ints
    device_area: Ints
    device_site: Ints
    device_heat_class: Ints
    device_gas: Ints
    device_mark: list[str]
    device_state: list[str]
    device_lon: npt.NDArray[np.float64]
    device_lat: npt.NDArray[np.float64]
    device_live: npt.NDArray[np.bool_]
    point_device: Ints
    point_quantity: Ints
    point_site: Ints
    point_partition: Ints
    point_live: npt.NDArray[np.bool_]
    parameters: Sequence[dict[str, Any]] = ()
    _folds: dict[tuple[Lane, int], Fold] = field(default_factory=dict)

    @cached_property
    def roster(self) -> dict[str, dict[str, int]]:
        """Carrier name -> key -> device id, of live devices."""
        rosters: dict[str, dict[str, int]] = {name: {} for name in self.carrier_names.values()}
        for device in np.flatnonzero(self.device_live).tolist():
            carrier = self.carrier_names[int(self.device_carrier[device])]
            rosters[carrier][self.device_key[device]] = device
        return rosters

    @cached_property
    def device_in_service(self) -> npt.NDArray[np.bool_]:
        """By device: whether its life-cycle says that it is to speak and to be believed."""
        return np.array([state == LifeState.IN_SERVICE for state in self.device_state], np.bool_)

    @cached_property
    def carrier_devices(self) -> npt.NDArray[np.int64]:
        """By carrier: how many devices in service it brings."""
        spoken_for = self.device_carrier[self.device_live & self.device_in_service]
        return np.bincount(spoken_for, minlength=max(self.carrier_names, default=0) + 1)

    @cached_property
    def _point_index(self) -> tuple[Ints, npt.NDArray[np.int64], Ints]:
        """Place of each device's first key; the keys, sorted, the last behind all; their points."""
        live = np.flatnonzero(self.point_live).astype(np.int32)
        key = self.point_device[live].astype(np.int64) << 16 | self.point_quantity[live]
        order = np.argsort(key)
        key, live = np.append(key[order], np.iinfo(np.int64).max), np.append(live[order], 0)
        devices = np.arange(len(self.device_type), dtype=np.int64)
        return np.searchsorted(key, devices << 16).astype(np.int32), key, live.astype(np.int32)

    def points_of(self, device: npt.NDArray[np.int32], quantity: npt.NDArray[np.int32]) -> Ints:
        """Live point of each (device, quantity code) pair; 0 where there is none.

        A device has few points and they stand together: a search through all of the district's
        cost three times as much at 400,000 devices.
        """
        first, key, point = self._point_index
        wanted = device.astype(np.int64) << 16 | quantity
        place, here = first[device], key[first[device]]
        while (before := here < wanted).any():
            place += before
            here = key[place]
        return np.where(here == wanted, point[place], 0).astype(np.int32)

    def fold(self, lane: Lane, partition: int) -> Fold:
        """The points of one (topic, partition), in slots that no later generation moves."""
        known = self._folds.get((lane, partition))
        if known is None:
            known = self._folds[lane, partition] = _fold(self, lane, partition)
        return known

    def path(self, area: int) -> list[Area]:
        """From the district down to `area`; empty for an unknown id."""
        found: list[Area] = []
        while area and area in self.areas and len(found) <= len(LEVELS):
            found.append(self.areas[area])
            area = self.areas[area].parent
        return found[::-1]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fold:
    """Slots of the points that travel in one (topic, partition).

    `slot[point]` is -1 for a point of another fold; `point[slot]` is its inverse. A point's
    partition never changes and ids only grow, so slots are stable: new points append.
    """

    lane: Lane
    partition: int
    slot: Ints
    point: Ints


_LANE_ALARM = np.zeros(1 << 15, np.bool_)
for _quantity in units.QUANTITIES:
    _LANE_ALARM[_quantity.code] = _quantity.lane is Lane.ALARM


def _fold(view: View, lane: Lane, partition: int) -> Fold:
    in_lane = _LANE_ALARM[view.point_quantity] == (lane is Lane.ALARM)
    mine = in_lane & (view.point_partition == partition) & (view.point_device > 0)
    point = np.flatnonzero(mine).astype(np.int32)
    slot = np.full(len(view.point_device), -1, np.int32)
    slot[point] = np.arange(len(point), dtype=np.int32)
    return Fold(lane=lane, partition=partition, slot=slot, point=point)


@dataclass(frozen=True, kw_only=True)
class Registry:
    """All rows up to `generation`; `at` gives the view of any generation up to it."""

    generation: int
    partitions: int
    tables: dict[str, pa.Table]
    _views: dict[int, View] = field(default_factory=dict)

    def at(self, generation: int) -> View:
        """The district at `generation`; the newest known one if asked for a later."""
        generation = min(generation, self.generation)
        view = self._views.get(generation)
        if view is None:
            self._views.clear()  # one view is up to 100 MB at 400,000 devices; keep the last
            view = self._views[generation] = _view(self, generation)
        return view

    @property
    def newest(self) -> View:
        """The district as it is now."""
        return self.at(self.generation)


def empty(partitions: int) -> Registry:
    """A registry that knows nobody, generation 0."""
    tables = {name: schema.empty_table() for name, schema in TABLES.items()}
    return Registry(generation=0, partitions=partitions, tables=tables)


def _numbers(table: pa.Table, column: str) -> npt.NDArray[Any]:
    array: npt.NDArray[Any] = table.column(column).to_numpy()
    return array


@dataclass(frozen=True, slots=True)
class _Dense:
    """Rows of a table by dense id: for each id its newest row begun by `generation`."""

    table: pa.Table
    ids: Ints
    size: int
    live: npt.NDArray[np.bool_]

    def ints(self, column: str) -> Ints:
        array = np.zeros(self.size, np.int32)
        array[self.ids] = _numbers(self.table, column)
        return array

    def floats(self, column: str) -> npt.NDArray[np.float64]:
        array = np.full(self.size, np.nan)
        array[self.ids] = _numbers(self.table, column)
        return array

    def texts(self, column: str) -> list[str]:
        texts = [""] * self.size
        values = self.table.column(column).to_pylist()
        for index, text in zip(self.ids.tolist(), values, strict=True):
            texts[index] = text
        return texts

    def words(self, column: str) -> list[str]:
        """As texts, of a few that repeat: each is one object, not 400,000 (20 MB a column)."""
        texts = [""] * self.size
        chosen = self.table.column(column).combine_chunks().dictionary_encode()
        words = chosen.dictionary.to_pylist()
        for index, word in zip(self.ids.tolist(), chosen.indices.to_pylist(), strict=True):
            texts[index] = words[word]
        return texts


def _dense(registry: Registry, name: str, generation: int) -> _Dense:
    table = registry.tables[name]
    begun = _numbers(table, "from_gen") <= generation
    ids = _numbers(table, "id").astype(np.int32)
    size = int(ids.max(initial=0)) + 1
    # Sorted by (id, from_gen) in load.py: the last begun row of an id is the one that counts.
    rows = np.flatnonzero(begun)
    last = np.ones(len(rows), np.bool_)
    last[:-1] = ids[rows][1:] != ids[rows][:-1]
    rows = rows[last]
    chosen = table if len(rows) == table.num_rows else table.take(pa.array(rows))
    live = np.zeros(size, np.bool_)
    live[ids[rows]] = _numbers(chosen, "to_gen") > generation
    return _Dense(table=chosen, ids=ids[rows], size=size, live=live)


def _live_rows(registry: Registry, name: str, generation: int) -> list[dict[str, Any]]:
    dense = _dense(registry, name, generation)
    rows: list[dict[str, Any]] = dense.table.drop_columns(["from_gen", "to_gen"]).to_pylist()
    return [row for row, live in zip(rows, dense.live[dense.ids], strict=True) if live]


def _view(registry: Registry, generation: int) -> View:
    device = _dense(registry, "device", generation)
    point = _dense(registry, "point", generation)
    carrier = _dense(registry, "carrier", generation)
    names = dict(zip(carrier.ids.tolist(), carrier.table.column("name").to_pylist(), strict=True))
    live_carriers = {name for index, name in names.items() if carrier.live[index]}
    sites = dict(zip(names.values(), carrier.table.column("site").to_pylist(), strict=True))
    revoked = zip(names.values(), carrier.table.column("revoked").to_pylist(), strict=True)
    types = _dense(registry, "device_type", generation).table.drop_columns(["from_gen", "to_gen"])
    return View(
        generation=generation,
        partitions=registry.partitions,
        areas={row["id"]: Area(**row) for row in _live_rows(registry, "area", generation)},
        # Types stay readable after they end: an old device may still name one.
        types={row["id"]: DeviceType(**row) for row in types.to_pylist()},
        carrier_names=names,
        carrier_site={name: site for name, site in sites.items() if name in live_carriers},
        revoked=frozenset(name for name, is_so in revoked if is_so and name in live_carriers),
        device_key=device.texts("key"),
        device_carrier=device.ints("carrier"),
        device_type=device.ints("device_type"),
        device_area=device.ints("area"),
        device_site=device.ints("site"),
        device_heat_class=device.ints("heat_class"),
        device_gas=device.ints("gas"),
        device_mark=device.words("mark"),
        device_state=device.words("state"),
        device_lon=device.floats("lon"),
        device_lat=device.floats("lat"),
        device_live=device.live,
        point_device=point.ints("device"),
        point_quantity=point.ints("quantity"),
        point_site=point.ints("site"),
        point_partition=point.ints("partition"),
        point_live=point.live,
        parameters=_live_rows(registry, "rule_parameter", generation),
    )
