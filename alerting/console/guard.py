"""What stands before every request of the console: it listens to this machine only.

A page of another site in the operator's own browser is the attacker to keep out. The Host header
must name the loopback (DNS rebinding), a POST must come from our own page or be JSON, which a
foreign page cannot send without a preflight that nobody answers, and answers forbid framing and
any content from elsewhere.
"""

from __future__ import annotations

import ipaddress
import secrets
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any

from fastapi.responses import JSONResponse

from sizao.errors import BadInput

# ASGI's own words.
Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

BODY_BYTES_MAX = 16_384
_SAFE = {"GET", "HEAD"}
_NONCE_BYTES = 16
FORM = "application/x-www-form-urlencoded"
JSON = "application/json"


def loopback(host: str) -> str:
    """The address to bind. Raises BadInput for anything but the loopback."""
    if host == "localhost":
        return "127.0.0.1"
    try:
        inside = ipaddress.ip_address(host).is_loopback
    except ValueError:
        inside = False
    if not inside:
        raise BadInput(
            f"console: host: {host!r}: expected a loopback address (127.0.0.1, ::1): it has no"
            " log-in yet; reach it through ssh -L"
        )
    return host


def refusal(method: str, headers: Mapping[str, str], port: int) -> tuple[int, str] | None:
    """Status and reason of a refusal; None lets the request pass. Header names in lower case."""
    host = headers.get("host", "")
    if host not in {f"{name}:{port}" for name in ("127.0.0.1", "localhost", "[::1]")}:
        return 421, f"host {host[:100]!r} is not this console"
    if method in _SAFE:
        return None
    if method != "POST":
        return 405, "GET and POST only"
    return _post_refusal(headers, host)


def _post_refusal(headers: Mapping[str, str], host: str) -> tuple[int, str] | None:
    origin = headers.get("origin")
    if origin is not None and origin != f"http://{host}":
        return 403, "a page of another origin may not act here"
    if headers.get("sec-fetch-site", "same-origin") not in {"same-origin", "none"}:
        return 403, "a page of another site may not act here"
    kind = headers.get("content-type", "").split(";")[0].strip().lower()
    if kind not in {JSON, FORM}:
        return 415, f"expected {JSON}"
    if kind == FORM and origin is None:
        return 403, "a form without an origin: send JSON instead"
    length = headers.get("content-length", "")
    if not length.isdigit() or "transfer-encoding" in headers:
        return 411, "expected a content-length"
    return (413, f"at most {BODY_BYTES_MAX} bytes") if int(length) > BODY_BYTES_MAX else None


class Guard:
    """ASGI middleware."""

    def __init__(self, app: App, port: int) -> None:
        """`port`: where we listen."""
        self._app = app
        self._port = port

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse, or pass on with a nonce for the page's own script and style."""
        if scope["type"] != "http":
            return
        headers = {
            name.decode("latin-1"): text.decode("latin-1") for name, text in scope["headers"]
        }
        refused = refusal(scope["method"], headers, self._port)
        nonce = secrets.token_urlsafe(_NONCE_BYTES)
        scope.setdefault("state", {})["nonce"] = nonce
        sending = _with_headers(send, nonce)
        if refused is None:
            await self._app(scope, receive, sending)
        else:
            status, reason = refused
            await JSONResponse({"error": "refused", "reason": reason}, status)(
                scope, receive, sending
            )


def _with_headers(send: Send, nonce: str) -> Send:
    more = {
        "content-security-policy": (
            f"default-src 'none'; style-src 'nonce-{nonce}'; script-src 'nonce-{nonce}';"
            " connect-src 'self'; img-src data:; form-action 'self'; frame-ancestors 'none';"
            " base-uri 'none'"
        ),
        "x-content-type-options": "nosniff",
        "referrer-policy": "same-origin",
        "cross-origin-resource-policy": "same-origin",
        "cache-control": "no-store",
    }
    added = [(name.encode(), text.encode()) for name, text in more.items()]

    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message.get("headers", []), *added]}
        await send(message)

    return sending
