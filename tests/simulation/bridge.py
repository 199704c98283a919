"""The bridge: the real plan, flow and desk behind a modelled connection and producer.

It follows `ingest/lane.py` step by step: what was read is held; a tick is planned, written, and
only then acknowledged on the connection that it came on.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from simulation import place
from simulation.broker import Broker, Packet, Session
from simulation.clockwork import SECOND_US, Clockwork, Task
from simulation.log import Log

from ingest.flow import Flow, Held, Step
from ingest.mqtt.message import Message
from ingest.plan import Desk, cut, heartbeat_due_s, plan
from sizao.units import Lane

BRIDGE = "b0"
_KEPT_EACH_US = SECOND_US


@dataclass
class Stamps:
    """The bridge's rising clock over a wall clock that may step, as `sizao.clock.Rising`."""

    work: Clockwork
    last_us: int
    off_us: int

    def now_us(self) -> int:
        self.last_us = max(self.work.now_us + self.off_us, self.last_us + 1)
        return self.last_us


@dataclass
class Taken:
    message: Message
    token: int


@dataclass
class LaneModel:
    """One lane of one life."""

    lane: Lane
    desk: Desk
    flow: Flow
    epoch: int = 0
    listening: bool = False
    buffer: list[Taken] = field(default_factory=list)
    held: Held = field(default_factory=Held)
    waits_since_s: float | None = None


