"""A street under fault runs: who lives there, and what its alarm devices say.

200 heat sensors bring the load (fix_load). The alarm devices say their alarm until it is seen, as
`repeats: yes` promises: every other one is a smoke alarm on the alarm lane, again each 5 s, else a
heat sensor over its limit, again each second. What stands in for `seen` is the page that the fire
station's receiver has accepted.
"""

import threading
import time
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
from fix_load import CARRIERS, DEVICES, HOUSES

from deploy.local import load, load_wire
from deploy.local.district import types
from deploy.local.load_plan import FIRE_C, QUIET_C, Plan
from sizao import clock
from sizao.registry.write import AreaRow, CarrierRow, Change, DeviceRow
from sizao.units import BY_CODE, BY_NAME, Lane

SMOKE, HEAT = "generic.smoke_heat", "generic.heat"
AGAIN_S = {SMOKE: 5.0, HEAT: 1.0}
SAYS_MAX = 60  # of one device: five minutes of smoke
TICK_S = 0.005
SETTLE_S = 30.0
ALARMS_A_CARRIER = 20


def kind(number: int) -> str:
    """Type of an alarm device."""
    return HEAT if number % 2 else SMOKE


def carrier(key: str) -> str:
    """Whose connection brings what an alarm device says."""
    return f"ca{int(key[1:]) // ALARMS_A_CARRIER}"


def settle(stack, alarms: int) -> None:
    """Register the street; every alarm device has a house of its own."""
    steady = [
        DeviceRow(f"k{n}", f"c{n % CARRIERS}", HEAT, f"h{n % HOUSES}", 1) for n in range(DEVICES)
    ]
    alarming = [
        DeviceRow(f"a{n}", carrier(f"a{n}"), kind(n), f"ha{n}", 1 if kind(n) == HEAT else 0)
        for n in range(alarms)
    ]
    sites = dict.fromkeys(row.area for row in steady + alarming)
    top = [
        AreaRow("d", "", "district", "区", "District"),
        AreaRow("s", "d", "street", "街", "Street"),
    ]
    stack.register(
        Change(
            areas=top + [AreaRow(code, "s", "site", code, code) for code in sites],
            carriers=[
                CarrierRow(name) for name in dict.fromkeys(row.carrier for row in steady + alarming)
            ],
            types=types(),
            devices=steady + alarming,
        ),
        "chaos",
    )


