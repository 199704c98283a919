"""Who stands behind a line of the policy, at a place and an instant. Pure.

A role is people on duty by the rota, or contacts of the site. Operators see their list and sounders
get commands: behind those two stands nobody here. Nobody found is no error: the step is then one
that reached nobody, and the next level is due at once (`escalate`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from alerting.contacts import Contact, Role
from alerting.plan import Page, To
from alerting.rota import Level, Rota, on_duty
from sizao.signal import Kind

_LEVELS: Mapping[To, Level] = {
    To.STATION: Level.COMMUNITY,
    To.STREET: Level.STREET,
    To.DISTRICT: Level.DISTRICT,
}
_ROLES: Mapping[To, tuple[Role, ...]] = {
    To.OCCUPANT: (Role.OCCUPANT,),
    To.BUILDING_HEAD: (Role.BUILDING_HEAD,),
    To.CONTROL_ROOM: (Role.CONTROL_ROOM,),
    To.SITE_CONTACT: (Role.RESPONSIBLE, Role.MANAGER, Role.PROPERTY),
    To.MAINTAINER: (Role.MAINTAINER,),
}
"""In order: the first role that somebody has is told."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipients:
    """`people` by name, as in the responders, the one who leads first."""

    people: tuple[str, ...] = ()
    contacts: tuple[Contact, ...] = ()


def recipients(
    page: Page,
    *,
    rota: Rota,
    contacts: Iterable[Contact],
    areas: frozenset[str],
    kind: Kind,
    at_us: int,
) -> Recipients:
    """Who is told. `areas`: codes from the district down to the device; `contacts`: of its site.

    A contact of a unit is told of that unit alone, one of the whole site of everything there.
    """
    if page.to in _ROLES:
        here = [one for one in contacts if not one.unit or one.unit in areas]
        for role in _ROLES[page.to]:
            found = tuple(one for one in here if one.role is role)
            if found:
                return Recipients(contacts=found)
        return Recipients()
    teams = [
        team
        for team in rota.teams.values()
        if kind in team.kinds
        and team.areas & areas
        and (
            team.department is page.department
            if page.to is To.DEPARTMENT
            else team.level is _LEVELS.get(page.to)
        )
    ]
    duty = [person for team in teams for person in on_duty(rota, team.name, at_us)]
    return Recipients(people=tuple(dict.fromkeys(duty)))
