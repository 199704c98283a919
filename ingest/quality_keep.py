"""What the fold of a partition must not forget: bytes and back. Pure.

A JSON line (layout, clock, day, writers, lengths), then columns one after the other, compressed by
zlib. Arrays by device and point stand beside the ids that they belong to, so that a registry that
has grown since moves nothing.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from ingest.quality import State, begin
from ingest.quality_clock import Part, Writer
from sizao.errors import BadRecord

LAYOUT = 1
BAD_STATE = "state"
_LEVEL = 1  # 9 takes ten times as long and spares a tenth
_BY_DEVICE = (("heard_us", np.int64), ("settled_us", np.int64), ("told", np.int32))
_BY_POINT = (
    ("value", np.float32), ("since_s", np.uint32), ("run", np.uint32), ("marked", np.bool_),
)  # fmt: skip


class _Head(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    layout: int
    clock_us: int
    listened_us: int
    day: int
    foremost_us: int
    writers: dict[str, Writer]
    devices: int
    points: int


_decoder = msgspec.json.Decoder(_Head)


def pack(state: State, number: int) -> bytes:
    """One partition, as it stands once everything settled is stored."""
    part, roster = state.parts[number], state.roster
    device = np.flatnonzero(roster.speaks & (roster.partition == number)).astype(np.int32)
    mine = roster.breathes & (roster.partition[roster.point_device] == number)
    point = np.flatnonzero(mine & (state.run > 0)).astype(np.int32)
    head = _Head(
        layout=LAYOUT,
        clock_us=part.clock_us,
        listened_us=part.listened_us,
        day=part.day,
        foremost_us=part.foremost_us,
        writers=part.writers,
        devices=len(device),
        points=len(point),
    )
    columns: list[npt.NDArray[np.generic]] = [device]
    columns += [getattr(state, name)[device] for name, _ in _BY_DEVICE]
    columns += [point, *(getattr(state, name)[point] for name, _ in _BY_POINT)]
    body = b"".join(column.tobytes() for column in columns)
    return msgspec.json.encode(head) + b"\n" + zlib.compress(body, _LEVEL)


def unpack(state: State, stored: dict[int, bytes]) -> None:
    """Go on where these partitions were packed; the others, and who is new, begin now.

    Raises BadRecord for bytes that are none of ours: `state` is then to be thrown away.
    """
    old = np.zeros(state.roster.devices, np.bool_)
    for number, content in stored.items():
        try:
            line, _, body = content.partition(b"\n")
            _restore(state, number, _decoder.decode(line), zlib.decompress(body), old)
        except (msgspec.MsgspecError, zlib.error, ValueError, IndexError) as error:
            raise BadRecord(BAD_STATE, f"partition {number}: {error!r}") from error
    begin(state, state.roster.speaks & ~old)


def _restore(
    state: State, number: int, head: _Head, body: bytes, old: npt.NDArray[np.bool_]
) -> None:
    if head.layout != LAYOUT:
        raise ValueError(f"layout {head.layout}, this program knows {LAYOUT}")
    state.parts[number] = Part(
        clock_us=head.clock_us,
        listened_us=head.listened_us,
        day=head.day,
        foremost_us=head.foremost_us,
        writers=head.writers,
    )
    layout = [np.int32, *(kind for _, kind in _BY_DEVICE)]
    device, *by_device, rest = _columns(body, layout, head.devices)
    point, *by_point, _ = _columns(
        rest.tobytes(), [np.int32, *(kind for _, kind in _BY_POINT)], head.points
    )
    fits = (device < state.roster.devices - 1) & (device > 0)
    for (name, _), column in zip(_BY_DEVICE, by_device, strict=True):
        getattr(state, name)[device[fits]] = column[fits]
    old[device[fits]] = state.roster.partition[device[fits]] == number
    fits = (point < len(state.roster.point_device) - 1) & (point > 0)
    for (name, _), column in zip(_BY_POINT, by_point, strict=True):
        getattr(state, name)[point[fits]] = column[fits]


def _columns(body: bytes, kinds: Sequence[type], count: int) -> list[npt.NDArray[Any]]:
    """Columns of `count` items, and the bytes behind them."""
    found: list[npt.NDArray[Any]] = []
    place = 0
    for kind in kinds:
        found.append(np.frombuffer(body, kind, count, place))
        place += found[-1].nbytes
    return [*found, np.frombuffer(body, np.uint8, offset=place) if place < len(body) else _NONE]


_NONE = np.empty(0, np.uint8)
