"""The `lon` and `lat` columns of a file: checked, made WGS 84, compared with where sites are."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

import numpy as np

from ingest.coordinates import Crs, Degrees, Pair, distance_m, to_wgs84
from ingest.sheet import Sheet

# Not Python's float(): "0_02", "nan" and digits of other scripts are no coordinates.
_NUMBER = re.compile(r"[+-]?[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
_LIMITS = {"lon": 180.0, "lat": 90.0}
# GCJ-02 lies 100 to 700 m from WGS 84; a device stands within its building.
MEDIAN_M_MAX = 100.0
DISTANCE_M_MAX = 50_000.0  # a district's breadth: beyond it a digit is wrong
_READINGS = (Crs.WGS84, Crs.GCJ02, Crs.BD09)  # CGCS2000 reads as WGS 84 does
_NAMES = {Crs.WGS84: "WGS 84", Crs.GCJ02: "GCJ-02", Crs.BD09: "BD-09"}


@dataclass(frozen=True, slots=True)
class Positions:
    """Of each row, as its file has it and as WGS 84; NaN where it has none."""

    crs: Crs
    raw: Pair
    wgs84: Pair

    def degrees(self, row: int) -> tuple[float | None, float | None]:
        """WGS 84 of a row, None where it has none."""
        lon, lat = float(self.wgs84[0][row]), float(self.wgs84[1][row])
        return (None, None) if math.isnan(lon) else (lon, lat)


def read(sheet: Sheet, crs: Crs | None) -> Positions:
    """Positions of the rows; what is wrong with them is told in the sheet's faults."""
    lon, lat = _axis(sheet, "lon"), _axis(sheet, "lat")
    cells = zip(sheet.places, sheet.column("lon"), sheet.column("lat"), strict=True)
    for place, lon_cell, lat_cell in cells:
        if bool(lon_cell) is not bool(lat_cell):
            missing = "lat" if lon_cell else "lon"
            sheet.faults.add(place, missing, "missing, expected both lon and lat or neither")
    nowhere = (lon == 0) & (lat == 0)  # what programs write for "unknown"
    for row in np.flatnonzero(nowhere).tolist():
        sheet.faults.add(sheet.places[row], "lon", "got 0, 0, expected a place in the district")
    whole = ~np.isnan(lon) & ~np.isnan(lat) & ~nowhere
    lon, lat = np.where(whole, lon, np.nan), np.where(whole, lat, np.nan)
    if crs is None and (any(sheet.column("lon")) or any(sheet.column("lat"))):
        text = f"give --crs {' | '.join(Crs)}: a map made in China may lie 500 m beside the others"
        sheet.faults.add(0, "lon", text)
    system = crs or Crs.WGS84
    return Positions(system, (lon, lat), to_wgs84(lon, lat, system))


def _axis(sheet: Sheet, name: str) -> Degrees:
    limit = _LIMITS[name]
    found = np.full(len(sheet), np.nan)
    for row, (place, cell) in enumerate(sheet.cells(name)):
        if not cell:
            continue
        value = float(cell) if _NUMBER.fullmatch(cell) else math.nan
        if -limit <= value <= limit:
            found[row] = value
            continue
        hint = (
            "; are lon and lat exchanged?" if name == "lat" and abs(value) <= _LIMITS["lon"] else ""
        )
        text = f"got {cell!r}, expected degrees from -{limit:g} to {limit:g}{hint}"
        sheet.faults.add(place, name, text)
    return found


def compare(sheet: Sheet, positions: Positions, sites: Pair) -> None:
    """Tell of devices far from their sites (WGS 84, NaN where unknown), and of a shifted file.

    One device may stand beside a large building; if half of them do, the file (or the areas') was
    read in the wrong system.
    """
    distance = distance_m(positions.wgs84, sites)
    for row in np.flatnonzero(distance > DISTANCE_M_MAX).tolist():
        km = distance[row] / 1000
        text = f"lies {km:,.0f} km from its site, expected at most {DISTANCE_M_MAX / 1000:g} km"
        sheet.faults.add(sheet.places[row], "lon", text)
    near = distance[distance <= DISTANCE_M_MAX]
    if not len(near) or np.median(near) <= MEDIAN_M_MAX:
        return
    fitting = _fitting(positions, sites)
    looks = f"; looks like {_NAMES[fitting]}: give --crs {fitting}" if fitting else ""
    text = (
        f"devices lie {np.median(near):,.0f} m from their sites in the median,"
        f" expected at most {MEDIAN_M_MAX:g} m{looks}"
    )
    sheet.faults.add(0, "lon", text)


def _fitting(positions: Positions, sites: Pair) -> Crs | None:
    """The system in which the file's numbers lie at their sites; None if none does."""
    medians = {
        crs: float(np.nanmedian(distance_m(to_wgs84(*positions.raw, crs), sites)))
        for crs in _READINGS
    }
    best = min(medians, key=medians.__getitem__)
    return best if medians[best] <= MEDIAN_M_MAX else None
