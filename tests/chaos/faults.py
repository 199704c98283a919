"""Carries out the acts of a schedule on real processes and wires, and waits for the recovery."""

import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from chaos import wire
from chaos.schedule import KILL, OURS, STOP, Act, Round

from deploy.local.identity import children, identify
from deploy.local.patience import wait_for
from sizao.clock import monotonic_s, now_us

RECOVERY_S = 30.0
GIVEN_UP_S = 90.0  # what has not recovered by then will not
SAVED_EACH_US = 1_000_000  # Mosquitto's autosave
HOWS = {
    "cut": wire.CUT,
    "reset": wire.RESET,
    "half-open": wire.HALF_OPEN,
    "blackhole": wire.BLACKHOLE,
    "deaf": wire.DEAF,
    "mute": wire.MUTE,
    "delay": wire.Fault(delay_s=0.05, jitter_s=0.15),
}


@dataclass(kw_only=True)
class Outcome:
    """What a round did. `missing`: what had not recovered in time."""

    acts: tuple[Act, ...]
    began_us: int
    ended_us: int
    recovery_s: float = 0.0
    missing: str = ""


@dataclass
class Faults:
    """`loss_us`: windows of acknowledgement that Mosquitto may forget, killed with -9."""

    stack: object
    lacks: Callable[[int], str]
    done: list[Outcome] = field(default_factory=list)
    loss_us: list[tuple[int, int]] = field(default_factory=list)
    _stopped_us: dict[str, int] = field(default_factory=dict)

    def run(self, rounds: list[Round]) -> None:
        """One round after the other; ends early when the system does not recover at all."""
        with ThreadPoolExecutor(2, "act") as pool:
            for one in rounds:
                time.sleep(one.pause_s)  # the schedule's, not a wait for anything
                began_us = now_us()
                for act in [pool.submit(self._act, act) for act in one.acts]:
                    act.result()
                outcome = Outcome(acts=one.acts, began_us=began_us, ended_us=now_us())
                self.done.append(outcome)
                if not self._recovered(outcome):
                    return

    def _recovered(self, outcome: Outcome) -> bool:
        began_s = monotonic_s()

        def there() -> bool:
            lacking = self.lacks(outcome.ended_us)
            if lacking and monotonic_s() - began_s <= RECOVERY_S:
                outcome.missing = lacking
            return not lacking

        found = wait_for(there, GIVEN_UP_S)
        outcome.recovery_s = round(monotonic_s() - began_s, 2)
        if outcome.recovery_s <= RECOVERY_S:
            outcome.missing = ""
        return found

    def _act(self, act: Act) -> None:
        time.sleep(act.at_s)  # the schedule's
        if act.what == KILL and act.who in OURS:
            self.stack.processes[act.who].child.signal(signal.SIGKILL)
        elif act.what == KILL:
            self._kill_server(act)
        elif act.what == STOP:
            self._stop(act)
        else:
            self._wire(act)

    def _kill_server(self, act: Act) -> None:
        server = getattr(self.stack.servers, act.who)
        from_us = self._stopped_us.get(act.who) or now_us()
        server.kill()
        time.sleep(act.seconds)  # the schedule's
        if act.who == "mosquitto":
            self.loss_us.append((from_us - SAVED_EACH_US, now_us()))
        server.start()

    def _stop(self, act: Act) -> None:
        owner = self.stack.processes if act.who in OURS else vars(self.stack.servers)
        pid = owner[act.who].child.pid
        # PostgreSQL's backends go on without their postmaster; they are stopped with it.
        found = [one for one in (identify(pid), *children(pid)) if one] if pid else []
        self._stopped_us[act.who] = now_us()
        for one in found:
            one.signal(signal.SIGSTOP)
        time.sleep(act.seconds)  # the schedule's
        for one in found:
            one.signal(signal.SIGCONT)
        del self._stopped_us[act.who]

    def _wire(self, act: Act) -> None:
        one = self.stack.servers.wires[act.who]
        fault = wire.Fault(bytes_left=act.byte) if act.byte else HOWS[act.how]
        one.fail(fault)
        time.sleep(act.seconds)  # the schedule's
        one.mend()
