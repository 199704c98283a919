"""GeoJSON (RFC 7946) in and out: a FeatureCollection as rows, its geometries as positions."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec

from ingest.faults import Faults
from ingest.sheet import Layout, Sheet, content, replace
from sizao.errors import BadInput

ENDINGS = (".geojson", ".json")
_POSITION = ("lon", "lat")
_RING_MIN = 4  # a closed ring of a triangle


def read(path: Path, layout: Layout) -> Sheet:
    """Each feature a row: its properties, and `lon`, `lat` of its geometry.

    Of a polygon, the centroid of its largest outer ring; a feature without geometry has none.
    Raises BadInput when it is no FeatureCollection.
    """
    try:
        data = msgspec.json.decode(content(path))
    except msgspec.DecodeError as error:
        raise BadInput(f"{path}: {error}, expected JSON") from error
    features = data.get("features") if isinstance(data, dict) else None
    if not isinstance(features, list) or data.get("type") != "FeatureCollection":
        raise BadInput(f"{path}: expected a FeatureCollection")
    faults = Faults(str(path), "feature ", layout.columns)
    names = [name for name in layout.columns if name not in _POSITION]
    columns: dict[str, list[str]] = {name: [] for name in layout.columns}
    for place, feature in enumerate(features, 1):
        geometry, properties = _parts(feature)
        for name in names:
            columns[name].append(_text(faults, place, name, properties.get(name)))
        for name in properties:
            if name not in names:
                text = f"unknown property, expected some of {', '.join(names)}"
                faults.add(place, name, text, name, names)
        lon, lat = _position(faults, place, geometry)
        columns["lon"].append(lon)
        columns["lat"].append(lat)
    places = range(1, len(features) + 1)
    return Sheet(name=str(path), places=places, columns=columns, faults=faults)


def _parts(feature: Any) -> tuple[Any, dict[str, Any]]:
    """Geometry and properties; of what is no feature none, which is told by what is missing."""
    if not isinstance(feature, dict):
        return None, {}
    properties = feature.get("properties")
    return feature.get("geometry"), properties if isinstance(properties, dict) else {}


def _text(faults: Faults, place: int, name: str, value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float) and value.is_integer():
        value = int(value)  # GIS programs write whole numbers so
    if isinstance(value, bool) or not isinstance(value, str | int):
        faults.add(place, name, f"got {value!r}, expected text or a whole number")
        return ""
    return str(value).strip()


def _position(faults: Faults, place: int, geometry: Any) -> tuple[str, str]:
    if geometry is None:
        return "", ""
    try:
        lon, lat = _middle(geometry["type"], geometry["coordinates"])
    except (KeyError, TypeError, ValueError, IndexError):
        kind = geometry.get("type") if isinstance(geometry, dict) else geometry
        text = f"got {kind!r}, expected a whole Point, Polygon or MultiPolygon"
        faults.add(place, "geometry", text)
        return "", ""
    return repr(lon), repr(lat)


def _middle(kind: str, coordinates: Any) -> tuple[float, float]:
    if kind == "Point":
        return _pair(coordinates)
    if kind == "Polygon":
        return _centroid(coordinates[0])[1]
    if kind == "MultiPolygon":
        return max(_centroid(polygon[0]) for polygon in coordinates)[1]
    raise ValueError(kind)


def _pair(position: Sequence[Any]) -> tuple[float, float]:
    lon, lat = position[0], position[1]
    if isinstance(lon, bool | str) or isinstance(lat, bool | str):
        raise TypeError
    return float(lon), float(lat)


def _centroid(ring: Sequence[Any]) -> tuple[float, tuple[float, float]]:
    """Area in square degrees and centroid of a closed ring."""
    points = [_pair(position) for position in ring]
    if len(points) < _RING_MIN or points[0] != points[-1]:
        raise ValueError("not closed")
    # Counted from its first corner: the products of whole degrees would eat the small differences.
    first = points[0]
    near = [(lon - first[0], lat - first[1]) for lon, lat in points]
    sides = list(pairwise(near))
    crosses = [a[0] * b[1] - b[0] * a[1] for a, b in sides]
    twice = sum(crosses)
    if twice == 0:
        raise ValueError("no area")
    east, north = (
        sum((a[axis] + b[axis]) * cross for (a, b), cross in zip(sides, crosses, strict=True))
        / (3 * twice)
        for axis in (0, 1)
    )
    return abs(twice) / 2, (first[0] + east, first[1] + north)


def write(path: Path, columns: dict[str, list[str]], integers: Sequence[str]) -> None:
    """Write rows as points with properties; columns in `integers` as numbers. Raises OSError."""
    names = [name for name in columns if name not in _POSITION]
    features = []
    for number, (lon, lat) in enumerate(zip(columns["lon"], columns["lat"], strict=True)):
        cells = {name: columns[name][number] for name in names}
        properties = {
            name: int(cell) if name in integers else cell for name, cell in cells.items() if cell
        }
        point = {"type": "Point", "coordinates": [float(lon), float(lat)]} if lon else None
        features.append({"type": "Feature", "properties": properties, "geometry": point})
    lines = ",\n".join(msgspec.json.encode(feature).decode() for feature in features)
    text = f'{{"type": "FeatureCollection", "features": [\n{lines}\n]}}\n'
    replace(path, text.encode())
