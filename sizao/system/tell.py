"""The loop behind the board: writes to the log what is due, and looks how full the disks are.

One task of each process, beside its work; it ends nothing. While Kafka is away one batch waits, as
everywhere (docs/adr/0002); what is said meanwhile waits on the board, bounded.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import NamedTuple

from sizao import clock, kafka, signal
from sizao.errors import SizaoError
from sizao.kafka import KafkaSettings, Outgoing, Producer
from sizao.registry.model import FOREVER, Registry
from sizao.registry.source import Source
from sizao.service import Service
from sizao.settings import WatchDisks
from sizao.signal import Signal, Tier
from sizao.system.board import Rule, disk_tier

PARTITION = 0  # the district has none of its own
_POLL_S = 0.5
_AGAIN_S = 2.0
_DISKS_S = 5.0


class District(NamedTuple):
    """Whose trouble it is: the district's id in the registry (0 before the first import)."""

    site: int
    generation: int


def district_of(registry: Registry) -> District:
    """The district as the newest rows have it. Makes no view: detect would lose the one it uses."""
    area = registry.tables["area"]
    columns = (area[name].to_pylist() for name in ("id", "level", "to_gen"))
    sites = [site for site, level, to in zip(*columns, strict=True) if _stands(level, to)]
    return District(min(sites, default=0), registry.generation)


def _stands(level: str, to_gen: int) -> bool:
    return level == "district" and to_gen == FOREVER


def district_in(source: Source) -> Callable[[], District]:
    """The district of what a process knows of the registry, looked for once a generation."""
    known: list[tuple[Registry, District]] = []

    def find() -> District:
        if not known or known[0][0] is not source.current:
            known[:] = [(source.current, district_of(source.current))]
        return known[0][1]

    return find


class Volume(NamedTuple):
    """A file system and how much of it whoever is not root has used up."""

    mount: Path
    used: float
    free_bytes: int


def volume_of(folder: Path) -> Volume:
    """The volume of a folder. Raises OSError. It waits for the disk, so call it in a thread."""
    found = os.statvfs(folder)
    usable = found.f_blocks - found.f_bfree + found.f_bavail
    used = 1 - found.f_bavail / usable if usable else 0.0
    mount = folder.resolve()
    while not mount.is_mount():
        mount = mount.parent
    return Volume(mount, used, found.f_bavail * found.f_frsize)


class Teller:
    """Of one process. Cancelled at any point it leaves a batch written or not; ids are the same."""

    def __init__(
        self,
        service: Service,
        settings: KafkaSettings,
        *,
        stage: str,
        district: Callable[[], District],
        own: Mapping[str, Path],
        watch: WatchDisks,
        look: Callable[[Path], Volume] = volume_of,
    ) -> None:
        """Connects when there is something to say. `stage` names the process, as `bridge.b0`;
        `own`: its folders, whose volumes are watched whatever the settings name.
        """
        self._service = service
        self._settings = settings
        self._subject = f"{stage}/settings"
        self._district = district
        self._disks = {**own, **watch.volumes}
        self._limits = {"early": watch.early_percent, "alarm": watch.alarm_percent}
        self._look = look
        self._host = socket.gethostname()
        self._producer: Producer | None = None
        self._stage = service.stage("system", partial(kafka.probe, settings))
        self._logged: set[str] = set()
        metrics = service.metrics
        self._standing = metrics.gauge("system_troubles", "what is wrong with ourselves now")
        self._used = metrics.gauges(
            "disk_used_ratio", "share of a volume in use", "disk", self._disks
        )

    async def run(self) -> None:
        """Tell and look for ever."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._tell(), name="system.tell")
                group.create_task(self._show(), name="system.show")
                group.create_task(self._watch(), name="system.disks")
        finally:
            if self._producer is not None:
                await self._producer.stop()

    # -- tell ------------------------------------------------------------------------------------

    async def _tell(self) -> None:
        while True:
            said = self._service.board.due(clock.now_us(), **self._district()._asdict())
            if said and not await self._written(said):
                await asyncio.sleep(_AGAIN_S)
            await asyncio.sleep(_POLL_S)

    async def _written(self, said: list[Signal]) -> bool:
        """Whether Kafka has it. A topic that nobody has made must not end what works."""
        self._stage.begin()
        try:
            if self._producer is None:
                producer = Producer(self._settings, client_id=f"{self._service.name}-system")
                await producer.start()
                self._producer = producer
            await self._producer.send(map(self._outgoing, said))
        except SizaoError as error:
            self._service.facts["system_not_told"] = str(error)
            return False
        finally:
            self._stage.moved()
        self._service.facts.pop("system_not_told", None)
        self._service.board.written(said)
        return True

    def _outgoing(self, said: Signal) -> Outgoing:
        value = signal.encode(said)
        return Outgoing(
            topic=signal.topic_of(said.kind).name,
            partition=PARTITION,
            key=said.subject.id.encode(),
            value=value,
            headers=signal.headers(said, value, self._service.name),
            timestamp_ms=said.received_us // 1000,
        )

    # -- show ------------------------------------------------------------------------------------

    async def _show(self) -> None:
        """On the pages and in the log, Kafka or not; and that the settings are not the file's."""
        service, board = self._service, self._service.board
        while True:
            wrong = service.facts.get("running_on_last_good")
            if wrong:
                fault = {"fault": str(wrong)[:500]}
                board.say(Rule.SETTINGS, self._subject, Tier.EARLY, clock.now_us(), fault)
            shown = board.shown()
            service.facts["system"] = shown
            self._standing.set(len(shown))
            for name in shown.keys() - self._logged:
                service.logger.error("system incident", subject=name, **shown[name])
            for name in self._logged - shown.keys():
                service.logger.info("system incident over", subject=name)
            self._logged = set(shown)
            await asyncio.sleep(_POLL_S)

    # -- disks -----------------------------------------------------------------------------------

    async def _watch(self) -> None:
        while True:
            board = self._service.board
            found: dict[Path, tuple[Volume, list[str]]] = {}
            for name, folder in self._disks.items():
                # No deadline: a disk that hangs holds this task alone, and its process elsewhere.
                try:
                    volume = await asyncio.to_thread(self._look, folder)
                except OSError as error:
                    fault, now_us = {"fault": str(error)[:500], "holds": name}, clock.now_us()
                    board.say(Rule.UNSEEN, f"disk/{name}", Tier.EARLY, now_us, fault)
                    continue
                board.over(f"disk/{name}", clock.now_us())
                self._used[name].set(volume.used)
                found.setdefault(volume.mount, (volume, []))[1].append(name)
            for volume, names in found.values():
                self._judge(volume, names)
            await asyncio.sleep(_DISKS_S)

    def _judge(self, volume: Volume, names: list[str]) -> None:
        """One subject for a volume, whoever keeps something there: it is one trouble."""
        board, subject = self._service.board, f"disk/{self._host}:{volume.mount}"
        tier = disk_tier(100 * volume.used, board.tier_of(subject), **self._limits)
        if tier is None:
            board.over(subject, clock.now_us())
            return
        evidence: signal.Evidence = {
            "volume": f"{self._host}:{volume.mount}",
            "used_percent": round(100 * volume.used, 1),
            "free_bytes": volume.free_bytes,
            "holds": ", ".join(names),
        }
        board.say(Rule.DISK, subject, tier, clock.now_us(), evidence)
