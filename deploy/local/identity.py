"""Which process is meant: a process id alone may long belong to somebody else."""

from __future__ import annotations

import contextlib
import json
import os
import signal
from dataclasses import asdict, dataclass
from pathlib import Path

from deploy.local.patience import wait_for

STOP_S = 10.0  # what is left over is given so long to end by itself


@dataclass(frozen=True, kw_only=True)
class Identity:
    """A process of this boot: id and start time (clock ticks since boot) name it for ever."""

    pid: int
    start_ticks: int
    boot: str

    def alive(self) -> bool:
        """Whether exactly this process still runs (one that waits to be reaped does not)."""
        return identify(self.pid) == self

    def signal(self, number: int) -> None:
        """Send a signal to this process and to no other that may have its number by now."""
        if self.alive():
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def stop(self, number: int, grace_s: float) -> bool:
        """Send `number`, after `grace_s` SIGKILL. Returns whether SIGKILL was needed."""
        self.signal(number)
        if self.wait_gone(grace_s):
            return False
        self.signal(signal.SIGKILL)
        self.wait_gone(grace_s)
        return True

    def wait_gone(self, deadline_s: float) -> bool:
        """Wait until it has ended, at most `deadline_s`; return whether it has."""
        return wait_for(lambda: not self.alive(), deadline_s)


def boot_id() -> str:
    """Name this boot of the machine: start times count from it."""
    return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()


def _stat(pid: int) -> list[str]:
    """Fields of /proc/PID/stat from the state on (the name before it may hold blanks)."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace")
    except (FileNotFoundError, ProcessLookupError):
        return []
    return text.rpartition(")")[2].split()


def identify(pid: int) -> Identity | None:
    """Return the identity of a running process, None for one that has ended."""
    fields = _stat(pid)
    if not fields or fields[0] in "ZX":
        return None
    return Identity(pid=pid, start_ticks=int(fields[19]), boot=boot_id())


def children(pid: int) -> list[Identity]:
    """Return the direct children of a process."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            fields = _stat(int(entry.name))
            if fields and fields[1] == str(pid) and (one := identify(int(entry.name))):
                found.append(one)
    return found


def rss_kb(pid: int) -> int:
    """Resident memory of a process in KiB, 0 if it has ended."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        for line in Path(f"/proc/{pid}/status").read_text("utf-8", "replace").splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1])
    return 0


def write_identity(file: Path, identity: Identity) -> None:
    """Write it whole or not at all."""
    new = file.with_name(file.name + ".new")
    new.write_text(json.dumps(asdict(identity)) + "\n", "ascii")
    new.replace(file)


def read_identity(file: Path) -> Identity | None:
    """Read what `write_identity` wrote; a missing or damaged file names nobody."""
    try:
        record = json.loads(file.read_text("ascii"))
        return Identity(
            pid=int(record["pid"]), start_ticks=int(record["start_ticks"]), boot=str(record["boot"])
        )
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None


def stop_below(folder: Path) -> bool:
    """Stop every process that a pid file below `folder` names; return whether one still ran.

    For what a killed run has left behind, whose guards may have been killed with it. SIGINT: our
    processes, Mosquitto and Kafka take it as SIGTERM, and PostgreSQL waits for no client.
    """
    ours, servers = folder.rglob("*.pid"), folder.rglob("pid")  # ours first: they are clients
    found = False
    for file in [*ours, *servers]:
        stale = read_identity(file)
        if stale is not None:
            found |= stale.alive()
            stale.stop(signal.SIGINT, STOP_S)
            file.unlink(missing_ok=True)
    return found
