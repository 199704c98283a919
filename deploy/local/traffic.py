"""What the simulated devices say, in order of their clocks: quiet rooms, and one recorded fire."""

from __future__ import annotations

import heapq
import json
import math
import random
from collections.abc import Iterator
from dataclasses import dataclass

from deploy.local.district import BATCH, HEAT, SMOKE, STATE, District
from deploy.local.fire import Fire
from sizao.registry.write import DeviceRow

SEED = 7
SECOND_US = 1_000_000
PERIOD_S = {HEAT: 10, BATCH: 30, SMOKE: 60, STATE: 86_400}


@dataclass(frozen=True, slots=True, order=True)
class Message:
    """One publish: `at_us` is the device's clock."""

    at_us: int
    user: str
    topic: str
    payload: bytes


def _climate(serial: int, at_us: int, rng: random.Random) -> float:
    """Temperature of a quiet room: its own level, a slow swing, noise of a tenth of a kelvin."""
    swing = 0.8 * math.sin(2 * math.pi * (at_us / 3.6e9 + serial / 17))
    return round(21 + serial % 7 * 0.5 + swing + rng.gauss(0, 0.08), 1)


def _dump(**fields: object) -> bytes:
    return json.dumps(fields).encode()


def _heat(row: DeviceRow, serial: int, at_us: int, rng: random.Random) -> Message:
    payload = _dump(temperature=_climate(serial, at_us, rng), ts=at_us / 1e6)
    return Message(at_us, row.carrier, f"up/{row.carrier}/telemetry/{row.key}", payload)


def _smoke(row: DeviceRow, serial: int, at_us: int, rng: random.Random) -> Message:
    payload = _dump(
        state="normal",
        smoke=round(abs(rng.gauss(0, 0.01)), 3),
        temperature=_climate(serial, at_us, rng),
    )
    return Message(at_us, row.carrier, f"up/{row.carrier}/alarm/{row.key}", payload)


def _alive(row: DeviceRow, serial: int, at_us: int, rng: random.Random) -> Message:
    payload = _dump(event="heartbeat", battery=60 + (serial + rng.randint(0, 1)) % 40)
    return Message(at_us, row.carrier, f"up/{row.carrier}/alarm/{row.key}", payload)


_SAY = {HEAT: _heat, SMOKE: _smoke, STATE: _alive}


def _periodic(
    row: DeviceRow, serial: int, from_us: int, until_us: int | None, rng: random.Random
) -> Iterator[Message]:
    period_us = PERIOD_S[row.device_type] * SECOND_US
    # In the first minute of the simulation every state-only alarm says its daily word.
    first_us = 60 * SECOND_US if row.device_type == STATE else period_us
    at_us = from_us + rng.randrange(first_us)
    while until_us is None or at_us < until_us:
        yield _SAY[row.device_type](row, serial, at_us, rng)
        at_us += period_us


def _batches(
    gateway: str, keys: list[str], from_us: int, until_us: int | None, rng: random.Random
) -> Iterator[Message]:
    at_us = from_us + rng.randrange(30 * SECOND_US)
    while until_us is None or at_us < until_us:
        times = [at_us // 1000 - 100 * n for n in range(len(keys))]
        values = [_climate(n + len(gateway), at_us, rng) for n in range(len(keys))]
        payload = _dump(keys=keys, times=times, temperatures=values)
        yield Message(at_us, gateway, f"up/{gateway}/telemetry", payload)
        at_us += PERIOD_S[BATCH] * SECOND_US


def quiet(district: District, from_us: int, until_us: int | None = None) -> Iterator[Message]:
    """What the district says when nothing burns; endless without `until_us`."""
    streams = []
    for device_type in (HEAT, SMOKE, STATE):
        for serial, row in enumerate(district.keys_of(device_type)):
            rng = random.Random(f"{SEED}/{row.key}")  # noqa: S311 - a simulation
            streams.append(_periodic(row, serial, from_us, until_us, rng))
    gateways: dict[str, list[str]] = {}
    for row in district.keys_of(BATCH):
        gateways.setdefault(row.carrier, []).append(row.key)
    for gateway, keys in gateways.items():
        rng = random.Random(f"{SEED}/{gateway}")  # noqa: S311 - a simulation
        streams.append(_batches(gateway, keys, from_us, until_us, rng))
    return heapq.merge(*streams)


def burning(
    district: District, fire: Fire, ignition_us: int, *, from_us: int, until_us: int | None = None
) -> Iterator[Message]:
    """What the burning room's devices say; before the record begins, its first value."""
    streams = [
        _trace(key, trace.time_s.tolist(), trace.temperature_c.tolist(), ignition_us, from_us)
        for key, trace in zip(district.burning, fire.traces, strict=True)
    ]
    for message in heapq.merge(*streams):
        if until_us is not None and message.at_us >= until_us:
            return
        yield message


def _trace(
    key: str, times_s: list[float], values: list[float], ignition_us: int, from_us: int
) -> Iterator[Message]:
    first_us = ignition_us + round(times_s[0] * SECOND_US)
    period_us = round((times_s[1] - times_s[0]) * SECOND_US)
    before = range(first_us - (first_us - from_us) // period_us * period_us, first_us, period_us)
    record = [ignition_us + round(time_s * SECOND_US) for time_s in times_s]
    steady = [values[0]] * len(before)
    for at_us, value in zip([*before, *record], [*steady, *values], strict=True):
        payload = _dump(temperature=value, ts=at_us / 1e6)
        yield Message(at_us, key, f"up/{key}/telemetry/{key}", payload)
