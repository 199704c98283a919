"""Two sets of rules over the archive, slice by slice, some partitions of sites at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from detectors import archived, backtest, rebuild
from detectors.archived import Scope
from detectors.backtest import SECOND_US, YEAR_S, Incident, Pair, Raise
from detectors.changes import Changes
from detectors.rebuild import Readings
from detectors.state import Setup, State
from sizao.db import Connection, translated
from sizao.errors import BadInput
from sizao.registry.model import Registry, View
from sizao.units import Lane

WARM_UP_S = 1800
POINTS_MAX = 400_000
"""Of one pass: two folds of them are some hundred MB. At least one partition goes in each."""
RAISES_MAX = 300_000
"""Of one set of rules, 120 MB: more are no basis for a decision."""
INCIDENTS_MAX = 100_000

_GENERATIONS = """
    SELECT id, (extract(epoch FROM made_at) * 1000000)::bigint FROM generation ORDER BY id"""
_INCIDENTS = f"""
    SELECT id, site, kind, nature, coalesce(verdict, ''), onset_us, greatest(onset_us, last_us)
    FROM incident WHERE onset_us < %(until_us)s AND last_us >= %(from_us)s
    AND (%(sites)s::integer[] IS NULL OR site = ANY(%(sites)s))
    ORDER BY onset_us LIMIT {INCIDENTS_MAX + 1}"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """Arrivals in [from_us, until_us) of all sites, or of these; `within_s` as in backtest.py."""

    from_us: int
    until_us: int
    sites: tuple[int, ...] = ()
    within_s: float

    @property
    def span_s(self) -> float:
        """How long it is."""
        return (self.until_us - self.from_us) / SECOND_US


@dataclass(slots=True)
class Done:
    """What came of it. `heard`: by device id, who said anything in the time asked for."""

    view: View
    warm_up_s: int
    heard: npt.NDArray[np.bool_]
    pairs: list[Pair] = field(default_factory=list)
    incidents: list[Incident] = field(default_factory=list)
    readings: int = 0
    outside: int = 0  # of points that the registry does not know

    def device_years(self, devices: npt.NDArray[np.bool_], asked: Asked) -> float:
        """Of those who were heard, and are of these."""
        return float(np.count_nonzero(self.heard & devices)) * asked.span_s / YEAR_S


Progress = Callable[[str, float, int], None]
"""Which pass, how much of it (0 to 1), readings so far."""


async def run(
    connection: Connection,
    registry: Registry,
    setup: Setup,
    changes: Changes,
    asked: Asked,
    progress: Progress,
) -> Done:
    """Fold the archive twice, by the rules in force and by the changed ones, and compare.

    Raises BadInput where there is too much to say, Retriable while the database is away.
    """
    made = await _generations(connection)
    view = registry.at(_generation(made, asked.until_us))
    memory_s = [rule.MEMORY_S for rule in setup.rules]
    done = Done(view, max([WARM_UP_S, *memory_s]), np.zeros(len(view.device_type), np.bool_))
    done.incidents = await _incidents(connection, asked)
    said: tuple[list[Raise], list[Raise]] = ([], [])
    passes = list(_passes(view, asked))
    for number, (name, partitions, scope) in enumerate(passes):
        label = f"{name} ({number + 1} of {len(passes)})"
        one = _Pass(registry, setup, changes, asked, done, partitions, made)

        def told(share: float, label: str = label) -> None:
            progress(label, share, done.readings)

        await one.run(connection, scope, said, told)
    done.pairs = backtest.compare(*said, asked.within_s)
    return done


def _passes(view: View, asked: Asked) -> Iterator[tuple[str, list[int], Scope]]:
    """Partitions that are folded together, and which rows are theirs."""
    if asked.sites:
        mine = np.isin(view.point_site, asked.sites) & (view.point_device > 0)
        partitions = sorted({int(one) for one in view.point_partition[mine]})
        yield "sites", partitions, archived.of_points(np.flatnonzero(mine).tolist())
        return
    known = view.point_partition[view.point_device > 0]
    sizes = np.bincount(known, minlength=view.partitions).tolist() if len(known) else []
    group: list[int] = []
    for partition, size in enumerate(sizes):
        if group and sum(sizes[one] for one in group) + size > POINTS_MAX:
            yield _named(group), group, archived.of_partitions(group)
            group = []
        group = [*group, partition]
    if group:
        # All of them in one pass: no row is anybody else's.
        yield _named(group), group, archived.of_partitions(group) if group[0] else Scope()


def _named(partitions: Sequence[int]) -> str:
    return f"partition {partitions[0]}" + (f" to {partitions[-1]}" if partitions[1:] else "")


class _Pass:
    """Both folds of some partitions."""

    def __init__(
        self,
        registry: Registry,
        setup: Setup,
        changes: Changes,
        asked: Asked,
        done: Done,
        partitions: Sequence[int],
        made: Sequence[tuple[int, int]],
    ) -> None:
        self._registry, self._changes, self._asked, self._done = registry, changes, asked, done
        self._made = made
        self._newest: tuple[View, View] | None = None
        self._from_us = max(0, asked.from_us - done.warm_up_s * SECOND_US)
        self._folds: tuple[list[State], list[State]] = ([], [])
        sides = (setup, changes.setup(setup))
        for side, own, view in zip(self._folds, sides, self._views(self._from_us), strict=True):
            side += [
                rebuild.begin(lane, partition, view, own, self._from_us)
                for partition in partitions
                for lane in Lane
                if len(done.view.fold(lane, partition).point)
            ]

    async def run(
        self,
        connection: Connection,
        scope: Scope,
        said: tuple[list[Raise], list[Raise]],
        progress: Callable[[float], None],
    ) -> None:
        """Read the archive once; raises of both sides, by in force and changed, are added."""
        asked, begin_us = self._asked, self._from_us
        cuts = [asked.from_us, *(at_us for _, at_us in self._made)]
        whole_us = max(1, asked.until_us - begin_us)
        async for end_us, rows in archived.slices(
            connection, scope, begin_us, asked.until_us, cuts
        ):
            views = self._views(begin_us)
            counts = begin_us >= asked.from_us
            if counts:
                self._count(rows)
            for side, folds, view in zip(said, self._folds, views, strict=True):
                for state in folds:
                    found = rebuild.replay(state, view, rows, end_us)
                    side.extend(backtest.raises(found) if counts else ())
                if len(side) > RAISES_MAX:
                    raise BadInput(
                        f"over {RAISES_MAX} raises up to {archived.moment(end_us)}: these rules"
                        " cannot be meant; expected fewer, a shorter time or --community"
                    )
            begin_us = end_us
            progress(1 - (asked.until_us - end_us) / whole_us)

    def _views(self, at_us: int) -> tuple[View, View]:
        """The registry at an instant, as it was and with the changes."""
        view = self._registry.at(_generation(self._made, at_us))
        if self._newest is None or self._newest[0] is not view:
            self._newest = view, self._changes.view(view)
        return self._newest

    def _count(self, rows: Readings) -> None:
        view, done = self._done.view, self._done
        known = rows.point < len(view.point_device)
        device = view.point_device[rows.point[known]]
        done.heard[device] = True
        done.heard[0] = False
        done.readings += len(rows.point)
        done.outside += len(rows.point) - int(np.count_nonzero(device))


async def _generations(connection: Connection) -> list[tuple[int, int]]:
    """Generations and when each was made, oldest first."""
    with translated():
        cursor = await connection.execute(_GENERATIONS)
        return [(int(row[0]), int(row[1])) for row in await cursor.fetchall()]


def _generation(made: Sequence[tuple[int, int]], at_us: int) -> int:
    """The generation in force at an instant; before the first one, that."""
    held = [number for number, made_us in made if made_us <= at_us]
    return held[-1] if held else made[0][0] if made else 0


async def _incidents(connection: Connection, asked: Asked) -> list[Incident]:
    around_us = int(asked.within_s * SECOND_US)
    wanted = {
        "from_us": asked.from_us - around_us,
        "until_us": asked.until_us + around_us,
        "sites": list(asked.sites) or None,
    }
    with translated():
        cursor = await connection.execute(_INCIDENTS, wanted)
        found = [Incident(*row) for row in await cursor.fetchall()]
    if len(found) > INCIDENTS_MAX:
        raise BadInput(f"over {INCIDENTS_MAX} incidents: expected a shorter time or --community")
    return found
