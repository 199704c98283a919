"""Servers behind wires that can be made to fail."""

from functools import partial

import pytest
from chaos.house import WiredServers
from chaos.wire import Wires


@pytest.fixture(scope="session")
def kind_of_servers():
    with Wires() as wires:
        yield partial(WiredServers, wires=wires)
