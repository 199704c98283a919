"""Our receiving end of MQTT before a real Mosquitto."""

import asyncio
import shutil
import signal

import pytest
from fix_broker import Client
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from deploy.local.mosquitto import Mosquitto
from deploy.local.places import free_ports
from ingest.mqtt.client import Connection
from ingest.mqtt.settings import MqttSettings
from sizao import clock
from sizao.clock import Rising
from sizao.errors import Retriable

PASSWORD = "bridge-secret"
ACL = "user bridge\ntopic read up/#\nuser device\ntopic write up/#\n"
TLS = """
listener {port} 127.0.0.1
cafile {folder}/ca.pem
certfile {folder}/broker.pem
keyfile {folder}/broker.key
require_certificate {asks}
use_identity_as_username {asks}
"""


@pytest.fixture
def broker(own_place, certificates):
    """Mosquitto; `tls` takes passwords and `mutual` certificates."""
    made = Mosquitto(own_place / "mosquitto")
    keys = made.folder / "keys"
    shutil.copytree(certificates, keys)
    if made.user is not None:
        for file in (keys, *keys.iterdir()):
            shutil.chown(file, made.user.uid, made.user.gid)
    made.tls, made.mutual = free_ports(2)
    made.extra = TLS.format(port=made.tls, folder=keys, asks="false")
    made.extra += TLS.format(port=made.mutual, folder=keys, asks="true")
    made.set_users({"bridge": PASSWORD, "device": PASSWORD}, ACL)
    made.start()
    yield made
    made.stop()


@pytest.fixture
def device(broker):
    one = Client(broker, "device", PASSWORD)
    yield one
    one.close()


@pytest.fixture
def connect(broker, tmp_path):
    """Connections as the bridge makes them, each later one of the same client."""
    password = tmp_path / "mqtt.password"
    password.write_text(PASSWORD + "\n")
    stamp, made = Rising().now_us, []

    def settings(**rest):
        said = {"port": broker.port, "password_file": password} | rest
        return MqttSettings(**said)

    async def opened(**rest):
        given = settings(**rest)
        if rest.get("keepalive_s") == 4:  # the shortest that is allowed, and still long for a test
            given = given.model_copy(update={"keepalive_s": 1})
        one = Connection(given, client_id="b0.t", epoch=len(made) + 1, stamp=stamp)
        made.append(one)
        await one.open()
        one.subscribe(["up/#"])
        return one

    yield opened
    for one in made:
        one.close()


async def come(one, enough, at_once=5_000):
    """What it reads until there is enough, or it is dead."""
    got = []
    async with asyncio.timeout(20):
        while not one.dead and not enough(got):
            got += one.read(at_once, 16 << 20).messages
            one.tend(clock.monotonic_s())
            one.flush()
            await asyncio.sleep(0.005)
    return got


def numbers(messages):
    return [int(one.payload) for one in messages]


async def ready(one):
    await come(one, lambda _: one.subscribed)
    assert one.subscribed, one.dead


async def sent(device, wanted):
    for number in wanted:
        device.publish("up/device/h", b"%d" % number)
    await asyncio.to_thread(device.published)


@pytest.mark.parametrize("version", ["5", "3.1.1"])
async def test_what_was_not_acknowledged_comes_again_marked_and_in_order(connect, device, version):
    one = await connect(version=version)
    await ready(one)
    assert not one.session_present
    await sent(device, range(100))
    got = await come(one, lambda got: len(got) == 100)
    assert numbers(got) == list(range(100))
    assert not any(message.dup for message in got)
    assert one.acknowledge(got[:50]) == 50
    one.flush()
    await asyncio.to_thread(device.published)
    await sent(device, [100])  # the broker has read the acknowledgements before this comes
    await come(one, lambda got: got)
    one._link.close()
    one.read(1, 1)
    assert one.dead
    two = await connect(version=version)
    assert two.session_present
    again = await come(two, lambda got: len(got) == 51)
    assert numbers(again) == list(range(50, 101))
    assert all(message.dup for message in again)
    assert two.acknowledge(got[50:]) == 0, "they came on another connection"
    assert two.acknowledge(again) == 51
    two.flush()
    await sent(device, [101])
    assert numbers(await come(two, lambda got: got)) == [101]


async def test_who_takes_the_session_over_gets_what_the_other_did_not_acknowledge(connect, device):
    one = await connect()
    await ready(one)
    await sent(device, range(30))
    await come(one, lambda got: len(got) == 30)
    two = await connect()
    assert two.session_present
    assert numbers(await come(two, lambda got: len(got) == 30)) == list(range(30))
    await come(one, lambda _: False)
    # Mosquitto 2.0.11 goes without a word.
    assert one.dead in {"broker: session taken over", "read: the broker has closed the connection"}


async def test_a_window_larger_than_a_read_comes_once_and_in_order(connect, device):
    one = await connect()
    await ready(one)
    going = asyncio.get_running_loop().create_task(sent(device, range(20_000)))
    got = []
    while len(got) < 20_000:
        part = await come(one, lambda part: part, at_once=777)
        assert len(part) <= 777
        assert one.acknowledge(part) == len(part)
        got += part
    await going
    assert numbers(got) == list(range(20_000))
    stamps = [message.arrived_us for message in got]
    assert stamps == sorted(set(stamps))


