"""Where a fold begins to read, and from where on it speaks."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Gap(StrEnum):
    """Why a wanted offset is not in the log: closed label of the counter."""

    EXPIRED = "expired"  # retention was faster than we
    SHORTER = "shorter"  # the log came back with less than was read of it
    REPLACED = "replaced"  # it did, and has grown past us since: another record stands there


@dataclass(frozen=True, slots=True, kw_only=True)
class Begin:
    """`warm`: go back before `seek` as far as the rules remember, and be silent up to `seek`.

    `check`: the record before `seek` is there, and must be the one that was read last.
    """

    seek: int
    warm: bool = False
    check: bool = False
    gap: Gap | None = None


def begin(
    *, kept: int | None, committed: int | None, first: int, end: int, replaced: bool = False
) -> Begin:
    """Decide for one partition.

    `kept`: next offset of the state at hand (memory or snapshot); `committed`: of the group;
    `first`, `end`: of the log. State at hand reads on where it stands and says again what may
    not have been said (ids make that harmless). Without state the rules warm up silently before
    the committed offset. Where nothing was ever committed everything is said, from the start.
    `replaced`: a check has failed.
    """
    if replaced:
        return Begin(seek=first, gap=Gap.REPLACED)
    wanted = committed if kept is None else kept
    if wanted is None:
        return Begin(seek=first)
    if wanted < first:
        return Begin(seek=first, gap=Gap.EXPIRED)
    if wanted > end:
        return Begin(seek=first, gap=Gap.SHORTER)
    before = wanted > first
    return Begin(seek=wanted, warm=kept is None and before, check=kept is not None and before)
