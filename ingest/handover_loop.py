"""While Kafka is silent, what devices say goes to alert by signed HTTP. Nothing is acknowledged.

One task beside the lanes; it shares nothing with them but their lookouts. The log remains the
record: whatever is handed over comes again by it, under the same ids.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Sequence
from enum import StrEnum

from ingest.handover import Finding, signal_of
from ingest.lane import LaneLoop, Shared
from sizao import clock, http, signal
from sizao.errors import BadInput, Retriable
from sizao.metrics import Metrics

_LOOK_S = 0.1
_DEADLINE_S = 4.0  # alert stores within 3 s or says that it did not
_BACKOFF_S = (0.1, 2.0)
_OFF = "off: bridge.handover is not set, so an alarm waits until Kafka is back"


class Outcome(StrEnum):
    """How a request ended: the closed label of its counter."""

    STORED = "stored"
    UNREACHABLE = "unreachable"  # nothing was sent
    NO_ANSWER = "no_answer"  # alert may have it
    UNAUTHORIZED = "unauthorized"  # the two secrets differ, or the two clocks
    REFUSED = "refused"  # no request of ours, says alert: not repeated, the log brings it
    BUSY = "busy"
    UNAVAILABLE = "unavailable"  # it could not store
    NO_SECRET = "no_secret"  # noqa: S105 - a label; our secret file cannot be read


_OF_STATUS = {
    200: Outcome.STORED,
    401: Outcome.UNAUTHORIZED,
    400: Outcome.REFUSED,
    413: Outcome.REFUSED,
    429: Outcome.BUSY,
}


class HandoverSeries:
    """What the hand-over counts."""

    def __init__(self, metrics: Metrics) -> None:
        """Registers them, every label at once."""
        self.requests = metrics.reasons("handover_requests", "by their end", "outcome", Outcome)
        self.signals = metrics.counter("handover_signals", "signals that alert has stored")
        self.refused = metrics.counter("handover_refused", "signals that alert took for none")
        self.waiting = metrics.gauge("handover_waiting", "signals that neither Kafka nor alert has")
        self.silences = metrics.counter("handover_silences", "times that Kafka fell silent")


class Handover:
    """Runs until cancelled: then alert may or may not have what was on its way, and Kafka will."""

    def __init__(self, shared: Shared, lanes: Sequence[LaneLoop]) -> None:
        """`lanes`: most pressing first. Without the setting they have no lookout."""
        self._service = shared.service
        self._shared = shared
        self._lanes = lanes
        self._section = shared.settings.bridge.handover
        self._series = HandoverSeries(shared.service.metrics)
        self._silent: list[LaneLoop] = []
        self._delay_s = _BACKOFF_S[0]
        self._last = Outcome.STORED

    async def run(self) -> None:
        """Look ten times a second whether a lane waits; hand over as long as it does."""
        section = self._section
        if section is None:
            self._service.facts["handover"] = _OFF
            self._service.logger.warning("no hand-over", why=_OFF)
            return
        self._service.facts["handover"] = "ready"
        async with http.Client() as client:
            while True:
                more = self._look()
                taken = self._take()
                if taken:
                    await self._hand_over(client, section.url, taken)
                await asyncio.sleep(0 if more or taken else _LOOK_S)

    def _look(self) -> bool:
        """Which lanes are silent, and what waits there; whether there is more to look at."""
        now_s = clock.monotonic_s()
        silent = [lane for lane in self._lanes if lane.silent(now_s)]
        if bool(silent) != bool(self._silent):
            self._service.facts["handover"] = "at work: Kafka is silent" if silent else "ready"
            if silent:
                self._series.silences.inc()
                self._service.logger.warning("Kafka is silent: alarms go to alert directly")
            else:
                self._service.logger.info("Kafka answers again: no hand-over")
        self._silent = silent
        more = [lane.look_ahead() for lane in silent]
        self._series.waiting.set(sum(one.lookout.waiting for one in silent if one.lookout))
        return any(more)

    def _take(self) -> list[tuple[LaneLoop, Finding]]:
        taken: list[tuple[LaneLoop, Finding]] = []
        for lane in self._silent:
            assert lane.lookout is not None
            room = signal.HANDED_SIGNALS_MAX - len(taken)
            taken += [(lane, one) for one in lane.lookout.take(room)]
        return taken

    async def _hand_over(
        self, client: http.Client, url: str, taken: list[tuple[LaneLoop, Finding]]
    ) -> None:
        """One request. What alert does not have afterwards waits for the next."""
        done = False
        try:
            outcome = await self._send(client, url, [one for _, one in taken])
            done = outcome in {Outcome.STORED, Outcome.REFUSED}
        finally:
            if not done:
                for lane in self._lanes:
                    assert lane.lookout is not None
                    lane.lookout.put_back([one for of, one in taken if of is lane])
        self._series.requests.add(outcome)
        if outcome is not self._last:
            self._service.logger.warning("hand-over", outcome=outcome, signals=len(taken))
        self._last = outcome
        if done:
            self._delay_s = _BACKOFF_S[0]
            return
        await asyncio.sleep(self._delay_s * random.uniform(0.5, 1.0))  # noqa: S311 - jitter
        self._delay_s = min(self._delay_s * 2, _BACKOFF_S[1])

    def _said(self, taken: Sequence[Finding]) -> list[signal.Signal]:
        """Their signals. A slip of ours costs the finding that shows it: it would end both lanes,
        and again after each start for as long as Kafka is away.
        """
        view, said, slip = self._shared.district.view, list[signal.Signal](), ""
        for one in taken:
            try:
                said.append(signal_of(view, one))
            except Exception as error:  # noqa: BLE001 - told, whatever it is
                slip = f"{type(error).__name__}: {error}"[:200]
        if slip:
            lost = len(taken) - len(said)
            self._series.refused.inc(lost)
            self._service.logger.error("not handed over", signals=lost, error=slip)
        return said

    async def _send(self, client: http.Client, url: str, taken: Sequence[Finding]) -> Outcome:
        said = self._said(taken)
        if not said:
            return Outcome.REFUSED
        body = signal.encode_handed(said)
        assert self._section is not None
        try:
            keys = http.read_secrets(self._section.secret_file)  # each time: a rotation is a file
        except BadInput as error:
            self._service.facts["handover"] = f"off: {error}"
            return Outcome.NO_SECRET
        request = signal.digest("handover", *(one.id for one in said))
        now_s = clock.now_us() // 1_000_000
        headers = {"content-type": "application/json", "user-agent": "sizao"}
        headers |= http.signed_headers(keys, request, now_s, body)
        try:
            answer = await client.post(
                f"{url}{signal.HANDED_PATH}", body=body, headers=headers, deadline_s=_DEADLINE_S
            )
        except http.NoConnection:
            return Outcome.UNREACHABLE
        except Retriable:
            return Outcome.NO_ANSWER
        outcome = _OF_STATUS.get(answer.status, Outcome.UNAVAILABLE)
        if outcome is Outcome.STORED:
            refused = _refused(answer.body)
            self._series.signals.inc(len(said) - refused)
            self._series.refused.inc(refused)
            self._service.passed("handover.out")
        return outcome


def _refused(body: bytes) -> int:
    """How many of a request's signals alert took for none, by its own word."""
    try:
        return int(json.loads(body)["refused"])
    except (ValueError, KeyError, TypeError):
        return 0
