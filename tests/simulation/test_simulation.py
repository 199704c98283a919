"""Many seeds of the whole path in virtual time: nothing lost, nothing doubled, everything drained.

SIZAO_LONG=1 runs many more seeds, SIZAO_SEED=17 (or 100-200) just those.
"""

from __future__ import annotations

import os

import pytest
from simulation.checks import judge
from simulation.world import World

SEEDS, SEEDS_LONG = 100, 3000


def seeds() -> range:
    told = os.environ.get("SIZAO_SEED")
    if told:
        first, _, last = told.partition("-")
        return range(int(first), int(last or first) + 1)
    return range(SEEDS_LONG if os.environ.get("SIZAO_LONG") else SEEDS)


@pytest.mark.parametrize("seed", seeds())
def test_seed(seed):
    verdict = judge(World(seed).run())
    assert not verdict.wrong, f"\n{verdict}"


def test_one_seed_is_one_run():
    first, second = (World(7).run() for _ in range(2))
    assert first.work.notes == second.work.notes
    assert first.log.records == second.log.records
    assert first.responders.got == second.responders.got
