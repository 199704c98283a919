"""Functions for payloads that no format describes: `format: codec`, `codec: NAME`.

Each takes the payload's bytes and returns plain data (dicts, lists, texts, numbers), from which the
file's pointers go on; it raises ValueError when the payload is none of its own. Pure: no file, no
network, no clock, the same answer always. The contract suite throws noise at each.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from ingest.device_types.formats import parse

_FOOT_M = 0.3048
_ALL = 100.0  # percent

_LPP: Mapping[int, tuple[str, int, float, bool]] = {
    0: ("digital_input", 1, 1.0, False),
    1: ("digital_output", 1, 1.0, False),
    2: ("analog_input", 2, 0.01, True),
    3: ("analog_output", 2, 0.01, True),
    101: ("illuminance", 2, 1.0, False),
    102: ("presence", 1, 1.0, False),
    103: ("temperature", 2, 0.1, True),
    104: ("humidity", 1, 0.5, False),
    115: ("barometer", 2, 0.1, False),
}
_LPP_SKIPPED: Mapping[int, int] = {113: 6, 134: 6, 136: 9}  # accelerometer, gyrometer, position


def cayenne_lpp(payload: bytes) -> dict[str, dict[str, float]]:
    """Cayenne Low Power Payload: {"1": {"temperature": 21.5}}, by channel.

    Each value is a byte of channel, a byte of type, and as many bytes, big-endian, as the type has;
    types and scales by the format's published table (they are IPSO object ids less 3200).
    """
    found: dict[str, dict[str, float]] = {}
    at = 0
    while at < len(payload):
        if at + 2 > len(payload):
            raise ValueError(f"byte {at}: a channel without its type")
        channel, kind = payload[at], payload[at + 1]
        at += 2
        if kind in _LPP_SKIPPED:
            at += _LPP_SKIPPED[kind]
            continue
        if kind not in _LPP:
            raise ValueError(f"byte {at - 1}: type {kind} is unknown, so nobody knows its length")
        name, size, scale, signed = _LPP[kind]
        if at + size > len(payload):
            raise ValueError(f"byte {at}: {name} has {size} bytes, {len(payload) - at} are left")
        number = int.from_bytes(payload[at : at + size], "big", signed=signed)
        found.setdefault(str(channel), {})[name] = number if scale == 1.0 else number * scale
        at += size
    if not found:
        raise ValueError("no value")
    return found


def percent_per_foot(payload: bytes) -> Any:
    """A JSON object whose `obscuration` is in percent per foot; adds `od_per_m`, in 1/m.

    Of light that a foot of smoke dims by p percent, 1 - p/100 is left; optical density is the
    decimal logarithm of what came in by what is left, here per metre: -log10(1 - p/100) / 0.3048.
    """
    tree = parse(payload)
    if not isinstance(tree, dict):
        raise ValueError("one JSON object expected")  # noqa: TRY004 - what a codec raises
    said = tree.get("obscuration")
    if isinstance(said, int | float) and not isinstance(said, bool) and -_ALL <= said < _ALL:
        return tree | {"od_per_m": -math.log10(1.0 - said / _ALL) / _FOOT_M}
    return tree | ({"od_per_m": said} if said is not None else {})


CODECS: Mapping[str, Callable[[bytes], Any]] = {
    one.__name__: one for one in (cayenne_lpp, percent_per_foot)
}
