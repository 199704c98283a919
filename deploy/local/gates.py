"""Is a server really ready? Asked through the client libraries that Sizao uses itself.

A gate returns None when the server is ready, else what is still missing. An open port is never
enough: each of the three listens some time before it can do its work. This is the only module of
the package that touches a client library.
"""

from __future__ import annotations

import asyncio
import socket
import threading

import aiokafka.admin
import aiokafka.errors
import paho.mqtt.client as mqtt
import psycopg
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

ANSWER_S = 2.0  # a server that is up answers on the loopback in milliseconds
GATE_TOPIC = "sizao-gate-is-never-made"


def mqtt_gate(host: str, port: int, user: str | None, password: str | None) -> str | None:
    """CONNECT and wait for a CONNACK that says yes."""
    answer: list[ReasonCode] = []
    answered = threading.Event()

    def on_connect(
        _client: mqtt.Client,
        _data: object,
        _flags: mqtt.ConnectFlags,
        reason: ReasonCode,
        _properties: Properties | None,
    ) -> None:
        answer.append(reason)
        answered.set()

    client = mqtt.Client(
        CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv5, reconnect_on_failure=False
    )
    client.on_connect = on_connect
    client.username_pw_set(user, password)
    try:
        client.connect(host, port)
    except OSError as error:
        return f"no connection to {host}:{port} ({error})"
    client.loop_start()
    try:
        if not answered.wait(ANSWER_S):
            return f"no CONNACK from {host}:{port} within {ANSWER_S} s"
    finally:
        client.disconnect()
        client.loop_stop()
    return f"{host}:{port} refuses {user!r}: {answer[0]}" if answer[0].is_failure else None


async def _ask_kafka(bootstrap: str, cluster: str) -> str | None:
    """One round: our cluster, every partition led, and a topic could be made on a live broker."""
    admin = aiokafka.admin.AIOKafkaAdminClient(
        bootstrap_servers=bootstrap, request_timeout_ms=int(ANSWER_S * 1000)
    )
    await admin.start()
    try:
        found = (await admin.describe_cluster())["cluster_id"]
        if found != cluster:
            return f"somebody else's Kafka answers at {bootstrap} (cluster {found})"
        for topic in await admin.describe_topics():
            for part in topic["partitions"]:
                if part["leader"] < 0:
                    return f"partition {part['partition']} of {topic['topic']} has no leader yet"
        # Only tried, not made: it needs an active controller and an unfenced broker, which is
        # also what the first record needs.
        answer = await admin.create_topics(
            [aiokafka.admin.NewTopic(GATE_TOPIC, 1, 1)], validate_only=True
        )
        for _, code, *words in answer.topic_errors:
            if code:
                return f"no topic could be made: {aiokafka.errors.for_code(code).__name__} {words}"
    finally:
        await admin.close()
    return None


def kafka_gate(bootstrap: str, cluster: str) -> str | None:
    """Metadata from a broker that is registered, unfenced and leads all its partitions.

    The others prove by a password whose server answers; a Kafka only by the id of its `cluster`.
    """
    host, _, port = bootstrap.rpartition(":")
    try:
        # aiokafka logs an error at each refused connection; nobody needs those of a start.
        socket.create_connection((host, int(port)), ANSWER_S).close()
        return asyncio.run(asyncio.wait_for(_ask_kafka(bootstrap, cluster), 2 * ANSWER_S))
    except (aiokafka.errors.KafkaError, OSError, TimeoutError) as error:
        return f"no answer from {bootstrap} ({type(error).__name__}: {error})"


def postgres_gate(dsn: str) -> str | None:
    """Run a query; a server that still recovers refuses it."""
    try:
        with psycopg.connect(dsn, connect_timeout=2, autocommit=True) as connection:
            connection.execute("SELECT 1")
    except psycopg.OperationalError as error:
        return f"no query answered ({str(error).strip()})"
    return None


def make_database(dsn: str, name: str) -> None:
    """Create database `name`, unless it is there, with the rights of `dsn`."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        there = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", (name,))
        if there.fetchone():
            return
        connection.execute(
            psycopg.sql.SQL("CREATE DATABASE {}").format(psycopg.sql.Identifier(name))
        )


def drop_database(dsn: str, name: str) -> None:
    """Drop database `name`, whoever is still connected."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(
            psycopg.sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(
                psycopg.sql.Identifier(name)
            )
        )
