"""`make up`, `make status`, `make down`: a supervisor that stays and holds everything.

The supervisor is a process of its own session. It writes a state file, readable to us alone, that
names every process by id and start time, so that `status` and `down` never mistake a stranger for
one of ours, and so that a supervisor that was killed can be cleaned up after.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NoReturn, Protocol

from deploy.local import stack
from deploy.local.failure import ServerError
from deploy.local.identity import Identity, identify, rss_kb, stop_below
from deploy.local.patience import POLL_S
from deploy.local.places import REPOSITORY, hand_over, private_place
from deploy.local.servers import Servers
from sizao.clock import monotonic_s

READY_S = 120.0
DOWN_S = 90.0  # every part's own grace time, one after the other
REFRESH_S = 1.0
RESTART_S = 5.0  # between two starts of what ends again and again
NAME = "up"


class Part(Protocol):
    """One of our own processes beside the servers, as `deploy/local/stack.py` offers them."""

    @property
    def name(self) -> str:
        """What `status` calls it."""

    @property
    def address(self) -> str:
        """Where a person looks."""

    @property
    def log(self) -> Path:
        """Where its words go."""

    @property
    def pid(self) -> int:
        """Process id now, 0 if it does not run."""

    def launch(self) -> None:
        """Start and do not wait."""

    def wait(self) -> None:
        """Wait until ready."""

    def stop(self) -> None:
        """Stop in an orderly way; of one that has ended, forget it."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of `status`."""

    name: str
    address: str
    log: str
    process: Identity | None

    @property
    def alive(self) -> bool:
        """Whether exactly this process still runs."""
        return self.process is not None and self.process.alive()


@dataclass(frozen=True, kw_only=True)
class State:
    """What a supervisor has said about itself."""

    supervisor: Identity
    ready: bool
    rows: tuple[Row, ...]


def _identity(record: object) -> Identity | None:
    return Identity(**record) if isinstance(record, dict) else None


def read_state(folder: Path) -> State | None:
    """Read the state file; a missing or damaged one counts as none."""
    try:
        record = json.loads((folder / "state.json").read_text("utf-8"))
        rows = [Row(**{**row, "process": _identity(row["process"])}) for row in record["rows"]]
        supervisor = Identity(**record["supervisor"])
        return State(supervisor=supervisor, ready=bool(record["ready"]), rows=tuple(rows))
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None


def _write_state(folder: Path, state: State) -> None:
    hand_over(folder / "state.json", json.dumps(asdict(state), indent=1) + "\n", None)


# --- the supervisor ------------------------------------------------------------------------------


def _rows(servers: Servers, parts: Sequence[Part]) -> tuple[Row, ...]:
    at = servers.addresses
    addresses = (
        f"mqtt://{at.mqtt_host}:{at.mqtt_port}",
        at.kafka_bootstrap,
        f"postgresql://{at.postgres_user}@{at.postgres_host}:{at.postgres_port}/",
    )
    rows = [
        Row(
            name=server.child.name,
            address=address,
            log=str(server.child.log),
            process=identify(server.child.pid),
        )
        for server, address in zip(servers.all, addresses, strict=True)
    ]
    rows += [
        Row(
            name=part.name,
            address=part.address,
            log=str(part.log),
            process=identify(part.pid),
        )
        for part in parts
    ]
    return tuple(rows)


def _interrupt_once() -> None:
    """Let the first SIGTERM, SIGINT or SIGHUP interrupt us; an orderly stop is not disturbed."""
    asked = False

    def ask(_number: int, _frame: object) -> None:
        nonlocal asked
        if not asked:
            asked = True
            raise KeyboardInterrupt

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, ask)


def revive(parts: Sequence[Part], again_s: dict[str, float], now_s: float) -> list[str]:
    """Start those again that have ended: a process that lost its progress ends to be replaced
    (exit code 3), and start-up is recovery. `again_s`: not before, by name. Returns their names.
    """
    ended = [
        part
        for part in parts
        if identify(part.pid) is None and now_s >= again_s.get(part.name, now_s)
    ]
    for part in ended:
        again_s[part.name] = now_s + RESTART_S
        part.stop()
        part.launch()
    return [part.name for part in ended]


