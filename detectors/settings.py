"""What `sizao detect` reads of the settings file."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, field_validator

from detectors.record import TOPICS
from sizao.db import DatabaseSettings
from sizao.kafka import KafkaSettings, Partition
from sizao.settings import HttpSettings, WatchDisks


class DetectSection(BaseModel):
    """`detect:` of the settings file."""

    model_config = ConfigDict(extra="forbid")

    http: HttpSettings = HttpSettings()
    state: Path = Field(
        default=Path(), description="snapshots and registry cache; left out: beside this file"
    )
    shard: str = Field(default="0/1", pattern=r"^\d{1,4}/\d{1,4}$", description="i/n, i from 0")
    bridges: list[str] = Field(
        default=["b0"], max_length=16, description="those whose heartbeats hold the log's clock"
    )
    snapshot_s: float = Field(default=30.0, gt=0, le=3600)
    commit_s: float = Field(default=2.0, gt=0, le=60)
    utc_offset: str = Field(
        default="+08:00",
        pattern=r"^[+-](0\d|1[0-4]):[0-5]\d$",
        description="of the local times that `sizao rules set --between` is given; each row keeps"
        " its own, so a later change alters nothing that is set",
    )

    @field_validator("shard")
    @classmethod
    def _below(cls, shard: str) -> str:
        index, of = (int(part) for part in shard.split("/"))
        if index >= of:
            raise ValueError(f"{shard}: expected i/n with i from 0 and below n, such as 0/4")
        return shard


class DetectSettings(BaseModel):
    """Sections of the file that detect reads."""

    kafka: KafkaSettings = KafkaSettings()
    database: DatabaseSettings = DatabaseSettings()
    detect: DetectSection = DetectSection()
    watch_disks: WatchDisks = WatchDisks()


def shard_of(shard: str, partitions: int) -> list[Partition]:
    """The partitions of both topics that shard `i/n` folds: those p with p % n == i."""
    index, of = (int(part) for part in shard.split("/"))
    numbers = [number for number in range(partitions) if number % of == index]
    return [(topic.name, number) for topic in TOPICS for number in numbers]
