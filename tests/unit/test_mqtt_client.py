"""The door to paho: whose message may be acknowledged where, and how opening fails."""

import asyncio
import socket

import pytest
from fix_bridge import message
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.reasoncodes import ReasonCode

from ingest.mqtt.client import Connection, MqttSettings
from sizao.errors import Retriable


@pytest.fixture
def connection():
    made = []

    def make(port=1, epoch=1, take=lambda _: True, held=frozenset(), **rest):
        settings = MqttSettings(port=port, **rest)
        made.append(
            Connection(settings, client_id="c", epoch=epoch, stamp=lambda: 1, take=take, held=held)
        )
        return made[-1]

    yield make
    for one in made:
        one.close()


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


CONNACK, SESSION_PRESENT = b"\x20\x03%c\x00\x00", 1


@pytest.fixture
async def broker():
    """Says what it is told to after a CONNECT, and hears what comes."""
    said = {"session": SESSION_PRESENT, "then": b""}
    heard, serving = bytearray(), set()

    async def serve(reader, writer):
        serving.add(asyncio.current_task())
        try:
            await reader.read(1000)
            writer.write(CONNACK % said["session"] + said["then"])
            while block := await reader.read(1000):
                heard.extend(block)
        except OSError:
            pass  # closed with bytes unread
        finally:
            writer.transport.abort()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    said |= {"port": server.sockets[0].getsockname()[1], "heard": heard}
    yield said
    server.close()
    await asyncio.wait(serving)
    await asyncio.sleep(0)  # aborted transports close at the loop's next turn


def publish(number):
    body = b"\x00\x01t" + number.to_bytes(2, "big") + b"\x00" + b"payload"
    return bytes([0x32, len(body)]) + body


async def test_reading_stops_in_mid_stream_when_there_is_no_room(broker, connection):
    broker["then"] = b"".join(publish(number) for number in range(1, 11))
    got = []

    def take(found):
        got.append(found.packet_id)
        return len(got) % 4 != 0

    one = connection(broker["port"], take=take)
    await one.open()
    async with asyncio.timeout(5):
        while len(got) < 4:
            one.read(100)
            await asyncio.sleep(0.001)
    assert got == [1, 2, 3, 4]
    await asyncio.sleep(0.02)
    assert one.read(100) == 4
    assert got == [1, 2, 3, 4, 5, 6, 7, 8]


async def test_what_the_session_holds_and_nobody_wants_is_given_up(broker, connection):
    one = connection(broker["port"], held=frozenset({"up/+/old", "up/+/kept"}))
    await one.open()
    one.subscribe(["up/+/kept", "up/+/new"])
    assert one.held == {"up/+/old", "up/+/kept", "up/+/new"}
    one.flush()
    async with asyncio.timeout(5):
        while b"up/+/old" not in broker["heard"]:  # noqa: ASYNC110 - what is waited for is bytes
            await asyncio.sleep(0.001)
    # SUBSCRIBE first: a topic that another filter takes over misses nothing.
    subscribe, unsubscribe = broker["heard"].split(b"\xa2")
    assert b"up/+/new" in subscribe
    assert b"up/+/kept" not in unsubscribe
    assert one.held >= {"up/+/old"}, "until the broker has said so"
    answer(one, ["up/+/old"], 17)  # no such subscription: gone all the same
    assert one.held == {"up/+/kept", "up/+/new"}


async def test_what_is_wanted_again_or_refused_is_not_forgotten(broker, connection):
    one = connection(broker["port"], held=frozenset({"a", "b", "c"}))
    await one.open()
    one.subscribe(["c"])
    one.subscribe(["c", "a"])
    answer(one, ["a", "b"], 0, 0x87)
    assert "a" in one.held, "it was subscribed to again meanwhile"
    assert "b" in one.held, "tried again at the next connection"


def answer(one, given_up, *codes):
    """The broker's answer to an UNSUBSCRIBE."""
    (number,) = [number for number, asked in one._asked.items() if asked == given_up]
    codes = [ReasonCode(PacketTypes.UNSUBACK, identifier=code) for code in codes]
    one._on_unsubscribe(one._client, None, number, codes, None)


async def test_a_new_session_holds_nothing(broker, connection):
    broker["session"] = 0
    one = connection(broker["port"], held=frozenset({"up/+/old"}))
    await one.open()
    assert one.held == frozenset()
