"""From an MQTT topic to who speaks, at one generation of the registry."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ingest.device_types import load, payload
from ingest.device_types.compiled import compile_type
from ingest.device_types.reasons import Reason
from ingest.device_types.schema import CARRIER, KEY, TOPICS_MAX
from ingest.mqtt.message import Message
from sizao.errors import BadInput
from sizao.registry.model import LifeState, View
from sizao.units import LEL_PPM, Lane

# Everything under up/<carrier>/alarm reaches the alarm connection, whether some type has such a
# topic or not: what a device says there must not vanish because nobody subscribed.
BASE_FILTERS = {Lane.ALARM: "up/+/alarm/#", Lane.TELEMETRY: "up/+/telemetry/#"}
_UP = "up"
PARTS = TOPICS_MAX
"""A type whose topics carry different quantities has a reader for each set of them, PARTS at most:
reader id = type id * PARTS + part. A device on a topic is device id * PARTS + part likewise.
"""


Leads = npt.NDArray[np.int64]
"""Where messages lead, as `District.topics` says it; 0 where it does not."""


class Refusal(NamedTuple):
    """A message that reaches no device."""

    reason: Reason
    detail: str
    device: int


class Route(NamedTuple):
    """A topic whose payload names its devices: the roster to look in, the readers of the types that
    they may be.
    """

    roster: Mapping[str, int]
    readers: tuple[int, ...]


class Pattern(NamedTuple):
    """A topic pattern and the ids of the readers that have it; a broken type has no such reader."""

    levels: tuple[str, ...]
    readers: frozenset[int]


@dataclass(kw_only=True)
class District:
    """The registry as the bridge uses it. `topics` remembers where a topic leads.

    Only topics of known devices and carriers are remembered, so the registry bounds it: device and
    part (see PARTS), or below zero the place in `routes`. `readers`: by reader id. `spelled`: of a
    route and reader the keys of the last payload with their devices, bounded likewise.
    """

    view: View
    readers: dict[int, payload.Reader]
    broken: dict[str, str]
    patterns: dict[Lane, tuple[Pattern, ...]]
    keys: frozenset[str]
    in_service: npt.NDArray[np.bool_]
    lel_ppm: npt.NDArray[np.float64]
    type_of: list[int]
    carrier_types: dict[str, frozenset[int]]
    topics: dict[Lane, dict[bytes, int]] = field(
        default_factory=lambda: {lane: {} for lane in Lane}
    )
    routes: list[Route] = field(default_factory=list)
    spelled: dict[tuple[int, int], tuple[list[Any], npt.NDArray[np.int32]]] = field(
        default_factory=dict
    )

    def filters(self, lane: Lane) -> tuple[str, ...]:
        """MQTT topic filters that the lane's connection subscribes to, sorted."""
        base = BASE_FILTERS[lane]
        own = {
            "/".join("+" if level in {CARRIER, KEY} else level for level in pattern.levels)
            for pattern in self.patterns[lane]
            if f"up/+/{pattern.levels[2]}/#" != base
        }
        return (base, *sorted(own))

    def leads(self, lane: Lane, messages: Sequence[Message]) -> Leads:
        """What is remembered of where the messages' topics lead."""
        known = self.topics[lane].get
        return np.array([known(message.topic, 0) for message in messages], np.int64)

    def resolve(self, lane: Lane, topic: bytes) -> int | Refusal:
        """Device and part, or below zero a route: `routes[-1 - n]`; or why it is neither."""
        known = self.topics[lane].get(topic)
        if known is not None:
            return known
        found = self._resolve(lane, topic)
        if isinstance(found, int):
            self.topics[lane][topic] = found
        return found

    def _resolve(self, lane: Lane, topic: bytes) -> int | Refusal:
        speaker = carrier_of(topic)
        if speaker in self.view.revoked:  # before all else: a new generation remembers no topic
            return Refusal(Reason.REVOKED, speaker, 0)
        levels = topic.decode(errors="backslashreplace").split("/")
        patterns = [one for one in self.patterns[lane] if fits(one.levels, levels)]
        if not patterns:
            if self.broken:
                return Refusal(Reason.BROKEN_TYPE, "; ".join(sorted(self.broken)), 0)
            return Refusal(Reason.UNKNOWN_TOPIC, f"no type of lane {lane} has this topic", 0)
        carrier = levels[1]
        if carrier not in self.view.carrier_site:
            return Refusal(Reason.UNKNOWN_CARRIER, carrier, 0)
        roster = self.view.roster[carrier]
        keyed = [one for one in patterns if KEY in one.levels]
        others = [one for one in patterns if KEY not in one.levels]
        if keyed:
            key = levels[keyed[0].levels.index(KEY)]
            if not others or key in roster:
                return self._device(roster, key, _readers(keyed))
        here = self.carrier_types.get(carrier, frozenset())
        named = {kind: reader for kind, reader in _readers(others).items() if kind in here}
        readers = sorted(reader for reader in named.values() if reader in self.readers)
        if not readers and named:
            return Refusal(Reason.BROKEN_TYPE, "; ".join(map(self.name_of, sorted(named))), 0)
        if not readers:
            return Refusal(Reason.WRONG_TOPIC, "no device of this carrier speaks here", 0)
        self.routes.append(Route(roster, tuple(readers)))
        return -len(self.routes)

    def _device(
        self, roster: Mapping[str, int], key: str, readers: Mapping[int, int]
    ) -> int | Refusal:
        refused = self.refusal_of(roster, key)
        if refused is not None:
            return refused
        device = roster[key]
        kind = self.type_of[device]
        if self.is_broken(kind):
            return Refusal(Reason.BROKEN_TYPE, self.name_of(kind), device)
        if kind not in readers:
            return Refusal(Reason.WRONG_TOPIC, f"its type is {self.name_of(kind)}", device)
        return device * PARTS + readers[kind] % PARTS

    def refusal_of(self, roster: Mapping[str, int], key: str) -> Refusal | None:
        """Why a key is no device in service of this roster; None when it is one."""
        device = roster.get(key, 0)
        if not device:
            reason = Reason.NOT_YOURS if key in self.keys else Reason.UNKNOWN_DEVICE
            return Refusal(reason, key, 0)
        if not self.in_service[device]:
            return Refusal(Reason.NOT_IN_SERVICE, self.view.device_state[device], device)
        return None

    def is_broken(self, kind: int) -> bool:
        """Whether nobody here can read what devices of this type say."""
        return kind * PARTS not in self.readers

    def name_of(self, kind: int) -> str:
        """Name of a type id."""
        return self.view.types[kind].name if kind in self.view.types else f"type {kind}"

    def site_of(self, device: int, carrier: str) -> int:
        """The device's site, else the carrier's, else 0."""
        if device:
            return int(self.view.device_site[device])
        return self.view.carrier_site.get(carrier, 0)


