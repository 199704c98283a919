"""A tap beside the bridge: it shows what comes, good and bad, and takes nothing from anybody."""

import asyncio
import json
import secrets
import signal
import sys
import threading
from contextlib import asynccontextmanager

import pytest
from fix_bridge import BATCH, HEAT, Device
from fix_bridge_rig import Load, rig

from ingest.tap import WAITING_MAX
from ingest.tapping import Request, Tap, TapSettings
from sizao.settings import load
from sizao.topics import READINGS

SOON_S = 30
NEW = HEAT.replace("pointer: /temperature", "pointer: /temp")


class Tapped:
    """A tap of its own process, and what it has printed so far."""

    def __init__(self, process):
        self.process, self.lines, self.notes = process, [], []

    async def read(self, stream, into):
        async for line in stream:
            into.append(line.decode().rstrip("\n"))

    async def until(self, condition):
        async with asyncio.timeout(SOON_S):
            while not condition():
                assert self.process.returncode is None, self.notes
                await asyncio.sleep(0.02)  # between two looks, within a time-out

    async def listening(self):
        await self.until(lambda: any("listening to" in note for note in self.notes))
        return self

    async def interrupted(self):
        """Exit code after Ctrl-C."""
        self.process.send_signal(signal.SIGINT)
        return await self.ends()

    async def ends(self):
        async with asyncio.timeout(SOON_S):
            return await self.process.wait()


@asynccontextmanager
async def tapping(made, *words):
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "sizao.cli", "tap", *words, "--config", str(made.config)),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    made = Tapped(process)
    async with asyncio.TaskGroup() as group:
        group.create_task(made.read(process.stdout, made.lines))
        group.create_task(made.read(process.stderr, made.notes))
        try:
            yield made
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()


@pytest.fixture
async def bridge(servers, postgres_db, tmp_path):
    name = f"x{secrets.token_hex(3)}"
    devices = [Device(f"h{i}", HEAT, carrier=f"{name}-{i % 4}", site=i) for i in range(40)]
    devices += [Device("t1", BATCH, carrier=f"{name}-g"), Device("t2", BATCH, carrier=f"{name}-g")]
    async with rig(servers, postgres_db, tmp_path, devices) as made:
        made.name = name
        yield made


async def test_both_sides_live_and_the_bridge_loses_nothing(bridge):
    await bridge.start()
    sent = Load(bridge, bridge.name)
    say, topic = bridge.publisher(f"{bridge.name}-1").publish, f"up/{bridge.name}-1/telemetry/h1"
    gateway = bridge.publisher(f"{bridge.name}-g").publish
    async with tapping(bridge, "h1", "--json") as one, tapping(bridge, "t1") as two:
        await one.listening()
        await two.listening()
        for _ in range(200):
            sent.send()
        say(topic, '{"temperature": 21.5}', "good")
        say(topic, b'\x00{"temp', "bad")
        gateway(f"up/{bridge.name}-g/telemetry", '{"keys": ["t2"], "temperatures": [5]}', 1)
        gateway(f"up/{bridge.name}-g/telemetry", '{"keys": ["t1"], "temperatures": ["hot"]}', 2)
        await one.until(lambda: len(one.lines) == 7)
        await two.until(lambda: any("refused: wrong_type" in line for line in two.lines))
        promised = await sent.acknowledged()
        assert promised <= (await bridge.readings(READINGS, promised)).keys()
        assert (await one.interrupted(), await two.interrupted()) == (0, 0)
    said = [json.loads(line) for line in one.lines]
    assert {each["topic"] for each in said} == {topic}
    assert [each["readings"][0]["value"] for each in said[:6]] == [1, 41, 81, 121, 161, 21.5]
    assert said[5]["payload_text"] == '{"temperature": 21.5}'
    assert said[6]["payload_hex"] == b'\x00{"temp'.hex()
    assert said[6]["refused"][0].startswith("not_json")
    assert "7 messages, 1 of them with something refused; 0 without" in one.notes[-1]
    assert "1 messages, 1 of them with something refused; 1 without" in two.notes[-1]
    assert await bridge.metric("sizao_bridge_telemetry_connects_total") == 1


async def test_a_device_that_nobody_knows_and_then_somebody_does(bridge, tmp_path):
    """From "unknown payload" by a file of one's own to the registry's words, in one tap."""
    carrier = f"{bridge.name}-3"
    topic, payload = f"up/{carrier}/telemetry/new", '{"temp": 30}'
    publish = bridge.publisher(carrier).publish
    (tmp_path / "new.yaml").write_text(NEW)
    file = ("--type", str(tmp_path / "new.yaml"))
    async with (
        tapping(bridge, "--topic", f"up/{carrier}/#", "--json") as plain,
        tapping(bridge, "--topic", topic, "--count", "1", *file) as judged,
        tapping(bridge, "--topic", topic, "--raw", "--seconds", "600") as raw,
    ):
        for one in (plain, judged, raw):
            await one.listening()
        publish(topic, payload, 1)
        assert await judged.ends() == 0
        assert any("new temperature_c 30 degC" in line for line in judged.lines)
        await raw.until(lambda: payload in raw.lines)
        await plain.until(lambda: plain.lines)
        assert json.loads(plain.lines[0])["refused"] == ["unknown_device: new"]
        bridge.devices.append(Device("new", NEW.replace("generic.heat", "own.heat"), carrier))
        await bridge.settle_registry()
        generation = f"registry generation {bridge.registry.generation}"
        await plain.until(lambda: generation in plain.notes)
        publish(topic, payload, 2)
        await plain.until(lambda: len(plain.lines) == 2)
        assert json.loads(plain.lines[1])["readings"][0]["value"] == 30


async def test_a_terminal_that_stands_still_holds_up_nobody(bridge):
    """The broker gets rid of everything; what finds no room here is counted, then told."""
    goes_on, notes = threading.Event(), []
    carrier = f"{bridge.name}-0"
    request = Request(topic=f"up/{carrier}/#")

    def show(_):
        assert goes_on.wait(SOON_S), "the loop waits for the terminal"

    one = Tap(load(bridge.config, TapSettings), request, show, notes.append)

    async def until(condition):
        async with asyncio.timeout(SOON_S):
            while not condition():  # noqa: ASYNC110 - counts of a tap
                await asyncio.sleep(0.02)  # between two looks, within a time-out

    async with asyncio.TaskGroup() as group:
        running = group.create_task(one.run())
        await until(lambda: any("listening" in note for note in notes))
        publisher = bridge.publisher(carrier)
        for number in range(WAITING_MAX + 501):
            publisher.publish(f"up/{carrier}/telemetry/h0", '{"temperature": 21}', number)
        await publisher.drain()
        await until(lambda: one._waiting.heard == WAITING_MAX + 501)
        goes_on.set()
        await until(lambda: one.totals.shown == WAITING_MAX + 1)
        one._stop.set()
        totals = await running
    assert (totals.shown, totals.missed) == (WAITING_MAX + 1, 500)
    assert "500 more came than could be shown" in notes


def test_what_names_no_device_is_refused_before_anything_is_opened(office):
    office.settle()
    assert office.refused("tap", "861") == [
        "device 861: under several carriers, expected one of gateway/861, platform/861"
    ]
    (told,) = office.refused("tap", "h11")
    assert told.startswith("unknown device: 'h11'; nearest: h1; one that nobody has registered")
    assert office.refused("tap", "platform/t1") == office.refused("tap", "t1", "--carrier=platform")
