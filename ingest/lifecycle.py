"""What becomes of one device: moved, swapped, isolated, retired; or of a carrier: revoked."""

from __future__ import annotations

from dataclasses import replace

from ingest.devices import Known
from ingest.draft import Draft
from ingest.faults import nearest
from sizao.errors import BadInput
from sizao.registry.model import LifeState
from sizao.registry.write import CarrierRow, Change, DeviceRow, SwapRow

# From where a device may come to a state. Retired is for good, but for a slip of the hand: back
# into service only by name, never by a list.
BEFORE: dict[LifeState, tuple[LifeState, ...]] = {
    LifeState.IN_SERVICE: (LifeState.PLANNED, LifeState.ISOLATED, LifeState.RETIRED),
    LifeState.ISOLATED: (LifeState.IN_SERVICE,),
    LifeState.RETIRED: (LifeState.PLANNED, LifeState.IN_SERVICE, LifeState.ISOLATED),
}


def find(known: Known, carrier: str, key: str) -> DeviceRow:
    """The registry's row of a device. Raises BadInput with the nearest name."""
    rosters = known.view.roster
    if carrier not in rosters:
        raise BadInput(_unknown("carrier", carrier, list(rosters)))
    device = known.device(carrier, key)
    if device:
        return known.row(device)
    others = [name for name, roster in rosters.items() if key in roster]
    hint = f"; it is under {', '.join(sorted(others)[:3])}" if others else ""
    raise BadInput(_unknown(f"device of carrier {carrier}", key, list(rosters[carrier])) + hint)


def move(known: Known, carrier: str, key: str, area: str) -> Draft:
    """Another place: its coordinates are forgotten, and in another site it gets new points."""
    row = find(known, carrier, key)
    if area not in known.areas:
        raise BadInput(_unknown("area", area, list(known.areas)))
    if not known.site(known.areas[area]):
        raise BadInput(f"area {area} lies in no site, expected one that does")
    if row.area == area:
        return _draft(row, row)
    return _draft(row, replace(row, area=area, lon=None, lat=None))


def become(known: Known, carrier: str, key: str, state: LifeState) -> Draft:
    """Another state of its life. Raises BadInput when it cannot come there from where it is."""
    row = find(known, carrier, key)
    allowed = BEFORE[state]
    if row.state != state and row.state not in allowed:
        raise BadInput(f"device {key} is {row.state}, expected one that is {' or '.join(allowed)}")
    return _draft(row, replace(row, state=state.value))


def swap(
    known: Known, carrier: str, key: str, new_key: str, new_carrier: str, *, create_carriers: bool
) -> Draft:
    """Another thing in its place: `new_key` under `new_carrier` takes over place and history.

    Without `new_carrier` it speaks over the same one, or, where the old one had a connection of its
    own, under its own name too.
    """
    row = find(known, carrier, key)
    new_carrier = new_carrier or (new_key if carrier == key else carrier)
    rosters = known.view.roster
    if known.device(new_carrier, new_key):
        raise BadInput(f"device {new_key} is registered under carrier {new_carrier} already")
    carriers = []
    if new_carrier not in rosters:
        if not create_carriers:
            said = _unknown("carrier", new_carrier, list(rosters))
            raise BadInput(f"{said}; or give --create-carriers")
        site = known.view.areas[known.site(known.areas[row.area])].code
        carriers = [CarrierRow(new_carrier, site)]
    swaps = [SwapRow(key, carrier, new_key, new_carrier)]
    return Draft(change=Change(carriers=carriers, swaps=swaps), rows=1, added=0)


def revoke(known: Known, carrier: str, *, revoked: bool) -> Draft:
    """Whether the bridge refuses what comes over this connection, whoever's word it is."""
    view = known.view
    if carrier not in view.carrier_site:
        raise BadInput(_unknown("carrier", carrier, list(view.carrier_site)))
    rows = []
    if (carrier in view.revoked) is not revoked:
        site = view.areas.get(view.carrier_site[carrier])
        rows = [CarrierRow(carrier, site.code if site else "", revoked)]
    return Draft(change=Change(carriers=rows), rows=1, added=0)


def _draft(before: DeviceRow, after: DeviceRow) -> Draft:
    changed = [after] if after != before else []
    return Draft(change=Change(devices=changed), rows=1, added=0)


def _unknown(what: str, name: str, known: list[str]) -> str:
    near = nearest(name, known)
    return f"unknown {what}: {name!r}" + (f"; nearest: {near}" if near else "")