def carrier_of(topic: bytes) -> str:
    """The MQTT user name in a topic; empty where there is none."""
    levels = topic.split(b"/", 2)
    ours = len(levels) > 1 and levels[0] == _UP.encode()
    return levels[1].decode(errors="backslashreplace") if ours else ""


def _readers(patterns: Iterable[Pattern]) -> dict[int, int]:
    """Type id -> its reader on these patterns; the one of its first topic, where several fit."""
    found: dict[int, int] = {}
    for reader in sorted(reader for pattern in patterns for reader in pattern.readers):
        found.setdefault(reader // PARTS, reader)
    return found


def fits(pattern: Sequence[str], levels: Sequence[str]) -> bool:
    """Whether a topic's levels are of the pattern."""
    return len(pattern) == len(levels) and all(
        want in {CARRIER, KEY} or want == level for want, level in zip(pattern, levels, strict=True)
    )


def district(view: View) -> District:
    """Compile what a view holds. A type that does not compile is named in `broken`, never raised.

    A type without devices, or that does not compile, has its topics all the same: what is said
    there may be an alarm, and a topic that nobody subscribes to is acknowledged and gone.

    Takes seconds at 400,000 devices: call it off the event loop.
    """
    readers: dict[int, payload.Reader] = {}
    broken: dict[str, str] = {}
    topics: list[tuple[int, str, Lane]] = []
    for kind, entry in sorted(view.types.items()):
        try:
            parts = compile_type(entry.document, entry.name)
        except BadInput as error:
            broken[entry.name] = str(error)
            topics += [(kind * PARTS, *topic) for topic in load.topics_of(entry.document)]
            continue
        for number, one in enumerate(parts, kind * PARTS):
            readers[number] = payload.reader(one)
            topics += [(number, *topic) for topic in one.patterns]
    states = np.array(view.device_state, dtype=object)
    out = (states == LifeState.PLANNED) | (states == LifeState.RETIRED)
    keys = frozenset(key for roster in view.roster.values() for key in roster)
    return District(
        view=view,
        readers=readers,
        broken=broken,
        patterns=_patterns(topics, broken),
        keys=keys,
        in_service=view.device_live & ~out,
        lel_ppm=np.array(LEL_PPM)[view.device_gas],
        type_of=view.device_type.tolist(),
        carrier_types=_carrier_types(view),
    )


def _carrier_types(view: View) -> dict[str, frozenset[int]]:
    """Carrier name -> the types of its roster.

    Once, here: a refusal is not remembered, and asking a roster of 200,000 for each message on a
    wrong topic took 4 ms of the lane's loop.
    """
    live = np.flatnonzero(view.device_live)
    pairs = view.device_carrier[live].astype(np.int64) << 32 | view.device_type[live]
    found: dict[str, set[int]] = {}
    for pair in np.unique(pairs).tolist():
        found.setdefault(view.carrier_names[pair >> 32], set()).add(pair & 0xFFFF_FFFF)
    return {carrier: frozenset(kinds) for carrier, kinds in found.items()}


def _patterns(
    topics: Iterable[tuple[int, str, Lane]], broken: dict[str, str]
) -> dict[Lane, tuple[Pattern, ...]]:
    """Patterns by lane. Where two types disagree on the lane of a topic, the alarm lane has it."""
    types: dict[tuple[Lane, str], set[int]] = {}
    for number, pattern, lane in topics:
        types.setdefault((lane, pattern), set()).add(number)
    alarms = [pattern for lane, pattern in types if lane is Lane.ALARM]
    for lane, pattern in list(types):
        if lane is Lane.TELEMETRY and any(load.overlap(pattern, alarm) for alarm in alarms):
            numbers = types.pop((lane, pattern))
            types.setdefault((Lane.ALARM, pattern), set()).update(numbers)
            broken.setdefault(pattern, "of lane telemetry in one type, of lane alarm in another")
    return {
        lane: tuple(
            Pattern(tuple(pattern.split("/")), frozenset(numbers))
            for (of, pattern), numbers in sorted(types.items())
            if of is lane
        )
        for lane in Lane
    }
