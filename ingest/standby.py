"""When a bridge may take its session: two processes with one id, one of which hears the broker.

    standing by -- the writer silent for `standby_s`, Kafka answering all the while --> takes over
    has it      -- told that another took it; a standby: lost in any way ------------> standing by

The broker gives a session to whoever asked last and cuts the other off, so both must not ask. A
lane that listens writes a frame a second (heartbeats): while these come, it is alive and wanted.
When they end, the process is dead, stopped, or without Kafka or broker, and the other may try.

Whoever is cut off is told so, but not always: a reset overtakes the word. So a standby waits
whatever ended its connection, and the other one takes the session back at most once.

Kafka's silence is not the writer's. A look that takes too long, because Kafka is away or because we
stood still ourselves, begins the wait anew: after an outage the active one gets to speak first.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from sizao import clock, frame, topics
from sizao.errors import BadRecord, Retriable
from sizao.kafka import Incoming, KafkaSettings, OffsetGone, Partition, Reader
from sizao.service import Service
from sizao.units import Lane

LOOK_S_MAX = 3.0
_FETCH_MS = 500
_AGAIN_S = 1.0
TAKEN_OVER = "session taken over"
"""MQTT 5's reason 142, as the connection says why it died."""


@dataclass(slots=True, kw_only=True)
class Heard:
    """The newest frame of the writer. Whoever goes on in its place goes on above both."""

    received_us: int = 0
    sequence: int = 0


@dataclass(slots=True, kw_only=True)
class Wait:
    """Since when the writer has been silent as far as we could know; monotonic seconds."""

    silent_s: float
    since_s: float
    looked_s: float

    def look(self, now_s: float, *, heard: bool) -> bool:
        """A look at the log ended; whether it is our turn."""
        blind = now_s - self.looked_s > LOOK_S_MAX
        self.looked_s = now_s
        if heard or blind:
            self.since_s = now_s
        return now_s - self.since_s >= self.silent_s


class Standby:
    """One lane's."""

    def __init__(
        self, service: Service, settings: KafkaSettings, writer: str, *, always: bool, wait_s: float
    ) -> None:
        """`always`: this is the one that waits, before its first connection too."""
        self._service = service
        self._settings = settings
        self._writer = writer
        self._lane = Lane(writer.rpartition(".")[2])
        self._always = always
        self._wait_s = wait_s

    def waits(self, why: str) -> bool:
        """Whether it may not simply connect. `why` the last connection ended, "" before a first."""
        return self._always or TAKEN_OVER in why

    async def turn(self) -> Heard:
        """Return when the session is ours to take, with what was heard meanwhile.

        Cancelled, it leaves nothing. While Kafka is away it waits: we could write nothing either.
        """
        heard, fact = Heard(), f"standing_by.{self._lane}"
        self._service.logger.info("standing by", lane=self._lane, writer=self._writer)
        self._service.facts[fact] = True
        try:
            while True:
                try:
                    await self._watch(heard)
                except (Retriable, OffsetGone):
                    await asyncio.sleep(_AGAIN_S)
                else:
                    break
        finally:
            del self._service.facts[fact]
        self._service.logger.warning("taking over", lane=self._lane, writer=self._writer)
        return heard

    async def _watch(self, heard: Heard) -> None:
        """Read from the log's end on until the writer is silent. Raises Retriable, OffsetGone."""
        pair: Partition = (topics.of_lane(self._lane).name, 0)
        reader = Reader(self._settings, [pair], client_id=f"{self._writer}-standby")
        await reader.start()
        try:
            place = end = (await reader.ends())[pair]
            reader.seek(pair, place)
            now_s = clock.monotonic_s()
            wait = Wait(silent_s=self._wait_s, since_s=now_s, looked_s=now_s)
            while True:
                records = await reader.fetch(_FETCH_MS)
                place = records[-1].offset + 1 if records else place
                found = 0
                for record in records:
                    found += self._hear(record, heard)
                # As far as the log went a look ago: of a busy one the very end is never reached.
                behind, end = place < end, (await reader.ends())[pair]
                if wait.look(clock.monotonic_s(), heard=found > 0) and not behind:
                    return
        finally:
            await reader.stop()

    def _hear(self, record: Incoming, heard: Heard) -> bool:
        """Whether a record is the writer's."""
        try:
            one = frame.decode(record.value, record.headers)
        except BadRecord:
            return False
        if one.writer != self._writer:
            return False
        heard.received_us = max(heard.received_us, one.received_us)
        heard.sequence = max(heard.sequence, one.sequence)
        return True
