"""What simulated devices say: one JSON reading, a gateway's batch in JSON or packed. Pure bytes.

A device's payloads have one size, so what precedes them on the wire is made once.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from enum import StrEnum

import numpy as np

MAGIC = 0x5A42  # "ZB"
_HEAD = struct.Struct(">HBBQ")
_RECORD = np.dtype([("id", "S4"), ("centi", ">i2")])

Maker = Callable[[float, int], bytes]
"""(degC, microseconds of Unix time) -> payload."""


class Form(StrEnum):
    """How a gateway packs its batches."""

    JSON = "json"
    BINARY = "binary"


def maker(keys: Sequence[str], form: Form) -> Maker:
    """For a device of one key (generic.heat), or a gateway (generic.gateway_batch, or packed
    bench.gateway_binary).
    """
    if len(keys) == 1:
        return _single
    return _packed(keys) if form is Form.BINARY else _columns(keys)


def _single(value: float, ts_us: int) -> bytes:
    return b'{"temperature": %6.2f, "ts": %010d.%06d}' % (value, *divmod(ts_us, 1_000_000))


def _columns(keys: Sequence[str]) -> Maker:
    named = ",".join(f'"{key}"' for key in keys)
    head = f'{{"keys":[{named}],"times":['.encode()
    count = len(keys)

    def make(value: float, ts_us: int) -> bytes:
        times = b",".join([b"%013d" % (ts_us // 1000)] * count)
        values = b",".join([b"%6.2f" % value] * count)
        return head + times + b'],"temperatures":[' + values + b"]}"

    return make


def _packed(keys: Sequence[str]) -> Maker:
    """Keys are four bytes in hexadecimal."""
    records = np.zeros(len(keys), _RECORD)
    records["id"] = [bytes.fromhex(key) for key in keys]

    def make(value: float, ts_us: int) -> bytes:
        records["centi"] = round(value * 100)
        return _HEAD.pack(MAGIC, 1, len(keys), ts_us // 1000) + records.tobytes()

    return make
