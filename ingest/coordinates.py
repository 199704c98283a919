"""Coordinates as people hand them in, and WGS 84, in which the registry keeps them.

Maps made in China are shifted by some hundred metres: GCJ-02 by law, BD-09 (Baidu) once more. Both
transforms are the ones publicly documented (GCJ-02: the formula with the ellipsoid of Krasovsky
that has been published since 2013 and is repeated by eviltransform and coordtransform; BD-09: the
rotation of coordtransform). They have no closed inverse, so ours iterates. CGCS2000 differs from
WGS 84 by centimetres and is taken as it is.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum

import numpy as np
import numpy.typing as npt

Degrees = npt.NDArray[np.float64]
Pair = tuple[Degrees, Degrees]
"""Longitude and latitude."""


class Crs(StrEnum):
    """Coordinate reference systems that a file may be in."""

    WGS84 = "wgs84"
    CGCS2000 = "cgcs2000"
    GCJ02 = "gcj02"
    BD09 = "bd09"


EARTH_RADIUS_M = 6_371_008.8

# Outside of this box no shift is applied, by any of the published programs.
_BOX_LON, _BOX_LAT = (72.004, 137.8347), (0.8293, 55.8271)
_AXIS_M, _ECCENTRICITY_2 = 6_378_245.0, 0.00669342162296594323
_ORIGIN_LON, _ORIGIN_LAT = 105.0, 35.0
_BAIDU_LON, _BAIDU_LAT = 0.0065, 0.006
_BAIDU_TURN = np.pi * 3000.0 / 180.0
# A step leaves at most 0.03 of the error (the shift's steepest slope), which begins at 0.02 deg.
_STEPS = 8


def shifted(lon: Degrees, lat: Degrees, crs: Crs) -> Pair:
    """WGS 84 degrees as `crs` has them; NaN stays."""
    inside = _in_box(lon, lat)
    there = _SHIFTS[crs](lon, lat)
    return np.where(inside, there[0], lon), np.where(inside, there[1], lat)


def to_wgs84(lon: Degrees, lat: Degrees, crs: Crs) -> Pair:
    """Degrees of `crs` as WGS 84, to better than 1e-9 degrees of the inverse; NaN stays."""
    inside = _in_box(lon, lat)
    found_lon, found_lat = lon, lat
    for _ in range(_STEPS):
        there = _SHIFTS[crs](found_lon, found_lat)
        found_lon, found_lat = found_lon + (lon - there[0]), found_lat + (lat - there[1])
    return np.where(inside, found_lon, lon), np.where(inside, found_lat, lat)


def distance_m(one: Pair, two: Pair) -> npt.NDArray[np.float64]:
    """Metres between WGS 84 positions, good to a percent within a district; NaN stays."""
    east = np.radians(two[0] - one[0]) * np.cos(np.radians((one[1] + two[1]) / 2))
    metres: npt.NDArray[np.float64] = EARTH_RADIUS_M * np.hypot(east, np.radians(two[1] - one[1]))
    return metres


def _in_box(lon: Degrees, lat: Degrees) -> npt.NDArray[np.bool_]:
    in_lon = (lon >= _BOX_LON[0]) & (lon <= _BOX_LON[1])
    return in_lon & (lat >= _BOX_LAT[0]) & (lat <= _BOX_LAT[1])


def _same(lon: Degrees, lat: Degrees) -> Pair:
    return lon, lat


def _gcj02(lon: Degrees, lat: Degrees) -> Pair:
    x, y = lon - _ORIGIN_LON, lat - _ORIGIN_LAT
    both = 20.0 * np.sin(6.0 * x * np.pi) + 20.0 * np.sin(2.0 * x * np.pi)
    north_m = -100.0 + 2.0 * x + 3.0 * y + 0.2 * y * y + 0.1 * x * y + 0.2 * np.sqrt(np.abs(x))
    north_m += (both + 20.0 * np.sin(y * np.pi) + 40.0 * np.sin(y / 3.0 * np.pi)) * 2.0 / 3.0
    north_m += (160.0 * np.sin(y / 12.0 * np.pi) + 320.0 * np.sin(y / 30.0 * np.pi)) * 2.0 / 3.0
    east_m = 300.0 + x + 2.0 * y + 0.1 * x * x + 0.1 * x * y + 0.1 * np.sqrt(np.abs(x))
    east_m += (both + 20.0 * np.sin(x * np.pi) + 40.0 * np.sin(x / 3.0 * np.pi)) * 2.0 / 3.0
    east_m += (150.0 * np.sin(x / 12.0 * np.pi) + 300.0 * np.sin(x / 30.0 * np.pi)) * 2.0 / 3.0
    bend = 1.0 - _ECCENTRICITY_2 * np.sin(np.radians(lat)) ** 2
    meridian_m = _AXIS_M * (1.0 - _ECCENTRICITY_2) / (bend * np.sqrt(bend))
    parallel_m = _AXIS_M / np.sqrt(bend) * np.cos(np.radians(lat))
    return lon + np.degrees(east_m / parallel_m), lat + np.degrees(north_m / meridian_m)


def _bd09(lon: Degrees, lat: Degrees) -> Pair:
    x, y = _gcj02(lon, lat)
    radius = np.hypot(x, y) + 0.00002 * np.sin(y * _BAIDU_TURN)
    angle = np.arctan2(y, x) + 0.000003 * np.cos(x * _BAIDU_TURN)
    return radius * np.cos(angle) + _BAIDU_LON, radius * np.sin(angle) + _BAIDU_LAT


_SHIFTS: dict[Crs, Callable[[Degrees, Degrees], Pair]] = {
    Crs.WGS84: _same,
    Crs.CGCS2000: _same,
    Crs.GCJ02: _gcj02,
    Crs.BD09: _bd09,
}
