"""Parts of roll-ups into rows of `reading_minute_part`: binary COPY, built by numpy. Pure.

A row holds a minute of up to 32 neighbouring points, an array a column: a flat row a point costs
twice the bytes, and an index on (point, minute) more than all the rest. About 0.1 us a part.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from ingest.rollup_parts import Parts
from ingest.rows import HEADER, POSTGRES_EPOCH_US, TRAILER

BLOCK_POINTS = 32
"""Points of a row: 1.6 kB, five to a page, below the 2 kB from which PostgreSQL stores apart."""
_BLOCKS_MAX = 4_096  # rows of a buffer: 11 MB
_MINUTE_US = 60_000_000

# Column, element as it travels, its type's oid.
_ARRAYS = (
    ("slot", ">i2", 21),
    ("count", ">i4", 23),
    ("low", ">f4", 700),
    ("high", ">f4", 700),
    ("total", ">f8", 701),
    ("first_us", ">i4", 23),
    ("first", ">f4", 700),
    ("last_us", ">i4", 23),
    ("last", ">f4", 700),
    ("flags", ">i2", 21),
)
COPY = (
    f"COPY reading_minute_part (block, minute, {', '.join(name for name, _, _ in _ARRAYS)})"
    " FROM STDIN (FORMAT binary)"
)
INSERT = f"""
    INSERT INTO reading_minute_part
    SELECT block, minute, array_agg(slot), array_agg(n), array_agg(low), array_agg(high),
        array_agg(total), array_agg(first_us), array_agg(first), array_agg(last_us),
        array_agg(last), array_agg(flags), {{origin}}
    FROM (
        SELECT point / {BLOCK_POINTS} AS block, minute,
            mod(point, {BLOCK_POINTS})::smallint AS slot,
            count(*)::integer AS n, min(value) AS low, max(value) AS high,
            sum(value::double precision) AS total, min(us) AS first_us,
            (array_agg(value ORDER BY us, value))[1] AS first, max(us) AS last_us,
            (array_agg(value ORDER BY us DESC, value DESC))[1] AS last, bit_or(flags) AS flags
        FROM (
            SELECT r.point, r.value, r.flags, date_trunc('minute', r.event) AS minute,
                (extract(epoch FROM r.event - date_trunc('minute', r.event)) * 1000000)::integer
                    AS us
            {{readings}}
        ) e GROUP BY point, minute
    ) m GROUP BY block, minute"""
"""Parts of rows of the database: `readings` is a FROM clause that names them `r`."""
_HEAD_BYTES = 20  # dimensions, nulls, oid, length, lower bound


def build(parts: Parts) -> Iterator[bytes]:
    """COPYs, each whole, of bounded size. `parts` are sorted by point and minute."""
    if not len(parts):
        return
    if (parts.minute != parts.minute[0]).any():  # they come sorted by point and minute
        parts = parts.at(np.argsort(parts.minute, kind="stable"))
    block, slot = np.divmod(parts.point, BLOCK_POINTS)
    other = np.ones(len(parts), np.bool_)
    other[1:] = (block[1:] != block[:-1]) | (parts.minute[1:] != parts.minute[:-1])
    begin = np.flatnonzero(other)
    size = np.diff(np.append(begin, len(parts)))
    for many in np.unique(size).tolist():
        rows = begin[size == many]
        for at in range(0, len(rows), _BLOCKS_MAX):
            yield _copy(parts, block, slot, rows[at : at + _BLOCKS_MAX], many)


def _copy(
    parts: Parts,
    block: npt.NDArray[np.int64],
    slot: npt.NDArray[np.int64],
    begin: npt.NDArray[np.int64],
    many: int,
) -> bytes:
    """Rows of `many` points each."""
    kind = _row(many)
    row = np.zeros(len(begin), kind)
    row["columns"] = 2 + len(_ARRAYS)
    row["block_size"], row["block"] = 4, block[begin]
    row["minute_size"] = 8
    row["minute"] = parts.minute[begin] * _MINUTE_US - POSTGRES_EPOCH_US
    where = begin[:, None] + np.arange(many)
    for name, element, oid in _ARRAYS:
        column = slot if name == "slot" else getattr(parts, name)
        width = np.dtype(element).itemsize
        row[f"{name}_size"] = _HEAD_BYTES + many * (4 + width)
        row[f"{name}_head"] = (1, 0, oid, many, 1)
        row[name]["size"] = width
        row[name]["item"] = column[where]
    return HEADER + row.tobytes() + TRAILER


def _row(many: int) -> np.dtype[np.void]:
    columns: list[tuple[str, object] | tuple[str, object, int]] = [
        ("columns", ">i2"),
        ("block_size", ">i4"),
        ("block", ">i4"),
        ("minute_size", ">i4"),
        ("minute", ">i8"),
    ]
    for name, element, _ in _ARRAYS:
        item = np.dtype([("size", ">i4"), ("item", element)])
        columns += [(f"{name}_size", ">i4"), (f"{name}_head", ">i4", 5), (name, item, many)]
    return np.dtype(columns)
