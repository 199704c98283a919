"""The only door to httpx: outgoing HTTP with one deadline for the whole exchange, and signatures.

Environment proxies and redirects are off: a webhook goes where it was told or nowhere. Requests
are signed as Standard Webhooks says: HMAC-SHA256 over `id.timestamp.body`.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import hmac
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx

from sizao.errors import BadInput, Retriable


class NoConnection(Retriable):
    """Nothing left for the receiver: it was not reached at all."""


_RESPONSE_BYTES_MAX = 64 * 1024
_CONNECTIONS_MAX = 128
SECRET_PREFIX = "whsec_"  # noqa: S105 - the prefix of the standard, not a secret
_SECRET_BYTES = (24, 64)
_SECRET_FILE_BYTES_MAX = 4_096
_SECRETS_MAX = 4
_STAMP_CHARS_MAX = 12
TOLERANCE_S = 300
"""How far a sender's clock may be off ours, as the standard's own receivers have it. A request that
is sent again within it must change nothing.
"""


def read_secrets(path: Path) -> list[bytes]:
    """Signing keys of a file. Raises BadInput naming the file, never its content."""
    try:
        with path.open(encoding="ascii") as file:
            lines = file.read(_SECRET_FILE_BYTES_MAX).split()
    except (OSError, ValueError) as error:  # ValueError: not ASCII, or a NUL in the path
        raise BadInput(f"secret file {path} cannot be read: {type(error).__name__}") from error
    keys = []
    for line in lines:
        try:
            keys.append(base64.b64decode(line.removeprefix(SECRET_PREFIX), validate=True))
        except binascii.Error:
            keys.append(b"")
        right = line.startswith(SECRET_PREFIX)
        if not right or not _SECRET_BYTES[0] <= len(keys[-1]) <= _SECRET_BYTES[1]:
            raise BadInput(f"secret file {path}: expected whsec_ and base64 of 24 to 64 bytes")
    if not 1 <= len(keys) <= _SECRETS_MAX:
        raise BadInput(f"secret file {path}: {len(keys)} secrets, expected 1 to {_SECRETS_MAX}")
    return keys


def sign(keys: Sequence[bytes], message_id: str, timestamp_s: int, body: bytes) -> str:
    """Content of `webhook-signature`: one `v1` signature per key."""
    content = f"{message_id}.{timestamp_s}.".encode() + body
    digests = (hmac.new(key, content, hashlib.sha256).digest() for key in keys)
    return " ".join(f"v1,{base64.b64encode(digest).decode()}" for digest in digests)


def signed_headers(
    keys: Sequence[bytes], message_id: str, timestamp_s: int, body: bytes
) -> dict[str, str]:
    """The three headers of a signed request."""
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp_s),
        "webhook-signature": sign(keys, message_id, timestamp_s, body),
    }


def fault_of(
    keys: Sequence[bytes], headers: Mapping[str, str], body: bytes, now_s: float
) -> str | None:
    """Why a request (lower-case headers) is not believed; None when one of `keys` signed it."""
    message_id, stamp = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
    given = headers.get("webhook-signature", "").split()
    if not message_id or not given or not (stamp.isascii() and stamp.isdigit()):
        return "not signed: expected webhook-id, webhook-timestamp and webhook-signature"
    if len(stamp) > _STAMP_CHARS_MAX or abs(int(stamp) - now_s) > TOLERANCE_S:
        return f"signed over {TOLERANCE_S} s before or after now: compare the two clocks"
    mine = sign(keys, message_id, int(stamp), body).split()
    same = [hmac.compare_digest(one.encode(), each.encode()) for one in given for each in mine]
    return None if any(same) else "signed with another secret"


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """Status, lower-case headers and at most 64 KiB of the body."""

    status: int
    headers: dict[str, str]
    body: bytes


class Client:
    """A pool of connections; use with `async with`."""

    def __init__(self) -> None:
        """Opens nothing yet."""
        self._client = httpx.AsyncClient(
            trust_env=False,
            follow_redirects=False,
            limits=httpx.Limits(
                max_connections=_CONNECTIONS_MAX, max_keepalive_connections=_CONNECTIONS_MAX // 4
            ),
        )

    async def __aenter__(self) -> Self:
        """The client itself. Names are looked up in threads of the event loop: as many as there
        are connections, else a few receivers whose name server hangs would hold up all others.
        """
        threads = ThreadPoolExecutor(_CONNECTIONS_MAX, thread_name_prefix="names")
        asyncio.get_running_loop().set_default_executor(threads)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the pool."""
        await self._client.aclose()

    async def post(
        self, url: str, *, body: bytes, headers: dict[str, str], deadline_s: float
    ) -> Response:
        """POST and read the answer within `deadline_s`, slow drips included.

        Raises NoConnection when nothing was sent, and Retriable when no whole answer came: then the
        receiver may have acted on the request.
        """
        try:
            async with (
                asyncio.timeout(deadline_s),
                self._client.stream(
                    "POST", url, content=body, headers=headers, timeout=deadline_s
                ) as response,
            ):
                return Response(
                    status=response.status_code,
                    headers={name.lower(): text for name, text in response.headers.items()},
                    body=await _bounded(response),
                )
        except TimeoutError as error:
            raise Retriable(f"no answer within {deadline_s:g} s") from error
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as error:
            raise NoConnection(f"{type(error).__name__}: {error}") from error
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
            raise Retriable(f"{type(error).__name__}: {error}") from error


async def _bounded(response: httpx.Response) -> bytes:
    body = bytearray()
    async for chunk in response.aiter_bytes():
        body += chunk[: _RESPONSE_BYTES_MAX - len(body)]
        if len(body) >= _RESPONSE_BYTES_MAX:
            break
    return bytes(body)
