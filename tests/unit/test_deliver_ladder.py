"""When a page is tried again."""

from __future__ import annotations

import hypothesis.strategies as st
import pytest
from hypothesis import given

from alerting.ledger import (
    STOP_US,
    Answer,
    MessageState,
    Outcome,
    Reason,
    next_attempt,
    outcome_of,
    retry_after_s,
)

T0 = 1_760_000_000_000_000
S = 1_000_000
DOWN = Answer(outcome=Outcome.SERVER_ERROR, status=500)


def following(answer=DOWN, attempts=1, now=T0, first=T0, *, closed=False):
    return next_attempt(
        answer, attempts=attempts, first_us=first, now_us=now, incident_closed=closed
    )


def test_the_ladder_fits_a_fire():
    now, attempts, delays = T0, 1, []
    while True:
        after = following(attempts=attempts, now=now)
        if after.at_us is None:
            break
        delays.append((after.at_us - now) // S)
        now, attempts = after.at_us, attempts + 1
    assert delays == [1, 2, 5, 10, 20, 60, 120, 300, 900, 900, 900]
    assert (after.state, after.reason) == (MessageState.EXPIRED, Reason.OUT_OF_TIME)
    assert now - T0 <= STOP_US


@pytest.mark.parametrize("outcome", sorted(set(Outcome) - {Outcome.ACCEPTED, Outcome.GONE}))
def test_everything_but_2xx_and_410_is_tried_again(outcome):
    after = following(Answer(outcome=outcome))
    assert (after.state, after.reason, after.at_us) == (MessageState.DUE, Reason.LADDER, T0 + S)


def test_ends():
    assert following(Answer(outcome=Outcome.ACCEPTED)).state is MessageState.ACCEPTED
    assert following(Answer(outcome=Outcome.GONE)).state is MessageState.REFUSED
    assert following(closed=True).state is MessageState.CANCELLED
    assert following(Answer(outcome=Outcome.ACCEPTED), closed=True).reason is Reason.ACCEPTED


def test_retry_after_is_honoured_within_bounds():
    said = Answer(outcome=Outcome.THROTTLED, retry_after_s=7)
    assert following(said).at_us == T0 + 7 * S
    assert following(said).reason is Reason.RETRY_AFTER
    assert following(said, attempts=4).at_us == T0 + 10 * S
    forever = Answer(outcome=Outcome.THROTTLED, retry_after_s=86_400)
    assert following(forever).at_us == T0 + 60 * S


def test_a_page_that_waited_for_a_dead_process_has_its_hour():
    assert following(first=T0 + 5 * STOP_US, now=T0 + 5 * STOP_US).state is MessageState.DUE


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, None), ("", None), ("7", 7.0), (" 7 ", 7.0), ("-1", None), ("1e9", None),
        ("99999999999999999999", 60.0), ("Wed, 21 Oct 2026 07:28:00 GMT", None), ("٣", None),
    ],
)  # fmt: skip
def test_retry_after_header(header, seconds):
    assert retry_after_s(header) == seconds


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        (200, Outcome.ACCEPTED), (204, Outcome.ACCEPTED), (301, Outcome.REDIRECTED),
        (400, Outcome.REFUSED), (410, Outcome.GONE), (429, Outcome.THROTTLED),
        (500, Outcome.SERVER_ERROR), (600, Outcome.UNKNOWN), (100, Outcome.UNKNOWN),
    ],
)  # fmt: skip
def test_status(status, outcome):
    assert outcome_of(status) is outcome


@given(
    st.sampled_from(Outcome),
    st.integers(1, 1000),
    st.integers(0, 2 * STOP_US),
    st.one_of(st.none(), st.floats(0, 1e9)),
)
def test_never_later_than_an_hour_and_never_at_once_again(outcome, attempts, age, asked):
    after = following(Answer(outcome=outcome, retry_after_s=asked), attempts, T0 + age)
    if after.at_us is not None:
        assert T0 + age + S <= after.at_us <= T0 + STOP_US
    assert (after.state is MessageState.DUE) == (after.at_us is not None)
