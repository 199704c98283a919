"""`sizao alert` as a process, between a real Kafka, a real PostgreSQL and a real receiver."""

from __future__ import annotations

import asyncio
import json
import urllib.request

import pytest
from fix_alerting import OLD_SECRET, SECRET, get_database, ids, make_district, make_signal

from alerting import responders
from sizao import clock, frame, kafka, topics
from sizao import signal as signals
from sizao.db import connected, migrate
from sizao.kafka import KafkaSettings, Outgoing, Producer, Reader


@pytest.fixture
async def house(servers, postgres_db, tmp_path):
    """A migrated, peopled database and a settings file; topics are shared by the run."""
    place = servers.addresses
    database = get_database(servers, postgres_db, tmp_path)
    log = KafkaSettings(bootstrap=place.kafka_bootstrap)
    async with connected(database, "test") as connection:
        await migrate(connection)
        await make_district(connection)
        site, devices = await ids(connection)
    await kafka.make_topics(log, partitions=4)
    return House(database, log, site, devices, tmp_path)


class House:
    def __init__(self, database, log, site, devices, folder):
        self.database, self.log, self.folder = database, log, folder
        self.site, self.devices = site, devices
        self.secret = folder / "station.key"
        self.secret.write_text(f"{SECRET}\n{OLD_SECRET}\n")
        self.config = folder / "sizao.yaml"

    def configure(self, **more):
        settings = {
            "kafka": self.log.model_dump(),
            "database": self.database.model_dump(),
            "alert": {"name": "a0", "delivery": {"attempt_deadline_s": 2, "poll_s": 0.2}, **more},
        }
        self.config.write_text(json.dumps(settings))
        return str(self.config)

    async def respond(self, url, **more):
        entry = {
            "name": "station",
            "area": "C1",
            "kinds": ["fire"],
            "min_tier": "early",
            "channels": [{"channel": "webhook", "url": url, "secret_file": str(self.secret)}],
            **more,
        }
        file = self.folder / "responders.yaml"
        file.write_text(json.dumps({"responders": [entry]}))
        async with connected(self.database, "test") as connection:
            await responders.store(connection, responders.read(file, {"D", "C1", "S1"}))

    async def start_here(self):
        """Offsets at the log's end: other tests have written into the same topics."""
        names = [topics.SIGNALS.name, topics.CONDITIONS.name]
        reader = Reader(self.log, [(n, p) for n in names for p in range(4)], client_id="test")
        await reader.start()
        ends = await reader.ends()
        await reader.stop()
        async with connected(self.database, "test") as connection:
            for (topic, partition), end in ends.items():
                await connection.execute(
                    "INSERT INTO alert_offset VALUES (%s, %s, %s, %s)", (topic, partition, end, 0)
                )

    async def say(self, *found, topic=topics.SIGNALS):
        records = []
        for one in found:
            value = one if isinstance(one, bytes) else signals.encode(one)
            headers = (
                [(frame.CRC_HEADER, frame.crc(value))]
                if isinstance(one, bytes)
                else signals.headers(one, value)
            )
            records.append(Outgoing(topic=topic.name, partition=1, value=value, headers=headers))
        producer = Producer(self.log, client_id="test")
        await producer.start()
        await producer.send(records)
        await producer.stop()

    async def ask(self, query, *parameters, run=False):
        """Rows of a query; `run`: a statement that has none."""
        async with connected(self.database, "test") as connection:
            cursor = await connection.execute(query, parameters)
            return [] if run else await cursor.fetchall()

    async def told(self, log, text, deadline_s=20):
        """Wait until the log says so."""
        end = clock.monotonic_s() + deadline_s
        while text not in log.read_text():
            assert clock.monotonic_s() < end, f"never said: {text}"
            await asyncio.sleep(0.05)

    async def until(self, query, deadline_s=20):
        """Poll the database until a query says yes."""
        end = clock.monotonic_s() + deadline_s
        while clock.monotonic_s() < end:
            (row,) = await self.ask(query)
            if row[0]:
                return
            await asyncio.sleep(0.05)
        raise AssertionError(query)

    def fire(self, device="heat-1", **more):
        more = {"at": clock.now_us(), **more}
        return make_signal(self.devices[device], site=self.site, **more)


def get(url):
    """Text of a page."""
    with urllib.request.urlopen(url) as answer:
        return answer.read().decode()
