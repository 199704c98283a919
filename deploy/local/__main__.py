"""`python -m deploy.local up [--servers] | status | down | clean`."""

from __future__ import annotations

import argparse
import contextlib
import shutil
import sys
from collections.abc import Callable

from deploy.local import up
from deploy.local.failure import ServerError
from deploy.local.places import elsewhere, in_use, private_place, run_places, sweep


def clean() -> int:
    """Remove all run folders, wherever they are. Raises ServerError while somebody uses one: what
    else `make clean` removes would be missing in the midst of that run.
    """
    used = [str(place) for place in run_places() if in_use(place)]
    if used:
        raise ServerError(f"in use: {', '.join(used)}", knob="end it first; nothing was removed")
    sweep()
    for left in elsewhere().glob("kafka-libs*"):
        shutil.rmtree(left, ignore_errors=True)
    with contextlib.suppress(OSError):  # not there
        elsewhere().rmdir()
    return 0


def main() -> int:
    """Run one command."""
    parser = argparse.ArgumentParser(prog="python -m deploy.local", description=__doc__)
    # `supervise` is what `up` leaves running; it is not for people.
    parser.add_argument("command", choices=["up", "status", "down", "clean", "supervise"])
    parser.add_argument("--servers", action="store_true", help="with up: only the three servers")
    asked = parser.parse_args()
    commands: dict[str, Callable[[], int]] = {
        "up": lambda: up.up(alone=asked.servers),
        "status": up.status,
        "down": up.down,
        "clean": clean,
        "supervise": lambda: up.supervise(private_place(up.NAME), alone=asked.servers),
    }
    try:
        return commands[asked.command]()
    except ServerError as error:
        print(f"{asked.command}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
