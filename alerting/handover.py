"""The door for what bridges hand over while Kafka is silent: signed signals in, stored before 200.

They go the way of the log's signals: same ids, same store, same pages. A request that comes again
changes nothing, so a bridge that got no answer asks again.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import CancelledError
from enum import StrEnum
from http import HTTPStatus
from pathlib import Path
from typing import Any

from alerting.fold import Item, Taken
from alerting.intake import Marks, bare
from alerting.rows import storable
from alerting.series import STORE_REFUSED, Series
from sizao import clock, http, signal
from sizao.errors import BadInput, BadRecord, Permanent, Raced, Refused, Retriable
from sizao.metrics import Metrics
from sizao.service import Service

DEADLINE_S = 3.0
"""Of a request; a bridge waits for 4 s."""
AT_ONCE = 4
_LENGTH_DIGITS_MAX = 9
OFF = "off: alert.handover is not set, so no bridge can hand over"

Answer = tuple[HTTPStatus, dict[str, object]]
Take = Callable[[Sequence[Item]], Awaitable[Taken]]
"""Store signals; returns when they are durable. Raises Raced, Refused, Retriable."""


class Ended(StrEnum):
    """How a request ended: the closed label of its counter."""

    STORED = "stored"
    UNAUTHORIZED = "unauthorized"
    MALFORMED = "malformed"
    TOO_LARGE = "too_large"
    BUSY = "busy"
    NOT_STORED = "not_stored"
    NO_SECRET = "no_secret"  # noqa: S105 - a label; our secret file cannot be read


class HandoverSeries:
    """What the door counts."""

    def __init__(self, metrics: Metrics) -> None:
        """Registers them, every label at once."""
        self.requests = metrics.reasons("handover_requests", "by their end", "ended", Ended)
        self.signals = metrics.counter("handover_signals", "signals handed over, repeats included")


class Handover:
    """One door of one process."""

    def __init__(
        self, *, service: Service, secret_file: Path, marks: Marks, take: Take, series: Series
    ) -> None:
        """`take` is all that this needs of the store."""
        self._service = service
        self._secret_file = secret_file
        self._marks = marks
        self._take = take
        self._series = series
        self._counts = HandoverSeries(service.metrics)
        self._room = threading.BoundedSemaphore(AT_ONCE)

    def open(self) -> None:
        """Serve from now on; called in the loop that the store works in."""
        self._loop = asyncio.get_running_loop()
        self._service.facts["handover"] = "open"
        self._service.doors[signal.HANDED_PATH] = self._door

    def _door(self, environ: Mapping[str, Any]) -> Answer:
        """In a thread of the connection. A body that fits is read and believed before it takes a
        place: four strangers who dripped theirs once held all of them.
        """
        length = environ.get("CONTENT_LENGTH", "")
        if not (length.isascii() and length.isdigit()):
            fault = "expected a Content-Length"
            return self._end(Ended.MALFORMED, HTTPStatus.LENGTH_REQUIRED, fault)
        if len(length) > _LENGTH_DIGITS_MAX or int(length) > signal.HANDED_BYTES_MAX:
            fault = f"{signal.HANDED_BYTES_MAX} bytes fit"
            return self._end(Ended.TOO_LARGE, HTTPStatus.REQUEST_ENTITY_TOO_LARGE, fault)
        body = environ["wsgi.input"].read(int(length))
        if len(body) < int(length):
            fault = f"{len(body)} bytes of {length} came"
            return self._end(Ended.MALFORMED, HTTPStatus.BAD_REQUEST, fault)
        now_us = clock.now_us()
        try:
            keys = http.read_secrets(self._secret_file)  # each time: a rotation is a file
        except BadInput as error:
            return self._end(Ended.NO_SECRET, HTTPStatus.SERVICE_UNAVAILABLE, str(error))
        stranger = http.fault_of(keys, _headers(environ), body, now_us / 1e6)
        if stranger is not None:
            return self._end(Ended.UNAUTHORIZED, HTTPStatus.UNAUTHORIZED, stranger)
        if not self._room.acquire(blocking=False):
            fault = f"{AT_ONCE} requests are served; come again in a second"
            return self._end(Ended.BUSY, HTTPStatus.TOO_MANY_REQUESTS, fault)
        try:
            return self._in_loop(body, now_us)
        finally:
            self._room.release()

    def _in_loop(self, body: bytes, now_us: int) -> Answer:
        async def within() -> Answer:
            async with asyncio.timeout(DEADLINE_S):
                return await self._request(body, now_us)

        future = asyncio.run_coroutine_threadsafe(within(), self._loop)
        try:
            return future.result(DEADLINE_S + 1)  # the loop may hang, or be over
        except (TimeoutError, CancelledError):
            future.cancel()
            fault = f"not stored within {DEADLINE_S:g} s"
            return self._end(Ended.NOT_STORED, HTTPStatus.SERVICE_UNAVAILABLE, fault)

    async def _request(self, body: bytes, now_us: int) -> Answer:
        """Cancelled at the deadline: the transaction under way is rolled back or stands whole."""
        try:
            found, faults = signal.decode_handed(body)
        except BadRecord as error:
            return self._end(Ended.MALFORMED, HTTPStatus.BAD_REQUEST, str(error))
        for one in faults:
            self._series.bad.add(one.reason)
        items = await self._marks.items([(storable(one), now_us) for one in found])
        try:
            refused = await self._store(items)
        except (Retriable, Permanent) as error:
            return self._end(Ended.NOT_STORED, HTTPStatus.SERVICE_UNAVAILABLE, str(error))
        self._counts.requests.add(Ended.STORED)
        self._counts.signals.inc(len(found))
        self._service.passed("handover.in")
        lost = len(faults) + refused
        return HTTPStatus.OK, {"stored": len(found) - refused, "refused": lost}

    def _end(self, ended: Ended, status: HTTPStatus, fault: str) -> Answer:
        self._counts.requests.add(ended)
        self._service.logger.warning("hand-over refused", ended=ended, fault=fault)
        return status, {"fault": fault}

    async def _store(self, items: Sequence[Item]) -> int:
        """Store all, else one by one, else bare; how many the store never takes."""
        if not items:
            return 0
        try:
            await self._once(items)
        except Refused:
            return sum([await self._alone(item) for item in items])
        return 0

    async def _alone(self, item: Item) -> int:
        for one in (item, bare(item)):
            try:
                await self._once([one])
            except Refused as error:
                fault = str(error)
            else:
                return 0
        self._series.bad.add(STORE_REFUSED)
        self._service.logger.error("handed over, not stored", id=item.signal.id, error=fault)
        return 1

    async def _once(self, items: Sequence[Item]) -> None:
        try:
            await self._take(items)
        except Raced:  # the log brought the same incident in the same moment: now it is there
            await self._take(items)


def _headers(environ: Mapping[str, Any]) -> dict[str, str]:
    return {
        name.removeprefix("HTTP_").replace("_", "-").lower(): text
        for name, text in environ.items()
        if name.startswith("HTTP_")
    }
