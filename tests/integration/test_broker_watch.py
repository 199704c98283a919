"""A queue that overflows while no bridge is there: told within 15 s, and each drop once."""

import asyncio
import re
from contextlib import asynccontextmanager

import pytest
from fix_broker import Client

from deploy.local.mosquitto import Mosquitto
from deploy.local.places import REPOSITORY
from ingest import broker_watch
from ingest.broker_watch import BrokerWatch
from ingest.mqtt.client import Connection
from ingest.mqtt.settings import MqttSettings
from sizao import clock, log
from sizao.metrics import Metrics
from sizao.service import Service
from sizao.signal import Tier

ACL = "user bridge\ntopic read up/#\n{rights}\npattern write up/%u/#\n"
RIGHTS = "topic read $SYS/broker/#"
WORDS = {"bridge": "bridge-secret", "c1": "c1-secret"}
TOLD_S = 15.0


@pytest.fixture
def broker(own_place):
    made = Mosquitto(own_place / "mosquitto")
    made.set_users(WORDS, ACL.format(rights=RIGHTS))
    made.extra = "sys_interval 1\nmax_queued_bytes 4000\n"
    made.start()
    yield made
    made.stop()


async def absent(settings):
    """A bridge that had a session and has gone."""
    stamp = clock.Rising().now_us
    connection = Connection(settings, client_id="b0.telemetry", epoch=1, stamp=stamp)
    await connection.open()
    connection.subscribe(["up/+/telemetry/#"])
    async with asyncio.timeout(10):
        while not connection.subscribed:
            connection.flush()
            connection.read(10, 1000)
            await asyncio.sleep(0.01)
    connection.close()


def settings_of(broker, folder):
    password = folder / "password"
    password.write_text(WORDS["bridge"])
    return MqttSettings(host=broker.host, port=broker.port, password_file=password)


def publish(broker, count):
    """So many messages of 100 bytes and more, each acknowledged with "Success"."""
    client = Client(broker, "c1", "c1-secret")
    for number in range(count):
        client.publish(f"up/c1/telemetry/{number}", "x" * 100)
    assert set(client.published().values()) == {0}
    client.close()
    return clock.monotonic_s()


@asynccontextmanager
async def watching(broker, folder):
    """A watcher, and a log that has all that is due."""
    service = Service("archive", log.setup("archive"), Metrics("archive"))
    settings = settings_of(broker, folder)

    async def tell():
        while True:
            service.board.written(service.board.due(clock.now_us(), site=1, generation=1))
            await asyncio.sleep(0.05)

    async with asyncio.TaskGroup() as group:
        tasks = [
            group.create_task(BrokerWatch(service, settings, folder).run()),
            group.create_task(tell()),
        ]
        try:
            yield service
        finally:
            for task in tasks:
                task.cancel()


async def standing(service, what, true=lambda _: True):
    """What the board says of the broker, once it does."""
    async with asyncio.timeout(2 * TOLD_S):
        while True:
            for subject, found in service.board.shown().items():
                if subject.endswith(f"/{what}") and true(found):
                    return found
            await asyncio.sleep(0.05)


async def kept(folder, count):
    file = folder / "broker.dropped"
    async with asyncio.timeout(10):
        while not (file.exists() and file.read_text().startswith(f"{count} ")):  # noqa: ASYNC110 - a file
            await asyncio.sleep(0.05)


async def test_each_dropped_message_is_told_whoever_was_away(broker, tmp_path):
    await absent(settings_of(broker, tmp_path))
    async with watching(broker, tmp_path) as service:
        await kept(tmp_path, 0)
        at_s = await asyncio.to_thread(publish, broker, 100)
        found = await standing(service, "dropped")
        assert clock.monotonic_s() - at_s < TOLD_S
        assert found["tier"] is Tier.ALARM
        first = found["total"]
        assert 0 < first == found["dropped"] < 100
        await kept(tmp_path, first)
        assert not any("unwatched" in subject for subject in service.board.shown())
    await asyncio.to_thread(publish, broker, 10)  # every watcher is away
    async with watching(broker, tmp_path) as service:
        found = await standing(service, "dropped")
        assert (found["dropped"], found["total"]) == (10, first + 10)
        await kept(tmp_path, first + 10)
    await asyncio.to_thread(broker.restart)  # it counts from 0 again
    await asyncio.to_thread(publish, broker, 5)
    async with watching(broker, tmp_path) as service:
        found = await standing(service, "dropped")
        assert (found["dropped"], found["total"]) == (5, 5)


def test_the_shipped_broker_tells_often_enough():
    text = (REPOSITORY / "deploy" / "mosquitto" / "mosquitto.conf").read_text()
    (said,) = re.findall(r"^sys_interval (\d+)$", text, re.MULTILINE)
    assert int(said) <= 10


async def test_a_broker_that_tells_us_nothing_is_told_of(broker, tmp_path, monkeypatch):
    monkeypatch.setattr(broker_watch, "UNWATCHED_S", 2.5)
    await asyncio.to_thread(broker.set_users, WORDS, ACL.format(rights=""))
    async with watching(broker, tmp_path) as service:
        found = await standing(service, "unwatched")
        assert "topic read $SYS/broker/#" in found["fault"]
        assert found["tier"] is Tier.EARLY
        await asyncio.to_thread(broker.stop)
        found = await standing(service, "unwatched", lambda one: one["tier"] is Tier.ALARM)
        await asyncio.to_thread(broker.set_users, WORDS, ACL.format(rights=RIGHTS))
        await asyncio.to_thread(broker.start)
        async with asyncio.timeout(20):
            while service.board.shown():  # noqa: ASYNC110 - what is waited for is a plain value
                await asyncio.sleep(0.05)
