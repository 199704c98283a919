"""A responder's webhook receiver: verifies the Standard Webhooks signature, answers 204, remembers.

Written from the specification and independent of the sender: id.timestamp.body under HMAC-SHA256,
base64, header `v1,<signature>`; the timestamp at most five minutes away.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import threading
from dataclasses import dataclass, field
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from sizao.clock import now_us

TOLERANCE_S = 300
BODY_BYTES_MAX = 64 * 1024
KEPT_MAX = 10_000


@dataclass(frozen=True, slots=True)
class Page:
    """One accepted webhook."""

    id: str
    at_us: int
    body: dict[str, Any]

    @property
    def tier(self) -> str:
        """How sure: early, alarm or urgent."""
        return str(self.body["data"]["tier"])

    @property
    def event_us(self) -> int:
        """When what it tells happened, by the device's clock."""
        moment = datetime.fromisoformat(self.body["data"]["times"]["event"])
        return round(moment.timestamp() * 1e6)


@dataclass(slots=True)
class Pages:
    """What came, in order; refused ones are counted by reason."""

    accepted: list[Page] = field(default_factory=list)
    refused: dict[str, int] = field(default_factory=dict)
    arrived: threading.Condition = field(default_factory=threading.Condition)


def verify(secret: str, headers: dict[str, str], body: bytes, now_s: float) -> str:
    """Reason for refusal, or "" when the signature is good."""
    try:
        key = base64.b64decode(secret.removeprefix("whsec_"), validate=True)
        identity, stamp = headers["webhook-id"], headers["webhook-timestamp"]
        age_s = abs(now_s - int(stamp))
        signatures = headers["webhook-signature"].split()
    except (KeyError, ValueError):
        return "malformed"
    if age_s > TOLERANCE_S:
        return "timestamp"
    signed = f"{identity}.{stamp}.".encode() + body
    good = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
    if not any(hmac.compare_digest(one, f"v1,{good}") for one in signatures):
        return "signature"
    return ""


class Receiver:
    """An HTTP server on the loopback; use as a context manager. `secret` before the first page."""

    def __init__(self, secret: str = "", port: int = 0) -> None:
        self.pages = Pages()
        self.secret = secret
        self._server = ThreadingHTTPServer(("127.0.0.1", port), self._handler())
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}/page"

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            timeout = 10

            def do_POST(self) -> None:
                body = self.rfile.read(min(int(self.headers["content-length"]), BODY_BYTES_MAX))
                headers = {name.lower(): text for name, text in self.headers.items()}
                reason = receiver.take(headers, body, now_us())
                self.send_response(401 if reason else 204)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """The demo prints its own time line."""

        return Handler

    def take(self, headers: dict[str, str], body: bytes, at_us: int) -> str:
        """Check and remember one request; returns why it was refused, or ""."""
        reason = verify(self.secret, headers, body, at_us / 1e6)
        pages = self.pages
        with pages.arrived:
            if reason:
                pages.refused[reason] = pages.refused.get(reason, 0) + 1
            elif len(pages.accepted) < KEPT_MAX:
                pages.accepted.append(Page(headers["webhook-id"], at_us, json.loads(body)))
            pages.arrived.notify_all()
        return reason

    def wait_for(self, tier: str, deadline_s: float) -> bool:
        """Wait until a page of a tier came; False at the deadline."""
        pages = self.pages
        with pages.arrived:
            return pages.arrived.wait_for(
                lambda: any(page.tier == tier for page in pages.accepted), deadline_s
            )

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, name="receiver", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
