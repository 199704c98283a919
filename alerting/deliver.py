"""Sends what is due, and writes down what became of it.

The order of effects of one page (S22): 1. claim and attempt row, committed; 2. bytes leave; 3. the
answer is recorded. Killed after 1 or 2, the next life sends again under the same id; so a receiver
may get a page twice, never not at all.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping
from functools import partial
from typing import Protocol

from pydantic import BaseModel, ConfigDict, Field

from alerting.ledger import Answer, Letter, MessageState, Next, Outcome
from alerting.notice import Notice
from alerting.outbox import Claim
from alerting.responders import Address, Directory
from sizao import clock
from sizao.service import Probe, Service

_OVERRUN_S = 1.0  # a channel keeps its own deadline; beyond this it is at fault
_LEASE_MARGIN_S = 10.0  # for the claim's commit and the recording


class Channel(Protocol):
    """One way to reach somebody."""

    def render(self, notice: Notice, language: str, utc_offset_min: int) -> str:
        """The body of a page, made once; at most 20 kB."""

    async def send(self, address: Address, letter: Letter, deadline_s: float) -> Answer:
        """One attempt within `deadline_s`. Whatever happens comes back as an Answer."""


class Pages(Protocol):
    """Where pages stand: `alerting.keeper`, as far as sending needs it."""

    async def release(self) -> None:
        """Give up the claims of a former life."""

    async def claim(self, *, lease_us: int, limit: int, under_way: Collection[str]) -> list[Claim]:
        """Claim due messages, and write their attempts down. Raises Retriable."""

    async def record(self, done: Claim, answer: Answer) -> Next:
        """Write down the end of an attempt. Raises Retriable."""


class DeliverySettings(BaseModel):
    """How pages are sent."""

    model_config = ConfigDict(extra="forbid")

    concurrency: int = Field(default=128, ge=1, le=1024, description="attempts on their way")
    attempt_deadline_s: float = Field(default=5.0, gt=0, le=60)
    poll_s: float = Field(default=1.0, gt=0, le=60, description="for due repeats")


class Deliverer:
    """One process' sending. `wake` is set whenever something new may be due."""

    def __init__(
        self,
        *,
        service: Service,
        keeper: Pages,
        channels: Mapping[str, Channel],
        directory: Callable[[], Directory],
        settings: DeliverySettings,
        wake: asyncio.Event,
        probe: Probe,
    ) -> None:
        """A new life of the process takes its claims back at once. `probe` asks the database on a
        connection of its own.
        """
        self._service = service
        self._stage = service.stage("deliver", probe)
        self._keeper = keeper
        self._channels = channels
        self._directory = directory
        self._settings = settings
        self._wake = wake
        self._under_way: set[str] = set()
        metrics = service.metrics
        self._outcomes = metrics.reasons(
            "attempts", "Attempts to send a page, by outcome", "outcome", Outcome
        )
        self._ends = metrics.reasons(
            "messages_ended", "Pages that came to an end", "state", MessageState
        )
        self._first_send = metrics.seconds(
            "signal_to_first_send_seconds", "From the signal's arrival in the log to the first send"
        )

    async def run(self) -> None:
        """Send for ever. Cancelled: attempts under way stay without an end, as if killed."""
        await self._service.patiently("pages", self._keeper.release)
        async with asyncio.TaskGroup() as group:
            while True:
                self._wake.clear()
                free = self._settings.concurrency - len(self._under_way)
                claims = await self._claim(free) if free else []
                for one in claims:
                    self._under_way.add(one.id)
                    group.create_task(self._one(one), name=f"send {one.id}")
                if not claims:
                    await self._sleep()

    async def _sleep(self) -> None:
        try:
            async with asyncio.timeout(self._settings.poll_s):
                await self._wake.wait()
        except TimeoutError:
            return  # the poll: a repeat may have fallen due, or another process may have died

    async def _claim(self, limit: int) -> list[Claim]:
        lease_s = self._settings.attempt_deadline_s + _LEASE_MARGIN_S

        async def attempt() -> list[Claim]:
            self._stage.begin()
            try:
                return await self._keeper.claim(
                    lease_us=int(lease_s * 1e6), limit=limit, under_way=self._under_way.copy()
                )
            finally:
                self._stage.moved()  # whatever came of it, the client is not stuck

        return await self._service.patiently("pages", attempt)

    async def _one(self, claim: Claim) -> None:
        try:
            answer = await self.attempt(claim)
            self._outcomes.add(answer.outcome)

            end = partial(self._keeper.record, claim, answer)
            following = await self._service.patiently("pages", end)
            if following.state is not MessageState.DUE:
                self._ends.add(following.state)
            self._service.passed("pages.out")
        finally:
            self._under_way.discard(claim.id)
            self._wake.set()  # the responder's next message may go now

    async def attempt(self, claim: Claim) -> Answer:
        """Send once."""
        now_us = clock.now_us()
        if claim.attempt == 1 and claim.signal_us:
            self._first_send.observe(max(now_us - claim.signal_us, 0) / 1e6)
        return await send(
            self._channels,
            self._directory(),
            claim,
            now_us=now_us,
            deadline_s=self._settings.attempt_deadline_s,
        )


async def send(
    channels: Mapping[str, Channel],
    directory: Directory,
    claim: Claim,
    *,
    now_us: int,
    deadline_s: float,
) -> Answer:
    """One attempt at the address as it is now, so that a corrected one helps at once."""
    address = directory.address(claim.responder, claim.channel)
    if address is None or address[0] not in channels:
        detail = f"responder {claim.responder} has no channel {claim.channel} any more"
        return Answer(outcome=Outcome.NO_ADDRESS, detail=detail)
    letter = Letter(
        id=claim.id, body=claim.body.encode(), at_us=now_us, dedup_unknown=claim.dedup_unknown
    )
    try:
        async with asyncio.timeout(deadline_s + _OVERRUN_S):
            return await channels[address[0]].send(address[1], letter, deadline_s)
    except TimeoutError:
        # Its place among the attempts on their way would be lost for ever.
        return Answer(outcome=Outcome.UNKNOWN, detail="channel overran its deadline")
    except (ValueError, TypeError, RuntimeError, OSError) as error:
        # A channel's slip over one address must not end the pages of all others.
        return Answer(outcome=Outcome.UNKNOWN, detail=f"channel failed: {type(error).__name__}")
