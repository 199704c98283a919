"""bridge: MQTT in, frames to Kafka. Two lanes that share nothing but the process and the clock.

Overload sheds telemetry, never alarms: each lane has its own connection, producer and bounds.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

from ingest.broker_watch import BrokerWatch
from ingest.check import check
from ingest.handover import Lookout
from ingest.handover_loop import Handover
from ingest.kept import begin_us
from ingest.lane import LaneLoop, Shared
from ingest.onboarding import operators, shipped
from ingest.routes import District, district
from ingest.settings import BridgeSettings
from sizao import clock
from sizao.clock import Rising
from sizao.document import Fault
from sizao.registry import cache
from sizao.registry.model import Registry
from sizao.registry.source import Source
from sizao.service import Service
from sizao.system.tell import Teller, district_in
from sizao.units import Lane

_RECOMPILE_S = 0.25
_CLOCKS_S = 5.0
_AHEAD_S = 1.0  # below it the wall clock was merely corrected


def first_start(settings: BridgeSettings, state: Path) -> list[Fault]:
    """What is wrong with the device-type files, as long as no registry has come to this bridge.

    From then on they are the registry's; what it holds was checked when it was imported.
    """
    if cache.restore(state) is not None:
        return []
    folder, documents, faults = settings.bridge.device_types, shipped(), []
    if folder is not None and folder.is_dir():
        documents += operators(folder)
    elif folder is not None:
        fault = f"{folder}: no such folder; expected one that holds <vendor>/<model>.yaml"
        faults.append((("bridge", "device_types"), fault))
    return [*faults, *(((), fault) for fault in check(documents))]


async def body(settings: BridgeSettings, service: Service) -> None:
    """Run until cancelled."""
    state = settings.bridge.state
    state.mkdir(parents=True, exist_ok=True)
    service.needs(*(f"{what}.{lane}" for what in ("kafka", "mqtt") for lane in Lane))
    source = Source(service, settings.database, state)
    registry = await source.open()
    rising = Rising(begin_us(state))
    shared = Shared(
        service=service,
        settings=settings,
        stamp=rising.now_us,
        not_before=rising.not_before,
        district=await asyncio.to_thread(_compiled, registry),
    )
    _tell_broken(service, shared.district)
    section = settings.bridge.handover
    lanes = [LaneLoop(shared, lane, lookout=Lookout() if section else None) for lane in Lane]
    handover = Handover(shared, lanes)
    stage = f"bridge.{settings.bridge.id}"
    teller = Teller(
        service,
        settings.kafka,
        stage=stage,
        district=district_in(source),
        own={"bridge": state},
        watch=settings.watch_disks,
    )
    async with asyncio.TaskGroup() as group:
        group.create_task(source.follow(), name="registry")
        group.create_task(_recompile(shared, source, registry), name="recompile")
        group.create_task(_tell_clocks(shared), name="clocks")
        group.create_task(teller.run(), name="system")
        group.create_task(BrokerWatch(service, settings.mqtt, state).run(), name="broker")
        for lane in lanes:
            group.create_task(lane.run(), name="lane")
        group.create_task(handover.run(), name="handover")


def _compiled(registry: Registry) -> District:
    return district(registry.newest)


async def _recompile(shared: Shared, source: Source, compiled: Registry) -> None:
    """Have each new generation ready off the hot path, then swap: frames carry it from then on."""
    while True:
        await asyncio.sleep(_RECOMPILE_S)
        if source.current is compiled:
            continue
        compiled = source.current
        fresh = await asyncio.to_thread(_compiled, compiled)
        _tell_broken(shared.service, fresh)
        shared.district = fresh


def _tell_broken(service: Service, now: District) -> None:
    """Name the device types that do not compile; what their devices say is rejected, unread."""
    before = service.facts.get("broken_types", {})
    service.facts["broken_types"] = now.broken
    if now.broken and now.broken != before:
        service.logger.error("device types do not compile", faults=now.broken)


async def _tell_clocks(shared: Shared) -> None:
    """Say how far our own clock is ahead of the wall, and whose clocks are not believed.

    Ours never goes back, not by a restart: if the wall was once set to tomorrow, all that arrives
    is stamped tomorrow, microseconds apart, until then. Only a person can judge what that means.
    """
    service = shared.service
    gauge = service.metrics.gauge("clock_ahead_seconds", "arrival stamps ahead of the wall clock")
    was_ahead = False
    while True:
        ahead_s = max((shared.stamp() - clock.now_us()) / 1e6, 0.0)
        gauge.set(ahead_s)
        service.facts["clock_ahead_s"] = round(ahead_s, 3)
        is_ahead = ahead_s > _AHEAD_S
        if is_ahead and not was_ahead:
            service.logger.error("arrivals are stamped ahead of the wall clock", ahead_s=ahead_s)
        if was_ahead and not is_ahead:
            service.logger.info("the wall clock has caught up with the stamps")
        was_ahead = is_ahead
        keys = shared.district.view.device_key
        service.facts["device_clocks"] = shared.clock_errors.shown(keys)
        await asyncio.sleep(_CLOCKS_S)
