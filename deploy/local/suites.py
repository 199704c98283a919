"""Run the test suites one after the other and say how long each took.

Separate processes, so that the time is the suite's own and one that breaks its process does not
take the others along.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Sequence

from deploy.local.places import REPOSITORY, RunLock, private_place, remove_run
from sizao.clock import monotonic_s

NO_TESTS = 5  # pytest's exit code for "nothing was collected"


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
    """Run them in the given order; the exit code."""
    rows: list[tuple[str, str, float]] = []
    for name in suites:
        print(f"\n=== tests/{name}", flush=True)
        began = monotonic_s()
        command = [sys.executable, "-m", "pytest", f"tests/{name}"]
        code = subprocess.run(command, cwd=REPOSITORY, check=False).returncode
        outcome = {0: "passed", NO_TESTS: "FAILED: no test"}.get(code, f"FAILED ({code})")
        rows.append((name, outcome, monotonic_s() - began))
    print("\nsuite          seconds  outcome")
    for name, outcome, seconds in rows:
        print(f"{name:<14} {seconds:7.1f}  {outcome}")
    print(f"{'all':<14} {sum(row[2] for row in rows):7.1f}", flush=True)
    failed = [row for row in rows if row[1] != "passed"]
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
