"""What the documents say of the code is so."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

HOUSE = Path(__file__).parents[2]
README = (HOUSE / "README.md").read_text("utf-8")
MAKEFILE = (HOUSE / "Makefile").read_text("utf-8")


def test_every_make_target_in_the_documents_is_there():
    targets = set(re.findall(r"^([a-z-]+):", MAKEFILE, re.MULTILINE))
    for name in ("README.md", "deploy/README.md", "docs/design.md"):
        said = set(re.findall(r"`make ([a-z-]+)", (HOUSE / name).read_text("utf-8")))
        assert said <= targets, f"{name} names {said - targets}"


def test_every_link_of_the_readme_leads_somewhere():
    links = re.findall(r"\]\(([^)#]+)\)", README)
    assert links
    for link in links:
        assert (HOUSE / link).exists(), link


@pytest.mark.parametrize(
    "command",
    ["migrate", "bridge", "detect", "alert", "archive", "console", "responders import",
     "page test", "device-type check", "device-type new", "device-type test", "device-type apply",
     "device-type list", "device-type show", "device-type export", "device-type schema",
     "areas import", "areas export", "devices import",
     "devices export", "devices move", "devices swap", "devices isolate", "devices retire",
     "devices commission", "rules set", "rules unset", "rules show"],
)  # fmt: skip
def test_every_command_explains_itself(command):
    done = subprocess.run(
        [sys.executable, "-m", "sizao.cli", *command.split(), "--help"],
        cwd=HOUSE,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    needs_none = {f"device-type {word}" for word in ("check", "new", "test", "schema")}
    assert ("--config" in done.stdout) is (command not in needs_none)


def test_adrs_are_numbered_without_gaps_and_one_page_long():
    records = sorted((HOUSE / "docs" / "adr").glob("*.md"))
    assert [int(path.name[:4]) for path in records] == list(range(1, len(records) + 1))
    for path in records:
        text = path.read_text("utf-8")
        assert "**Context.**" in text
        assert "**Decision.**" in text
        assert len(text.splitlines()) <= 60, f"{path.name} is longer than a page"
