"""The loop behind `sizao tap`: its own connection, without a session, beside the bridge's."""

from __future__ import annotations

import asyncio
import secrets
import signal
import sys
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

from pydantic import BaseModel

from ingest import tap
from ingest.device_types.load import load as load_type
from ingest.mqtt.client import Connection, Stamp
from ingest.mqtt.message import Message
from ingest.mqtt.settings import MqttSettings
from ingest.routes import District, district
from ingest.tap import Shown, Target, Waiting
from sizao import clock
from sizao.db import DatabaseSettings, connected
from sizao.errors import BadInput, Retriable, SizaoError
from sizao.registry.load import load, newest_generation
from sizao.topics import PARTITIONS_DEFAULT

_TICK_S = 0.02
_PACKETS_MAX = 2_000
_READ_BYTES_MAX = 4 << 20  # of one tick
_POLL_S = 2.0
_RETURN_S = 1.0
_NOTES_MAX = 100  # that a terminal which stands still has not shown; the newest stay


class TapSettings(BaseModel):
    """What `sizao tap` reads of the settings file."""

    database: DatabaseSettings = DatabaseSettings()
    mqtt: MqttSettings = MqttSettings()


class Request(NamedTuple):
    """What to listen to: `device` (a key, or carrier/key), else `topic`; `document` judges it
    instead of the registry, and `document_name` stands in its faults.
    """

    device: str = ""
    carrier: str = ""
    topic: str = ""
    document: str = ""
    document_name: str = ""
    raw: bool = False
    limit: int = 0
    seconds: float = 0.0


@dataclass(slots=True)
class Totals:
    """What a tap has seen: `others` are messages of a gateway without a word of the device."""

    shown: int = 0
    refused: int = 0
    others: int = 0
    missed: int = 0


