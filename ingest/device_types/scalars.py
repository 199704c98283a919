"""Words and numbers as a device-type file has them: by YAML 1.2, and as an editor checks them.

Pydantic would take the text "10" for a number and `on` for true; the published JSON Schema would
not, and what one forgives and the other does not sends people looking for a fault that is none.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    AllowInfNan,
    BeforeValidator,
    Strict,
    StrictBool,
    StrictFloat,
    StrictInt,
    StrictStr,
    WithJsonSchema,
)

_FLAGS = {"yes": True, "no": False}


def _flag(wire: Any) -> bool:
    """`yes` and `no` are words in YAML 1.2 and booleans in 1.1: here they are the same thing."""
    known = wire if isinstance(wire, bool) else _FLAGS.get(str(wire))
    if known is None:
        raise ValueError("expected yes or no")
    return known


def _text(wire: Any) -> str:
    if isinstance(wire, str):
        return wire
    raise ValueError("expected a time such as 2026-03-01T08:00:00Z")


def _utc(time: datetime) -> datetime:
    return time.replace(tzinfo=UTC) if time.tzinfo is None else time


Flag = Annotated[
    StrictBool, BeforeValidator(_flag), WithJsonSchema({"enum": ["yes", "no", True, False]})
]
"""yes or no, true or false."""
Number = StrictInt | StrictFloat
Real = Annotated[float, Strict(), AllowInfNan(allow_inf_nan=False)]
Wire = StrictBool | StrictInt | StrictStr
"""What a payload may say for a state."""
Moment = Annotated[datetime, BeforeValidator(_text), AfterValidator(_utc)]
"""A time; without a zone it is UTC."""
