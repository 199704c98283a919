"""The door of alert behind a real HTTP server; only the store behind it is ours."""

import asyncio
import base64
import http.client
import io
import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import pytest

from alerting.fold import Followed, Item, Taken
from alerting.handover import Handover
from alerting.model import Nature
from alerting.series import Series
from sizao import clock, log, signal
from sizao import http as signing
from sizao.metrics import Metrics
from sizao.service import Page, Service
from sizao.settings import HttpSettings

KEY = b"k" * 32
SECRET = f"whsec_{base64.b64encode(KEY).decode()}\n"
NOTHING = Taken(recorded=(), transitions=(), followed=Followed())


class Marks:
    """Every device is real: marks need a registry."""

    async def items(self, heard):
        return [Item(signal=one, nature=Nature.REAL, arrived_us=at) for one, at in heard]


@dataclass
class Store:
    """Takes what it is given, unless a fault is laid for it."""

    taken: list = field(default_factory=list)
    faults: list = field(default_factory=list)
    gate: asyncio.Event = field(default_factory=asyncio.Event)

    async def take(self, items):
        await self.gate.wait()
        fault = self.faults.pop(0) if self.faults else None
        if callable(fault):
            fault = fault(items)
        if fault is not None:
            raise fault
        self.taken += [item.signal for item in items]
        return NOTHING


@dataclass
class DoorRig:
    service: Service
    page: Page
    store: Store
    secret_file: object

    def ask(self, body, headers, *, length=True):
        asked = http.client.HTTPConnection("127.0.0.1", self.page.port, timeout=10)
        try:
            asked.putrequest("POST", signal.HANDED_PATH)
            for name, text in headers.items():
                asked.putheader(name, text)
            if length:
                asked.putheader("Content-Length", str(len(body)))
            asked.endheaders(body)
            answer = asked.getresponse()
            return answer.status, json.loads(answer.read())
        finally:
            asked.close()

    async def post(self, *signals, key=KEY, at_s=None, body=None, **more):
        body = signal.encode_handed(signals) if body is None else body
        at_s = clock.now_us() // 1_000_000 if at_s is None else at_s
        headers = signing.signed_headers([key], "one", at_s, body)
        return await asyncio.to_thread(self.ask, body, headers, **more)

    def counted(self, ended):
        name = f'sizao_alert_handover_requests_total{{ended="{ended}"}}'
        return next(
            float(line.split()[-1]) for line in self.scrape().splitlines() if line.startswith(name)
        )

    def scrape(self):
        asked = http.client.HTTPConnection("127.0.0.1", self.page.port, timeout=10)
        asked.request("GET", "/metrics")
        with asked.getresponse() as answer:
            return answer.read().decode()


@pytest.fixture(scope="module")
def pages_to_close():
    """Pages to close, together: each takes half a second to hear of it."""
    pages = []
    yield pages
    with ThreadPoolExecutor(len(pages)) as pool:
        list(pool.map(Page.close, pages))


@pytest.fixture
async def door(tmp_path, pages_to_close):
    service = Service("alert", log.setup("alert", io.StringIO()), Metrics("alert"))
    secret_file = tmp_path / "handover-key"
    secret_file.write_text(SECRET)
    store = Store()
    store.gate.set()
    Handover(
        service=service,
        secret_file=secret_file,
        marks=Marks(),
        take=store.take,
        series=Series(service.metrics),
    ).open()
    page = Page(service, HttpSettings())
    pages_to_close.append(page)
    return DoorRig(service, page, store, secret_file)
