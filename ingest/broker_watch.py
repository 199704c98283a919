"""Watches the broker's own counters on a connection of its own, without a session.

It runs in the bridge, also in one that stands by, and in archive: a queue overflows while no bridge
is there, so one watcher must not be one (a dropped message is told within 15 s).
"""

from __future__ import annotations

import asyncio
import secrets
from pathlib import Path

from ingest.broker import (
    CONNECTED,
    DROPPED,
    STORED,
    TOPICS,
    UPTIME,
    Dropped,
    Kept,
    kept_of,
    number_of,
)
from ingest.kept import keep
from ingest.mqtt.client import Connection
from ingest.mqtt.settings import MqttSettings
from sizao import clock
from sizao.errors import Retriable
from sizao.service import Service
from sizao.signal import Tier
from sizao.system.board import Rule

UNWATCHED_S = 30.0
_TICK_S = 0.25
_RETURN_S = 2.0
_PACKETS_MAX = 200
_BYTES_MAX = 64 * 1024
_NO_RIGHT = (
    "no $SYS/broker/uptime comes: give the user `topic read $SYS/broker/#` in acl_file,"
    " and sys_interval of at most 10 in mosquitto.conf"
)


class BrokerWatch:
    """One watcher. It stops nothing and nobody waits for it."""

    def __init__(self, service: Service, settings: MqttSettings, state: Path) -> None:
        """Connects in `run`. `state` is the process's folder."""
        self._service = service
        self._settings = settings
        self._file = state / "broker.dropped"
        self._stamp = clock.Rising().now_us
        self._epoch = 0
        self._heard_s = clock.monotonic_s()
        self._why = _NO_RIGHT
        stage = f"broker.{settings.host}:{settings.port}"
        self._dropped_subject, self._unwatched = f"{stage}/dropped", f"{stage}/unwatched"
        self._dropped = Dropped(self._known())
        metrics = service.metrics
        self._gauges = {
            DROPPED: metrics.gauge("broker_dropped_messages", "since the broker's start"),
            STORED: metrics.gauge("broker_stored_bytes", "of messages that it holds"),
            CONNECTED: metrics.gauge("broker_connected_clients", "that it has now"),
        }

    def _known(self) -> Kept | None:
        try:
            return kept_of(self._file.read_text(encoding="ascii"))
        except (OSError, ValueError):
            return None

    async def run(self) -> None:
        """Watch for ever."""
        while self._settings.watch:
            try:
                connection = await self._open()
            except Retriable as error:
                self._why = str(error)[:500]
            else:
                try:
                    await self._pump(connection)
                finally:
                    connection.close()
            self._judge()
            await asyncio.sleep(_RETURN_S)

    async def _open(self) -> Connection:
        self._epoch += 1
        connection = Connection(
            self._settings,
            client_id=f"sizao-watch-{secrets.token_hex(8)}",
            epoch=self._epoch,
            stamp=self._stamp,
            session_s=0,
            retained=True,
        )
        await connection.open()
        return connection

    async def _pump(self, connection: Connection) -> None:
        self._dropped.connected()
        since_s = clock.monotonic_s()
        connection.subscribe(topic.decode() for topic in TOPICS)
        while not connection.dead:
            messages = connection.read(_PACKETS_MAX, _BYTES_MAX).messages
            connection.acknowledge(messages)
            connection.tend(clock.monotonic_s())
            connection.flush()
            for message in messages:
                self._hear(message.topic, message.payload)
            young = clock.monotonic_s() - since_s < UNWATCHED_S
            self._why = self._why if young else _NO_RIGHT
            self._judge(young=young)
            await asyncio.sleep(_TICK_S)
        self._why = connection.dead

    def _hear(self, topic: bytes, payload: bytes) -> None:
        number = number_of(payload)
        if number is None or topic not in TOPICS:
            return
        self._dropped.hear(topic, number, clock.now_us())
        if topic == UPTIME:
            self._heard_s = clock.monotonic_s()
        else:
            self._gauges[topic].set(number)

    def _judge(self, *, young: bool = False) -> None:
        """`young`: a connection on which the broker may yet tell: it begins no trouble, and what
        stands stays as it is. A broker that took each connection and cut it changed the tier, which
        is an onset of its own, with every one.
        """
        board, now_us = self._service.board, clock.now_us()
        dropped, subject = self._dropped, self._dropped_subject
        if dropped.grown():
            said = {"dropped": dropped.said - dropped.base, "total": dropped.said}
            board.say(Rule.DROPPED, subject, Tier.ALARM, now_us, said)
        stands = board.tier_of(subject) is not None
        known = dropped.settle(stands=stands, told=board.told(subject))
        if known is not None:
            self._keep(known)
        if clock.monotonic_s() - self._heard_s < UNWATCHED_S:
            board.over(self._unwatched, now_us)
        elif not young or board.tier_of(
            self._unwatched
        ):  # a broker that is away is worse than one that tells nothing
            tier = Tier.EARLY if self._why == _NO_RIGHT else Tier.ALARM
            board.say(Rule.UNWATCHED, self._unwatched, tier, now_us, {"fault": self._why})

    def _keep(self, known: Kept) -> None:
        """A full disk must not stop the watch: it costs a message told twice."""
        try:
            keep(self._file, " ".join(map(str, known)))
        except OSError as error:
            self._service.facts["not_kept.broker.dropped"] = str(error)
        else:
            self._service.facts.pop("not_kept.broker.dropped", None)
