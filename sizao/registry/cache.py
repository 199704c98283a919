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
from typing import BinaryIO

import pyarrow as pa

from sizao.registry.model import TABLES, Registry

_NAME = "registry.cache"
_HASH_BYTES = 64  # SHA-256 in hexadecimal
_HEAD_BYTES_MAX = 4096


def save(registry: Registry, folder: Path) -> None:
    """Replace the cache. Raises OSError (disk full): the old cache then stays.

    Written piece by piece: whole in memory it was the peak of a bridge with 400,000 devices.
    """
    folder.mkdir(parents=True, exist_ok=True)
    fresh = folder / f"{_NAME}.new"
    with fresh.open("wb") as file:
        file.write(bytes(_HASH_BYTES) + b"\n")
        sink = _Hashed(file)
        sink.write(_head(registry) + b"\n")
        for name in TABLES:
            _stream(registry.tables[name], pa.PythonFile(sink, "w"))
        file.seek(0)
        file.write(sink.said())
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(folder / _NAME)


def restore(folder: Path) -> Registry | None:
    """The cached registry; None when there is none, or it is damaged or of another layout."""
    try:
        content = memoryview((folder / _NAME).read_bytes())
        start = _HASH_BYTES + 1
        if hashlib.sha256(content[start:]).hexdigest().encode() + b"\n" != content[:start]:
            return None
        end = bytes(content[start : start + _HEAD_BYTES_MAX]).index(b"\n") + start
        head = json.loads(bytes(content[start:end]))
        tables, start = {}, end + 1
        for (name, schema), size in zip(TABLES.items(), head["bytes"], strict=True):
            tables[name] = pa.ipc.open_stream(content[start : start + size]).read_all()
            start += size
            if not tables[name].schema.equals(schema):
                return None
        return Registry(
            generation=int(head["generation"]), partitions=int(head["partitions"]), tables=tables
        )
    except (OSError, ValueError, KeyError, TypeError, pa.ArrowException):
        return None


class _Hashed:
    """Writes through, and hashes; as much of a file as Arrow needs."""

    closed = False

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._hash = hashlib.sha256()

    def write(self, data: bytes | memoryview) -> int:
        self._hash.update(data)
        return self._file.write(data)

    def said(self) -> bytes:
        """The hash so far, as it stands in the file."""
        return self._hash.hexdigest().encode()


def _head(registry: Registry) -> bytes:
    sizes = []
    for name in TABLES:
        sink = pa.MockOutputStream()
        _stream(registry.tables[name], sink)
        sizes.append(sink.size())
    head = {"generation": registry.generation, "partitions": registry.partitions, "bytes": sizes}
    return json.dumps(head).encode()


def _stream(table: pa.Table, sink: pa.NativeFile) -> None:
    with pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table)
