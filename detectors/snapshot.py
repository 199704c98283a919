"""A fold on disk: one file per fold and snapshot, written beside and renamed, newest three kept.

Layout: magic line, CRC-32 of the rest as a line, one line of JSON (what is not an array, and the
arrays' names in order), then the arrays as .npy, then the waiting frames. Columns that are mostly
untouched are stored as (places, values): at 400,000 devices almost nobody is in alarm.

A file that cannot be read gives way to the next older. A block is kept under the rule's name and
version; a rule of another version, or with other columns, starts cold (the loop warms it up, see
detectors/fold.py) and the others keep theirs.
"""

from __future__ import annotations

import io
import json
import os
import zlib
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np

from detectors import state as folds
from detectors.rule import Array, Block, Column, empty_block, move_block
from detectors.state import Last, Setup, State, columns_of
from sizao import frame
from sizao.errors import Permanent
from sizao.registry.model import Registry
from sizao.units import Lane

KEPT = 3
MAGIC = b"sizao fold 1\n"
_SUFFIX = ".snapshot"
_CRC_BYTES = 9  # eight hex digits and a newline
_SPARSE_SHARE = 0.25
_SEQUENCE_DIGITS = 12


class Refusal(StrEnum):
    """Why a snapshot was passed over: closed label of the counter."""

    UNREADABLE = "unreadable"
    FOREIGN = "foreign"
    DAMAGED = "damaged"
    LAYOUT = "layout"


class RefusedError(Permanent):
    """A snapshot that will not do."""

    def __init__(self, reason: Refusal, detail: str) -> None:
        """Keep the closed `reason` apart from the free `detail`."""
        super().__init__(f"{reason}: {detail}")
        self.reason = reason


@dataclass
class Restored:
    """What was found. `cold`: blocks that start anew; `refused`: files passed over, and why."""

    state: State | None = None
    cold: list[str] = field(default_factory=list)
    refused: list[tuple[str, RefusedError]] = field(default_factory=list)


def pack(state: State) -> bytes:
    """The state as the bytes of a file; later changes of the state do not touch them."""
    body = io.BytesIO()
    names: list[str] = []

    def add(name: str, array: Array) -> None:
        names.append(name)
        np.lib.format.write_array(body, array, allow_pickle=False)

    add("point", state.point)
    columns = columns_of(state)
    for key in sorted(columns):
        for column in columns[key]:
            _add_column(add, f"{key}/{column.name}", column, state.blocks[key][column.name])
    waiting = [frame.encode(each) for each in state.waiting.frames]
    head = {
        "lane": state.lane,
        "partition": state.partition,
        "next_offset": state.next_offset,
        "last": state.last,
        "generation": state.view.generation,
        "clock_us": state.clock_us,
        "ticked_s": state.ticked_s,
        "heard_us": state.heard_us,
        "arrays": names,
        "waiting_bytes": [len(each) for each in waiting],
    }
    line = json.dumps(head, sort_keys=True).encode() + b"\n"
    content = line + body.getvalue() + b"".join(waiting)
    return MAGIC + b"%08x\n" % zlib.crc32(content) + content


def _add_column(add: Any, name: str, column: Column, array: Array) -> None:
    touched = np.flatnonzero(array != np.array(column.fill, column.dtype))
    if len(touched) < len(array) * _SPARSE_SHARE:
        add(f"{name}#places", touched.astype(np.int32))
        add(f"{name}#values", array[touched])
    else:
        add(name, array)


def unpack(content: bytes, registry: Registry, setup: Setup) -> tuple[State, list[str]]:
    """The state, and the names of blocks that start cold. Raises RefusedError, nothing else."""
    if not content.startswith(MAGIC):
        raise RefusedError(Refusal.FOREIGN, f"begins with {content[:20]!r}")
    start = len(MAGIC) + _CRC_BYTES
    said, rest = content[len(MAGIC) : start], content[start:]
    if said != b"%08x\n" % zlib.crc32(rest):
        raise RefusedError(Refusal.DAMAGED, f"crc said {said!r}, is {zlib.crc32(rest):08x}")
    try:
        return _unpack(rest, registry, setup)
    except (KeyError, ValueError, TypeError, OSError, Permanent) as error:
        raise RefusedError(Refusal.LAYOUT, repr(error)[:200]) from error


