"""What there is to say about one transition, gathered from the registry's view. Pure.

The same facts go into every channel and into `sizao.incidents.v1`. Names come from people and
devices: control characters leave here, and every text and list has a bound.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from alerting.model import DETECT, Incident, Member, Transition
from sizao.registry.model import Area, View
from sizao.signal import Evidence

DEVICES_MAX = 20
NAME_CHARS_MAX = 100
EVIDENCE_KEYS_MAX = 16
EVIDENCE_VALUES_MAX = 8
CE_SOURCE = "/sizao/alert"
CE_SCHEMA = "urn:sizao:incident:1"
_MINUTE_US = 60_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """A device of an incident, in words."""

    id: int
    key: str
    type: str
    tier: str
    zh: str
    en: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """One transition with everything that a text needs. `lon`, `lat` are None where unknown."""

    incident: Incident
    transition: Transition
    path: tuple[Area, ...]
    lon: float | None
    lat: float | None
    devices: tuple[Device, ...]
    late_min: int
    """Whole minutes between the event and our decision; 0 when it came in time."""


def event_type(what: str) -> str:
    """CloudEvents type of a transition."""
    return f"cn.sizao.incident.{what}.v1"


def clean(text: str) -> str:
    """Without control characters and direction marks; at most NAME_CHARS_MAX characters."""
    shown = "".join(char if char.isprintable() else " " for char in text[: NAME_CHARS_MAX * 2])
    return " ".join(shown.split())[:NAME_CHARS_MAX]


def build(
    view: View, incident: Incident, transition: Transition, members: Sequence[Member]
) -> Notice:
    """Look everything up. The place is the one of the device that caused the transition, else the
    site. An id that the view does not know leaves its part empty; nothing here raises for it.
    """
    signal = transition.signal
    device = signal.device if signal is not None else 0
    path = _path(view, device) or tuple(view.path(incident.key.site))
    lon, lat = _coordinates(view, device, path)
    late_us = transition.at_us - transition.event_us if transition.late else 0
    return Notice(
        incident=incident,
        transition=transition,
        path=path,
        lon=lon,
        lat=lat,
        devices=tuple(device_of(view, member) for member in members[:DEVICES_MAX]),
        late_min=max(late_us // _MINUTE_US, 1) if transition.late else 0,
    )


def _known(view: View, device: int) -> bool:
    return 0 < device < len(view.device_key) and bool(view.device_key[device])


def _path(view: View, device: int) -> tuple[Area, ...]:
    return tuple(view.path(int(view.device_area[device]))) if _known(view, device) else ()


def _coordinates(
    view: View, device: int, path: tuple[Area, ...]
) -> tuple[float | None, float | None]:
    """Of the device, else of the nearest area above it that has some."""
    places = [(area.lon, area.lat) for area in reversed(path)]
    if _known(view, device):
        places.insert(0, (float(view.device_lon[device]), float(view.device_lat[device])))
    return next((place for place in places if math.isfinite(sum(place))), (None, None))


def device_of(view: View, member: Member) -> Device:
    """A member in words; one that the view does not know keeps its bare name."""
    if not _known(view, member.device):
        name = clean(member.name)
        return Device(id=member.device, key=name, type="", tier=member.tier, zh="", en="")
    kind = view.types.get(int(view.device_type[member.device]))
    path = _path(view, member.device)
    return Device(
        id=member.device,
        key=clean(view.device_key[member.device]),
        type=clean(kind.name) if kind is not None else "",
        tier=member.tier,
        zh=place_zh(path),
        en=place_en(path),
    )


_UNSAID = {"district", "grid"}  # everyone here knows the district; a grid is no address


def _said(path: Sequence[Area]) -> list[Area]:
    """What an address names; the district only where there is nothing else."""
    return [area for area in path if area.level not in _UNSAID] or list(path[:1])


def place_zh(path: Sequence[Area]) -> str:
    """From street to room."""
    return "".join(clean(area.name_zh) for area in _said(path))


def place_en(path: Sequence[Area]) -> str:
    """From room to street."""
    return ", ".join(clean(area.name_en) for area in reversed(_said(path)))


def iso(at_us: int) -> str:
    """RFC 3339 in UTC; the ends of the calendar for what lies beyond them."""
    bounded = min(max(at_us, 0), 253_402_300_799_000_000)
    moment = datetime.fromtimestamp(bounded // 1_000_000, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{bounded % 1_000_000:06d}Z"


def facts(notice: Notice) -> dict[str, object]:
    """The data of the CloudEvent, without words that a person is meant to read out.

    Keys are part of the contract with receivers: add freely, never rename.
    """
    incident, transition = notice.incident, notice.transition
    return {
        "incident": incident.id,
        "version": transition.version,
        "transition": transition.id,
        "what": transition.what,
        # Who acted stays in the house: a name is personal data.
        "by": DETECT if transition.actor == DETECT else "person",
        "kind": incident.key.kind,
        "tier": incident.tier,
        "nature": incident.key.nature,
        "state": incident.state,
        "verdict": incident.verdict,
        "site": _site(notice),
        "place": {"zh": place_zh(notice.path), "en": place_en(notice.path)},
        "coordinates": None if notice.lon is None else [notice.lon, notice.lat],
        "devices": [
            {
                "key": device.key,
                "type": device.type,
                "tier": device.tier,
                "place": {"zh": device.zh, "en": device.en},
            }
            for device in notice.devices
        ],
        "device_count": incident.members,
        "evidence": _evidence(notice),
        "times": _times(notice),
        "late": notice.late_min > 0,
        "late_minutes": notice.late_min,
    }


def _site(notice: Notice) -> dict[str, object]:
    site = next((area for area in notice.path if area.level == "site"), None)
    return {
        "id": notice.incident.key.site,
        "code": clean(site.code) if site is not None else "",
        "path": [
            {
                "level": area.level,
                "code": clean(area.code),
                "zh": clean(area.name_zh),
                "en": clean(area.name_en),
            }
            for area in notice.path
        ],
    }


def _times(notice: Notice) -> dict[str, str]:
    signal = notice.transition.signal
    times = {
        "opened": iso(notice.incident.opened_us),
        "onset": iso(notice.incident.onset_us),
        "event": iso(notice.transition.event_us),
        "decided": iso(notice.transition.at_us),
    }
    if signal is not None:
        times["received"] = iso(signal.received_us)
    return times


def _evidence(notice: Notice) -> dict[str, object]:
    """Of the deciding signal, within bounds: a page is no archive."""
    signal = notice.transition.signal
    if signal is None:
        return {}
    said: Evidence = dict(list(signal.evidence.items())[:EVIDENCE_KEYS_MAX])
    values = {
        clean(name): item[:EVIDENCE_VALUES_MAX]
        if isinstance(item, list)
        else (clean(item) if isinstance(item, str) else item)
        for name, item in said.items()
    }
    return {
        "signal": signal.id,
        "rule": clean(signal.rule),
        "rule_version": signal.rule_version,
        "values": values,
    }
