"""A receiver that misbehaves as told, a small district, and the processes of the alerting room."""

from __future__ import annotations

import contextlib
import os
import signal as os_signal
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pyarrow as pa

from alerting.compose import Composer
from alerting.fold import Item
from alerting.model import Nature
from alerting.place import place_of
from alerting.policy import Responder
from alerting.responders import Directory
from sizao import clock
from sizao import signal as signals
from sizao.db import Connection, DatabaseSettings
from sizao.registry.model import FOREVER, NO_FLOOR, TABLES, Registry, View
from sizao.registry.write import AreaRow, CarrierRow, Change, DeviceRow, TypeRow, apply
from sizao.signal import Kind, Phase, Signal, Subject, SubjectType, Tier

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLNAUT2J4YpGJ8m0="
OLD_SECRET = "whsec_b2xkLW9sZC1vbGQtb2xkLW9sZC1vbGQtb2xkIQ=="
T0 = 1_760_000_000_000_000
MINUTE = 60_000_000
SITE_CODE = "S1"
BODY = '{"words": 1}'


@dataclass
class Got:
    """One request."""

    headers: dict[str, str]
    body: bytes
    path: str
    at_s: float


@dataclass
class Receiver:
    """A real HTTP server. `script` says how to answer the n-th request (from 1): a status, a pair
    of status and headers, or "hang", "reset", "drip".
    """

    script: Callable[[int, Got], object] = lambda *_: 204
    got: list[Got] = field(default_factory=list)
    arrived: threading.Condition = field(default_factory=threading.Condition)
    stopping: threading.Event = field(default_factory=threading.Event)
    port: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook"

    def wait(self, count: int, deadline_s: float = 20.0) -> list[Got]:
        """The requests so far, at least `count` of them."""
        with self.arrived:
            there = self.arrived.wait_for(lambda: len(self.got) >= count, deadline_s)
            assert there, f"{len(self.got)} requests, not {count}"
            return list(self.got)

    def answer(self, handler: BaseHTTPRequestHandler, got: Got) -> None:
        with self.arrived:
            self.got.append(got)
            number = len(self.got)
            self.arrived.notify_all()
        said = self.script(number, got)
        if said == "hang":
            self.stopping.wait(60)
        elif said == "reset":
            linger = struct.pack("ii", 1, 0)
            handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            handler.connection.close()
        elif said == "drip":
            handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n")
            while not self.stopping.wait(0.1):
                handler.wfile.write(b".")
        else:
            status, headers = said if isinstance(said, tuple) else (said, {})
            handler.send_response(status)
            for name, text in {"Content-Length": "0", **headers}.items():
                handler.send_header(name, text)
            handler.end_headers()


@contextlib.contextmanager
def receiver(script: Callable[[int, Got], object] = lambda *_: 204) -> Iterator[Receiver]:
    """A receiver on a free port of the loopback."""
    one = Receiver(script)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            headers = {name.lower(): text for name, text in self.headers.items()}
            with contextlib.suppress(OSError):
                one.answer(self, Got(headers, body, self.path, clock.monotonic_s()))

        def log_message(self, *_: object) -> None:
            pass

        def handle(self) -> None:
            with contextlib.suppress(OSError, ValueError):
                super().handle()

        def finish(self) -> None:
            with contextlib.suppress(OSError, ValueError):
                super().finish()

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        block_on_close = False

        def handle_error(self, *_: object) -> None:
            pass

    server = Server(("127.0.0.1", 0), Handler)
    one.port = server.server_port
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield one
    finally:
        one.stopping.set()
        server.shutdown()
        server.server_close()
        thread.join()


def get_database(servers, postgres_db, folder: Path) -> DatabaseSettings:
    """Settings for the test's own database."""
    place = servers.addresses
    password = folder / "password"
    password.write_text(place.postgres_password)
    return DatabaseSettings(
        host=place.postgres_host,
        port=place.postgres_port,
        name=postgres_db.rsplit("/", 1)[1],
        user=place.postgres_user,
        password_file=str(password),
    )


async def make_district(connection: Connection) -> None:
    """One site with rooms: devices 1 to 4 (real, real, test, canary), site 4, another site 7."""
    areas = [
        AreaRow("D", "", "district", "示范区", "Demo District", 114.0, 22.6),
        AreaRow("ST", "D", "street", "坂田街道", "Bantian Street"),
        AreaRow("C1", "ST", "community", "岗头社区", "Gangtou Community"),
        AreaRow(SITE_CODE, "C1", "site", "中心围五巷8号", "No. 8 Lane 5", 114.06, 22.65),
        AreaRow("F3", SITE_CODE, "floor", "3楼", "3F"),
        AreaRow("U302", "F3", "unit", "302", "Room 302"),
        AreaRow("S2", "C1", "site", "中心围六巷1号", "No. 1 Lane 6", 114.07, 22.66),
    ]
    devices = [
        DeviceRow("heat-1", "gw", "heat", "U302"),
        DeviceRow("heat-2", "gw", "heat", "F3"),
        DeviceRow("test-3", "gw", "heat", SITE_CODE, mark="test"),
        DeviceRow("canary-4", "gw", "heat", SITE_CODE, mark="canary"),
    ]
    change = Change(
        areas=areas,
        carriers=[CarrierRow("gw")],
        types=[TypeRow("heat", "{}", [1])],
        devices=devices,
    )
    await apply(connection, change, cause="test", partitions=4)