def _unpack(content: bytes, registry: Registry, setup: Setup) -> tuple[State, list[str]]:
    body = io.BytesIO(content)
    head = json.loads(body.readline())
    arrays = {name: np.lib.format.read_array(body, allow_pickle=False) for name in head["arrays"]}
    view = registry.at(int(head["generation"]))
    state = folds.start(Lane(head["lane"]), int(head["partition"]), view, setup)
    state.next_offset = int(head["next_offset"])
    state.last = Last(*head["last"]) if head["last"] else None
    state.clock_us = int(head["clock_us"])
    state.ticked_s = int(head["ticked_s"])
    for writer in state.heard_us:
        state.heard_us[writer] = int(head["heard_us"].get(writer, 0))
    for size in head["waiting_bytes"]:
        value = body.read(size)
        waited = frame.decode(value, frame.headers(value))
        state.waiting.put(waited, np.ones(waited.rows, np.bool_))
    point = arrays["point"]
    known = np.minimum(point, len(state.lookup) - 1)
    place = np.maximum(state.lookup[known], -1)
    cold = []
    for key, columns in columns_of(state).items():
        block = _block(arrays, key, columns, len(point))
        if block is None:
            cold.append(key)
        else:
            state.blocks[key] = move_block(block, columns, state.slots, place)
    return state, cold


def _block(
    arrays: dict[str, Array], key: str, columns: tuple[Column, ...], slots: int
) -> Block | None:
    """The stored block; None if it is not there or has other columns."""
    block = empty_block(columns, slots)
    stored = {name.removesuffix("#places").removesuffix("#values") for name in arrays}
    if {name for name in stored if name.startswith(f"{key}/")} != {
        f"{key}/{column.name}" for column in columns
    }:
        return None
    for name, column in block.items():
        places = arrays.get(f"{key}/{name}#places", slice(None))
        values = arrays[f"{key}/{name}" if isinstance(places, slice) else f"{key}/{name}#values"]
        if values.dtype != column.dtype:
            return None
        column[places] = values
    return block


def stem(lane: Lane, partition: int) -> str:
    """How the names of a fold's files begin."""
    return f"{lane}-{partition}."


def files(folder: Path, lane: Lane, partition: int) -> list[Path]:
    """A fold's snapshots, newest first."""
    number = "[0-9]" * _SEQUENCE_DIGITS
    return sorted(folder.glob(f"{stem(lane, partition)}{number}{_SUFFIX}"), reverse=True)


def write(folder: Path, lane: Lane, partition: int, content: bytes) -> Path:
    """Store a snapshot durably and forget all but the newest three. Raises OSError.

    Files are numbered in the order of writing, not by offset: after a log that came back shorter
    the newest snapshot has the smaller offset.
    """
    folder.mkdir(parents=True, exist_ok=True)
    older = files(folder, lane, partition)
    begin = stem(lane, partition)
    last = int(older[0].name[len(begin) : -len(_SUFFIX)]) if older else 0
    path = folder / f"{begin}{last + 1:0{_SEQUENCE_DIGITS}d}{_SUFFIX}"
    fresh = path.with_suffix(".new")
    with fresh.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)
    for old in older[KEPT - 1 :]:
        old.unlink(missing_ok=True)
    return path


def restore(folder: Path, lane: Lane, partition: int, registry: Registry, setup: Setup) -> Restored:
    """The newest snapshot that will do."""
    found = Restored()
    for path in files(folder, lane, partition):
        try:
            found.state, found.cold = _of(path, lane, partition, registry, setup)
        except RefusedError as error:
            found.refused.append((path.name, error))
        else:
            break
    return found


def _of(
    path: Path, lane: Lane, partition: int, registry: Registry, setup: Setup
) -> tuple[State, list[str]]:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise RefusedError(Refusal.UNREADABLE, str(error)) from error
    state, cold = unpack(content, registry, setup)
    if (state.lane, state.partition) != (lane, partition):
        raise RefusedError(Refusal.FOREIGN, f"is of {state.lane} {state.partition}")
    return state, cold
