"""States that the client libraries cannot leave (reliability.md, section 4): progress comes back.

Where each trap has its test:

- idempotent producer hangs (M14, aiokafka#1101): here; the random runs stop Kafka by SIGSTOP
- stuck consumer (aiokafka#1154): here, archive, detect and alert
- half-open database (M17, psycopg#1371): here, archive and alert
- a library that never returns at all: here, the process ends with 3 and is replaced
- lost MQTT session (M5) and stale acknowledgements (M7): scenes.py, a lost session that is counted
- no commit without end: tests/integration/test_kafka.py, `test_commits_to_a_killed_broker_end`
"""

import signal
from contextlib import ExitStack

import pytest
from chaos import guards, street, table
from chaos.log_watch import LogWatch
from chaos.street import Alarms
from chaos.supervisor import LOST_PROGRESS, Supervisor
from chaos.wire import BOTH, Fault
from fix_load import Load, all_ready, pages
from fix_stack import eventually

from deploy.local.patience import wait_for
from deploy.local.receiver import Receiver
from sizao.clock import monotonic_s, now_us

RATE, ALARMS, SECONDS_MAX = 500, 60, 600
RESUMED_S = 45.0
FRESH_US = 2_000_000
STALE_US = 4_000_000
FORGOTTEN = Fault(swallow=BOTH, only_open=True)
"""As a firewall that has forgotten every connection: those die in silence, new ones work."""
KAFKA = ("bridge-kafka", "archive-kafka", "detect-kafka", "alert-kafka")
POSTGRES = ("archive-postgres", "detect-postgres", "alert-postgres", "bridge-postgres")


class Flow:
    """A stack under a light load; tells how long ago each stage moved."""

    def __init__(self, stack, within: ExitStack) -> None:
        street.settle(stack, ALARMS)
        self.stack = stack
        self.receiver = within.enter_context(Receiver())
        self.receiver.secret = stack.add_responder("station", "d", self.receiver.url, "alarm")
        stack.start()
        self.log = within.enter_context(LogWatch(stack.servers.kafka.bootstrap))
        self.supervisor = within.enter_context(Supervisor(stack))
        self.load = Load(stack, within, rate=RATE, seconds=SECONDS_MAX, fires=0, fires_from_s=0)
        self.alarms = Alarms(stack, ALARMS, 2.0, lambda: pages(self.receiver))
        self.alarms.start()
        within.callback(self.alarms.leave)
        eventually(lambda: not self.stands(now_us() - 2 * STALE_US), 60, "all flows")

    def stands(self, since_us: int) -> list[str]:
        """Stages through which nothing has come that is newer than `since_us`, or fresh."""
        now = now_us()
        found = []
        if self.log.newest_us["telemetry"] < max(since_us, now - FRESH_US):
            found.append("bridge")
        if table.fresh_us(self.stack) < max(since_us, now - 3 * FRESH_US):
            found.append("archive")
        if not any(at > since_us for at in pages(self.receiver).values()):
            found.append("detect and alert")
        return found if found or all_ready(self.stack) else ["readiness"]

    def resumed_s(self, from_us: int) -> float:
        """How long until everything moves again; the alarms of that time are paged too."""
        began_s = monotonic_s()

        def moves() -> bool:
            late = [at for at in self.alarms.open_since_us() if at < from_us + STALE_US]
            return not late and not self.stands(from_us + STALE_US)

        assert wait_for(moves, 2 * RESUMED_S), self.stands(from_us + STALE_US)
        return monotonic_s() - began_s


@pytest.fixture
def flow(stack):
    with ExitStack() as within:
        yield Flow(stack, within)


@pytest.mark.parametrize("names", [KAFKA, POSTGRES], ids=["kafka", "postgres"])
def test_connections_that_died_in_silence_are_left(flow, names):
    wires = flow.stack.servers.wires
    from_us = now_us()
    for name in names:
        wires[name].fail(FORGOTTEN)
    assert flow.resumed_s(from_us) <= RESUMED_S
    assert not flow.supervisor.unexpected()


@pytest.mark.parametrize("name", ["bridge", "archive"])
def test_a_library_that_never_returns_costs_its_process_not_the_flow(flow, name):
    """The producer of the bridge, the consumer of the archive: each hangs for good, once."""
    process = flow.stack.processes[name]
    healthy, process.entry = process.entry, (guards.__file__, f"hang_{name}")
    process.child.signal(signal.SIGKILL)
    eventually(lambda: guards.HANGS_NOW in process.log.read_text("utf-8"), 60, "it hangs")
    process.entry = healthy
    assert flow.resumed_s(now_us()) <= RESUMED_S
    assert flow.supervisor.ends[name][LOST_PROGRESS] == 1
