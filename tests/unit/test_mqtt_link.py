"""TLS towards the broker: whom it trusts, who it says it is, and what it says when that fails."""

import socket
import ssl
import struct
import threading

import pytest

from ingest.mqtt.link import open_link, tls_context
from ingest.mqtt.settings import MqttSettings, TlsSettings


class Server:
    """Takes one connection and does with it what it is told, in a thread."""

    def __init__(self, serve, context=None):
        self._serve, self._context = serve, context
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self):
        try:
            accepted, _ = self._listening.accept()
            with accepted:
                accepted.settimeout(10)
                if self._context is None:
                    self._serve(accepted)
                else:
                    with self._context.wrap_socket(accepted, server_side=True) as secure:
                        self._serve(secure)
        except OSError:
            pass  # the client has gone: that is what most of these tests are about

    def close(self):
        self._listening.close()
        self._thread.join(10)


@pytest.fixture
def serving(certificates):
    made = []

    def start(serve=lambda _: None, name="broker", *, tls=True, asks=False):
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(certificates / f"{name}.pem", certificates / f"{name}.key")
        if asks:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(certificates / "ca.pem")
        made.append(Server(serve, context if tls else None))
        return made[-1].port

    yield start
    for one in made:
        one.close()


@pytest.fixture
def opened(certificates):
    made = []

    def connect(port, ca="ca", host="localhost", **rest):
        tls = {"ca_file": certificates / f"{ca}.pem"}
        for key, name in rest.items():
            tls[key] = certificates / name
        made.append(open_link(MqttSettings(host=host, port=port, tls=tls)))
        return made[-1]

    yield connect
    for one in made:
        one.close()


def all_of(link, size):
    """As many bytes as are expected, read a little at a time."""
    buffer, count = memoryview(bytearray(size + 1)), 0
    while count < size:
        count += link.read(buffer[count : min(count + 5_000, size + 1)])
    return bytes(buffer[:count])


def written(link, data):
    place = 0
    while place < len(data) or link.waiting:
        place += link.write(data[place:])


def test_many_small_records_come_whole_and_a_large_answer_goes_out_whole(serving, opened):
    """The broker takes nothing for a while: what was encrypted already must not go twice."""
    sent = [b"%d," % number for number in range(3_000)]
    came = bytearray()
    going = threading.Event()

    def serve(secure):
        for one in sent:
            secure.sendall(one)
        going.wait(5)
        while len(came) < 8 << 20:
            block = secure.recv(1 << 16)
            if not block:
                return
            came.extend(block)

    link = opened(serving(serve))
    assert all_of(link, sum(map(len, sent))) == b"".join(sent)
    answer = bytes(range(256)) * ((8 << 20) // 256)
    first = 0
    for _ in range(50):
        first += link.write(answer[first:])
    assert 0 < first < len(answer), "it waits for nobody"
    assert link.waiting
    going.set()
    written(link, answer[first:])
    with pytest.raises(ConnectionError, match="has closed"):  # it has taken all and gone
        all_of(link, 1)
    assert bytes(came) == answer


def test_a_goodbye_of_tls_ends_it_behind_the_last_byte(serving, opened):
    """OpenSSL then reads nothing for ever, without an error."""

    def serve(secure):
        secure.sendall(b"last")
        secure.unwrap()

    link = opened(serving(serve))
    assert all_of(link, 4) == b"last"
    with pytest.raises(ConnectionError, match="has closed"):
        all_of(link, 1)


def test_the_last_word_before_a_reset_is_heard(serving, opened):
    """A broker that closes with our acknowledgements unread resets: `session taken over` was lost,
    and the one that had lost its session took it back at once.
    """
    gone = threading.Event()

    def serve(secure):
        secure.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # else it dies with us
        secure.sendall(b"last")
        secure.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        secure.close()
        gone.set()

    link = opened(serving(serve))
    assert gone.wait(5)
    buffer = memoryview(bytearray(100))
    assert bytes(buffer[: link.read(buffer)]) == b"last"
    with pytest.raises(ConnectionError):
        link.read(buffer)


def test_a_certificate_of_ours_is_shown(serving, opened):
    def serve(secure):
        name = dict(one[0] for one in secure.getpeercert()["subject"])
        secure.sendall(name["commonName"].encode())

    port = serving(serve, asks=True)
    link = opened(port, certificate_file="bridge.pem", key_file="bridge.key")
    assert all_of(link, 6) == b"bridge"


def test_a_broker_that_asks_for_one_refuses_us_without(serving, opened):
    link = opened(serving(lambda secure: secure.sendall(b"x"), asks=True))
    with pytest.raises(ssl.SSLError, match="certificate required"):  # TLS 1.3 tells it later
        all_of(link, 1)


@pytest.mark.parametrize(
    ("name", "ca", "host", "told"),
    [
        ("broker", "other", "localhost", "mqtt.tls.ca_file"),
        ("stranger", "ca", "localhost", "mqtt.host"),
        ("broker", "ca", "127.0.0.1", "mqtt.host"),
        ("expired", "ca", "localhost", "the broker's certificate, or the clock"),
    ],
)
def test_a_broker_that_cannot_prove_who_it_is_gets_nothing(serving, opened, name, ca, host, told):
    heard = []
    with pytest.raises(ConnectionError, match="certificate verify failed") as caught:
        opened(serving(lambda secure: heard.append(secure.recv(1)), name), ca, host)
    assert told in str(caught.value)
    assert not any(heard)


@pytest.mark.parametrize(
    ("serve", "told"),
    [
        (lambda plain: plain.sendall(b"\x20\x02\x00\x05" * 9), "does not speak TLS"),
        (lambda plain: plain.recv(9), "does mqtt.port"),
    ],
)
def test_a_port_without_tls_is_named(serving, opened, serve, told):
    with pytest.raises(OSError, match=f"{told}|reset by peer"):
        opened(serving(serve, tls=False))


@pytest.mark.parametrize(
    ("files", "told"),
    [
        ({"ca_file": "absent"}, "mqtt.tls.ca_file: .*absent: No such file"),
        ({"ca_file": "no.pem"}, r"mqtt.tls.ca_file: .*no.pem: holds no certificate"),
        ({"certificate_file": "absent", "key_file": "bridge.key"}, "certificate_file: .*No such"),
        ({"certificate_file": "bridge.pem", "key_file": "absent"}, "key_file: .*No such"),
        ({"certificate_file": "bridge.pem", "key_file": "other.key"}, "key_file.*does not belong"),
        ({"certificate_file": "no.pem", "key_file": "bridge.key"}, "no.pem is not PEM"),
        ({"certificate_file": "bridge.pem", "key_file": "encrypted.key"}, "or encrypted"),
    ],
)
def test_a_file_that_is_of_no_use_is_named(certificates, files, told):
    with pytest.raises(OSError, match=told):
        tls_context(TlsSettings(**{key: certificates / name for key, name in files.items()}))
