"""Receive from an MQTT broker, driven by our ticks, without a thread.

Packet ids mean something on one connection only, and an acknowledgement that is late must find the
dead connection, never a stranger's message on the next one: so each has an epoch. Nothing is read
between ticks, so a lane that stops calling `read` exerts back-pressure.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterable, Sequence
from itertools import repeat
from typing import NamedTuple, Protocol

from ingest.mqtt import packets
from ingest.mqtt.link import Link, open_link, tls_fault
from ingest.mqtt.message import Message
from ingest.mqtt.packets import Answer, Connack, Control, Disconnect, Version
from ingest.mqtt.settings import MqttSettings
from ingest.mqtt.stream import DUP, RETAIN, Found, Stream
from sizao import clock
from sizao.errors import Retriable

SESSION_S = 7 * 86_400  # the broker keeps the queue of an absent bridge so long
WINDOW = 65_535  # the protocol's most; the bridge bounds what it holds itself
_OPEN_DEADLINE_S = 10.0
_SUBSCRIBE_DEADLINE_S = 60.0
_POLL_S = 0.005
_UNSENT_BYTES_MAX = 1 << 20  # 260,000 acknowledgements: a broker that takes no more is none


class Stamp(Protocol):
    """Gives the first of so many instants in a row, all of them the caller's (`clock.Rising`)."""

    def __call__(self, count: int = 1) -> int:
        """Microseconds UTC."""


class Batch(NamedTuple):
    """Messages in the order in which they came; `size`: bytes of topics and payloads; `retained`:
    how many were dropped because the broker had kept them, so that they say nothing of now.
    """

    messages: list[Message]
    size: int
    retained: int


