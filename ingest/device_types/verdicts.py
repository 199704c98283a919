"""What may be wrong with one value, as a number for arrays.

The number of a verdict is its place in VERDICTS; the first two are no faults.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ingest.device_types.reasons import Reason

Floats = npt.NDArray[np.float64]
Verdicts = npt.NDArray[np.uint8]
Wires = list[Any] | npt.NDArray[Any]
"""Wire values as they came; an array holds numbers that somebody needs as numbers alone."""

VERDICTS: tuple[Reason | None, ...] = (
    None,  # OK
    None,  # ABSENT: nothing said, nothing wrong
    Reason.MISSING_FIELD,
    Reason.WRONG_TYPE,
    Reason.NOT_FINITE,
    Reason.OUT_OF_RANGE,
    Reason.UNKNOWN_STATE,
    Reason.SENSOR_BROKEN,
    Reason.UNEQUAL_COLUMNS,
    Reason.BAD_TIME,
    Reason.NO_POINT,
    Reason.AMBIGUOUS,
    Reason.WRONG_UNIT,
    Reason.NO_GAS,
)
OK, ABSENT = 0, 1
_NUMBER = {reason: index for index, reason in enumerate(VERDICTS) if reason is not None}
(
    MISSING,
    WRONG,
    NOT_FINITE,
    RANGE,
    STATE,
    BROKEN,
    UNEQUAL,
    TIME,
    NO_POINT,
    AMBIGUOUS,
    UNIT,
    NO_GAS,
) = (_NUMBER[reason] for reason in VERDICTS if reason is not None)


@dataclass(frozen=True, slots=True)
class Bad:
    """Stands for a value that was found wrong before anybody asked what it says."""

    verdict: int


UNEQUAL_VALUE = Bad(UNEQUAL)  # of a column that is not as long as the column of keys
AMBIGUOUS_VALUE = Bad(AMBIGUOUS)
WRONG_UNIT_VALUE = Bad(UNIT)