def _hold(folder: Path, me: Identity, *, alone: bool) -> NoReturn:
    """Start everything and keep the state file true, until interrupted."""
    with Servers(folder) as servers, contextlib.ExitStack() as started:
        parts: list[Part] = []
        for group in () if alone else stack.parts(servers, folder):
            parts += group
            for part in group:
                started.callback(part.stop)
                part.launch()
            for part in group:
                part.wait()
        said: State | None = None
        again_s: dict[str, float] = {}
        while True:
            for name in revive(parts, again_s, monotonic_s()):
                print(f"{name} had ended and is started again", flush=True)
            state = State(supervisor=me, ready=True, rows=_rows(servers, parts))
            if state != said:
                _write_state(folder, state)
                said = state
            time.sleep(REFRESH_S)


def supervise(folder: Path, *, alone: bool) -> int:
    """Hold the servers, and our own processes unless `alone`, until told to stop."""
    me = identify(os.getpid())
    if me is None:
        raise ServerError("/proc does not know this process", knob="mount /proc")
    other = read_state(folder)
    if other and other.supervisor.alive():
        raise ServerError("another supervisor runs", where=f"process {other.supervisor.pid}")
    _interrupt_once()
    stop_below(folder)  # what a supervisor that was killed has left behind
    try:
        _write_state(folder, State(supervisor=me, ready=False, rows=()))
        _hold(folder, me, alone=alone)
    except KeyboardInterrupt:
        return 0
    finally:
        (folder / "state.json").unlink(missing_ok=True)


# --- the three commands --------------------------------------------------------------------------


def print_table(state: State) -> bool:
    """Print one line per process; return whether all of them run."""
    print(f"{'name':<14} {'state':<6} {'pid':>7} {'MB':>5}  {'address':<38}  log")
    for row in state.rows:
        pid = row.process.pid if row.process and row.alive else 0
        words = "up" if row.alive else "DOWN"
        memory = rss_kb(pid) // 1024 if pid else 0
        print(
            f"{row.name:<14} {words:<6} {pid or '-':>7} {memory or '-':>5}"
            f"  {row.address:<38}  {row.log}"
        )
    return all(row.alive for row in state.rows)


def up(*, alone: bool) -> int:
    """Start a supervisor unless one runs, wait until all is ready, print the addresses.

    With `alone` only the servers are started, without our own processes.
    """
    folder = private_place(NAME)
    state = read_state(folder)
    if state and state.supervisor.alive():
        print("already up" if state.ready else "another make up is at work")
        return 0 if print_table(state) and state.ready else 1
    (folder / "state.json").unlink(missing_ok=True)
    log = folder / "supervisor.log"
    _interrupt_once()  # not only Ctrl-C must take a half-started supervisor along
    with log.open("w", encoding="utf-8") as sink:
        supervisor = subprocess.Popen(
            [sys.executable, "-m", "deploy.local", "supervise", *(["--servers"] if alone else [])],
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=sink,
            cwd=REPOSITORY,
            start_new_session=True,
        )
    try:
        state = _await_ready(folder, supervisor)
    except BaseException:
        supervisor.terminate()
        supervisor.wait(DOWN_S)
        raise
    if state is None:
        print(log.read_text("utf-8").strip(), file=sys.stderr)
        print(f"up: failed; logs are in {folder}", file=sys.stderr)
        return 1
    complete = print_table(state)
    print(f"\nlogs and data: {folder}\nmake status, make down")
    return 0 if complete else 1


def _await_ready(folder: Path, supervisor: subprocess.Popen[bytes]) -> State | None:
    """Wait for the state file; None if the supervisor has ended instead."""
    until = monotonic_s() + READY_S
    while supervisor.poll() is None:
        state = read_state(folder)
        if state and state.ready:
            return state
        if monotonic_s() > until:
            raise ServerError(f"not ready within {READY_S:.0f} s", where=str(folder))
        time.sleep(POLL_S)
    return None


def status() -> int:
    """Print what runs; 0 only if all of it does."""
    state = read_state(private_place(NAME))
    if state is None:
        print("nothing is up; make up starts it")
        return 1
    complete = print_table(state)
    if not state.supervisor.alive():
        print("the supervisor has died; make up or make down puts that right")
        return 1
    return 0 if complete and state.ready else 1


def down() -> int:
    """Stop the supervisor, and what a killed one has left behind; wait until all is gone."""
    folder = private_place(NAME)
    state = read_state(folder)
    if state and state.supervisor.alive():
        print("stopping ...", flush=True)
        if state.supervisor.stop(signal.SIGTERM, DOWN_S):
            print(f"the supervisor did not stop within {DOWN_S:.0f} s and was killed")
    found = stop_below(folder)  # guards stop what is theirs, unless they were killed as well
    (folder / "state.json").unlink(missing_ok=True)
    print("down" if state or found else "nothing was up")
    return 0
