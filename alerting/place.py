"""Where the subject of a signal stands, by the registry's view. Pure."""

from __future__ import annotations

from alerting.model import Place
from sizao.registry.model import CHARGING, NO_FLOOR, View
from sizao.signal import Signal, SubjectType

NOWHERE = Place()


def place_of(view: View, signal: Signal) -> Place:
    """What incidents are judged by. An id that the view does not know stands nowhere."""
    if signal.subject.type is SubjectType.CARRIER:
        name = signal.subject.id
        return Place(carrier=name, carrier_site=view.carrier_site.get(name, 0))
    if not 0 < signal.device < len(view.device_key) or not view.device_key[signal.device]:
        return NOWHERE
    path = view.path(int(view.device_area[signal.device]))
    number = int(view.device_carrier[signal.device])
    carrier = view.carrier_names.get(number, "")
    # Areas of before floors had numbers have none at all.
    floors = [area.floor for area in path if area.level == "floor" and area.floor is not None]
    return Place(
        floor=next((floor for floor in floors if floor != NO_FLOOR), None),
        charging=any(area.use == CHARGING for area in path),
        carrier=carrier,
        carrier_site=view.carrier_site.get(carrier, 0),
        roster=int(view.carrier_devices[number]) if number < len(view.carrier_devices) else 0,
    )
