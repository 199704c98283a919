"""Steam: air that grows moist as it grows warm, told by the humidity point of the same device.

    q = (e - e_b)/(T - b), hPa/K;  e = RH/100 * 6.112 * exp(17.62 T/(243.12 + T)), e_b of the slow
    baselines of both (features.py for b, slow.py for that of RH)

Kettles: 1.9 to 5.5 hPa/K at 4 K and above. Burning gives 0.07 (methane) to 0.12 (damp wood) where
no heat is lost, and up to 1 where smoke has lost nine tenths of it to walls. So q > 1.2: steam. It
makes an early of an alarm that a rise alone would be, and touches nothing else: not a fixed limit,
smoke, CO, what a device says, nor a rise that neighbours confirm.

RH and T are of one time: RH is the newest that is older than the reading judged, and T the reading
before, if that is no newer than RH. Where RH is older, T is b: RH of cooler air taken for that of
warmer would make moisture of dry heat. What is older than 120 s, or has no baseline of 10 min yet,
says nothing. So does a device without a humidity point: its alarm stands.

A round holds at most one humidity of a device, and it is taken over before the temperatures are
judged, so the reading before it is kept too: how readings were batched changes nothing. Humidity
older than the newest is not looked at.

Source: four recorded kettles, and the energy balance of burning (detection.md sections 3 and 5).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from detectors import level, slow
from detectors.batch import Rows
from detectors.features import Heat, LateHeat
from detectors.rule import Block, Column, number
from detectors.slow import Slow
from sizao.signal import Evidence

QUANTITY = "humidity_pct"
Float32s = npt.NDArray[np.float32]
Int64s = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

_SLOW = Slow(tau_s=600, tau_fall_s=600, clip=5, jump=30, warm_s=600, counted_s=120)
_GAP_S = level.GAP_S
_SECOND_US = 1_000_000

COLUMNS: tuple[Column, ...] = (
    Column("x", "float32"),
    Column("last_us", "int64"),
    Column("older", "float32"),
    Column("older_us", "int64"),
    Column("older_baseline", "float32"),
    *slow.COLUMNS,
)
"""By humidity slot."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Params:
    """`least_k`: a smaller rise has no direction. `stale_s`: of humidity."""

    steam_hpa_per_k: float = 1.2
    least_k: float = 1.5
    stale_s: int = 120


@dataclass(frozen=True, slots=True)
class Moist:
    """What is known of humidity. `of`: by temperature slot the humidity slot of its device, -1
    where it has none.
    """

    block: Block
    of: npt.NDArray[np.int32]
    params: Params = field(default_factory=Params)

    def take(self, rows: Rows) -> None:
        """Take over the humidity of a round (in place)."""
        ordered, _ = level.split(self.block, rows, _GAP_S)
        if len(ordered.slot):
            self.block["older"][ordered.slot] = ordered.before
            self.block["older_us"][ordered.slot] = ordered.before_us
            self.block["older_baseline"][ordered.slot] = self.block["baseline"][ordered.slot]
            slow.rise(self.block, _SLOW, ordered)

    def before(self, slot: Int64s, time_us: Int64s) -> tuple[Float32s, Int64s, Float32s]:
        """RH of humidity slots, the newest before each time, when it was (0 for none), and the
        baseline of then.
        """
        block = self.block
        newer = block["last_us"].take(slot) >= time_us
        rh = np.where(newer, block["older"].take(slot), block["x"].take(slot))
        at_us = np.where(newer, block["older_us"].take(slot), block["last_us"].take(slot))
        at_us[at_us >= time_us] = 0
        baseline = block["older_baseline"].take(slot)
        return rh, at_us, np.where(newer, baseline, block["baseline"].take(slot))


@dataclass(frozen=True, slots=True)
class Steam:
    """Of rows: whether the rise is steam's, and what says so."""

    holds: Bools
    hpa_per_k: Float32s
    rh_pct: Float32s
    rh_us: Int64s
    rh_baseline_pct: Float32s

    def said(self, row: int) -> Evidence:
        """Its part of the evidence, where it is steam."""
        if not self.holds[row]:
            return {}
        return {
            "steam_hpa_per_k": number(self.hpa_per_k[row]),
            "humidity_pct": number(self.rh_pct[row]),
            "humidity_us": int(self.rh_us[row]),
            "humidity_baseline_pct": number(self.rh_baseline_pct[row]),
        }


def steam(rows: Heat | LateHeat) -> Steam:
    """What the humidity of their devices makes of rises."""
    moist = rows.moist
    of = np.full(len(rows.slot), -1) if moist is None else moist.of.take(rows.slot).astype(np.int64)
    nothing = np.zeros(len(of), np.float32)
    found = Steam(of < -1, nothing, nothing, np.zeros(len(of), np.int64), nothing)
    known = of >= 0
    if moist is None or not known.any():
        return found
    place, params = np.maximum(of, 0), moist.params
    if isinstance(rows, Heat):
        before_us, before_c, until_us = rows.before_us, rows.before_c, rows.event_us
    else:
        before_us, before_c, until_us = rows.newest_us, rows.newest_c, rows.newest_us + 1
    rh, rh_us, base_rh = moist.before(place, until_us)
    base_c = rows.baseline_c
    known &= (rh_us > 0) & (np.abs(rows.event_us - rh_us) <= params.stale_s * _SECOND_US)
    known &= moist.block["age_s"].take(place) >= _SLOW.warm_s
    same = rh_us >= before_us
    air_c = np.where(same, before_c, base_c)
    rise_k = np.where(same, before_c, rows.x_c) - base_c
    gained = pressure_hpa(rh, air_c) - pressure_hpa(base_rh, base_c)
    q = gained / np.maximum(rise_k, np.float32(params.least_k))
    holds = known & (rise_k >= params.least_k) & (q > params.steam_hpa_per_k)
    return Steam(holds, q.astype(np.float32), rh, rh_us, base_rh)


def pressure_hpa(rh_pct: Float32s, air_c: Float32s) -> Float32s:
    """Vapour pressure (Magnus's formula over water, -45 to 60 degC; beyond, held at 60)."""
    air_c = np.clip(air_c, np.float32(-45), np.float32(60))
    share = rh_pct * np.float32(0.01)
    over = np.exp(np.float32(17.62) * air_c / (np.float32(243.12) + air_c))
    return (share * np.float32(6.112) * over).astype(np.float32)
