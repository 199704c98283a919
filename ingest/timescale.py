"""The table of raw readings on TimescaleDB, where it is there: what to call, and what to say. Pure.

Used from version 2.18 to 2.28 (the last for PostgreSQL 15) by the calls that are in all of them. A
partitioned table cannot become a hypertable: an empty one is replaced by a new table, one with rows
stays as it is until a person puts it aside (`reading_set_aside`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta

MIN_VERSION = (2, 18)  # add_columnstore_policy

# A chunk is turned over into the columnstore in one transaction, which needs room for it twice; at
# 40,000 readings/s an hour is 7 GB. Retention goes by whole chunks too.
CHUNK = timedelta(hours=1)
# A reading that comes again is looked for where it arrived first: within 48 h, for that long a
# device is believed (ingest/redelivered.py). Older rows are read in the columnstore, slowly.
COMPRESS_AFTER = timedelta(days=3)

SET_ASIDE = "SELECT reading_set_aside()"
# Options of a storage parameter's name space are known in every version by these names.
COLUMNSTORE = (
    "ALTER TABLE reading SET (timescaledb.compress, timescaledb.compress_segmentby = 'point',"
    " timescaledb.compress_orderby = 'received, event')"
)

_HOW = (
    "it keeps hours of its own. To change over: stop `sizao archive`, call `SELECT"
    " reading_set_aside()`, run `sizao migrate`, start it; what is stored until then stays readable"
    " in the table whose name the call returns, until you drop it (deploy/README.md)"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """What is there. `version`, `schema`: of the extension, "" where it is not in this database.

    `available`: it could be created. `apache`: its licence setting leaves out columnstore and
    policies. `kind`: of the table, `p` or `r`. Policies: after how long, None for none.
    """

    version: str
    schema: str
    available: bool
    apache: bool
    kind: str
    rows: bool
    hypertable: bool
    columnstore: bool
    compress_after: timedelta | None
    drop_after: timedelta | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Statements in their order; what to tell; `refused`: `require` cannot be met."""

    statements: list[str] = field(default_factory=list)
    said: str
    refused: bool = False


def plan(state: State, wanted: str, keep_days: int) -> Plan:
    """What to do. `wanted`: auto, off or require, as in the settings."""
    if state.hypertable:
        return _settled(state, keep_days)
    if wanted == "off":
        return Plan(said="hours of our own (database.timescale is off)")
    missing = _missing(state)
    if missing:
        return Plan(said=f"hours of our own: {missing}", refused=wanted == "require")
    if state.kind == "p" and state.rows:
        said = f"the table reading has rows: {_HOW}"
        return Plan(said=said, refused=wanted == "require")
    aside = [SET_ASIDE] if state.kind == "p" else []
    return Plan(
        statements=[*aside, _create(state.schema), *_policies(state, keep_days)],
        said=f"a hypertable (TimescaleDB {state.version}), kept {keep_days} days",
    )


def _settled(state: State, keep_days: int) -> Plan:
    return Plan(
        statements=_policies(state, keep_days),
        said=f"a hypertable (TimescaleDB {state.version}), kept {keep_days} days",
    )


def _missing(state: State) -> str:
    """Why it cannot be used; "" if it can."""
    if not state.version:
        if state.available:
            return (
                "TimescaleDB is installed, but not in this database: CREATE EXTENSION timescaledb"
            )
        return "no TimescaleDB"
    if _numbers(state.version) < MIN_VERSION:
        return f"TimescaleDB {state.version} is older than {'.'.join(map(str, MIN_VERSION))}"
    if state.apache:
        return "TimescaleDB's licence setting is apache: no columnstore, no policies"
    return ""


def _numbers(version: str) -> tuple[int, ...]:
    """2.18.0-dev -> (2, 18, 0)."""
    return tuple(int(part) for part in version.partition("-")[0].split(".") if part.isdigit())


def _interval(span: timedelta) -> str:
    return f"INTERVAL '{int(span.total_seconds())} seconds'"


def _create(schema: str) -> str:
    return (
        f"SELECT {schema}.create_hypertable(relation => 'reading',"
        f" dimension => {schema}.by_range('received', {_interval(CHUNK)}),"
        " create_default_indexes => false, if_not_exists => true, migrate_data => true)"
    )


def _policies(state: State, keep_days: int) -> list[str]:
    """Columnstore and retention, each only where it is missing or not as it should be."""
    calls: list[str] = [] if state.columnstore else [COLUMNSTORE]
    if state.compress_after != COMPRESS_AFTER:
        if state.compress_after is not None:
            calls.append(
                f"CALL {state.schema}.remove_columnstore_policy(hypertable => 'reading',"
                " if_exists => true)"
            )
        calls.append(
            f"CALL {state.schema}.add_columnstore_policy(hypertable => 'reading',"
            f" after => {_interval(COMPRESS_AFTER)}, if_not_exists => true)"
        )
    keep = timedelta(days=keep_days)
    if state.drop_after != keep:
        if state.drop_after is not None:
            calls.append(
                f"SELECT {state.schema}.remove_retention_policy(relation => 'reading',"
                " if_exists => true)"
            )
        calls.append(
            f"SELECT {state.schema}.add_retention_policy(relation => 'reading',"
            f" drop_after => {_interval(keep)}, if_not_exists => true)"
        )
    return calls
