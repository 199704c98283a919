"""Files of rows, in and out: CSV and Parquet as columns of text, each row with its place.

Everything is text here, trimmed, "" where nothing is said: what a column means is the business of
who asked for it.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

import pyarrow as pa
from pyarrow import parquet

from ingest.faults import Faults
from sizao.errors import BadInput

ROWS_MAX = 2_000_000  # five districts; each takes about 1 kB of memory meanwhile


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """The columns that a file may have, those that it must have, and those that are numbers."""

    columns: tuple[str, ...]
    needed: tuple[str, ...]
    numbers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Sheet:
    """`places` numbers the rows as the file does: lines of CSV, rows from 1 elsewhere."""

    name: str
    places: Sequence[int]
    columns: dict[str, list[str]]
    faults: Faults = field(repr=False)

    def __len__(self) -> int:
        """How many rows."""
        return len(self.places)

    def column(self, name: str) -> list[str]:
        """Cells of a column; empty ones where the file has no such column."""
        return self.columns.get(name) or [""] * len(self)

    def cells(self, name: str) -> Iterator[tuple[int, str]]:
        """Place and content of each cell of a column."""
        return zip(self.places, self.column(name), strict=True)


def read(path: Path, layout: Layout) -> Sheet:
    """Rows of a `.csv` or `.parquet` file. Raises BadInput when it is none, or lacks a column.

    Rows with a wrong number of cells are told in `faults` and left out.
    """
    if path.suffix == ".csv":
        return _read_csv(path, layout)
    if path.suffix == ".parquet":
        return _read_parquet(path, layout)
    raise BadInput(f"{path}: expected a name that ends in .csv or .parquet")


def content(path: Path) -> str:
    """Text of a UTF-8 file, with or without a byte order mark. Raises BadInput."""
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise BadInput(f"{path}: cannot be read: {error.strerror}") from error
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        hint = "; it looks like GBK" if _is_gbk(raw) else ""
        raise BadInput(f"{path}:{line}: not UTF-8{hint}; save it as UTF-8") from error


def _is_gbk(raw: bytes) -> bool:
    try:
        raw.decode("gb18030")
    except UnicodeDecodeError:
        return False
    return True


def _check_columns(faults: Faults, place: int, names: Sequence[str], layout: Layout) -> None:
    for number, name in enumerate(names):
        if name not in layout.columns:
            text = f"unknown column, expected some of {', '.join(layout.columns)}"
            faults.add(place, name or "(no name)", text, name, layout.columns)
        elif name in names[:number]:
            faults.add(place, name, "this column stands here twice")
    for name in layout.needed:
        if name not in names:
            faults.add(place, name, "no such column, expected it")
    faults.raise_any()


def _read_csv(path: Path, layout: Layout) -> Sheet:
    reader = csv.reader(io.StringIO(content(path), newline=""), strict=True)
    faults = Faults(str(path), "", layout.columns)
    try:
        head = [cell.strip() for cell in next(reader, [])]
        _check_columns(faults, 1, head, layout)
        places, rows = [], []
        began = reader.line_num
        for row in reader:
            place, began = began + 1, reader.line_num  # a cell in quotes may have many lines
            if len(row) == len(head):
                places.append(place)
                rows.append(row)
            elif row:
                faults.add(place, "(row)", f"{len(row)} cells, expected {len(head)} as in line 1")
            if len(rows) > ROWS_MAX:
                _too_long(path)
    except csv.Error as error:
        raise BadInput(f"{path}:{reader.line_num}: {error}, expected CSV with commas") from error
    turned = list(zip(*rows, strict=True)) if rows else [()] * len(head)
    columns = {
        name: [cell.strip() for cell in cells] for name, cells in zip(head, turned, strict=True)
    }
    return Sheet(name=str(path), places=places, columns=columns, faults=faults)


def _read_parquet(path: Path, layout: Layout) -> Sheet:
    faults = Faults(str(path), "row ", layout.columns)
    try:
        with parquet.ParquetFile(path) as file:
            _check_columns(faults, 0, file.schema_arrow.names, layout)
            if file.metadata.num_rows > ROWS_MAX:
                _too_long(path)
            table = file.read()
    except (pa.ArrowException, OSError) as error:
        raise BadInput(f"{path}: cannot be read as Parquet: {error}") from error
    columns = {
        name: _texts(faults, name, table.column(name), number=name in layout.numbers)
        for name in table.column_names
    }
    faults.raise_any()
    places = range(1, table.num_rows + 1)
    return Sheet(name=str(path), places=places, columns=columns, faults=faults)


def _texts(faults: Faults, name: str, column: pa.ChunkedArray, *, number: bool) -> list[str]:
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    text = pa.types.is_string(kind) or pa.types.is_large_string(kind)
    if text or pa.types.is_integer(kind) or pa.types.is_null(kind):
        return ["" if cell is None else str(cell).strip() for cell in column.to_pylist()]
    if number and pa.types.is_floating(kind):
        cells = column.cast(pa.float64()).to_pylist()
        return ["" if cell is None or cell != cell else repr(cell) for cell in cells]  # noqa: PLR0124 - NaN says nothing
    faults.add(0, name, f"is of type {column.type}, expected {'numbers' if number else 'text'}")
    return []


def _too_long(path: Path) -> NoReturn:
    raise BadInput(f"{path}: over {ROWS_MAX:,} rows; import it in parts")


def write(path: Path, columns: dict[str, list[str]], layout: Layout) -> None:
    """Write rows to a `.csv` or `.parquet` file, whole or not at all. Raises BadInput, OSError."""
    if path.suffix == ".csv":
        replace(path, csv_of(columns))
    elif path.suffix == ".parquet":
        sink = io.BytesIO()
        parquet.write_table(_table(columns, layout), sink)
        replace(path, sink.getvalue())
    else:
        raise BadInput(f"{path}: expected a name that ends in .csv or .parquet")


def csv_of(columns: dict[str, list[str]]) -> bytes:
    """Rows as CSV, in UTF-8."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(zip(*columns.values(), strict=True))
    return text.getvalue().encode()


def _table(columns: dict[str, list[str]], layout: Layout) -> pa.Table:
    arrays = {
        name: pa.array([float(cell) if cell else None for cell in cells], pa.float64())
        if name in layout.numbers
        else pa.array(cells, pa.string())
        for name, cells in columns.items()
    }
    return pa.table(arrays)


def replace(path: Path, raw: bytes) -> None:
    """Write a file beside its name and rename it: a full disk leaves the older one whole."""
    fresh = path.with_name(path.name + ".new")
    fresh.write_bytes(raw)
    fresh.replace(path)
