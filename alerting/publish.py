"""Transitions of real incidents to `sizao.incidents.v1`, the open exchange for departments.

CloudEvents in binary mode, as a signal. Partition by incident, so one incident's versions come in
order; at least once, and `ce_id` tells a repeat.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Protocol

from alerting import notice as notices
from alerting.outbox import Record
from sizao import frame, kafka, topics
from sizao.errors import Permanent, Retriable
from sizao.kafka import KafkaSettings, Outgoing
from sizao.service import Service

_DEADLINE_S = 10.0
_HEX_DIGITS = 8


def outgoing(one: Record, partitions: int) -> Outgoing:
    """The Kafka record of a transition."""
    value = one.value.encode()
    return Outgoing(
        topic=topics.INCIDENTS.name,
        partition=int(one.incident[:_HEX_DIGITS], 16) % partitions,
        key=one.incident.encode(),
        value=value,
        headers=[
            ("ce_specversion", b"1.0"),
            ("ce_id", one.transition.encode()),
            ("ce_source", notices.CE_SOURCE.encode()),
            ("ce_type", notices.event_type(one.what).encode()),
            ("ce_subject", one.incident.encode()),
            ("ce_time", notices.iso(one.event_us).encode()),
            ("ce_dataschema", notices.CE_SCHEMA.encode()),
            ("content-type", b"application/json"),
            (frame.CRC_HEADER, frame.crc(value)),
        ],
        timestamp_ms=one.at_us // 1000,
    )


class Drain(Protocol):
    """Where records wait: `alerting.keeper`, as far as publishing needs it."""

    async def drain(self, publish: Callable[[list[Record]], Awaitable[None]]) -> int:
        """Hand the oldest records to `publish`, and forget them when it returns."""


class Publisher:
    """Drains the outbox, at once when woken and at each poll (a person's action leaves its record
    through the console). It holds up nothing else while Kafka is away.
    """

    def __init__(
        self,
        *,
        service: Service,
        keeper: Drain,
        settings: KafkaSettings,
        partitions: Callable[[], int],
        poll_s: float,
        wake: asyncio.Event,
    ) -> None:
        """Connects in `run`."""
        self._service = service
        self._keeper = keeper
        self._partitions = partitions
        self._poll_s = poll_s
        self._wake = wake
        self._producer = kafka.Producer(settings, client_id=f"{service.name}-incidents")
        self._stage = service.stage("publish", partial(kafka.probe, settings))
        self._refused = service.metrics.counter(
            "publish_refused", "Attempts to publish that Kafka refused; the records wait"
        )

    async def run(self) -> None:
        """Publish for ever. Cancelled: what was under way is published again by the next life."""
        await self._service.patiently("kafka", self._producer.start)
        try:
            while True:
                self._wake.clear()
                if not await self._service.patiently("outbox", self._drain):
                    await self._pause()
        finally:
            await self._producer.stop()

    async def _drain(self) -> int:
        asked = False

        async def send(records: list[Record]) -> None:
            nonlocal asked
            asked = True
            await self._send(records)

        try:
            return await self._keeper.drain(send)
        except Retriable:
            if not asked:  # the database is away: no wait for Kafka
                self._stage.moved()
            raise

    async def _send(self, records: list[Record]) -> None:
        count = self._partitions()
        # Not ended by a time-out: only what got through shows that the producer is not stuck.
        self._stage.begin()
        try:
            async with asyncio.timeout(_DEADLINE_S):
                await self._producer.send([outgoing(one, count) for one in records])
        except TimeoutError as error:
            raise Retriable(f"Kafka took no transition within {_DEADLINE_S:g} s") from error
        except Permanent as error:  # rights, a missing topic: no reason to end the pages
            self._refused.inc()
            self._stage.moved()
            raise Retriable(str(error)) from error
        self._stage.moved()
        self._service.passed("incidents.out")

    async def _pause(self) -> None:
        try:
            async with asyncio.timeout(self._poll_s):
                await self._wake.wait()
        except TimeoutError:
            return
