"""A load of simulated devices over many MQTT connections, and the oracle of what was acknowledged.

One thread, one epoll, raw sockets: some 12 us of CPU a message, system calls included. A message
counts only when its PUBACK came without a failure. A connection that breaks is opened again, and
what waited for its PUBACK is said again with the same device time, as a device would.

Only loopback addresses: this must never be pointed at somebody's broker.

    python -m deploy.local.load --host H --port P --users USERS.json --devices DEVICES.json
        --rate 2000 --seconds 30 [--fires N --fires-from S] [--form binary] [--ca CA.pem]
        --out OUT.npz

USERS: {"name": "password"}; DEVICES: [["carrier", ["key"]], ...], several keys for a gateway, which
packs its batches in the form. The last N devices are the burning ones. With a CA it speaks TLS.
Prints one line `started <us>` and one line of JSON at the end;
OUT has the columns device, ts_us, value, acked_us (0: never), said (how often) of every message.
SIGTERM ends the plan early: what was said until then is waited for.
"""

from __future__ import annotations

import argparse
import ipaddress
import json
import resource
import select
import signal
import socket
import ssl
import sys
import time
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from deploy.local import load_plan, load_wire
from deploy.local.failure import ServerError
from deploy.local.load_payload import Form, maker
from deploy.local.load_plan import Plan
from sizao.clock import monotonic_s, now_us

TICK_S = 0.002
IN_FLIGHT_MAX = 256  # of one connection; a real device has one or two
CONNECTIONS_MAX = 50_000
CONNECT_S = 30.0
CONNECT_EACH_S = 0.01  # longer for many: 0.1 ms of the broker's CPU, with TLS 0.6
CONNECTING_MAX = 32
"""Not answered yet. Mosquitto listens with a queue of 100; beyond it the kernel drops a SYN, which
is said again after a second: opened without a pause, 10,000 connections came in at 260 a second.
"""
SETTLE_S = 30.0
BEHIND_S = 5.0  # behind its plan by so much it is ended: this machine does not carry the rate
TURN = 1_000
"""Messages said before PUBACKs are read. Without a bound a load that the machine did not carry said
on and on, read nothing for over 30 s, and then gave up what it had not listened to.
"""
RETRY_S = 0.25
_READ_BYTES = 16_384
_SPARE_FILES = 100
_IDS = 65_535

Device = tuple[str, list[str]]
"""Carrier (MQTT user) and keys: one, or several for a gateway."""


@dataclass(slots=True)
class Link:
    """One connection. `flying`: packet identifier -> message; `queue`: not sent yet."""

    name: str
    password: str
    socket: socket.socket | None = None
    ready: bool = False
    retry_s: float = 0.0
    packet_id: int = 0
    flying: dict[int, int] = field(default_factory=dict)
    queue: deque[int] = field(default_factory=deque)
    unsent: bytes = b""
    answers: load_wire.Answers = field(default_factory=load_wire.Answers)


