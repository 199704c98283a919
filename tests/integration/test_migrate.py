"""`sizao migrate`: one number of partitions, in the registry and in Kafka."""

import asyncio
from dataclasses import replace

import pytest
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from fix_registry import PLACES, change
from fix_topics import forget, renew

from ingest.type_store import catalogue
from sizao import cli, db
from sizao.errors import BadInput, TooSlow
from sizao.registry.load import load
from sizao.topics import ALARMS, REJECTS
from sizao.units import BY_NAME


@pytest.fixture
def config(settings, clean_topics, tmp_path):
    file = tmp_path / "sizao.yaml"
    file.write_text(
        f"kafka: {{bootstrap: '{clean_topics.bootstrap}'}}\n"
        f"database: {{host: '{settings.host}', port: {settings.port}, name: {settings.name},"
        f" user: {settings.user}, password_file: '{settings.password_file}'}}\n",
        encoding="utf-8",
    )
    return file


def district(settings):
    """What is stored, and how many partitions an import finds."""

    async def ask():
        async with db.connected(settings, "test") as connection:
            cursor = await connection.execute("SELECT partitions FROM district")
            stored = await cursor.fetchone()
            await change(connection, PLACES, partitions=4)
            return stored, (await load(connection, 4)).partitions

    return asyncio.run(ask())


def test_it_stores_how_many_partitions_it_made(config, settings, clean_topics):
    """Seen: the number went into Kafka alone; the first import then stored the default."""
    asyncio.run(forget(clean_topics))
    try:
        cli.migrate_command(config, 6)
        assert district(settings) == ((6,), 6)
        cli.migrate_command(config, None)
        with pytest.raises(BadInput, match="--partitions 4: the district has 6, for life"):
            cli.migrate_command(config, 4)
    finally:
        asyncio.run(renew(clean_topics))
    with pytest.raises(BadInput, match="has 4 partitions, the district 6"):
        cli.migrate_command(config, None)


def test_a_number_that_the_topics_refuse_is_not_stored(config, settings):
    with pytest.raises(BadInput, match="has 4 partitions, the district 8"):
        cli.migrate_command(config, 8)
    cli.migrate_command(config, None)
    assert district(settings) == ((4,), 4)


def test_it_stores_the_detectors_that_are_there_each_time_anew(config, settings):
    """Found by entry point: `sizao` imports no room."""

    async def taken():
        async with db.connected(settings, "test") as connection:
            cursor = await connection.execute("SELECT detector, name FROM detector_parameter")
            return set(await cursor.fetchall())

    async def stored(forget=""):
        async with db.connected(settings, "test") as connection:
            if forget:
                await connection.execute(forget.encode())
            return {row.name: row for row in await catalogue(connection)}

    cli.migrate_command(config, None)
    whole = {row.name: row for row in cli.catalogue()}
    shipped = {name: replace(row, parameters=()) for name, row in whole.items()}
    assert shipped.keys() >= {"direct", "heat_fixed", "heat_rise"}
    assert asyncio.run(stored()) == shipped
    heat = shipped["heat_rise"]
    assert heat.quantities == [BY_NAME["temperature_c"].code]
    assert (heat.lane, heat.purpose) == (
        "telemetry",
        "A temperature rises over its own slow baseline",
    )
    change = "UPDATE detector SET name = 'gone', version = 9 WHERE name = 'heat_rise'"
    assert "gone" in asyncio.run(stored(change))
    cli.migrate_command(config, None)
    assert asyncio.run(stored()) == shipped
    assert asyncio.run(taken()) == {
        (name, one.name) for name, row in whole.items() for one in row.parameters
    }


async def test_dead_letters_are_bounded_by_size_and_alarms_are_not(clean_topics):
    wanted = [ConfigResource(ConfigResourceType.TOPIC, topic.name) for topic in (REJECTS, ALARMS)]
    admin = AIOKafkaAdminClient(bootstrap_servers=clean_topics.bootstrap)
    await admin.start()
    try:
        answers = await admin.describe_configs(wanted)
    finally:
        await admin.close()
    found = {
        resource[3]: {entry[0]: entry[1] for entry in resource[4]}
        for answer in answers
        for resource in answer.resources
    }
    assert found[REJECTS.name]["retention.bytes"] == str(4 << 30)
    assert found[REJECTS.name]["retention.ms"] == str(14 * 86_400_000)
    assert found[ALARMS.name]["retention.bytes"] == "-1"


async def test_an_index_over_much_data_has_longer_than_a_statement_of_the_work(
    settings, monkeypatch
):
    shipped = db.migrations()
    brief = settings.model_copy(update={"statement_timeout_ms": 500})
    async with db.connected(settings, "test") as connection:
        await db.migrate(connection)
    slow = ("9999_slow.sql", "0" * 64, "SELECT pg_sleep(0.8)")
    monkeypatch.setattr(db, "migrations", lambda: [*shipped, slow])
    async with db.connected(brief, "test") as connection:
        assert await db.migrate(connection) == [slow[0]]
        with pytest.raises(TooSlow), db.translated():
            await connection.execute("SELECT pg_sleep(0.8)")
