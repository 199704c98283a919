"""Which hours of raw readings go, and why: by age, or because the volume is full of them. Pure.

Whole partitions go, oldest first. An hour's age counts from its end, but never from before it was
made: what a log that is read again brings, or a bridge whose clock stands in 1970, has its days
like any other. An hour that lies in the future counts from when it was made.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

from pydantic import BaseModel, ConfigDict, Field

HOUR_US = 3_600_000_000
NEWEST_US = 3 * HOUR_US
"""What ended, or was made, since then never goes: the archive may be writing there."""
DROPS_MAX = 48  # of one round; the next one is a minute away

_NAME = re.compile(r"reading_(\d{8}_\d{2})")
_MADE = re.compile(r"made (\d{1,15})")


class Why(StrEnum):
    """Why a partition went: closed label."""

    AGE = "age"
    VOLUME = "volume"


class KeepSection(BaseModel):
    """`archive.keep:` of the settings file: how long raw readings stay, whichever comes first.

    Evidence of incidents is in another table and is not touched.
    """

    model_config = ConfigDict(extra="forbid")

    days: int = Field(default=30, ge=1, le=4_000, description="older raw readings are deleted")
    volume_share: float = Field(
        default=0.6,
        gt=0,
        le=0.95,
        description="the database may fill so much of its volume; the rest is for WAL and others",
    )
    volume_gb: float | None = Field(
        default=None,
        gt=0,
        le=10_000_000,
        description="size of the volume that holds PostgreSQL's data (10^9 bytes); left out: asked"
        " of the file system, where PostgreSQL is on this machine and tells its data_directory",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Hour:
    """One partition. `since_us`: its age counts from there."""

    name: str
    since_us: int
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Drop:
    """A partition that is to go."""

    hour: Hour
    why: Why


def hour_of(name: str, size: int, comment: str | None, now_us: int) -> Hour | None:
    """A partition by its name and its comment (`reading_cover` makes both); None: none of ours."""
    said = _NAME.fullmatch(name)
    if said is None:
        return None
    try:
        first = datetime.strptime(said[1], "%Y%m%d_%H").replace(tzinfo=UTC)
    except ValueError:
        return None
    end_us = int(first.timestamp()) * 1_000_000 + HOUR_US
    told = _MADE.fullmatch(comment or "")
    made_us = int(told[1]) * 1_000_000 if told else 0
    future = end_us > now_us + 2 * HOUR_US
    return Hour(name=name, since_us=made_us if future and told else max(end_us, made_us), size=size)


def plan(
    hours: Sequence[Hour], keep: KeepSection, now_us: int, database: int, volume: int | None
) -> list[Drop]:
    """What goes now, oldest first. `database`, `volume`: bytes; None where nobody knows."""
    oldest_us = now_us - keep.days * 24 * HOUR_US
    beyond = 0.0 if volume is None else database - volume * keep.volume_share
    drops: list[Drop] = []
    for hour in sorted(hours, key=lambda hour: (hour.since_us, hour.name)):
        if hour.since_us > now_us - NEWEST_US or len(drops) >= DROPS_MAX:
            break
        if hour.since_us <= oldest_us:
            drops.append(Drop(hour=hour, why=Why.AGE))
        elif beyond > 0:
            drops.append(Drop(hour=hour, why=Why.VOLUME))
        else:
            break
        beyond -= hour.size
    return drops
