"""When to try again, and what became of an attempt. Pure.

The ladder fits a fire, not an invoice: six attempts in the first 40 s where the receiver answers at
once (a delay runs from the end of the attempt before it), then slower, and none an hour after the
first: a fire notice is worthless the next day (Standard Webhooks' own ladder takes three days). An
unknown outcome is tried again under the same id: a page too many is cheaper than a
fire nobody heard of, and the receiver drops what it has seen.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

SECOND_US = 1_000_000
LADDER_S: tuple[int, ...] = (0, 1, 2, 5, 10, 20, 60, 120, 300, 900)
"""Delay before the first, second, ... attempt; the last repeats."""
STOP_US = 3600 * SECOND_US
RETRY_AFTER_S_MAX = 60.0
"""A receiver may slow us down, not silence us."""
DETAIL_CHARS_MAX = 300


class Outcome(StrEnum):
    """What became of one attempt: closed label and column of the ledger."""

    ACCEPTED = "accepted"  # 2xx: the receiver has it; no person has answered yet
    REFUSED = "refused"  # 4xx
    GONE = "gone"  # 410: never again
    THROTTLED = "throttled"  # 429
    REDIRECTED = "redirected"  # 3xx is a failure: a page goes where it was told
    SERVER_ERROR = "server_error"
    UNREACHABLE = "unreachable"  # no connection: nothing left
    UNKNOWN = "unknown"  # bytes left, no whole answer came
    NO_ADDRESS = "no_address"  # the responder, its channel or its secret is not there


class MessageState(StrEnum):
    """Where a message stands; all but DUE are ends."""

    DUE = "due"
    ACCEPTED = "accepted"
    REFUSED = "refused"
    EXPIRED = "expired"
    CANCELLED = "cancelled"


class Reason(StrEnum):
    """Why a message stands where it does."""

    ACCEPTED = "accepted"
    GONE = "gone"
    INCIDENT_CLOSED = "incident_closed"
    OUT_OF_TIME = "out_of_time"
    LADDER = "ladder"
    RETRY_AFTER = "retry_after"
    ONCE = "once"  # a test page has one attempt


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a channel says about one attempt."""

    outcome: Outcome
    status: int | None = None
    retry_after_s: float | None = None
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Letter:
    """One attempt's content; `id` and `body` are the same in every attempt. `dedup_unknown`: the
    database was away, and another process may have sent it already.
    """

    id: str
    body: bytes
    at_us: int
    dedup_unknown: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Next:
    """What to do with a message after an attempt: `at_us` is None at an end."""

    state: MessageState
    at_us: int | None
    reason: Reason


_BY_STATUS = {410: Outcome.GONE, 429: Outcome.THROTTLED}
_BY_CLASS = {
    2: Outcome.ACCEPTED,
    3: Outcome.REDIRECTED,
    4: Outcome.REFUSED,
    5: Outcome.SERVER_ERROR,
}


def outcome_of(status: int) -> Outcome:
    """What an HTTP status means; anything outside 200 to 599 is no answer."""
    return _BY_STATUS.get(status) or _BY_CLASS.get(status // 100, Outcome.UNKNOWN)


def retry_after_s(header: str | None) -> float | None:
    """Seconds of a Retry-After header, bounded; None for none or a date (its clock is not ours)."""
    text = (header or "").strip()
    if not text.isascii() or not text.isdigit():
        return None
    return min(float(text[:9]), RETRY_AFTER_S_MAX)


def next_attempt(
    answer: Answer, *, attempts: int, first_us: int, now_us: int, incident_closed: bool
) -> Next:
    """When to try again, and why. `attempts` have been made (at least 1), the first at `first_us`.

    Time runs from the first attempt, not from the making: a page that waited for a dead process to
    come back is tried like any other.
    """
    assert attempts >= 1
    if answer.outcome is Outcome.ACCEPTED:
        return Next(state=MessageState.ACCEPTED, at_us=None, reason=Reason.ACCEPTED)
    if answer.outcome is Outcome.GONE:
        return Next(state=MessageState.REFUSED, at_us=None, reason=Reason.GONE)
    if incident_closed:
        return Next(state=MessageState.CANCELLED, at_us=None, reason=Reason.INCIDENT_CLOSED)
    delay_s: float = LADDER_S[min(attempts, len(LADDER_S) - 1)]
    reason = Reason.LADDER
    asked_s = min(answer.retry_after_s or 0.0, RETRY_AFTER_S_MAX)
    if asked_s > delay_s:
        delay_s, reason = asked_s, Reason.RETRY_AFTER
    at_us = now_us + int(delay_s * SECOND_US)
    if at_us > first_us + STOP_US:
        return Next(state=MessageState.EXPIRED, at_us=None, reason=Reason.OUT_OF_TIME)
    return Next(state=MessageState.DUE, at_us=at_us, reason=reason)
