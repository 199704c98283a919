"""One attempt: whatever a channel does, it comes back as an answer."""

from __future__ import annotations

import pytest

from alerting.deliver import send
from alerting.ledger import Answer, Outcome
from alerting.outbox import Claim
from alerting.responders import Directory

CLAIM = Claim(id="m", responder="a", channel="c", body="words", attempt=1, first_us=1, signal_us=0)
DIRECTORY = Directory(
    version=1, responders=(), addresses={("a", "c"): {"channel": "fake", "name": "c", "to": 1}}
)


class Fake:
    def __init__(self, says):
        self.says, self.got = says, []

    def render(self, notice, language, utc_offset_min):
        raise NotImplementedError

    async def send(self, address, letter, deadline_s):
        self.got.append((address, letter, deadline_s))
        if isinstance(self.says, Exception):
            raise self.says
        return self.says


async def attempt(channel, directory=DIRECTORY):
    return await send({"fake": channel}, directory, CLAIM, now_us=7, deadline_s=2)


async def test_the_channel_gets_address_letter_and_deadline():
    fake = Fake(Answer(outcome=Outcome.ACCEPTED))
    assert (await attempt(fake)).outcome is Outcome.ACCEPTED
    ((address, letter, deadline_s),) = fake.got
    assert (address, letter.id, letter.body, letter.at_us) == ({"to": 1}, "m", b"words", 7)
    assert deadline_s == 2


@pytest.mark.parametrize("slip", [ValueError("secret"), TypeError(), RuntimeError(), OSError()])
async def test_a_slip_of_a_channel_is_an_unknown_outcome(slip):
    answer = await attempt(Fake(slip))
    assert answer.outcome is Outcome.UNKNOWN
    assert "secret" not in answer.detail


async def test_a_responder_who_is_gone_has_no_address():
    nobody = Directory(version=2, responders=(), addresses={})
    assert (await attempt(Fake(None), nobody)).outcome is Outcome.NO_ADDRESS
