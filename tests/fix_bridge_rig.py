"""A bridge process of our own before the real servers, and an oracle that publishes to it."""

import asyncio
import json
import secrets
import signal
import sys
import threading
import urllib.error
import urllib.request
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from fix_bridge import BATCH, HEAT, SMOKE_HEAT, SMOKE_STATE, Device
from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from psycopg.conninfo import conninfo_to_dict

from ingest.device_types.load import load
from ingest.onboarding import points_needed
from sizao import clock, db, frame, topics
from sizao.kafka import KafkaSettings, Reader, make_topics
from sizao.registry.load import load as load_registry
from sizao.registry.write import AreaRow, CarrierRow, Change, DeviceRow, TypeRow, apply

PARTITIONS = 4
ACL = "user bridge\ntopic read up/#\ntopic read $SYS/broker/#\n\npattern write up/%u/#\n"
BRIDGE_PASSWORD = "bridge-secret"
PASSWORD = "device-secret"
DEADLINE_S = 60.0


class Publisher:
    """One carrier's connection. Knows of each publish whether the broker has acknowledged it.

    No lock of ours: paho calls back under its own. Packet ids are unique below 65,536 publishes.
    """

    def __init__(self, host, port, carrier):
        self._tokens = {}
        self._answered = {}
        self._up = threading.Event()
        self.client = paho.Client(
            CallbackAPIVersion.VERSION2,
            client_id=f"{carrier}-{secrets.token_hex(4)}",
            protocol=MQTTProtocolVersion.MQTTv5,
        )
        self.client.max_queued_messages_set(0)
        self.client.max_inflight_messages_set(200)
        self.client.username_pw_set(carrier, PASSWORD)
        self.client.on_publish = self._on_publish
        self.client.on_connect = lambda *_: self._up.set()
        self.client.connect(host, port)
        self.client.loop_start()
        assert self._up.wait(10)

    def publish(self, topic, payload, token):
        self._tokens[self.client.publish(topic, payload, qos=1).mid] = token

    def _on_publish(self, _client, _user, number, code, _properties):
        self._answered[number] = not code.is_failure, clock.monotonic_s()

    async def drain(self):
        async with asyncio.timeout(DEADLINE_S):
            while len(self._answered) < len(self._tokens):  # noqa: ASYNC110 - paho's thread answers
                await asyncio.sleep(0.01)

    @property
    def acknowledged(self):
        return set(self.acknowledged_s)

    @property
    def acknowledged_s(self):
        """When each token was acknowledged, in monotonic seconds."""
        return {self._tokens[n]: at_s for n, (good, at_s) in self._answered.items() if good}

    def close(self):
        self.client.disconnect()
        self.client.loop_stop()


@dataclass
class Rig:
    servers: object
    database: str
    folder: object
    devices: list
    bridge: str = field(default_factory=lambda: f"t{secrets.token_hex(3)}")
    process: object = None
    publishers: dict = field(default_factory=dict)
    starts: dict = field(default_factory=dict)
    registry: object = None
    entry: tuple = ("-m", "sizao.cli")
    extra: dict = field(default_factory=dict)

    async def prepare(self):
        """Users, schema, topics, registry, and where the log ends now."""
        carriers = sorted({device.carrier for device in self.devices})
        users = {"bridge": BRIDGE_PASSWORD} | dict.fromkeys(carriers, PASSWORD)
        self.servers.mosquitto.set_users(users, ACL)
        await self.settle_registry()
        await make_topics(self.kafka, partitions=PARTITIONS)
        for topic in topics.TOPICS:
            reader = await self.reader(topic)
            self.starts |= await reader.ends()
            await reader.stop()
        (self.folder / "mqtt.password").write_text(BRIDGE_PASSWORD)
        self.config.write_text(json.dumps(self.settings()))

    async def settle_registry(self):
        documents = list(dict.fromkeys(device.document for device in self.devices))
        names = {text: load(text, "t").name for text in documents}
        async with db.connected(self.database_settings, "test") as connection:
            await db.migrate(connection)
            await apply(
                connection,
                Change(
                    areas=[
                        AreaRow("d", "", "district", "区", "District"),
                        *(AreaRow(f"s{i}", "d", "site", "楼", "Site") for i in range(8)),
                    ],
                    carriers=[CarrierRow(name, "s1") for name in self.carriers],
                    types=[TypeRow(names[text], text, points_needed(text)) for text in documents],
                    devices=[
                        DeviceRow(
                            key=device.key,
                            carrier=device.carrier,
                            device_type=names[device.document],
                            area=f"s{device.site % 8}",
                            state=device.state,
                        )
                        for device in self.devices
                    ],
                ),
                cause="test",
                partitions=PARTITIONS,
            )
            self.registry = await load_registry(connection, PARTITIONS)

    @property
    def carriers(self):
        return sorted({device.carrier for device in self.devices})

    @property
    def config(self):
        return self.folder / "sizao.yaml"

    @property
    def kafka(self):
        return KafkaSettings(bootstrap=self.servers.kafka.bootstrap)

    @property
    def database_settings(self):
        said = conninfo_to_dict(self.database)
        (self.folder / "db.password").write_text(str(said.get("password", "")))
        return db.DatabaseSettings(
            host=said["host"],
            port=int(said["port"]),
            name=said["dbname"],
            user=said["user"],
            password_file=str(self.folder / "db.password"),
        )

    def settings(self):
        return {
            "kafka": {"bootstrap": self.servers.kafka.bootstrap},
            "database": self.database_settings.model_dump(),
            "mqtt": {
                "host": self.servers.mosquitto.host,
                "port": self.servers.mosquitto.port,
                "username": "bridge",
                "password_file": str(self.folder / "mqtt.password"),
            }
            | self.extra.get("mqtt", {}),
            "bridge": {"id": self.bridge, "state": str(self.folder / "state")}
            | self.extra.get("bridge", {}),
        }

    async def start(self, *, ready=True):
        self.process = await asyncio.create_subprocess_exec(
            sys.executable,
            *self.entry,
            "bridge",
            "--config",
            str(self.config),
            stderr=asyncio.subprocess.PIPE,
        )
        self.log = []
        self._reading = asyncio.get_running_loop().create_task(self._read_log())
        if ready:
            await self.until_ready()

    async def _read_log(self):
        async for line in self.process.stderr:
            self.log.append(line.decode())

    async def page(self, path):
        def get():
            with urllib.request.urlopen(f"{self.address}{path}", timeout=5) as answer:
                return answer.read().decode()

        return await asyncio.to_thread(get)

    async def told(self, words):
        """Wait until a line of its log says so."""
        while not any(words in line for line in self.log):  # noqa: ASYNC110 - lines of a process
            await asyncio.sleep(0.05)

    async def readiness(self):
        """`/readyz`, which answers 503 with the same text when something is away."""
        try:
            return await self.page("/readyz")
        except urllib.error.HTTPError as error:
            return error.read().decode()

    @property
    def address(self):
        for line in self.log:
            if '"event": "started"' in line:
                return json.loads(line)["http"]
        raise OSError("not started yet")

    async def until_ready(self):
        async with asyncio.timeout(DEADLINE_S):
            while True:
                assert self.process.returncode is None, "".join(self.log)
                try:
                    ready = json.loads(await self.readiness())["ready"]
                    if ready.get("mqtt.alarm") and ready.get("mqtt.telemetry"):
                        return
                except OSError:
                    pass
                await asyncio.sleep(0.05)

    async def metric(self, name):
        text = await self.page("/metrics")
        return sum(
            float(line.rsplit(" ", 1)[1])
            for line in text.splitlines()
            if line.startswith((f"{name} ", f"{name}{{"))
        )

    async def kill(self):
        self.process.send_signal(signal.SIGKILL)
        await self.process.wait()
        await self._reading

    async def stop(self):
        for publisher in self.publishers.values():
            await asyncio.to_thread(publisher.close)
        if self.process is not None and self.process.returncode is None:
            self.process.terminate()
            async with asyncio.timeout(20):
                await self.process.wait()
            await self._reading

    def publisher(self, carrier) -> Publisher:
        if carrier not in self.publishers:
            broker = self.servers.mosquitto
            self.publishers[carrier] = Publisher(broker.host, broker.port, carrier)
        return self.publishers[carrier]

    async def reader(self, topic):
        pairs = [(topic.name, number) for number in range(PARTITIONS)]
        reader = Reader(self.kafka, pairs, client_id="oracle")
        await reader.start()
        return reader

    async def records(self, topic, enough):
        """Records of a topic since `prepare`, until `enough(records)` or the deadline."""
        reader = await self.reader(topic)
        found = []
        try:
            for pair in [(topic.name, number) for number in range(PARTITIONS)]:
                reader.seek(pair, self.starts[pair])
            # aiokafka's stop raises CancelledError when nothing has run since its start.
            found += await reader.fetch(200)
            until = clock.monotonic_s() + DEADLINE_S
            while not enough(found) and clock.monotonic_s() < until:
                found += await reader.fetch(200)
        finally:
            await reader.stop()
        return found

    def frames_of(self, records):
        """Decoded frames of this rig's bridge."""
        frames = [frame.decode(record.value, record.headers) for record in records]
        return [one for one in frames if one.writer.startswith(f"{self.bridge}.")]

    async def readings(self, topic, expected=frozenset(), wait_s=DEADLINE_S):
        """(point, event_us) of all readings, once `expected` is among them or `wait_s` passed."""
        found = {}
        seen = 0
        until = clock.monotonic_s() + wait_s

        def enough(records):
            nonlocal seen
            for one in self.frames_of(records[seen:]):
                for row in zip(one.point.tolist(), one.event_us.tolist(), strict=True):
                    found[row] = found.get(row, 0) + 1
            seen = len(records)
            return (expected and expected <= found.keys()) or clock.monotonic_s() > until

        await self.records(topic, enough)
        return found

    def point(self, carrier, key, quantity):
        view = self.registry.newest
        device = view.roster[carrier][key]
        for point in range(1, len(view.point_device)):
            if (view.point_device[point], view.point_quantity[point]) == (device, quantity):
                return point
        raise AssertionError


