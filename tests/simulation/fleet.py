"""The devices: what they say, in real payload bytes, and what is true about it.

Truth is written down here, from the script and never by the product's own decoder: which rows a
message must become, or that it must be a reject, and which devices were really on fire.
"""

from __future__ import annotations

import json
import random
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, timezone
from enum import StrEnum

import numpy as np
from simulation import place
from simulation.broker import Broker
from simulation.clockwork import SECOND_US, Clockwork, Task
from simulation.place import FIRE, TEMPERATURE

from sizao.units import BY_NAME, AlarmState, Lane

HOT_RUN = 6
"""So many hot readings in a row must be found; the rule needs two, the rest is for mixed clocks."""
_CHINA = timezone(timedelta(hours=8))
_SMOKE, _HEARD = BY_NAME["smoke_od_per_m"].code, BY_NAME["heard"].code
_FAULT, _TAMPER = BY_NAME["fault_state"].code, BY_NAME["tamper_state"].code
_STATES = {"normal": AlarmState.NORMAL, "alarm": AlarmState.ALARM, "test": AlarmState.SELF_TEST}


class Clock(StrEnum):
    """A device's clock."""

    RIGHT = "right"
    NONE = "none"
    SLOW = "slow"  # by minutes, so that all it says is late
    AHEAD = "ahead"
    FACTORY = "factory"  # the year 2000: not believed
    TOMORROW = "tomorrow"  # not believed
    SET_BACK = "set_back"  # right at first, then an hour back


_OFF_S = {Clock.SLOW: -180, Clock.AHEAD: 40, Clock.TOMORROW: 86_400}
_BELIEVED = {Clock.RIGHT, Clock.SLOW, Clock.AHEAD, Clock.SET_BACK}
_FACTORY_US = 946_684_800 * SECOND_US


@dataclass(frozen=True)
class Row:
    """A reading that must be in the log. `event_us` None: it gets the time of its arrival."""

    point: int
    event_us: int | None
    value: float


@dataclass(frozen=True)
class Sent:
    """One message. `reject`: must leave a dead letter; None: rows or a dead letter, both are right.
    `unread`: the subject of the signal that must tell of it.
    """

    token: int
    lane: Lane
    topic: bytes
    payload: bytes
    rows: tuple[Row, ...]
    reject: bool | None
    unread: tuple[str, str] | None
    at_us: int


@dataclass
class Device:
    thing: place.Thing
    clock: Clock
    said_us: int = 0
    hot: int = 0
    corrupt_s: float = -1e9

    @property
    def real(self) -> bool:
        return self.thing.mark == "real"


@dataclass
class Script:
    """What happens to whom: times in seconds of the run. `pace`: how long a tick is."""

    seconds: float
    every_s: float
    pace: float = 1.0
    fire_s: dict[str, float] = field(default_factory=dict)
    alarm_s: dict[str, float] = field(default_factory=dict)
    garbage_s: float = 20.0


def script(rng: random.Random) -> Script:
    """Short with dense traffic; or long enough for warm baselines and for ten quiet minutes; or so
    long that a warm-up cannot reach the start of its log.
    """
    length = rng.random()
    if length < 0.85:
        made = Script(seconds=rng.uniform(150, 300), every_s=6.0, garbage_s=rng.choice([5, 20, 60]))
    elif length < 0.96:
        made = Script(seconds=rng.uniform(900, 1400), every_s=25.0, pace=4.0, garbage_s=100)
    else:
        made = Script(seconds=rng.uniform(2400, 3000), every_s=60.0, pace=10.0, garbage_s=200)
    room_s = made.every_s * (HOT_RUN + 8)
    for thing in place.THINGS:
        begin_s = rng.uniform(0.1, max(made.seconds - room_s, made.seconds * 0.4))
        if thing.document in {place.HEAT, place.BATCH} and rng.random() < 0.4:
            made.fire_s[thing.key] = begin_s
        if thing.document in {place.SMOKE_HEAT, place.SMOKE_STATE} and rng.random() < 0.6:
            made.alarm_s[thing.key] = begin_s
    return made


