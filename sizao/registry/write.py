"""Change the registry: one transaction, one generation, all or nothing.

Rows are staged by COPY and merged by set-based SQL under an advisory lock, which also makes ids
dense. What is unchanged is not touched; what changed ends with this generation and begins anew, so
that older frames are still judged by what held then. What a change does not name stays.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import astuple, dataclass, field, fields
from operator import attrgetter

from sizao.db import Connection, translated
from sizao.errors import BadInput, Raced
from sizao.registry import merge
from sizao.topics import PARTITIONS_DEFAULT

_LOCK = 0x51_2A1
_FAULTS_SHOWN = 50


@dataclass(frozen=True, slots=True)
class AreaRow:
    """A node of the tree; `parent` is a code ("" for the district), `floor` a floor's number, `use`
    one of model.USES.
    """

    code: str
    parent: str
    level: str
    name_zh: str
    name_en: str
    lon: float | None = None
    lat: float | None = None
    floor: int | None = None
    use: str = ""


@dataclass(frozen=True, slots=True)
class CarrierRow:
    """`name` is its MQTT user name; `site` the code of its site, "" where it has none.

    `revoked` None leaves it as it is: a list of carriers must not restore one that was revoked.
    """

    name: str
    site: str = ""
    revoked: bool | None = None


@dataclass(frozen=True, slots=True)
class TypeRow:
    """A device type: `document` is its YAML, `quantities` the codes of its points."""

    name: str
    document: str
    quantities: list[int]


@dataclass(frozen=True, slots=True)
class DeviceRow:
    """A device at the most precise `area` code known; its site is that area's.

    `heat_class` and `gas` are places in `limits.HEAT_CLASSES` and `units.GASES`.
    """

    key: str
    carrier: str
    device_type: str
    area: str
    heat_class: int = 0
    mark: str = "real"
    state: str = "in_service"
    lon: float | None = None
    lat: float | None = None
    gas: int = 0


@dataclass(frozen=True, slots=True)
class SwapRow:
    """`new_key` under `new_carrier` takes over place, points and history of `key`."""

    key: str
    carrier: str
    new_key: str
    new_carrier: str


@dataclass(frozen=True, slots=True)
class ParameterRow:
    """A parameter of a rule, set for a scope, in a window of the week; `value` None ends it.

    `scope` is district, area, type or device, `scope_id` its registry id (0 for the district).
    Minutes are of the local day, `offset_minutes` ahead of UTC; `days` as in migration 0014.
    """

    rule: str
    parameter: str
    scope: str
    scope_id: int
    value: float | None
    from_minute: int
    to_minute: int
    days: int
    offset_minutes: int
    who: str
    why: str


@dataclass(frozen=True, slots=True)
class TakenRow:
    """A parameter that a detector takes; `reason` is why it has these bounds."""

    name: str
    shipped: float
    low: float
    high: float
    whole: bool
    unit: str
    reason: str


@dataclass(frozen=True, slots=True)
class DetectorRow:
    """A detector of the catalogue: `quantities` are the codes that it reads."""

    name: str
    version: int
    lane: str
    quantities: list[int]
    purpose: str
    parameters: Sequence[TakenRow] = ()


_DETECTOR = ("name", "version", "lane", "quantities", "purpose")

Row = AreaRow | CarrierRow | TypeRow | DeviceRow | SwapRow | ParameterRow


@dataclass(frozen=True, kw_only=True)
class Change:
    """What to add or alter. Parents before children is not required.

    Swaps and devices do not fit into one change: a row cannot end and begin twice under one number.
    """

    areas: Sequence[AreaRow] = field(default_factory=list)
    carriers: Sequence[CarrierRow] = field(default_factory=list)
    types: Sequence[TypeRow] = field(default_factory=list)
    devices: Sequence[DeviceRow] = field(default_factory=list)
    swaps: Sequence[SwapRow] = field(default_factory=list)
    parameters: Sequence[ParameterRow] = field(default_factory=list)


async def partitions_of(connection: Connection, wanted: int | None) -> int:
    """The district's number of partitions: the one stored, else `wanted`, else the default.

    Raises BadInput when another than `wanted` is stored; stores nothing.
    """
    with translated():
        cursor = await connection.execute("SELECT partitions FROM district")
        row = await cursor.fetchone()
    stored = None if row is None else int(row[0])
    if stored is not None and wanted not in {None, stored}:
        raise BadInput(f"--partitions {wanted}: the district has {stored}, for life; leave it out")
    return stored or wanted or PARTITIONS_DEFAULT


async def fix_partitions(connection: Connection, partitions: int) -> None:
    """Store the number for life. Raises BadInput when somebody stored another meanwhile."""
    async with _locked(connection):
        await connection.execute(
            "INSERT INTO district (partitions) VALUES (%s) ON CONFLICT DO NOTHING", (partitions,)
        )
    await partitions_of(connection, partitions)


async def store_catalogue(connection: Connection, detectors: Sequence[DetectorRow]) -> None:
    """Store the detectors that are there, and forget those that were. No generation: they are the
    program's, not the district's.
    """
    async with _locked(connection):
        await connection.execute("DELETE FROM detector")
        async with connection.cursor() as cursor:
            await cursor.executemany(
                "INSERT INTO detector (name, version, lane, quantities, purpose)"
                " VALUES (%s, %s, %s, %s, %s)",
                [[getattr(row, name) for name in _DETECTOR] for row in detectors],
            )
            await cursor.executemany(
                "INSERT INTO detector_parameter"
                " (detector, name, shipped, low, high, whole, unit, reason)"
                " VALUES (%s, %s, %s, %s, %s, %s, %s, %s)",
                [(row.name, *astuple(taken)) for row in detectors for taken in row.parameters],
            )


async def apply(
    connection: Connection,
    change: Change,
    *,
    cause: str,
    partitions: int,
    based_on: int | None = None,
) -> int:
    """Merge `change`; returns the generation now in force (the old one when nothing changed).

    `partitions` is taken where `sizao migrate` has stored none, for life. `based_on` is the
    generation that the change was made from, if that matters. Raises BadInput naming every row at
    fault (the first 50), Raced when another generation than `based_on` is in force by now,
    Retriable when the database is away; nothing is changed then, nor when it is cancelled.
    """
    assert not (change.devices and change.swaps)
    async with _locked(connection):
        generation = await _value(connection, "SELECT coalesce(max(id), 0) + 1 FROM generation")
        if based_on not in {None, generation - 1}:
            raise Raced(f"registry at generation {generation - 1}, not {based_on} any more")
        await connection.execute(
            "INSERT INTO district (partitions) VALUES (%s) ON CONFLICT DO NOTHING", (partitions,)
        )
        changed = await _merged(connection, "area", change.areas, generation)
        await connection.execute(merge.AREA_SITE.encode())
        changed += await _merged(connection, "carrier", change.carriers, generation)
        changed += await _merged(connection, "device_type", change.types, generation)
        changed += await _merged(connection, "device", change.devices, generation)
        changed += await _merged(connection, "swap", change.swaps, generation)
        if change.areas:
            await _refuse_faults(connection, merge.HOMELESS)
            changed += await _run(connection, merge.MOVES, generation)
        if change != Change(parameters=change.parameters):  # seconds, at 400,000 devices
            changed += await _run(connection, merge.POINTS, generation)
        changed += await _merged(connection, "parameter", change.parameters, generation)
        if not changed:
            return generation - 1
        await connection.execute(
            "INSERT INTO generation (id, cause) VALUES (%s, %s)", (generation, cause)
        )
        await connection.execute(merge.STATISTICS.encode())
        await connection.execute("SELECT pg_notify('sizao_generation', %s)", (str(generation),))
    return generation


@asynccontextmanager
async def _locked(connection: Connection) -> AsyncIterator[None]:
    with translated():
        async with connection.transaction():
            await connection.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
            # A district's import takes longer than a query may.
            await connection.execute("SET LOCAL statement_timeout = '120s'")
            yield


async def _value(connection: Connection, query: str) -> int:
    cursor = await connection.execute(query.encode())
    row = await cursor.fetchone()
    assert row is not None
    return int(row[0])


async def _merged(connection: Connection, table: str, rows: Sequence[Row], generation: int) -> int:
    """Stage the rows of one table, refuse them or merge them; how many rows changed."""
    if not rows:
        return 0
    await _stage(connection, table, rows)
    await _refuse_faults(connection, merge.FAULTS[table])
    return await _run(connection, merge.MERGE[table], generation)


async def _stage(connection: Connection, table: str, rows: Sequence[Row]) -> None:
    await connection.execute(merge.STAGE[table].encode())
    async with (
        connection.cursor() as cursor,
        cursor.copy(f"COPY staged_{table} FROM STDIN".encode()) as copy,
    ):
        cells = attrgetter(*(one.name for one in fields(rows[0])))  # astuple() copies deeply
        for number, row in enumerate(rows, 1):
            await copy.write_row((number, *cells(row)))
    await connection.execute(f"ANALYZE staged_{table}".encode())


async def _refuse_faults(connection: Connection, query: str) -> None:
    cursor = await connection.execute(f"{query} ORDER BY 1 LIMIT {_FAULTS_SHOWN + 1}".encode())
    faults = [f"row {row[0]}: {row[1]}" for row in await cursor.fetchall()]
    if faults:
        more = ["... and more"] if len(faults) > _FAULTS_SHOWN else []
        raise BadInput("\n".join(faults[:_FAULTS_SHOWN] + more))


async def _run(connection: Connection, statements: Sequence[str], generation: int) -> int:
    """Rows changed by the statements whose text begins with INSERT or UPDATE."""
    changed = 0
    for statement in statements:
        # The placeholder stands for one integer of ours.
        cursor = await connection.execute(
            statement.replace(":generation", str(generation)).encode()
        )
        if statement.lstrip().startswith(("INSERT", "UPDATE")):
            changed += max(cursor.rowcount, 0)
    return changed
