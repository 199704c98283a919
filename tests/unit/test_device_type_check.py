"""`sizao device-type check`: 0, or 2 with every fault of every file, one a line."""

import pytest
from fix_bridge import HEAT, SMOKE_HEAT
from typer.testing import CliRunner

from ingest.commands import app


@pytest.fixture
def check(tmp_path):
    def run(*texts):
        files = []
        for number, text in enumerate(texts):
            files.append(tmp_path / f"f{number}.yaml")
            files[-1].write_text(text)
        return CliRunner().invoke(app, ["device-type", "check", *map(str, files)])

    return run


def test_good_files(check):
    done = check(HEAT, SMOKE_HEAT)
    assert (done.exit_code, done.stderr) == (0, "")
    assert "2 device types are good" in done.stdout


def test_all_faults_of_all_files(check):
    done = check(
        HEAT.replace("unit: degC", "unit: C"),
        SMOKE_HEAT.replace("value: 0.31", "value: 0.32"),
        "name: [",
    )
    assert done.exit_code == 2
    lines = done.stderr.splitlines()
    assert [line.rpartition("/")[2].split(":")[0] for line in lines] == [
        "f0.yaml",
        "f1.yaml",
        "f2.yaml",
    ]
    assert "examples.1: expected s-0001 smoke_od_per_m 0.32" in lines[1]


def test_a_file_that_is_not_there(tmp_path):
    done = CliRunner().invoke(app, ["device-type", "check", str(tmp_path / "none.yaml")])
    assert done.exit_code == 2
    assert "cannot be read" in done.stderr
