"""The policy as people write it: YAML in, checked completely, the shipped one beside the code.

What a check refuses beyond words and numbers: a fire alarm that does not reach the station at
once, or does not call it within 20 s by day and at once by night; a class that raises and does not
end with the district; a slow matter that wakes somebody by night.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from alerting.plan import (
    FIRES,
    SLOW,
    WAKING,
    WAYS,
    Advice,
    By,
    Class,
    Deadline,
    Due,
    Fact,
    Page,
    Policy,
    Row,
    To,
)
from alerting.rota import Department, Level
from alerting.working_days import Hours
from sizao.document import Fault, Path_, one_of, parse, read, validate
from sizao.errors import BadInput

SHIPPED = Path(__file__).parent / "policies" / "default.yaml"
SCHEMA_FILE = "policy.schema.json"
VOICE_WITHIN_S = 20
PAGES_MAX = 32
CLAUSE = "the clause that it comes from"
Clock = Annotated[str, Field(pattern=r"^([01]\d|2[0-3]):[0-5]\d$")]


class _Closed(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class PageEntry(_Closed):
    """Somebody who is told."""

    to: To = Field(description="whom")
    by: list[By] = Field(min_length=1, max_length=4, description="all of these ways at once")
    after_s: int = Field(default=0, ge=0, lt=60, description="only while no human has answered")
    department: Department | None = Field(default=None, description="where `to` is department")
    advice: Advice | None = Field(default=None, description="what an occupant is told to do")
    only: Fact | None = Field(default=None, description="left out where the fact does not hold")


class LevelEntry(_Closed):
    """Somebody of a level that is raised to: at once, and in any case."""

    to: To = Field(description="whom")
    by: list[By] = Field(min_length=1, max_length=4, description="all of these ways at once")


class HoursEntry(_Closed):
    """A part of the day by the district's clock."""

    begins: Clock = Field(description="when day begins")
    ends: Clock = Field(description="when night begins")


class ClassEntry(_Closed):
    """One row."""

    levels: list[Level] = Field(max_length=3, description="told in turn while nobody answers")
    day: list[PageEntry] = Field(min_length=1, max_length=PAGES_MAX, description="by day")
    night: list[PageEntry] | Literal["same"] = Field(description="by night, or `same`")


class DueEntry(_Closed):
    """A deadline."""

    within_s: int = Field(ge=1, le=180, description="seconds")
    clause: str = Field(min_length=1, max_length=200, description=CLAUSE)


class Deadlines(_Closed):
    """All of them; none may be longer than the clause has it."""

    acknowledge: DueEntry = Field(description="a human answers; at most 60 s")
    verdict: DueEntry = Field(description="a human says what it is; at most 90 s")
    on_scene: DueEntry = Field(description="somebody is there, counted from the page")
    fire_service: DueEntry = Field(description="a confirmed fire is with 119; at most 3 s")


class Classes(_Closed):
    """Every row there is."""

    early: ClassEntry = Field(description="fire, gas, co at tier early")
    smoke_dwelling: ClassEntry = Field(description="one smoke alarm in a dwelling")
    fire_alarm: ClassEntry = Field(description="any other fire at tier alarm")
    fire_urgent: ClassEntry = Field(description="fire at tier urgent")
    gas: ClassEntry = Field(description="combustible gas, high")
    co: ClassEntry = Field(description="carbon monoxide")
    unread: ClassEntry = Field(description="an alarm that nobody could decode or place")
    system: ClassEntry = Field(description="trouble of our own")
    limit: ClassEntry = Field(description="electrical limit, low water, valve, panel in manual")
    fault: ClassEntry = Field(description="fault, battery, tamper, offline, shielded")


class Levels(_Closed):
    """Who is told at each level."""

    community: list[LevelEntry] = Field(min_length=1, max_length=8, description="station, grid")
    street: list[LevelEntry] = Field(min_length=1, max_length=8, description="duty of the street")
    district: list[LevelEntry] = Field(min_length=1, max_length=8, description="the last one")


