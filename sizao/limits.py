"""Fixed limits by class, shared by the fixed rule and the bridge's hand-over.

EN 54-5:2017 table 1 and GB 4716-2005: the static response temperature of a heat detector lies
between a minimum and a maximum by class. We use the class's static minimum, in two samples in a
row, as the urgent limit: no certified detector of that class may respond below it.

Suffix S: a detector that must not respond below its static minimum however fast it grows warm
(boiler rooms, kitchens: cold air, then a burst of hot); rules of rise and rate leave it out. Suffix
R (one that must respond to fast rises) asks nothing of us that other devices do not get.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

# The order is the code stored in the registry (0 = no class named): append only.
_PLAIN = ("A1", "A2", "B", "C", "D", "E", "F", "G")
_MINIMUM_C = (54.0, 54.0, 69.0, 84.0, 99.0, 114.0, 129.0, 144.0)
HEAT_CLASSES: tuple[str, ...] = ("", *_PLAIN, *(f"{name}S" for name in _PLAIN))
STATIC_MINIMUM_C: npt.NDArray[np.float32] = np.array((54.0, *_MINIMUM_C, *_MINIMUM_C), np.float32)
"""degC by class code. A device without a class (a smoke detector's thermometer) counts as A1."""
STATIC_ONLY: npt.NDArray[np.bool_] = np.array([name.endswith("S") for name in HEAT_CLASSES])
"""By class code: whether it bears the suffix S."""
SAMPLES_COUNT = 2
"""So many readings in a row at the limit or above: one alone may be corrupt."""
JUMP_K, JUMP_GAP_S = 15.0, 1800.0
"""A jump: so far between two readings that lie no farther apart."""
JUMPS_DECAY_S, JUMPS_FORGOTTEN = 900.0, 0.05
FAULTY_COUNT, SOUND_COUNT, DOUBTFUL_COUNT = 1.5, 0.75, 0.5
"""Of the decaying counters of jumps up and of jumps down, the lesser (detectors/jumps.py)."""
DOUBTFUL_SAMPLES_COUNT, FAULTY_SAMPLES_COUNT = 4, 12
"""So many readings in a row of a sensor that has just jumped both ways, or keeps doing so."""
CLEAR_BELOW_K = 10.0
CLEAR_S = 180
"""A hit is over when the point has stayed so far under its limit for so long."""
REARM_S = 7200
"""A hit that has not been seen for so long is over in any case: the next is another."""

HEAT_CLASSES_TEXT = f"one of {', '.join(_PLAIN)} (R or S may follow)"
assert len(HEAT_CLASSES) == len(STATIC_MINIMUM_C)


def class_code(name: str) -> int:
    """Code of a class name; a trailing R (it must respond to fast rises) is not kept.

    Raises ValueError for a name outside EN 54-5.
    """
    plain = name.strip().upper()
    if plain not in HEAT_CLASSES and len(plain) > 1 and plain[-1] == "R":
        plain = plain[:-1]
    if plain not in HEAT_CLASSES:
        raise ValueError(f"heat class {name!r}: expected {HEAT_CLASSES_TEXT}")
    return HEAT_CLASSES.index(plain)
