"""Ten times the load with a dead sink, and a sink that is away under 5,000 messages/s."""

from contextlib import ExitStack

import numpy as np
import pytest
from chaos import street, table
from chaos.log_watch import LogWatch
from chaos.run import RSS_MB_MAX
from fix_load import Load, all_ready
from fix_stack import eventually

from sizao.clock import monotonic_s, now_us

DRAINED_S = 180


@pytest.fixture
def within():
    with ExitStack() as opened:
        yield opened


def flowing(stack, within, rate: int, seconds: float) -> tuple[Load, LogWatch]:
    street.settle(stack, alarms=0)
    stack.start()
    log = within.enter_context(LogWatch(stack.servers.kafka.bootstrap))
    load = Load(stack, within, rate=rate, seconds=seconds, fires=0, fires_from_s=0)
    eventually(lambda: now_us() - log.newest_us["telemetry"] < 1_000_000, 30, "it flows")
    return load, log


def assert_all_stored(stack, load: Load) -> None:
    load.acknowledged()
    oracle = np.load(load.out)
    got = oracle["acked_us"] > 0
    pairs = zip(oracle["device"][got].tolist(), oracle["ts_us"][got].tolist(), strict=True)
    expected = {(f"k{device}", 1, at) for device, at in pairs}
    eventually(lambda: expected <= table.stored(stack).keys(), DRAINED_S, "all stored")


def test_ten_times_the_load_before_a_dead_sink_costs_no_memory_and_no_restart(
    stack, within, capsys
):
    """20,000/s while Kafka is away: the broker's disk is the buffer."""
    load, _ = flowing(stack, within, 20_000, 30)
    bridge = stack.processes["bridge"]
    pid, most_mb = bridge.pid, 0
    load.until(5)
    stack.servers.kafka.kill()
    until_us = now_us() + 15_000_000
    while now_us() < until_us:
        most_mb = max(most_mb, bridge.child.rss_kb() // 1024)
        load.until((now_us() - load.started_us) / 1e6 + 0.2)
    stack.servers.kafka.start()
    assert_all_stored(stack, load)
    most_mb = max(most_mb, bridge.child.rss_kb() // 1024)
    with capsys.disabled():
        print(f"\nten times the load, no Kafka for 15 s: the bridge took {most_mb} MB at most")  # noqa: T201 - a figure to report
    assert most_mb <= RSS_MB_MAX
    assert bridge.pid == pid
    eventually(lambda: all_ready(stack), 30, "all ready")


def test_kafka_away_for_10_s_is_made_up_for_in_5_s_and_the_logs_stay_short(stack, within, capsys):
    load, log = flowing(stack, within, 5_000, 60)
    load.until(5)
    before = {name: lines(one) for name, one in stack.processes.items()}
    stack.servers.kafka.kill()
    load.until(15)
    stack.servers.kafka.start()
    back_s = monotonic_s()
    eventually(lambda: now_us() - log.newest_us["telemetry"] < 1_000_000, 60, "caught up")
    recovery_s = monotonic_s() - back_s
    load.end()
    assert_all_stored(stack, load)
    logged = {name: lines(one) - before[name] for name, one in stack.processes.items()}
    with capsys.disabled():
        print(f"\nKafka away for 10 s under 5,000/s: back in {recovery_s:.1f} s; lines {logged}")  # noqa: T201 - a figure to report
    assert recovery_s <= 5
    assert max(logged.values()) <= 60


def lines(process) -> int:
    return len(process.log.read_text("utf-8", "replace").splitlines())
