"""The three kinds of failure. Whether to try again is written on the type (style S15)."""

from __future__ import annotations


class SizaoError(Exception):
    """Root of everything Sizao raises on purpose."""


class Retriable(SizaoError):
    """A dependency is away or busy; the same call may succeed later."""


class Permanent(SizaoError):
    """The same call will fail the same way for ever."""


class Refused(Permanent):
    """The database takes these rows never: their content is at fault, not our rights or schema."""


class Raced(Refused):
    """Somebody else has stored a row of the same key meanwhile; a second look may settle it."""


class TooSlow(Retriable):
    """The database gave a statement up after its time-out: it is busy, or this is too much."""


class BadInput(SizaoError):
    """A person gave something wrong. The text says where, what, what was expected, which knob.

    Exit code 2 at the command line.
    """


class BadRecord(Permanent):
    """A Kafka record that is not ours or is damaged; `reason` is a closed metric label."""

    def __init__(self, reason: str, detail: str) -> None:
        """Keep the closed `reason` apart from the free `detail`."""
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail
