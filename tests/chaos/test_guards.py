"""Each guard taken out of a test build: a run directed at it must turn red."""

import pytest
from chaos.guards import GUARDS
from chaos.scenes import SCENES


def test_every_guard_has_a_scene():
    assert SCENES.keys() == GUARDS.keys()


@pytest.mark.parametrize("guard", SCENES)
def test_without_the_guard_the_oracle_turns_red(house, guard):
    assert SCENES[guard](house, guard)
