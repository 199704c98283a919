"""Servers absent at the start, or killed for 20 s under 1,000 messages/s."""

from contextlib import ExitStack

import pytest
from fix_load import Load, all_ready, describe, pages, responder, stored
from fix_stack import eventually

from deploy.local.patience import wait_for
from sizao import clock

RATE, FIRES = 1000, 3
BEFORE_S, DOWN_S, AFTER_S = 5, 20, 10
PAGED_S = 30


@pytest.fixture
def receiver(stack):
    with responder(stack, FIRES) as opened:
        yield opened


@pytest.fixture
def within():
    with ExitStack() as opened:
        yield opened


@pytest.mark.parametrize("name", ["kafka", "postgres", "mosquitto"])
def test_a_server_killed_for_20_s_loses_nothing_acknowledged(stack, receiver, within, name):
    stack.start()
    server = getattr(stack.servers, name)
    load = Load(
        stack,
        within,
        rate=RATE,
        seconds=BEFORE_S + DOWN_S + AFTER_S,
        fires=FIRES,
        fires_from_s=BEFORE_S + DOWN_S // 2,
    )
    load.until(BEFORE_S)
    killed_us = clock.now_us()
    server.kill()
    try:
        load.until(BEFORE_S + DOWN_S)
    finally:
        starts_us = clock.now_us()
        server.start()
    returned_us = clock.now_us()
    acknowledged = load.acknowledged()
    assert len(acknowledged) > RATE * (BEFORE_S + AFTER_S) * 0.9

    def missing() -> set:
        return set(acknowledged) - set(stored(stack))

    def lost() -> set:
        """Missing beyond what the broker may lose: what it acknowledged in its last second.

        What it sent before it died may be read after that, on a busy machine.
        """
        if name != "mosquitto":
            return missing()
        may = range(killed_us - 1_000_000, starts_us)
        return {one for one in missing() if int(acknowledged[one]) not in may}

    assert wait_for(lambda: not lost(), 60), describe(lost(), acknowledged, stored(stack))
    if name != "mosquitto":  # its devices say again what it did not acknowledge, as new messages
        assert not [one for one, count in stored(stack).items() if count > 1]

    eventually(lambda: len(pages(receiver)) >= FIRES, PAGED_S, f"pages: {pages(receiver)}")
    late_s = (max(pages(receiver).values()) - returned_us) / 1e6
    assert late_s <= PAGED_S
    for process in stack.processes.values():
        assert process.child.alive(), f"{process.name} ended: {process.child.tail()}"
    eventually(lambda: all_ready(stack), 30, "all ready again")


def all_waiting(stack) -> bool:
    return all("waits for" in (process.missing() or "") for process in stack.processes.values())


def test_processes_wait_for_servers_that_are_absent_at_the_start(stack, receiver):
    for name in ("kafka", "postgres", "mosquitto"):
        getattr(stack.servers, name).stop()
    try:
        for process in stack.processes.values():
            process.launch()
        eventually(lambda: all_waiting(stack), 30, "all wait")
    finally:
        for name in ("postgres", "kafka", "mosquitto"):
            getattr(stack.servers, name).start()
    eventually(lambda: all_ready(stack), 40, "all ready")
    assert all(process.child.alive() for process in stack.processes.values())
