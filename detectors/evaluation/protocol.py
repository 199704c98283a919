"""The frozen protocol: what a housed sensor would have reported of a recorded fire.

The fire packs hold bare thermocouples and laboratory meters. Temperature passes a first-order lag
of 30 s, smoke and gas 10 s; the sensor is read every 10 s from the record's start, rounded to what
it can tell, and 20 min of constant history lie in front. Quiet and nuisance packs, and those that
say `prepared`, are fed as they are. (docs/packs.md)
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

from detectors.evaluation.pack import Channel, Floats, Pack

SAMPLING_S = 10.0
HEAT_LAG_S = 30.0
OTHER_LAG_S = 10.0
HISTORY_S = 1200.0
GAP_S = 60.0
"""Nothing is read inside a longer gap of the source."""
STEPS = {"temperature_c": 0.1, "smoke_od_per_m": 0.001, "co_ppm": 1.0}
"""What a sensor's reading is rounded to; other quantities are not rounded."""
WITHIN_S = 600.0
"""A fire not found within this of its ignition is missed, and counts as this in means."""
ELIGIBLE_K = 10.0
LEAD_IN_S = 60.0
_TINY_S = 1e-6


@dataclass(frozen=True, slots=True)
class Fed:
    """A channel as it is judged. `eligible`: a heat detector could have been asked to find it."""

    channel: Channel
    eligible: bool = False


def lagged(time_s: Floats, value: Floats, lag_s: float) -> Floats:
    """First-order lag, solved exactly for straight lines between the samples.

    It begins at the first value, in balance.
    """
    dt = np.diff(time_s)
    slope = np.diff(value) / dt
    keep = np.exp(-dt / lag_s)
    added = (value[1:] - lag_s * slope) - (value[:-1] - lag_s * slope) * keep
    steps = zip(keep.tolist(), added.tolist(), strict=True)
    out = [float(value[0])]
    for kept, more in steps:
        out.append(out[-1] * kept + more)
    return np.array(out)


def read(time_s: Floats, value: Floats, sampling_s: float) -> tuple[Floats, Floats]:
    """What is read every `sampling_s` from 0 on, by straight lines; nothing in the gaps."""
    first = np.ceil((time_s[0] - _TINY_S) / sampling_s)
    last = np.floor((time_s[-1] + _TINY_S) / sampling_s)
    at_s = np.arange(first, last + 1) * sampling_s
    after = np.searchsorted(time_s, at_s - _TINY_S).clip(1, max(len(time_s) - 1, 1))
    if len(time_s) > 1:
        inside = (time_s[after] - time_s[after - 1] > GAP_S) & (
            (at_s > time_s[after - 1] + _TINY_S) & (at_s < time_s[after] - _TINY_S)
        )
        at_s = at_s[~inside]
    return at_s, np.interp(at_s, time_s, value)


def rounded(quantity: str, value: Floats) -> Floats:
    """As fine as the sensor tells it."""
    step = STEPS.get(quantity)
    return value if step is None else np.round(np.round(value / step) * step, 6)


def housed(channel: Channel, sampling_s: float) -> Channel:
    """A bare channel as its housed sensor reports it, with its history in front."""
    heat = channel.quantity == "temperature_c"
    slow = lagged(channel.time_s, channel.value, HEAT_LAG_S if heat else OTHER_LAG_S)
    at_s, value = read(channel.time_s, slow, sampling_s)
    if not len(at_s):
        return replace(channel, time_s=at_s, value=value)
    value = rounded(channel.quantity, value)
    before = np.arange(-np.floor(HISTORY_S / sampling_s), 0) * sampling_s + at_s[0]
    return replace(
        channel,
        time_s=np.concatenate([before, at_s]),
        value=np.concatenate([np.full(len(before), value[0]), value]),
    )


def eligible(time_s: Floats, value: Floats, ignition_s: float) -> bool:
    """Whether a lagged temperature rises by 10 K within 600 s of ignition.

    Over the median of the last 60 s before it; the first value where there is no lead-in.
    """
    lead = value[(time_s >= ignition_s - LEAD_IN_S) & (time_s < ignition_s)]
    start = float(np.median(lead)) if len(lead) else float(value[0])
    burning = value[(time_s >= ignition_s) & (time_s <= ignition_s + WITHIN_S)]
    return bool(len(burning) and burning.max() - start >= ELIGIBLE_K - _TINY_S)


def feed(pack: Pack, sampling_s: float = SAMPLING_S) -> tuple[Fed, ...]:
    """The channels of a pack as detectors get them."""
    if pack.kind != "fire":
        return tuple(Fed(channel) for channel in pack.channels)
    if pack.prepared:
        return tuple(_judged(pack, channel, channel) for channel in pack.channels)
    return tuple(_housed(pack, sampling_s))


def _housed(pack: Pack, sampling_s: float) -> Iterable[Fed]:
    for channel in pack.channels:
        if pack.counted(channel.device):
            sensor = housed(channel, sampling_s)
            if len(sensor.time_s):
                heat = channel.quantity == "temperature_c"
                slow = lagged(channel.time_s, channel.value, HEAT_LAG_S) if heat else channel.value
                yield _judged(pack, sensor, replace(channel, value=slow))


def _judged(pack: Pack, fed: Channel, slow: Channel) -> Fed:
    heat = fed.quantity == "temperature_c" and pack.counted(fed.device)
    ignition_s = pack.ignition_s(fed.test)
    return Fed(fed, eligible=heat and eligible(slow.time_s, slow.value, ignition_s))
