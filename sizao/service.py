"""What every process does around its work: signals, readiness, progress, the watchdog.

A dependency that is away means degraded, not restart. The watchdog ends the process (exit 3) only
when a stage makes no progress although a fresh probe connection to its dependency succeeds: then
the client library is stuck, and start-up is recovery.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import signal
import socket
import socketserver
import threading
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, TypeVar
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from sizao import clock, log
from sizao.errors import BadInput, Retriable, SizaoError
from sizao.metrics import Metrics
from sizao.settings import HttpSettings
from sizao.system.board import Board

DONE, FAILED, BAD_INPUT, LOST_PROGRESS = 0, 1, 2, 3
"""Exit codes."""

_WATCH_S = 1.0
_STALL_S = 10.0  # an event loop that has not turned for so long is not alive
_STUCK_S = 15.0  # with `_SURE_S`, a restart and a start: progress within 45 s (tests/chaos)
_PROBE_DEADLINE_S = 5.0
_BACKOFF_S = (0.1, 5.0)
_SURE_S = 15.0  # a dependency that came back answers a probe before the longest back-off is over
_HTTP_TIMEOUT_S = 5.0
_HTTP_WHOLE_S = 10.0  # of a connection, however slowly its bytes drip in
_CONNECTIONS_MAX = 32  # at once, a thread each: a scraper, a person, a few bridges

Probe = Callable[[], Awaitable[None]]
Result = TypeVar("Result")
Door = Callable[[Mapping[str, Any]], tuple[HTTPStatus, dict[str, object]]]
"""Answers POSTs to a path: WSGI's environment in, status and JSON out. Called in a thread of the
connection; it bounds what it reads and how long it waits.
"""


class LostProgress(SizaoError):
    """A stage is stuck while its dependency answers; the process ends to be replaced."""


@dataclass(slots=True)
class Stage:
    """One thing that must move. `begin` before a wait on the dependency, `moved` after it."""

    name: str
    probe: Probe
    limit_s: float
    waiting_since_s: float | None = None
    answers_since_s: float | None = None
    moved_s: float | None = None

    def begin(self) -> None:
        """A wait on the dependency begins; does nothing while one is under way."""
        if self.waiting_since_s is None:
            self.waiting_since_s = clock.monotonic_s()

    def moved(self) -> None:
        """The wait ended: something got through."""
        self.waiting_since_s = self.answers_since_s = None
        self.moved_s = clock.monotonic_s()

    def waited_s(self, now_s: float) -> float:
        """Age of the wait under way; 0 without one."""
        return 0.0 if self.waiting_since_s is None else now_s - self.waiting_since_s


@dataclass
class Service:
    """One process. Rooms set `ready` and `facts`, and tell what passes; the pages show it. What a
    person has to hear of goes on the `board` (sizao.system), which tells the log.

    A room names what it waits for (`needs`) before it first waits: a process whose list is still
    empty would look ready.

    `/progress` speaks by lane, which is whatever flows on its own: in the bridge `alarm` and
    `telemetry`, elsewhere the topic's short name (`readings`, `alarms`, `signals`). `record_age_s`
    has `<lane>.in` and `<lane>.out` once a record passed; `oldest_unacknowledged_s` has each lane
    that holds records its source still remembers, 0 while it holds none.
    """

    name: str
    logger: log.Logger
    metrics: Metrics
    ready: dict[str, bool] = field(default_factory=dict)
    facts: dict[str, object] = field(default_factory=dict)
    progress: dict[str, float] = field(default_factory=dict)  # name -> monotonic s of last record
    oldest: dict[str, float | None] = field(default_factory=dict)  # lane -> monotonic s
    stages: dict[str, Stage] = field(default_factory=dict)
    doors: dict[str, Door] = field(default_factory=dict)
    board: Board = field(default_factory=Board)
    began: bool = False
    beat_s: float = 0.0

    def needs(self, *what: str) -> None:
        """Not ready until each of these is there."""
        for one in what:
            self.ready.setdefault(one, False)

    def stage(self, name: str, probe: Probe, *, limit_s: float = _STUCK_S) -> Stage:
        """Put a stage under the watchdog."""
        self.stages[name] = Stage(name, probe, limit_s)
        return self.stages[name]

    def passed(self, name: str) -> None:
        """A record went through `<lane>.in` or `<lane>.out`."""
        self.progress[name] = clock.monotonic_s()

    def holds(self, lane: str, since_s: float | None) -> None:
        """Since when a lane holds its oldest unacknowledged record: monotonic, or None."""
        self.oldest[lane] = since_s

    async def patiently(self, what: str, attempt: Callable[[], Awaitable[Result]]) -> Result:
        """Call until it does not raise Retriable, with jittered back-off up to 5 s.

        `ready[what]` tells meanwhile; the log tells down once and up once, with the duration.
        """
        began_s, delay_s, failed = clock.monotonic_s(), _BACKOFF_S[0], False
        while True:
            try:
                result = await attempt()
            except Retriable as error:
                if not failed:
                    self.logger.warning("dependency away", what=what, error=str(error))
                self.ready[what], failed = False, True
                await asyncio.sleep(delay_s * random.uniform(0.5, 1.0))  # noqa: S311 - jitter
                delay_s = min(delay_s * 2, _BACKOFF_S[1])
            else:
                if failed:
                    away_s = round(clock.monotonic_s() - began_s, 1)
                    self.logger.info("dependency back", what=what, away_s=away_s)
                self.ready[what] = True
                return result


async def watch(service: Service) -> None:
    """Raise LostProgress when a stage waits beyond its limit although fresh probes succeed."""
    while True:
        service.beat_s = clock.monotonic_s()
        for stage in service.stages.values():
            if await _stuck(stage):
                raise LostProgress(f"stage {stage.name}: no progress for {stage.limit_s:g} s")
            service.beat_s = clock.monotonic_s()  # probes of several dependencies may take long
        await asyncio.sleep(_WATCH_S)


async def _stuck(stage: Stage) -> bool:
    """Whether the dependency has answered for `_SURE_S` while the stage went on waiting."""
    if stage.waited_s(clock.monotonic_s()) <= stage.limit_s:
        return False
    answers, now_s = await _answers(stage.probe), clock.monotonic_s()
    if not answers or stage.answers_since_s is None:
        stage.answers_since_s = now_s if answers else None
        return False
    return now_s - stage.answers_since_s >= _SURE_S and stage.waited_s(now_s) > stage.limit_s


async def _answers(probe: Probe) -> bool:
    try:
        async with asyncio.timeout(_PROBE_DEADLINE_S):
            await probe()
    except (SizaoError, OSError, TimeoutError):
        return False
    return True


def run(
    name: str, http: HttpSettings, body: Callable[[Service], Awaitable[None]], wrong: str = ""
) -> int:
    """Run a process to its end; returns the exit code.

    `wrong`: what is wrong with the settings file when the last good ones are in force. SIGTERM and
    SIGINT cancel the body, which leaves nothing acknowledged that is not delivered.
    """
    service = Service(name, log.setup(name), Metrics(name))
    if wrong:
        service.facts["running_on_last_good"] = wrong
        service.logger.error("bad settings: running on the last good ones", fault=wrong)
    try:
        return asyncio.run(_main(service, http, body))
    except BadInput as error:
        # What is wrong with the file may be the cure that somebody tried for this.
        because = f"; and the settings file is not in force: {wrong}" if wrong else ""
        service.logger.error("bad input", fault=f"{error}{because}")
        return BAD_INPUT


async def _main(
    service: Service, http: HttpSettings, body: Callable[[Service], Awaitable[None]]
) -> int:
    loop = asyncio.get_running_loop()
    task = asyncio.current_task()
    assert task is not None
    stopped = False

    def stop() -> None:
        nonlocal stopped
        stopped = True
        task.cancel()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    page = Page(service, http)
    try:
        async with asyncio.TaskGroup() as group:
            watchdog = group.create_task(watch(service), name="watchdog")
            service.logger.info("started", http=f"http://{http.host}:{page.port}")
            # Set when the body waits for the first time: by then it has said what it needs.
            loop.call_soon(setattr, service, "began", True)  # noqa: FBT003 - setattr
            await body(service)
            watchdog.cancel()
    except asyncio.CancelledError:
        if not stopped:
            raise
        service.logger.info("stopped")
    except BaseExceptionGroup as group_error:
        return _verdict(service, list(_leaves(group_error)))
    finally:
        page.close()
    return DONE


def _verdict(service: Service, errors: list[BaseException]) -> int:
    """Exit code of what ended the process: the one broad catch (S17)."""
    bad = [error for error in errors if isinstance(error, BadInput)]
    if bad:
        raise BadInput("\n".join(str(error) for error in bad))
    for error in errors:
        trace = None if isinstance(error, SizaoError) else error
        service.logger.error("failed", error=f"{type(error).__name__}: {error}", exc_info=trace)
    lost = any(isinstance(error, LostProgress) for error in errors)
    return LOST_PROGRESS if lost else FAILED


def _leaves(group: BaseExceptionGroup[BaseException]) -> Iterable[BaseException]:
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _leaves(error)
        else:
            yield error


class _Server(socketserver.ThreadingMixIn, WSGIServer):
    """A thread for each connection, so many at once and each for so long, or it is cut."""

    daemon_threads = True
    request_queue_size = 2 * _CONNECTIONS_MAX

    def __init__(self, *given: Any) -> None:
        self._free = threading.BoundedSemaphore(_CONNECTIONS_MAX)
        super().__init__(*given)

    def process_request(self, request: Any, client_address: Any) -> None:
        if self._free.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        cut = threading.Timer(_HTTP_WHOLE_S, _cut, (request,))
        cut.start()
        try:
            super().process_request_thread(request, client_address)
        finally:
            cut.cancel()
            self._free.release()


def _cut(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)


class _Handler(WSGIRequestHandler):
    timeout = _HTTP_TIMEOUT_S

    def log_message(self, *_: object) -> None:
        """Scrapes are not news."""


class Page:
    """/metrics, /healthz, /readyz, /progress from a thread: it answers when the loop hangs."""

    def __init__(self, service: Service, http: HttpSettings) -> None:
        """Bind and serve. Raises BadInput when the port is taken."""
        self._service = service
        self._metrics = service.metrics.wsgi()  # type: ignore[no-untyped-call]
        try:
            self._server = _Server((http.host, http.port), _Handler)
        except OSError as error:
            raise BadInput(f"http port {http.host}:{http.port}: {error}; set another") from error
        self._server.set_app(self._answer)
        self.port = int(self._server.server_port)
        threading.Thread(target=self._server.serve_forever, name="pages", daemon=True).start()

    def close(self) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._server.server_close()

    def _answer(self, environ, start_response):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN202 - WSGI
        path = environ.get("PATH_INFO", "")
        if path == "/metrics":
            return self._metrics(environ, start_response)
        if environ.get("REQUEST_METHOD") == "POST" and path in self._service.doors:
            code, said = self._service.doors[path](environ)
            start_response(f"{code.value} {code.phrase}", [("Content-Type", "application/json")])
            return [json.dumps(said, ensure_ascii=False).encode() + b"\n"]
        pages = {"/healthz": self._health, "/readyz": self._readiness, "/progress": self._progress}
        if path not in pages:
            start_response("404 Not Found", [("Content-Type", "text/plain")])
            return [b"/metrics /healthz /readyz /progress\n"]
        good, content = pages[path]()
        status = "200 OK" if good else "503 Service Unavailable"
        start_response(status, [("Content-Type", "application/json")])
        return [json.dumps(content, ensure_ascii=False).encode() + b"\n"]

    def _health(self) -> tuple[bool, dict[str, object]]:
        stalled_s = round(clock.monotonic_s() - self._service.beat_s, 3)
        return stalled_s < _STALL_S, {"loop_turned_s_ago": stalled_s}

    def _readiness(self) -> tuple[bool, dict[str, object]]:
        ready = dict(self._service.ready)
        good = self._service.began and all(ready.values())
        return good, {"ready": {"began": self._service.began, **ready}, **self._service.facts}

    def _progress(self) -> tuple[bool, dict[str, object]]:
        now_s = clock.monotonic_s()
        ages = {name: round(now_s - at, 3) for name, at in dict(self._service.progress).items()}
        oldest = {
            lane: 0.0 if since_s is None else round(now_s - since_s, 3)
            for lane, since_s in dict(self._service.oldest).items()
        }
        waits = {
            stage.name: round(stage.waited_s(now_s), 3) for stage in self._service.stages.values()
        }
        return True, {
            "record_age_s": ages,
            "oldest_unacknowledged_s": oldest,
            "waiting_s": waits,
        }
