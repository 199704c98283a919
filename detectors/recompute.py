"""A signal again, from the archived readings of its site."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from detectors import archived, explain, rebuild
from detectors.archived import Scope
from detectors.explain import SAMPLES_MAX, Outcome, Verdict
from detectors.rebuild import Readings
from detectors.rule import Rule
from detectors.state import SECOND_US, Setup
from sizao.db import Connection
from sizao.registry.model import View
from sizao.signal import Signal

WARM_UP_S = 1800
"""As `sizao detect` warms up where it has no snapshot."""
WIDER = (1, 4, 16)
"""Times that: what a baseline remembers is gone to the last bit after some hours."""
SPAN_S_MAX = 3 * 24 * 3600
"""From the cold start to the decision: an onset that is on for weeks is not read through."""
_TAIL_S = 2  # an end that time decides is said at the next heartbeat
_HOUR_US = 3600 * SECOND_US  # retention drops whole hours


@dataclass(slots=True)
class Replayed:
    """What a replay read, and what came of it. `samples`: the subject's newest readings up to the
    decision, oldest first, with their arrival.
    """

    outcome: Outcome
    from_us: int
    raw_rows: int = 0
    evidence_rows: int = 0
    points: int = 0
    samples: list[dict[str, float | int]] = field(default_factory=list)


async def recompute(
    connection: Connection,
    said: Signal,
    incident: str,
    view: View,
    setup: Setup,
    back_s: int = 0,
) -> Replayed:
    """Fold the site's readings from before the onset, from farther back until it is equal.

    `back_s`: from so far before the onset alone. Raises Retriable, Permanent.
    """
    rule = next(rule for rule in setup.rules if said.rule == rule.NAME)
    warm_s = max(WARM_UP_S, rule.MEMORY_S)
    points = np.flatnonzero((view.point_site == said.site) & (view.point_device > 0)).tolist()
    best: Replayed | None = None
    for span_s in [back_s] if back_s else [times * warm_s for times in WIDER]:
        found = await _replayed(connection, said, incident, view, setup, rule, points, span_s)
        rank = list(Verdict).index
        if best is None or rank(found.outcome.verdict) < rank(best.outcome.verdict):
            best = found
        if best.outcome.verdict is Verdict.EQUAL:
            break
    assert best is not None
    return best


async def _replayed(
    connection: Connection,
    said: Signal,
    incident: str,
    view: View,
    setup: Setup,
    rule: Rule,
    points: Sequence[int],
    span_s: int,
) -> Replayed:
    subject = explain.subject_points(said, view)
    from_us = min(said.onset_us, said.received_us) - span_s * SECOND_US
    from_us = max(from_us, said.received_us - SPAN_S_MAX * SECOND_US, 0)
    until_us = said.received_us + _TAIL_S * SECOND_US
    done = Replayed(Outcome(Verdict.IMPOSSIBLE, ""), from_us, points=len(points))
    partition = int(view.point_partition[subject[0]])
    state = rebuild.begin(rule.LANE, partition, view, setup, from_us)
    found: list[Signal] = []
    scope = archived.of_points(points)
    async for end_us, rows, is_raw in _readings(connection, scope, incident, from_us, until_us):
        if is_raw:
            done.raw_rows += len(rows.point)
        else:
            done.evidence_rows += len(rows.point)
        mine = rows.only(np.isin(rows.point, subject) & (rows.received_us <= said.received_us))
        done.samples = [*done.samples, *_samples(mine)][-SAMPLES_MAX:]
        found += rebuild.replay(state, view, rows, end_us)
    if done.raw_rows or done.evidence_rows:
        done.outcome = explain.compare(said, found)
    else:
        why = (
            f"no reading of the site from {archived.moment(from_us)} on is archived: raw readings"
            " go by archive.keep, those around a real incident later"
        )
        done.outcome = Outcome(Verdict.IMPOSSIBLE, why)
    return done


async def _readings(
    connection: Connection, scope: Scope, incident: str, from_us: int, until_us: int
) -> AsyncIterator[tuple[int, Readings, bool]]:
    """Raw readings by slice; where none are left, those kept of the incident (third: False)."""
    hours = range(-(-from_us // _HOUR_US) * _HOUR_US, until_us, _HOUR_US)
    begin_us = from_us
    async for end_us, rows in archived.slices(connection, scope, from_us, until_us, hours):
        if len(rows.point) or not incident:
            yield end_us, rows, True
        else:
            kept = archived.of_incident(incident)
            async for kept_us, again in archived.slices(connection, kept, begin_us, end_us):
                yield kept_us, again, False
        begin_us = end_us


def _samples(rows: Readings) -> list[dict[str, float | int]]:
    """The newest readings by arrival, for people."""
    rows = rows.only(np.argsort(rows.received_us, kind="stable")[-SAMPLES_MAX:])
    return [
        dict(zip(("point", "event_us", "value", "received_us", "flags"), row, strict=True))
        for row in zip(
            rows.point.tolist(), rows.event_us.tolist(), rows.value.tolist(),
            rows.received_us.tolist(), rows.flags.tolist(), strict=True,
        )
    ]  # fmt: skip
