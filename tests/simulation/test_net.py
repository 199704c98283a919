"""The net itself. Leave one guard out, and a checker turns red; with it, the same run is good. And
what the checkers are there for does happen.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from simulation import checks
from simulation.world import World

from sizao import frame
from sizao.frame import Flag
from sizao.topics import ALARMS, READINGS, SIGNALS

TRIES = 200 if os.environ.get("SIZAO_LONG") else 80  # the rarest needs some 30


@dataclass(frozen=True)
class Flaw:
    """What is left out, the faults that punish it, and who must notice."""

    name: str
    focus: tuple[str, ...]
    noticed: object


FLAWS = (
    Flaw(
        "acknowledge before Kafka",
        ("bridge crashes", "kafka away"),
        checks.acknowledged_is_kept,
    ),
    Flaw(
        "acknowledge on whatever connection",
        ("cut", "kafka away"),
        checks.acknowledged_is_kept,
    ),
    Flaw("forget dead letters", ("cut",), checks.acknowledged_is_kept),
    Flaw("commit before the signals", ("detect crashes",), checks.signals_are_the_offline_fold),
    Flaw("read a wall clock", ("detect crashes",), checks.signals_are_the_offline_fold),
    Flaw("skip the record id", ("detect crashes", "sends in doubt"), checks.the_tables_hold),
    Flaw(
        "offset apart from the incidents",
        ("alert crashes",),
        checks.transitions_are_those_of_a_quiet_alert,
    ),
    Flaw("merge the natures", ("cut",), checks.natures_stay_apart),
    Flaw(
        "accepted before it is sent",
        ("alert crashes", "responders misbehave"),
        checks.every_fire_is_paged,
    ),
    Flaw("a new message id for each attempt", ("responders misbehave",), checks.a_page_is_one_page),
    Flaw("words anew for each attempt", ("responders misbehave",), checks.a_page_is_one_page),
)


@pytest.mark.parametrize("flaw", FLAWS, ids=lambda flaw: flaw.name)
def test_a_missing_guard_is_noticed(flaw):
    for seed in range(TRIES):
        if flaw.noticed(World(seed, flaw.name, flaw.focus).run()):
            break
    else:
        pytest.fail(f"{flaw.name}: {flaw.noticed.__name__} was good in {TRIES} seeds")
    verdict = checks.judge(World(seed, focus=flaw.focus).run())
    assert not verdict.wrong, f"\n{verdict}"


MUST_HAPPEN = {
    "bridge crashes", "detect crashes", "alert crashes", "connection cut", "send in doubt",
    "on purpose", "broker restarts", "kafka away", "snapshots are", "warms up", "clock steps",
    "offsets moved", "a stalled alert", "refused: ", "registry generation 2",
    "signals said twice", "pages sent twice", "hot", "alarming",
    *(f"rows {flag.name}" for flag in Flag),
    "outcome unknown", "outcome throttled", "outcome server_error", "outcome unreachable",
    "became opened", "became joined", "became raised", "became same", "became cleared",
    "became after_close",
    "heat_fixed urgent", "heat_rise early", "heat_rise alarm", "direct alarm", "unread alarm",
    "nature real", "nature test", "nature canary",
}  # fmt: skip


def test_all_of_it_happens():
    missing = set(MUST_HAPPEN)
    for seed in range(2 * TRIES):
        world = World(seed).run()
        missing.difference_update(_happened(world))
        if not missing:
            return
    pytest.fail(f"never happened in {2 * TRIES} seeds: {sorted(missing)}")


def _happened(world: World) -> Iterator[str]:
    notes = " ".join(world.work.notes)
    yield from (words for words in MUST_HAPPEN if words in notes)
    said = [dict(one.headers)["ce_id"] for one in world.log.all(SIGNALS)]
    paged = [got.id for got in world.responders.got]
    for words, found in (("signals said twice", said), ("pages sent twice", paged)):
        if len(found) > len(set(found)):
            yield words
    for one in world.log.all(READINGS, ALARMS):
        for flags in frame.decode(one.value, one.headers).flags.tolist():
            yield from (f"rows {flag.name}" for flag in Flag if flags & flag)
    store = world.alert.store
    for page in store.pages.values():
        yield from (f"outcome {outcome}" for outcome in page.outcomes.values())
    for row in store.signals.values():
        yield from (f"became {row.became}", f"{row.signal.rule} {row.signal.tier}")
    yield from (f"nature {one.key.nature}" for one in store.incidents.values())
    yield from (words for words in ("hot", "alarming") if getattr(world.fleet, words))
