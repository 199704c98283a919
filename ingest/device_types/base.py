"""What every part of a device-type file has in common."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Closed(BaseModel):
    """No unknown keys, and nothing changes once it is read."""

    model_config = ConfigDict(extra="forbid", frozen=True)
