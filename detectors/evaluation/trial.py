"""One pack, judged: when each detector, shipped or simple, spoke about each device."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from detectors.evaluation import baselines, protocol
from detectors.evaluation.baselines import Bools
from detectors.evaluation.pack import Channel, Floats, Pack
from detectors.evaluation.protocol import Fed
from detectors.evaluation.watch import Alarm, watch
from detectors.state import Setup
from sizao.signal import Kind, Tier

INCIDENTS = frozenset({Kind.FIRE.value, Kind.GAS.value, Kind.CO.value})
TIERS = ("sizao early", "sizao alarm", "sizao urgent")
"""First word of that tier or a higher one, by any shipped rule."""
ZONE_RULE = "zone 3 x 1.5 K"
ZONE_RISE_K, ZONE_WITHIN_S, ZONE_DEVICES = 1.5, 60.0, 3
SUM, CO_RISE, PRODUCT = "sum rule", "CO rise 15 ppm", "smoke x CO"

Place = tuple[str, str]
"""A test, and a device or zone in it."""
Said = dict[str, dict[Place, Floats]]
"""By detector and place: the times at which it began to speak, on the test's clock."""


@dataclass(frozen=True, slots=True)
class Trial:
    """What everybody said. `zones`: of the zone rule, by zone."""

    pack: Pack
    fed: tuple[Fed, ...]
    alarms: tuple[Alarm, ...]
    said: Said
    zones: dict[Place, Floats]

    def channels(self, quantity: str) -> list[Channel]:
        """The channels of one quantity, as they were fed."""
        return [fed.channel for fed in self.fed if fed.channel.quantity == quantity]

    def at(self, name: str, places: Iterable[Place]) -> Floats:
        """When a detector spoke about any of these places."""
        known = self.said.get(name, {})
        return np.concatenate([np.zeros(0), *(known[one] for one in places if one in known)])


def judge(pack: Pack, setup: Setup, sampling_s: float) -> Trial:
    """Feed a pack to everybody."""
    fed = protocol.feed(pack, sampling_s)
    channels = [one.channel for one in fed]
    alarms = watch(pack, channels, setup)
    heat = [channel for channel in channels if channel.quantity == "temperature_c"]
    said = shipped(alarms)
    for name, baseline in baselines.HEAT.items():
        said[name] = {_place(one): _begins(one, baseline(one.time_s, one.value)) for one in heat}
    said |= _smoke_and_gas(pack, channels)
    return Trial(pack, fed, tuple(alarms), said, _zones(pack, heat))


def shipped(alarms: Sequence[Alarm]) -> Said:
    """Raises of the shipped rules, by tier or higher, and by rule and tier."""
    times: dict[str, dict[Place, list[float]]] = defaultdict(lambda: defaultdict(list))
    ranks = {tier.value: tier.rank for tier in Tier}
    for alarm in alarms:
        place = (alarm.test, alarm.device)
        times[f"{alarm.rule} {alarm.tier}"][place].append(alarm.time_s)
        if alarm.kind in INCIDENTS:
            for name, tier in zip(TIERS, Tier, strict=True):
                if ranks[alarm.tier] >= tier.rank:
                    times[name][place].append(alarm.time_s)
    return {
        name: {place: np.array(each) for place, each in places.items()}
        for name, places in times.items()
    }


def _place(channel: Channel) -> Place:
    return channel.test, channel.device


def _begins(channel: Channel, holds: Bools) -> Floats:
    """The times at which a condition begins to hold."""
    return _edges(channel.time_s, holds)


def _edges(time_s: Floats, holds: Bools) -> Floats:
    begins = holds.copy()
    begins[1:] &= ~holds[:-1]
    found: Floats = time_s[begins]
    return found


def _smoke_and_gas(pack: Pack, channels: Sequence[Channel]) -> Said:
    by_key = {(one.test, one.device, one.quantity): one for one in channels}
    gas = [one for one in channels if one.quantity == "co_ppm"]
    smoke = [one for one in channels if one.quantity == "smoke_od_per_m"]
    said: Said = {}
    for name, baseline in baselines.SMOKE.items():
        said[name] = {_place(one): _begins(one, baseline(one.time_s, one.value)) for one in smoke}
    said[CO_RISE] = {
        _place(one): _begins(one, baselines.co_rise(one.time_s, one.value)) for one in gas
    }
    said |= {SUM: {}, f"{SUM}, twice": {}, PRODUCT: {}}
    for one in smoke:
        heat = by_key.get((one.test, one.device, "temperature_c"))
        rise_k = np.zeros(len(one.time_s))
        if heat is not None:
            held, _ = baselines.rises_k(heat.time_s, heat.value)
            rise_k = baselines.latest(one.time_s, heat.time_s, held)
        holds = baselines.evidence_sum(rise_k, one.value)
        said[SUM][_place(one)] = _begins(one, holds)
        said[f"{SUM}, twice"][_place(one)] = _begins(one, baselines.twice(holds))
        beside = _beside(pack, one, gas)
        if beside is not None:
            co = baselines.latest(one.time_s, beside.time_s, beside.value - beside.value[0])
            said[PRODUCT][_place(one)] = _begins(one, baselines.product(one.value, co))
    return said


def _beside(pack: Pack, one: Channel, gas: Sequence[Channel]) -> Channel | None:
    """The gas point of the same device, else the first of the same room."""
    here = [each for each in gas if each.test == one.test]
    room = pack.devices[one.device].room
    same = [each for each in here if each.device == one.device]
    same += [each for each in here if room and pack.devices[each.device].room == room]
    return same[0] if same else None


def _zones(pack: Pack, heat: Sequence[Channel]) -> dict[Place, Floats]:
    """When the zone rule spoke, by test and zone: three devices within a minute."""
    apart: dict[Place, list[Channel]] = defaultdict(list)
    for one in heat:
        device = pack.devices[one.device]
        counts = pack.kind != "fire" or pack.counted(one.device)
        if device.zone and counts and not device.note.startswith("faulty"):
            apart[one.test, device.zone].append(one)
    return {place: _together(members) for place, members in apart.items()}


def _together(members: Sequence[Channel]) -> Floats:
    at_s = np.unique(np.concatenate([one.time_s for one in members]))
    count = np.zeros(len(at_s), np.int64)
    for one in members:
        held, _ = baselines.rises_k(one.time_s, one.value)
        risen = one.time_s[held >= ZONE_RISE_K - 1e-4]
        place = np.searchsorted(risen, at_s, side="right") - 1
        if len(risen):
            count += (place >= 0) & (at_s - risen[place.clip(0)] <= ZONE_WITHIN_S)
    return _edges(at_s, count >= ZONE_DEVICES)
