"""A recorded fire in the archive's table, and what detect said of it, in alert's."""

import json
from collections import defaultdict
from dataclasses import dataclass

import numpy as np
import pytest
from fix_registry import FIRE, TEMPERATURE, change

from alerting.model import Became, Nature, Recorded
from alerting.rows import insert, signal_row
from deploy.local import fire as fires
from detectors import catalogue, rules
from detectors import state as folds
from ingest import rows
from sizao.frame import Frame
from sizao.registry.load import load
from sizao.registry.write import (
    AreaRow,
    CarrierRow,
    Change,
    DeviceRow,
    ParameterRow,
    TypeRow,
    store_catalogue,
)
from sizao.signal import Phase, Tier
from sizao.units import AlarmState, Lane

SECOND_US = 1_000_000
IGNITION_US = 1_767_261_600 * SECOND_US  # 2026-01-01T10:00:00Z
HISTORY_S = 9000
STEP_S = 10
END_S = 400
TOWN = Change(
    areas=[
        AreaRow("d", "", "district", "区", "District"),
        AreaRow("s", "d", "street", "街道", "Street"),
        AreaRow("c1", "s", "community", "一社区", "First"),
        AreaRow("c2", "s", "community", "二社区", "Second"),
        AreaRow("burns", "c1", "site", "1号", "No. 1"),
        AreaRow("warms", "c2", "site", "2号", "No. 2"),
        AreaRow("room", "burns", "unit", "302室", "Room 302"),
    ],
    carriers=[CarrierRow("gateway")],
    types=[TypeRow("heat", "name: heat", [TEMPERATURE]), TypeRow("button", "name: b", [FIRE])],
    devices=[
        *(DeviceRow(f"heat-{n}", "gateway", "heat", "room", 1) for n in range(4)),
        DeviceRow("boiler", "gateway", "heat", "warms", 1),
        DeviceRow("button", "gateway", "button", "burns"),
    ],
)


@dataclass
class Town:
    """What was read, and what was said of it; `points` by device's key."""

    database: object
    config: str
    points: dict
    frames: dict
    said: list
    folder: object

    def raises(self, rule="heat_rise", tier=Tier.ALARM):
        found = [one for one in self.said if (one.rule, one.tier) == (rule, tier)]
        return [one for one in found if one.phase is Phase.RAISE]


def readings(points):
    """(event in seconds from ignition, point, value): a room that burns, a boiler room that warms
    by 5 K and stays there, a button that is pressed.
    """
    fire = fires.load()
    found = []
    for number, trace in enumerate(fire.traces):
        point, begin_s = points[f"heat-{number}"], -HISTORY_S + number * 2.5
        known = {
            round(at, 3): value for at, value in zip(trace.time_s, trace.temperature_c, strict=True)
        }
        for at_s in np.arange(begin_s, -60, STEP_S):
            wave = 20 + 2 * np.sin(at_s / 1500) + 0.1 * (int(at_s) % 3)
            found.append((at_s, point, wave))
        first = min(known)
        level = known[first]
        found += [(at, point, value - level + found[-1][2]) for at, value in known.items()
                  if -60 <= at < END_S]  # fmt: skip
    for at_s in np.arange(-HISTORY_S, END_S, STEP_S):
        warm = np.clip((at_s + 1800) / 60, 0, 5.2)
        found.append((at_s, points["boiler"], 30 + warm))
    for at_s, state in ((-600, AlarmState.NORMAL), (33, AlarmState.ALARM), (34, AlarmState.ALARM)):
        found.append((at_s, points["button"], int(state)))
    return sorted(found)


def frames_of(found, lane_points, generation, writer):
    """A frame each ten seconds, half a second after its newest reading."""
    mine = defaultdict(list)
    for at_s, point, value in found:
        if point in lane_points:
            mine[at_s // STEP_S].append((at_s, point, value))
    made = []
    for sequence, begin_s in enumerate(range(-HISTORY_S, END_S + 900, STEP_S)):
        rows = mine[begin_s // STEP_S]
        made.append(Frame(
            point=np.array([point for _, point, _ in rows], np.uint32),
            event_us=np.array([at_us(at_s) for at_s, _, _ in rows], np.int64),
            value=np.array([value for _, _, value in rows], np.float32),
            flags=np.zeros(len(rows), np.uint8),
            received_us=at_us(begin_s + STEP_S + 0.5),
            generation=generation, writer=writer, sequence=sequence,
        ))  # fmt: skip
    return made


def set_for_all(name, value):
    whole_week = {"from_minute": 0, "to_minute": 0, "days": 127, "offset_minutes": 0}
    return ParameterRow(
        "heat_rise", name, "district", 0, value, who="Li", why="dusty", **whole_week
    )


def at_us(at_s):
    """Seconds from ignition as a time."""
    return IGNITION_US + round(at_s * SECOND_US)


@pytest.fixture
async def town(connection, settings, tmp_path):
    await store_catalogue(connection, catalogue.rows())
    generation = await change(connection, TOWN)
    generation = await change(connection, Change(parameters=[set_for_all("alarm_rise_k", 5.5)]))
    # Whoever imported it did so before the first reading.
    await connection.execute("UPDATE generation SET made_at = '2025-12-01'")
    registry = await load(connection, 4)
    view = registry.newest
    points = {view.device_key[view.point_device[point]]: point
              for point in np.flatnonzero(view.point_live).tolist()}  # fmt: skip
    said, frames = [], {}
    setup = folds.setup_of(rules.discover(), ["b0"])
    found = readings(points)
    for lane in Lane:
        for partition in range(4):
            mine = view.fold(lane, partition).point.tolist()
            if not mine:
                continue
            state = folds.start(lane, partition, view, setup)
            frames[lane, partition] = frames_of(found, mine, generation, f"b0.{lane}")
            for offset, frame in enumerate(frames[lane, partition]):
                for writer in setup.writers[lane]:  # all of them hold the clock
                    state.heard_us[writer] = frame.received_us
                said += folds.fold(state, view, frame, offset)[1]
    await store(connection, [one for each in frames.values() for one in each], said)
    config = tmp_path / "sizao.yaml"
    config.write_text(json.dumps({"database": settings.model_dump()}))
    return Town(settings, str(config), points, frames, said, tmp_path)


async def store(connection, frames, said):
    """As the archive does, and as alert does for signals that are no incident yet."""
    frames = sorted(frames, key=lambda frame: frame.received_us)
    await connection.execute(
        "SELECT reading_cover(array(SELECT generate_series('2026-01-01 06:00+00'::timestamptz,"
        " '2026-01-01 12:00+00', '1 hour')))"
    )
    async with connection.cursor() as cursor, cursor.copy(rows.COPY) as copy:
        await copy.write(bytes(rows.build(frames).buffer))
    known = {"nature": Nature.REAL, "incident": "", "became": Became.SLOW}
    records = [signal_row(Recorded(signal=one, **known), 1) for one in said]
    if records:
        await connection.execute(*insert("signal", records))
