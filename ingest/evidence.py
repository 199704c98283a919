"""Which raw readings belong to an incident, from the transitions of `sizao.incidents.v1`. Pure.

All points of the incident's site: what the neighbours' sensors said, and which stayed silent, is
what an investigator asks first. From some time before the first signal to some time after the
close, the whole no longer than a bound; copied by the time of arrival, in slices, by a job that
remembers how far it has come.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Annotated

import msgspec

from sizao import frame
from sizao.errors import BadRecord
from sizao.frame import FrameFault

MINUTE_US = 60_000_000
AHEAD_US = 61_000_000
"""No reading lies further ahead of its arrival (design, section 2)."""
BAD_TRANSITION = "transition"
SKIPS = (BAD_TRANSITION, FrameFault.CRC_MISSING, FrameFault.CRC_WRONG, FrameFault.UNREADABLE)
"""Why a record tells nothing: closed label."""


_Instant = Annotated[datetime, msgspec.Meta(tz=True)]  # else it cannot be told in UTC
_Number = Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)]  # as the database's


class _Times(msgspec.Struct):
    onset: _Instant
    decided: _Instant


class _Site(msgspec.Struct):
    id: _Number


class _Transition(msgspec.Struct):
    incident: Annotated[str, msgspec.Meta(pattern="^[^\\x00]*$")]
    version: _Number
    nature: str
    state: str
    site: _Site
    times: _Times


_decoder = msgspec.json.Decoder(_Transition)


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """What a transition tells. `onset_us`: of the first signal; `closed_us`: None while open."""

    incident: str
    version: int
    nature: str
    site: int
    onset_us: int
    closed_us: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """How much is kept, microseconds: before the onset, after the close, at most in all."""

    before_us: int
    after_us: int
    longest_us: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """Readings of a site with events in [from_us, until_us]; copied if they came before
    `copied_us`.
    """

    incident: str
    version: int
    site: int
    onset_us: int
    from_us: int
    until_us: int
    closed_us: int | None
    copied_us: int


def read(value: bytes | None, headers: Sequence[tuple[str, bytes]]) -> Said:
    """A record of the topic. Raises BadRecord with one of SKIPS for what is none of ours."""
    if value is None:
        raise BadRecord(FrameFault.UNREADABLE, "no value")
    frame.check_crc(value, headers)
    try:
        found = _decoder.decode(value)
    except msgspec.MsgspecError as error:
        raise BadRecord(BAD_TRANSITION, str(error)[:200]) from error
    onset_us, decided_us = _us(found.times.onset), _us(found.times.decided)
    return Said(
        incident=found.incident,
        version=found.version,
        nature=found.nature,
        site=found.site.id,
        onset_us=onset_us,
        closed_us=decided_us if found.state == "closed" else None,
    )


def window(known: Window | None, said: Said, span: Span) -> Window:
    """The window after a transition. An older one, or one heard again, changes nothing."""
    if known is not None and said.version <= known.version:
        return known
    from_us = max(said.onset_us - span.before_us, 0)
    longest_us = from_us + span.longest_us
    until_us = longest_us if said.closed_us is None else said.closed_us + span.after_us
    made = Window(
        incident=said.incident,
        version=said.version,
        site=said.site,
        onset_us=said.onset_us,
        from_us=from_us,
        until_us=max(from_us, min(until_us, longest_us)),
        closed_us=said.closed_us,
        copied_us=max(from_us - AHEAD_US, 0),
    )
    if known is not None and known.from_us <= made.from_us:
        return replace(made, copied_us=known.copied_us)
    return made  # from its beginning: what is copied twice is no second row


@dataclass(frozen=True, slots=True, kw_only=True)
class Slice:
    """Readings that came in [since_us, until_us) are to be copied for these incidents."""

    incidents: tuple[str, ...]
    since_us: int
    until_us: int


def next_slice(windows: Sequence[Window], limit_us: int, longest_us: int) -> Slice | None:
    """Of windows of one partition, whose rows are all stored up to an arrival: what is to be copied
    first. Who has come further is left out, so one scan serves many and none is repeated.
    """
    since_us = min((one.copied_us for one in windows), default=limit_us)
    until_us = min(since_us + longest_us, limit_us)
    if until_us <= since_us:
        return None
    those = tuple(sorted(one.incident for one in windows if one.copied_us < until_us))
    return Slice(incidents=those, since_us=since_us, until_us=until_us)


def _us(at: datetime) -> int:
    """Microseconds since 1970; exact, where `timestamp()` is a float."""
    since = at - datetime.fromisoformat("1970-01-01T00:00:00+00:00")
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds
