"""One lane with a broker and a log in our hands."""

import asyncio
from contextlib import asynccontextmanager

import pytest
from fix_bridge import SMOKE_HEAT, Device, message, small

from ingest import lane as lanes
from ingest.handover import Lookout
from ingest.lane import LaneLoop, Shared
from ingest.settings import BridgeSettings
from sizao import log
from sizao.clock import Rising
from sizao.errors import Retriable
from sizao.metrics import Metrics
from sizao.service import Service
from sizao.units import Lane

TOPIC = "up/c1/telemetry/h1"


class Broker:
    """Stands for the broker's end: hands out what it is given, remembers what it is told."""

    def __init__(self):
        self.waiting = []
        self.told = []
        self.connections = []
        self.session = True

    def connection(self, _settings, *, client_id, epoch, stamp, held, mount):
        assert mount == ""
        made = Connection(self, client_id, epoch, stamp, held)
        self.connections.append(made)
        return made

    def publish(self, payload=b'{"temperature": 5}', topic=TOPIC):
        self.waiting.append((topic, payload))


class Connection:
    def __init__(self, broker, client_id, epoch, stamp, held):
        self.broker, self.client_id, self.epoch = broker, client_id, epoch
        self.stamp = stamp
        self.dead, self.filters, self.subscribed = "", (), False
        self.held = held
        self.session_present = broker.session
        self.closed = False
        self.number = 0

    async def open(self):
        await asyncio.sleep(0)

    def subscribe(self, filters):
        self.filters, self.subscribed = tuple(filters), True
        self.held = self.held.union(filters)

    def read(self, packets_max, bytes_max):
        assert packets_max > 0
        assert bytes_max > 0
        messages, size = [], 0
        while self.broker.waiting and len(messages) < packets_max and size < bytes_max:
            topic, payload = self.broker.waiting.pop(0)
            self.number += 1
            one = message(topic, payload, at_us=self.stamp(), number=self.number)
            one.epoch = self.epoch
            messages.append(one)
            size += one.size
        return messages, size, 0

    def acknowledge(self, messages):
        ours = [one for one in messages if not self.dead and one.epoch == self.epoch]
        self.broker.told += [(self.epoch, one.packet_id) for one in ours]
        return len(ours)

    def tend(self, now_s):
        pass

    def flush(self):
        pass

    def close(self):
        self.dead = self.dead or "closed"
        self.closed = True


class Log:
    """Stands for Kafka: takes records when it is open, fails when it is told to."""

    def __init__(self):
        self.records = []
        self.open = asyncio.Event()
        self.open.set()
        self.asked = 0
        self.fail = 0

    def producer(self, _settings, *, client_id):
        self.client_id = client_id
        return self

    async def start(self):
        pass

    async def stop(self):
        pass

    async def send(self, records):
        self.asked += 1
        if self.fail:
            self.fail -= 1
            raise Retriable("away")
        await self.open.wait()
        self.records += records


async def until(true):
    async with asyncio.timeout(10):
        while not true():  # noqa: ASYNC110 - what is waited for is a plain attribute
            await asyncio.sleep(0.002)


class Rig:
    def __init__(self, service, broker, store, lane, section):
        self.service, self.broker, self.log, self.lane = service, broker, store, lane
        self.section = section

    @property
    def held(self):
        return self.lane._held.messages

    def count(self, name):
        return getattr(self.lane._series, name)._value.get()


@pytest.fixture
def running(tmp_path, monkeypatch):
    @asynccontextmanager
    async def run(lane=Lane.TELEMETRY, keepalive_s=30, **section):
        broker, store = Broker(), Log()
        monkeypatch.setattr(lanes, "Connection", broker.connection)
        monkeypatch.setattr(lanes.kafka, "Producer", store.producer)
        monkeypatch.setattr(lanes, "_RETURN_S", 0.01)
        settings = BridgeSettings(
            mqtt={"keepalive_s": keepalive_s},
            bridge={"state": tmp_path, "tick_ms": 5, "tick_busy_ms": 5} | section,
        )
        service = Service("bridge", log.setup("bridge"), Metrics("bridge"))
        place = small(Device("h1"), Device("s1", SMOKE_HEAT))
        shared = Shared(service=service, settings=settings, stamp=Rising().now_us, district=place)
        made = LaneLoop(shared, lane, lookout=Lookout())
        rig = Rig(service, broker, store, made, settings.bridge)
        rig.shared = shared
        async with asyncio.TaskGroup() as group:
            task = group.create_task(made.run())
            await until(lambda: service.ready.get(f"mqtt.{lane}"))
            yield rig
            task.cancel()

    return run
