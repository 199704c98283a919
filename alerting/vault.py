"""Seals what must not be read from a dump: the only door to `cryptography` (ADR 7).

AES-256-GCM, a random nonce of 96 bits for each sealing: at 2**32 sealings under one key the chance
of a second use of one is below 2**-32 (NIST SP 800-38D, 8.3), and a district has some 10**5.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from sizao.errors import BadInput

KEY_BYTES = 32
NONCE_BYTES = 12
TAG_BYTES = 16
_ID_CHARS = 8
_MAKE = "make one with: sizao contacts key FILE"


class Vault:
    """Seals and opens under one key. `id` names the key and tells nothing about it."""

    def __init__(self, key: bytes, source: str = "the key") -> None:
        """`source` is what an error calls it."""
        assert len(key) == KEY_BYTES
        self._source = source
        self._cipher = AESGCM(_derived(key, b"seal"))
        self._tags = _derived(key, b"tag")
        self.id = _derived(key, b"id").hex()[:_ID_CHARS]

    def seal(self, plain: bytes, about: bytes) -> bytes:
        """Nonce and ciphertext; it opens with the same `about` alone."""
        nonce = os.urandom(NONCE_BYTES)
        return nonce + self._cipher.encrypt(nonce, plain, about)

    def open(self, sealed: bytes, about: bytes, key_id: str) -> bytes:
        """What was sealed. Raises BadInput for another key, or a row that somebody changed."""
        if key_id != self.id:
            raise BadInput(
                f"{self._source}: got key {self.id}, expected {key_id}, with which the contacts of"
                " the database are sealed; bring back that file, or import all again with --replace"
            )
        try:
            return self._cipher.decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], about)
        except InvalidTag as error:
            raise BadInput(
                f"a sealed contact of {about.decode(errors='replace')} does not open with its own"
                " key: the row was changed past us; import the contacts of that site again"
            ) from error

    def tag(self, plain: bytes) -> bytes:
        """The same for the same content; tells nothing to whoever lacks the key."""
        return hmac.digest(self._tags, plain, "sha256")[:TAG_BYTES]


def read(path: Path | None) -> Vault:
    """The vault of a key file: base64 of 32 bytes. Raises BadInput saying how to make one."""
    if path is None:
        raise BadInput(f"contacts.key_file: got nothing, expected a file with the key; {_MAKE}")
    where = f"contacts.key_file {path}"
    try:
        text = path.read_text("ascii").strip()
    except OSError as error:
        raise BadInput(f"{where}: cannot be read ({error.strerror}); {_MAKE}") from error
    except UnicodeDecodeError as error:
        raise BadInput(f"{where}: expected base64 of {KEY_BYTES} bytes; {_MAKE}") from error
    try:
        key = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if len(key) != KEY_BYTES:  # neither the text nor its length is told: it may be a good secret
        raise BadInput(f"{where}: expected base64 of {KEY_BYTES} bytes; {_MAKE}")
    return Vault(key, where)


def make(path: Path) -> Vault:
    """A new key file that only its owner may read. Raises BadInput, never writes over another."""
    key = os.urandom(KEY_BYTES)
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError as error:
        raise BadInput(f"{path}: is there already; a key is never written over") from error
    except OSError as error:
        raise BadInput(f"{path}: {error.strerror}; expected a folder to write a key in") from error
    with os.fdopen(handle, "wb") as file:
        file.write(base64.b64encode(key) + b"\n")
        file.flush()
        os.fsync(file.fileno())
    return Vault(key, str(path))


def _derived(key: bytes, use: bytes) -> bytes:
    """A key for each use, so that none says anything about another."""
    return hmac.digest(key, b"sizao contacts " + use, hashlib.sha256)
