"""Real servers for the tests. One that cannot be had fails the test: it never skips it."""

import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from deploy.local.places import private_place, remove_run, sweep
from deploy.local.servers import Servers

PREFIX = "test-"
FAILED = pytest.StashKey[bool]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """Let a fixture see, when it ends, how its own test has ended."""
    report = yield
    if report.failed:
        item.stash[FAILED] = True
    return report


@pytest.fixture(scope="session")
def kind_of_servers() -> Callable[..., Servers]:
    """What makes them; the fault runs put wires before them (tests/chaos)."""
    return Servers


@pytest.fixture(scope="session")
def servers(
    request: pytest.FixtureRequest, kind_of_servers: Callable[..., Servers]
) -> Iterator[Servers]:
    """Mosquitto, Kafka and PostgreSQL, new for this run of the tests and stopped after it.

    A test may kill one of them if it starts it again (same ports, same data) before it ends.
    """
    sweep(PREFIX)  # what a killed run, or one with failures, has left behind
    place = private_place(f"{PREFIX}{os.getpid()}")
    with kind_of_servers(place, fresh=True) as running:
        yield running
    if not request.session.testsfailed:  # else the logs stay for a look
        shutil.rmtree(place)


@pytest.fixture
def own_place(request: pytest.FixtureRequest) -> Iterator[Path]:
    """An empty run folder, for a test that starts servers of its own; stays if the test fails."""
    folder = private_place(f"{PREFIX}{os.getpid()}-{secrets.token_hex(4)}")
    (folder / "lock").touch()  # so that `sweep` takes it for a run's, whatever the test does in it
    yield folder
    if not request.node.stash.get(FAILED, False):
        remove_run(folder)


@pytest.fixture
def postgres_db(servers: Servers) -> Iterator[str]:
    """Address of a database of the test's own, empty, dropped at the end."""
    name = f"t_{secrets.token_hex(6)}"
    yield servers.postgres.create_database(name)
    servers.postgres.drop_database(name)
