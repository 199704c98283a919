"""`make up`, `make status`, `make down`: a supervisor that stays, is killed, is interrupted."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest

from deploy.local.identity import Identity, identify, read_identity, write_identity
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


def asked(own_place: Path, query: str) -> tuple[object, ...] | None:
    """One row of the run's database, as the addresses in the state file lead to it."""
    state = json.loads((own_place / "up" / "state.json").read_text())
    address = next(row["address"] for row in state["rows"] if row["name"] == "PostgreSQL")
    password = (own_place / "up" / "sizao" / "database-password").read_text().strip()
    with psycopg.connect(f"{address}sizao", password=password) as connection:
        return connection.execute(query).fetchone()


FIRST = "SELECT received, event, point, value FROM reading ORDER BY 1, 2, 3 LIMIT 1"
HISTORY = "SELECT count(*) > 1000 FROM reading WHERE event < received - interval '15 minutes'"


def test_all_of_it_comes_up_again_on_the_data_it_kept(own_place: Path) -> None:
    began = command("up", own_place)
    assert began.returncode == 0, began.stdout + began.stderr
    stack = own_place / "up" / "sizao"
    for name in ("bridge", "detect", "alert", "archive", "console", "devices"):
        assert f"{stack / name}.log" in began.stdout
    assert command("status", own_place).returncode == 0
    # Lost when the devices spoke before the bridge had a session; then no room has a baseline.
    assert wait_for(lambda: asked(own_place, HISTORY) == (True,), 20)
    stored = asked(own_place, FIRST)
    processes = [read_identity(file) for file in stack.glob("*.pid")]
    assert command("down", own_place).returncode == 0
    assert len(processes) == 6
    assert not any(one.alive() for one in processes)
    again = command("up", own_place)
    assert again.returncode == 0, again.stdout + again.stderr
    assert asked(own_place, FIRST) == stored
    assert command("down", own_place).returncode == 0


def test_down_finds_those_whose_guards_were_killed_with_the_supervisor(own_place: Path) -> None:
    """As `killall -9 python3` does it, before the supervisor could say what it has started."""
    folder = own_place / "up" / "sizao"
    folder.mkdir(parents=True)
    orphan = subprocess.Popen(["sleep", "60"])
    try:
        write_identity(folder / "bridge.pid", identify(orphan.pid))
        assert command("down", own_place).returncode == 0
        assert identify(orphan.pid) is None
    finally:
        orphan.kill()
        orphan.wait()


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
