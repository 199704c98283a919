"""Whose words are awaited, and how often: from the registry's devices and their types.

Made anew at each generation, with the other tables (detectors/tables.py).
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from pydantic import BaseModel, Field

from detectors.rule import Heartbeats
from sizao import document
from sizao.errors import BadInput
from sizao.registry.model import Fold, View

_TYPES_KEPT = 1024


class _Awaited(BaseModel):
    """As much of a device type as is needed here; ingest/device_types/schema.py has the rest."""

    expected_interval_s: int = Field(gt=0)


@lru_cache(maxsize=_TYPES_KEPT)  # a document of 100 lines takes 20 ms to read
def interval_s(text: str) -> int:
    """How often a device of this type speaks at least; 0 for a document that does not say so."""
    try:
        found = document.parse(text, "device type")
        return document.validate(found, _Awaited, "device type").expected_interval_s
    except BadInput:
        return 0


def of(view: View, fold: Fold) -> Heartbeats:
    """Of the devices of a fold. Awaited are those in service: one that is planned, isolated or
    retired is silent with reason, and one without a type, or whose type names no interval, for all
    that anybody knows.
    """
    device = view.point_device[fold.point]
    live = np.flatnonzero(view.point_live[fold.point])
    first = np.full(len(view.device_type), -1, np.int32)
    first[device[live][::-1]] = live[::-1]  # written backwards, so that the first slot stays
    leader = np.where(first[device] >= 0, first[device], np.arange(len(device), dtype=np.int32))
    longest = max(view.types, default=0)
    by_type = np.zeros(longest + 2, np.int32)
    for number, kind in view.types.items():
        by_type[number] = interval_s(kind.document)
    awaited = view.device_live & view.device_in_service & (first >= 0)
    interval = by_type[np.minimum(view.device_type, longest + 1)] * awaited
    devices = np.flatnonzero(interval)
    slot = np.sort(first[devices])
    return Heartbeats(leader=leader, awaited=slot, interval_s=interval[device[slot]])
