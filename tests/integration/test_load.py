"""The load generator against a real broker, which dies under it."""

import ssl
import threading

import numpy as np
import pytest

from deploy.local.failure import ServerError
from deploy.local.load import Load, plan_of
from deploy.local.load_payload import Form
from deploy.local.mosquitto import Mosquitto
from deploy.local.patience import wait_for

DEVICES = [(f"c{number % 20}", [f"d{number}"]) for number in range(90)]
DEVICES += [("g0", [f"t{number}" for number in range(50)])]
USERS = {f"c{number}": "word" for number in range(20)} | {"g0": "word"}
ACL = "pattern write up/%u/#\n"


def test_every_message_is_acknowledged_though_the_broker_is_killed(servers):
    broker = servers.mosquitto
    broker.set_users(USERS, ACL)
    plan = plan_of(devices=len(DEVICES), rate=2000, seconds=3, fires=0, fires_from_s=0)
    load = Load(broker.host, broker.port, USERS, DEVICES, plan)
    load.connect()
    running = threading.Thread(target=load.run)
    running.start()
    assert wait_for(lambda: load.acknowledged > 1000, 10)
    broker.kill()
    broker.start()
    running.join(60)
    load.close()
    assert (load.acknowledged, load.refused) == (plan.messages, 0)
    assert load.reconnects >= len(USERS)
    assert (np.array(load.acked_us) >= np.array(load.ts_us)).all()


def test_what_the_access_rules_forbid_is_refused_not_acknowledged(servers):
    broker = servers.mosquitto
    broker.set_users(USERS, "user g0\ntopic write up/g0/#\n")
    plan = plan_of(devices=len(DEVICES), rate=500, seconds=0.5, fires=0, fires_from_s=0)
    load = Load(broker.host, broker.port, USERS, DEVICES, plan)
    load.connect()
    load.run()
    load.close()
    mine = np.array([carrier == "g0" for carrier, _ in DEVICES])[plan.device]
    assert ((np.array(load.acked_us) > 0) == mine).all()
    assert load.refused == int((~mine).sum())


@pytest.fixture
def secured(own_place):
    broker = Mosquitto(own_place / "secured")
    broker.secure()
    broker.set_users(USERS, ACL)
    broker.start()
    yield broker
    broker.stop()


def test_over_tls_and_packed_every_message_is_acknowledged(secured):
    devices = [*DEVICES[:-1], ("g0", [f"{number:08x}" for number in range(50)])]
    plan = plan_of(devices=len(devices), rate=2000, seconds=1, fires=0, fires_from_s=0)
    tls = ssl.create_default_context(cafile=secured.authority)
    load = Load(
        secured.host, secured.tls_port, USERS, devices, plan, form=Form.BINARY, tls=tls
    )  # fmt: skip
    load.connect()
    load.run()
    load.close()
    assert (load.acknowledged, load.refused, load.reconnects) == (plan.messages, 0, 0)


def test_a_certificate_of_somebody_else_is_not_taken(secured, monkeypatch):
    plan = plan_of(devices=len(DEVICES), rate=500, seconds=0.1, fires=0, fires_from_s=0)
    tls = ssl.create_default_context()
    monkeypatch.setattr("deploy.local.load.CONNECT_S", 0.5)
    load = Load(secured.host, secured.tls_port, USERS, DEVICES, plan, tls=tls)
    with pytest.raises(ServerError, match="without CONNACK"):
        load.connect()
    load.close()
