"""Servers behind wires that can be made to fail, and our processes before them."""

import gc
import os
import secrets
import sys
import warnings
from functools import partial
from pathlib import Path

import pytest
from chaos import street
from chaos.house import WiredServers, WiredStack
from chaos.wire import Wires
from fix_stack import forget_sessions
from fix_topics import renew_topics

# Minutes each, and most of it waiting: `make chaos` runs them.
LONG = ["test_guards_on.py", "test_overload.py", "test_traps.py"]
collect_ignore = [] if os.environ.get("SIZAO_LONG") else LONG


@pytest.fixture(scope="session")
def kind_of_servers():
    with Wires() as wires:
        yield partial(WiredServers, wires=wires)


def collect_dropped_connections() -> None:
    """aiokafka drops connections of a broker that was killed or stopped, in our own readers too;
    found by the collector after the last test, they end pytest with an error.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


@pytest.fixture
def stack(servers, clean_topics):
    forget_sessions(servers.mosquitto)
    name = secrets.token_hex(6)
    made = WiredStack(servers, Path(servers.folder) / f"stack-{name}", database_name=f"t_{name}")
    made.configure()
    made.command("migrate")
    yield made
    servers.mend()
    made.stop()
    for process in made.processes.values():  # shown by pytest when the test has failed
        sys.stdout.write(f"--- {process.name}\n{process.child.tail()}\n")
    servers.postgres.drop_database(made.database_name)
    collect_dropped_connections()


@pytest.fixture(scope="module")
def house(servers):
    """The street, migrated and registered; nothing of ours runs."""
    renew_topics(servers)
    name = secrets.token_hex(6)
    made = WiredStack(servers, Path(servers.folder) / f"stack-{name}", database_name=f"t_{name}")
    made.configure()
    made.command("migrate")
    street.settle(made, alarms=6)
    yield made
    servers.postgres.drop_database(made.database_name)
    collect_dropped_connections()