class Connection:
    """One connection, from CONNECT to its death. Not to be used again after `close`."""

    def __init__(
        self,
        settings: MqttSettings,
        *,
        client_id: str,
        epoch: int,
        stamp: Stamp,
        held: frozenset[str] = frozenset(),
        session_s: int = SESSION_S,
        mount: str = "",
        retained: bool = False,
    ) -> None:
        """Opens nothing yet.

        `stamp` gives the arrival of messages; `held`: topic filters that the session may hold from
        before. With a `session_s` of 0 it begins without a session and leaves none. `mount`: what
        the broker puts before the topics of a listener's clients; filters get it here, topics lose
        it. `retained`: what the broker has kept is wanted too.
        """
        self._settings = settings
        self._client_id = client_id
        self._epoch = epoch
        self._stamp = stamp
        self._session_s = session_s
        self._mount = mount
        self._unmounted = mount.encode()
        self._wants_retained = retained
        self._version = Version.V5 if settings.version == "5" else Version.V3
        self.held = held
        self.filters: tuple[str, ...] = ()
        self.session_present = False
        self.dead = ""
        self.heard_s = 0.0
        self._retained = 0
        self._link: Link | None = None
        self._welcomed = False
        self._stream = Stream(self._version, settings.packet_bytes_max)
        self._unsent = bytearray()
        self._asked: dict[int, list[str]] = {}
        self._asked_s = 0.0
        self._number = 0
        self._pinged_s = 0.0
        self._ping_each_s = settings.keepalive_s / 2
        self._takes_bytes = 0  # the broker's largest packet; 0: it has named none

    async def open(self) -> None:
        """Connect. Raises Retriable when that fails, in 10 s at the latest.

        Cancelled or failed, it is closed, at the latest when the system gives up connecting.
        """
        try:
            async with asyncio.timeout(_OPEN_DEADLINE_S):
                await asyncio.to_thread(self._connect)
                while not self._welcomed:
                    self.flush()
                    self.read(1, 1)
                    if self.dead:
                        raise ConnectionError(self.dead)  # noqa: TRY301 - it closes as the others do
                    await asyncio.sleep(_POLL_S)
        except (OSError, ValueError, TimeoutError) as error:
            self.close()
            raise Retriable(f"MQTT broker: {str(error) or 'no answer'}") from error
        except BaseException:
            self.close()
            raise

    def _connect(self) -> None:
        """In a thread: name resolution, TCP and TLS wait. Nothing else touches the link then."""
        settings, password = self._settings, None
        if settings.password_file is not None:
            password = settings.password_file.read_text(encoding="utf-8").strip()
        self._unsent += packets.connect(
            self._version,
            self._client_id,
            username=settings.username,
            password=password,
            keepalive_s=settings.keepalive_s,
            session_s=self._session_s,
            window=WINDOW,
        )
        self._link = open_link(settings)
        self._pinged_s = self.heard_s = clock.monotonic_s()
        if self.dead:  # given up meanwhile, nobody else will close it
            self._link.close()

    # -- subscriptions -----------------------------------------------------------------------------

    def subscribe(self, filters: Iterable[str]) -> None:
        """Ask for what is new in `filters` and give up what else the session holds; dies when the
        broker refuses or does not answer.

        The answer comes behind what the session holds, so nobody waits for it: see `subscribed`.
        Whoever has to remember `held` writes it down before the next `flush`.
        """
        wanted = tuple(self._mount + one for one in filters)
        new = [one for one in wanted if one not in self.filters]
        old = sorted(self.held.difference(wanted))
        self.filters, self.held = wanted, self.held.union(wanted)
        # SUBSCRIBE first: a topic that another filter takes over misses nothing.
        if new and not self.dead:
            number, retained = self._next_number(), self._wants_retained
            self._ask(new, packets.subscribe(self._version, number, new, retained=retained))
        if old and not self.dead:
            self._ask(old, packets.unsubscribe(self._version, self._next_number(), old))

    def _next_number(self) -> int:
        self._number = self._number % WINDOW + 1
        return self._number

    def _ask(self, filters: list[str], packet: bytes) -> None:
        if self._takes_bytes and len(packet) > self._takes_bytes:
            self._died(f"the broker takes {self._takes_bytes} bytes, a subscription {len(packet)}")
            return
        self._asked[self._number] = filters
        self._asked_s = clock.monotonic_s()
        self._unsent += packet

    @property
    def subscribed(self) -> bool:
        """Whether the broker has answered all that was asked for."""
        return bool(self.filters) and not self._asked and not self.dead

    # -- what comes --------------------------------------------------------------------------------

    def read(self, packets_max: int, bytes_max: int) -> Batch:
        """What has arrived: at most so many packets, and messages until they have so many bytes.

        The last message may go beyond `bytes_max`. Whatever the broker sends, it does not raise:
        the connection is `dead` then, and what came before is handed on all the same.
        """
        messages: list[Message] = []
        size = self._retained = 0
        while packets_max > 0 and bytes_max > size and not self.dead:
            more = self._fill()
            found = self._stream.walk(packets_max, bytes_max - size)
            messages += self._made(found)
            size += found.size
            packets_max -= found.packets
            for one in found.controls:
                self._hear(one)
            if found.fault:
                self._died(found.fault)
            if not more:
                break
        return Batch(messages, size, self._retained)

    def _fill(self) -> bool:
        """Take what has come, as far as there is room; whether there may be more."""
        free = self._stream.free
        if not free or self._link is None:
            return False
        try:
            count = self._link.read(free)
        except OSError as error:
            self._died(f"read: {self._told(error)}")
            return False
        if count:
            self._stream.filled(count)
            self.heard_s = clock.monotonic_s()
        return count == len(free)

    def _made(self, found: Found) -> Iterable[Message]:
        """Its messages. What a broker had retained when we subscribed is old, not said now: it is
        acknowledged and counted. MQTT 5 does not send it.
        """
        count = len(found.topics)
        if not count:
            return ()
        if not self._welcomed:
            self._died("protocol error: a message before CONNACK")
            return ()
        kinds = set(found.heads)  # most often one
        again = any(head & DUP for head in kinds)
        dups = (head & DUP > 0 for head in found.heads) if again else repeat(False)  # noqa: FBT003 - a column
        first_us = self._stamp(count)
        topics: Iterable[bytes] = found.topics
        if self._unmounted:
            # What the session has queued from before it had a mount point bears none.
            topics = [topic.removeprefix(self._unmounted) for topic in found.topics]
            found.size += sum(map(len, topics)) - sum(map(len, found.topics))
        made = map(
            Message,
            topics,
            found.payloads,
            range(first_us, first_us + count),
            dups,
            repeat(self._epoch),
            found.numbers,
        )
        old = not self._wants_retained and any(head & RETAIN for head in kinds)
        return self._fresh(list(made), found) if old else made

    def _fresh(self, made: list[Message], found: Found) -> list[Message]:
        old = [one for one, head in zip(made, found.heads, strict=True) if head & RETAIN]
        self._retained += len(old)
        self.acknowledge(old)
        found.size -= sum(one.size for one in old)
        return [one for one, head in zip(made, found.heads, strict=True) if not head & RETAIN]

    def _hear(self, one: Control) -> None:
        if isinstance(one, Disconnect):
            self._died(f"broker: {packets.words(one.code, one.reason)}")
        elif isinstance(one, Connack) == self._welcomed:
            what = "a second CONNACK" if self._welcomed else "an answer before CONNACK"
            self._died(f"protocol error: {what}")
        elif isinstance(one, Connack):
            self._welcome(one)
        else:
            self._answered(one)

    def _welcome(self, answer: Connack) -> None:
        why = packets.refusal(self._version, answer)
        if why:
            self._died(f"refused: {why}")
            return
        self._welcomed = True
        self.session_present = answer.session_present
        if not answer.session_present:
            self.held = frozenset()
        if answer.keepalive_s:  # sooner than we had said: the broker would take us for dead
            self._ping_each_s = min(self._ping_each_s, answer.keepalive_s / 2)
        self._takes_bytes = answer.packet_bytes_max or 0

    def _answered(self, answer: Answer) -> None:
        """SUBACK or UNSUBACK.

        What was given up is gone, unless it is wanted again by now. A refusal to give up is tried
        at the next connection; meanwhile its messages come, and are dead letters at worst.
        """
        asked = self._asked.pop(answer.number, [])
        codes = answer.codes
        if self._version is Version.V3 and not answer.of_subscribe:
            codes = bytes(len(asked))  # it can only be yes
        if not asked or len(codes) != len(asked):
            self._died("protocol error: an answer to a subscription that nobody has asked for")
        elif answer.of_subscribe:
            refused = [
                f"{one} ({packets.words(code) if code >= packets.FAILURE else f'QoS {code} only'})"
                for one, code in zip(asked, codes, strict=True)
                if code != packets.QOS
            ]
            if refused:
                self._died(f"subscription refused: {', '.join(refused)}")
        else:
            gone = {one for one, code in zip(asked, codes, strict=True) if code < packets.FAILURE}
            self.held -= gone.difference(self.filters)

    # -- what goes ---------------------------------------------------------------------------------

    def acknowledge(self, messages: Sequence[Message]) -> int:
        """Queue their PUBACKs in this order; returns of how many. The others came on an earlier
        connection, or this one is dead: the broker sends such a message again.
        """
        if self.dead:
            return 0
        ours = messages
        if messages and messages[0].epoch != self._epoch:  # they come in the order of their epochs
            ours = [one for one in messages if one.epoch == self._epoch]
        acks = packets.ACKS
        self._unsent += b"".join([acks[one.packet_id] for one in ours])
        return len(ours)

    def flush(self) -> None:
        """Write what is queued, as far as the link takes it."""
        if self.dead or self._link is None or not (self._unsent or self._link.waiting):
            return
        try:
            del self._unsent[: self._link.write(self._unsent)]
        except OSError as error:
            self._fill()  # what the broker said last, e.g. that TLS lacks a certificate, says more
            self._died(f"write: {self._told(error)}")
        else:
            if len(self._unsent) > _UNSENT_BYTES_MAX:
                self._died("the broker takes no acknowledgements")

    def tend(self, now_s: float) -> None:
        """Keep alive; dies when nothing has come, not even a ping's answer, for 1.5 keep-alives.

        Bytes received are the measure. A ping goes whether we have said something meanwhile or not:
        a broker that has nothing to send shows by its answer that it is there.
        """
        if self.dead:
            return
        if now_s - self._pinged_s >= self._ping_each_s:
            self._pinged_s = now_s
            self._unsent += packets.PING
        if now_s - self.heard_s > 1.5 * self._settings.keepalive_s:
            self._died("the broker is silent")
        elif self._asked and now_s - self._asked_s > _SUBSCRIBE_DEADLINE_S:
            self._died("the broker does not answer a subscription")

    def close(self) -> None:
        """Say goodbye if that is possible at once. The session stays; nothing waits."""
        if self._welcomed:
            self._unsent += packets.GOODBYE
            self.flush()
        self._died("closed")

    def _died(self, why: str) -> None:
        self.dead = self.dead or why
        if self._link is not None:
            self._link.close()

    def _told(self, error: OSError) -> str:
        return tls_fault(error, self._settings) if isinstance(error, ssl.SSLError) else str(error)
