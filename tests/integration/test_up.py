"""`make up`, `make status`, `make down`: a supervisor that stays, is killed, is interrupted."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from deploy.local.identity import Identity, read_identity
from deploy.local.patience import wait_for
from deploy.local.places import REPOSITORY

GONE_S = 25.0


def command(words: str, home: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "deploy.local", *words.split()],
        env={**os.environ, "SIZAO_RUN": str(home)},
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def test_up_stays_and_down_puts_even_a_killed_supervisor_right(own_place: Path) -> None:
    assert command("status", own_place).returncode == 1
    began = command("up --servers", own_place)
    assert began.returncode == 0, began.stderr
    assert "mqtt://127.0.0.1:" in began.stdout
    state_file = own_place / "up" / "state.json"
    assert state_file.stat().st_mode & 0o777 == 0o600
    state = json.loads(state_file.read_text())
    again = command("up --servers", own_place)
    assert (again.returncode, "already up" in again.stdout) == (0, True)
    assert command("status", own_place).returncode == 0
    rows = [Identity(**row["process"]) for row in state["rows"]]

    os.kill(state["supervisor"]["pid"], signal.SIGKILL)
    assert wait_for(lambda: command("status", own_place).returncode == 1, 10)
    ended = command("down", own_place)
    assert ended.returncode == 0, ended.stderr
    assert not any(one.alive() for one in rows)
    assert command("status", own_place).returncode == 1
    assert "nothing was up" in command("down", own_place).stdout


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_up_leaves_nothing_behind(own_place: Path, number: int) -> None:
    starting = subprocess.Popen(
        [sys.executable, "-m", "deploy.local", "up", "--servers"],
        env={**os.environ, "SIZAO_RUN": str(own_place)},
        cwd=REPOSITORY,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    pids = [own_place / "up" / name / "pid" for name in ("mosquitto", "postgres")]
    assert wait_for(lambda: all(read_identity(file) for file in pids), 20)
    servers = [read_identity(file) for file in pids]
    starting.send_signal(number)
    assert starting.wait(GONE_S) != 0
    for one in filter(None, servers):
        assert one.wait_gone(GONE_S), f"process {one.pid} outlived an interrupted start"
    assert "nothing is up" in command("status", own_place).stdout
