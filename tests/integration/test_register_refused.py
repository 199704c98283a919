"""Broken files of areas and devices: every fault is told, word for word, and nothing is changed."""

import subprocess
import sys
from pathlib import Path

import pytest
from fix_register import DEVICES

DATA = Path(__file__).parents[1] / "data" / "refused"
HEAD = "key,carrier,type,area,heat_class,state,mark,lon,lat\n"


def blocks(what):
    """Golden files: (content, what is said of it)."""
    text = (DATA / f"{what}.txt").read_text("utf-8")
    for block in text.split("\n\n")[1:]:
        lines = block.strip("\n").replace("\n(blank)\n", "\n\n").split("\n")
        said = [line.removeprefix("! ") for line in lines if line.startswith("! ")]
        yield "\n".join(lines[: -len(said)]) + "\n", said


@pytest.mark.parametrize(("what", "at_least"), [("devices", 20), ("areas", 13)])
def test_broken_files_are_refused_word_for_word(office, what, at_least):
    office.settle()
    cases = list(blocks(what))
    assert len(cases) >= at_least
    for content, said in cases:  # one district for all: a refusal changes nothing
        file = office.file(f"{what}.csv", content)
        assert office.refused(what, "import", file, "--crs", "wgs84") == said
    assert office.registry().generation == 3


def test_the_system_of_coordinates_must_be_said(office):
    office.settle()
    lines = office.refused("devices", "import", office.file("d.csv", DEVICES))
    said = (
        "d.csv: lon: give --crs wgs84 | cgcs2000 | gcj02 | bd09: a map made in China may lie 500 m"
    )
    assert lines == [f"{said} beside the others"]


def test_every_fault_is_told_in_the_order_of_the_file_up_to_two_hundred(office):
    office.settle()
    rows = "".join(f"k{n},nobody,generic.heat,nowhere,A9,,,,\n" for n in range(100))
    lines = office.refused("devices", "import", office.file("d.csv", HEAD + rows))
    assert [line.split(":")[2].strip() for line in lines[:3]] == ["carrier", "area", "heat_class"]
    assert [int(line.split(":")[1]) for line in lines[:-1]] == [2 + n // 3 for n in range(200)]
    assert lines[-1] == "d.csv: ... and 100 more faults"


def test_a_retired_device_does_not_come_back_by_a_list(office):
    office.settle()
    office.run("devices", "retire", "h1", "--carrier", "h1")
    row = HEAD + "h1,h1,generic.heat,b1-f3-302,A1,in_service,,,\n"
    assert office.refused("devices", "import", office.file("d.csv", row)) == [
        "d.csv:2: state: h1 is retired, expected another key, or `sizao devices commission`"
    ]


def test_a_refusal_is_exit_code_two_and_no_progress_bar_outside_a_terminal(office):
    office.settle()
    file = office.file("d.csv", HEAD + "x,gateway,generic.heat,b2,,,,,\n")
    command = [sys.executable, "-m", "sizao.cli", "devices", "import", str(file)]
    done = subprocess.run(
        [*command, "--config", str(office.config)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith(f"{file}:2: heat_class: missing")
