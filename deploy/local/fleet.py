"""Simulated devices: many MQTT connections in one thread, each with its own identity.

paho without its threads: one selector for all sockets. A publish counts only when its PUBACK came.
"""

from __future__ import annotations

import selectors
from collections.abc import Mapping
from dataclasses import dataclass, field

from paho.mqtt import client as mqtt
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from deploy.local.failure import ServerError
from sizao.clock import monotonic_s

CONNECT_S = 10.0
HOUSEKEEPING_S = 1.0
KEEPALIVE_S = 60


@dataclass(slots=True)
class Device:
    """One connection and what it waits for."""

    client: mqtt.Client
    connected: bool = False
    published: int = 0
    acknowledged: int = 0
    refused: int = 0


@dataclass
class Fleet:
    """All connections of a simulation; use `close` when done."""

    host: str
    port: int
    devices: dict[str, Device] = field(default_factory=dict)
    _selector: selectors.BaseSelector = field(default_factory=selectors.DefaultSelector)
    _next_s: float = 0.0

    def connect(self, passwords: Mapping[str, str]) -> None:
        """Connect every user. Raises ServerError naming those that could not."""
        for name, password in passwords.items():
            self.devices[name] = self._open(name, password)
        until_s = monotonic_s() + CONNECT_S
        while any(not device.connected for device in self.devices.values()):
            if monotonic_s() > until_s:
                absent = [name for name, device in self.devices.items() if not device.connected]
                raise ServerError(f"no CONNACK within {CONNECT_S:g} s for {absent[:5]}")
            self.turn(0.05)

    def _open(self, name: str, password: str) -> Device:
        client = mqtt.Client(
            CallbackAPIVersion.VERSION2, client_id=name, protocol=mqtt.MQTTv5, userdata=name
        )
        device = Device(client)
        client.username_pw_set(name, password)

        def on_connect(
            _client: mqtt.Client,
            _data: object,
            _flags: mqtt.ConnectFlags,
            reason: ReasonCode,
            _properties: Properties | None,
        ) -> None:
            device.connected = not reason.is_failure

        def on_publish(
            _client: mqtt.Client,
            _data: object,
            _message_id: int,
            reason: ReasonCode,
            _properties: Properties,
        ) -> None:
            device.acknowledged += 1
            device.refused += reason.is_failure

        client.on_connect = on_connect
        client.on_publish = on_publish
        client.connect(self.host, self.port, keepalive=KEEPALIVE_S)
        self._selector.register(client.socket(), selectors.EVENT_READ, name)  # type: ignore[arg-type]
        return device

    def publish(self, name: str, topic: str, payload: bytes) -> None:
        """Hand over one QoS 1 message; `turn` sends it."""
        device = self.devices[name]
        if device.client.publish(topic, payload, qos=1).rc != MQTTErrorCode.MQTT_ERR_SUCCESS:
            raise ServerError(f"{name} is not connected", where=f"{self.host}:{self.port}")
        device.published += 1

    @property
    def waiting(self) -> int:
        """Messages without their PUBACK yet."""
        return sum(device.published - device.acknowledged for device in self.devices.values())

    @property
    def acknowledged(self) -> int:
        """Messages that the broker took."""
        return sum(device.acknowledged for device in self.devices.values())

    def turn(self, wait_s: float) -> None:
        """Read what came and send what waits, for at most about `wait_s` when nothing comes."""
        for key, _ in self._selector.select(wait_s):
            client = self.devices[key.data].client
            if client.loop_read() != MQTTErrorCode.MQTT_ERR_SUCCESS:
                self._selector.unregister(key.fileobj)
                self.devices[key.data].connected = False
        now_s = monotonic_s()
        if now_s >= self._next_s:
            self._next_s = now_s + HOUSEKEEPING_S
            for device in self.devices.values():
                device.client.loop_misc()
        for device in self.devices.values():
            if device.client.want_write():
                device.client.loop_write()

    def settle(self, deadline_s: float) -> None:
        """Turn until every PUBACK is there. Raises ServerError at the deadline, or when the broker
        refused a message: a PUBACK may say so.
        """
        until_s = monotonic_s() + deadline_s
        while self.waiting:
            if monotonic_s() > until_s:
                raise ServerError(f"{self.waiting} messages without PUBACK after {deadline_s:g} s")
            self.turn(0.02)
        refused = {name: one.refused for name, one in self.devices.items() if one.refused}
        if refused:
            raise ServerError(
                f"the broker refused {sum(refused.values())} messages of {sorted(refused)[:5]}",
                knob="see its access rules",
            )

    def close(self) -> None:
        """Disconnect all."""
        for device in self.devices.values():
            device.client.disconnect()
        self._selector.close()
