"""Where a rota is too thin: hours of a community without two verified people, or without a voice
at night. Pure.

Only teams of the community's level count: a street's duty officer comes after them, not instead.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta

from alerting.rota import Level, Rota, Spell, covering, spells
from alerting.working_days import HOUR_US, NIGHT, Hours, days, instant_us, local
from sizao.signal import Kind

PEOPLE_MIN = 2
VERIFIED_DAYS = 180
"""A number that nobody answered on for half a year is a guess (our figure)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Thin:
    """Whole hours on end in which a community has too few: `verified` at the worst instant.

    `voice` is false where at night, at some instant, none of them can be called.
    """

    community: str
    from_us: int
    until_us: int
    verified: int
    voice: bool


def thin(
    rota: Rota,
    communities: Mapping[str, frozenset[str]],
    from_us: int,
    until_us: int,
    *,
    night: Hours = NIGHT,
) -> list[Thin]:
    """Bad hours of a span, the earliest first. `communities`: code -> codes on the way to it.

    `from_us` is a whole hour of the wall clock.
    """
    found: list[Thin] = []
    for code, areas in communities.items():
        teams = covering(rota.teams.values(), level=Level.COMMUNITY, areas=areas, kind=Kind.FIRE)
        duty = [spells(rota, team.name, from_us, until_us) for team in teams]
        found += _merged(
            _bad_hours(rota, code, duty, _cuts(rota, duty, from_us, until_us, night), night)
        )
    return sorted(found, key=lambda one: (one.from_us, one.community))


def _cuts(
    rota: Rota, duty: list[list[Spell]], from_us: int, until_us: int, night: Hours
) -> list[int]:
    """Where anything may change: hours, changes of duty, dusk, dawn, midnight (a number ages)."""
    cuts = {*range(from_us, until_us, HOUR_US)}
    cuts |= {spell.from_us for team in duty for spell in team}
    for day in days(rota.zone, from_us, until_us):
        cuts |= {instant_us(rota.zone, day, minute) for minute in (0, night.begins, night.ends)}
    return [*sorted(cut for cut in cuts if from_us <= cut < until_us), until_us]


def _bad_hours(
    rota: Rota, code: str, duty: list[list[Spell]], cuts: list[int], night: Hours
) -> list[Thin]:
    """One for each piece between two cuts that is too thin, widened to whole hours."""
    places, found = [0] * len(duty), []
    for begin in cuts[:-1]:
        people: set[str] = set()
        for index, team in enumerate(duty):
            while team[places[index]].until_us <= begin:
                places[index] += 1
            people.update(team[places[index]].people)
        oldest = local(rota.zone, begin).date() - timedelta(days=VERIFIED_DAYS)
        sure = [
            person
            for name in people
            if (person := rota.people[name]).verified is not None and person.verified >= oldest
        ]
        voice = any(person.voice for person in sure) or not night.holds(rota.zone, begin)
        if len(sure) < PEOPLE_MIN or not voice:
            hour = begin - (begin - cuts[0]) % HOUR_US
            found.append(
                Thin(
                    community=code,
                    from_us=hour,
                    until_us=min(hour + HOUR_US, cuts[-1]),
                    verified=len(sure),
                    voice=voice,
                )
            )
    return found


def _merged(hours: list[Thin]) -> list[Thin]:
    """Neighbours as one, with the worst of them."""
    runs: list[Thin] = []
    for one in hours:
        last = runs[-1] if runs else None
        if last is None or one.from_us > last.until_us:
            runs.append(one)
        else:
            runs[-1] = Thin(
                community=one.community,
                from_us=last.from_us,
                until_us=one.until_us,
                verified=min(last.verified, one.verified),
                voice=last.voice and one.voice,
            )
    return runs
