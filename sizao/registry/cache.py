"""The registry on local disk: it serves while the database is away.

One file: the SHA-256 of the rest as a line, a JSON head line (generation, partitions, byte counts),
then one Arrow IPC stream per table. The head is hashed too: one flipped bit made generation 12 a 13
and four partitions five. Written beside and renamed, so that a crash leaves the older whole.
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
    head = {
        "generation": registry.generation,
        "partitions": registry.partitions,
        "bytes": [len(part) for part in parts],
    }
    content = json.dumps(head).encode() + b"\n" + b"".join(parts)
    fresh = folder / f"{_NAME}.new"
    with fresh.open("wb") as file:
        file.write(_hash(content) + b"\n" + content)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(folder / _NAME)


def restore(folder: Path) -> Registry | None:
    """The cached registry; None when there is none, or it is damaged or of another layout."""
    try:
        said, _, content = (folder / _NAME).read_bytes().partition(b"\n")
        if said != _hash(content):
            return None
        line, _, body = content.partition(b"\n")
        head = json.loads(line)
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


def _hash(content: bytes) -> bytes:
    return hashlib.sha256(content).hexdigest().encode()


def _bytes(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table)
    content: bytes = sink.getvalue().to_pybytes()
    return content
