"""Kafka killed while a room burns: the page comes at once, once, and nothing is lost."""

import json
import re

import psycopg
import pytest
from fix_stack import eventually, whole_log

from deploy.local.district import types
from deploy.local.fleet import Fleet
from deploy.local.patience import wait_for
from deploy.local.receiver import Receiver
from sizao import frame, signal
from sizao.kafka import KafkaSettings
from sizao.registry.write import AreaRow, CarrierRow, Change, DeviceRow
from sizao.topics import ALARMS, SIGNALS

PAGED_S = 3.0
USER = "c0"


class House:
    """Three smoke detectors with a thermometer in one house, and its fire station."""

    def __init__(self, stack, receiver):
        self.stack, self.receiver = stack, receiver
        areas = [
            AreaRow("d", "", "district", "区", "District"),
            AreaRow("h", "d", "site", "楼", "House"),
        ]
        devices = [DeviceRow(key, USER, "generic.smoke_heat", "h") for key in "abc"]
        stack.register(
            Change(areas=areas, carriers=[CarrierRow(USER)], types=types(), devices=devices), "test"
        )
        receiver.secret = stack.add_responder("station", "d", receiver.url, "alarm")
        mosquitto = stack.servers.mosquitto
        self.fleet = Fleet(mosquitto.host, mosquitto.port)
        self.said = 0

    def say(self, key, state="alarm", temperature=25):
        body = {"state": state, "temperature": temperature}
        self.fleet.publish(USER, f"up/{USER}/alarm/{key}", json.dumps(body).encode())
        self.fleet.settle(10)
        self.said += 1

    def rows(self, query):
        dsn = self.stack.servers.postgres.dsn(self.stack.database_name)
        with psycopg.connect(dsn) as connection:
            return connection.execute(query).fetchall()

    def page(self, process, path):
        return json.loads(self.stack.processes[process].page(path))

    def metric(self, process, name):
        text = self.stack.processes[process].page("/metrics")
        found = re.search(rf"^sizao_{process}_{re.escape(name)} (\S+)$", text, re.MULTILINE)
        return float(found[1])

    def pages(self):
        return [page.body["data"]["what"] for page in self.receiver.pages.accepted]

    def wait_for_pages(self, count, deadline_s):
        arrived = self.receiver.pages.arrived
        with arrived:
            there = arrived.wait_for(lambda: len(self.receiver.pages.accepted) >= count, deadline_s)
        assert there, self.pages()


@pytest.fixture
def house(stack):
    with Receiver() as receiver:
        made = House(stack, receiver)
        yield made
        made.fleet.close()


def test_a_fire_said_while_kafka_is_dead_is_paged_at_once_and_once(stack, house):
    stack.start()
    house.fleet.connect(stack.carriers)
    for key in "abc":
        house.say(key, "normal")
    stored = "SELECT count(*) FROM reading r JOIN point p ON p.id = r.point WHERE p.quantity = 1"
    eventually(lambda: house.rows(stored) == [(3,)], 20, "the quiet readings are stored")
    acknowledged = house.metric("bridge", "alarm_messages_total")

    stack.servers.kafka.kill()
    try:
        house.say("c", "normal")
        at_work = "at work: Kafka is silent"
        eventually(
            lambda: house.page("bridge", "/readyz")["handover"] == at_work, 10, "silence is noticed"
        )
        house.say("a")
        house.wait_for_pages(1, PAGED_S)
        house.say("a", temperature=60)
        house.say("a", temperature=61)
        house.wait_for_pages(2, PAGED_S)
        assert house.metric("bridge", "alarm_messages_total") == acknowledged
        assert house.page("bridge", "/progress")["oldest_unacknowledged_s"]["alarm"] > 0
        assert house.rows("SELECT what FROM transition ORDER BY version") == [
            ("opened",),
            ("raised",),
        ]
    finally:
        stack.servers.kafka.start()

    eventually(
        lambda: house.metric("bridge", "alarm_messages_total") == house.said, 30, "acknowledged"
    )
    house.say("b")  # behind all else in the site's partition
    house.wait_for_pages(3, 30)
    assert sorted(house.pages()) == ["joined", "opened", "raised"]
    assert wait_for(lambda: house.rows(stored) == [(house.said,)], 30), house.rows(stored)
    handed = house.rows("SELECT id FROM signal WHERE evidence ? 'handed_over' ORDER BY id")
    logged = whole_log(KafkaSettings(bootstrap=stack.servers.kafka.bootstrap), [SIGNALS.name])
    said = {signal.decode(one.value, one.headers).id for one in logged}
    assert {one for (one,) in handed} <= said
    assert len(handed) == 2
    alarms = whole_log(KafkaSettings(bootstrap=stack.servers.kafka.bootstrap), [ALARMS.name])
    rows = sum(frame.decode(one.value, one.headers).rows for one in alarms)
    assert rows == house.said
    assert house.metric("alert", 'handover_requests_total{ended="stored"}') >= 2
