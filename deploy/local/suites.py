"""Run the test suites and say how long each took.

Separate processes, so that one that breaks its process does not take the others along. Those with
servers of their own mostly wait for them: the others run beside them, and are shown when they are
done.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from deploy.local.places import REPOSITORY, RunLock, private_place, remove_run
from sizao.clock import monotonic_s

NO_TESTS = 5  # pytest's exit code for "nothing was collected"
PASSED = "passed"
SERVERS = ("integration", "chaos")


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


def run(suites: Sequence[str]) -> int:
    """Run them; the exit code."""
    began = monotonic_s()
    waiting = [name for name in suites if name in SERVERS]
    beside = [name for name in suites if name not in SERVERS]
    if not waiting:
        waiting, beside = beside, []
    with ThreadPoolExecutor(1, "beside") as pool:
        quick = [pool.submit(_suite, name, shown=False) for name in beside]
        if beside:
            print(f"{', '.join(beside)} run beside; shown at the end", flush=True)
        rows = [_suite(name, shown=True) for name in waiting]
        rows = [one.result() for one in quick] + rows
    for row in rows:
        print(row.output, end="")
    print("\nsuite          seconds  outcome")
    for row in rows:
        print(f"{row.name:<14} {row.seconds:7.1f}  {row.outcome}")
    print(f"{'all':<14} {monotonic_s() - began:7.1f}", flush=True)
    return 0 if all(row.outcome == PASSED for row in rows) else 1


@dataclass(frozen=True, slots=True)
class Row:
    """What came of one suite; `output` where it was not shown at once."""

    name: str
    outcome: str
    seconds: float
    output: str


def _suite(name: str, *, shown: bool) -> Row:
    title, began = f"\n=== tests/{name}\n", monotonic_s()
    command = [sys.executable, "-m", "pytest", f"tests/{name}"]
    if shown:
        print(title, end="", flush=True)
        done = subprocess.run(command, cwd=REPOSITORY, check=False, text=True)
    else:
        done = subprocess.run(
            command,
            cwd=REPOSITORY,
            check=False,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
    code = done.returncode
    outcome = {0: PASSED, NO_TESTS: "FAILED: no test"}.get(code, f"FAILED ({code})")
    output = "" if shown else title + done.stdout
    return Row(name, outcome, monotonic_s() - began, output)


if __name__ == "__main__":
    sys.exit(main())
