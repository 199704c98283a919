"""Run the test suites and say how long each took.

Separate processes, so that one that breaks its process does not take the others along. Two lanes,
one a core: integration mostly waits for its servers, so it runs in parts, each with servers of its
own, and whichever lane is free takes the next. The suites without servers go first in one lane.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from threading import Lock

from deploy.local.places import REPOSITORY, RunLock, private_place, remove_run
from sizao.clock import monotonic_s

NO_TESTS = 5  # pytest's exit code for "nothing was collected"
PASSED = "passed"
SERVERS = ("integration", "chaos")
PARTS = {"integration": 4}
"""More parts are more even lanes, and a start of the servers (12 s) each."""


def main() -> int:
    """Exit 0 only if every suite has passed."""
    known = sorted({file.parent.name for file in (REPOSITORY / "tests").glob("*/test_*.py")})
    parser = argparse.ArgumentParser(prog="python -m deploy.local.suites", description=__doc__)
    parser.add_argument("suites", nargs="+", choices=known, metavar="SUITE", help=", ".join(known))
    asked = parser.parse_args().suites
    # Most suites start no server; this tells `make clean` that they need .venv and build/.
    place = private_place(f"test-{os.getpid()}")
    lock = RunLock(place)
    try:
        return run(asked)
    finally:
        lock.release()
        remove_run(place)


@dataclass(frozen=True, slots=True)
class Part:
    """Some test files that one process runs."""

    name: str
    paths: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Row:
    """What came of one part."""

    name: str
    outcome: str
    seconds: float


def parts_of(suite: str) -> list[Part]:
    """A suite, whole or in parts; every file of it is in exactly one."""
    count = PARTS.get(suite, 1)
    folder = REPOSITORY / "tests" / suite
    files = sorted(str(one.relative_to(REPOSITORY)) for one in folder.glob("test_*.py"))
    if count == 1:
        return [Part(suite, (f"tests/{suite}",))]
    return [
        Part(f"{suite} {number + 1}/{count}", tuple(files[number::count]))
        for number in range(count)
    ]


def run(suites: Sequence[str]) -> int:
    """Run them; the exit code."""
    began, told = monotonic_s(), Lock()
    quick = deque(part for name in suites if name not in SERVERS for part in parts_of(name))
    waiting = deque(part for name in suites if name in SERVERS for part in parts_of(name))
    with ThreadPoolExecutor(2, "lane") as pool:
        lanes = [pool.submit(_lane, told, *queues) for queues in ((waiting,), (quick, waiting))]
        rows = [row for lane in lanes for row in lane.result()]
    print("\nsuite              seconds  outcome")
    for row in sorted(rows, key=lambda row: row.name):
        print(f"{row.name:<18} {row.seconds:7.1f}  {row.outcome}")
    print(f"{'all':<18} {monotonic_s() - began:7.1f}", flush=True)
    return 0 if all(row.outcome == PASSED for row in rows) else 1


def _lane(told: Lock, *queues: deque[Part]) -> list[Row]:
    """Take parts until there are none left."""
    rows = []
    for queue in queues:
        while True:
            try:
                part = queue.popleft()
            except IndexError:
                break
            rows.append(_run(part, told))
    return rows


def _run(part: Part, told: Lock) -> Row:
    began = monotonic_s()
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *part.paths],
        cwd=REPOSITORY,
        check=False,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    seconds = monotonic_s() - began
    outcome = {0: PASSED, NO_TESTS: "FAILED: no test"}.get(
        done.returncode, f"FAILED ({done.returncode})"
    )
    with told:
        print(f"\n=== {part.name}\n{done.stdout}", end="", flush=True)
    return Row(part.name, outcome, seconds)


if __name__ == "__main__":
    sys.exit(main())