def smoke(value: float, ts_us: int) -> bytes:
    """What a generic.smoke_heat says, its device time exact."""
    moment = datetime.fromtimestamp(ts_us // 1_000_000, UTC)
    state = "alarm " if value >= FIRE_C else "normal"
    at = f"{moment:%Y-%m-%dT%H:%M:%S}.{ts_us % 1_000_000:06d}Z"
    return f'{{"state": "{state.strip()}", "smoke": {value / 10:6.3f}, "time": "{at}"}}'.ljust(
        99
    ).encode()


@dataclass(frozen=True)
class Said:
    """One acknowledged message of an alarm device, or of the load."""

    key: str
    quantity: int
    ts_us: int
    acked_us: int
    times: int
    repeats: bool


class Speaker(load.Load):
    """Devices of `kinds` over connections of their own; `says[n]` messages of device n at most."""

    def __init__(self, stack, kinds: dict[str, str], says: int) -> None:
        self._kinds = list(kinds.items())
        count = len(kinds) * says
        plan = Plan(
            at_us=np.zeros(count, np.int64),
            device=np.repeat(np.arange(len(kinds), dtype=np.int32), says),
            value=np.zeros(count, np.float32),
        )
        at = stack.servers.addresses
        users = {carrier(key): stack.carriers[carrier(key)] for key in kinds}
        super().__init__(
            at.mqtt_host, at.mqtt_port, users, [(carrier(key), [key]) for key in kinds], plan
        )
        for number, (key, what) in enumerate(self._kinds):
            if what == SMOKE:
                self._payload_of[number] = smoke
                self._topics[number] = load_wire.Topic.of(f"up/{carrier(key)}/alarm/{key}", 99)
        self._says = says
        self._next = [0] * len(kinds)

    def say(self, number: int, value: float) -> int:
        """Device `number` says something now; returns the message, -1 when it has said all."""
        if self._next[number] == self._says:
            return -1
        message = number * self._says + self._next[number]
        self._next[number] += 1
        self._value[message] = value
        self._say(message)
        return message

    def serve(self) -> None:
        """Connections and answers, one tick long."""
        self._reopen()
        time.sleep(TICK_S)
        self._read(0)

    @property
    def waiting(self) -> int:
        """Messages said and not answered yet."""
        return sum(self._next) - self.acknowledged - self.refused

    def settled(self) -> None:
        """Wait until every message is acknowledged, at most 30 s."""
        until_s = clock.monotonic_s() + SETTLE_S
        while self.waiting and clock.monotonic_s() < until_s:
            self.serve()

    def acknowledgements(self) -> list[Said]:
        """Every reading that must stand in the table."""
        found = []
        for number, (key, what) in enumerate(self._kinds):
            codes = (
                [1]
                if what == HEAT
                else [BY_NAME["fire_state"].code, BY_NAME["smoke_od_per_m"].code]
            )
            first = number * self._says
            for message in range(first, first + self._next[number]):
                if self.acked_us[message]:
                    found += [
                        Said(
                            key, code, self.ts_us[message], self.acked_us[message],
                            self.said[message], BY_CODE[code].lane is Lane.ALARM,
                        )
                        for code in codes
                    ]  # fmt: skip
        return found


class Alarms(Speaker):
    """One device after the other alarms, each `each_s`, until `end`; in a thread of its own."""

    def __init__(self, stack, alarms: int, each_s: float, seen) -> None:
        """`seen`: returns the keys whose alarm somebody has."""
        super().__init__(stack, {f"a{n}": kind(n) for n in range(alarms)}, SAYS_MAX)
        self._each_s, self._seen = each_s, seen
        self._last, self._left = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._burn, name="alarms")
        self.began_us: dict[str, int] = {}
        self.failed: BaseException | None = None

    def start(self) -> None:
        """Connect and begin."""
        self.connect()
        self._thread.start()

    def end(self) -> None:
        """No new alarm; those that are on are said until they are seen."""
        self._last.set()

    def join(self, deadline_s: float) -> None:
        """Wait until all are seen. Raises what has broken the thread."""
        self._thread.join(deadline_s)
        if self.failed:
            raise self.failed

    def leave(self) -> None:
        """End, whatever is not seen yet."""
        self._last.set()
        self._left.set()
        self._thread.join()
        self.close()

    def open_since_us(self) -> list[int]:
        """When each alarm that nobody has seen yet was acknowledged for the first time."""
        seen = self._seen()
        return [self.first_us(key) for key in list(self.began_us) if key not in seen]

    def first_us(self, key: str) -> int:
        """First acknowledgement of a device's alarm; now while there is none."""
        first = int(key[1:]) * self._says
        return min(
            (at for at in self.acked_us[first : first + self._says] if at), default=clock.now_us()
        )

    def _burn(self) -> None:
        try:
            self._loop()
        except BaseException as error:  # noqa: BLE001 - told by `join`
            self.failed = error

    def _loop(self) -> None:
        burning: dict[int, float] = {}
        next_s, number = clock.monotonic_s(), 0
        while (burning or not self._last.is_set()) and not self._left.is_set():
            now_s = clock.monotonic_s()
            if now_s >= next_s and number < len(self._kinds) and not self._last.is_set():
                burning[number] = now_s
                self.began_us[f"a{number}"] = clock.now_us()
                next_s, number = now_s + self._each_s, number + 1
            seen = self._seen()
            for one, due_s in list(burning.items()):
                if f"a{one}" in seen:
                    self.say(one, QUIET_C)
                    del burning[one]
                elif now_s >= due_s:
                    if self.say(one, FIRE_C) < 0:
                        del burning[one]  # the verdict finds it unseen
                    else:
                        burning[one] = due_s + AGAIN_S[kind(one)]
            self.serve()
        if not self._left.is_set():
            self.settled()
