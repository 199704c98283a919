"""What was refused of a message, and of which devices a word that can say an alarm was lost."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from ingest.device_types.reasons import Reason

FAULTS_MAX = 500  # kept of one message; 256 KiB can hold half a million
_DETAIL_MAX = 500  # characters of a reject's explanation; the payload itself is kept whole
_DETAIL_FAULTS = 32


class Fault(NamedTuple):
    """One thing that is wrong. `where`: a field, a key, or words; `device`: 0 where none is known.

    The device belongs to it: without it, a batch in which two devices could not be read told of the
    first alone.
    """

    reason: Reason
    where: str
    device: int


class Refused(NamedTuple):
    """A message of which something was refused; `faults`: the gravest first.

    `whole`: no field of it was read. `devices`: of each of these a word was lost that can say an
    alarm; 0 is one that nobody knows.
    """

    message: int
    faults: tuple[Fault, ...]
    whole: bool
    devices: tuple[int, ...]

    @property
    def reason(self) -> Reason:
        """The gravest."""
        return self.faults[0].reason

    @property
    def device(self) -> int:
        """Whose the gravest is."""
        return self.faults[0].device

    @property
    def unread(self) -> bool:
        """Whether an alarm may be lost with it."""
        return bool(self.devices)

    @property
    def detail(self) -> str:
        """All of them in words, cut at a bound; the payload itself is kept whole.

        A device's key may hold half a surrogate pair, which no encoder takes: it is escaped.
        """
        words = dict.fromkeys(f"{fault.reason}: {fault.where}" for fault in self.faults)
        text = "; ".join(list(words)[:_DETAIL_FAULTS])
        return text[:_DETAIL_MAX].encode(errors="backslashreplace").decode()

    def by_device(self, devices_max: int) -> list[Refused]:
        """For each of `devices` its own faults; those beyond the bound in one, as nobody's."""
        alone = set(self.devices[:devices_max]) - {0}
        together = tuple(device for device in self.devices if device not in alone)
        parts: dict[int, dict[Fault, None]] = {}
        for fault in self.faults:
            if fault.device in alone or fault.device in together:
                device = fault.device if fault.device in alone else 0
                parts.setdefault(device, {})[fault._replace(device=device)] = None
        return [
            Refused(self.message, tuple(faults), self.whole, (device,) if device else together)
            for device, faults in parts.items()
        ]


@dataclass(slots=True)
class _Found:
    """Faults of one message with their rank; `kinds`: what must not fall out at the bound."""

    ranks: dict[Fault, int] = field(default_factory=dict)
    kinds: set[tuple[Reason, int]] = field(default_factory=set)


@dataclass(slots=True)
class Faults:
    """What is wrong with which message. Bounded: beyond FAULTS_MAX of one message only the first of
    each reason is kept, and the first of each device that may have said an alarm.
    """

    found: dict[int, _Found] = field(default_factory=dict)

    def whole(self, message: int, fault: Fault) -> None:
        """Nothing of the message can be read."""
        self._add(message, fault, 0)

    def part(self, message: int, fault: Fault, *, alarm: bool) -> None:
        """Something of it cannot; `alarm`: something that can say one."""
        self._add(message, fault, 1 if alarm and fault.reason is not Reason.BAD_TIME else 2)

    def _add(self, message: int, fault: Fault, rank: int) -> None:
        found = self.found.get(message)
        if found is None:
            found = self.found[message] = _Found()
        kind = fault.reason, fault.device if rank <= 1 else -1
        if len(found.ranks) >= FAULTS_MAX and kind in found.kinds:
            return
        found.kinds.add(kind)
        found.ranks[fault] = min(rank, found.ranks.get(fault, rank))

    def refused(self) -> Iterable[Refused]:
        """Of each message, in the order of the messages."""
        for message, found in sorted(self.found.items()):
            graded = sorted(found.ranks, key=found.ranks.__getitem__)
            lost = dict.fromkeys(one.device for one in graded if found.ranks[one] <= 1)
            whole = found.ranks[graded[0]] == 0
            yield Refused(message, tuple(graded), whole=whole, devices=tuple(lost))
