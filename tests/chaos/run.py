"""One run: a street under load, faults one round after the other, and the verdict.

The oracle knows every message with its PUBACK. When the faults are over everything must drain:
no acknowledged reading missing, none twice, every alarm seen, alarms before telemetry.
"""

import json
import time
from contextlib import ExitStack
from dataclasses import asdict

import numpy as np
from chaos import table
from chaos.faults import RECOVERY_S, Faults
from chaos.log_watch import LogWatch
from chaos.schedule import draw
from chaos.street import Alarms, Said, settle
from chaos.supervisor import Supervisor
from fix_load import Load, all_ready, pages

from deploy.local.patience import wait_for
from deploy.local.places import BUILD
from deploy.local.receiver import Receiver
from sizao.clock import now_us

RATE = 2_000
SECONDS_MAX = 3_000  # of the load; it ends with the faults
ALARM_EACH_S = 1.5
WARM_S = 3.0
DRAIN_S = 60.0
FRESH_US = {"log": 2_000_000, "table": 6_000_000}  # heartbeats move idle partitions each 5 s
RSS_MB_MAX = 512
TOGETHER_S = 2.0  # lanes come back with a jitter of a second each
SHOWN = 5


class Run:
    """A stack, a seed, so many faults."""

    def __init__(self, stack, seed: int, faults: int) -> None:
        self.stack, self.seed = stack, seed
        self.rounds = draw(seed, faults)
        self.alarms_max = 20 + 12 * faults
        self.wrong: list[str] = []
        self.summary: dict[str, object] = {"seed": seed, "faults": faults, "rate": RATE}

    def carry_out(self) -> None:
        """To the verdict; `wrong` says what was wrong, `summary` goes to build/chaos/."""
        stack = self.stack
        settle(stack, self.alarms_max)
        with ExitStack() as within:
            receiver = within.enter_context(Receiver())
            receiver.secret = stack.add_responder("station", "d", receiver.url, "alarm")
            stack.start()
            self.log = within.enter_context(LogWatch(stack.servers.kafka.bootstrap))
            self.supervisor = within.enter_context(Supervisor(stack))
            self.alarms = Alarms(stack, self.alarms_max, ALARM_EACH_S, lambda: pages(receiver))
            load = Load(stack, within, rate=RATE, seconds=SECONDS_MAX, fires=0, fires_from_s=0)
            self.alarms.start()
            within.callback(self.alarms.leave)
            time.sleep(WARM_S)  # a load that runs
            self.faults = Faults(stack, self._lacks)
            self.faults.run(self.rounds)
            self.alarms.end()
            load.end()
            self._judge(load, receiver)
        self._keep()

    def _lacks(self, ended_us: int) -> str:
        """What has not recovered yet, "" when all has."""
        now = now_us()
        if now - self.log.newest_us["telemetry"] > FRESH_US["log"]:
            return "telemetry in the log"
        if now - table.fresh_us(self.stack) > FRESH_US["table"]:
            return "the table"
        late = [at for at in self.alarms.open_since_us() if at < ended_us]
        if late:
            return f"{len(late)} alarms that nobody has seen"
        return "" if all_ready(self.stack) else "readiness"

    # --- the verdict -----------------------------------------------------------------------------

    def _judge(self, load: Load, receiver: Receiver) -> None:
        self.alarms.join(DRAIN_S)
        acknowledged = self._acknowledged(load)
        expected = {(one.key, one.quantity, one.ts_us): one for one in acknowledged}

        def missing() -> list[Said]:
            there = table.stored(self.stack)
            return [one for identity, one in expected.items() if identity not in there]

        wait_for(lambda: not self._lost(missing()), DRAIN_S)
        found, left = table.stored(self.stack), missing()
        lost = self._lost(left)
        self._check(not lost, f"{len(lost)} acknowledged readings lost: {self._shown(lost)}")
        self._doubles(expected, found)
        unseen = sorted(set(self.alarms.began_us) - set(pages(receiver)))
        self._check(not unseen, f"alarms never paged: {unseen[:SHOWN]}")
        self._check(not receiver.pages.refused, f"pages refused: {receiver.pages.refused}")
        self._check(not self.supervisor.unexpected(), str(self.supervisor.unexpected()))
        large = {name: mb for name, mb in self.supervisor.rss_mb.items() if mb > RSS_MB_MAX}
        self._check(not large, f"memory over {RSS_MB_MAX} MB: {large}")
        self._recoveries()
        self._alarms_first(expected)
        self.summary |= {
            "acknowledged": len(expected),
            "stored": len(found),
            "forgotten_by_mosquitto": len(left) - len(lost),
            "lost": len(lost),
            "alarms": len(self.alarms.began_us),
            "rss_mb_max": dict(self.supervisor.rss_mb),
            "ends": {name: dict(codes) for name, codes in self.supervisor.ends.items()},
        }

    def _acknowledged(self, load: Load) -> list[Said]:
        load.acknowledged()
        oracle = np.load(load.out)
        got = oracle["acked_us"] > 0
        columns = (oracle[name][got].tolist() for name in ("device", "ts_us", "acked_us", "said"))
        found = [
            Said(f"k{device}", 1, ts_us, acked_us, said, repeats=False)
            for device, ts_us, acked_us, said in zip(*columns, strict=True)
        ]
        return found + self.alarms.acknowledgements()

    def _lost(self, missing: list[Said]) -> list[Said]:
        """Missing beyond what Mosquitto may forget: telemetry of its last second.

        A device that repeats says an alarm again as long as nobody has seen it, so an alarm is lost
        when it is never paged; each single message of it may be forgotten like any other.
        """
        return [one for one in missing if not self._forgettable(one)]

    def _forgettable(self, one: Said) -> bool:
        return any(first <= one.acked_us < last for first, last in self.faults.loss_us)

    def _doubles(self, expected: dict, found: dict) -> None:
        """Rows that stand twice though their device has said them once."""
        doubles = [one for identity, one in expected.items() if found.get(identity, 0) > 1]
        own = [one for one in doubles if one.times == 1 and not self._near_a_kill(one)]
        self.summary["doubles"] = {
            "said_once": len(own),
            "said_again_by_the_device": sum(one.times > 1 for one in doubles),
            "beside_a_kill_of_mosquitto": sum(
                one.times == 1 and self._near_a_kill(one) for one in doubles
            ),
        }
        self._check(not own, f"{len(own)} readings stored twice: {self._shown(own)}")

    def _near_a_kill(self, one: Said) -> bool:
        """Mosquitto's last snapshot does not know what was delivered after it, nor marks it DUP."""
        return self._forgettable(one)

    def _recoveries(self) -> None:
        late = [one for one in self.faults.done if one.recovery_s > RECOVERY_S]
        for one in late:
            acts = "; ".join(map(str, one.acts))
            self.wrong.append(f"{one.recovery_s} s until recovered ({one.missing}) after {acts}")
        self._check(len(self.faults.done) == len(self.rounds), "given up before the last fault")

    def _alarms_first(self, expected: dict) -> None:
        """When the last of what was acknowledged during a fault was in the log, by lane."""
        said = {"alarm": [], "telemetry": []}
        for one in expected.values():
            said["alarm" if one.repeats else "telemetry"].append((one.acked_us, one.ts_us))
        columns = {lane: np.array(rows or [(0, 0)], np.int64).T for lane, rows in said.items()}
        self.summary["rounds"] = rounds = []
        for one in self.faults.done:
            window = (one.began_us, one.ended_us)
            through = {
                lane: max(self.log.through_us(lane, *both, window) - one.ended_us, 0) / 1e6
                for lane, both in columns.items()
            }
            alarm_s, telemetry_s = through["alarm"], through["telemetry"]
            self._check(
                alarm_s <= max(telemetry_s, TOGETHER_S),
                f"alarms were through after {alarm_s:.1f} s, telemetry after {telemetry_s:.1f} s"
                f" ({'; '.join(map(str, one.acts))})",
            )
            rounds.append(
                {
                    "acts": [str(act) for act in one.acts],
                    "seconds": round((one.ended_us - one.began_us) / 1e6, 1),
                    "recovery_s": one.recovery_s,
                    "through_s": {lane: round(s, 2) for lane, s in through.items()},
                }
            )

    def _check(self, good: bool, words: str) -> None:  # noqa: FBT001 - reads as an assertion
        if not good:
            self.wrong.append(words)

    def _shown(self, some: list[Said]) -> list[dict]:
        first = sorted(some, key=lambda one: one.ts_us)[:SHOWN]
        return [asdict(one) | {"round": self._round_of(one)} for one in first]

    def _round_of(self, one: Said) -> str:
        """The fault during or after which it was acknowledged."""
        before = [done for done in self.faults.done if done.began_us <= one.acked_us + 1_000_000]
        return "; ".join(map(str, before[-1].acts)) if before else "before the first fault"

    def _keep(self) -> None:
        self.summary["wrong"] = self.wrong
        folder = BUILD / "chaos"
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / f"seed-{self.seed}.json"
        file.write_text(json.dumps(self.summary, indent=1, ensure_ascii=False, default=str) + "\n")

    def verdict(self) -> str:
        """For a person: what was wrong, the schedule, and the command that repeats it."""
        acts = "\n".join(
            f"  {number}: after {one.pause_s} s: {'; '.join(map(str, one.acts))}"
            for number, one in enumerate(self.rounds, 1)
        )
        wrong = "\n".join(f"  {words}" for words in self.wrong)
        return f"seed {self.seed}:\n{wrong}\nschedule:\n{acts}\nagain: make chaos SEED={self.seed}"
