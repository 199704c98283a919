"""A small registry, frames and folds for the tests of the detectors."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from detectors import rules, state
from detectors.state import Setup, State
from sizao import clock
from sizao.frame import Frame
from sizao.limits import class_code
from sizao.registry.model import FOREVER, TABLES, Registry
from sizao.signal import Signal
from sizao.units import BY_NAME, Lane

SECOND_US = 1_000_000
MINUTE_US = 60 * SECOND_US
# The minute an hour ago. Records of a day long past are in the log only until Kafka's retention
# looks at it (30 s after its start, then every 5 min): once in five runs it took them mid-test.
T0_US = (clock.now_us() // MINUTE_US - 60) * MINUTE_US
"""A whole minute."""
SITE = 5


@dataclass(frozen=True)
class Point:
    id: int
    quantity: str = "temperature_c"
    heat_class: str = ""
    from_gen: int = 1
    partition: int = 0
    state: str = "in_service"
    device: int = 0  # 1000 + id where 0
    area: int = 0  # the site where 0

    @property
    def owner(self) -> int:
        return self.device or 1000 + self.id


def registry(points: Iterable[Point], generation: int = 1, interval_s: int = 0) -> Registry:
    """Every point on a device of its own (device id = 1000 + point id) unless said otherwise, all
    on one site; of a type that speaks each `interval_s`, if given.
    """
    points = sorted(points, key=lambda point: point.id)
    first = {point.owner: point for point in reversed(points)}
    tables = {name: schema.empty_table() for name, schema in TABLES.items()}
    document = f"expected_interval_s: {interval_s}"
    kind = {"id": 1, "name": "t", "version": 1, "document": document}
    if interval_s:
        held = {"from_gen": 1, "to_gen": FOREVER}
        tables["device_type"] = _table("device_type", [kind | held])
    tables["device"] = _table(
        "device",
        [
            {
                "id": owner,
                "key": f"k{point.id}",
                "carrier": 1,
                "device_type": 1,
                "area": point.area or SITE,
                "site": SITE,
                "heat_class": class_code(point.heat_class),
                "gas": 0,
                "mark": "real",
                "state": point.state,
                "lon": float("nan"),
                "lat": float("nan"),
                "from_gen": point.from_gen,
                "to_gen": FOREVER,
            }
            for owner, point in sorted(first.items())
        ],
    )
    tables["point"] = _table(
        "point",
        [
            {
                "id": point.id,
                "device": point.owner,
                "quantity": BY_NAME[point.quantity].code,
                "site": SITE,
                "partition": point.partition,
                "from_gen": point.from_gen,
                "to_gen": FOREVER,
            }
            for point in points
        ],
    )
    return Registry(generation=generation, partitions=4, tables=tables)


def _table(name: str, rows: list[dict]) -> pa.Table:
    return pa.Table.from_pylist(rows, schema=TABLES[name])


Reading = tuple[int, float, float]
"""Point, event time in seconds after T0, value."""


def frame(
    readings: Sequence[Reading],
    *,
    received_s: float | None = None,
    generation: int = 1,
    writer: str = "b0.telemetry",
    flags: int = 0,
    sequence: int = 0,
) -> Frame:
    """A frame received at its newest event time unless said otherwise."""
    event_us = np.array([T0_US + round(at * SECOND_US) for _, at, _ in readings], np.int64)
    if received_s is None:
        received_us = int(event_us.max()) if len(readings) else T0_US
    else:
        received_us = T0_US + round(received_s * SECOND_US)
    return Frame(
        point=np.array([point for point, _, _ in readings], np.uint32),
        event_us=event_us,
        value=np.array([value for _, _, value in readings], np.float32),
        flags=np.full(len(readings), flags, np.uint8),
        received_us=received_us,
        generation=generation,
        writer=writer,
        sequence=sequence,
    )


def setup(bridges: Sequence[str] = ()) -> Setup:
    return state.setup_of(rules.discover(), bridges)


def cold(
    known: Registry, lane: Lane = Lane.TELEMETRY, generation: int = 1, bridges: Sequence[str] = ()
) -> State:
    return state.start(lane, 0, known.at(generation), setup(bridges))


def run(fold: State, frames: Iterable[Frame], known: Registry | None = None) -> list[Signal]:
    """Fold frames; the view follows the frames' generation where a registry is given."""
    found: list[Signal] = []
    for each in frames:
        view = fold.view
        if known is not None and each.generation > view.generation:
            view = known.at(each.generation)
        fold, said = state.fold(fold, view, each, fold.next_offset)
        found += said
    return found


def told(signals: Iterable[Signal]) -> list[tuple[str, str, str, str, float]]:
    """Rule, tier, phase, subject and event time in seconds after T0, for comparing."""
    return [
        (
            signal.rule,
            str(signal.tier),
            str(signal.phase),
            signal.subject.id,
            (signal.event_us - T0_US) / SECOND_US,
        )
        for signal in signals
    ]
