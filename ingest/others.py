"""Of types that share a topic, which words of a payload are another type's. Pure.

Each type reads every payload of the topic and finds in it what looks like a key to it alone: the
name of a gateway, an element of a list that its neighbour calls something else. That is nobody's
alarm. It was told as one, with each healthy payload, for as long as two such types shared a topic.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ingest.device_types.compiled import Compiled
from ingest.device_types.payload import Columns
from ingest.device_types.pointer import Way
from ingest.device_types.schema import Format
from ingest.routes import PARTS, District

Ints = npt.NDArray[np.int32]
_Spot = tuple[object, int, int]
"""What was spread into items, the payload, the item's number."""

# Formats of which two types see the same items, in the same order.
_SPREAD = {Format.JSON, Format.LORAWAN, Format.CODEC}


class Read(NamedTuple):
    """What one reader read. `device`: of the roster and in service, of whatever type; else 0.
    `own`: whether it is of the reader's type.
    """

    number: int
    columns: Columns
    payload: Ints
    device: Ints
    own: npt.NDArray[np.bool_]

    @property
    def kind(self) -> int:
        """Id of the reader's type."""
        return self.number // PARTS


class Others:
    """Who took what of those payloads in which somebody found what no device of ours is."""

    def __init__(self, district: District, reads: Sequence[Read]) -> None:
        """Look through all that was read of a topic's payloads."""
        self._kinds = {
            one.number: _kind(district.readers[one.number].compiled) for one in reads
        }  # fmt: skip
        self._takers: dict[int, set[int]] = {}  # payload -> types that found a device in it
        self._read: dict[_Spot, frozenset[Way]] = {}  # by the type whose device it is
        strange = np.concatenate([one.payload[one.device == 0] for one in reads])
        for one in reads:
            source, words = self._kinds[one.number]
            ways, order = frozenset(words), _order(one)
            for place in np.flatnonzero(one.own & np.isin(one.payload, strange)).tolist():
                payload, spot = int(one.payload[place]), int(order[place])
                self._takers.setdefault(payload, set()).add(one.kind)
                if source is not None:
                    at = source, payload, spot
                    self._read[at] = self._read.get(at, ways) | ways

    def have(self, one: Read, place: int) -> bool:
        """Whether an entry without a device of ours is another type's: that type has read all that
        this one finds there, or has found its devices where this one finds nothing at all.
        """
        payload = int(one.payload[place])
        takers = self._takers.get(payload)
        if not takers:
            return False
        source, words = self._kinds[one.number]
        slots = one.columns.slots
        said = {way for way, slot in words.items() if slots[slot][place] is not None}
        first = int(np.searchsorted(one.payload, payload))
        read = None if source is None else self._read.get((source, payload, place - first))
        return said <= read if read is not None else not said and one.kind not in takers


def _kind(compiled: Compiled) -> tuple[object, dict[Way, int]]:
    """What it sees as items, None where no other type sees the same; its quantities' slots."""
    spread = compiled.format in _SPREAD
    source = (compiled.format, compiled.codec, compiled.items) if spread else None
    return source, {compiled.slots[one.slot]: one.slot for one in compiled.fields}


def _order(one: Read) -> Ints:
    """Number of each entry within its payload; those of one payload stand together."""
    first = np.searchsorted(one.payload, one.payload)
    return (np.arange(len(one.payload)) - first).astype(np.int32)
