"""One lane of the bridge: its own MQTT connection, its own Kafka producer, nothing shared.

    tick: read the socket -> held -> plan -> Kafka has all of it -> PUBACK in receive order

Two tasks. `receive` reads at each tick as long as there is room, and keeps the connection alive
while there is none. `deliver` writes what has come. What is held is bounded by `Flow`; beyond it
the broker keeps the messages.
"""

from __future__ import annotations

import asyncio
import math
import random
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from ingest.decode import Decoded, shielded
from ingest.flow import SILENT_S_MAX, Flow, Held, Step, Tick, Turn
from ingest.handover import Lookout
from ingest.kept import (
    KEPT_EACH_S,
    clock_file,
    filters_file,
    filters_text,
    keep,
    kept_filters,
    kept_us,
)
from ingest.mqtt.client import Connection, Stamp
from ingest.mqtt.message import Message
from ingest.noisy import AWAY_S_MAX, Budget, Noisy
from ingest.plan import Desk, Plan, cut, heartbeat_due_s, plan
from ingest.routes import District
from ingest.series import ClockErrors, LaneSeries
from ingest.settings import BridgeSettings
from ingest.standby import Standby
from sizao import clock, kafka
from sizao.service import Service
from sizao.signal import Tier
from sizao.system.board import Rule
from sizao.units import Lane

_PACKETS_MAX = 5_000  # of one tick: 20 ms of the whole lane, so that the other gets its turn
_AHEAD_MAX = 500  # messages looked at ahead of Kafka at a time: 10 ms of the loop
_RETURN_S = 1.0


@dataclass(kw_only=True)
class Shared:
    """What both lanes see. `district` is replaced whole, between ticks."""

    service: Service
    settings: BridgeSettings
    stamp: Stamp
    district: District
    clock_errors: ClockErrors = field(default_factory=ClockErrors)
    not_before: Callable[[int], None] = lambda _: None