@dataclass(slots=True)
class Tap:
    """One tap. `show` prints a message, `note` a line beside them: in a thread, for both wait while
    the terminal stands still.
    """

    settings: TapSettings
    request: Request
    show: Callable[[Shown], None]
    note: Callable[[str], None]
    totals: Totals = field(default_factory=Totals)
    _district: District | None = None
    _target: Target | None = None
    _filters: tuple[str, ...] = ()
    _waiting: Waiting = field(default_factory=Waiting)
    _notes: deque[str] = field(default_factory=lambda: deque(maxlen=_NOTES_MAX))
    _arrived: asyncio.Event = field(default_factory=asyncio.Event)
    _stop: asyncio.Event = field(default_factory=asyncio.Event)
    _stamp: Stamp = field(default_factory=lambda: clock.Rising().now_us)
    _epoch: int = 0
    _heard: bool = False
    _failed: str = ""

    async def run(self) -> Totals:
        """Until it is interrupted, or has shown or waited as long as asked for.

        Raises BadInput for an unknown or ambiguous device, Retriable when the broker, or what names
        the device, is away at the start.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._stop.set)
        try:
            self._take(await self._registry())
        except Retriable as error:
            if self.request.device:
                raise
            self._say(f"without a registry: {error}")
            self._filters = (self.request.topic,)
        connection = await self._open()
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(one)
                for one in (self._listen(connection), self._tell(), self._follow())
            ]
            try:
                async with asyncio.timeout(self.request.seconds or None):
                    await self._stop.wait()
            except TimeoutError:
                pass
            for task in tasks:
                task.cancel()
        if self._failed:
            raise Retriable(self._failed)
        self.totals.missed = self._waiting.missed + len(self._waiting.messages)
        return self.totals

    # --- the registry ----------------------------------------------------------------------------

    async def _registry(self) -> District:
        async with connected(self.settings.database, "tap") as connection:
            registry = await load(connection, PARTITIONS_DEFAULT)
        return await asyncio.to_thread(district, registry.newest)

    def _take(self, fresh: District) -> None:
        """Judge by this registry from now on. Raises BadInput when it does not know the device."""
        request = self.request
        if request.device:
            self._target = tap.target(fresh.view, request.device, request.carrier)
            self._filters = self._topics(fresh, self._target)
        else:
            self._filters = (request.topic,)
        self._district = fresh

    def _topics(self, fresh: District, one: Target) -> tuple[str, ...]:
        if not self.request.document:
            return tap.filters_of(fresh, one)
        found = load_type(self.request.document, self.request.document_name)
        own = {tap.topic_of(topic.pattern.split("/"), one) for topic in found.topics}
        try:
            return tuple(sorted(own.union(tap.filters_of(fresh, one))))
        except BadInput:  # the type that it is registered under is the broken one
            return tuple(sorted(own))

    async def _follow(self) -> None:
        """Judge by each new generation, as the bridge does."""
        away = self._district is None
        while True:
            await asyncio.sleep(_POLL_S)
            known = self._district.view.generation if self._district is not None else -1
            try:
                async with connected(self.settings.database, "tap") as connection:
                    newest = await newest_generation(connection)
                if newest != known:
                    self._take(await self._registry())
                    self._say(f"registry generation {newest}")
                away = False
            except SizaoError as error:
                if not away:
                    self._say(f"registry generation {known} stays: {error}")
                away = True

    # --- the broker ------------------------------------------------------------------------------

    async def _open(self) -> Connection:
        self._epoch += 1
        connection = Connection(
            self.settings.mqtt,
            client_id=f"tap-{secrets.token_hex(8)}",
            epoch=self._epoch,
            stamp=self._stamp,
            session_s=0,
            mount=self.settings.mqtt.mount_point,
        )
        await connection.open()
        return connection

    def _read(self, connection: Connection) -> None:
        """Acknowledged at once: nobody is told of it again, and the bridge has its own."""
        messages, _, _ = connection.read(_PACKETS_MAX, _READ_BYTES_MAX)
        connection.acknowledge(messages)
        for message in messages:
            self._waiting.take(message)
            self._arrived.set()

    async def _listen(self, connection: Connection) -> None:
        while True:
            try:
                why = await self._pump(connection)
            finally:
                connection.close()
            if not self._heard:
                self._failed = f"MQTT broker: {why}"
                self._stop.set()
                return
            self._say(f"broker left ({why}); what comes until it is back is not seen")
            connection = await self._again()

    async def _pump(self, connection: Connection) -> str:
        asked: tuple[str, ...] = ()
        while not connection.dead:
            if asked != self._filters:
                asked = self._filters
                connection.subscribe(asked)
            self._read(connection)
            connection.tend(clock.monotonic_s())
            connection.flush()
            if connection.subscribed and not self._heard:
                self._heard = True
                self._say(f"listening to {' '.join(asked)}")
            await asyncio.sleep(_TICK_S)
        return connection.dead

    async def _again(self) -> Connection:
        while True:
            await asyncio.sleep(_RETURN_S)
            try:
                return await self._open()
            except Retriable:
                continue

    # --- the terminal ----------------------------------------------------------------------------

    def _say(self, text: str) -> None:
        self._notes.append(text)
        self._arrived.set()

    async def _tell(self) -> None:
        """Until it has shown as many as asked for, or nobody reads what it says."""
        try:
            while self.totals.shown < (self.request.limit or sys.maxsize):
                while self._notes:
                    await asyncio.to_thread(self.note, self._notes.popleft())
                message = self._waiting.next()
                if message is None:
                    self._arrived.clear()
                    await self._arrived.wait()
                else:
                    await self._tell_one(self._judged(message))
        except OSError:
            self._failed = "nobody reads on"
        self._stop.set()

    async def _tell_one(self, shown: Shown) -> None:
        if shown.empty and self._target is not None and not self.request.raw:
            self.totals.others += 1
            return
        await asyncio.to_thread(self.show, shown)
        self.totals.shown += 1
        self.totals.refused += bool(shown.refused)
        missed = self._waiting.missed - self.totals.missed
        if missed:
            self.totals.missed += missed
            self._say(f"{missed} more came than could be shown")

    def _judged(self, message: Message) -> Shown:
        request = self.request
        if request.document:
            key = "" if self._target is None else self._target.key
            return tap.shown_by(request.document, request.document_name, message, key)
        if self._district is None:
            return Shown(message, [], ["no registry, no --type: not judged"])
        return tap.shown(self._district, message, self._target)
