"""SenML packs (RFC 8428, JSON). Each record is a reading of its own.

The name of a record without its base name is what pointers lead to; the base name without
`urn:dev:<kind>:` before it and separators behind it is the device's key:

    [{"bn": "urn:dev:mac:0024befffe804ff1/", "bt": 1.772e9, "n": "temp", "u": "Cel", "v": 21.5}]
     key 0024befffe804ff1                                   /temp
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from ingest.device_types.formats import ROWS_MAX, Entry, Unreadable, json_tree
from ingest.device_types.reasons import Reason
from ingest.device_types.verdicts import AMBIGUOUS_VALUE, TIME, WRONG, WRONG_UNIT_VALUE, Bad

VERSION_MAX = 10  # of RFC 8428; section 4.4 lets a reader refuse what it cannot know
UNITS: Mapping[str, str] = {
    "Cel": "degC",
    "K": "K",
    "%RH": "%",
    "%EL": "%",
    "%": "%",
    "/": "ratio",
    "ppm": "ppm",
    "A": "A",
    "mA": "mA",
    "V": "V",
    "mV": "mV",
    "W": "W",
    "kW": "kW",
    "Pa": "Pa",
    "kPa": "kPa",
    "bar": "bar",
    "m": "m",
    "cm": "cm",
    "mm": "mm",
    "m3/h": "m3/h",
    "deg": "deg",
    "dBm": "dBm",
}
"""SenML's symbols (RFC 8428 section 12.1, RFC 8798) and ours. A file gives ours."""

_BASE = {"bn": str, "bt": float, "bu": str, "bv": float, "bs": float, "bver": int}
_OWN = {"n", "u", "t", "ut", "s"}
_VALUES = ("v", "vs", "vb", "vd")
_KINDS: Mapping[str, Any] = {"v": (int, float), "vs": str, "vb": bool, "vd": str}
_URN = re.compile(r"urn:dev:[^:]+:")
_SEPARATORS = "/:._-"
_LAST = re.compile(r"[/:](?=[^/:]*\Z)")


class _Named(NamedTuple):
    """A record with its base fields put in."""

    key: str | None
    name: str
    time_s: float | Bad | None
    unit: str | Bad
    value: Any


def entries(payload: bytes, units: Mapping[str, str]) -> list[Entry]:
    """One entry per device and time. Raises Unreadable.

    `units`: name -> unit of ours that its values must have; a name that is not there is passed
    over, but a pack of such names alone is refused. root: `key`, `time` in seconds (see SENML in
    `TimeFormat`). A bad record costs itself alone, a bad base field the pack: it stands for all
    that follow.
    """
    tree = json_tree(payload)
    if not isinstance(tree, list) or not tree:
        raise Unreadable(Reason.NOT_DECODED, "a SenML pack is a list of records")
    if len(tree) > ROWS_MAX:
        raise Unreadable(Reason.TOO_MANY_ROWS, f"{len(tree)} records; {ROWS_MAX} fit")
    found: dict[tuple[str | None, float | Bad | None], dict[str, Any]] = {}
    base: dict[str, Any] = {}
    others: list[str] = []
    unread = 0
    for record in tree:
        if not isinstance(record, dict) or not isinstance(record.get("n", ""), str | None):
            unread += 1
            continue
        base |= _base(record)
        named = _named(base, record, units)
        if named is None:
            continue
        if named.name not in units:
            others.append(named.name)
            continue
        item = found.setdefault((named.key, named.time_s), {})
        value = _judged(named, units[named.name])
        same = named.name not in item or _alike(item[named.name], value)
        item[named.name] = value if same else AMBIGUOUS_VALUE
    if not found and unread:
        raise Unreadable(Reason.NOT_DECODED, "no record is an object whose name is text")
    if not found and others:
        detail = f"none of {', '.join(sorted(set(others))[:8])} is mapped"
        raise Unreadable(Reason.MISSING_FIELD, detail[:200])
    read = [(item, {"key": key, "time": time_s}) for (key, time_s), item in found.items()]
    # Whose such a record was, and of what it spoke, nobody knows.
    return [*read, (dict.fromkeys(units, Bad(WRONG)), {"key": None})] if unread else read


def _base(record: Mapping[str, Any]) -> dict[str, Any]:
    """The base fields of a record, each of its kind. Raises Unreadable."""
    base: dict[str, Any] = {}
    for label, value in record.items():
        kind = _BASE.get(label)
        if kind is None and label not in _OWN and label.endswith("_"):
            # Section 4.4: what ends so must be understood.
            raise Unreadable(Reason.NOT_DECODED, f"{label[:64]}: an extension nobody knows")
        if kind is None or value is None:
            continue
        if not (_is_number(value) if kind is float else isinstance(value, kind)):
            raise Unreadable(Reason.NOT_DECODED, f"{label}: of the wrong kind")
        base[label] = _real(value) if kind is float else value
    if base.get("bver", VERSION_MAX) > VERSION_MAX:
        raise Unreadable(Reason.NOT_DECODED, f"bver: {base['bver']}; {VERSION_MAX} is known")
    return base


def _named(
    base: Mapping[str, Any], record: Mapping[str, Any], units: Mapping[str, str]
) -> _Named | None:
    """None for a record that measures nothing: base fields, or a sum alone."""
    said = [label for label in _VALUES if label in record]
    if not said:
        return None
    prefix, name = base.get("bn", ""), record.get("n") or ""
    if not prefix or not name:
        whole = prefix + name
        cut = _LAST.search(whole)
        prefix, name = (whole[: cut.end()], whole[cut.end() :]) if cut else ("", whole)
    elif name not in units:  # the separator may stand on either side of the cut
        name = name.lstrip(_SEPARATORS)
    key = _URN.sub("", prefix, count=1).strip(_SEPARATORS) or None
    unit = record.get("u")
    unit = base.get("bu", "") if unit is None else unit if isinstance(unit, str) else Bad(WRONG)
    return _Named(key, name, _time_s(base, record), unit, _value(base, record, said))


def _time_s(base: Mapping[str, Any], record: Mapping[str, Any]) -> float | Bad | None:
    since, start = record.get("t"), base.get("bt")
    if since is None:
        return start
    return _real(since) + (start or 0.0) if _is_number(since) else Bad(TIME)


def _value(base: Mapping[str, Any], record: Mapping[str, Any], said: list[str]) -> Any:
    label, value = said[0], record[said[0]]
    if len(said) > 1 or not _fits(label, value):
        return Bad(WRONG)
    return _real(value) + base["bv"] if label == "v" and "bv" in base else value


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _real(value: float) -> float:
    """A number to reckon with; an integer may have hundreds of digits."""
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def _fits(label: str, value: Any) -> bool:
    return isinstance(value, _KINDS[label]) and (label == "vb" or not isinstance(value, bool))


def _judged(named: _Named, unit: str) -> Any:
    """Its value, unless it names another unit than the file. One without a unit has the file's."""
    if isinstance(named.unit, Bad):
        return named.unit
    if named.unit and unit != "state" and UNITS.get(named.unit, named.unit) != unit:
        return WRONG_UNIT_VALUE
    return named.value


def _alike(one: Any, other: Any) -> bool:
    return type(one) is type(other) and one == other
