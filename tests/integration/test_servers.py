"""The private servers: real ones are started, refused, killed and looked at."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import aiokafka
import paho.mqtt.client as mqtt
import psycopg
import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from deploy.local.failure import ServerError
from deploy.local.fleet import Fleet
from deploy.local.gates import mqtt_gate
from deploy.local.identity import Identity, identify
from deploy.local.kafka import Kafka, find_java
from deploy.local.mosquitto import Mosquitto
from deploy.local.patience import wait_for
from deploy.local.places import REPOSITORY, free_ports
from deploy.local.postgres import Postgres
from deploy.local.servers import Servers

GONE_S = 25.0
HOLDER = """
import signal, sys, threading
from pathlib import Path
# A shell that runs the tests in the background lets its children ignore the interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)
from deploy.local.servers import Servers
with Servers(Path(sys.argv[1])) as servers:
    print(*(server.child.pid for server in servers.all), flush=True)
    threading.Event().wait()
"""
ACL = "user device\ntopic write up/#\nuser bridge\ntopic read up/#\n"
USERS = {"device": "device's word", "bridge": "bridge's word"}


def hold(own_place: Path) -> tuple[subprocess.Popen[str], list[Identity]]:
    """Start the servers from a process of their own, as a demo or a test run would."""
    words = own_place / "holder.log"
    with words.open("w") as sink:
        holder = subprocess.Popen(
            [sys.executable, "-c", HOLDER, str(own_place)],
            stdout=subprocess.PIPE,
            stderr=sink,
            text=True,
            cwd=REPOSITORY,
            start_new_session=True,
        )
    line = holder.stdout.readline()
    holder.stdout.close()
    assert line, words.read_text()
    found = [identify(int(word)) for word in line.split()]
    assert len(found) == 3
    assert all(found)
    return holder, found


def parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


# --- the tree ------------------------------------------------------------------------------------


def test_all_start_on_the_loopback_alone_and_stop(own_place: Path) -> None:
    with Servers(own_place, fresh=True) as servers:
        pids = [identify(server.child.pid) for server in servers.all]
        assert all(one and one.alive() for one in pids)
        at = servers.addresses
        ports = [at.mqtt_port, int(at.kafka_bootstrap.rpartition(":")[2]), at.postgres_port]
        for port in ports:
            socket.create_connection(("127.0.0.1", port), 2).close()
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(("127.0.0.2", port), 2)
        assert at.postgres_password not in repr(at)
        with pytest.raises(ServerError, match="another run uses"):
            Servers(own_place).start()
    assert not any(one.alive() for one in pids)
    assert all(server.child.log.exists() for server in servers.all), "logs are kept"


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_death_of_the_parent_stops_the_whole_tree(own_place: Path, number: int) -> None:
    holder, servers = hold(own_place)
    guards = [identify(parent(one.pid)) for one in servers]
    os.kill(holder.pid, number)
    holder.wait(GONE_S)
    for one in servers + guards:
        assert one.wait_gone(GONE_S), f"process {one.pid} outlived its parent"


def test_stale_run_is_recovered_with_its_data(own_place: Path) -> None:
    holder, old = hold(own_place)
    dsn = Servers(own_place).postgres.dsn()
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 1 AS one")
    for pid in [parent(one.pid) for one in old]:
        os.kill(pid, signal.SIGKILL)
    holder.kill()
    holder.wait(GONE_S)
    assert all(one.alive() for one in old), "servers without guard and parent run on"
    with Servers(own_place) as servers:
        assert not any(one.alive() for one in old)
        with psycopg.connect(servers.postgres.dsn()) as connection:
            assert connection.execute("SELECT one FROM kept").fetchone() == (1,)


# --- Mosquitto -----------------------------------------------------------------------------------


def client(name: str, user: str | None, *, kept: bool = False) -> mqtt.Client:
    made = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=name, protocol=mqtt.MQTTv5)
    if user:
        made.username_pw_set(user, USERS[user])
    made.connect_properties = Properties(PacketTypes.CONNECT)
    made.connect_properties.SessionExpiryInterval = 600 if kept else 0
    return made


def connect(one: mqtt.Client, servers: Servers, *, kept: bool = False) -> bool:
    """Connect in the background; return whether the broker knew the session."""
    known: list[bool] = []
    done = threading.Event()

    def on_connect(_client, _data, flags, reason, _properties):
        assert not reason.is_failure, reason
        known.append(flags.session_present)
        done.set()

    one.on_connect = on_connect
    one.connect(
        servers.mosquitto.host,
        servers.mosquitto.port,
        clean_start=not kept,
        properties=one.connect_properties,
    )
    one.loop_start()
    assert done.wait(10)
    return known[0]


def close(one: mqtt.Client) -> None:
    one.disconnect()
    one.loop_stop()


def test_anonymous_and_wrong_words_are_refused(servers: Servers) -> None:
    servers.mosquitto.set_users(USERS, ACL)
    at = (servers.mosquitto.host, servers.mosquitto.port)
    assert "refuses" in mqtt_gate(*at, None, None)
    assert "refuses" in mqtt_gate(*at, "device", "guessed")
    assert mqtt_gate(*at, "device", USERS["device"]) is None


def test_two_thousand_users_are_loaded_at_once(servers: Servers) -> None:
    at = (servers.mosquitto.host, servers.mosquitto.port)
    many = {f"device-{number}": f"word-{number}" for number in range(2_000)}
    servers.mosquitto.set_users(many, ACL)
    assert mqtt_gate(*at, "device-1999", "word-1999") is None
    servers.mosquitto.set_users(USERS, ACL)
    assert "refuses" in mqtt_gate(*at, "device-1999", "word-1999")


def test_a_refused_message_is_not_taken_for_an_acknowledged_one(servers: Servers) -> None:
    servers.mosquitto.set_users({"device-1": "word"}, "pattern write up/%u/#\n")
    fleet = Fleet(servers.mosquitto.host, servers.mosquitto.port)
    fleet.connect({"device-1": "word"})
    fleet.publish("device-1", "up/device-1/telemetry", b"{}")
    fleet.settle(10)
    fleet.publish("device-1", "up/device-2/telemetry", b"{}")
    with pytest.raises(ServerError, match="refused 1 messages"):
        fleet.settle(10)
    fleet.close()


def test_five_thousand_queued_messages_survive_kill_9(servers: Servers) -> None:
    servers.mosquitto.set_users(USERS, ACL)
    bridge = client("bridge-1", "bridge", kept=True)
    subscribed = threading.Event()
    bridge.on_subscribe = lambda *_: subscribed.set()
    assert not connect(bridge, servers, kept=True)
    bridge.subscribe("up/#", qos=1)
    assert subscribed.wait(10)
    close(bridge)

    device = client("device-1", "device")
    device.max_inflight_messages_set(1_000)
    connect(device, servers)
    sent = [device.publish("up/1", f"{number}", qos=1) for number in range(5_000)]
    assert wait_for(lambda: all(one.is_published() for one in sent), 20)
    close(device)
    # Twice written since: the first of the two may have begun before our last message.
    file = servers.mosquitto.data / "mosquitto.db"
    for _ in range(2):
        before = file.stat().st_ino, file.stat().st_mtime_ns
        wait_for(lambda was=before: (file.stat().st_ino, file.stat().st_mtime_ns) != was, 2.5)
    servers.mosquitto.kill()
    servers.mosquitto.start()

    got: list[int] = []
    bridge = client("bridge-1", "bridge", kept=True)
    bridge.on_message = lambda _client, _data, message: got.append(int(message.payload))
    assert connect(bridge, servers, kept=True), "the session was forgotten"
    assert wait_for(lambda: len(got) >= 5_000, 20)
    close(bridge)
    assert got == list(range(5_000))


def test_broker_that_cannot_save_is_not_accepted(
    own_place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deploy.local.mosquitto.SAVE_S", 0.5)
    broker = Mosquitto(own_place / "mosquitto")
    # The snapshot is written under this name first; a folder there stops root as well.
    (broker.data / "mosquitto.db.new").mkdir(parents=True)
    with pytest.raises(ServerError, match="cannot save its sessions"):
        broker.start()
    assert not broker.child.alive()


def test_port_that_somebody_took_is_given_up_for_another(own_place: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        broker = Mosquitto(own_place / "mosquitto")
        ports = {"PORT": port, "TLS_PORT": free_ports(1)[0]}
        (broker.folder / "ports.json").write_text(json.dumps(ports))
        broker.start()
        assert broker.port != port
        broker.stop()


# --- Kafka ---------------------------------------------------------------------------------------


async def produce(bootstrap: str, topic: str, values: list[bytes]) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    await admin.create_topics([NewTopic(topic, 1, 1)])
    await admin.close()
    async with aiokafka.AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all") as producer:
        for value in values:
            await producer.send_and_wait(topic, value, partition=0)


async def read(bootstrap: str, topic: str, count: int) -> list[bytes]:
    consumer = aiokafka.AIOKafkaConsumer(bootstrap_servers=bootstrap, auto_offset_reset="none")
    consumer.assign([aiokafka.TopicPartition(topic, 0)])
    async with consumer:
        consumer.seek(aiokafka.TopicPartition(topic, 0), 0)
        async with asyncio.timeout(20):
            return [(await consumer.getone()).value for _ in range(count)]


async def test_kafka_is_back_after_kill_9_with_every_acknowledged_record(servers: Servers) -> None:
    values = [b"%d" % number for number in range(200)]
    await produce(servers.kafka.bootstrap, "test.kill", values)
    await asyncio.to_thread(servers.kafka.kill)
    await asyncio.to_thread(servers.kafka.start)
    # Ready means ready: no retry, no wait before the first record after it.
    await produce(servers.kafka.bootstrap, "test.after", [b"first"])
    assert await read(servers.kafka.bootstrap, "test.kill", len(values)) == values


def test_java_s_options_do_not_hide_its_version(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JAVA_TOOL_OPTIONS", '-Dolder="11"')
    assert find_java()


def test_a_strangers_kafka_on_our_port_is_not_taken_for_ours(
    servers: Servers, own_place: Path
) -> None:
    broker = Kafka(own_place / "kafka")
    ports = {"PORT": servers.kafka.port, "CONTROLLER_PORT": free_ports(1)[0]}
    (broker.folder / "ports.json").write_text(json.dumps(ports))
    broker.start()
    assert broker.port != servers.kafka.port
    broker.stop()


async def test_topics_are_not_made_by_a_typing_error(servers: Servers) -> None:
    producer = aiokafka.AIOKafkaProducer(
        bootstrap_servers=servers.kafka.bootstrap, request_timeout_ms=1_000
    )
    async with producer:
        with pytest.raises(aiokafka.errors.KafkaError):
            await producer.send_and_wait("sizao.raedings", b"x")


# --- PostgreSQL ----------------------------------------------------------------------------------


def test_committed_row_survives_a_crash_of_postgres(servers: Servers, postgres_db: str) -> None:
    with psycopg.connect(postgres_db) as connection:
        connection.execute("CREATE TABLE kept (one integer)")
        connection.execute("INSERT INTO kept VALUES (1)")
        connection.commit()
        connection.execute("INSERT INTO kept VALUES (2)")
        servers.postgres.kill()
        with pytest.raises(psycopg.OperationalError):
            connection.commit()
    servers.postgres.start()
    with psycopg.connect(postgres_db) as connection:
        assert connection.execute("SELECT one FROM kept").fetchall() == [(1,)]


def test_postgres_refuses_a_wrong_password(servers: Servers) -> None:
    wrong = servers.postgres.dsn().replace(servers.postgres.password, "guessed")
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(wrong)


def test_half_a_cluster_of_a_killed_start_is_made_anew(own_place: Path) -> None:
    postgres = Postgres(own_place / "postgres")
    postgres.data.mkdir()
    (postgres.data / "PG_VERSION").write_text("15\n")
    with pytest.raises(ServerError, match="password is lost"):
        postgres.start()
    (postgres.folder / "password.new").write_text("never used")
    postgres.start()
    with psycopg.connect(postgres.dsn()) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)
    postgres.stop()


def test_a_database_that_is_there_is_kept(servers: Servers, postgres_db: str) -> None:
    """A kill between its making and our note of it must not stop every later start."""
    name = postgres_db.rpartition("/")[2]
    with psycopg.connect(postgres_db) as connection:
        connection.execute("CREATE TABLE kept (one integer)")
    with psycopg.connect(servers.postgres.create_database(name)) as connection:
        assert connection.execute("SELECT count(*) FROM kept").fetchone() == (0,)
