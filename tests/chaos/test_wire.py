"""The fault proxy itself, against a plain echo: each fault does what it is called."""

import socket
import socketserver
import threading

import pytest
from chaos import wire as wires_of
from chaos.wire import Fault, Wires

WAIT_S = 0.3


class Echo(socketserver.BaseRequestHandler):
    def handle(self):
        self.request.settimeout(10)
        try:
            while data := self.request.recv(65536):
                self.request.sendall(data)
        except OSError:
            pass


@pytest.fixture
def wire():
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Echo) as server:
        server.daemon_threads = True
        server.block_on_close = False
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        with Wires() as wires:
            yield wires.open(server.server_address)
        server.shutdown()


@pytest.fixture
def connect(wire):
    opened = []

    def connected():
        opened.append(socket.create_connection(("127.0.0.1", wire.port), 5))
        return opened[-1]

    yield connected
    for one in opened:
        one.close()


def says(one, data=b"word", wait_s=5.0):
    """What comes back; None when nothing does."""
    one.settimeout(wait_s)
    one.sendall(data)
    return hears(one, len(data), wait_s)


def says_on(one):
    """Until it breaks: a first word may still find its way into a broken connection."""
    while says(one):
        pass


def hears(one, size=4, wait_s=5.0):
    one.settimeout(wait_s)
    found = b""
    try:
        while len(found) < size and (data := one.recv(size - len(found))):
            found += data
    except TimeoutError:
        return found or None
    return found


def test_a_wire_carries_both_ways(wire, connect):
    assert says(connect(), b"x" * 200_000) == b"x" * 200_000
    assert wire.carried == {"up": 200_000, "down": 200_000}


def test_cut_resets_what_is_open_and_what_is_new_until_it_is_mended(wire, connect):
    one = connect()
    assert says(one) == b"word"
    wire.fail(wires_of.CUT)
    with pytest.raises(ConnectionError):
        says_on(one)
    with pytest.raises(ConnectionError):
        hears(connect())
    wire.mend()
    assert says(connect()) == b"word"


def test_reset_lets_a_new_one_work(wire, connect):
    one = connect()
    assert says(one) == b"word"
    wire.fail(wires_of.RESET)
    with pytest.raises(ConnectionError):
        hears(one)
    assert says(connect()) == b"word"


def test_half_open_takes_everything_answers_nothing_and_ends_with_a_reset(wire, connect):
    one = connect()
    assert says(one) == b"word"
    wire.fail(wires_of.HALF_OPEN)
    assert says(one, b"x" * 1_000_000, WAIT_S) is None
    assert says(connect(), b"new!", WAIT_S) is None
    wire.mend()
    with pytest.raises(ConnectionError):
        hears(one)


@pytest.mark.parametrize("fault", [wires_of.BLACKHOLE, wires_of.DEAF, wires_of.MUTE])
def test_what_was_held_arrives_later(wire, connect, fault):
    one = connect()
    assert says(one) == b"word"
    wire.fail(fault)
    assert says(one, b"late", WAIT_S) is None
    wire.mend()
    assert hears(one) == b"late"


def test_the_server_hears_a_client_that_hears_nothing(wire, connect):
    one = connect()
    assert says(one) == b"word"
    wire.fail(wires_of.MUTE)
    assert says(one, b"late", WAIT_S) is None
    assert wire.carried["up"] == 8


def test_cut_at_a_byte(wire, connect):
    one = connect()
    assert says(one) == b"word"
    wire.fail(Fault(bytes_left=6))
    assert says(one) == b"word"
    with pytest.raises(ConnectionError):
        says_on(one)
    assert wire.carried["up"] == 12
    assert says(connect()) == b"word"


def test_delay(wire, connect):
    one = connect()
    assert says(one) == b"word"
    wire.fail(Fault(delay_s=WAIT_S, jitter_s=WAIT_S))
    assert says(one, b"late", WAIT_S) is None
    assert hears(one) == b"late"
