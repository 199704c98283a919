"""Who speaks too often for a lane that others share. Pure.

Each device has a bucket of tokens, and so has each carrier, for what names its devices inside the
payload and for what leads nowhere. A message costs one, and one more for every 4 KiB of it. What
finds its bucket empty is not decoded: it is counted, acknowledged, and told in one dead letter a
minute, so that a flood does not become a second one.

A backlog is no flood. What a device kept while it was off line fits into the burst; for as long as
the lane itself did not listen, every bucket may hold more: as much as runs in meanwhile. A registry
that names new routes takes nothing away: buckets are of devices and of carriers' names.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from ingest.mqtt.message import Message
from ingest.routes import PARTS, District, Leads, Refusal, carrier_of
from sizao.units import Lane

TOLD_EACH_S = 60.0
BYTES_A_TOKEN = 4096
CARRIERS_MAX = 100_000
"""Beyond it all carriers begin anew with full buckets: a name comes from the topic, and anyone whom
the broker lets in may bring one."""
OFFENDERS_MAX = 10_000  # told of one by one; the counter has them all
AWAY_S_MAX = 48 * 3600.0  # the bridge believes no device time older than that
_GAP_S = 2.0  # a lane that listens plans at least once a second
_TOPIC_KEPT = 512

Times = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """How much is let pass: tokens a second, and how many a full bucket holds.

    A carrier that speaks for many may speak for each of them as well: `roster_per_s` a device, and
    `roster_burst` after an absence, a day of readings each quarter of an hour.
    """

    device_per_s: float = 20.0
    device_burst: float = 100_000.0
    carrier_per_s: float = 200.0
    carrier_burst: float = 100_000.0
    roster_per_s: float = 0.1
    roster_burst: float = 100.0


@dataclass(frozen=True, slots=True)
class Excess:
    """What to tell of an offender. `device`: 0 for a carrier; `count`: since it was told last.

    The message is the first of those now refused; without a payload where the flood has ended.
    """

    message: Message
    device: int
    count: int


@dataclass(slots=True)
class _Told:
    topic: bytes
    device: int
    arrived_us: int
    told_s: float
    count: int = 0


@dataclass(slots=True)
class _Buckets:
    """Levels as of `at_s`. One never asked for is full."""

    level: Times = field(default_factory=lambda: np.zeros(0))
    at_s: Times = field(default_factory=lambda: np.zeros(0))

    def grow(self, size: int) -> None:
        missing = size - len(self.level)
        if missing > 0:
            self.level = np.pad(self.level, (0, missing))
            self.at_s = np.pad(self.at_s, (0, missing), constant_values=-math.inf)

    def over(
        self,
        who: npt.NDArray[np.int64],
        cost: Times,
        per_s: Times | float,
        full: Times | float,
        now_s: float,
    ) -> list[int]:
        """Take the cost of each in turn; returns the places of those that found too little."""
        level = self.level[who]
        level = np.maximum(level, np.minimum(full, level + (now_s - self.at_s[who]) * per_s))
        self.level[who], self.at_s[who] = level, now_s
        np.subtract.at(self.level, who, cost)
        if self.level[who].min() >= 0:
            return []
        left: dict[int, float] = {}
        refused = []
        for place in np.flatnonzero(self.level[who] < 0).tolist():
            key = int(who[place])
            tokens = left.get(key, float(level[place]))
            if tokens >= cost[place]:
                tokens -= float(cost[place])
            else:
                refused.append(place)
            left[key] = tokens
        for key, tokens in left.items():
            self.level[key] = tokens
        return refused


@dataclass(slots=True)
class Noisy:
    """The buckets of one lane. `away_s`: how long nobody had listened before it began."""

    budget: Budget
    away_s: float = 0.0
    _last_s: float | None = None
    _devices: _Buckets = field(default_factory=_Buckets)
    _carriers: _Buckets = field(default_factory=_Buckets)
    _slots: dict[str, int] = field(default_factory=dict)
    _rosters: list[int] = field(default_factory=list)  # by slot: for how many it speaks
    _told: dict[int, _Told] = field(default_factory=dict)
    _told_of_s: float = -math.inf

    def admit(
        self,
        district: District,
        lane: Lane,
        messages: Sequence[Message],
        now_s: float,
        *,
        leads: Leads,
        listening: bool,
    ) -> tuple[npt.NDArray[np.int64], list[Excess]]:
        """The places of the messages to decode, in their order, and what to tell of the others.

        `leads`: `district.leads` of the messages.
        """
        self._note_absence(now_s, quiet=listening and not messages, listening=listening)
        everyone = np.arange(len(messages))
        refused = self._refused(district, lane, messages, leads, now_s) if messages else {}
        if not refused:
            return everyone, self._ended(now_s)
        told = self._tell(messages, refused, now_s) + self._ended(now_s)
        return np.delete(everyone, list(refused)), told

    def _note_absence(self, now_s: float, *, quiet: bool, listening: bool) -> None:
        """Until the broker's queue is empty, what came of our own absence is not held against
        anybody.
        """
        gap_s = 0.0 if self._last_s is None else now_s - self._last_s
        self._last_s = now_s
        if not listening or gap_s > _GAP_S:
            self.away_s = min(self.away_s + gap_s, AWAY_S_MAX)
        elif quiet:
            self.away_s = 0.0

    def _refused(
        self,
        district: District,
        lane: Lane,
        messages: Sequence[Message],
        leads: Leads,
        now_s: float,
    ) -> dict[int, int]:
        """Place of each refused message, and who: a device, or below zero a carrier's slot."""
        # Device and part on a topic; without the part. Below zero and 0 stay what they are.
        who = np.where(leads > 0, leads // PARTS, leads)
        sizes = [len(one.payload) for one in messages]
        cost = np.ones(len(messages))
        if max(sizes) >= BYTES_A_TOKEN:
            cost += np.array(sizes) // BYTES_A_TOKEN
        others = (who <= 0).nonzero()[0]
        for place in others.tolist():
            who[place] = self._who(district, lane, messages[place].topic)
        budget, refused = self.budget, {}
        direct = np.flatnonzero(who > 0) if len(others) else np.arange(len(who))
        if len(direct):
            self._devices.grow(len(district.view.device_type))
            full = budget.device_burst + budget.device_per_s * self.away_s
            mine = who[direct]
            over = self._devices.over(mine, cost[direct], budget.device_per_s, full, now_s)
            refused = {int(direct[place]): int(mine[place]) for place in over}
        rest = np.flatnonzero(who < 0) if len(others) else others
        if len(rest):
            self._carriers.grow(len(self._rosters))
            mine = -1 - who[rest]
            speaks_for = np.array([self._rosters[slot] for slot in mine.tolist()], np.float64)
            per_s = budget.carrier_per_s + budget.roster_per_s * speaks_for
            fulls = budget.carrier_burst + budget.roster_burst * speaks_for + per_s * self.away_s
            over = self._carriers.over(mine, cost[rest], per_s, fulls, now_s)
            refused |= {int(rest[place]): int(who[rest[place]]) for place in over}
        return refused

    def _who(self, district: District, lane: Lane, topic: bytes) -> int:
        found = district.resolve(lane, topic)
        if not isinstance(found, Refusal) and found > 0:
            return found // PARTS
        carrier = carrier_of(topic)
        slot = self._slots.get(carrier)
        if slot is None:
            if len(self._slots) >= CARRIERS_MAX:
                self._slots, self._rosters, self._carriers = {}, [], _Buckets()
                self._told = {key: one for key, one in self._told.items() if key > 0}
            slot = self._slots[carrier] = len(self._slots)
            self._rosters.append(0)
        # Each time: a carrier often speaks before its devices are imported.
        self._rosters[slot] = len(district.view.roster.get(carrier, ()))
        return -1 - slot

    def _tell(
        self, messages: Sequence[Message], refused: dict[int, int], now_s: float
    ) -> list[Excess]:
        first: dict[int, int] = {}
        for place, who in refused.items():
            first.setdefault(who, place)
            told = self._told.get(who)
            if told is None:
                if len(self._told) >= OFFENDERS_MAX:
                    continue
                topic = messages[place].topic[:_TOPIC_KEPT]
                told = self._told[who] = _Told(topic, max(who, 0), 0, -math.inf)
            told.count += 1
            told.arrived_us = messages[place].arrived_us
        return [
            self._told_now(who, messages[place], now_s)
            for who, place in first.items()
            if who in self._told and now_s - self._told[who].told_s >= TOLD_EACH_S
        ]

    def _told_now(self, who: int, message: Message, now_s: float) -> Excess:
        told = self._told[who]
        excess = Excess(message, told.device, told.count)
        told.told_s, told.count = now_s, 0
        return excess

    def _ended(self, now_s: float) -> list[Excess]:
        """The rest of floods that are over: counts stay exact. Looks once a second."""
        if not self._told or now_s - self._told_of_s < 1.0:
            return []
        self._told_of_s, found = now_s, []
        for who, told in list(self._told.items()):
            if now_s - told.told_s < TOLD_EACH_S:
                continue
            if told.count:
                last = Message(told.topic, b"", told.arrived_us, False, 0, 0)  # noqa: FBT003 - not redelivered
                found.append(self._told_now(who, last, now_s))
            else:
                del self._told[who]
        return found