class Load:
    """A plan being carried out; `run` returns when every message is acknowledged, or too late."""

    def __init__(
        self,
        host: str,
        port: int,
        users: dict[str, str],
        devices: list[Device],
        plan: Plan,
        *,
        form: Form = Form.JSON,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """Nothing is opened yet. Raises ServerError for an address outside this machine."""
        self._address = (loopback(host), port)
        self._tls = tls
        if len(users) > CONNECTIONS_MAX:
            raise ServerError(f"{len(users)} connections; at most {CONNECTIONS_MAX}")
        self._links = {name: Link(name, password) for name, password in users.items()}
        self._by_file: dict[int, Link] = {}
        self._epoll = select.epoll()
        self._payload_of = [maker(keys, form) for _, keys in devices]
        self._link_of = [self._links[carrier] for carrier, _ in devices]
        self._topics = [
            _topic(carrier, keys, len(make(0.0, 0)))
            for (carrier, keys), make in zip(devices, self._payload_of, strict=True)
        ]
        self._device: list[int] = plan.device.tolist()
        self._value: list[float] = plan.value.tolist()
        self._at_us: list[int] = plan.at_us.tolist()
        self.ts_us = [0] * plan.messages
        self.acked_us = [0] * plan.messages
        self.said = bytearray(plan.messages)  # how often: again after a broken connection
        self.acknowledged = self.refused = self.reconnects = 0
        self.late_us_max = 0
        self._ended = False

    # --- connections ---------------------------------------------------------------------------

    def connect(self) -> None:
        """Open every connection. Raises ServerError naming those that got no good CONNACK."""
        files, limit = resource.getrlimit(resource.RLIMIT_NOFILE)
        wanted = len(self._links) + _SPARE_FILES
        if files < wanted:
            resource.setrlimit(resource.RLIMIT_NOFILE, (min(wanted, limit), limit))
        until_s = monotonic_s() + CONNECT_S + CONNECT_EACH_S * len(self._links)
        opening: list[Link] = []
        for link in self._links.values():
            self._open(link)
            opening.append(link)
            while len(opening) >= CONNECTING_MAX and monotonic_s() < until_s:
                self._read(0.05)
                opening = [one for one in opening if one.socket is not None and not one.ready]
        while absent := [link.name for link in self._links.values() if not link.ready]:
            if monotonic_s() > until_s:
                raise ServerError(f"{len(absent)} without CONNACK, such as {absent[:3]}")
            self._reopen()
            self._read(0.05)

    def _open(self, link: Link) -> None:
        link.retry_s = monotonic_s() + RETRY_S
        try:
            plain = socket.create_connection(self._address, timeout=CONNECT_S)
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            link.socket = plain if self._tls is None else self._secured(plain)
        except OSError:
            return
        link.socket.settimeout(0)
        link.answers = load_wire.Answers()
        link.unsent = b""
        self._by_file[link.socket.fileno()] = link
        self._epoll.register(link.socket, select.EPOLLIN)
        self._write(link, load_wire.connect(link.name, link.password))

    def _secured(self, plain: socket.socket) -> ssl.SSLSocket:
        """The handshake waits: a load measures messages, not a storm of handshakes."""
        assert self._tls is not None
        try:
            return self._tls.wrap_socket(plain, server_hostname=self._address[0])
        except OSError:
            plain.close()
            raise

    def _broken(self, link: Link) -> None:
        """Close, and put back what waits for its PUBACK, in its order."""
        if link.socket is not None:
            del self._by_file[link.socket.fileno()]
            link.socket.close()
        link.socket, link.ready = None, False
        link.queue.extendleft(reversed(link.flying.values()))
        link.flying = {}
        self.reconnects += 1

    # --- messages ------------------------------------------------------------------------------

    def _say(self, message: int) -> None:
        link = self._link_of[self._device[message]]
        self.ts_us[message] = now_us()
        if link.ready and not link.queue and not link.unsent and len(link.flying) < IN_FLIGHT_MAX:
            self._publish(link, message)
        else:
            link.queue.append(message)

    def _publish(self, link: Link, message: int) -> None:
        device = self._device[message]
        link.packet_id = packet_id = link.packet_id % _IDS + 1
        self.said[message] = min(self.said[message] + 1, 255)
        payload = self._payload_of[device](self._value[message], self.ts_us[message])
        link.flying[packet_id] = message
        self._write(link, self._topics[device].publish(packet_id, payload))

    def _write(self, link: Link, data: bytes) -> None:
        assert link.socket is not None
        try:
            sent = link.socket.send(data)
        except (BlockingIOError, ssl.SSLWantWriteError):
            sent = 0
        except OSError:
            self._broken(link)
            return
        if sent < len(data):
            link.unsent = data[sent:]
            self._epoll.modify(link.socket, select.EPOLLIN | select.EPOLLOUT)

    def _read(self, wait_s: float) -> None:
        """Take what came, once round all connections that have something."""
        answered_us = 0
        for file, events in self._epoll.poll(wait_s):
            link = self._by_file.get(file)
            if link is None:
                continue
            if events & select.EPOLLOUT and link.socket is not None:
                self._epoll.modify(link.socket, select.EPOLLIN)
                rest, link.unsent = link.unsent, b""
                self._write(link, rest)
            if events & ~select.EPOLLOUT:
                answered_us = answered_us or now_us()
                self._take(link, answered_us)
            self._drain(link)

    def _take(self, link: Link, answered_us: int) -> None:
        if link.socket is None:
            return
        try:
            data = _received(link.socket)
        except (BlockingIOError, ssl.SSLWantReadError):
            return
        except OSError:
            data = b""
        if not data:
            self._broken(link)
            return
        for kind, packet_id, reason in link.answers.feed(data):
            if kind == load_wire.PUBACK:
                message = link.flying.pop(packet_id)
                if reason < load_wire.FAILURE:
                    self.acked_us[message] = answered_us
                    self.acknowledged += 1
                else:
                    self.refused += 1
            elif kind == load_wire.CONNACK and reason < load_wire.FAILURE:
                link.ready = True
            elif kind == load_wire.CONNACK:
                raise ServerError(f"the broker refuses {link.name}: reason {reason:#x}")

    def _drain(self, link: Link) -> None:
        while link.queue and link.ready and not link.unsent and len(link.flying) < IN_FLIGHT_MAX:
            self._publish(link, link.queue.popleft())

    # --- the load ------------------------------------------------------------------------------

    def run(self) -> None:
        """Say every message at its time, then wait for the last PUBACKs (at most 30 s).

        Ends early when it is 5 s behind its plan, as if told to `end`.
        """
        began_us, total, said = now_us(), len(self._at_us), 0
        until_s = monotonic_s() + SETTLE_S
        while self.acknowledged + self.refused < total and monotonic_s() <= until_s:
            due_us, first = now_us() - began_us, said
            total = said if self._ended else total
            if said < total:
                late_us = due_us - self._at_us[said]
                self.late_us_max = max(self.late_us_max, late_us)
                if late_us > BEHIND_S * load_plan.SECOND_US:
                    self.end()
            while said < min(total, first + TURN) and self._at_us[said] <= due_us:
                self._say(said)
                said += 1
            self._reopen()
            if said < first + TURN:
                time.sleep(TICK_S)
            self._read(0)
            if said < total:
                until_s = monotonic_s() + SETTLE_S

    def end(self) -> None:
        """Say no more of the plan; `run` waits for the PUBACKs of what was said."""
        self._ended = True

    def _reopen(self) -> None:
        if len(self._by_file) == len(self._links):
            return
        now_s = monotonic_s()
        for link in self._links.values():
            if link.socket is None and now_s >= link.retry_s:
                self._open(link)

    def close(self) -> None:
        """Leave."""
        for link in self._links.values():
            if link.socket is not None:
                link.socket.close()
        self._epoll.close()


def _received(one: socket.socket) -> bytes:
    """What is there; of TLS every record that is: epoll does not see decrypted bytes."""
    data = one.recv(_READ_BYTES)
    while isinstance(one, ssl.SSLSocket) and one.pending():
        data += one.recv(_READ_BYTES)
    return data


def _topic(carrier: str, keys: list[str], size: int) -> load_wire.Topic:
    if len(keys) == 1:
        return load_wire.Topic.of(f"up/{carrier}/telemetry/{keys[0]}", size)
    return load_wire.Topic.of(f"up/{carrier}/telemetry", size)


def loopback(host: str) -> str:
    """The address, if it is this machine's own. Raises ServerError otherwise."""
    try:
        if ipaddress.ip_address(host).is_loopback:
            return host
    except ValueError:
        pass
    raise ServerError(f"{host!r} is no loopback address; a load stays on this machine")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m deploy.local.load")
    parser.add_argument("--host", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--users", type=Path, required=True, help="JSON: name to password")
    parser.add_argument("--devices", type=Path, required=True, help="JSON: [carrier, [key, ...]]")
    parser.add_argument("--rate", type=float, required=True, help="messages a second")
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--fires", type=int, default=0, help="so many of the last devices burn")
    parser.add_argument("--fires-from", type=float, default=0.0, help="second of the first fire")
    parser.add_argument("--form", type=Form, choices=tuple(Form), default=Form.JSON)
    parser.add_argument("--ca", type=Path, help="authority of the broker's certificate: TLS")
    parser.add_argument("--out", type=Path, required=True, help="the oracle (.npz)")
    return parser.parse_args()


def plan_of(devices: int, rate: float, seconds: float, fires: int, fires_from_s: float) -> Plan:
    """The steady load of all devices but the last `fires`, and these burning one by one."""
    quiet = load_plan.steady(devices - fires, rate, seconds)
    second = load_plan.SECOND_US
    last_us = round(seconds * second) - load_plan.FIRE_SAMPLES * load_plan.FIRE_GAP_US
    burning = load_plan.fires(devices - fires, fires, round(fires_from_s * second), last_us)
    return load_plan.together(quiet, burning)


def main() -> int:
    """Exit 0 when every message was acknowledged."""
    asked = _arguments()
    users = json.loads(asked.users.read_text("utf-8"))
    devices: list[Device] = [(name, keys) for name, keys in json.loads(asked.devices.read_text())]
    try:
        plan = plan_of(len(devices), asked.rate, asked.seconds, asked.fires, asked.fires_from)
        tls = None if asked.ca is None else ssl.create_default_context(cafile=asked.ca)
        load = Load(asked.host, asked.port, users, devices, plan, form=asked.form, tls=tls)
        load.connect()
        signal.signal(signal.SIGTERM, lambda *_: load.end())
        print(f"started {now_us()}", flush=True)
        load.run()
    except (ServerError, ValueError) as error:
        print(f"load: {error}", file=sys.stderr)
        return 2
    load.close()
    np.savez(
        asked.out,
        device=plan.device,
        value=plan.value,
        ts_us=np.array(load.ts_us),
        acked_us=np.array(load.acked_us),
        said=np.frombuffer(load.said, np.uint8),
    )
    print(json.dumps(summary(load, plan, users)), flush=True)
    return 0 if load.acknowledged == len(load.said) - load.said.count(0) else 1


def summary(load: Load, plan: Plan, users: dict[str, str]) -> dict[str, object]:
    """What is printed at the end."""
    acked, said = np.array(load.acked_us), np.array(load.ts_us)
    waited_ms = (acked - said)[acked > 0] / 1000
    p50, p99 = np.percentile(waited_ms, [50, 99]) if len(waited_ms) else (0.0, 0.0)
    return {
        "connections": len(users),
        "messages": plan.messages,
        "said": len(load.said) - load.said.count(0),
        "acknowledged": load.acknowledged,
        "refused": load.refused,
        "reconnects": load.reconnects,
        "late_ms_max": round(load.late_us_max / 1000, 1),
        "puback_ms": {"p50": round(float(p50), 2), "p99": round(float(p99), 2)},
    }


if __name__ == "__main__":
    sys.exit(main())
