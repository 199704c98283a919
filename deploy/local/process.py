"""One server process under its guard: start, watch, stop, kill."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, cast

from deploy.local.failure import ServerError
from deploy.local.identity import (
    Identity,
    children,
    identify,
    read_identity,
    rss_kb,
    write_identity,
)
from deploy.local.patience import POLL_S
from deploy.local.places import User
from sizao.clock import monotonic_s

GUARD = Path(__file__).with_name("guard.py")
REPORT_S = 10.0  # a guard needs 50 ms; a machine under load some seconds
TAIL_LINES = 15
KILLED_CHILDREN_S = 5.0  # PostgreSQL's backends notice a dead postmaster at once

Gate = Callable[[], "str | None"]


@dataclass
class Child:
    """A server process and the guard that stops it when we are gone.

    `stop_signal` is what the server takes as an orderly stop. The process id file lets a later
    run find a server that outlived both us and the guard.
    """

    name: str
    log: Path
    pid_file: Path
    stop_signal: int = signal.SIGTERM
    grace_s: float = 10.0
    code: int | None = field(default=None, init=False)  # of its last end; 137: SIGKILL
    _guard: subprocess.Popen[bytes] | None = field(default=None, init=False, repr=False)
    _control: int = field(default=-1, init=False, repr=False)
    _server: Identity | None = field(default=None, init=False, repr=False)
    _abandoned: threading.Event = field(default_factory=threading.Event, init=False, repr=False)

    @property
    def pid(self) -> int:
        """Process id of the real server, not of its guard; 0 if there is none."""
        return self._server.pid if self._server else 0

    def alive(self) -> bool:
        """Whether the server runs."""
        return self._server is not None and self._server.alive()

    def rss_kb(self) -> int:
        """Resident memory of the server's main process in KiB."""
        return rss_kb(self.pid) if self.alive() else 0

    def start(
        self, cmd: Sequence[str | Path], *, user: User | None, env: Mapping[str, str], cwd: Path
    ) -> None:
        """Start the server. Raises ServerError if the program cannot be executed.

        Interrupted, it leaves no process behind.
        """
        if self.alive():
            raise ServerError(f"{self.name} runs already", where=f"process {self.pid}")
        self.recover()
        spec = {
            "cmd": [str(word) for word in cmd],
            "uid": user.uid if user else None,
            "gid": user.gid if user else None,
            "env": dict(env),
            "cwd": str(cwd),
            "log": str(self.log),
            "stop_signal": int(self.stop_signal),
            "grace_s": self.grace_s,
        }
        try:
            self._take_on(spec)
        except BaseException:  # a Ctrl-C too: the guard may be about to start the server
            self._forget()
            raise

    def _take_on(self, spec: Mapping[str, object]) -> None:
        """Start a guard, and remember the server that it has started."""
        word, _, rest = self._start_guard(spec).partition(" ")
        if word != "pid":
            raise ServerError(
                f"{self.name} could not be started: {rest or 'its guard said nothing'}",
                where=str(self.log),
            )
        self._server = identify(int(rest))
        if self._server:
            write_identity(self.pid_file, self._server)

    def _start_guard(self, spec: Mapping[str, object]) -> str:
        """Start the guard and return its first words.

        What it shall start goes through a pipe: an environment may hold secrets, and anybody may
        read a command line.
        """
        control_read, self._control = os.pipe()
        report_read, report_write = os.pipe()
        # -I: nothing of the caller's environment or folder gets into the guard.
        command = [sys.executable, "-I", "-S", str(GUARD), str(control_read), str(report_write)]
        try:
            self._guard = subprocess.Popen(
                command,
                pass_fds=(control_read, report_write),
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                cwd="/",
                start_new_session=True,
            )
        finally:
            os.close(control_read)
            os.close(report_write)
        try:
            with contextlib.suppress(BrokenPipeError), cast("IO[bytes]", self._guard.stdin) as pipe:
                pipe.write(json.dumps(spec).encode())
            return self._report(report_read)
        finally:
            os.close(report_read)

    def _report(self, fd: int) -> str:
        """First line from the guard, "" if there is none in time."""
        ready, _, _ = select.select([fd], [], [], REPORT_S)
        return os.read(fd, 4096).decode(errors="replace").split("\n")[0] if ready else ""

    def abandon(self, *, given_up: bool = True) -> None:
        """Make a start that is under way in another thread fail at its next look."""
        if given_up:
            self._abandoned.set()
        else:
            self._abandoned.clear()

    def signal(self, number: int) -> None:
        """Send the server a signal, through the guard: no stranger can have its number."""
        if self._control < 0:
            return
        try:
            os.write(self._control, bytes([number]))
        except BrokenPipeError:  # somebody killed the guard, and not its server
            if self._server:
                self._server.signal(number)

    def wait_ready(self, gate: Gate, deadline_s: float) -> float:
        """Ask `gate` until it returns None; return the seconds waited.

        A gate returns what is still missing. Raises ServerError when the server ends before or
        `deadline_s` is over; the end of its log goes into the message.
        """
        began = monotonic_s()
        while True:
            missing = gate()
            # Asked after the gate: somebody else's server may have answered on our port.
            if not self.alive():
                self._forget()
                raise ServerError(
                    f"{self.name} ended while starting:\n{self.tail()}\n", where=str(self.log)
                )
            if missing is None:
                return monotonic_s() - began
            if self._abandoned.is_set():
                raise ServerError(f"the start of {self.name} was given up", where=str(self.log))
            if monotonic_s() - began > deadline_s:
                raise ServerError(
                    f"{self.name} was not ready within {deadline_s:.0f} s: {missing}\n"
                    f"{self.tail()}\n",
                    where=str(self.log),
                )
            time.sleep(POLL_S)

    def terminate(self, grace_s: float | None = None) -> bool:
        """Stop in an orderly way, kill after `grace_s`. Returns whether killing was needed."""
        if self._server is None:
            if self._control >= 0:  # a start that was interrupted: its guard stops what there is
                self._forget()
            return False
        grace_s = self.grace_s if grace_s is None else grace_s
        self.signal(self.stop_signal)
        killed = not self._server.wait_gone(grace_s)
        if killed:
            self.kill()
        self._forget()
        return killed

    def kill(self) -> None:
        """SIGKILL the real server, and wait until it and its own children are gone."""
        if self._server is None:
            return
        offspring = children(self._server.pid)
        self.signal(signal.SIGKILL)
        self._server.wait_gone(self.grace_s)
        for one in offspring:
            if not one.wait_gone(KILLED_CHILDREN_S):
                one.stop(signal.SIGKILL, KILLED_CHILDREN_S)
        self._forget()

    def recover(self) -> bool:
        """Stop the server of an earlier run whose guard was killed too. Never a foreign process."""
        stale = read_identity(self.pid_file)
        if stale is None:
            return False
        found = stale.alive()
        offspring = children(stale.pid) if found else []
        stale.stop(self.stop_signal, self.grace_s)
        for one in offspring:
            one.wait_gone(KILLED_CHILDREN_S)
        self.pid_file.unlink(missing_ok=True)
        return found

    def tail(self) -> str:
        """Last lines of the log, for an error message."""
        try:
            lines = self.log.read_text("utf-8", "replace").splitlines()[-TAIL_LINES:]
        except OSError:
            return ""
        return "\n".join(f"  | {line}" for line in lines)

    def _forget(self) -> None:
        """Close what belonged to a server that has ended."""
        if self._control >= 0:
            os.close(self._control)
            self._control = -1
        if self._guard is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.code = self._guard.wait(self.grace_s + REPORT_S)
            self._guard = None
        self._server = None
        self.pid_file.unlink(missing_ok=True)
