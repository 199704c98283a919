"""Who is told of a transition, and why. Pure.

A responder is bound to an area and hears of every incident below it, of its kinds and natures, from
its tier on. The first page of a real fire at alarm or urgent tier is never muted: where these
filters leave nobody, they are loosened one by one until somebody is left.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum

from alerting.model import PAGED, Key, Nature, What
from sizao.signal import Kind, Tier


class Why(StrEnum):
    """Why somebody is told: kept with the message."""

    BOUND = "bound"  # area, kind, nature and tier fit
    BELOW_TIER = "below_tier"  # nobody of the area wants so low a tier, but it is a fire
    OTHER_KIND = "other_kind"  # nobody of the area takes fires, but it is one
    NO_AREA = "no_area"  # nobody is bound to the place, or nobody knows the place
    ASKED = "asked"  # a test page from the command line


@dataclass(frozen=True, slots=True, kw_only=True)
class Responder:
    """Who can be told. `channels` are names within the responder."""

    name: str
    area: str
    kinds: frozenset[Kind]
    natures: frozenset[Nature]
    min_tier: Tier
    language: str
    channels: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pick:
    """One who is told."""

    responder: Responder
    why: Why


def route(
    responders: Iterable[Responder],
    *,
    what: What,
    key: Key,
    tier: Tier,
    areas: frozenset[str],
    district: str,
) -> tuple[Pick, ...]:
    """Who is told. `areas`: codes on the way from the district to the place; empty when unknown,
    and then it is a matter of the whole `district`.
    """
    if what not in PAGED:
        return ()
    told = [responder for responder in responders if key.nature in responder.natures]
    here = [responder for responder in told if responder.area in (areas or {district})]
    picks = _first(
        (here, lambda one: key.kind in one.kinds and tier.rank >= one.min_tier.rank, Why.BOUND)
    )
    if picks or not never_muted(key, tier):
        return picks
    return _first(
        (here, lambda one: key.kind in one.kinds, Why.BELOW_TIER),
        (here, _anyone, Why.OTHER_KIND),
        ([one for one in told if one.area == district], _anyone, Why.NO_AREA),
        (told, _anyone, Why.NO_AREA),
    )


def never_muted(key: Key, tier: Tier) -> bool:
    """A real fire at alarm tier or above: somebody has to hear of it."""
    return key.nature is Nature.REAL and key.kind is Kind.FIRE and tier is not Tier.EARLY


def _anyone(_: Responder) -> bool:
    return True


def _first(
    *tries: tuple[list[Responder], Callable[[Responder], bool], Why],
) -> tuple[Pick, ...]:
    for pool, fits, why in tries:
        picks = tuple(Pick(responder=one, why=why) for one in pool if fits(one))
        if picks:
            return picks
    return ()


PRESSING = 3
"""Urgency from which on a first page waits for no other: real, and at alarm tier or above."""


def urgency(key: Key, tier: Tier) -> int:
    """Order of sending: real before all else, then by tier, a fire first within one tier."""
    if key.nature is not Nature.REAL:
        return 0
    return 1 + 2 * tier.rank + (key.kind is Kind.FIRE)
