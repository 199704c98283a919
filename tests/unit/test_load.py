"""The load generator's plan and its MQTT: exact bytes, absolute times, this machine only."""

import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import numpy as np
import pytest

from deploy.local import load_plan, load_wire
from deploy.local.failure import ServerError
from deploy.local.load import Load, loopback, plan_of
from deploy.local.load_payload import Form, maker


def test_connect_and_publish_are_the_standard_s_bytes():
    assert load_wire.connect("c1", "pw") == bytes.fromhex(
        "10" "17" "00044d515454" "05" "c2" "0000" "00" "00026331" "00026331" "00027077"
    )  # fmt: skip
    topic = load_wire.Topic.of("up/c1", 3)
    assert topic.publish(258, b"abc") == bytes.fromhex(
        "32" "0d" "000575702f6331" "0102" "00" "616263"
    )  # fmt: skip


@pytest.mark.parametrize("size", [0, 1, 127, 128, 16_383, 16_384, 2_097_151])
def test_length_reads_back(size):
    total, shift = 0, 0
    for byte in load_wire.length(size):
        total |= (byte & 0x7F) << shift
        shift += 7
    assert total == size


def test_answers_are_cut_wherever_they_break():
    stream = bytes.fromhex("2003000000400200014003000287e00181")
    expected = [(0x20, 0, 0), (0x40, 1, 0), (0x40, 2, 0x87), (0xE0, 0, 0x81)]
    for cut in range(len(stream) + 1):
        answers = load_wire.Answers()
        assert answers.feed(stream[:cut]) + answers.feed(stream[cut:]) == expected


def test_a_foreign_answer_is_told():
    with pytest.raises(load_wire.ProtocolError):
        load_wire.Answers().feed(b"\x30\x02\x00\x00")


def test_a_steady_load_keeps_its_times_and_its_round():
    plan = load_plan.steady(3, 1000, 0.01)
    assert plan.at_us.tolist() == [0, 1000, 2000, 3000, 4000, 5000, 6000, 7000, 8000, 9000]
    assert plan.device.tolist() == [0, 1, 2, 0, 1, 2, 0, 1, 2, 0]
    assert plan.value.max() < 22


@pytest.mark.parametrize(("rate", "seconds"), [(0, 1), (10, 0), (10, 1e9), (1e9, 10)])
def test_a_load_is_bounded(rate, seconds):
    with pytest.raises(ValueError, match="at most"):
        load_plan.steady(10, rate or 1e-9, seconds)


def test_fires_burn_one_after_the_other():
    plan = plan_of(devices=12, rate=100, seconds=10, fires=2, fires_from_s=4)
    assert (np.diff(plan.at_us) >= 0).all()
    for device, first_us in ((10, 4_000_000), (11, 6_000_000)):
        mine = plan.device == device
        hot = plan.at_us[mine & (plan.value == load_plan.FIRE_C)]
        assert hot[0] == first_us
        assert len(hot) == load_plan.FIRE_SAMPLES
        assert (plan.value[mine & (plan.at_us < first_us)] < 22).all()
    assert (plan.value[plan.device < 10] < 22).all()


@pytest.mark.parametrize("host", ["10.0.0.1", "0.0.0.0", "example.org", "", "8.8.8.8"])
def test_it_never_leaves_this_machine(host):
    with pytest.raises(ServerError):
        loopback(host)


def test_no_more_wait_for_their_connack_than_a_broker_s_queue_holds(monkeypatch):
    """Beyond its queue the kernel drops a SYN, and each costs a second."""
    monkeypatch.setattr("deploy.local.load.CONNECTING_MAX", 8)
    users = {f"c{number}": "word" for number in range(100)}
    plan = plan_of(devices=1, rate=10, seconds=0.1, fires=0, fires_from_s=0)
    with socket.create_server(("127.0.0.1", 0), backlog=100) as server:
        load = Load("127.0.0.1", server.getsockname()[1], users, [("c0", ["d0"])], plan)
        found = ThreadPoolExecutor(1).submit(serve, server, len(users))
        load.connect()
        most, opened = found.result(10)
        load.close()
    for one in opened:
        one.close()
    assert 1 < most <= 8


def test_a_load_far_behind_its_plan_ends_and_hears_what_it_said(monkeypatch):
    """A broker that answers, and a machine that cannot say so much."""
    monkeypatch.setattr("deploy.local.load.BEHIND_S", 0.2)
    monkeypatch.setattr("deploy.local.load.TURN", 10)
    plan = plan_of(devices=1, rate=1_000_000, seconds=2, fires=0, fires_from_s=0)
    with socket.create_server(("127.0.0.1", 0)) as server:
        load = Load("127.0.0.1", server.getsockname()[1], {"c0": "w"}, [("c0", ["d0"])], plan)
        threading.Thread(target=acknowledge, args=(server,)).start()
        load.connect()
        load.run()
        load.close()
    said = len(load.said) - load.said.count(0)
    assert 0 < said < plan.messages
    assert load.acknowledged == said


def acknowledge(server):
    """One connection: a CONNACK, then each message's PUBACK, in order."""
    # What is unread when the load leaves is a reset, not news.
    with suppress(ConnectionError), server.accept()[0] as one:
        one.recv(1_000)
        one.sendall(bytes.fromhex("2003000000"))
        size, came, told = len(load_wire.Topic.of("up/c0/telemetry/d0", 0).publish(1, b"")), 0, 0
        size += len(maker(["d0"], Form.JSON)(0.0, 0))
        while data := one.recv(65_536):
            came += len(data)
            whole = range(told, came // size)
            told = max(told, whole.stop)
            one.sendall(b"".join(b"\x40\x02" + (n % 65_535 + 1).to_bytes(2, "big") for n in whole))


def serve(server, connections):
    """Answer, the first to come first, only when nobody else comes; returns how many waited."""
    server.settimeout(0.05)
    waiting, answered, most = [], [], 0
    while len(answered) < connections:
        try:
            waiting.append(server.accept()[0])
            most = max(most, len(waiting))
        except TimeoutError:
            for one in waiting:
                one.recv(1_000)
                one.sendall(bytes.fromhex("2003000000"))
            answered, waiting = answered + waiting, []
    return most, answered


def test_loopback_is_fine():
    assert loopback("127.0.0.1") == "127.0.0.1"
    assert loopback("::1") == "::1"
