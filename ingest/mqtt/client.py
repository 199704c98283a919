"""Receive from an MQTT 5 broker. The only door to paho, driven by our ticks, without a thread.

Every connection has a paho client of its own: packet ids mean something on one connection only,
and an acknowledgement that is late must find the dead client, never a stranger's message on the
next one. Nothing is read between ticks, so a lane that stops calling `read` exerts back-pressure.
"""

from __future__ import annotations

import asyncio
import select
from collections.abc import Callable, Iterable
from pathlib import Path

from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions
from pydantic import BaseModel, ConfigDict, Field

from ingest.mqtt.message import Message
from sizao import clock
from sizao.errors import Retriable

SESSION_S = 7 * 86_400  # the broker keeps the queue of an absent bridge so long
WINDOW = 65_535  # the protocol's most; the bridge bounds what it holds itself
_OPEN_DEADLINE_S = 10.0
_CONNECT_TIMEOUT_S = 5.0
_SUBSCRIBE_DEADLINE_S = 60.0
_POLL_S = 0.005
_NO_NEW_RETAINED = 2
_QOS = 1


class TlsSettings(BaseModel):
    """TLS towards the broker."""

    model_config = ConfigDict(extra="forbid")

    ca_file: Path | None = Field(default=None, description="left out: the system's authorities")


class MqttSettings(BaseModel):
    """`mqtt:` of the settings file. The password comes from a file, never from here or the log."""

    model_config = ConfigDict(extra="forbid")

    host: str = "127.0.0.1"
    port: int = Field(default=1883, ge=1, le=65535)
    username: str = "bridge"
    password_file: Path | None = None
    keepalive_s: int = Field(default=30, ge=4, le=600)
    tls: TlsSettings | None = None


