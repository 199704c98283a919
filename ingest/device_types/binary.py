"""Reads packed binary payloads into columns. Never raises."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from ingest.device_types.layout import ByteOrder, Kind, Layout, Part
from ingest.device_types.verdicts import Wires

_CODES = {
    Kind.UINT8: "u1",
    Kind.UINT16: "u2",
    Kind.UINT32: "u4",
    Kind.UINT64: "u8",
    Kind.INT8: "i1",
    Kind.INT16: "i2",
    Kind.INT32: "i4",
    Kind.INT64: "i8",
    Kind.FLOAT32: "f4",
    Kind.FLOAT64: "f8",
}
_Structured = npt.NDArray[np.void]


@dataclass(frozen=True, slots=True)
class Binary:
    """A layout made ready. `names`: those that pointers lead to, in the order of the slots;
    `numbers`: the slots that nobody needs but as numbers.
    """

    layout: Layout
    header: np.dtype[np.void]
    record: np.dtype[np.void]
    magics: tuple[tuple[int, bytes, str], ...]
    names: tuple[str, ...]
    numbers: frozenset[int]
    count: tuple[int, int] | None

    @property
    def order(self) -> Literal["big", "little"]:
        """Of its bytes."""
        return _order(self.layout)

    def rows(self, payload: bytes, rows_max: int) -> int | str:
        """How many records it has, or why it is none of these."""
        size, each = len(payload), self.record.itemsize
        if size < self.header.itemsize:
            return f"{size} bytes; expected {self.header.itemsize}" + " or more" * bool(each)
        for start, wanted, name in self.magics:
            if payload[start : start + len(wanted)] != wanted:
                got = payload[start : start + len(wanted)].hex()
                return f"{name}: {got}; expected {wanted.hex()}"
        body = size - self.header.itemsize
        if not each:
            fits = body == 0 or self.layout.trailing
            return 1 if fits else f"{size} bytes; expected {self.header.itemsize}"
        if self.count is None:
            count, rest = divmod(body, each)
            if rest:
                return f"{size} bytes; expected {self.header.itemsize} and records of {each}"
        else:
            start, wide = self.count
            count = int.from_bytes(payload[start : start + wide], self.order)
            wanted_size = self.header.itemsize + count * each
            if size < wanted_size or (size > wanted_size and not self.layout.trailing):
                return f"{size} bytes; expected {wanted_size} for {count} records"
        return count if count <= rows_max else f"{count} records; {rows_max} fit"

    def columns(self, payloads: Sequence[bytes], counts: Sequence[int]) -> tuple[bool, list[Wires]]:
        """One column per name over all records of payloads that `rows` has found good.

        Also whether every number is finite; else all are lists.
        """
        size, each = self.header.itemsize, self.record.itemsize
        if size:
            header = np.frombuffer(b"".join(one[:size] for one in payloads), self.header)
        else:
            header = np.zeros(len(payloads), self.header)
        if each:
            header = np.repeat(header, counts)
            bodies = [
                one[size : size + each * count] for one, count in zip(payloads, counts, strict=True)
            ]
            record = np.frombuffer(b"".join(bodies), self.record)
        else:
            record = header
        numbers = {slot: self._raw(self.names[slot], header, record) for slot in self.numbers}
        finite = all(np.isfinite(column).all() for column in numbers.values())
        return finite, [
            numbers[slot] if finite and slot in numbers else self._column(name, header, record)
            for slot, name in enumerate(self.names)
        ]

    def _raw(self, name: str, header: _Structured, record: _Structured) -> npt.NDArray[Any]:
        column: npt.NDArray[Any] = (header if name in (self.header.names or ()) else record)[name]
        return column

    def _column(self, name: str, header: _Structured, record: _Structured) -> list[Any]:
        for bits in self.layout.bits:
            if bits.name == name:
                words = self._column(bits.of, header, record)
                mask = (1 << bits.width) - 1
                return [word >> bits.bit & mask for word in words]
        kind = self.layout.kinds()[name]
        return _READ[kind](self._raw(name, header, record), self.layout.byte_order)


def _order(layout: Layout) -> Literal["big", "little"]:
    return "big" if layout.byte_order is ByteOrder.BIG else "little"


def _numbers(column: npt.NDArray[Any], _: ByteOrder) -> list[Any]:
    return list(column.tolist())


def _uint24(column: npt.NDArray[Any], order: ByteOrder) -> list[Any]:
    places = [1 << 16, 1 << 8, 1]
    weights = np.array(places if order is ByteOrder.BIG else places[::-1], np.int64)
    return list((column.astype(np.int64) @ weights).tolist())


def _raw(column: npt.NDArray[Any]) -> list[bytes]:
    content, size = column.tobytes(), column.shape[1]
    return [content[place : place + size] for place in range(0, len(content), size)]


def _text(column: npt.NDArray[Any], _: ByteOrder) -> list[Any]:
    rows = _raw(column)
    return [row.rstrip(b"\0 ").decode("ascii", "backslashreplace") for row in rows]


def _hex(column: npt.NDArray[Any], _: ByteOrder) -> list[Any]:
    content, size = column.tobytes().hex(), 2 * column.shape[1]
    return [content[place : place + size] for place in range(0, len(content), size)]


def _bcd(column: npt.NDArray[Any], _: ByteOrder) -> list[Any]:
    return [row.hex().rstrip("f") for row in _raw(column)]


_READ: dict[Kind, Callable[[npt.NDArray[Any], ByteOrder], list[Any]]] = {
    **dict.fromkeys(_CODES, _numbers),
    Kind.UINT24: _uint24,
    Kind.TEXT: _text,
    Kind.HEX: _hex,
    Kind.BCD: _bcd,
}


def binary(layout: Layout, names: Sequence[str], numbers: Collection[int]) -> Binary:
    """Make a checked layout ready. `numbers`: slots that nobody needs but as numbers."""
    header, offsets = _dtype(layout.fields, layout.byte_order)
    record, _ = _dtype(layout.records, layout.byte_order)
    magics = tuple(
        (offset, part.equals.to_bytes(part.bytes, _order(layout)), part.name or "equals")
        for part, offset in zip(layout.fields, offsets, strict=True)
        if part.equals is not None
    )
    count = next(
        (
            (offset, part.bytes)
            for part, offset in zip(layout.fields, offsets, strict=True)
            if layout.count is not None and part.name == layout.count
        ),
        None,
    )
    kinds, bits = layout.kinds(), {one.name for one in layout.bits}
    return Binary(
        layout=layout,
        header=header,
        record=record,
        magics=magics,
        names=tuple(names),
        numbers=frozenset(
            slot for slot in numbers if names[slot] not in bits and kinds[names[slot]] in _CODES
        ),
        count=count,
    )


def _dtype(parts: Sequence[Part], order: ByteOrder) -> tuple[np.dtype[np.void], list[int]]:
    """A packed structure of the named parts, and where each part begins."""
    offsets, at = [], 0
    for part in parts:
        offsets.append(at)
        at += part.bytes
    named = [
        (part, offset)
        for part, offset in zip(parts, offsets, strict=True)
        if part.name is not None and part.type is not Kind.SKIP
    ]
    prefix = ">" if order is ByteOrder.BIG else "<"
    formats: list[Any] = [
        prefix + _CODES[part.type] if part.type in _CODES else ("u1", (part.bytes,))
        for part, _ in named
    ]
    description: Any = {
        "names": [part.name for part, _ in named],
        "formats": formats,
        "offsets": [offset for _, offset in named],
        "itemsize": at,
    }
    return np.dtype(description), offsets