class LaneLoop:
    """Runs until cancelled. Then nothing is acknowledged that Kafka does not have."""

    def __init__(self, shared: Shared, lane: Lane, *, lookout: Lookout | None = None) -> None:
        """Connects in `run`. `lookout`: finds what is handed over while Kafka is silent."""
        section = shared.settings.bridge
        bound = section.alarm_bound if lane is Lane.ALARM else section.telemetry_bound
        self._shared = shared
        self._service = shared.service
        self._lane = lane
        self.lookout = lookout
        self._desk = Desk(
            bridge=section.id, lane=lane, sequence=shared.stamp(), noisy=_noisy(shared, lane)
        )
        self._flow = Flow(
            messages_max=bound.messages,
            bytes_max=bound.megabytes << 20,
            pause_s_max=shared.settings.mqtt.keepalive_s / 2,
            stops_when_silent=lane is Lane.TELEMETRY,
        )
        self._tick = Tick(section.tick_ms / 1000, section.tick_busy_ms / 1000)
        self._turn = Turn()
        self._series = LaneSeries(shared.service.metrics, lane)
        self._kafka = f"kafka.{lane}"
        self._mqtt = f"mqtt.{lane}"
        self._stage = shared.service.stage(self._kafka, partial(kafka.probe, shared.settings.kafka))
        self._producer = kafka.Producer(shared.settings.kafka, client_id=self._desk.writer)
        self._connection: Connection | None = None
        self._epoch = 0
        self._had_session = clock_file(section.state, lane).exists()
        self._filters = kept_filters(section.state, lane)
        self._kept_s = -math.inf
        self._buffer: list[Message] = []
        self._held = Held()
        self._standby = Standby(
            shared.service, shared.settings.kafka, self._desk.writer,
            always=section.standby, wait_s=section.standby_s,
        )  # fmt: skip
        self._arrived = asyncio.Event()
        self._listening = False

    async def run(self) -> None:
        """Receive and deliver for ever."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._receive(), name=f"receive.{self._lane}")
                group.create_task(self._deliver(), name=f"deliver.{self._lane}")
        finally:
            await self._producer.stop()

    # -- hand over -------------------------------------------------------------------------------

    def silent(self, now_s: float) -> bool:
        """Whether Kafka owes an answer about something a device said, for over SILENT_S_MAX."""
        return bool(self._held.messages) and self._stage.waited_s(now_s) > SILENT_S_MAX

    def look_ahead(self) -> bool:
        """Look at some of what waits behind the write under way; whether there is more."""
        assert self.lookout is not None
        upto_us = self.lookout.upto_us
        first = bisect_right(self._buffer, upto_us, key=lambda one: one.arrived_us)
        some = self._buffer[first : first + _AHEAD_MAX]
        some = some[: cut(some, self._turn.share)]
        if some:
            self._look(some, shielded(self._shared.district, self._lane, some))
        return first + len(some) < len(self._buffer)

    def _look(self, messages: Sequence[Message], decoded: Decoded) -> None:
        if self.lookout is None:
            return
        try:
            self.lookout.look(self._shared.district.view, messages, decoded)
        except Exception as error:  # noqa: BLE001 - a slip of ours here must not end the lane
            fault = f"{type(error).__name__}: {error}"[:200]
            self._service.facts[f"lookout.{self._lane}"] = fault
            self._service.logger.error("not looked at", lane=self._lane, error=fault)
            self._series.not_looked_at.inc(len(messages))

    # -- receive ---------------------------------------------------------------------------------

    async def _receive(self) -> None:
        why = ""
        while True:
            if self._standby.waits(why):
                await self._stand_by()
            connection = await self._service.patiently(self._mqtt, self._open)
            self._service.ready[self._mqtt] = False  # until subscribed
            try:
                why = await self._pump(connection)
            finally:
                self._connection, self._listening = None, False
                connection.close()
            self._service.ready[self._mqtt] = False
            self._service.logger.warning("broker left", lane=self._lane, why=why)
            await self._wait_to_return()

    async def _stand_by(self) -> None:
        """Until the session is ours to take; then go on where the other stopped."""
        self._service.ready.pop(self._mqtt, None)  # a standby that waits is as ready as can be
        heard = await self._standby.turn()
        self._shared.not_before(heard.received_us)
        self._desk.sequence = max(self._desk.sequence, heard.sequence, self._shared.stamp())
        self._had_session = self._had_session or heard.sequence > 0

    async def _open(self) -> Connection:
        """A new connection with a session. Raises Retriable; then nothing is open."""
        self._epoch += 1
        connection = Connection(
            self._shared.settings.mqtt,
            client_id=self._desk.writer,
            epoch=self._epoch,
            stamp=self._shared.stamp,
            held=self._filters,
            mount=self._shared.settings.mqtt.mount_point,
        )
        await connection.open()
        self._series.connects.inc()
        if self._had_session and not connection.session_present:
            # What the broker held for us is gone with the session: people have to know.
            self._series.sessions_lost.inc()
            self._service.facts[f"session_lost.{self._lane}"] = self._shared.stamp()
            self._service.logger.error("broker has forgotten our session", lane=self._lane)
            subject, lost = f"bridge.{self._desk.bridge}/session.{self._lane}", Rule.SESSION
            what = {"session": self._desk.writer}
            self._service.board.say(lost, subject, Tier.ALARM, clock.now_us(), what)
        self._had_session = True
        self._connection = connection
        return connection

    async def _pump(self, connection: Connection) -> str:
        """Read tick by tick until the connection dies or is left; returns why."""
        due_s, step, district = clock.monotonic_s(), Step.READ, None
        while not connection.dead:
            now_s = clock.monotonic_s()
            late_s = max(now_s - due_s, 0.0)
            self._series.tick_late.observe(late_s)
            last, step = step, self._step(now_s)
            if step is Step.LEAVE:
                self._series.leaves.inc()
                return "on purpose: no room, and a client that does not read is dropped"
            if step is Step.PAUSE and last is Step.READ:
                self._series.pauses.inc()
            if self._shared.district is not district:
                district = self._shared.district
                connection.subscribe(district.filters(self._lane))
            self._keep_filters(connection.held)
            if step is Step.READ:
                self._read(connection, now_s)
            connection.tend(now_s)
            connection.flush()
            self._listening = step is Step.READ and connection.subscribed
            if self._listening:
                self._service.ready[self._mqtt] = True
            due_s = max(clock.monotonic_s(), now_s + self._tick.next_s(late_s))
            await asyncio.sleep(due_s - clock.monotonic_s())
        return connection.dead

    def _read(self, connection: Connection, now_s: float) -> None:
        held, flow = self._held, self._flow
        packets_max = min(_PACKETS_MAX, flow.messages_max - held.messages)
        messages, size, retained = connection.read(packets_max, flow.bytes_max - held.size)
        self._series.retained.inc(retained)
        if messages:
            self._buffer += messages
            held.take(len(messages), size, now_s)
            self._arrived.set()
            self._service.passed(f"{self._lane}.in")

    def _step(self, now_s: float) -> Step:
        silent_s = self._stage.waited_s(now_s)
        if self._service.ready.get(self._kafka) and silent_s > SILENT_S_MAX:
            self._service.ready[self._kafka] = False
        self._series.held_messages.set(self._held.messages)
        self._series.held_bytes.set(self._held.size)
        self._service.holds(self._lane, self._held.oldest_s)
        return self._flow.step(self._held.messages, self._held.size, silent_s, now_s)

    async def _wait_to_return(self) -> None:
        """Full jitter, and until there is room: as much as `Flow` wants."""
        while True:
            await asyncio.sleep(random.uniform(0, _RETURN_S))  # noqa: S311 - jitter
            silent_s = self._stage.waited_s(clock.monotonic_s())
            if self._flow.may_return(self._held.messages, self._held.size, silent_s):
                return

    # -- deliver ---------------------------------------------------------------------------------

    async def _deliver(self) -> None:
        self._stage.begin()
        await self._service.patiently(self._kafka, self._producer.start)
        self._stage.moved()
        while True:
            await self._wait_for_work()
            began_s = clock.monotonic_s()
            count = cut(self._buffer, self._turn.share)
            batch, self._buffer = self._buffer[:count], self._buffer[count:]
            if self._buffer:
                self._arrived.set()
            effects = plan(
                self._desk,
                self._shared.district,
                batch,
                self._shared.stamp,
                now_s=began_s,
                listening=self._listening,
                backlog=bool(self._buffer),
            )
            self._look(effects.heard, effects.decoded)
            self._turn.took(clock.monotonic_s() - began_s, more=bool(self._buffer))
            if effects.records:
                await self._write(effects)
            else:
                await asyncio.sleep(0)  # a flood that is not decoded writes nothing for a while
            self._settle(effects)

    async def _wait_for_work(self) -> None:
        """Until a message has come, or a heartbeat is due."""
        due_s = heartbeat_due_s(self._desk, self._shared.district.view.partitions)
        # A lane that does not listen has no heartbeats to write, but may listen again soon.
        wait_s = max(due_s - clock.monotonic_s(), 0.0) if self._listening else 0.1
        try:
            async with asyncio.timeout(min(wait_s, 1.0)):
                await self._arrived.wait()
        except TimeoutError:
            pass
        self._arrived.clear()

    async def _write(self, effects: Plan) -> None:
        """Return when Kafka has everything. While it is away this waits; `receive` goes on."""
        began_s = clock.monotonic_s()
        self._stage.begin()
        await self._service.patiently(self._kafka, partial(self._producer.send, effects.records))
        self._stage.moved()
        self._series.kafka_wait.observe(clock.monotonic_s() - began_s)

    def _settle(self, effects: Plan) -> None:
        """Kafka has it: acknowledge in receive order, make room, count."""
        connection = self._connection
        if self.lookout is not None and effects.messages:
            self.lookout.settle(effects.messages[-1].arrived_us)
        told = 0
        if connection is not None:
            told = connection.acknowledge(effects.messages)
            connection.flush()
        self._series.stale_acks.inc(len(effects.messages) - told)
        self._held.settle(effects.messages)
        self._series.written(effects)
        self._shared.clock_errors.note(effects.corrected_device, effects.corrected_us)
        self._service.holds(self._lane, self._held.oldest_s)
        if effects.messages:
            self._service.passed(f"{self._lane}.out")
        if effects.frames:
            self._keep_clock()

    def _keep_clock(self) -> None:
        """Paced by monotonic time: ahead of the wall our clock all but stands still, and
        paced by that one nothing was kept, so that the next life gave out the same once more.
        """
        now_s = clock.monotonic_s()
        if now_s - self._kept_s < KEPT_EACH_S:
            return
        self._kept_s = now_s
        newest = max(self._shared.stamp(), self._desk.received_us, self._desk.sequence)
        self._keep(clock_file(self._shared.settings.bridge.state, self._lane), str(newest))

    def _keep_filters(self, held: frozenset[str]) -> None:
        """Before the broker hears of a new one, and after it has forgotten an old one."""
        if held != self._filters:
            self._filters = held
            state = self._shared.settings.bridge.state
            self._keep(filters_file(state, self._lane), filters_text(held))

    def _keep(self, file: Path, text: str) -> None:
        """A full disk must not stop the fire: it is told, and costs something at a restart only."""
        fact = f"not_kept.{file.name}"
        try:
            keep(file, text)
        except OSError as error:
            if self._service.facts.get(fact) != str(error):
                self._service.facts[fact] = str(error)
                self._service.logger.error("not kept", file=str(file), error=str(error))
        else:
            self._service.facts.pop(fact, None)


def _noisy(shared: Shared, lane: Lane) -> Noisy | None:
    """The budget of telemetry. What the broker kept while no bridge ran is held against nobody."""
    if lane is Lane.ALARM:
        return None
    section = shared.settings.bridge
    kept = kept_us(section.state)
    away_s = (shared.stamp() - kept) / 1e6 if kept else 0.0
    budget = Budget(**section.telemetry_budget.model_dump())
    return Noisy(budget, min(away_s, AWAY_S_MAX))
