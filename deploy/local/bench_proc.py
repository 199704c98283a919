"""What processes cost, from /proc: CPU time and memory; and which machine this is."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from deploy.local.identity import children, rss_kb
from deploy.local.places import REPOSITORY
from sizao.clock import monotonic_s

_TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")
# Fields of /proc/PID/stat behind the name, which may hold blanks: state is 0.
_UTIME, _STIME, _CUTIME, _CSTIME = 11, 12, 13, 14
_IDLE, _IOWAIT, _STAT_FIELDS = 3, 4, 8
_CALIBRATION_LOOPS = 5_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """CPU seconds of each process since it began, at one instant."""

    at_s: float
    cpu_s: dict[str, float]
    busy_s: float  # of all cores together, whoever used them


def sample(pids: Mapping[str, int]) -> Sample:
    """CPU time of each process, its children included (PostgreSQL's backends are children)."""
    return Sample(
        at_s=monotonic_s(),
        cpu_s={name: _with_children(pid) for name, pid in pids.items()},
        busy_s=_busy_s(),
    )


def _with_children(pid: int) -> float:
    own = _ticks(pid)
    if own is None:
        return 0.0
    ended = own[2] + own[3]  # of children that have been waited for
    living = sum(sum(_ticks(one.pid) or ()) for one in children(pid))
    return (own[0] + own[1] + ended + living) / _TICKS_A_SECOND


def _ticks(pid: int) -> tuple[int, int, int, int] | None:
    try:
        text = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = text.rpartition(")")[2].split()
    return int(fields[_UTIME]), int(fields[_STIME]), int(fields[_CUTIME]), int(fields[_CSTIME])


def _busy_s() -> float:
    fields = Path("/proc/stat").read_text("ascii").split("\n", 1)[0].split()[1 : _STAT_FIELDS + 1]
    spent = [int(word) for word in fields]
    return (sum(spent) - spent[_IDLE] - spent[_IOWAIT]) / _TICKS_A_SECOND


def memory_mb(pids: Mapping[str, int]) -> dict[str, int]:
    """Resident memory; of PostgreSQL's backends only what is not shared."""
    return {
        name: (rss_kb(pid) + sum(_anonymous_kb(one.pid) for one in children(pid))) // 1024
        for name, pid in pids.items()
    }


def _anonymous_kb(pid: int) -> int:
    try:
        found = re.search(r"RssAnon:\s+(\d+)", Path(f"/proc/{pid}/status").read_text("utf-8"))
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return int(found[1]) if found else 0


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0))


def machine() -> dict[str, object]:
    """Model, cores, kernel, Python, commit, and a calibration to scale to another CPU."""
    model = re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text("utf-8"))
    return {
        "cpu": model[1] if model else platform.machine(),
        "cores": cores(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "commit": _git("rev-parse", "--short", "HEAD"),
        "modified": bool(_git("status", "--porcelain")),
        "empty_loop_10m_s": _calibrate(),
        "load_average_before": os.getloadavg()[0],
    }


def _git(*words: str) -> str:
    done = subprocess.run(
        ["git", *words], cwd=REPOSITORY, capture_output=True, text=True, check=False, timeout=30
    )
    return done.stdout.strip()


def _calibrate() -> float:
    began_s = monotonic_s()
    for _ in range(_CALIBRATION_LOOPS):
        pass
    return round((monotonic_s() - began_s) * 10_000_000 / _CALIBRATION_LOOPS, 3)
