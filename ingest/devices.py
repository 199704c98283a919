"""Devices as rows of a file: checked against the registry and each other.

A cell that is empty, or whose column is left out, says nothing: what the registry knows of the
device stays, and a new device gets the default. So an old list, imported once more, does not put a
device into service that was isolated since, unless it has a column that says so.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

import numpy as np

from ingest import positions
from ingest.coordinates import Crs, Pair
from ingest.device_types.load import load
from ingest.device_types.schema import DeviceType, Format
from ingest.draft import Draft
from ingest.positions import Positions
from ingest.sheet import Layout, Sheet
from sizao.limits import HEAT_CLASSES, HEAT_CLASSES_TEXT, class_code
from sizao.registry.model import LifeState, Mark, View
from sizao.registry.write import CarrierRow, Change, DeviceRow
from sizao.units import GASES

LAYOUT = Layout(
    columns=("key", "carrier", "type", "area", "heat_class", "gas", "state", "mark", "lon", "lat"),
    needed=("key", "carrier", "type", "area"),
    numbers=("lon", "lat"),
)
KEY_MAX = 128
_EUI = re.compile(r"[0-9A-Fa-f]{2}(?:[-: ]?[0-9A-Fa-f]{2}){7}")
_TOPIC_LEVEL = re.compile(r"[^/+#\x00-\x1f\x7f-\x9f]+")


class Known:
    """The registry as an import looks things up in it."""

    def __init__(self, view: View) -> None:
        """Index areas and types by their names; a type's document is read when it is asked for."""
        self.view = view
        self.areas = {area.code: area.id for area in view.areas.values()}
        self.types = {kind.name: kind.document for kind in view.types.values()}
        self._site: dict[int, int] = {0: 0}
        self._read: dict[str, DeviceType] = {}

    def site(self, area: int) -> int:
        """Id of the site in which an area lies, itself if it is one, 0 if it lies in none."""
        known = self._site.get(area)
        if known is None:
            node = self.view.areas[area]
            known = area if node.level == "site" else self.site(node.parent)
            self._site[area] = known
        return known

    def type(self, name: str) -> DeviceType:
        """A device type of the registry. Raises BadInput when this program cannot read it."""
        if name not in self._read:
            self._read[name] = load(self.types[name], f"registry: {name}")
        return self._read[name]

    def device(self, carrier: str, key: str) -> int:
        """Id of a device, 0 if there is none."""
        return self.view.roster.get(carrier, {}).get(key, 0)

    def row(self, device: int) -> DeviceRow:
        """What the registry says of a device now."""
        view = self.view
        lon, lat = float(view.device_lon[device]), float(view.device_lat[device])
        return DeviceRow(
            view.device_key[device],
            view.carrier_names[int(view.device_carrier[device])],
            view.types[int(view.device_type[device])].name,
            view.areas[int(view.device_area[device])].code,
            int(view.device_heat_class[device]),
            view.device_mark[device],
            view.device_state[device],
            None if math.isnan(lon) else lon,
            None if math.isnan(lat) else lat,
            int(view.device_gas[device]),
        )


def draft(sheet: Sheet, view: View, crs: Crs | None, *, create_carriers: bool) -> Draft:
    """What the file would change. Raises BadInput with its faults.

    With `create_carriers`, carriers that the registry does not know are made; one whose devices
    all stand in one site belongs to that site.
    """
    known = Known(view)
    pairs = zip(sheet.column("carrier"), sheet.column("key"), strict=True)
    ids = [known.device(carrier, key) for carrier, key in pairs]
    old = [known.row(device) if device else None for device in ids]
    _check_keys(sheet)
    _check_names(sheet, known, create_carriers=create_carriers)
    _check_euis(sheet, known, old)
    _check_words(sheet, old)
    _check_heat(sheet, known, old)
    _check_gas(sheet, known, old)
    where = positions.read(sheet, crs)
    if crs is not None:
        positions.compare(sheet, where, _sites(sheet, known))
    sheet.faults.raise_any()
    rows = _rows(sheet, where, old)
    changed = [row for row, before in zip(rows, old, strict=True) if row != before]
    carriers = _carriers(rows, known) if create_carriers else []
    change = Change(devices=changed, carriers=carriers)
    return Draft(change=change, added=ids.count(0), rows=len(sheet))


