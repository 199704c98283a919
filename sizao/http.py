"""The only door to httpx: outgoing HTTP with one deadline for the whole exchange.

Environment proxies and redirects are off: a webhook goes where it was told or nowhere.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import httpx

from sizao.errors import Retriable


class NoConnection(Retriable):
    """Nothing left for the receiver: it was not reached at all."""


_RESPONSE_BYTES_MAX = 64 * 1024
_CONNECTIONS_MAX = 128


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
