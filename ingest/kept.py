"""What a lane keeps on disk: its newest `received_us`, and what its session is subscribed to."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from sizao.units import Lane

KEPT_EACH_S = 1.0


def clock_file(state: Path, lane: Lane) -> Path:
    """Where a lane keeps its newest `received_us`, which never goes back, not by a restart."""
    return state / f"{lane}.clock"


def kept_us(state: Path) -> int:
    """The newest instant that some lane has written; 0 at the first start."""
    newest = 0
    for lane in Lane:
        try:
            newest = max(newest, int(clock_file(state, lane).read_text(encoding="ascii")))
        except (OSError, ValueError):
            continue
    return newest


def begin_us(state: Path) -> int:
    """After what instant a new life begins: whatever an earlier one has written lies before it.

    What was given out since it was kept is less than as many microseconds as passed meanwhile, as
    long as the clock stands still; else the wall has moved on.
    """
    kept = kept_us(state)
    return kept + round(KEPT_EACH_S * 1e6) if kept else 0


def filters_file(state: Path, lane: Lane) -> Path:
    """Where a lane keeps the topic filters that the broker may have in its session."""
    return state / f"{lane}.filters"


def kept_filters(state: Path, lane: Lane) -> frozenset[str]:
    """Those of an earlier life; none where nobody knows."""
    try:
        found = json.loads(filters_file(state, lane).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return frozenset()
    return frozenset(map(str, found)) if isinstance(found, list) else frozenset()


def filters_text(filters: Iterable[str]) -> str:
    """What stands in the file."""
    return json.dumps(sorted(filters), ensure_ascii=False)


def keep(file: Path, text: str) -> None:
    """Replace the file. Raises OSError (disk full): the old one then stays."""
    fresh = file.with_name(f"{file.name}.new")
    fresh.write_text(text, encoding="utf-8")
    fresh.replace(file)
