"""Empty topics for a test of its own: what an earlier test wrote is gone, offsets too."""

import asyncio

import pytest
from aiokafka.admin import AIOKafkaAdminClient

from sizao.errors import Retriable
from sizao.kafka import KafkaSettings, Reader, make_topics
from sizao.topics import TOPICS

PARTITIONS = 4
DEADLINE_S = 30
NAMES = {topic.name for topic in TOPICS}


async def forget(settings: KafkaSettings) -> None:
    """Delete our topics, and wait until the broker has forgotten them."""
    admin = AIOKafkaAdminClient(bootstrap_servers=settings.bootstrap)
    await admin.start()
    try:
        await admin.delete_topics(list(NAMES & set(await admin.list_topics())))
        while NAMES & set(await admin.list_topics()):  # noqa: ASYNC110 - Kafka tells nobody
            await asyncio.sleep(0.05)
    finally:
        await admin.close()


async def renew(settings: KafkaSettings) -> None:
    """Delete our topics and make them anew."""
    async with asyncio.timeout(DEADLINE_S):
        await forget(settings)
        await make_topics(settings, partitions=PARTITIONS)
        await _answering(settings)


async def _answering(settings: KafkaSettings) -> None:
    """Until every partition has a leader that takes a record: creation is asynchronous."""
    wanted = [(topic.name, number) for topic in TOPICS for number in range(PARTITIONS)]
    reader = Reader(settings, wanted, client_id="renewed")
    while True:
        try:
            await reader.start()
            if set(await reader.ends()) == set(wanted):
                return
        except Retriable:
            await asyncio.sleep(0.05)
        finally:
            await reader.stop()


def renew_topics(servers) -> KafkaSettings:
    """The same, for a fixture of a longer life."""
    settings = KafkaSettings(bootstrap=servers.addresses.kafka_bootstrap)
    asyncio.run(renew(settings))
    return settings


@pytest.fixture
def clean_topics(servers) -> KafkaSettings:
    """Kafka with our topics, empty. Must be asked for before a test writes or reads any."""
    return renew_topics(servers)