class Fleet:
    """Publishes for all devices. `hot`, `alarming`: points of real devices that must page."""

    def __init__(self, work: Clockwork, broker: Broker, told: Script) -> None:
        self.work, self.broker, self.script = work, broker, told
        self.began_us = work.now_us
        self.sent: dict[int, Sent] = {}
        self.hot: set[int] = set()
        self.alarming: set[int] = set()
        self.all_registered = False
        clocks = [Clock.RIGHT] * 5 + list(Clock)
        self.devices = {thing.key: Device(thing, work.rng.choice(clocks)) for thing in place.THINGS}

    def start(self) -> None:
        spawn = self.work.spawn
        for device in self.devices.values():
            if device.thing.document == place.HEAT:
                spawn("fleet", self._heat(device), self.work.rng.uniform(0, self.script.every_s))
            elif device.thing.document == place.SMOKE_HEAT:
                spawn("fleet", self._smoke(device), self.work.rng.uniform(0, 20))
            elif device.thing.document == place.SMOKE_STATE:
                spawn("fleet", self._state_only(device), self.work.rng.uniform(0, 20))
        spawn("fleet", self._gateway())
        spawn("fleet", self._garbage(), 5)

    @property
    def _run_s(self) -> float:
        return (self.work.now_us - self.began_us) / SECOND_US

    # -- what leaves a device

    def _say(self, lane, topic, payload, *, rows=(), reject=False, unread=None) -> None:
        raw = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
        for _ in range(2 if self.work.rng.random() < 0.03 else 1):  # its own PUBACK got lost
            token = self.broker.publish(topic, raw)
            self.sent[token] = Sent(
                token, lane, topic.encode(), raw, tuple(rows), reject, unread, self.work.now_us
            )

    def _time(self, device: Device) -> tuple[int | None, int | None]:
        """What its clock says, and whether that will be believed; no instant twice."""
        if device.clock is Clock.NONE:
            return None, None
        if device.clock is Clock.FACTORY:
            return _FACTORY_US + (self.work.now_us % 10_000) * 1000, None
        off_s = _OFF_S.get(device.clock, 0)
        if device.clock is Clock.SET_BACK and self._run_s > self.script.seconds / 3:
            off_s = -3600
        said_us = (self.work.now_us + off_s * SECOND_US) // 1000 * 1000
        if said_us == device.said_us:
            said_us += 1000
        device.said_us = said_us
        return said_us, said_us if device.clock in _BELIEVED else None

    # -- heat

    def _celsius(self, device: Device) -> float:
        """Quiet, or a fire that rises, burns for a while and is put out."""
        rng, thing = self.work.rng, device.thing
        burning_s = self._run_s - self.script.fire_s.get(thing.key, 1e9)
        limit_c = place.limits_c()[place.point(thing.key, TEMPERATURE)]
        step = self.script.every_s
        quiet_c = round(20 + rng.random(), 2)
        if burning_s < 0:
            value = 90.0 if rng.random() < 0.008 else quiet_c  # a corrupt reading, alone
            if value > quiet_c and self._run_s - device.corrupt_s < 900:
                value = quiet_c  # two of them are a broken sensor, which is believed later
            device.corrupt_s = self._run_s if value > quiet_c else device.corrupt_s
        elif burning_s < 4 * step:
            value = round(quiet_c + burning_s / (4 * step) * (limit_c - 24), 2)
        elif burning_s < (HOT_RUN + 7) * step:
            value = round(limit_c + rng.uniform(0, 30), 2)
        else:
            value = quiet_c
        device.hot = device.hot + 1 if value >= limit_c else 0
        if thing.from_gen > 1 and not self.all_registered:
            device.hot = 0  # nobody can know whose it is
        if device.hot >= HOT_RUN and device.real:
            self.hot.add(place.point(thing.key, TEMPERATURE))
        return value

    def _heat(self, device: Device) -> Task:
        thing = device.thing
        point = place.point(thing.key, TEMPERATURE)
        while True:
            value, (said_us, event_us) = self._celsius(device), self._time(device)
            payload: dict[str, object] = {"temperature": value}
            if said_us is not None:
                payload["ts"] = said_us / SECOND_US
            topic = f"up/{thing.carrier}/telemetry/{thing.key}"
            row = Row(point, event_us, float(np.float32(value)))
            new = thing.from_gen > 1  # the registry may not know it yet
            self._say(Lane.TELEMETRY, topic, payload, rows=[row], reject=None if new else False)
            yield self.script.every_s * self.work.rng.uniform(0.9, 1.1)

    def _gateway(self) -> Task:
        rng = self.work.rng
        things = [self.devices[key] for key in ("t1", "t2", "t3")]
        while True:
            keys, times, values, rows, bad = [], [], [], [], False
            with_times = rng.random() < 0.8
            for device in things:
                value, (said_us, event_us) = self._celsius(device), self._time(device)
                keys.append(device.thing.key)
                times.append(None if said_us is None else said_us // 1000)
                odd = rng.random() if device.hot == 0 else 1.0
                values.append("err" if odd < 0.01 else None if odd < 0.02 else value)
                bad |= odd < 0.01
                if odd >= 0.02:
                    point = place.point(device.thing.key, TEMPERATURE)
                    believed_us = event_us if with_times else None
                    rows.append(Row(point, believed_us, float(np.float32(value))))
            payload: dict[str, object] = {"keys": keys, "temperatures": values}
            if with_times:
                payload["times"] = times
            self._say(Lane.TELEMETRY, "up/g1/telemetry", payload, rows=rows, reject=bad)
            yield self.script.every_s * rng.uniform(0.9, 1.1)

    # -- smoke

    def _smoke(self, device: Device) -> Task:
        """Says how it is; in alarm, every 5 s. Some are tested, some fall silent in the fire."""
        rng, key = self.work.rng, device.thing.key
        alarm_s = self.script.alarm_s.get(key, 1e9)
        test_s = rng.uniform(0, self.script.seconds) if rng.random() < 0.3 else 1e9
        while True:
            yield rng.uniform(10, 30) if self._run_s < alarm_s else 5.0
            if 0 <= self._run_s - test_s < 40:
                self._smoke_says(device, "test")
            elif 0 <= self._run_s - alarm_s < 60:
                self._smoke_says(device, "alarm")
            elif self._run_s - alarm_s >= 60:
                if rng.random() < 0.5:
                    return  # burnt
                alarm_s = 1e9
                self._smoke_says(device, "normal")
            else:
                self._smoke_says(device, "normal")

    def _smoke_says(self, device: Device, state: str) -> None:
        rng, thing = self.work.rng, device.thing
        said_us, event_us = self._time(device)
        payload: dict[str, object] = {"state": state, "smoke": 0.5, "temperature": 21.5}
        rows = [
            Row(place.point(thing.key, FIRE), event_us, float(_STATES[state])),
            Row(place.point(thing.key, TEMPERATURE), event_us, 21.5),
        ]
        smoke = Row(place.point(thing.key, _SMOKE), event_us, float(np.float32(0.05)))
        bad = rng.random() < 0.05
        if bad:
            payload["smoke"] = "thick"  # one bad field takes nothing along
        else:
            rows.append(smoke)
        if said_us is not None:
            moment = datetime.fromtimestamp(said_us // SECOND_US, UTC).astimezone(_CHINA)
            zone = "+08:00" if rng.random() < 0.5 else ""
            payload["time"] = f"{moment:%Y-%m-%dT%H:%M:%S}.{said_us % SECOND_US:06d}{zone}"
        topic = f"up/{thing.carrier}/alarm/{thing.key}"
        self._say(Lane.ALARM, topic, payload, rows=rows, reject=bad)
        self._note_alarm(device, state)

    def _state_only(self, device: Device) -> Task:
        """Its daily word; its alarm once, or three times through a platform that repeats."""
        rng, script_s = self.work.rng, self.script.alarm_s.get(device.thing.key, 1e9)
        self._state_says(device, "heartbeat")
        while self._run_s < script_s:
            yield 3.0
            if self._run_s > self.script.seconds:
                return
        for _ in range(rng.choice([1, 1, 3])):
            self._state_says(device, "alarm")
            yield rng.uniform(1, 8)
        if rng.random() < 0.5:
            self._state_says(device, "restored")

    def _state_says(self, device: Device, event: str) -> None:
        thing = device.thing
        said_us, event_us = self._time(device)
        state = AlarmState.ALARM if event == "alarm" else AlarmState.NORMAL
        rows = [Row(place.point(thing.key, FIRE), event_us, float(state))]
        others = (_FAULT, _TAMPER) if event == "heartbeat" else (_HEARD,)
        value = 0.0 if event == "heartbeat" else 1.0
        rows += [Row(place.point(thing.key, code), event_us, value) for code in others]
        payload: dict[str, object] = {"event": event}
        if said_us is not None:
            payload["at"] = said_us // 1000
        self._say(Lane.ALARM, f"up/{thing.carrier}/alarm/{thing.key}", payload, rows=rows)
        self._note_alarm(device, event)

    def _note_alarm(self, device: Device, said: str) -> None:
        if said == "alarm" and device.real:
            self.alarming.add(place.point(device.thing.key, FIRE))

    # -- what nobody can read

    def _garbage(self) -> Task:
        rng = self.work.rng
        while True:
            lane, topic, subject = rng.choice(_WRONG_PLACES)
            payload = rng.choice(_WRONG_WORDS) if subject else b'{"temperature": 20}'
            if payload == b"":
                payload = rng.randbytes(rng.randint(1, 40))
            unread = subject if lane is Lane.ALARM else None
            self._say(lane, topic, payload, reject=True, unread=unread)
            yield rng.expovariate(1 / self.script.garbage_s)


_WRONG_WORDS = (b"", b"", b'{"state": "ala', b'["alarm"]', b"null", b'{"state": "FIRE!"}', b"\xff")
# Lane, topic, and on the alarm lane the subject that must be told of.
_WRONG_PLACES = (
    (Lane.ALARM, "up/c3/alarm/s1", ("device", str(place.DEVICE["s1"]))),
    (Lane.ALARM, "up/c3/alarm/s3", ("device", str(place.DEVICE["s3"]))),
    (Lane.ALARM, "up/nb/alarm/n1", ("device", str(place.DEVICE["n1"]))),
    (Lane.ALARM, "up/c3/alarm/nobody", ("carrier", "c3")),
    (Lane.ALARM, "up/g1/alarm/t1", ("device", str(place.DEVICE["t1"]))),
    (Lane.ALARM, "up/evil/alarm/x/y", ("carrier", "evil")),
    (Lane.TELEMETRY, "up/c1/telemetry/h1", ("", "")),
    (Lane.TELEMETRY, "up/g1/telemetry", ("", "")),
    (Lane.TELEMETRY, "up/c1/telemetry/h4", None),  # another carrier's
    (Lane.TELEMETRY, "up/evil/telemetry/h1", None),
)
