"""Packed binary payloads: a list of fields, and perhaps a list that repeats.

    layout:
      byte_order: big
      fields:                                   # once, from the first byte
        - {name: version, type: uint8, equals: 2}
        - {name: flags, type: uint8}
      records:                                  # again and again, to the end or `count` times
        - {name: part, type: uint16}
        - {name: temperature, type: int16}
      bits:
        - {name: low_battery, of: flags, bit: 3}

Pointers lead to names: /temperature. What is meant by a number says its measure, as with JSON.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from enum import StrEnum
from typing import Annotated

from pydantic import AfterValidator, Field, StrictInt

from ingest.device_types.base import Closed
from ingest.device_types.scalars import Flag
from sizao.document import Fault

FIELDS_MAX = 256
SIZE_MAX = 1024  # bytes of one field
_NAME = re.compile(r"[a-z][a-z0-9_]*")


class Kind(StrEnum):
    """How the bytes of a field are read."""

    UINT8 = "uint8"
    UINT16 = "uint16"
    UINT24 = "uint24"
    UINT32 = "uint32"
    UINT64 = "uint64"
    INT8 = "int8"
    INT16 = "int16"
    INT32 = "int32"
    INT64 = "int64"
    FLOAT32 = "float32"
    FLOAT64 = "float64"
    TEXT = "text"  # ASCII, filled up with NUL or space
    HEX = "hex"  # small letters, two digits a byte
    BCD = "bcd"  # two decimal digits a byte, filled up with F: an IMEI
    SKIP = "skip"


SIZED = {Kind.TEXT, Kind.HEX, Kind.BCD, Kind.SKIP}
BYTES = {
    Kind.UINT8: 1,
    Kind.UINT16: 2,
    Kind.UINT24: 3,
    Kind.UINT32: 4,
    Kind.UINT64: 8,
    Kind.INT8: 1,
    Kind.INT16: 2,
    Kind.INT32: 4,
    Kind.INT64: 8,
    Kind.FLOAT32: 4,
    Kind.FLOAT64: 8,
}
UNSIGNED = {Kind.UINT8, Kind.UINT16, Kind.UINT24, Kind.UINT32, Kind.UINT64}


class ByteOrder(StrEnum):
    """Which byte of a number comes first."""

    BIG = "big"  # the highest: network order
    LITTLE = "little"


def _name(text: str) -> str:
    if not _NAME.fullmatch(text):
        raise ValueError("expected small letters, digits and _, a letter first")
    return text


Name = Annotated[str, AfterValidator(_name)]


class Part(Closed):
    """One field."""

    name: Name | None = Field(default=None, description="left out: nobody asks for it")
    type: Kind
    size: StrictInt | None = Field(
        default=None, ge=1, le=SIZE_MAX, description="bytes, of text, hex, bcd and skip"
    )
    equals: StrictInt | None = Field(
        default=None, description="another number here, and the payload is not of this type"
    )

    @property
    def bytes(self) -> int:
        """How many it takes."""
        return BYTES.get(self.type) or self.size or 0


class Bits(Closed):
    """Some bits of a field as a field of their own."""

    name: Name
    of: str = Field(description="name of an unsigned field")
    bit: StrictInt = Field(ge=0, le=63, description="the lowest; 0 is the field's lowest")
    width: StrictInt = Field(default=1, ge=1, le=64)


class Layout(Closed):
    """What stands where."""

    byte_order: ByteOrder = ByteOrder.BIG
    fields: list[Part] = Field(max_length=FIELDS_MAX)
    records: list[Part] = Field(default=[], max_length=FIELDS_MAX)
    count: str | None = Field(
        default=None, description="field that says how many records; left out: to the end"
    )
    bits: list[Bits] = Field(default=[], max_length=FIELDS_MAX)
    trailing: Flag = Field(
        default=False, description="more bytes may follow, as a later firmware's"
    )

    def parts(self) -> Iterator[tuple[tuple[str | int, ...], Part]]:
        """Every field with its path in the file."""
        for where in ("fields", "records"):
            for index, part in enumerate(getattr(self, where)):
                yield (where, index), part

    def kinds(self) -> dict[str, Kind]:
        """Names that a pointer may lead to."""
        named = {part.name: part.type for _, part in self.parts() if part.name is not None}
        return named | {bits.name: Kind.UINT64 for bits in self.bits}


def faults(layout: Layout) -> Iterator[Fault]:
    """What is wrong with a layout beyond each field alone."""
    names = [part.name for _, part in layout.parts() if part.name is not None]
    names += [bits.name for bits in layout.bits]
    for path, part in layout.parts():
        yield from _part_faults(path, part, names)
    unsigned = {part.name: part for _, part in layout.parts() if part.type in UNSIGNED}
    for index, bits in enumerate(layout.bits):
        of = unsigned.get(bits.of)
        if of is None:
            known = ", ".join(sorted(name for name in unsigned if name)) or "none there"
            yield ("bits", index, "of"), f"which is no unsigned field, expected {known}"
        elif bits.bit + bits.width > of.bytes * 8:
            fault = f"{bits.width} wide, but {bits.of} has {of.bytes * 8} bits; expected lower ones"
            yield ("bits", index, "bit"), fault
        if names.count(bits.name) > 1:
            yield ("bits", index, "name"), "which stands here twice, expected once"
    if not layout.fields and not layout.records:
        yield ("fields",), "expected at least one field"
    once = [part.name for part in layout.fields if part.type in UNSIGNED]
    if layout.count is not None and layout.count not in once:
        known = ", ".join(sorted(name for name in once if name)) or "none there"
        yield ("count",), f"which is no unsigned field of `fields`, expected {known}"
    if layout.count is not None and not layout.records:
        yield ("count",), "expected records that it counts"
    if layout.trailing and layout.records and layout.count is None:
        yield ("trailing",), "but records to the end leave no more bytes; expected a count"


def _part_faults(path: tuple[str | int, ...], part: Part, names: list[str]) -> Iterator[Fault]:
    if (part.size is None) is (part.type in SIZED):
        need = "expected its bytes" if part.type in SIZED else "expected none: its type says it"
        yield (*path, "size"), need
    if part.name is not None and names.count(part.name) > 1:
        yield (*path, "name"), "which stands here twice, expected once"
    if part.equals is None:
        return
    if part.type not in UNSIGNED or path[0] != "fields":
        yield (*path, "equals"), "expected only of an unsigned field of `fields`"
    elif not 0 <= part.equals < 1 << part.bytes * 8:
        yield (*path, "equals"), f"expected what fits into {part.bytes} bytes"
