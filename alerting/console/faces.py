"""Incidents as the console shows them: names looked up, nothing decided. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from alerting import notice as notices
from alerting.model import Incident, Member
from sizao.registry.model import View

_CHIPS_MAX = 12
_VALUES_MAX = 6


# What a person asks first: how hot, how much over what, against which limit.
_ORDER = (
    "value",
    "values",
    "rise_k",
    "baseline_c",
    "limit_k",
    "limit_c",
    "limit",
    "reason",
    "count",
)


def evidence(rule: str, said: dict[str, Any]) -> dict[str, Any]:
    """Why it has its tier, short enough for a card: of several samples the newest, no times."""
    values = {
        notices.clean(name): _shown(item)
        for name, item in sorted(said.items(), key=_rank)
        if not name.endswith("_us") and item != []
    }
    return {"rule": notices.clean(rule), "values": dict(list(values.items())[:_VALUES_MAX])}


def _rank(item: tuple[str, Any]) -> tuple[int, str]:
    name = item[0]
    return (_ORDER.index(name) if name in _ORDER else len(_ORDER), name)


def _shown(item: object) -> object:
    if isinstance(item, list):
        return _rounded(item[-1])
    return notices.clean(item) if isinstance(item, str) else _rounded(item)


def _rounded(item: object) -> object:
    return round(item, 2) if isinstance(item, float) else item


def face(
    view: View, incident: Incident, members: Sequence[Member], why: dict[str, Any] | None
) -> dict[str, Any]:
    """One incident as JSON. Times are microseconds UTC."""
    devices = [notices.device_of(view, member) for member in members]
    first = next((one for one in devices if one.zh), None)
    path = tuple(view.path(incident.key.site))
    return {
        "id": incident.id,
        "site": incident.key.site,
        "kind": incident.key.kind,
        "nature": incident.key.nature,
        "tier": incident.tier,
        "state": incident.state,
        "verdict": incident.verdict,
        "verdict_cause": incident.verdict_cause,
        "verdict_devices": list(incident.verdict_devices),
        "version": incident.version,
        "opened_us": incident.opened_us,
        "onset_us": incident.onset_us,
        "last_us": incident.last_us,
        "changed_us": incident.changed_us,
        "closed_us": incident.closed_us,
        "late": incident.late,
        "place": {
            "zh": first.zh if first is not None else notices.place_zh(path),
            "en": first.en if first is not None else notices.place_en(path),
        },
        "evidence": why,
        "device_count": incident.members,
        "devices": [
            {
                "id": device.id,
                "key": device.key,
                "type": device.type,
                "tier": device.tier,
                "place": {"zh": device.zh, "en": device.en},
                "cleared_us": member.cleared_us,
            }
            for device, member in zip(devices[:_CHIPS_MAX], members, strict=False)
        ],
    }