def _check_keys(sheet: Sheet) -> None:
    for name in ("key", "carrier"):
        for place, cell in sheet.cells(name):
            if not (len(cell) <= KEY_MAX and _TOPIC_LEVEL.fullmatch(cell)):
                text = f"got {cell!r}, expected 1 to {KEY_MAX} characters without / + # or controls"
                sheet.faults.add(place, name, text)
    first: dict[tuple[str, str], int] = {}
    cells = zip(sheet.places, sheet.column("carrier"), sheet.column("key"), strict=True)
    for place, carrier, key in cells:
        if first.setdefault((carrier, key), place) != place:
            text = f"{key!r} under {carrier!r} stands at {first[carrier, key]} too"
            sheet.faults.add(place, "key", text)


def _check_names(sheet: Sheet, known: Known, *, create_carriers: bool) -> None:
    """Carriers, types and areas are the registry's; an area lies in a site."""
    carriers = known.view.carrier_site
    if not create_carriers:
        for place, carrier in sheet.cells("carrier"):
            if carrier not in carriers:
                text = f"unknown carrier {carrier!r}, expected one of the registry, or"
                sheet.faults.add(place, "carrier", f"{text} --create-carriers", carrier, carriers)
    for place, name in sheet.cells("type"):
        if name not in known.types:
            text = f"unknown type {name!r}, expected one of the registry"
            sheet.faults.add(place, "type", text, name, known.types)
    for place, code in sheet.cells("area"):
        if code not in known.areas:
            text = f"unknown area {code!r}, expected a code of the registry"
            sheet.faults.add(place, "area", text, code, known.areas)
        elif not known.site(known.areas[code]):
            level = known.view.areas[known.areas[code]].level
            sheet.faults.add(place, "area", f"{code} ({level}) lies in no site, expected one")


def _check_euis(sheet: Sheet, known: Known, old: Sequence[DeviceRow | None]) -> None:
    """A label has the DevEUI in capitals, its uplinks in small letters: nobody would know them."""
    cells = zip(sheet.cells("key"), sheet.column("type"), old, strict=True)
    for (place, cell), name, before in cells:
        if before is not None or not _EUI.fullmatch(cell) or name not in known.types:
            continue
        said = re.sub("[-: ]", "", cell).lower()
        if said != cell and known.type(name).format is Format.LORAWAN:
            text = f"got {cell!r}, expected the DevEUI as network servers say it: {said}"
            sheet.faults.add(place, "key", text)


def _check_words(sheet: Sheet, old: Sequence[DeviceRow | None]) -> None:
    for name, words in (("state", list(LifeState)), ("mark", list(Mark))):
        for place, cell in sheet.cells(name):
            if cell and cell not in words:
                text = f"got {cell!r}, expected one of {', '.join(words)}"
                sheet.faults.add(place, name, text, cell, words)
    for (place, cell), before in zip(sheet.cells("state"), old, strict=True):
        if cell and before is not None and before.state == LifeState.RETIRED != cell:
            text = f"{before.key} is retired, expected another key, or `sizao devices commission`"
            sheet.faults.add(place, "state", text)


def _check_heat(sheet: Sheet, known: Known, old: Sequence[DeviceRow | None]) -> None:
    """A heat detector names its class; what measures no temperature has none."""
    cells = zip(sheet.cells("heat_class"), sheet.column("type"), old, strict=True)
    for (place, cell), name, before in cells:
        if name not in known.types:
            continue
        kind = known.type(name)
        if not cell:
            kept = before is not None and before.device_type == name and before.heat_class
            if kind.heat_detector and not kept:
                text = f"missing: {name} is a heat detector, expected its class on the label"
                sheet.faults.add(place, "heat_class", f"{text}, {HEAT_CLASSES_TEXT}")
        elif "temperature_c" not in kind.quantities:
            text = f"got {cell!r}, expected none: {name} measures no temperature"
            sheet.faults.add(place, "heat_class", text)
        elif _class_of(cell) is None:
            sheet.faults.add(place, "heat_class", f"got {cell!r}, expected {HEAT_CLASSES_TEXT}")


