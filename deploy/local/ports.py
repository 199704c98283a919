"""The ports of one server: chosen once, kept, chosen anew only when somebody else was quicker."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path

from deploy.local.failure import ServerError
from deploy.local.places import free_ports
from deploy.local.process import Child

TRIES_MAX = 5
TAKEN = "address already in use"  # so say all three servers, in one or another case


class Ports:
    """Named ports of one server, remembered in its folder, so that data and ports stay together."""

    def __init__(self, folder: Path, names: Sequence[str], given: Sequence[int | None]) -> None:
        self._file = folder / "ports.json"
        self._names = tuple(names)
        self._given = {n: p for n, p in zip(names, given, strict=True) if p is not None}
        self._ports: dict[str, int] = {}
        self._announced = False

    def __getitem__(self, name: str) -> int:
        """Return one port."""
        if not self._ports:
            self._ports = self._remembered() or self._choose()
        return self._ports[name]

    def values(self) -> dict[str, object]:
        """All of them, for a configuration template."""
        return {name: self[name] for name in self._names}

    def start(self, child: Child, launch: Callable[[], None]) -> None:
        """Run `launch`, which starts `child` on these ports and waits for it.

        Between our look and the server's bind a stranger may take a port: that cannot be excluded,
        only repaired. Once a start has succeeded, clients know the ports and they never move.
        """
        for _ in range(TRIES_MAX):
            logged = child.log.stat().st_size if child.log.exists() else 0
            try:
                launch()
            except ServerError:
                movable = not self._announced and len(self._given) < len(self._names)
                if child.alive() or not movable or not _taken(child.log, logged):
                    child.terminate()
                    raise
                self._ports = self._choose()
                continue
            self._announced = True
            self._file.write_text(json.dumps(self._ports) + "\n", "ascii")
            return
        raise ServerError(f"{child.name}: {TRIES_MAX} times a port was taken", where=str(child.log))

    def _choose(self) -> dict[str, int]:
        free = iter(free_ports(len(self._names)))
        return {name: self._given.get(name) or next(free) for name in self._names}

    def _remembered(self) -> dict[str, int] | None:
        """Return the ports of the last run here; given ones win, damage counts as none."""
        with contextlib.suppress(FileNotFoundError, ValueError, KeyError, TypeError):
            found = json.loads(self._file.read_text("ascii"))
            return {name: self._given.get(name) or int(found[name]) for name in self._names}
        return None


def _taken(log: Path, offset: int) -> bool:
    """Whether the server has said since `offset` that its port is in use."""
    if not log.exists():
        return False
    with log.open("rb") as lines:
        lines.seek(offset)
        return TAKEN in lines.read().decode(errors="replace").lower()
