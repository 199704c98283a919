"""Servers absent at the start, or killed for 20 s under 1,000 messages/s."""

import json
import subprocess
import sys
from contextlib import ExitStack

import numpy as np
import psycopg
import pytest
from fix_stack import eventually

from deploy.local.district import types
from deploy.local.patience import wait_for
from deploy.local.places import REPOSITORY
from deploy.local.receiver import Receiver
from sizao import clock
from sizao.frame import Flag
from sizao.registry.write import AreaRow, CarrierRow, Change, DeviceRow

RATE, CARRIERS, DEVICES, FIRES = 1000, 20, 200, 3
BEFORE_S, DOWN_S, AFTER_S = 5, 20, 10
PAGED_S = 30


def settle(stack) -> None:
    """A street of eight houses with 200 heat sensors over 20 connections."""
    houses = [AreaRow(f"h{n}", "s", "site", f"{n}号", f"No. {n}") for n in range(8)]
    top = [
        AreaRow("d", "", "district", "区", "District"),
        AreaRow("s", "d", "street", "街", "Street"),
    ]
    carriers = [CarrierRow(f"c{n}") for n in range(CARRIERS)]
    devices = [
        DeviceRow(f"k{n}", f"c{n % CARRIERS}", "generic.heat", f"h{n % 8}", 1)
        for n in range(DEVICES)
    ]
    stack.register(
        Change(areas=top + houses, carriers=carriers, types=types(), devices=devices), "test"
    )


@pytest.fixture
def receiver(stack):
    settle(stack)
    with Receiver() as opened:
        opened.secret = stack.add_responder("station", "d", opened.url, "alarm")
        yield opened


class Load:
    """The load generator as a process of its own, and its oracle."""

    def __init__(self, stack, within: ExitStack):
        folder = stack.folder
        (folder / "devices.json").write_text(
            json.dumps([(f"c{n % CARRIERS}", [f"k{n}"]) for n in range(DEVICES)])
        )
        self.out = folder / "oracle.npz"
        at = stack.servers.addresses
        command = [sys.executable, "-m", "deploy.local.load", "--host", at.mqtt_host]
        command += ["--port", str(at.mqtt_port), "--users", str(folder / "carriers.json")]
        command += ["--devices", str(folder / "devices.json"), "--out", str(self.out)]
        command += ["--rate", str(RATE), "--seconds", str(BEFORE_S + DOWN_S + AFTER_S)]
        command += ["--fires", str(FIRES), "--fires-from", str(BEFORE_S + DOWN_S // 2)]
        self.process = within.enter_context(
            subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True)
        )
        within.callback(self.process.kill)
        self.started_us = int(self.process.stdout.readline().split()[1])

    def until(self, seconds: float) -> None:
        """Wait until the load has run so long."""
        eventually(lambda: clock.now_us() >= self.started_us + seconds * 1e6, 60, "time passes")

    def acknowledged(self) -> dict[tuple[str, int], int]:
        """(key, device time) -> when its PUBACK came."""
        self.process.communicate(timeout=90)
        oracle = np.load(self.out)
        got = oracle["acked_us"] > 0
        keys = [f"k{device}" for device in oracle["device"][got].tolist()]
        times = oracle["ts_us"][got].tolist()
        return dict(
            zip(zip(keys, times, strict=True), oracle["acked_us"][got].tolist(), strict=True)
        )


def stored(stack) -> dict[tuple[str, int], int]:
    """(key, device time) -> how often it stands in the table, marked redeliveries left out."""
    query = (
        "SELECT d.key, (extract(epoch FROM r.event) * 1000000)::bigint,"
        f" count(*) FILTER (WHERE r.flags & {Flag.REDELIVERED:d} = 0) FROM reading r"
        " JOIN point p ON p.id = r.point JOIN device d ON d.id = p.device"
        " WHERE p.quantity = 1 GROUP BY 1, 2"
    )
    with psycopg.connect(stack.servers.postgres.dsn(stack.database_name)) as connection:
        return {(key, at_us): count for key, at_us, count in connection.execute(query)}


@pytest.fixture
def within():
    with ExitStack() as opened:
        yield opened


@pytest.mark.parametrize("name", ["kafka", "postgres", "mosquitto"])
def test_a_server_killed_for_20_s_loses_nothing_acknowledged(stack, receiver, within, name):
    stack.start()
    server = getattr(stack.servers, name)
    load = Load(stack, within)
    load.until(BEFORE_S)
    killed_us = clock.now_us()
    server.kill()
    try:
        load.until(BEFORE_S + DOWN_S)
    finally:
        server.start()
    returned_us = clock.now_us()
    acknowledged = load.acknowledged()
    assert len(acknowledged) > RATE * (BEFORE_S + AFTER_S) * 0.9

    def missing() -> set:
        return set(acknowledged) - set(stored(stack))

    def lost() -> set:
        """Missing beyond what the broker may lose: what it acknowledged in its last second."""
        if name != "mosquitto":
            return missing()
        return {one for one in missing() if not -1e6 <= acknowledged[one] - killed_us <= 0}

    assert wait_for(lambda: not lost(), 60), describe(lost(), acknowledged, stored(stack))
    if name != "mosquitto":  # its devices say again what it did not acknowledge, as new messages
        assert not [one for one, count in stored(stack).items() if count > 1]

    eventually(lambda: len(pages(receiver)) >= FIRES, PAGED_S, f"pages: {pages(receiver)}")
    late_s = (max(pages(receiver).values()) - returned_us) / 1e6
    assert late_s <= PAGED_S
    for process in stack.processes.values():
        assert process.child.alive(), f"{process.name} ended: {process.child.tail()}"
    eventually(lambda: all_ready(stack), 30, "all ready again")


def describe(lost: set, acknowledged: dict, there: dict) -> str:
    """A counter-example a person can look up."""
    first = sorted(lost, key=lambda one: one[1])[:5]
    return f"{len(lost)} of {len(acknowledged)} acknowledged are lost, {len(there)} stored: {first}"


def all_ready(stack) -> bool:
    return all(process.missing() is None for process in stack.processes.values())


def all_waiting(stack) -> bool:
    return all("waits for" in (process.missing() or "") for process in stack.processes.values())


def pages(receiver) -> dict[str, int]:
    """Burning device -> when its first page was accepted."""
    first = {}
    for page in receiver.pages.accepted:
        for device in page.body["data"]["devices"]:
            first.setdefault(device["key"], page.at_us)
    return first


def test_processes_wait_for_servers_that_are_absent_at_the_start(stack, receiver):
    for name in ("kafka", "postgres", "mosquitto"):
        getattr(stack.servers, name).stop()
    try:
        for process in stack.processes.values():
            process.launch()
        eventually(lambda: all_waiting(stack), 30, "all wait")
    finally:
        for name in ("postgres", "kafka", "mosquitto"):
            getattr(stack.servers, name).start()
    eventually(lambda: all_ready(stack), 40, "all ready")
    assert all(process.child.alive() for process in stack.processes.values())