def _check_gas(sheet: Sheet, known: Known, old: Sequence[DeviceRow | None]) -> None:
    """A gas detector names its gas: 10,000 ppm are 20 %LEL of methane and 48 of propane."""
    gases = GASES[1:]
    expected = f"expected one of {', '.join(gases)}"
    cells = zip(sheet.cells("gas"), sheet.column("type"), old, strict=True)
    for (place, cell), name, before in cells:
        if cell and cell not in gases:
            sheet.faults.add(place, "gas", f"got {cell!r}, {expected}", cell, gases)
        elif not cell and name in known.types and known.type(name).gas_detector:
            kept = before is not None and before.device_type == name and before.gas
            if not kept:
                text = f"missing: {name} is a gas detector, expected the gas on its label"
                sheet.faults.add(place, "gas", f"{text}, {expected.removeprefix('expected ')}")


def _class_of(cell: str) -> int | None:
    try:
        return class_code(cell)
    except ValueError:
        return None


def _sites(sheet: Sheet, known: Known) -> Pair:
    """Where the site of each row is; NaN where nobody knows."""
    lon, lat = np.full(len(sheet), np.nan), np.full(len(sheet), np.nan)
    for row, code in enumerate(sheet.column("area")):
        site = known.site(known.areas.get(code, 0))
        if site:
            lon[row], lat[row] = known.view.areas[site].lon, known.view.areas[site].lat
    return lon, lat


def _rows(sheet: Sheet, where: Positions, old: Sequence[DeviceRow | None]) -> list[DeviceRow]:
    """Whole rows: what the file says, and of the rest what the registry has."""
    cells = zip(*(sheet.column(name) for name in LAYOUT.columns[:8]), strict=True)
    rows = []
    for number, (key, carrier, kind, area, heat, gas, state, mark) in enumerate(cells):
        base = old[number] or DeviceRow(key, carrier, kind, area)
        lon, lat = where.degrees(number)
        # Coordinates of the old place are not true of another, nor a label of another type.
        if lon is None and base.area == area:
            lon, lat = base.lon, base.lat
        same = base.device_type == kind
        heat_class = class_code(heat) if heat else base.heat_class * same
        gas_code = GASES.index(gas) if gas else base.gas * same
        words = mark or base.mark, state or base.state
        rows.append(DeviceRow(key, carrier, kind, area, heat_class, *words, lon, lat, gas_code))
    return rows


def _carriers(rows: Sequence[DeviceRow], known: Known) -> list[CarrierRow]:
    sites: dict[str, set[int]] = {}
    for row in rows:
        if row.carrier not in known.view.carrier_site:
            sites.setdefault(row.carrier, set()).add(known.site(known.areas[row.area]))
    return [
        CarrierRow(name, known.view.areas[next(iter(at))].code if len(at) == 1 else "")
        for name, at in sites.items()
    ]


def columns(view: View) -> dict[str, list[str]]:
    """Every device as a file has it, in WGS 84, by carrier and key."""
    known = Known(view)
    rows = [known.row(device) for device in np.flatnonzero(view.device_live).tolist()]
    rows.sort(key=lambda row: (row.carrier, row.key))
    return {
        "key": [row.key for row in rows],
        "carrier": [row.carrier for row in rows],
        "type": [row.device_type for row in rows],
        "area": [row.area for row in rows],
        "heat_class": [HEAT_CLASSES[row.heat_class] for row in rows],
        "gas": [GASES[row.gas] for row in rows],
        "state": [row.state for row in rows],
        "mark": [row.mark for row in rows],
        "lon": ["" if row.lon is None else repr(row.lon) for row in rows],
        "lat": ["" if row.lat is None else repr(row.lat) for row in rows],
    }
