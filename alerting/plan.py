"""A policy as data, and the plan that it makes of one signal: who is told after how long. Pure.

A plan's first steps are those of the signal's class at that hour; then come the levels, each
`raise_after_s` after the one before it while no human has answered; the last one repeats.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum

from alerting.rota import Department
from alerting.working_days import Hours
from sizao.signal import Kind, Tier


class Class(StrEnum):
    """Rows of the policy: what a signal is to people."""

    EARLY = "early"  # of fire, gas, co
    SMOKE_DWELLING = "smoke_dwelling"  # one smoke alarm in a dwelling
    FIRE_ALARM = "fire_alarm"
    FIRE_URGENT = "fire_urgent"
    GAS = "gas"
    CO = "co"
    UNREAD = "unread"
    SYSTEM = "system"
    LIMIT = "limit"  # electrical limit, low water, valve shut, panel in manual
    FAULT = "fault"  # fault, battery, tamper, offline, shielded


FIRES = (Class.SMOKE_DWELLING, Class.FIRE_ALARM, Class.FIRE_URGENT)
SLOW = (Class.LIMIT, Class.FAULT)


class Fact(StrEnum):
    """What a row or a page may depend on beside kind and tier."""

    LONE_SMOKE = "lone_smoke"  # one device, a smoke alarm, in a dwelling
    MAIN = "main"  # a main valve or a pump
    WHOLE_BUILDING = "whole_building"  # nothing of the building is heard any more


class To(StrEnum):
    """To whom."""

    OPERATOR = "operator"
    OCCUPANT = "occupant"  # 住户
    BUILDING_HEAD = "building_head"  # 房东/楼长
    CONTROL_ROOM = "control_room"  # 消防控制室
    SITE_CONTACT = "site_contact"  # 责任人, 管理人, 物业: the first who is there
    MAINTAINER = "maintainer"  # 维保单位
    STATION = "station"  # 微型消防站 and grid workers: the community's teams
    STREET = "street"
    DISTRICT = "district"
    DEPARTMENT = "department"
    SOUNDERS = "sounders"


class By(StrEnum):
    """How."""

    LIST = "list"  # on top of the operators' list
    PROMPT_119 = "prompt_119"  # the operator must choose: report to 119, or keep verifying
    APP = "app"
    SMS = "sms"
    VOICE = "voice"
    SIREN = "siren"
    WORK_ORDER = "work_order"
    DIGEST = "digest"


class Advice(StrEnum):
    """What the occupant is told to do."""

    GAS = "gas"  # touch no switch, let air in, leave
    CO = "co"  # let air in, leave, call 120


WAKING = frozenset({By.APP, By.SMS, By.VOICE, By.SIREN})
_PEOPLE = frozenset({By.APP, By.SMS, By.VOICE, By.DIGEST})
WAYS: Mapping[To, frozenset[By]] = {
    **dict.fromkeys(To, _PEOPLE),
    To.OPERATOR: frozenset({By.LIST, By.PROMPT_119}),
    To.MAINTAINER: frozenset({By.WORK_ORDER}) | _PEOPLE,
    To.SOUNDERS: frozenset({By.SIREN}),
}
"""By which ways somebody can be told at all."""


class Deadline(StrEnum):
    """What has to be done in time."""

    ACKNOWLEDGE = "acknowledge"
    VERDICT = "verdict"
    ON_SCENE = "on_scene"
    FIRE_SERVICE = "fire_service"


@dataclass(frozen=True, slots=True, kw_only=True)
class Due:
    """A deadline, and the clause that it comes from."""

    within_s: int
    clause: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """One line of a row. `only`: this page stands or falls with a fact."""

    to: To
    by: tuple[By, ...]
    after_s: int = 0
    department: Department | None = None
    advice: Advice | None = None
    only: Fact | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What a class does by day and by night, and which levels follow while nobody answers."""

    day: tuple[Page, ...]
    night: tuple[Page, ...]
    levels: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """All of it. Every class has a row; the last level repeats each `repeat_s`."""

    name: str
    day: Hours
    rows: Mapping[Class, Row]
    levels: Mapping[str, tuple[Page, ...]]
    raise_after_s: int
    repeat_s: int
    deadlines: Mapping[Deadline, Due]


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What goes out together. `number` is that of its messages; `level` is "" for a first step."""

    number: int
    after_s: int
    level: str
    pages: tuple[Page, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Steps in order of time; none where a fault by night is nobody's business. The last one comes
    again each `repeat_s`; None where no level follows.
    """

    steps: tuple[Step, ...]
    raise_after_s: int
    repeat_s: int | None


def classify(kind: Kind, tier: Tier, facts: frozenset[Fact]) -> Class:
    """The row of a signal; every kind has one."""
    if kind in {Kind.FIRE, Kind.GAS, Kind.CO} and tier is Tier.EARLY:
        return Class.EARLY
    if kind is Kind.FIRE:
        if tier is Tier.URGENT:
            return Class.FIRE_URGENT
        return Class.SMOKE_DWELLING if Fact.LONE_SMOKE in facts else Class.FIRE_ALARM
    return _BY_KIND[kind]


_BY_KIND: Mapping[Kind, Class] = {
    Kind.GAS: Class.GAS,
    Kind.CO: Class.CO,
    Kind.UNREAD: Class.UNREAD,
    Kind.SYSTEM: Class.SYSTEM,
    **dict.fromkeys((Kind.ELECTRICAL, Kind.WATER, Kind.SUPERVISORY), Class.LIMIT),
    **dict.fromkeys((Kind.SHIELDED, Kind.FAULT, Kind.OFFLINE, Kind.TAMPER), Class.FAULT),
}


def expand(policy: Policy, row: Class, *, night: bool, facts: frozenset[Fact]) -> Plan:
    """The plan of one signal, complete before the first page leaves."""
    found = policy.rows[row]
    pages = [
        page
        for page in (found.night if night else found.day)
        if page.only is None or page.only in facts
    ]
    steps = [
        Step(number=number, after_s=after_s, level="", pages=_at(pages, after_s))
        for number, after_s in enumerate(sorted({page.after_s for page in pages}))
    ]
    for place, level in enumerate(found.levels, 1):
        after_s = place * policy.raise_after_s
        pages_there = policy.levels[level]
        steps.append(Step(number=len(steps), after_s=after_s, level=level, pages=pages_there))
    return Plan(
        steps=tuple(steps),
        raise_after_s=policy.raise_after_s,
        repeat_s=policy.repeat_s if found.levels else None,
    )


def _at(pages: list[Page], after_s: int) -> tuple[Page, ...]:
    return tuple(page for page in pages if page.after_s == after_s)


def lines(plan: Plan) -> Iterator[str]:
    """A plan for people, one line a page."""
    for step in plan.steps:
        for page in step.pages:
            to = page.to if page.department is None else f"{page.to} {page.department}"
            words = [f"{step.after_s:>4} s", f"{to} by {', '.join(page.by)}"]
            words += [f"({step.level} level)"] if step.level else []
            words += [f"advice {page.advice}"] if page.advice is not None else []
            yield "  ".join(words)
    if plan.repeat_s is not None:
        yield f"then the last again each {plan.repeat_s} s until a human answers"
