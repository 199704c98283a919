"""Kafka killed while a room burns: the page comes at once, once, and nothing is lost."""

import json
import os
import re
import signal as os_signal

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
STORED = "SELECT count(*) FROM reading r JOIN point p ON p.id = r.point WHERE p.quantity = 1"
HANDED = "evidence ? 'handed_over'"


class House:
    """Four smoke detectors with a thermometer in one house, and its fire station."""

    def __init__(self, stack, receiver):
        self.stack, self.receiver = stack, receiver
        areas = [
            AreaRow("d", "", "district", "区", "District"),
            AreaRow("h", "d", "site", "楼", "House"),
        ]
        devices = [DeviceRow(key, USER, "generic.smoke_heat", "h") for key in "abcd"]
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

    def oldest_s(self):
        return self.page("bridge", "/progress")["oldest_unacknowledged_s"]["alarm"]

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


def test_a_fire_said_while_kafka_is_away_is_paged_at_once_and_once(stack, house):
    stack.start()
    house.fleet.connect(stack.carriers)
    for key in "abcd":
        house.say(key, "normal")
    eventually(lambda: house.rows(STORED) == [(4,)], 20, "the quiet readings are stored")
    kafka_is_killed(stack, house)
    the_log_says_the_same(stack, house)
    kafka_hangs_and_the_bridge_is_killed(stack, house)


def kafka_is_killed(stack, house):
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
        assert house.oldest_s() > 0
    finally:
        stack.servers.kafka.start()


def the_log_says_the_same(stack, house):
    eventually(
        lambda: house.metric("bridge", "alarm_messages_total") == house.said, 30, "acknowledged"
    )
    house.say("b")  # behind all else in the site's partition
    house.wait_for_pages(3, 30)
    assert sorted(house.pages()) == ["joined", "opened", "raised"]
    assert wait_for(lambda: house.rows(STORED) == [(house.said,)], 30), house.rows(STORED)
    settings = KafkaSettings(bootstrap=stack.servers.kafka.bootstrap)
    logged = whole_log(settings, [SIGNALS.name])
    said = {signal.decode(one.value, one.headers).id for one in logged}
    handed = {id_ for (id_,) in house.rows(f"SELECT id FROM signal WHERE {HANDED}")}
    assert len(handed) == 2
    assert handed <= said
    alarms = whole_log(settings, [ALARMS.name])
    assert sum(frame.decode(one.value, one.headers).rows for one in alarms) == house.said


def kafka_hangs_and_the_bridge_is_killed(stack, house):
    """The broker sends again; what has no time of its own gets another one, and other ids."""
    kafka, bridge = stack.servers.kafka.child.pid, stack.processes["bridge"]
    os.kill(kafka, os_signal.SIGSTOP)
    try:
        house.say("c")
        house.wait_for_pages(4, 2 + 1 + PAGED_S)  # a heartbeat each second, then two of silence
        bridge.child.kill()
        bridge.launch()
        count = f"SELECT count(*) FROM signal WHERE {HANDED}"
        eventually(lambda: house.rows(count) == [(4,)], 20, "it is handed over anew")
    finally:
        os.kill(kafka, os_signal.SIGCONT)
    eventually(lambda: house.oldest_s() == 0.0, 30, "Kafka has it")
    house.say("d")
    house.wait_for_pages(5, 30)
    assert sorted(house.pages()) == ["joined"] * 3 + ["opened", "raised"]
    became = (
        "SELECT became FROM signal JOIN device d ON d.id = device"
        f" WHERE d.key = 'c' AND {HANDED} ORDER BY stored_us"
    )
    assert house.rows(became) == [("joined",), ("same",)]
