"""The receiving end of MQTT: whose message may be acknowledged where, what ends a connection."""

import asyncio
import socket
import struct

import pytest
from fix_bridge import message

from ingest.mqtt.client import Connection
from ingest.mqtt.settings import MqttSettings
from sizao import clock
from sizao.clock import Rising
from sizao.errors import Retriable


@pytest.fixture
def connection():
    made = []

    def make(port=1, epoch=1, held=frozenset(), mount="", **rest):
        settings, stamp = MqttSettings(port=port, **rest), Rising().now_us
        made.append(
            Connection(settings, client_id="c", epoch=epoch, stamp=stamp, held=held, mount=mount)
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


def of_epoch(epoch, number):
    one = message("up/a/b", b"", number=number)
    one.epoch = epoch
    return one


async def test_a_message_of_another_connection_is_never_acknowledged(broker, connection):
    one = connection(broker["port"], epoch=2)
    await one.open()
    assert one.acknowledge([of_epoch(1, 7)]) == 0
    assert one.acknowledge([of_epoch(1, 8), of_epoch(2, 9)]) == 1
    one.flush()
    await until(lambda: broker["heard"])
    assert broker["heard"] == b"\x40\x02\x00\x09"


async def test_a_dead_connection_acknowledges_nothing(connection):
    one = connection()
    one.close()
    assert one.acknowledge([message("up/a/b", b"")]) == 0
    assert not one.subscribed
    assert one.read(10, 10) == ([], 0, 0)


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
REFUSED = b"\x20\x03\x00\x87\x00"


@pytest.fixture
async def broker():
    """Says what it is told to after a CONNECT, and hears what comes."""
    said = {"session": SESSION_PRESENT, "then": b"", "first": b""}
    heard, serving = bytearray(), set()

    async def serve(reader, writer):
        serving.add(asyncio.current_task())
        said["writer"] = writer
        try:
            said["connect"] = await reader.read(1000)
            writer.write((said["first"] or CONNACK % said["session"]) + said["then"])
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
    if serving:
        await asyncio.wait(serving)
    await asyncio.sleep(0)  # aborted transports close at the loop's next turn


async def until(true):
    async with asyncio.timeout(5):
        while not true():  # noqa: ASYNC110 - what is waited for are bytes of a socket
            await asyncio.sleep(0.001)


async def read(one, enough=lambda _: False):
    """Until it is dead or there is enough."""
    got = []
    async with asyncio.timeout(5):
        while not one.dead and not enough(got):
            got += one.read(100, 1 << 20).messages
            one.flush()
            await asyncio.sleep(0.001)
    return got


def publish(number, payload=b"payload", head=0x32, topic=b"t"):
    body = len(topic).to_bytes(2, "big") + topic + number.to_bytes(2, "big") + b"\x00" + payload
    return bytes([head, len(body)]) + body


@pytest.mark.parametrize(("packets_max", "bytes_max"), [(4, 1000), (100, 25)])
async def test_reading_stops_in_mid_stream_when_there_is_no_room(
    broker, connection, packets_max, bytes_max
):
    """Eight bytes each: the fourth goes beyond 25."""
    broker["then"] = b"".join(publish(number) for number in range(1, 11))
    one = connection(broker["port"])
    await one.open()
    got = []
    async with asyncio.timeout(5):
        while not got:
            got = one.read(packets_max, bytes_max).messages
            await asyncio.sleep(0.02)
    assert [found.packet_id for found in got] == [1, 2, 3, 4]
    messages, size, _ = one.read(packets_max, bytes_max)
    assert [found.packet_id for found in messages] == [5, 6, 7, 8]
    assert size == 32


async def test_what_was_queued_before_there_was_a_mount_point_keeps_its_topic(broker, connection):
    topics = [b"s0/up/a/b", b"up/a/b", b"t"]
    broker["then"] = b"".join(publish(n, topic=topic) for n, topic in enumerate(topics, 1))
    one = connection(broker["port"], mount="s0/")
    await one.open()
    assert {got.topic for got in await read(one, lambda got: len(got) == 3)} == set(topics[1:])


async def test_arrivals_rise_and_no_two_are_the_same(broker, connection):
    broker["then"] = b"".join(publish(number) for number in range(1, 51))
    stamp = Rising(1 << 60).now_us  # far ahead of the wall clock, so only counting helps
    one = connection(broker["port"])
    one._stamp = stamp
    await one.open()
    stamps = []
    while len(stamps) < 50:
        stamps += [found.arrived_us for found in one.read(7, 1000).messages]
        await asyncio.sleep(0)
    assert stamps == sorted(set(stamps))
    assert stamps[-1] < stamp()


async def test_acknowledgements_go_out_at_once_and_in_order(broker, connection):
    broker["then"] = b"".join(publish(number) for number in range(1, 31))
    one = connection(broker["port"])
    await one.open()
    got = await read(one, lambda got: len(got) == 30)
    assert one.acknowledge(got) == 30
    one.flush()
    acks = b"".join(struct.pack(">BBH", 0x40, 2, number) for number in range(1, 31))
    await until(lambda: broker["heard"] == acks)


async def test_a_broker_that_reads_nothing_loses_no_byte_and_is_left_in_the_end(
    broker, connection, monkeypatch
):
    one = connection(broker["port"])
    await one.open()
    taken = []

    class Narrow:
        waiting = False

        def write(self, data):
            taken.append(bytes(data[:3]))
            return len(taken[-1])

        def close(self):
            pass

    one._link.close()
    one._link = Narrow()
    one.acknowledge([of_epoch(1, number) for number in (1, 2, 3)])
    for _ in range(4):
        one.flush()
    assert b"".join(taken) == b"\x40\x02\x00\x01\x40\x02\x00\x02\x40\x02\x00\x03"
    one._link.waiting = True  # TLS has encrypted it already
    one.flush()
    assert taken[-1] == b""
    monkeypatch.setattr("ingest.mqtt.client._UNSENT_BYTES_MAX", 8)
    one.acknowledge([of_epoch(1, number) for number in (4, 5, 6)])
    one.flush()
    assert one.dead == "the broker takes no acknowledgements"


async def test_what_was_retained_before_is_acknowledged_counted_and_not_handed_on(
    broker, connection
):
    broker["then"] = publish(1, head=0x33) + publish(2) + publish(3, head=0x3B)
    one = connection(broker["port"])
    await one.open()
    retained, got = 0, []
    async with asyncio.timeout(5):
        while retained < 2:
            messages, _, old = one.read(100, 1000)
            got += messages
            retained += old
            await asyncio.sleep(0.001)
    assert [(found.packet_id, found.dup) for found in got] == [(2, False)]
    one.flush()
    await until(lambda: broker["heard"] == b"\x40\x02\x00\x01\x40\x02\x00\x03")


async def test_what_the_session_holds_and_nobody_wants_is_given_up(broker, connection):
    one = connection(broker["port"], held=frozenset({"up/+/old", "up/+/kept"}))
    await one.open()
    one.subscribe(["up/+/kept", "up/+/new"])
    assert one.held == {"up/+/old", "up/+/kept", "up/+/new"}
    one.flush()
    await until(lambda: b"up/+/old" in broker["heard"])
    # SUBSCRIBE first: a topic that another filter takes over misses nothing.
    subscribe, unsubscribe = broker["heard"].split(b"\xa2")
    assert b"up/+/new" in subscribe
    assert b"up/+/kept" not in unsubscribe
    assert one.held >= {"up/+/old"}, "until the broker has said so"
    broker["writer"].write(answer(0xB0, 2, 17))  # no such subscription: gone all the same
    await read(one, lambda _: 2 not in one._asked)
    assert one.held == {"up/+/kept", "up/+/new"}
    assert not one.subscribed
    broker["writer"].write(answer(0x90, 1, 1, 1))
    await read(one, lambda _: one.subscribed)


async def test_what_is_wanted_again_or_refused_is_not_forgotten(broker, connection):
    one = connection(broker["port"], held=frozenset({"a", "b", "c"}))
    await one.open()
    one.subscribe(["c"])
    one.subscribe(["c", "a"])
    broker["writer"].write(answer(0xB0, 2, 0, 0x87))
    await read(one, lambda _: 2 not in one._asked)
    assert "a" in one.held, "it was subscribed to again meanwhile"
    assert "b" in one.held, "tried again at the next connection"


def answer(head, number, *codes):
    """The broker's answer to a SUBSCRIBE or UNSUBSCRIBE of MQTT 5."""
    body = number.to_bytes(2, "big") + b"\x00" + bytes(codes)
    return bytes([head, len(body)]) + body


async def test_a_new_session_holds_nothing(broker, connection):
    broker["session"] = 0
    one = connection(broker["port"], held=frozenset({"up/+/old"}))
    await one.open()
    assert one.held == frozenset()
    assert not one.session_present


@pytest.mark.parametrize(
    ("first", "why"),
    [
        (REFUSED, "refused: not authorized"),
        (b"\x20\x08\x00\x87\x05\x1f\x00\x02no", "refused: not authorized (no)"),
        (b"\x20\x02\x00\x01", "unsupported protocol version (mqtt.version 3.1.1 may help)"),
        (publish(1), "a message before CONNACK"),
        (answer(0x90, 1, 1), "an answer before CONNACK"),
        (b"\xe0\x02\x8b\x00", "broker: server shutting down"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "protocol error: "),
        (b"\x20\xff\xff\xff\xff\x01", "a length of more than four bytes"),
    ],
)
async def test_a_welcome_that_is_none_is_retriable_and_says_why(broker, connection, first, why):
    broker["first"] = first
    one = connection(broker["port"])
    with pytest.raises(Retriable) as caught:
        await one.open()
    assert why in str(caught.value)


@pytest.mark.parametrize(
    ("then", "why"),
    [
        (b"\x20\x03\x00\x00\x00", "protocol error: a second CONNACK"),
        (b"\xe0\x02\x8e\x00", "broker: session taken over"),
        (b"\xe0\x00", "broker: success"),
        (answer(0x90, 9, 1), "that nobody has asked for"),
        (b"\x34\x03\x00\x01t", "QoS 2"),
        (b"\x32\x07\x00\x01t\x00\x00\x00p", "packet identifier 0"),
        (b"\x30\x06\x00\x00\x03\x23\x00\x01", "a message without a topic"),
        (b"\xf0\x00", "an AUTH"),
        (b"\x30\xff\xff\x7f", "2097151 bytes; mqtt.packet_bytes_max is 1310720"),
    ],
)
async def test_what_ends_a_connection_is_said_and_what_came_before_it_is_handed_on(
    broker, connection, then, why
):
    broker["then"] = publish(1) + then + publish(2)
    one = connection(broker["port"])
    await one.open()
    got = await read(one)
    assert why in one.dead
    assert [found.packet_id for found in got][:1] == [1]
    assert one.acknowledge(got) == 0


async def test_a_refused_subscription_ends_the_connection_and_names_the_filter(broker, connection):
    one = connection(broker["port"])
    await one.open()
    one.subscribe(["up/a", "up/b", "up/c"])
    broker["writer"].write(answer(0x90, 1, 1, 0x87, 0))
    await read(one)
    assert one.dead == "subscription refused: up/b (not authorized), up/c (QoS 0 only)"


async def test_a_broker_that_takes_small_packets_only_gets_no_larger_one(broker, connection):
    broker["first"] = b"\x20\x08\x01\x00\x05\x27\x00\x00\x00\x40"
    one = connection(broker["port"])
    await one.open()
    one.subscribe(["up/" + "x" * 70])
    assert one.dead == "the broker takes 64 bytes, a subscription 81"


async def test_pings_go_out_by_themselves_and_silence_ends_the_connection(broker, connection):
    one = connection(broker["port"], keepalive_s=10)
    await one.open()
    now_s = one.heard_s = one._pinged_s = clock.monotonic_s()
    for passed_s in range(16):
        one.tend(now_s + passed_s)
        one.flush()
    await until(lambda: broker["heard"] == b"\xc0\x00" * 3)
    assert not one.dead
    one.tend(now_s + 15.1)
    assert one.dead == "the broker is silent"


async def test_a_broker_that_wants_to_hear_more_often_does_and_its_answer_is_a_sign_of_life(
    broker, connection
):
    broker["first"] = b"\x20\x06\x01\x00\x03\x13\x00\x04"
    one = connection(broker["port"])
    await one.open()
    one.tend(one._pinged_s + 2)
    one.flush()
    await until(lambda: broker["heard"] == b"\xc0\x00")
    one.heard_s = 0.0
    broker["writer"].write(b"\xd0\x00")
    await read(one, lambda _: one.heard_s)
    assert not one.dead


async def test_a_subscription_without_an_answer_ends_the_connection(broker, connection):
    one = connection(broker["port"])
    await one.open()
    one.subscribe(["a"])
    one.heard_s = one._asked_s + 60
    one.tend(one._asked_s + 60.1)
    assert one.dead == "the broker does not answer a subscription"


async def test_it_says_goodbye_and_the_other_end_may_go_without(broker, connection):
    one, two = connection(broker["port"]), connection(broker["port"])
    await one.open()
    one.close()
    await until(lambda: broker["heard"] == b"\xe0\x00")
    await two.open()
    broker["writer"].close()
    await read(two)
    assert two.dead == "read: the broker has closed the connection"
