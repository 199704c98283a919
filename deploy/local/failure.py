"""The one error of this package: a real server could not be had."""

from __future__ import annotations


class ServerError(Exception):
    """A server could not be started, reached or stopped.

    The text says what failed, where to look, and which knob to turn; it is meant for a person
    and never parsed.
    """

    def __init__(self, what: str, *, where: str = "", knob: str = "") -> None:
        self.what = what
        self.where = where
        self.knob = knob
        parts = [what]
        if where:
            parts.append(f"see {where}")
        if knob:
            parts.append(knob)
        super().__init__("; ".join(parts))
