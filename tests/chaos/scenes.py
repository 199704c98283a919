"""Runs directed at one guard each: what they return is lost, or doubled, when it is taken out.

The oracle is that of the random runs: what was acknowledged stands in the table, and stands once.
"""

import re
import signal
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

from chaos import guards, table
from chaos.house import WiredStack
from chaos.street import SMOKE, Speaker
from chaos.wire import MUTE, UP, Fault
from fix_stack import eventually, forget_sessions

from deploy.local.load_plan import FIRE_C, QUIET_C
from deploy.local.places import free_ports
from deploy.local.process import Child

DEVICES = {"a0": SMOKE, "a2": SMOKE, "a4": SMOKE}
SAYS = 40
READY_S, STORED_S = 60, 60
DRAIN = Fault(swallow=frozenset({UP}))
"""What goes up is lost; not held back, else it would arrive when its sender is long dead."""


class Scene:
    """A bridge and an archive of a test build, a few devices, and what they said."""

    def __init__(self, stack, guard: str) -> None:
        self.stack, self.guard = stack, guard
        self.processes = {name: stack.processes[name] for name in ("bridge", "archive")}
        self.wires = stack.servers.wires
        self.speaker = Speaker(stack, DEVICES, SAYS)

    def start(self, name: str, guard: str | None = None) -> None:
        process = self.processes[name]
        process.entry = (guards.__file__, self.guard if guard is None else guard)
        process.start()  # a build that refuses to start fails here, with its words

    def kill(self, name: str) -> None:
        self.processes[name].child.kill()

    def second(self, name: str):
        """A process like another, beside it."""
        (port,) = free_ports(1)
        folder = self.stack.folder
        self.stack.settle_config(name, http={"port": port})
        config = (folder / f"{name}.yaml").rename(folder / f"{name}-2.yaml")
        self.stack.settle_config(name)
        child = Child(name, log=folder / f"{name}-2.log", pid_file=folder / f"{name}-2.pid")
        twin = replace(self.processes[name], config=config, port=port, child=child)
        self.processes[f"{name}-2"] = twin
        return twin

    def say(self, value: float, times: int = 1) -> set:
        """Every device says it; returns the rows that must come of it, once all is acknowledged."""
        before = set(self._rows())
        for _ in range(times):
            for number in range(len(DEVICES)):
                assert self.speaker.say(number, value) >= 0
        self.speaker.settled()
        return set(self._rows()) - before

    def _rows(self) -> list:
        return [(one.key, one.quantity, one.ts_us) for one in self.speaker.acknowledgements()]

    def through(self) -> dict:
        """What stands in the table once all that was said before must."""
        marks = self.say(QUIET_C)
        eventually(lambda: marks <= table.stored(self.stack).keys(), STORED_S, "stored")
        return table.stored(self.stack)

    def metric(self, process: str, name: str) -> float:
        page = self.processes[process].page("/metrics")
        found = re.search(rf"^sizao_{process.partition('-')[0]}_{name} (\S+)", page, re.MULTILINE)
        return float(found[1]) if found else 0.0

    def held(self) -> float:
        return self.metric("bridge", "alarm_held_messages")


@contextmanager
def scene(stack, guard: str):
    """Everything whole, the broker without a session; stopped and mended at the end."""
    forget_sessions(stack.servers.mosquitto)
    made = Scene(stack, guard)
    try:
        for name in ("bridge", "archive"):
            made.start(name)
        made.speaker.connect()
        yield made
    finally:
        stack.servers.mend()
        made.speaker.close()
        for process in made.processes.values():
            process.child.signal(signal.SIGCONT)
            process.child.kill()


def lost_before_kafka(stack, guard: str) -> set:
    """The bridge dies with what Kafka does not have yet."""
    with scene(stack, guard) as at:
        at.wires["bridge-kafka"].fail(DRAIN)
        told = at.wires["bridge-mosquitto"].carried[UP]
        said = at.say(FIRE_C, 5)
        count = 5 * len(DEVICES)

        def taken() -> bool:
            """Held back, or acknowledged: a PUBACK has four bytes."""
            return at.held() + (at.wires["bridge-mosquitto"].carried[UP] - told) // 4 >= count

        eventually(taken, 10, "the bridge has it all")
        at.kill("bridge")
        stack.servers.mend()
        at.start("bridge", "none")
        return said - at.through().keys()


def lost_by_a_stale_acknowledgement(stack, guard: str) -> set:
    """reliability.md M7: the broker has lost the session, and numbers its messages from 1 again."""
    with scene(stack, guard) as at:
        wire, mosquitto = at.wires["bridge-kafka"], stack.servers.mosquitto
        wire.fail(MUTE)  # Kafka gets what comes now, and its answer waits on the wire
        first = at.say(FIRE_C)
        eventually(lambda: at.held() == len(DEVICES), 10, "held")
        mosquitto.kill()
        (mosquitto.data / "mosquitto.db").unlink()
        mosquitto.start()
        again = partial(at.metric, "bridge", "alarm_sessions_lost_total")
        eventually(lambda: again() >= 1, READY_S, "a new session")
        bridge = at.processes["bridge"]
        eventually(lambda: '"mqtt.alarm": true' in bridge.page("/readyz"), READY_S, "subscribed")
        said = at.say(FIRE_C, 4)
        assert first.isdisjoint(said)
        held = at.held
        eventually(lambda: held() == 5 * len(DEVICES), 10, "all held")
        wire.fail(DRAIN)  # the answer arrives, and nothing that goes up from now on
        eventually(lambda: held() < 5 * len(DEVICES), 10, "the first is settled")
        at.kill("bridge")
        stack.servers.mend()
        at.start("bridge", "none")
        return said - at.through().keys()


def doubled(found: dict, said: set) -> set:
    return {one for one in said if found.get(one, 0) > 1}


def doubled_by_a_frozen_archive(stack, guard: str) -> set:
    """An archive hangs, is replaced, and wakes up with its old offsets."""
    with scene(stack, guard) as at:
        at.through()
        frozen = at.processes["archive"]
        frozen.child.signal(signal.SIGSTOP)
        at.second("archive")
        at.start("archive-2")
        said = at.say(FIRE_C, 5)
        eventually(lambda: said <= table.stored(stack).keys(), STORED_S, "stored by the second")
        frozen.child.signal(signal.SIGCONT)

        def woken() -> bool:
            moved = at.metric("archive", "offsets_moved_total")
            return moved > 0 or bool(doubled(table.stored(stack), said))

        eventually(woken, STORED_S, "the frozen one went on")
        return doubled(at.through(), said)


def doubled_by_a_lost_acknowledgement(stack, guard: str) -> set:
    """The broker never hears the PUBACKs, and delivers again."""
    with scene(stack, guard) as at:
        wire = at.wires["bridge-mosquitto"]
        wire.fail(DRAIN)
        said = at.say(FIRE_C, 5)
        eventually(lambda: said <= table.stored(stack).keys(), STORED_S, "stored")
        wire.mend()
        again = partial(at.metric, "bridge", "alarm_redelivered_total")
        eventually(lambda: again() >= 5 * len(DEVICES), READY_S, "delivered again")
        return doubled(at.through(), said)


SCENES: dict[str, Callable[[WiredStack, str], set]] = {
    "acknowledge_after_kafka": lost_before_kafka,
    "connection_epoch": lost_by_a_stale_acknowledgement,
    "compare_and_set": doubled_by_a_frozen_archive,
    "dedupe": doubled_by_a_lost_acknowledgement,
}
