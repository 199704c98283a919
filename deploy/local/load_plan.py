"""What a load consists of: which device says what, and when. Pure arrays, made before the load.

Every message is one row of the plan, in the order of its time. `at_us` counts from the start of the
load, so that the schedule is absolute: a generator that was held up catches up and says by how much
it was late, it never slows the load down.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

SECOND_US = 1_000_000
MESSAGES_MAX = (
    20_000_000  # 40,000 a second for eight minutes: the arrays of the plan stay below 1 GB
)
SECONDS_MAX = 3_600
QUIET_C = 21.0
SWING_C = 0.4  # below every rule's threshold
FIRE_C = 60.0  # above the static minimum of classes A1 and A2
FIRE_SAMPLES = 4
FIRE_GAP_US = 500_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Columns of equal length, sorted by `at_us`. `device` is a place in the list of devices.

    A message of a device that is a gateway carries a reading of each of its keys.
    """

    at_us: npt.NDArray[np.int64]
    device: npt.NDArray[np.int32]
    value: npt.NDArray[np.float32]

    @property
    def messages(self) -> int:
        """How many."""
        return len(self.at_us)


def steady(devices: int, rate: float, seconds: float) -> Plan:
    """`rate` messages a second for `seconds`, round the devices in turn.

    Raises ValueError beyond the bounds.
    """
    count = round(rate * seconds)
    if not 0 < seconds <= SECONDS_MAX or not 0 < count <= MESSAGES_MAX or devices < 1:
        raise ValueError(
            f"{devices} devices, {rate:g}/s for {seconds:g} s: at least one device, at most"
            f" {MESSAGES_MAX} messages and {SECONDS_MAX} s"
        )
    number = np.arange(count)
    at_us = (number * (SECOND_US / rate)).astype(np.int64)
    value = QUIET_C + SWING_C * np.sin(number * 0.001)
    return Plan(at_us=at_us, device=(number % devices).astype(np.int32), value=_tenths(value))


def fires(first_device: int, devices: int, begin_us: int, end_us: int) -> Plan:
    """One device after the other jumps over the limit, evenly between two times.

    The devices are quiet once a second before, hot for some samples, then quiet again, so that
    their incidents end.
    """
    parts = []
    for number in range(devices):
        hot_us = begin_us + (end_us - begin_us) * number // max(devices, 1)
        before = np.arange(hot_us % SECOND_US, hot_us, SECOND_US)
        hot = hot_us + np.arange(FIRE_SAMPLES) * FIRE_GAP_US
        at_us = np.concatenate([before, hot])
        value = np.repeat([QUIET_C, FIRE_C], [len(before), len(hot)])
        parts.append((at_us, np.full(len(at_us), first_device + number), value))
    if not parts:
        return Plan(
            at_us=np.empty(0, np.int64),
            device=np.empty(0, np.int32),
            value=np.empty(0, np.float32),
        )
    at_us, device, value = (np.concatenate(column) for column in zip(*parts, strict=True))
    return _sorted(at_us, device, value)


def together(*plans: Plan) -> Plan:
    """All messages of several plans in the order of their times."""
    return _sorted(
        np.concatenate([plan.at_us for plan in plans]),
        np.concatenate([plan.device for plan in plans]),
        np.concatenate([plan.value for plan in plans]),
    )


def _sorted(
    at_us: npt.NDArray[np.int64], device: npt.NDArray[np.int32], value: npt.NDArray[np.float32]
) -> Plan:
    order = np.argsort(at_us, kind="stable")
    return Plan(
        at_us=at_us[order].astype(np.int64),
        device=device[order].astype(np.int32),
        value=value[order].astype(np.float32),
    )


def _tenths(value: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
    return np.round(value, 1).astype(np.float32)