class Connection:
    """One connection, from CONNECT to its death. Not to be used again after `close`."""

    def __init__(
        self,
        settings: MqttSettings,
        *,
        client_id: str,
        epoch: int,
        stamp: Callable[[], int],
        take: Callable[[Message], bool],
        held: frozenset[str] = frozenset(),
        session_s: int = SESSION_S,
    ) -> None:
        """Opens nothing yet.

        `take` gets each message, within `read`, and says whether there is room for another; `stamp`
        gives its arrival; `held`: topic filters that the session may hold from before. With a
        `session_s` of 0 it begins without a session and leaves none.
        """
        self._settings = settings
        self._epoch = epoch
        self._stamp = stamp
        self._take = take
        self._room = True
        self._session_s = session_s
        self.held = held
        self.filters: tuple[str, ...] = ()
        self.session_present = False
        self.dead = ""
        self.heard_s = 0.0
        self._connected = False
        self._asked: dict[int, list[str]] = {}
        self._asked_s = 0.0
        self._ours = False  # else a thread has the client
        self._poll = select.poll()
        self._client = paho.Client(
            CallbackAPIVersion.VERSION2,
            client_id=client_id,
            protocol=MQTTProtocolVersion.MQTTv5,
            reconnect_on_failure=False,
            manual_ack=True,
        )
        self._client.connect_timeout = _CONNECT_TIMEOUT_S
        self._client.on_connect = self._on_connect
        self._client.on_disconnect = self._on_disconnect
        self._client.on_message = self._on_message
        self._client.on_subscribe = self._on_subscribe
        self._client.on_unsubscribe = self._on_unsubscribe

    async def open(self) -> None:
        """Connect. Raises Retriable when that fails, in 10 s at the latest.

        Cancelled or failed, it is closed, at the latest when the system gives up connecting.
        """
        try:
            async with asyncio.timeout(_OPEN_DEADLINE_S):
                await asyncio.to_thread(self._connect)
                self._ours = True
                # From here on packets queue up until `flush`, instead of one system call each.
                self._client.on_socket_register_write = lambda *_: None
                await self._welcome()
        except (OSError, ValueError, TimeoutError) as error:
            self.close()
            raise Retriable(f"MQTT broker: {str(error) or 'no answer'}") from error
        except BaseException:
            self.close()
            raise

    def _connect(self) -> None:
        """In a thread: name resolution, TCP and TLS wait. Nothing else touches the client then."""
        password = None
        if self._settings.password_file is not None:
            password = self._settings.password_file.read_text(encoding="utf-8").strip()
        self._client.username_pw_set(self._settings.username, password)
        if self._settings.tls is not None:
            authorities = self._settings.tls.ca_file
            self._client.tls_set(None if authorities is None else str(authorities))
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call] # paho's
        properties.SessionExpiryInterval = self._session_s
        properties.ReceiveMaximum = WINDOW
        self._client.connect(
            self._settings.host,
            self._settings.port,
            keepalive=self._settings.keepalive_s,
            clean_start=self._session_s == 0,
            properties=properties,
        )
        socket = self._client.socket()
        if socket is None or self.dead:  # dead: given up meanwhile, nobody else will close it
            if socket is not None:
                socket.close()
            raise ConnectionError(self.dead or "closed while connecting")
        self._poll.register(socket.fileno(), select.POLLIN)

    async def _welcome(self) -> None:
        while not self._connected:
            self.read(1)
            if self.dead:
                raise ConnectionError(self.dead)
            await asyncio.sleep(_POLL_S)

    def subscribe(self, filters: Iterable[str]) -> None:
        """Ask for what is new in `filters` and give up what else the session holds; dies when the
        broker refuses or does not answer.

        The answer comes behind what the session holds, so nobody waits for it: see `subscribed`.
        Whoever has to remember `held` writes it down before the next `flush`.
        """
        wanted = tuple(filters)
        new = [one for one in wanted if one not in self.filters]
        old = sorted(self.held.difference(wanted))
        self.filters, self.held = wanted, self.held.union(wanted)
        if new and not self.dead:
            options = SubscribeOptions(qos=_QOS, retainHandling=_NO_NEW_RETAINED)
            self._ask(new, self._client.subscribe([(one, options) for one in new])[1])
        if old and not self.dead:
            self._ask(old, self._client.unsubscribe(old)[1])

    def _ask(self, filters: list[str], number: int | None) -> None:
        assert number is not None
        self._asked[number] = filters
        self._asked_s = clock.monotonic_s()

    @property
    def subscribed(self) -> bool:
        """Whether the broker has answered all that was asked for."""
        return bool(self.filters) and not self._asked and not self.dead

    def read(self, packets_max: int) -> int:
        """Hand on what has arrived, at most so many packets and while there is room for messages;
        returns how many packets it read.
        """
        count, self._room = 0, True
        while self._room and count < packets_max and not self.dead and self._readable():
            code = self._client.loop_read()
            if code != MQTTErrorCode.MQTT_ERR_SUCCESS:
                self._died(f"read: {paho.error_string(code)}")
            count += 1
        if count:
            self.heard_s = clock.monotonic_s()
        return count

    def _readable(self) -> bool:
        socket = self._client.socket()
        if socket is None:
            self._died("socket closed")
            return False
        pending = getattr(socket, "pending", None)  # TLS holds decrypted bytes of its own
        return bool(self._poll.poll(0)) or (pending is not None and pending() > 0)

    def acknowledge(self, message: Message) -> bool:
        """Queue a PUBACK; False when the message came on another connection or this one is dead.

        The broker sends such a message again.
        """
        if self.dead or message.epoch != self._epoch:
            return False
        if message.packet_id:
            self._client.ack(message.packet_id, _QOS)
        return True

    def flush(self) -> None:
        """Write what is queued, as far as the socket takes it."""
        if self._ours and not self.dead and self._client.want_write():
            code = self._client.loop_write()
            if code != MQTTErrorCode.MQTT_ERR_SUCCESS:
                self._died(f"write: {paho.error_string(code)}")

    def tend(self, now_s: float) -> None:
        """Keep alive; dies when nothing has come, not even a ping's answer, for 1.5 keep-alives.

        paho's own `is_connected` stays true after some losses, so bytes received are the measure.
        """
        if self.dead:
            return
        code = self._client.loop_misc()
        if code != MQTTErrorCode.MQTT_ERR_SUCCESS:
            self._died(f"keep-alive: {paho.error_string(code)}")
        elif now_s - self.heard_s > 1.5 * self._settings.keepalive_s:
            self._died("the broker is silent")
        elif self._asked and now_s - self._asked_s > _SUBSCRIBE_DEADLINE_S:
            self._died("the broker does not answer a subscription")

    def close(self) -> None:
        """Say goodbye if that is possible at once. The session stays; nothing waits."""
        if not self.dead and self._ours:
            self._client.disconnect()
            self.flush()
        self._died("closed")

    def _died(self, why: str) -> None:
        self.dead = self.dead or why
        socket = self._client.socket()
        if socket is not None and self._ours:
            socket.close()

    def _on_connect(
        self,
        _client: paho.Client,
        _user: object,
        flags: paho.ConnectFlags,
        code: ReasonCode,
        _properties: Properties | None,
    ) -> None:
        if code.is_failure:
            self._died(f"refused: {code}")
        self.session_present = flags.session_present
        if not flags.session_present:
            self.held = frozenset()
        self._connected = True
        self.heard_s = clock.monotonic_s()

    def _on_disconnect(
        self,
        _client: paho.Client,
        _user: object,
        flags: paho.DisconnectFlags,
        code: ReasonCode,
        _properties: Properties | None,
    ) -> None:
        side = "broker" if flags.is_disconnect_packet_from_server else "connection"
        self.dead = self.dead or f"{side}: {code}"

    def _on_subscribe(
        self,
        _client: paho.Client,
        _user: object,
        number: int,
        codes: list[ReasonCode],
        _properties: Properties | None,
    ) -> None:
        asked = self._asked.pop(number, [])
        refused = [
            f"{one} ({code})" for one, code in zip(asked, codes, strict=False) if code.value != _QOS
        ]
        if refused:
            self._died(f"subscription refused: {', '.join(refused)}")

    def _on_unsubscribe(
        self,
        _client: paho.Client,
        _user: object,
        number: int,
        codes: list[ReasonCode],
        _properties: Properties | None,
    ) -> None:
        """What was given up, unless it is wanted again by now. A refusal is tried at the next
        connection; meanwhile its messages come, and are dead letters at worst.
        """
        asked = self._asked.pop(number, [])
        gone = {one for one, code in zip(asked, codes, strict=False) if not code.is_failure}
        self.held -= gone.difference(self.filters)

    def _on_message(self, _client: paho.Client, _user: object, found: paho.MQTTMessage) -> None:
        self._room = self._take(
            Message(
                found._topic,  # noqa: SLF001 - the bytes; `topic` would decode them at each access
                bytes(found.payload),
                self._stamp(),
                found.dup,
                self._epoch,
                found.mid if found.qos else 0,
            )
        )
