"""Rules that judge places: a frame's readings to them, a turn at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from detectors import batch, channels, seen
from detectors.batch import Rows
from detectors.rule import Block, Judge, Points, Rule, joins, key_of

Said = TypeVar("Said")
BLOCK = "channels@1"
"""Name of the block that all rules over places share."""


def judge(
    rules: tuple[Rule, ...],
    blocks: Mapping[str, Block],
    shared: channels.Params,
    rows: Rows,
    points: Points,
    ask: Callable[[Rule, Judge, Any], list[Said]],
    *,
    again: bool,
) -> list[Said]:
    """Judge the rows that belong to a place; the others cost one look.

    `rows` in the order in which they arrived, a slot more than once only where `again`; `blocks`
    by name, changed in place; `ask`: what a rule says, by the parameters that hold.
    """
    found: list[Said] = []
    beside = points.beside
    if beside is None:
        return found
    rules = tuple(rule for rule in rules if joins(rule))
    there = beside.home.take(rows.slot) >= 0
    if not there.all():
        rows = rows.only(there)
    if not len(rows.slot):
        return found
    block = blocks[BLOCK]
    moved = channels.move(block, shared, rows, beside, again=again)
    for turn in batch.turns(moved.home):
        place = seen.see(block, shared, moved.only(turn), beside)
        for rule in rules if len(place.slot) else ():
            found += ask(rule, rule.step, place)
        watched = block["risen"][place.slot] > 0
        for rule in rules:
            watched |= blocks[key_of(rule)]["busy"][place.slot]
        block["watched"][place.slot] = watched
    return found
