"""Run a server's own tool (format, initdb) to its end, as that server's user."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

from deploy.local.failure import ServerError
from deploy.local.places import User

TOOL_S = 120.0  # both take a second or two; a busy machine takes longer


def run_tool(user: User | None, command: Sequence[str | Path], log: Path, cwd: Path) -> None:
    """Run a tool of a server to its end, as its user; a failure shows what it said."""
    done = subprocess.run(
        [str(word) for word in command],
        user=user.uid if user else None,
        group=user.gid if user else None,
        extra_groups=[] if user else None,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=TOOL_S,
        cwd=cwd,
        env={"LANG": "C.UTF-8", "PATH": "/usr/bin:/bin"},
    )
    log.write_text(done.stdout + done.stderr, "utf-8")
    if done.returncode:
        raise ServerError(f"{command[0]} failed:\n{done.stdout}{done.stderr}", where=str(log))
