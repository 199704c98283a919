"""A carrier is revoked and restored under a running bridge: real Mosquitto, Kafka, PostgreSQL."""

import asyncio
import secrets

import pytest
from fix_bridge import HEAT, SMOKE_STATE, Device
from fix_bridge_rig import rig
from typer.testing import CliRunner

from ingest import rejects
from ingest.commands import app
from ingest.device_types.reasons import Reason
from sizao import clock, db, signal
from sizao.registry.load import load
from sizao.registry.write import CarrierRow, Change, apply
from sizao.signal import SubjectType
from sizao.topics import REJECTS, SIGNALS

WITHIN_S = 10.0


@pytest.fixture
def name():
    return f"x{secrets.token_hex(3)}"


@pytest.fixture
async def bridge(servers, postgres_db, tmp_path, name):
    devices = [Device("h", HEAT, carrier=name), Device("n", SMOKE_STATE, carrier=name)]
    async with rig(servers, postgres_db, tmp_path, devices) as made:
        yield made


async def test_revoked_is_refused_within_ten_seconds_and_restored_is_read(bridge, name):
    refused = 'sizao_bridge_telemetry_rejects_total{reason="revoked"}'
    read = "sizao_bridge_telemetry_readings_total"
    await bridge.start()
    await speaking_until(bridge, name, read)
    said = await sizao(bridge, "revoke", name, "--reason", "password on a sticker")
    assert said == f"carrier {name} is revoked; generation 2"
    # It spoke before, so the bridge knew where its topic leads.
    assert await speaking_until(bridge, name, refused) < WITHIN_S
    bridge.publisher(name).publish(f"up/{name}/alarm/n", '{"event": "alarm"}', "alarm")
    await told_of(bridge, name)
    said = await sizao(bridge, "restore", name)
    assert said == f"carrier {name} is trusted; generation 3"
    assert await speaking_until(bridge, name, read) < WITHIN_S
    assert await causes(bridge) == [
        "test", f"devices revoke {name}: password on a sticker", f"devices restore {name}",
    ]  # fmt: skip


async def speaking_until(bridge, name, series):
    """Seconds until `series` of the bridge grows, while the carrier speaks on."""
    began_s, before = clock.monotonic_s(), await bridge.metric(series)
    async with asyncio.timeout(WITHIN_S * 2):
        while await bridge.metric(series) == before:
            bridge.publisher(name).publish(f"up/{name}/telemetry/h", '{"temperature": 5}', "t")
            await asyncio.sleep(0.1)  # it speaks ten times a second
    return clock.monotonic_s() - began_s


async def told_of(bridge, name):
    """Its words are dead letters, byte for byte; its alarm is a signal at the carrier's site."""

    def letters(records):
        found = [rejects.read(record.value, record.headers) for record in records]
        return {(one.payload, one.reason) for one in found if one.bridge == bridge.bridge}

    wanted = {
        (b'{"temperature": 5}', Reason.REVOKED),
        (b'{"event": "alarm"}', Reason.REVOKED),
    }
    records = await bridge.records(REJECTS, lambda found: letters(found) >= wanted)
    assert letters(records) == wanted

    def signals(records):
        found = [signal.decode(record.value, record.headers) for record in records]
        return [one for one in found if one.subject.id == name]

    (told,) = signals(await bridge.records(SIGNALS, lambda found: len(signals(found)) == 1))
    view = bridge.registry.newest
    assert (told.subject.type, told.evidence["reason"]) == (SubjectType.CARRIER, Reason.REVOKED)
    assert view.areas[told.site].code == "s1"


async def sizao(bridge, *words):
    line = ["devices", *words, "--config", str(bridge.config)]
    done = await asyncio.to_thread(CliRunner().invoke, app, line, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout.strip()


async def causes(bridge):
    async with db.connected(bridge.database_settings, "test") as connection:
        cursor = await connection.execute("SELECT cause FROM generation ORDER BY id")
        return [cause for (cause,) in await cursor.fetchall()]


def test_a_list_of_carriers_restores_none(office):
    """Nor does the same order twice make a generation."""
    office.settle()
    assert office.run("devices", "revoke", "h1", "--reason", "lost").endswith("generation 4")
    said = office.run("devices", "revoke", "h1", "--reason", "lost")
    assert said == "carrier h1 is revoked already; generation 4"

    async def list_again():
        async with db.connected(office.settings, "test") as connection:
            carriers = [CarrierRow("h1", "b2"), CarrierRow("gateway")]
            await apply(connection, Change(carriers=carriers), cause="list", partitions=4)
            return (await load(connection, 4)).newest

    view = asyncio.run(list_again())
    assert view.revoked == {"h1"}
    assert view.areas[view.carrier_site["h1"]].code == "b2"
    registry = office.registry()
    assert [registry.at(number).revoked for number in (3, 4)] == [frozenset(), {"h1"}]
    assert office.run("devices", "restore", "h1").endswith("h1 is trusted; generation 6")
    assert office.refused("devices", "revoke", "gatway", "--reason", "x") == [
        "unknown carrier: 'gatway'; nearest: gateway"
    ]
