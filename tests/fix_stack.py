"""Our five processes against the tests' servers: own database, own topics, own folder."""

import asyncio
import secrets
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from deploy.local.mosquitto import Mosquitto
from deploy.local.patience import wait_for
from deploy.local.stack import Stack
from sizao.kafka import KafkaSettings, Reader


@pytest.fixture
def stack(servers, clean_topics) -> Iterator[Stack]:
    """A stack with schema and topics; nothing registered, nothing started."""
    forget_sessions(servers.mosquitto)
    name = secrets.token_hex(6)
    made = Stack(servers, Path(servers.folder) / f"stack-{name}", database_name=f"t_{name}")
    made.overrides["watch_disks"] = {"early_percent": 100, "alarm_percent": 100}  # see conftest
    made.configure()
    made.command("migrate")
    yield made
    made.stop()
    for process in made.processes.values():  # shown by pytest when the test has failed
        sys.stdout.write(f"--- {process.name}\n{process.child.tail()}\n")
    servers.postgres.drop_database(made.database_name)


def forget_sessions(mosquitto: Mosquitto) -> None:
    """The bridge's session, and what an earlier test left in its queue, must not reach this one."""
    mosquitto.stop()
    (mosquitto.data / "mosquitto.db").unlink(missing_ok=True)
    mosquitto.start()


def eventually(condition: Callable[[], object], deadline_s: float, what: str) -> None:
    """Wait for a condition; fail with `what` at the deadline."""
    assert wait_for(condition, deadline_s), f"not within {deadline_s} s: {what}"


def whole_log(settings: KafkaSettings, topics: list[str], partitions: int = 4) -> list:
    """Every record that is in the topics now, each partition in order."""

    async def read() -> list:
        wanted = [(topic, number) for topic in topics for number in range(partitions)]
        reader = Reader(settings, wanted, client_id="whole-log")
        await reader.start()
        try:
            ends, found = await reader.ends(), []
            left = {pair for pair, end in ends.items() if end > 0}
            for pair in wanted:
                reader.seek(pair, 0)
            async with asyncio.timeout(60):
                while left:
                    for record in await reader.fetch(200):
                        pair = (record.topic, record.partition)
                        if record.offset < ends[pair]:
                            found.append(record)
                        if record.offset >= ends[pair] - 1:
                            left.discard(pair)
            return found
        finally:
            await reader.stop()

    return asyncio.run(read())
