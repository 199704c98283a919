"""The registry on local disk: it serves while the database is away.

One file: a JSON head line (generation, partitions, byte counts, SHA-256 of the rest), then one
Arrow IPC stream per table. Written beside and renamed, so that a crash leaves the older whole.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import pyarrow as pa

from sizao.registry.model import TABLES, Registry

_NAME = "registry.cache"


def save(registry: Registry, folder: Path) -> None:
    """Replace the cache. Raises OSError (disk full): the old cache then stays."""
    folder.mkdir(parents=True, exist_ok=True)
    parts = [_bytes(registry.tables[name]) for name in TABLES]
    body = b"".join(parts)
    head = {
        "generation": registry.generation,
        "partitions": registry.partitions,
        "bytes": [len(part) for part in parts],
        "sha256": hashlib.sha256(body).hexdigest(),
    }
    fresh = folder / f"{_NAME}.new"
    with fresh.open("wb") as file:
        file.write(json.dumps(head).encode() + b"\n" + body)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(folder / _NAME)


def restore(folder: Path) -> Registry | None:
    """The cached registry; None when there is none, or it is damaged or of another layout."""
    try:
        text = (folder / _NAME).read_bytes()
        line, _, body = text.partition(b"\n")
        head = json.loads(line)
        if hashlib.sha256(body).hexdigest() != head["sha256"]:
            return None
        tables, start = {}, 0
        for (name, schema), size in zip(TABLES.items(), head["bytes"], strict=True):
            tables[name] = pa.ipc.open_stream(body[start : start + size]).read_all()
            start += size
            if not tables[name].schema.equals(schema):
                return None
        return Registry(
            generation=int(head["generation"]), partitions=int(head["partitions"]), tables=tables
        )
    except (OSError, ValueError, KeyError, TypeError, pa.ArrowException):
        return None


def _bytes(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table)
    content: bytes = sink.getvalue().to_pybytes()
    return content
