"""Stands between a program and one server that it started, so that the server cannot outlive it.

Run by file path, standard library only:

    guard.py CONTROL_FD REPORT_FD < SPEC_JSON

The parent holds the write end of CONTROL. A byte on it is a signal number for the server; its end
(the parent stopped, crashed, or was killed with -9) means: stop the server in an orderly way, and
after the grace time kill its process group. The guard ends when the server has ended.

It also bounds the server's log, because it is the only process that lives as long as the server.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import select
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

LOG_BYTES_MAX = 64 * 1024 * 1024  # a server that repeats one line must not fill the disk
LOG_CHECK_S = 5.0
WAKE_BYTES_MAX = 512
KILLED = 128  # and the signal's number: exit code for a server that a signal has ended
OPEN_FILES = 65_536  # the usual soft limit of 1,024 is fewer than a district's connections


def trim(log_fd: int, log: Path) -> None:
    """Keep one older log beside the present one; the server appends, so cutting it to 0 is safe."""
    if os.fstat(log_fd).st_size > LOG_BYTES_MAX:
        shutil.copyfile(log, log.with_name(log.name + ".1"))
        os.ftruncate(log_fd, 0)


def to_group(server: subprocess.Popen[bytes], number: int) -> None:
    """Signal the server's whole process group, if it still has one."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(server.pid, number)


def allow_open_files() -> None:
    """Raise the limit of open files as far as our rights go."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    soft = OPEN_FILES if hard == resource.RLIM_INFINITY else min(OPEN_FILES, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def spawn(spec: dict[str, object], log_fd: int) -> subprocess.Popen[bytes]:
    """Start the server in a session of its own, as its own user, with nothing else inherited."""
    uid, gid = spec["uid"], spec["gid"]
    return subprocess.Popen(
        [str(word) for word in spec["cmd"]],  # type: ignore[attr-defined]
        env={str(k): str(v) for k, v in spec["env"].items()},  # type: ignore[attr-defined]
        cwd=str(spec["cwd"]),
        user=uid if isinstance(uid, int) else None,
        group=gid if isinstance(gid, int) else None,
        extra_groups=[] if isinstance(uid, int) else None,
        umask=0o077,
        stdin=subprocess.DEVNULL,
        stdout=log_fd,
        stderr=log_fd,
        start_new_session=True,
    )


def watch(
    server: subprocess.Popen[bytes], control: int, wake: int, log_fd: int, spec: dict[str, object]
) -> int:
    """Wait until the server has ended; pass signals on; stop it when the parent has gone."""
    log, grace_s = Path(str(spec["log"])), float(str(spec["grace_s"]))
    waiting, kill_at = [control, wake], float("inf")
    while (code := server.poll()) is None:
        ready, _, _ = select.select(
            waiting, [], [], LOG_CHECK_S if kill_at == float("inf") else 0.1
        )
        if wake in ready:
            os.read(wake, WAKE_BYTES_MAX)
        if control in ready:
            numbers = os.read(control, WAKE_BYTES_MAX)
            for number in numbers:
                server.send_signal(number)
            if not numbers:  # the parent has gone
                waiting.remove(control)
                server.send_signal(int(str(spec["stop_signal"])))
                kill_at = time.monotonic() + grace_s
        if time.monotonic() > kill_at:
            to_group(server, signal.SIGKILL)
        trim(log_fd, log)
    to_group(server, signal.SIGKILL)  # what the server itself left behind
    return code


def say(report: int, words: str) -> None:
    """Tell the parent. One that has gone meanwhile is told nothing: `watch` sees that it has gone,
    and a guard that failed here would leave the server alone.
    """
    with contextlib.suppress(BrokenPipeError):
        os.write(report, f"{words}\n".encode())


def main(argv: list[str]) -> int:
    """Start, report the server's process id, watch; exit as it did."""
    control, report, spec = int(argv[1]), int(argv[2]), json.load(sys.stdin)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        # Only the pipe decides: a Ctrl-C or a service manager's stop reaches the parent first.
        # Caught, not ignored: what is ignored stays so in the server, and a JVM that was started
        # with SIGTERM ignored never stops in an orderly way.
        signal.signal(number, lambda *_: None)
    wake_read, wake_write = os.pipe()
    os.set_blocking(wake_write, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
    log_fd = os.open(spec["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o640)
    allow_open_files()
    try:
        server = spawn(spec, log_fd)
    except (OSError, subprocess.SubprocessError) as error:
        say(report, f"error {error}")
        return 1
    say(report, f"pid {server.pid}")
    code = watch(server, control, wake_read, log_fd, spec)
    return code if code >= 0 else KILLED - code


if __name__ == "__main__":
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    sys.exit(main(sys.argv))
