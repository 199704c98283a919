"""The topic table: names, retention, record size. `sizao migrate` makes them so."""

from __future__ import annotations

from dataclasses import dataclass

from sizao.units import Lane

_HOUR_MS = 3_600_000
_DAY_MS = 24 * _HOUR_MS
_KB = 1024
# Kafka's own limit counts the record batch, so each bound leaves room above our own.


@dataclass(frozen=True, slots=True, kw_only=True)
class Topic:
    """One Kafka topic. `by_site`: partition = the partition of the record's site.

    `retention_bytes`: of a partition, whichever is reached first; -1 for no bound but time.
    """

    name: str
    by_site: bool
    retention_ms: int
    record_bytes_max: int
    retention_bytes: int = -1


READINGS = Topic(
    name="sizao.readings.v1", by_site=True, retention_ms=48 * _HOUR_MS, record_bytes_max=1000 * _KB
)
ALARMS = Topic(
    name="sizao.alarms.v1", by_site=True, retention_ms=30 * _DAY_MS, record_bytes_max=1000 * _KB
)
SIGNALS = Topic(
    name="sizao.signals.v1", by_site=True, retention_ms=30 * _DAY_MS, record_bytes_max=128 * _KB
)
CONDITIONS = Topic(
    name="sizao.conditions.v1", by_site=True, retention_ms=7 * _DAY_MS, record_bytes_max=128 * _KB
)
INCIDENTS = Topic(
    name="sizao.incidents.v1", by_site=False, retention_ms=365 * _DAY_MS, record_bytes_max=256 * _KB
)
COMMANDS = Topic(
    name="sizao.commands.v1", by_site=False, retention_ms=7 * _DAY_MS, record_bytes_max=64 * _KB
)
# One device that says garbage a thousand times a second writes 38 GB a day here: bounded by time
# alone, it filled the disk that the alarms stand on.
REJECTS = Topic(
    name="sizao.rejects.v1",
    by_site=False,
    retention_ms=14 * _DAY_MS,
    record_bytes_max=2048 * _KB,
    retention_bytes=4 * 1024 * 1024 * _KB,
)

TOPICS: tuple[Topic, ...] = (
    READINGS,
    ALARMS,
    SIGNALS,
    CONDITIONS,
    INCIDENTS,
    COMMANDS,
    REJECTS,
)

PARTITIONS_DEFAULT = 4


def of_lane(lane: Lane) -> Topic:
    """Where the rows of a lane's quantities go."""
    return ALARMS if lane is Lane.ALARM else READINGS