async def ids(connection: Connection) -> tuple[int, dict[str, int]]:
    """Id of the site, and device ids by key."""
    cursor = await connection.execute("SELECT id FROM area WHERE code = 'S1'")
    (site,) = await cursor.fetchone()
    cursor = await connection.execute("SELECT key, id FROM device")
    return site, dict(await cursor.fetchall())


def make_signal(
    device=1,
    *,
    at=T0,
    onset=None,
    tier=Tier.ALARM,
    phase=Phase.RAISE,
    kind=Kind.FIRE,
    site=4,
    self_test=False,
    evidence=None,
    generation=1,
    subject=None,
    rule="heat_rise",
) -> Signal:
    return signals.make(
        rule=rule,
        rule_version=1,
        kind=kind,
        tier=tier,
        phase=phase,
        subject=Subject(type=SubjectType.DEVICE, id=subject or str(device)),
        site=site,
        device=device,
        onset_us=at if onset is None else onset,
        event_us=at,
        received_us=at,
        generation=generation,
        evidence={"baseline": 21.5, "rise_k": 6.4, "values": [27.1, 28.0]}
        if evidence is None
        else evidence,
        self_test=self_test,
    )


@contextlib.contextmanager
def process(*arguments: str, log: Path) -> Iterator[subprocess.Popen]:
    """A command of this room, killed at the end whatever happens."""
    with log.open("ab") as out:
        running = subprocess.Popen(
            [sys.executable, "-c", "from alerting.commands import app; app()", *arguments],
            stdout=out,
            stderr=out,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)},
        )
        try:
            yield running
        finally:
            if running.poll() is None:
                running.send_signal(os_signal.SIGKILL)
            running.wait(10)


def view(names: str | None = None, devices: int = 60, floor: int = NO_FLOOR, use: str = "") -> View:
    """The same district without a database: devices 1 to `devices` in room 302, every area called
    `names` if given; `floor`: number of its floor, `use` of its site.
    """
    held = {"from_gen": 1, "to_gen": FOREVER}
    nowhere = float("nan")
    areas = [
        ("D", 0, "district", "示范区", "Demo District", nowhere, nowhere),
        ("ST", 1, "street", "坂田街道", "Bantian Street", nowhere, nowhere),
        ("C1", 2, "community", "岗头社区", "Gangtou Community", nowhere, nowhere),
        ("S1", 3, "site", "中心围五巷8号", "No. 8 Lane 5", 114.06, 22.65),
        ("F3", 4, "floor", "3楼", "3F", nowhere, nowhere),
        ("U302", 5, "unit", "302", "Room 302", nowhere, nowhere),
    ]
    rows = {name: [] for name in TABLES}
    for number, (code, parent, level, zh, en, lon, lat) in enumerate(areas, 1):
        rows["area"].append(
            {
                "id": number, "parent": parent, "level": level, "code": code,
                "name_zh": names or zh, "name_en": names or en, "lon": lon, "lat": lat,
                "partition": 0 if level == "site" else -1,
                "floor": floor if level == "floor" else NO_FLOOR,
                "use": use if level == "site" else "", **held,
            }
        )  # fmt: skip
    rows["device_type"].append(
        {"id": 1, "name": names or "heat", "version": 1, "document": "", **held}
    )
    rows["carrier"].append({"id": 1, "name": "gw", "site": 0, "revoked": False, **held})
    for number in range(1, devices + 1):
        rows["device"].append(
            {
                "id": number, "key": f"heat-{number}", "carrier": 1, "device_type": 1, "area": 6,
                "site": 4, "heat_class": 0, "gas": 0, "mark": "real", "state": "in_service",
                "lon": nowhere, "lat": nowhere, **held,
            }
        )  # fmt: skip
    tables = {
        name: pa.Table.from_pylist(rows[name], schema=schema) for name, schema in TABLES.items()
    }
    return Registry(generation=1, partitions=4, tables=tables).newest


class Words:
    def render(self, notice, language, utc_offset_min):
        return BODY


def compose(*names):
    directory = Directory(
        version=1,
        responders=tuple(
            Responder(
                name=name,
                area="C1",
                kinds=frozenset(Kind),
                natures=frozenset({Nature.REAL}),
                min_tier=Tier.EARLY,
                language="zh",
                channels=("webhook",),
            )
            for name in names or ("station",)
        ),
        addresses={(name, "webhook"): {"channel": "webhook"} for name in names or ("station",)},
    )
    district = view()
    return Composer(
        view=lambda: district,
        directory=lambda: directory,
        renderers={"webhook": Words()},
        utc_offset_min=480,
    )


@cache
def _district():
    return view()


def items(*found, nature=Nature.REAL):
    return [
        Item(signal=one, nature=nature, arrived_us=T0, place=place_of(_district(), one))
        for one in found
    ]
