"""Real servers for the tests. One that cannot be had fails the test: it never skips it."""

import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.local.identity import identify
from deploy.local.places import private_place, sweep
from deploy.local.servers import Servers

PREFIX = "test-"


def _in_use(place: Path) -> bool:
    """Another run of the tests may be between two starts and hold no lock just now."""
    return identify(int(place.name.split("-")[1])) is not None


@pytest.fixture(scope="session")
def servers(request: pytest.FixtureRequest) -> Iterator[Servers]:
    """Mosquitto, Kafka and PostgreSQL, new for this run of the tests and stopped after it.

    A test may kill one of them if it starts it again (same ports, same data) before it ends.
    """
    sweep(PREFIX, spare=_in_use)  # what a killed run has left behind
    place = private_place(f"{PREFIX}{os.getpid()}")
    with Servers(place, fresh=True) as running:
        yield running
    if not request.session.testsfailed:  # else the logs stay for a look
        shutil.rmtree(place)


@pytest.fixture
def own_place(request: pytest.FixtureRequest) -> Iterator[Path]:
    """An empty run folder, for a test that starts servers of its own."""
    folder = private_place(f"{PREFIX}{os.getpid()}-own")
    yield folder
    if not request.session.testsfailed:
        shutil.rmtree(folder)


@pytest.fixture
def postgres_db(servers: Servers) -> Iterator[str]:
    """Address of a database of the test's own, empty, dropped at the end."""
    name = f"t_{secrets.token_hex(6)}"
    yield servers.postgres.create_database(name)
    servers.postgres.drop_database(name)
