"""The door to paho: whose message may be acknowledged where, and how opening fails."""

import asyncio
import socket

import pytest
from fix_bridge import message

from ingest.mqtt.client import Connection, MqttSettings
from sizao.errors import Retriable


@pytest.fixture
def connection():
    def make(port=1, epoch=1, **rest):
        settings = MqttSettings(port=port, **rest)
        return Connection(
            settings, client_id="c", epoch=epoch, stamp=lambda: 1, take=lambda _: None
        )

    return make


@pytest.fixture
def deaf():
    """A server that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


async def test_a_message_of_another_connection_is_never_acknowledged(connection):
    late = message("up/a/b", b"")
    late.epoch = 1
    assert not connection(epoch=2).acknowledge(late)


async def test_a_dead_connection_acknowledges_nothing(connection):
    one = connection()
    one.close()
    assert not one.acknowledge(message("up/a/b", b""))
    assert not one.subscribed
    assert one.read(10) == 0


async def test_no_broker_is_retriable(connection):
    with pytest.raises(Retriable):
        await connection().open()


async def test_a_broker_that_says_nothing_is_retriable_in_time(connection, deaf, monkeypatch):
    monkeypatch.setattr("ingest.mqtt.client._OPEN_DEADLINE_S", 0.2)
    one = connection(deaf)
    with pytest.raises(Retriable, match="no answer"):
        await one.open()
    assert one.dead


async def test_a_missing_password_file_is_named(connection, tmp_path):
    with pytest.raises(Retriable, match=r"mqtt\.secret"):
        await connection(password_file=tmp_path / "mqtt.secret").open()


async def test_cancelled_while_connecting_it_is_closed(connection, deaf):
    one = connection(deaf)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await one.open()
    assert one.dead
