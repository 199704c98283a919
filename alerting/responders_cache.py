"""The responders on local disk: they serve while the database is away.

One file of the responder table as it is (names, areas, channels with their addresses; secrets stay
in the files that a channel names): the SHA-256 of the rest as a line, then JSON. Addresses may be
telephone numbers, so only its owner may read it. Written beside and renamed, so that a crash leaves
the older whole.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import msgspec

from alerting.policy import Responder
from alerting.responders import Directory
from sizao.errors import SizaoError

_NAME = "responders.cache"
_MODE = 0o600


class _File(msgspec.Struct, forbid_unknown_fields=True):
    version: int
    responders: list[Responder]
    addresses: list[tuple[str, dict[str, object]]]


def save(directory: Directory, folder: Path) -> None:
    """Replace the cache. Raises OSError (disk full): the old cache then stays."""
    kept = _File(
        version=directory.version,
        responders=list(directory.responders),
        addresses=[(name, entry) for (name, _), entry in directory.addresses.items()],
    )
    content = msgspec.json.encode(kept)
    folder.mkdir(parents=True, exist_ok=True)
    fresh = folder / f"{_NAME}.new"
    fresh.unlink(missing_ok=True)
    handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _MODE)
    with os.fdopen(handle, "wb") as file:
        file.write(_hash(content) + b"\n" + content)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(folder / _NAME)


def restore(folder: Path) -> Directory | None:
    """The cached directory; None when there is none, or it is damaged or of another layout."""
    try:
        said, _, content = (folder / _NAME).read_bytes().partition(b"\n")
        if said != _hash(content):
            return None
        kept = msgspec.json.decode(content, type=_File)
        return Directory(
            version=kept.version,
            responders=tuple(kept.responders),
            addresses={(name, str(entry["name"])): entry for name, entry in kept.addresses},
        )
    except (OSError, ValueError, KeyError, SizaoError):
        return None


def _hash(content: bytes) -> bytes:
    return hashlib.sha256(content).hexdigest().encode()
