"""Read the registry from the database in one consistent snapshot."""

from __future__ import annotations

import io

import pyarrow as pa
from pyarrow import csv

from sizao.db import Connection, translated
from sizao.errors import Permanent
from sizao.registry.model import FOREVER, NO_FLOOR, TABLES, Registry

_BLOCK_BYTES = 8 << 20  # no row may be longer, and a document may have 1 Mi characters
_PART_BYTES = 8 << 20  # parsed at a time: the text of all points at once was 61 MB of the peak
_UNKNOWN = {"lon", "lat"}  # NaN in the model where the database has NULL


async def newest_generation(connection: Connection) -> int:
    """The generation that the database is at; 0 for an empty registry."""
    with translated():
        cursor = await connection.execute("SELECT coalesce(max(id), 0) FROM generation")
        row = await cursor.fetchone()
    assert row is not None
    return int(row[0])


async def district_at(connection: Connection) -> tuple[int, int]:
    """Id of the district (0 where there is none yet) and the generation."""
    with translated():
        cursor = await connection.execute(
            "SELECT coalesce(min(id), 0) FROM area WHERE level = 'district' AND to_gen IS NULL"
        )
        row = await cursor.fetchone()
    assert row is not None
    return int(row[0]), await newest_generation(connection)


async def load(connection: Connection, partitions_default: int, *, points: bool = True) -> Registry:
    """Every row of every table, as one generation saw them; without `points`, none of these.

    400,000 devices of three points take seconds, not minutes: COPY out as CSV, parsed by Arrow.
    Raises Retriable when the database is away, Permanent when its tables are not ours; cancelled,
    it leaves nothing behind.
    """
    with translated():
        async with connection.transaction():
            await connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            generation = await newest_generation(connection)
            cursor = await connection.execute("SELECT partitions FROM district")
            row = await cursor.fetchone()
            tables = {
                name: await _table(connection, name)
                if points or name != "point"
                else schema.empty_table()
                for name, schema in TABLES.items()
            }
    partitions = partitions_default if row is None else int(row[0])
    return Registry(generation=generation, partitions=partitions, tables=tables)


async def _table(connection: Connection, name: str) -> pa.Table:
    schema = TABLES[name]
    columns = ", ".join(_column(field.name) for field in schema)
    # Names come from TABLES, never from outside.
    query = f"COPY (SELECT {columns} FROM {name} ORDER BY id, from_gen) TO STDOUT (FORMAT csv)"
    parts, text = [schema.empty_table()], io.BytesIO()
    async with connection.cursor() as cursor, cursor.copy(query.encode()) as copy:
        async for row in copy:  # PostgreSQL sends each row by itself, also one with line ends in it
            text.write(row)
            if text.tell() > _PART_BYTES:
                parts.append(_parsed(name, text))
                text = io.BytesIO()
    if text.tell():
        parts.append(_parsed(name, text))
    return pa.concat_tables(parts).combine_chunks()


def _parsed(name: str, text: io.BytesIO) -> pa.Table:
    """Whole rows of CSV as a table."""
    schema = TABLES[name]
    text.seek(0)
    try:
        return csv.read_csv(
            text,
            read_options=csv.ReadOptions(column_names=schema.names, block_size=_BLOCK_BYTES),
            parse_options=csv.ParseOptions(newlines_in_values=True),
            convert_options=csv.ConvertOptions(
                column_types=schema,
                null_values=[],
                strings_can_be_null=False,
                true_values=["t"],
                false_values=["f"],
            ),
        )
    except pa.ArrowInvalid as error:
        raise Permanent(f"registry table {name}: {error}") from error


def _column(name: str) -> str:
    if name == "to_gen":
        return f"coalesce(to_gen, {FOREVER})"
    if name == "floor":
        return f"coalesce(floor, {NO_FLOOR})"
    return f"coalesce({name}, 'NaN')" if name in _UNKNOWN else name