@asynccontextmanager
async def rig(servers, database, folder, devices, **rest):
    made = Rig(servers, database, folder, devices, **rest)
    await made.prepare()
    try:
        yield made
    finally:
        await made.stop()


def district(name):
    """Forty heat sensors behind four carriers, one smoke detector, one state-only, one gateway."""
    return [
        *(Device(f"h{i}", HEAT, carrier=f"{name}-{i % 4}", site=i) for i in range(40)),
        Device("s", SMOKE_HEAT, carrier=f"{name}-s", site=3),
        Device("n", SMOKE_STATE, carrier=f"{name}-s", site=3),
        Device("t", BATCH, carrier=f"{name}-g", site=4),
        Device("planned", SMOKE_HEAT, carrier=f"{name}-s", site=3, state="planned"),
    ]


class Load:
    """Publishes heat readings at a rate; knows which the broker has acknowledged."""

    def __init__(self, bridge, name):
        self.bridge, self.name = bridge, name
        self.points = [bridge.point(f"{name}-{i % 4}", f"h{i}", 1) for i in range(40)]
        self.publishers = [bridge.publisher(f"{name}-{i}") for i in range(4)]
        self.number = 0
        self.base_ms = clock.now_us() // 1000 - 3_600_000

    async def run(self, seconds, rate):
        ends, due = clock.monotonic_s() + seconds, clock.monotonic_s()
        while clock.monotonic_s() < ends:
            for _ in range(rate // 50):
                self.send()
            due += 0.02
            await asyncio.sleep(max(due - clock.monotonic_s(), 0))

    def send(self):
        i = self.number % 40
        # Seconds with three decimals: each message has a time of its own, a millisecond apart.
        at_ms = self.base_ms + self.number
        payload = json.dumps({"temperature": self.number % 800, "ts": at_ms / 1000})
        topic = f"up/{self.name}-{i % 4}/telemetry/h{i}"
        self.publishers[i % 4].publish(topic, payload, (self.points[i], at_ms * 1000))
        self.number += 1

    async def acknowledged(self):
        for publisher in self.publishers:
            await publisher.drain()
        tokens = set().union(*(publisher.acknowledged for publisher in self.publishers))
        return {token for token in tokens if isinstance(token, tuple)}
