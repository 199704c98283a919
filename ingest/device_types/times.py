"""When a payload says that it was measured."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import numpy as np
import numpy.typing as npt

from ingest.device_types.schema import DeviceTime, TimeFormat
from ingest.device_types.verdicts import ABSENT, OK, TIME, Floats, Verdicts, Wires

_EVENT_US_MAX = float(1 << 61)  # beyond it no number of microseconds is a time
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_SENML_ABSOLUTE_S = float(1 << 28)  # RFC 8428 4.5.3: below it, seconds from now
_FACTORS = {TimeFormat.UNIX_S: 1e6, TimeFormat.UNIX_MS: 1e3, TimeFormat.UNIX_US: 1.0}
_NUMBERS = {float, int, type(None)}
_COMPACT = "%Y%m%d%H%M%S"
_COMPACT_DIGITS = 14


def times_us(
    time: DeviceTime, wires: Wires, arrived_us: npt.NDArray[np.int64]
) -> tuple[Verdicts, Floats]:
    """Microseconds UTC of device times; ABSENT where there is none, TIME where it is no time.

    `arrived_us`: of each, for times that count from now.
    """
    if time.format in {TimeFormat.ISO8601, TimeFormat.COMPACT}:
        zone = zone_of(time.zone)
        read = _iso_us if time.format is TimeFormat.ISO8601 else _compact_us
        judged = [read(wire, zone) for wire in wires]
    elif time.format in _FACTORS:
        factor = _FACTORS[time.format]
        if isinstance(wires, np.ndarray) or _NUMBERS.issuperset(map(type, wires)):
            with contextlib.suppress(OverflowError):  # an integer of hundreds of digits
                return _numbers_us(wires, factor)
        judged = [_number_us(wire, factor) for wire in wires]
    else:
        relative = _age_us if time.format is TimeFormat.AGE_S else _senml_us
        pairs = zip(wires, arrived_us.tolist(), strict=True)
        judged = [relative(wire, float(now_us)) for wire, now_us in pairs]
    verdicts = np.array([verdict for verdict, _ in judged], np.uint8)
    return verdicts, np.array([value for _, value in judged], np.float64)


def _numbers_us(wires: Wires, factor: float) -> tuple[Verdicts, Floats]:
    """As `_number_us`, of numbers and nothing else but None."""
    with np.errstate(over="ignore"):  # 1e308 s: no time, and no news for the log
        times_us = np.array(wires, np.float64) * factor  # None becomes NaN
    fits = np.abs(times_us) < _EVENT_US_MAX
    verdicts = np.where(fits, OK, TIME).astype(np.uint8)
    if isinstance(wires, list) and None in wires:
        verdicts[[wire is None for wire in wires]] = ABSENT
    return verdicts, np.where(fits, times_us, 0.0)


def _number_us(wire: Any, factor: float) -> tuple[int, float]:
    if wire is None:
        return ABSENT, 0.0
    if isinstance(wire, bool) or not isinstance(wire, int | float):
        return TIME, 0.0
    try:
        time_us = float(wire) * factor
    except OverflowError:
        return TIME, 0.0
    return (OK, time_us) if abs(time_us) < _EVENT_US_MAX else (TIME, 0.0)


def _age_us(wire: Any, now_us: float) -> tuple[int, float]:
    verdict, age_us = _number_us(wire, 1e6)
    return (verdict, now_us - age_us) if verdict == OK else (verdict, 0.0)


def _senml_us(wire: Any, now_us: float) -> tuple[int, float]:
    verdict, time_us = _number_us(wire, 1e6)
    if verdict == OK and abs(time_us) < _SENML_ABSOLUTE_S * 1e6:
        time_us += now_us
    return verdict, time_us


def _iso_us(wire: Any, zone: timezone) -> tuple[int, float]:
    if wire is None:
        return ABSENT, 0.0
    if not isinstance(wire, str):
        return TIME, 0.0
    try:
        return OK, _since_epoch_us(datetime.fromisoformat(wire), zone)
    except (ValueError, OverflowError):
        return TIME, 0.0


def _compact_us(wire: Any, zone: timezone) -> tuple[int, float]:
    if wire is None:
        return ABSENT, 0.0
    text = str(wire) if isinstance(wire, int) and not isinstance(wire, bool) else wire
    fits = isinstance(text, str) and len(text) == _COMPACT_DIGITS and text.isascii()
    if not fits or not text.isdigit():
        return TIME, 0.0
    try:
        return OK, _since_epoch_us(datetime.strptime(text, _COMPACT), zone)  # noqa: DTZ007 - given
    except (ValueError, OverflowError):
        return TIME, 0.0


def _since_epoch_us(time: datetime, zone: timezone) -> float:
    if time.tzinfo is None:
        time = time.replace(tzinfo=zone)
    return (time - _EPOCH) / _MICROSECOND


def zone_of(text: str) -> timezone:
    """The zone of a checked text: UTC or an offset."""
    if text == "UTC":
        return UTC
    offset = timedelta(hours=int(text[1:3]), minutes=int(text[4:6]))
    return timezone(-offset if text[0] == "-" else offset)
