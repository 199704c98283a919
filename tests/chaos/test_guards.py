"""Each guard taken out of a test build: a run directed at it must turn red."""

import subprocess
import sys

import pytest
from chaos import guards
from chaos.guards import GUARDS, HANGS
from chaos.scenes import SCENES

from deploy.local.places import REPOSITORY
from deploy.local.stack import environment


def test_every_guard_has_a_scene():
    assert SCENES.keys() == GUARDS.keys()


@pytest.mark.parametrize("build", GUARDS | HANGS)
def test_what_a_test_build_takes_out_is_still_there(build):
    command = [sys.executable, guards.__file__, build, "--help"]
    done = subprocess.run(
        command, cwd=REPOSITORY, env=environment(), capture_output=True, text=True, check=False
    )
    assert not done.returncode, done.stderr


@pytest.mark.parametrize("guard", SCENES)
def test_without_the_guard_the_oracle_turns_red(house, guard):
    assert SCENES[guard](house, guard)
