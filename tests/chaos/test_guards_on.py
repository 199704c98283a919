"""The runs of test_guards.py with every guard in its place: green, so that red means the guard.

Apart, because the random runs show the same in the short time that `make test` has.
"""

import pytest
from chaos.scenes import SCENES


@pytest.mark.parametrize("guard", SCENES)
def test_with_the_guard_it_stays_green(house, guard):
    assert not SCENES[guard](house, "none")
