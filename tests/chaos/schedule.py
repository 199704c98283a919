"""Which faults, in which order, for how long: drawn from a seed. Pure.

A round begins one fault, or two that overlap; the next round begins when the system has recovered.
Targets come from a shuffled bag, so that a short run meets each once before any twice.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass

KILL, STOP, WIRE = "kill -9", "SIGSTOP", "wire"
OURS = ("bridge", "archive", "detect", "alert")
SERVERS = ("kafka", "postgres", "mosquitto")
WIRES = (
    "bridge-mosquitto", "bridge-kafka", "archive-kafka", "detect-kafka", "alert-kafka",
    "archive-postgres", "detect-postgres", "alert-postgres",
)  # fmt: skip
HOWS = ("cut", "reset", "half-open", "blackhole", "deaf", "mute", "delay", "cut at a byte")
OVERLAP = 0.25
SECONDS = {KILL: (0.0, 3.0), STOP: (1.0, 5.0), WIRE: (1.0, 6.0)}


@dataclass(frozen=True, kw_only=True)
class Act:
    """One fault. `at_s` counts from the begin of its round; `byte`: of "cut at a byte"."""

    at_s: float
    what: str
    who: str
    how: str = ""
    seconds: float
    byte: int = 0

    def __str__(self) -> str:
        """For a person who reads a failure."""
        how = f" {self.how}" + (f" {self.byte}" if self.byte else "") if self.how else ""
        return f"{self.what} {self.who}{how}, {self.seconds:.1f} s"


@dataclass(frozen=True)
class Round:
    """Faults that overlap, and a pause before them."""

    pause_s: float
    acts: tuple[Act, ...]


def draw(seed: int, faults: int) -> list[Round]:
    """So many faults in rounds."""
    rng = random.Random(seed)
    targets = _bag(rng)
    rounds: list[Round] = []
    left = faults
    while left:
        first = _act(rng, next(targets), 0.0)
        acts = [first]
        if left > 1 and rng.random() < OVERLAP:
            acts.append(_act(rng, next(targets), rng.uniform(0, first.seconds)))
            if acts[1].who == first.who:
                acts.pop()
        left -= len(acts)
        rounds.append(Round(round(rng.uniform(0.2, 1.5), 2), tuple(acts)))
    return rounds


def _bag(rng: random.Random) -> Iterator[tuple[str, str]]:
    """Each process killed, three stopped, six wires; shuffled, again and again."""
    while True:
        bag = [(KILL, who) for who in (*OURS, *SERVERS)]
        bag += [(STOP, who) for who in rng.sample((*OURS, *SERVERS), 3)]
        bag += [(WIRE, who) for who in rng.sample(WIRES, 6)]
        rng.shuffle(bag)
        yield from bag


def _act(rng: random.Random, target: tuple[str, str], at_s: float) -> Act:
    what, who = target
    seconds = round(rng.uniform(*SECONDS[what]), 2)
    how = rng.choice(HOWS) if what == WIRE else ""
    byte = rng.randrange(1, 50_000) if how == "cut at a byte" else 0
    return Act(at_s=round(at_s, 2), what=what, who=who, how=how, seconds=seconds, byte=byte)
