"""What came, and what became of it, in words for a person at a terminal. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from ingest.decode import Decoded
from ingest.refused import Fault
from sizao.frame import Flag
from sizao.registry.model import View
from sizao.units import BY_CODE, AlarmState, Lane

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_DUMP_BYTES = 16
_LINES_MAX = 16  # of the faults of one message; the rest is counted


class Said(NamedTuple):
    """One reading. `state`: the name of an alarm state, else empty."""

    device: str
    quantity: str
    value: float
    unit: str
    state: str
    event_us: int
    flags: tuple[str, ...]

    @property
    def words(self) -> str:
        """Device, quantity, value and unit, time, and what is odd about it."""
        value = self.state or f"{self.value:g} {self.unit}".removesuffix(" state").removesuffix(
            " 1"
        )
        odd = f" ({', '.join(self.flags)})" if self.flags else ""
        return f"{self.device} {self.quantity} {value}, {instant(self.event_us)}{odd}"


def instant(at_us: int) -> str:
    """ISO 8601, UTC, milliseconds; the number itself where it is no date."""
    try:
        return f"{_EPOCH + timedelta(microseconds=at_us):%Y-%m-%dT%H:%M:%S.%f}"[:-3] + "Z"
    except OverflowError:
        return f"{at_us} us"


def readings(view: View, decoded: Decoded) -> Iterator[tuple[int, Said]]:
    """Device id and words of each reading."""
    columns = (decoded.point, decoded.value, decoded.event_us, decoded.flags)
    for point, value, event_us, flags in zip(*(one.tolist() for one in columns), strict=True):
        device = int(view.point_device[point])
        quantity = BY_CODE[int(view.point_quantity[point])]
        state = AlarmState(int(value)).name.lower() if quantity.lane is Lane.ALARM else ""
        odd = tuple(flag.name.lower() for flag in Flag if flags & flag and flag.name)
        said = Said(
            view.device_key[device], quantity.name, value, quantity.unit, state, event_us, odd
        )
        yield device, said


def faults(view: View, found: list[Fault]) -> list[str]:
    """Reason, field and device of each, the gravest first."""
    lines = []
    for fault in found[:_LINES_MAX]:
        key = view.device_key[fault.device] if fault.device else ""
        of = f" ({key})" if key and key != fault.where else ""
        lines.append(f"{fault.reason}: {printable(fault.where)}{of}")
    if len(found) > _LINES_MAX:
        lines.append(f"... and {len(found) - _LINES_MAX} more")
    return lines


def printable(text: str) -> str:
    """Text that cannot move a terminal's cursor: whatever is not printable is escaped."""
    return "".join(one if one.isprintable() else ascii(one)[1:-1] for one in text)


def text_of(payload: bytes) -> str | None:
    """A payload as text; None where it is none."""
    try:
        text = payload.decode()
    except UnicodeDecodeError:
        return None
    return text if all(one.isprintable() or one in "\t\r\n" for one in text) else None


def raw(payload: bytes, width: int) -> str:
    """A payload in at most `width` characters: text, else hexadecimal; cut where it is longer."""
    head = payload[: 4 * width]
    text = text_of(head if len(head) == len(payload) else _whole_characters(head))
    shown = printable(head.hex(" ") if text is None else text)
    cut = len(shown) > width or len(head) < len(payload)
    return shown[: width - 3] + "..." if cut else shown


def _whole_characters(head: bytes) -> bytes:
    """Without a character of UTF-8 that the cut went through."""
    return head.decode(errors="ignore").encode() if _cut_only(head) else head


def _cut_only(head: bytes) -> bool:
    """Whether nothing but the last character is broken."""
    try:
        head.decode()
    except UnicodeDecodeError as error:
        return error.end == len(head) and error.reason == "unexpected end of data"
    return True


def hex_dump(payload: bytes) -> Iterator[str]:
    """Offset, bytes and characters, sixteen a line."""
    for start in range(0, len(payload), _DUMP_BYTES):
        some = payload[start : start + _DUMP_BYTES]
        characters = "".join(chr(one) if 32 <= one < 127 else "." for one in some)  # noqa: PLR2004 - printable ASCII
        yield f"{start:08x}  {some.hex(' '):<{3 * _DUMP_BYTES}} {characters}"