class Bridge:
    """`acknowledged`: token -> the arrivals under which it was acknowledged, and how much Kafka had
    then. `arrivals`: all.
    """

    NAME = "bridge"

    def __init__(
        self, work: Clockwork, broker: Broker, log: Log, pace: float, flaws: frozenset[str]
    ) -> None:
        self.work, self.broker, self.log, self.flaws = work, broker, log, flaws
        self.pace = pace
        self.acknowledged: dict[int, list[tuple[int, int]]] = {}
        self.arrivals: dict[int, list[int]] = {}
        self.kept_us: dict[Lane, int] = {}
        self.off_us = 0
        self.generation = 1
        self.shut_until_us = dict.fromkeys(Lane, 0)
        self.bounds = {lane: work.rng.choice([20, 60, 400]) for lane in Lane}
        self.lanes: dict[Lane, LaneModel] = {}
        self.stamps = Stamps(work, 0, 0)

    # -- life

    def start(self) -> None:
        self.stamps = Stamps(self.work, max(self.kept_us.values(), default=0), self.off_us)
        self.district = place.compiled(self.generation)
        for lane in Lane:
            made = LaneModel(
                lane=lane,
                desk=Desk(bridge=BRIDGE, lane=lane, sequence=self.stamps.now_us()),
                flow=Flow(
                    messages_max=self.bounds[lane],
                    bytes_max=1 << 20,
                    pause_s_max=5.0,
                    stops_when_silent=lane is Lane.TELEMETRY,
                ),
            )
            self.lanes[lane] = made
            self.work.spawn(self.NAME, self._receive(made))
            self.work.spawn(self.NAME, self._deliver(made))
        self.work.spawn(self.NAME, self._recompile())

    def crash(self) -> None:
        self.work.kill(self.NAME)
        for session in self.broker.sessions.values():
            session.cut()
        self.lanes = {}

    def step_clock(self, off_us: int) -> None:
        self.off_us = self.stamps.off_us = off_us

    @property
    def idle(self) -> bool:
        held = any(one.held.messages for one in self.lanes.values())
        empty = all(one.empty for one in self.broker.sessions.values())
        return len(self.lanes) == len(Lane) and not held and empty

    def _recompile(self) -> Task:
        while True:
            yield self.work.rng.uniform(0.5, 4)
            self.district = place.compiled(self.generation)

    # -- receive

    def _receive(self, lane: LaneModel) -> Task:
        rng, session = self.work.rng, self.broker.sessions[lane.lane]
        while True:
            yield rng.uniform(0, 1)
            silent_s = self._silent_s(lane)
            back = lane.flow.may_return(lane.held.messages, lane.held.size, silent_s)
            if self.work.now_us < self.shut_until_us[lane.lane] or not back:
                continue
            lane.epoch = session.connect()
            while session.epoch == lane.epoch:
                step = lane.flow.step(
                    lane.held.messages, lane.held.size, self._silent_s(lane), self.work.now_s
                )
                lane.listening = step is Step.READ
                if step is Step.LEAVE:
                    self.work.note(f"{lane.lane} leaves the broker on purpose")
                    session.cut()
                elif step is Step.READ:
                    self._read(lane, session)
                yield self.pace * rng.choice([0.02, 1.0, 3.0, 6.0])
            lane.epoch, lane.listening = 0, False

    def _silent_s(self, lane: LaneModel) -> float:
        return 0.0 if lane.waits_since_s is None else self.work.now_s - lane.waits_since_s

    def _read(self, lane: LaneModel, session: Session) -> None:
        flow, held = lane.flow, lane.held
        packets_max = min(self.work.rng.choice([1, 5, 500]), flow.messages_max - held.messages)
        count = size = 0
        while count < packets_max and size < flow.bytes_max - held.size:
            found = session.read(1)
            if not found:
                break
            size += self._take(lane, found[0])
            count += 1
        if count:
            held.take(count, size, self.work.now_s)

    def _take(self, lane: LaneModel, packet: Packet) -> int:
        item = packet.item
        arrived_us = self.stamps.now_us()
        message = Message(
            item.topic, item.payload, arrived_us, packet.dup, lane.epoch, packet.packet_id
        )
        self.arrivals.setdefault(item.token, []).append(arrived_us)
        lane.buffer.append(Taken(message, item.token))
        return message.size

    # -- deliver

    def _deliver(self, lane: LaneModel) -> Task:
        while True:
            if not lane.buffer and not self._heartbeat_due(lane):
                yield self.pace * self.work.rng.choice([0.1, 1.0, 6.0])
                continue
            count = cut([taken.message for taken in lane.buffer])
            batch, lane.buffer = lane.buffer[:count], lane.buffer[count:]
            effects = plan(
                lane.desk,
                self.district,
                [taken.message for taken in batch],
                self.stamps.now_us,
                now_s=self.work.now_s,
                listening=lane.listening,
                backlog=bool(lane.buffer),
            )
            if "acknowledge before Kafka" in self.flaws:
                yield from self._settle(lane, batch)
            lane.waits_since_s = self.work.now_s
            records = effects.records
            if "forget dead letters" in self.flaws:
                records = [one for one in records if "rejects" not in one.topic]
            yield from self.log.send(records)
            lane.waits_since_s = None
            if "acknowledge before Kafka" not in self.flaws:
                yield from self._settle(lane, batch)
            lane.held.settle([taken.message for taken in batch])
            if effects.frames:
                self._keep_clock(lane.lane)

    def _heartbeat_due(self, lane: LaneModel) -> bool:
        due_s = heartbeat_due_s(lane.desk, place.PARTITIONS)
        return lane.listening and self.work.now_s >= due_s

    def _settle(self, lane: LaneModel, batch: list[Taken]) -> Task:
        session = self.broker.sessions[lane.lane]
        for taken in batch:
            message = taken.message
            epoch = message.epoch
            if "acknowledge on whatever connection" in self.flaws:
                epoch = session.epoch
            mark = self.log.count
            if epoch and session.acknowledge(epoch, message.packet_id, mark):
                self.acknowledged.setdefault(taken.token, []).append((message.arrived_us, mark))
            if self.work.rng.random() < 0.1:
                yield 0

    def _keep_clock(self, lane: Lane) -> None:
        now_us = self.stamps.now_us()
        if now_us - self.kept_us.get(lane, 0) >= _KEPT_EACH_US:
            self.kept_us[lane] = now_us
