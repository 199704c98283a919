"""What the application of device-type files would change: versions, points, who judges.

A plan is made from one generation of the registry; the draft in it is applied only if that
generation still stands (`ingest.register`), so what was shown is what is done.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from pydantic import BaseModel

from ingest.device_types.load import conflicts, load
from ingest.device_types.schema import DeviceType
from ingest.draft import Draft
from ingest.onboarding import Document, points_needed
from sizao.document import Fault, parse
from sizao.errors import BadInput
from sizao.registry import model
from sizao.registry.model import LifeState, View
from sizao.registry.write import Change, DetectorRow, TypeRow
from sizao.units import BY_CODE

_NAMED = 3  # devices that a fault names; the rest is counted


class Status(StrEnum):
    """What becomes of a type."""

    NEW = "new"
    CHANGED = "changed"
    SAME = "unchanged"


@dataclass(frozen=True, slots=True, kw_only=True)
class TypeChange:
    """One file: `devices` are all that the registry has, `in_service` those that speak.

    `begin`, `end`: quantities whose points begin and end, at each device; `meaning`: what else is
    otherwise; `start`, `stop`: detectors that will judge its devices, or will not any more. Not
    `readable`: this program cannot read the document in force, so it knows none of this.
    """

    label: str
    name: str
    status: Status
    version: int
    devices: int
    in_service: int
    begin: tuple[str, ...] = ()
    end: tuple[str, ...] = ()
    meaning: tuple[str, ...] = ()
    readable: bool = True
    start: tuple[DetectorRow, ...] = ()
    stop: tuple[DetectorRow, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """All files together, and the change of the registry that they make."""

    changes: tuple[TypeChange, ...]
    draft: Draft

    @property
    def points_begin(self) -> int:
        """How many points begin."""
        return sum(len(one.begin) * one.devices for one in self.changes)

    @property
    def points_end(self) -> int:
        """How many points end."""
        return sum(len(one.end) * one.devices for one in self.changes)


def plan(
    documents: Sequence[Document],
    view: View,
    detectors: Sequence[DetectorRow],
    *,
    allow_removal: bool,
) -> Plan:
    """What the documents, each without a fault of its own, make of the registry.

    Raises BadInput where they contradict each other, a type in force or a device of the registry.
    """
    files = {label: load(text, label) for label, text in documents}
    texts = dict(documents)
    known = {kind.name: kind for kind in view.types.values()}
    wrong = _conflicts(files, texts, known)
    changes, rows = [], []
    for label, text in documents:
        kind, before = files[label], known.get(files[label].name)
        devices = _devices(view, before)
        change = _change(label, kind, text, before, view, devices, detectors)
        faults = _faults(kind, change, view, devices, allow_removal=allow_removal)
        wrong += parse(text, label).told(label, faults)
        changes.append(change)
        if change.status is not Status.SAME:
            rows.append(TypeRow(kind.name, text, points_needed(text)))
    if wrong:
        raise BadInput("\n".join(wrong))
    added = sum(change.status is Status.NEW for change in changes)
    draft = Draft(change=Change(types=rows), rows=len(documents), added=added)
    return Plan(changes=tuple(changes), draft=draft)


def _conflicts(
    files: Mapping[str, DeviceType], texts: Mapping[str, str], known: Mapping[str, model.DeviceType]
) -> list[str]:
    """Contradictions among the files, and with the types in force that they do not replace."""
    named = {kind.name for kind in files.values()}
    in_force = {}
    for name, kind in known.items():
        read = _read(kind)
        if name not in named and read is not None:
            in_force[f"(in force) {name}"] = read  # sorts before any file, so the file is at fault
    found = conflicts({**in_force, **files}, texts)
    return [line for line in found if not line.startswith("(in force)")]


def _read(kind: model.DeviceType) -> DeviceType | None:
    """A type in force; None where this program cannot read its document any more."""
    try:
        return load(kind.document, kind.name)
    except BadInput:
        return None


def _devices(view: View, kind: model.DeviceType | None) -> list[int]:
    if kind is None:
        return []
    found: list[int] = np.flatnonzero(view.device_live & (view.device_type == kind.id)).tolist()
    return found


def _speaks(view: View, device: int) -> bool:
    return view.device_state[device] in {LifeState.IN_SERVICE, LifeState.ISOLATED}


def _change(
    label: str,
    kind: DeviceType,
    text: str,
    before: model.DeviceType | None,
    view: View,
    devices: list[int],
    detectors: Sequence[DetectorRow],
) -> TypeChange:
    same = before is not None and before.document == text
    old = _read(before) if before is not None else None
    readable = before is None or old is not None
    now = set(points_needed(text))
    then = set(points_needed(before.document)) if before is not None and old is not None else set()
    if not readable:
        then = now
    judged_then = {one.name for one in detectors if then & set(one.quantities)}
    judged_now = {one.name for one in detectors if now & set(one.quantities)}
    return TypeChange(
        label=label,
        name=kind.name,
        status=Status.NEW if before is None else Status.SAME if same else Status.CHANGED,
        version=1 if before is None else before.version + (not same),
        devices=len(devices),
        in_service=sum(_speaks(view, device) for device in devices),
        begin=_names(now - then),
        end=_names(then - now),
        meaning=() if same or before is None else _meaning(old, kind),
        readable=readable,
        start=tuple(one for one in detectors if one.name in judged_now - judged_then),
        stop=tuple(one for one in detectors if one.name in judged_then - judged_now),
    )


def _names(codes: set[int]) -> tuple[str, ...]:
    return tuple(BY_CODE[code].name for code in sorted(codes))


def _meaning(old: DeviceType | None, new: DeviceType) -> tuple[str, ...]:
    """What the new document says otherwise, by keys; of points that begin or end nothing."""
    if old is None:
        return ("the document in force cannot be read any more: which points begin and end?",)
    said = [f"- {one.pattern}" for one in old.topics if one not in new.topics]
    said += [f"+ {one.pattern}" for one in new.topics if one not in old.topics]
    for name in new.quantities:
        if name in old.quantities and old.quantities[name] != new.quantities[name]:
            keys = _otherwise(old.quantities[name], new.quantities[name], ())
            said.append(f"~ {name}: {', '.join(keys)}")
    said += [f"~ {key}" for key in _otherwise(old, new, ("topics", "quantities"))]
    return tuple(said) or ("its words only",)


def _otherwise(old: BaseModel, new: BaseModel, apart_from: tuple[str, ...]) -> list[str]:
    keys = [key for key in type(new).model_fields if key not in apart_from]
    return [key for key in keys if getattr(old, key) != getattr(new, key)]


def _faults(
    kind: DeviceType, change: TypeChange, view: View, devices: list[int], *, allow_removal: bool
) -> list[Fault]:
    faults: list[Fault] = []
    if not change.readable and change.in_service and not allow_removal:
        fault = "but the document in force cannot be read any more, so that nobody knows which"
        faults.append((("name",), f"{fault} points would end; expected --allow-removal"))
    if change.end and change.in_service and not allow_removal:
        text = f"got no {', '.join(change.end)}, which {change.in_service:,} devices in service"
        fault = f"{text} measure by version {change.version - 1}; expected it, or --allow-removal"
        faults.append((("quantities",), fault))
    needs = (
        ("heat_detector", kind.heat_detector, view.device_heat_class, "heat_class"),
        ("gas_detector", kind.gas_detector, view.device_gas, "gas"),
    )
    for key, needed, column, what in needs:
        lacking = [device for device in devices if needed and not column[device]]
        if lacking:
            text = f"but {len(lacking):,} devices of this type have no {what}"
            fault = f"{text} ({_keys(view, lacking)}); expected it to be imported first"
            faults.append(((key,), fault))
    return faults


def _keys(view: View, devices: list[int]) -> str:
    named = [
        f"{view.device_key[device]} under {view.carrier_names[int(view.device_carrier[device])]}"
        for device in devices[:_NAMED]
    ]
    return ", ".join(named) + (", ..." if len(devices) > _NAMED else "")


def told(made: Plan) -> list[str]:
    """A plan as lines for people."""
    lines = []
    for one in made.changes:
        head = f"{one.label}: {one.name}: {one.status}, version {one.version}"
        if one.status is Status.SAME:
            lines.append(head)
            continue
        count = f"{one.devices:,} devices ({one.in_service:,} in service)"
        lines.append(f"{head}; {count if one.devices else 'no devices yet'}")
        times = f" x {one.devices:,}" if one.devices else ""
        points = [f"+ {name}{times}" for name in one.begin]
        points += [f"- {name}{times}" for name in one.end]
        detectors = [f"+ {row.name}: {row.purpose}" for row in one.start]
        detectors += [f"- {row.name}: {row.purpose}" for row in one.stop]
        for title, said in (("says", one.meaning), ("points", points), ("detectors", detectors)):
            for number, line in enumerate(said):
                lines.append(f"  {title if not number else '':<10} {line}")
    return lines
