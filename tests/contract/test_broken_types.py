"""Broken device-type files and what `sizao device-type check` says of them, word for word.

Where a message is meant to become another, `SIZAO_RENEW=1 python -m pytest THIS_FILE` writes all of
them anew; read the difference before you keep it.
"""

import contextlib
import os
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from ingest.commands import app

DATA = Path(__file__).parents[1] / "data" / "broken_types"
FILES = sorted(DATA.glob("*.yaml"))
LINE = re.compile(r"(\d\d_\w+\.yaml):(\d+): ([^ ]+): (.+)")


def checked(file: Path):
    """The command, run where the file lies, so that its name is all of its path."""
    with contextlib.chdir(DATA):
        return CliRunner().invoke(app, ["device-type", "check", file.name])


if os.environ.get("SIZAO_RENEW"):
    for one in FILES:
        one.with_suffix(".txt").write_text(checked(one).stderr, "utf-8")


def said(file: Path) -> list[str]:
    return file.with_suffix(".txt").read_text("utf-8").splitlines()


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_what_is_said_of_a_broken_file(file):
    done = checked(file)
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr.splitlines() == said(file)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_every_line_says_where_what_it_got_and_what_was_expected(file):
    lines = said(file)
    last = len(file.read_text("utf-8").splitlines())
    assert lines
    for line in lines:
        where = LINE.fullmatch(line)
        assert where is not None, line
        assert where[1] == file.name
        assert 1 <= int(where[2]) <= last
        assert re.search(r"\bgot\b", where[4]), line
        assert re.search(r"\bexpected\b", where[4]), line
        for jargon in ("Input should", "Field required", "type=", "validation", "pydantic"):
            assert jargon not in line
    assert len(set(lines)) == len(lines)


def test_there_are_thirty_and_each_has_another_fault():
    assert len(FILES) >= 30
    assert {file.stem for file in FILES} == {file.stem for file in DATA.glob("*.txt")}
    alone = [said(file)[0].split(": ", 1)[1] for file in FILES if len(said(file)) == 1]
    assert len(set(alone)) == len(alone) >= 30


def test_the_lines_of_one_file_come_in_its_order():
    for file in FILES:
        numbers = [int(LINE.fullmatch(line)[2]) for line in said(file)]
        assert numbers == sorted(numbers), file.name