async def test_pings_keep_it_and_a_broker_that_stands_still_is_left(connect, broker):
    one = await connect(keepalive_s=4)
    await ready(one)
    began_s = clock.monotonic_s()
    await come(one, lambda _: clock.monotonic_s() > began_s + 2.5)
    assert not one.dead, "Mosquitto drops a client after 1.5 keep-alives without a word"
    broker.child.signal(signal.SIGSTOP)
    try:
        await come(one, lambda _: False)
    finally:
        broker.child.signal(signal.SIGCONT)
    assert one.dead == "the broker is silent"


async def test_the_largest_payload_passes_and_what_is_larger_costs_its_sender_alone(
    connect, device, broker
):
    one = await connect()
    await ready(one)
    largest = bytes(1 << 20)
    device.publish("up/device/h", largest)
    (got,) = await come(one, lambda got: got)
    assert got.payload == largest
    rude = Client(broker, "device", PASSWORD)
    properties = Properties(PacketTypes.PUBLISH)
    properties.UserProperty = [("k", "v" * 60_000)] * 25
    gone = asyncio.Event()
    loop = asyncio.get_running_loop()
    rude.client.on_disconnect = lambda *_: loop.call_soon_threadsafe(gone.set)
    rude.client.publish("up/device/h", b"x", qos=1, properties=properties)
    async with asyncio.timeout(10):
        await gone.wait()
    await asyncio.to_thread(rude.close)
    assert one.acknowledge([got]) == 1
    healthy = Client(broker, "device", PASSWORD)
    await sent(healthy, [7])
    assert numbers(await come(one, lambda got: got)) == [7]
    healthy.close()


async def test_a_packet_over_our_bound_ends_the_connection_and_names_the_setting(connect, device):
    one = await connect(packet_bytes_max=65_536)
    await ready(one)
    await sent(device, [1])
    device.publish("up/device/h", bytes(70_000))
    got = await come(one, lambda _: False)
    assert numbers(got) == [1]
    assert "mqtt.packet_bytes_max is 65536" in one.dead


@pytest.mark.parametrize("asks", [False, True])
async def test_over_tls_with_a_password_or_a_certificate(
    connect, device, broker, certificates, asks
):
    tls = {"ca_file": certificates / "ca.pem"}
    if asks:  # and no word of a user
        for key, name in (("certificate_file", "bridge.pem"), ("key_file", "bridge.key")):
            tls[key] = certificates / name
    port = broker.mutual if asks else broker.tls
    rest = {"username": "", "password_file": None} if asks else {}
    one = await connect(host="localhost", port=port, tls=tls, **rest)
    await ready(one)
    await sent(device, range(3_000))
    device.publish("up/device/h", b"9" * 300_000)
    got = await come(one, lambda got: len(got) == 3_001)
    assert numbers(got[:-1]) == list(range(3_000))
    assert len(got[-1].payload) == 300_000
    assert one.acknowledge(got) == 3_001
    one.flush()
    one.close()
    two = await connect(host="localhost", port=port, tls=tls, **rest)
    assert two.session_present
    await ready(two)
    assert two.read(10, 1000).messages == []


async def test_over_tls_without_trust_or_a_certificate_it_says_why(connect, broker, certificates):
    wrong, right = ({"ca_file": certificates / f"{name}.pem"} for name in ("other", "ca"))
    with pytest.raises(Retriable, match=r"mqtt\.tls\.ca_file"):
        await connect(host="localhost", port=broker.tls, tls=wrong)
    with pytest.raises(Retriable, match=r"mqtt\.tls\.certificate_file"):
        await connect(host="localhost", port=broker.mutual, tls=right)


async def test_a_wrong_password_is_told(connect):
    with pytest.raises(Retriable, match="refused: not authorized"):
        await connect(username="device", password_file=None)


async def test_a_broker_that_was_restarted_still_has_the_session(connect, device, broker):
    one = await connect()
    await ready(one)
    await sent(device, range(10))
    await come(one, lambda got: len(got) == 10)
    await asyncio.to_thread(broker.restart)
    await come(one, lambda _: False)
    two = await connect()
    assert two.session_present
    again = await come(two, lambda got: len(got) == 10)
    assert numbers(again) == list(range(10))
    assert all(message.dup for message in again)


async def test_what_3_1_1_retained_is_not_said_now(connect, device):
    device.client.publish("up/device/kept", b"1", qos=1, retain=True).wait_for_publish(10)
    one = await connect(version="3.1.1")
    old, got = 0, []
    async with asyncio.timeout(10):
        while not (old and one.subscribed):
            messages, _, retained = one.read(100, 1000)
            got += messages
            old += retained
            one.flush()
            await asyncio.sleep(0.005)
    assert got == []
    device.client.publish("up/device/kept", b"2", qos=1, retain=True).wait_for_publish(10)
    assert numbers(await come(one, lambda got: got)) == [2], "said now, retained besides"
