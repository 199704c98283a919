"""A Mosquitto of the test's own, its files the live ones of `sizao devices credentials`."""

import csv
import signal
import sys
import threading

import pytest
from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.subscribeoptions import SubscribeOptions

from deploy.local.mosquitto import Mosquitto

BRIDGE, BOSS = "bridge", "boss"
WORDS = {BRIDGE: "bridge-secret", BOSS: "boss-secret"}
ACL = "# by hand\nuser boss\ntopic readwrite down/#\n"
DEADLINE_S = 20.0


@pytest.fixture
def broker(office, own_place):
    """Runs; knows the bridge and somebody of the operator's, no device."""
    made = Mosquitto(own_place / "mosquitto")
    made.set_users(WORDS, ACL)
    made.start()
    files = {"passwords": str(made.folder / "passwords"), "acl": str(made.folder / "acl")}
    configured(office, made, **files)
    yield made
    made.stop()


def configured(office, broker, **files):
    """No persistent session is absent here, so that a SIGHUP does what a restart would do."""
    told = f"import os; os.kill({broker.child.pid}, {int(signal.SIGHUP)})"
    section = {"reload": [sys.executable, "-c", told], "reload_s": 20, **files}
    office.configure(
        mqtt={"host": broker.host, "port": broker.port, "username": BRIDGE}, mqtt_files=section
    )


def handed_over(file):
    """Rows of the installer's file, which nobody else may read."""
    assert file.stat().st_mode & 0o777 == 0o600
    with file.open(newline="") as opened:
        return {row["carrier"]: row for row in csv.DictReader(opened)}


class Client:
    """One connection; knows what was acknowledged, with which reason, and what came."""

    def __init__(self, broker, name, password, version=MQTTProtocolVersion.MQTTv5):
        self.refused = ""
        self.answers = {}
        self.came = []
        self._five = version == MQTTProtocolVersion.MQTTv5
        self._changed = threading.Condition()
        self._up = self._subscribed = False
        self._sent = {}
        self.client = paho.Client(
            CallbackAPIVersion.VERSION2, client_id=f"c-{name}-{version}", protocol=version
        )
        self.client.max_queued_messages_set(0)
        self.client.max_inflight_messages_set(200)
        self.client.username_pw_set(name, password)
        self.client.on_connect = self._on_connect
        self.client.on_publish = self._on_publish
        self.client.on_subscribe = self._on_subscribe
        self.client.on_message = self._on_message
        self.client.connect(broker.host, broker.port)
        self.client.loop_start()
        self.wait(lambda: self._up or self.refused)

    def wait(self, condition):
        with self._changed:
            assert self._changed.wait_for(condition, DEADLINE_S), (
                {self._sent[n] for n in self._sent.keys() - self.answers.keys()},
                self.came,
            )

    def publish(self, topic, payload):
        # Without our lock: paho holds its own here, and when it calls back.
        self._sent[self.client.publish(topic, payload, qos=1).mid] = topic

    def published(self):
        """Topic -> reason of its PUBACK, once all are acknowledged."""
        self.wait(lambda: len(self.answers) == len(self._sent))
        return {self._sent[number]: reason for number, reason in self.answers.items()}

    def subscribe(self, *filters):
        wanted = [(one, SubscribeOptions(qos=1) if self._five else 1) for one in filters]
        self.client.subscribe(wanted)
        self.wait(lambda: self._subscribed)

    def close(self):
        self.client.disconnect()
        self.client.loop_stop()

    def _on_connect(self, _client, _user, _flags, code, _properties):
        with self._changed:
            self._up, self.refused = not code.is_failure, str(code) if code.is_failure else ""
            self._changed.notify_all()
        if code.is_failure:
            self.client.disconnect()

    def _on_publish(self, _client, _user, number, code, _properties):
        with self._changed:
            self.answers[number] = code.value
            self._changed.notify_all()

    def _on_subscribe(self, _client, _user, _number, _codes, _properties):
        with self._changed:
            self._subscribed = True
            self._changed.notify_all()

    def _on_message(self, _client, _user, message):
        with self._changed:
            self.came.append((message.topic, message.payload.decode()))
            self._changed.notify_all()
