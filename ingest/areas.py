"""Areas of the district as rows of a file: checked against the registry and each other."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator

import numpy as np

from ingest import positions
from ingest.coordinates import Crs
from ingest.draft import Draft
from ingest.sheet import Layout, Sheet
from sizao.registry.model import LEVELS, NO_FLOOR, USES, Area, View
from sizao.registry.write import AreaRow, Change

LAYOUT = Layout(
    columns=("code", "parent", "level", "name_zh", "name_en", "floor", "lon", "lat", "use"),
    needed=("code", "parent", "level", "name_zh", "name_en"),
    numbers=("lon", "lat"),
)
INTEGERS = ("floor",)
_NAME_MAX = 128
_FLOORS = range(-20, 201)
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_NUMBER = re.compile(r"[+-]?[0-9]{1,4}")
_TOP = LEVELS[0]


def draft(sheet: Sheet, view: View, crs: Crs | None) -> Draft:
    """What the file would change. Raises BadInput with its faults.

    `lon`, `lat` left out or empty, and `use` left out, say nothing: what the registry knows stays.
    """
    known = {area.code: area for area in view.areas.values()}
    _check_names(sheet)
    _check_tree(sheet, view, known)
    floors = _floors(sheet, view, known)
    uses = _uses(sheet)
    _check_homes(sheet, view, known)
    where = positions.read(sheet, crs)
    sheet.faults.raise_any()
    rows, added = [], 0
    names = ("code", "parent", "level", "name_zh", "name_en")
    cells = zip(*(sheet.column(name) for name in names), strict=True)
    for number, (code, parent, level, name_zh, name_en) in enumerate(cells):
        lon, lat = where.degrees(number)
        before = known.get(code)
        old = None if before is None else _row(view, before)
        if old is not None and lon is None:
            lon, lat = old.lon, old.lat
        use = uses[number] if uses else "" if old is None else old.use
        row = AreaRow(code, parent, level, name_zh, name_en, lon, lat, floors[number], use)
        if row != old:
            rows.append(row)
            added += old is None
    return Draft(change=Change(areas=rows), added=added, rows=len(sheet))


def _check_names(sheet: Sheet) -> None:
    for name in ("code", "name_zh", "name_en"):
        for place, cell in sheet.cells(name):
            if not 1 <= len(cell) <= _NAME_MAX or _CONTROL.search(cell):
                text = f"got {cell!r}, expected 1 to {_NAME_MAX} characters without controls"
                sheet.faults.add(place, name, text)
    first: dict[str, int] = {}
    for place, code in sheet.cells("code"):
        if first.setdefault(code, place) != place:
            sheet.faults.add(place, "code", f"{code!r} stands at {first[code]} too")


def _check_tree(sheet: Sheet, view: View, known: dict[str, Area]) -> None:
    """Levels and parents: every area stands under one of a higher level, all in one district."""
    levels = {code: area.level for code, area in known.items()}
    levels |= dict(zip(sheet.column("code"), sheet.column("level"), strict=True))
    districts = [area.code for area in view.areas.values() if area.level == _TOP]
    cells = zip(*(sheet.column(name) for name in ("code", "parent", "level")), strict=True)
    for place, (code, parent, level) in zip(sheet.places, cells, strict=True):
        add = sheet.faults.add
        if level not in LEVELS:
            add(
                place, "level", f"got {level!r}, expected one of {', '.join(LEVELS)}", level, LEVELS
            )
            continue
        if code in known and known[code].level != level:
            add(place, "level", f"got {level}, expected {known[code].level}: it is one for life")
        if level == _TOP:
            if parent:
                add(place, "parent", f"got {parent!r}, expected none above the district")
            if districts and code not in districts:
                add(place, "level", f"a second district, expected under {districts[0]}")
            districts = districts or [code]
        elif parent not in levels:
            text = f"got {parent!r}, expected a code of this file or of the registry"
            add(place, "parent", text, parent, levels)
        elif levels[parent] in LEVELS and LEVELS.index(levels[parent]) >= LEVELS.index(level):
            text = f"{parent} is a {levels[parent]}, expected a level above {level}"
            add(place, "parent", text)


def _floors(sheet: Sheet, view: View, known: dict[str, Area]) -> list[int | None]:
    """Number of each floor, None for other areas; a number stands once in a building."""
    here = set(sheet.column("code"))
    taken = {
        (view.areas[area.parent].code, area.floor): area.code
        for area in known.values()
        if area.level == "floor" and area.floor != NO_FLOOR and area.code not in here
    }
    found: list[int | None] = []
    names = ("code", "level", "parent", "floor")
    cells = zip(*(sheet.column(name) for name in names), strict=True)
    for place, (code, level, parent, cell) in zip(sheet.places, cells, strict=True):
        number = int(cell) if _NUMBER.fullmatch(cell) else None
        found.append(number)
        if level != "floor":
            if cell and level in LEVELS:
                sheet.faults.add(place, "floor", f"got {cell!r}, expected none: this is no floor")
        elif number is None or number not in _FLOORS:
            text = f"got {cell!r}, expected a number from {_FLOORS[0]} to {_FLOORS[-1]}"
            sheet.faults.add(place, "floor", f"{text} (-1 is the first below ground)")
        elif taken.setdefault((parent, number), code) != code:
            text = f"{number} is the floor of {taken[parent, number]} in {parent} already"
            sheet.faults.add(place, "floor", text)
    return found


def _uses(sheet: Sheet) -> list[str]:
    """What each area is used for; empty where the file has no such column."""
    if "use" not in sheet.columns:
        return []
    for place, cell in sheet.cells("use"):
        if cell not in USES:
            words = ", ".join(filter(None, USES))
            sheet.faults.add(place, "use", f"got {cell!r}, expected {words} or nothing", cell, USES)
    return sheet.column("use")


def _check_homes(sheet: Sheet, view: View, known: dict[str, Area]) -> None:
    """No area may leave every site while devices are in it."""
    place_of = dict(zip(sheet.column("code"), sheet.places, strict=True))
    parent = {code: view.areas[a.parent].code if a.parent else "" for code, a in known.items()}
    parent |= dict(zip(sheet.column("code"), sheet.column("parent"), strict=True))
    level = {code: area.level for code, area in known.items()}
    live, count = np.unique(view.device_area[view.device_live], return_counts=True)
    for area, devices in zip(live.tolist(), count.tolist(), strict=True):
        path = list(_up(view.areas[area].code, parent))
        moved = [place_of[code] for code in path if code in place_of]
        if moved and not any(level.get(code) == "site" for code in path):
            text = f"{path[0]} would lie in no site, with {devices} devices in it"
            sheet.faults.add(moved[-1], "parent", text)


def _up(code: str, parent: dict[str, str]) -> Iterator[str]:
    for _ in LEVELS:
        if code:
            yield code
            code = parent.get(code, "")


def _row(view: View, area: Area) -> AreaRow:
    known = not math.isnan(area.lon)
    return AreaRow(
        area.code,
        view.areas[area.parent].code if area.parent else "",
        area.level,
        area.name_zh,
        area.name_en,
        area.lon if known else None,
        area.lat if known else None,
        None if area.floor == NO_FLOOR else area.floor,
        area.use,
    )


def columns(view: View) -> dict[str, list[str]]:
    """Every area as a file has it, in WGS 84, from the top down."""
    rows = [_row(view, area) for area in view.areas.values()]
    rows.sort(key=lambda row: (LEVELS.index(row.level), row.code))
    return {
        name: ["" if cell is None else str(cell) for cell in (getattr(row, name) for row in rows)]
        for name in LAYOUT.columns
    }
