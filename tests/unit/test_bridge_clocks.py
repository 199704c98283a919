"""Clocks that are wrong: ours and the devices'."""

import asyncio

import numpy as np
from fix_bridge import Device, small

from ingest import bridge
from ingest.lane import Shared
from ingest.series import ClockErrors
from ingest.settings import BridgeSettings
from sizao import clock, log
from sizao.clock import Rising
from sizao.metrics import Metrics
from sizao.service import Service


def noted(*pairs):
    errors = ClockErrors()
    for device, off_us in pairs:
        errors.note(np.array([device], np.int32), np.array([off_us], np.int64))
    return errors


async def told(errors=None, ahead_us=0):
    """Facts and metrics after the first look."""
    service = Service("bridge", log.setup("bridge"), Metrics("bridge"))
    shared = Shared(
        service=service,
        settings=BridgeSettings(),
        stamp=Rising(clock.now_us() + ahead_us).now_us,
        district=small(*(Device(f"h{n}") for n in range(1, 21))),
        clock_errors=errors or ClockErrors(),
    )
    async with asyncio.TaskGroup() as group:
        task = group.create_task(bridge._tell_clocks(shared))
        await asyncio.sleep(0)
        task.cancel()
    gauge = service.metrics.registry.get_sample_value("sizao_bridge_clock_ahead_seconds")
    return service.facts, gauge


async def test_a_clock_ahead_of_the_wall_is_told_in_seconds():
    facts, gauge = await told(ahead_us=3_600_000_000)
    assert 3599 < facts["clock_ahead_s"] <= 3600
    assert 3599 < gauge <= 3600


async def test_a_right_clock_is_not_ahead():
    facts, gauge = await told()
    assert facts["clock_ahead_s"] == gauge == 0
    assert facts["device_clocks"] == {"devices": 0, "worst": []}


async def test_devices_whose_clocks_are_not_believed_are_named_the_worst_first():
    many = [(device, device * 1_000_000) for device in range(1, 21) for _ in range(device)]
    facts, _ = await told(noted(*many, (7, -2_500_000)))
    assert facts["device_clocks"]["devices"] == 20
    worst = facts["device_clocks"]["worst"]
    assert [one["device"] for one in worst] == [f"h{n}" for n in range(20, 10, -1)]
    assert worst[0] == {"device": "h20", "corrected": 20, "last_off_s": 20.0}


def test_few_devices_are_all_named():
    shown = noted((2, 5_000_000), (2, -2_500_000), (1, 1)).shown(["", "a", "b"])
    assert shown["worst"] == [
        {"device": "b", "corrected": 2, "last_off_s": -2.5},
        {"device": "a", "corrected": 1, "last_off_s": 0.0},
    ]