class Document(_Closed):
    """The policy."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,31}$", description="one policy's")
    day: HoursEntry = Field(description="the rest is night")
    raise_after_s: int = Field(ge=10, le=60, description="to the next level without an answer")
    repeat_s: int = Field(ge=10, le=60, description="the last level again")
    levels: Levels = Field(description="who is told when nobody answers")
    deadlines: Deadlines = Field(description="what has to be done in time")
    classes: Classes = Field(description="rows: what is told of whom")


_WITHIN_MAX_S = {
    Deadline.ACKNOWLEDGE: 60,
    Deadline.VERDICT: 90,
    Deadline.ON_SCENE: 180,
    Deadline.FIRE_SERVICE: 3,
}


def read_policy(path: Path = SHIPPED) -> Policy:
    """A policy. Raises BadInput with `file:line: key: got, expected; nearest` for each fault."""
    located = parse(read(path), str(path))
    document = validate(located, Document, str(path))
    faults = list(_faults(document))
    if faults:
        raise BadInput("\n".join(located.told(str(path), faults)))
    return Policy(
        name=document.name,
        day=Hours(_minute(document.day.begins), _minute(document.day.ends)),
        rows={one: _row(getattr(document.classes, one)) for one in Class},
        levels={
            level: tuple(Page(to=page.to, by=tuple(page.by)) for page in pages)
            for level, pages in document.levels
        },
        raise_after_s=document.raise_after_s,
        repeat_s=document.repeat_s,
        deadlines={
            one: Due(within_s=due.within_s, clause=due.clause)
            for one in Deadline
            for due in [getattr(document.deadlines, one)]
        },
    )


def schema_text() -> str:
    """JSON Schema, as docs/policy.schema.json has it."""
    schema: dict[str, Any] = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": "urn:sizao:policy",
        **Document.model_json_schema(),
    }
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def _minute(clock: str) -> int:
    return int(clock[:2]) * 60 + int(clock[3:])


def _row(entry: ClassEntry) -> Row:
    day = tuple(_page(page) for page in entry.day)
    night = day if entry.night == "same" else tuple(_page(page) for page in entry.night)
    return Row(day=day, night=night, levels=tuple(entry.levels))


def _page(entry: PageEntry) -> Page:
    return Page(
        to=entry.to,
        by=tuple(entry.by),
        after_s=entry.after_s,
        department=entry.department,
        advice=entry.advice,
        only=entry.only,
    )


def _faults(document: Document) -> Iterator[Fault]:
    if document.day.begins == document.day.ends:
        yield ("day", "ends"), "expected another time than `begins`"
    for one, longest_s in _WITHIN_MAX_S.items():
        if getattr(document.deadlines, one).within_s > longest_s:
            yield ("deadlines", one, "within_s"), f"expected at most {longest_s}"
    for level, pages in document.levels:
        for index, page in enumerate(pages):
            yield from _ways(("levels", level, index), page.to, page.by)
        if not any(By.VOICE in page.by for page in pages):
            yield ("levels", level), "expected somebody who is called (voice)"
    for name in Class:
        yield from _class(name, getattr(document.classes, name), document.raise_after_s)


def _class(one: Class, row: ClassEntry, raise_after_s: int) -> Iterator[Fault]:
    at: Path_ = ("classes", one)
    yield from _hour((*at, "day"), one, row.day, night=False)
    if row.night == "same":
        yield from _by_class((*at, "night"), one, row.day, night=True)
    else:
        yield from _hour((*at, "night"), one, row.night, night=True)
    yield from _raising((*at, "levels"), one, row.levels)
    for key, pages in (("day", row.day), ("night", row.night)):
        for index, page in enumerate(pages if pages != "same" else ()):
            if page.after_s >= raise_after_s:
                said = f"expected less than raise_after_s, {raise_after_s}"
                yield (*at, key, index, "after_s"), said


def _hour(at: Path_, one: Class, pages: list[PageEntry], *, night: bool) -> Iterator[Fault]:
    for index, page in enumerate(pages):
        here = (*at, index)
        yield from _ways(here, page.to, page.by)
        if (page.to is To.DEPARTMENT) is not (page.department is not None):
            wanted = "this key, as it is to one" if page.to is To.DEPARTMENT else "none here"
            yield (*here, "department"), f"expected {wanted}"
        if page.advice is not None and page.to is not To.OCCUPANT:
            yield (*here, "advice"), "expected none but for an occupant"
        if page.only is not None and one not in SLOW:
            yield (*here, "only"), f"expected none: a page of {one} depends on nothing"
    yield from _by_class(at, one, pages, night=night)


def _ways(at: Path_, to: To, by: list[By]) -> Iterator[Fault]:
    for index, way in enumerate(by):
        if way not in WAYS[to]:
            yield (*at, "by", index), f"expected for {to} {one_of(way, sorted(WAYS[to]))}"


def _by_class(at: Path_, one: Class, pages: list[PageEntry], *, night: bool) -> Iterator[Fault]:
    if one in SLOW and night and any(WAKING & set(page.by) for page in pages):
        yield at, f"expected nobody woken at night for {one}"
    if one not in FIRES:
        return
    station = [page for page in pages if page.to is To.STATION]
    if not any(page.after_s == 0 and WAKING & set(page.by) for page in station):
        yield at, "expected a page to the station at once: others are told beside it, never instead"
    within_s = 0 if night else VOICE_WITHIN_S
    if not any(page.after_s <= within_s and By.VOICE in page.by for page in station):
        when = "at once" if night else f"within {VOICE_WITHIN_S} s"
        yield at, f"expected the station to be called (voice) {when}"


def _raising(at: Path_, one: Class, levels: list[Level]) -> Iterator[Fault]:
    order = list(Level)
    if levels != sorted(set(levels), key=order.index):
        yield at, f"expected levels that rise, each once: {', '.join(order)}"
    if levels and levels[-1] is not Level.DISTRICT:
        yield at, "expected district at the end: it is the one that repeats"
    if not levels and one in {*FIRES, Class.GAS, Class.CO, Class.UNREAD}:
        yield at, f"expected district at least: {one} must not fall silent"
    if levels and one in SLOW:
        yield at, f"expected none: {one} is a work order"
