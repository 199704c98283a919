"""A street under load: the generator as a process of its own, its oracle, and what became of it."""

import json
import subprocess
import sys
from contextlib import ExitStack, contextmanager

import numpy as np
import psycopg
from fix_stack import eventually

from deploy.local.district import types
from deploy.local.places import REPOSITORY
from deploy.local.receiver import Receiver
from sizao import clock
from sizao.frame import Flag
from sizao.registry.write import AreaRow, CarrierRow, Change, DeviceRow

CARRIERS, DEVICES, HOUSES = 20, 200, 8


def burning(fires: int) -> list[str]:
    """Keys of the devices that will burn: the last ones."""
    return [f"k{n}" for n in range(DEVICES - fires, DEVICES)]


def settle(stack, fires: int) -> None:
    """200 heat sensors over 20 connections in eight houses; who burns has a house of its own."""
    burns = burning(fires)
    sites = {f"k{n}": f"h{n % HOUSES}" for n in range(DEVICES)} | {key: f"h-{key}" for key in burns}
    houses = [AreaRow(code, "s", "site", code, code) for code in sorted(set(sites.values()))]
    top = [
        AreaRow("d", "", "district", "区", "District"),
        AreaRow("s", "d", "street", "街", "Street"),
    ]
    carriers = [CarrierRow(f"c{n}") for n in range(CARRIERS)]
    devices = [
        DeviceRow(key, f"c{n % CARRIERS}", "generic.heat", site, 1)
        for n, (key, site) in enumerate(sites.items())
    ]
    stack.register(
        Change(areas=top + houses, carriers=carriers, types=types(), devices=devices), "test"
    )


@contextmanager
def responder(stack, fires: int):
    """The street, and the receiver of its fire station."""
    settle(stack, fires)
    with Receiver() as opened:
        opened.secret = stack.add_responder("station", "d", opened.url, "alarm")
        yield opened


class Load:
    """The load generator as a process of its own, and its oracle."""

    def __init__(
        self,
        stack,
        within: ExitStack,
        *,
        rate: int,
        seconds: float,
        fires: int,
        fires_from_s: float,
    ):
        folder = stack.folder
        (folder / "devices.json").write_text(
            json.dumps([(f"c{n % CARRIERS}", [f"k{n}"]) for n in range(DEVICES)])
        )
        self.out = folder / "oracle.npz"
        at = stack.servers.addresses
        command = [sys.executable, "-m", "deploy.local.load", "--host", at.mqtt_host]
        command += ["--port", str(at.mqtt_port), "--users", str(folder / "carriers.json")]
        command += ["--devices", str(folder / "devices.json"), "--out", str(self.out)]
        command += ["--rate", str(rate), "--seconds", str(seconds)]
        command += ["--fires", str(fires), "--fires-from", str(fires_from_s)]
        self.process = within.enter_context(
            subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True)
        )
        within.callback(self.process.kill)
        self.started_us = int(self.process.stdout.readline().split()[1])

    def until(self, seconds: float) -> None:
        """Wait until the load has run so long."""
        eventually(lambda: clock.now_us() >= self.started_us + seconds * 1e6, 60, "time passes")

    def end(self) -> None:
        """Say no more, whatever the plan was."""
        self.process.terminate()

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


def describe(lost: set, acknowledged: dict, there: dict) -> str:
    """A counter-example a person can look up."""
    first = sorted(lost, key=lambda one: one[1])[:5]
    return f"{len(lost)} of {len(acknowledged)} acknowledged are lost, {len(there)} stored: {first}"


def pages(receiver) -> dict[str, int]:
    """Burning device -> when its first page was accepted."""
    first = {}
    for page in receiver.pages.accepted:
        for device in page.body["data"]["devices"]:
            first.setdefault(device["key"], page.at_us)
    return first


def all_ready(stack) -> bool:
    return all(process.missing() is None for process in stack.processes.values())
