"""`make test` names its suites; one that is not there must not pass by not being run."""

import subprocess
import sys

from deploy.local.places import REPOSITORY
from deploy.local.suites import PARTS, parts_of


def test_an_unknown_suite_is_an_error_with_words():
    command = [sys.executable, "-m", "deploy.local.suites", "unit", "storms"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "storms" in done.stderr
    assert "contract" in done.stderr, "it says which there are"
    assert done.stdout == "", "nothing was run"


def test_the_makefile_asks_for_suites_that_are_there():
    lines = (REPOSITORY / "Makefile").read_text("utf-8").splitlines()
    asked = {
        word
        for line in lines
        if "local.suites" in line
        for word in line.split("suites ")[1].split()
    }
    assert "unit" in asked
    assert all(any((REPOSITORY / "tests" / name).glob("test_*.py")) for name in asked)


def test_every_file_of_a_suite_is_in_exactly_one_part(monkeypatch):
    monkeypatch.chdir(REPOSITORY)
    for suite in PARTS:
        parts = parts_of(suite)
        assert len(parts) == PARTS[suite]
        files = [path for part in parts for path in part.paths]
        found = [str(one.relative_to(REPOSITORY)) for one in REPOSITORY.glob(f"tests/{suite}/*.py")]
        assert sorted(files) == sorted(found)
