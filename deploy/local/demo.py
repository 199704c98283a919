"""`make demo`: a recorded room fire through the whole real path, with its time line.

Real Mosquitto, Kafka and PostgreSQL, our five real processes, 2,000 simulated devices, and two
responders whose receivers check the webhook signature. The devices' clocks start in the past and
reach now at the end; with --speed 10 the fire burns ten times faster.

Exit 0 only if the station's page of the alarm arrived, signed.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from deploy.local import district as districts
from deploy.local import fire as fires
from deploy.local import timeline, traffic
from deploy.local.failure import ServerError
from deploy.local.fleet import Fleet
from deploy.local.places import private_place, remove_run
from deploy.local.receiver import Receiver
from deploy.local.servers import Servers
from deploy.local.stack import Stack
from sizao import clock
from sizao.errors import SizaoError

HISTORY_S = 1200  # a baseline is believed after ten minutes of readings
LEAD_IN_S = 20.0
AFTERMATH_S = 15.0  # our own fixed limit wants two reports
SETTLE_S = 60.0
PAGE_DEADLINE_S = 30.0
SECOND_US = 1_000_000
WIDTH = 110  # of a pipe or a log, so that the table keeps its lines


@dataclass(frozen=True, slots=True)
class Tempo:
    """Between the wall clock and the devices' clocks, which meet at `end_us`."""

    end_us: int
    speed: float

    def device_us(self, wall_us: int) -> int:
        """What the devices' clocks show."""
        return self.end_us - round((self.end_us - wall_us) * self.speed)

    def wall_us(self, device_us: int) -> int:
        """When the devices' clocks show that."""
        return self.end_us - round((self.end_us - device_us) / self.speed)


@dataclass
class Demo:
    """One run."""

    console: Console
    speed: float
    district: districts.District = field(default_factory=districts.build)
    fire: fires.Fire = field(default_factory=fires.load)

    @contextmanager
    def step(self, text: str) -> Iterator[None]:
        """Say what is done and how long it took."""
        began_s = clock.monotonic_s()
        with self.console.status(text):
            yield
        self.console.print(f"  [green]✓[/green] {text}  [dim]{clock.monotonic_s() - began_s:.1f} s")

    def run(self, folder: Path) -> int:
        """Play it; returns the exit code."""
        with ExitStack() as stack:
            with self.step("Mosquitto, Kafka and PostgreSQL, privately"):
                servers = stack.enter_context(Servers(folder, fresh=True))
            remove_run(folder / "sizao")  # of an earlier run, as the data
            ours = Stack(servers, folder / "sizao")
            stack.callback(ours.stop)
            receivers = self._prepare(stack, ours)
            with self.step("bridge, detect, alert, archive, console"):
                ours.start()
            fleet = Fleet(servers.mosquitto.host, servers.mosquitto.port)
            stack.callback(fleet.close)
            with self.step(f"{len(ours.carriers)} MQTT connections, each under its own name"):
                fleet.connect(ours.carriers)
            self.console.print(f"  console: {ours.console_url}")
            return self._burn(ours, fleet, receivers)

    def _prepare(self, stack: ExitStack, ours: Stack) -> dict[str, Receiver]:
        with self.step("settings, schema, topics"):
            ours.configure()
            ours.command("migrate")
        with self.step(
            f"district: {districts.STREETS} streets, {districts.COMMUNITIES} communities,"
            f" {len(self.district.devices):,} devices"
        ):
            ours.settle(self.district)
        receivers = {}
        street = next(a.code for a in self.district.areas if a.level == "street")
        with self.step("responders: operations centre, micro fire station"):
            for name, area, tier in (("operator", "demo", "early"), ("station", street, "alarm")):
                receivers[name] = stack.enter_context(Receiver())
                key = ours.add_responder(name, area, receivers[name].url, tier)
                receivers[name].secret = key
        return receivers

    def _burn(self, ours: Stack, fleet: Fleet, receivers: dict[str, Receiver]) -> int:
        fixed_s = min(
            filter(None, (trace.first_at(fires.FIXED_57_C) for trace in self.fire.traces))
        )
        live_s = LEAD_IN_S + fixed_s + AFTERMATH_S
        with self.step("20 minutes of quiet readings, as buffered by the devices"):
            began_us = clock.now_us()
            start_us = began_us - round(live_s * SECOND_US)  # about; the tempo is fixed below
            count = self._history(fleet, start_us)
        end_us = clock.now_us() + round(live_s / self.speed * SECOND_US)
        tempo = Tempo(end_us, self.speed)
        ignition_us = end_us - round((fixed_s + AFTERMATH_S) * SECOND_US)
        self.console.print(
            f"\n  [bold]{self.fire.test}[/bold] burns at {self.speed:g} x"
            f" ({self.fire.source.split('@')[0]}, {self.fire.licence.split(' ')[0]})\n"
        )
        published = self._live(fleet, tempo, ignition_us, start_us) + count
        fleet.settle(SETTLE_S)
        receivers["station"].wait_for("alarm", PAGE_DEADLINE_S)
        line = timeline.read(ours.database(), self.district.burning_site, ignition_us)
        pages = timeline.pages(receivers, tempo.device_us, tempo.wall_us, ignition_us)
        rows = sorted([*line, *pages, *timeline.known(self.fire, fixed_s)])
        timeline.show(self.console, rows, self.speed)
        return timeline.verdict(self.console, rows, receivers, fixed_s, published)

    def _history(self, fleet: Fleet, until_us: int) -> int:
        from_us = until_us - HISTORY_S * SECOND_US
        ignition_us = until_us + HISTORY_S * SECOND_US  # later than anything: its first value
        messages = [
            *traffic.quiet(self.district, from_us, until_us),
            *traffic.burning(
                self.district, self.fire, ignition_us, from_us=from_us, until_us=until_us
            ),
        ]
        for number, message in enumerate(sorted(messages)):
            fleet.publish(message.user, message.topic, message.payload)
            if number % 200 == 0:
                fleet.turn(0)
        fleet.settle(SETTLE_S)
        return len(messages)

    def _live(self, fleet: Fleet, tempo: Tempo, ignition_us: int, from_us: int) -> int:
        """Publish each message when its device's clock shows its time."""
        stream = sorted(
            [
                *traffic.quiet(self.district, from_us, tempo.end_us),
                *traffic.burning(
                    self.district, self.fire, ignition_us, from_us=from_us, until_us=tempo.end_us
                ),
            ]
        )
        stream = [message for message in stream if message.at_us >= from_us]
        with self._progress() as progress:
            task = progress.add_task("", total=(tempo.end_us - from_us) / SECOND_US)
            for message in stream:
                while (wall_us := clock.now_us()) < tempo.wall_us(message.at_us):
                    fleet.turn(min(0.05, (tempo.wall_us(message.at_us) - wall_us) / 1e6))
                fleet.publish(message.user, message.topic, message.payload)
                seconds = (message.at_us - ignition_us) / SECOND_US
                progress.update(
                    task,
                    completed=(message.at_us - from_us) / SECOND_US,
                    description=timeline.weather(self.fire, seconds),
                )
        return len(stream)

    def _progress(self) -> Progress:
        return Progress(
            TextColumn("  {task.description}"),
            BarColumn(),
            TimeElapsedColumn(),
            console=self.console,
            disable=not self.console.is_terminal,
        )


def main() -> int:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(prog="python -m deploy.local.demo", description=__doc__)
    parser.add_argument("--speed", type=float, default=1.0, help="1 to 60; 10 is ten times faster")
    speed = parser.parse_args().speed
    if not 1 <= speed <= 60:  # noqa: PLR2004 - the range in the help text
        parser.error(f"--speed {speed:g}: expected 1 to 60")
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=WIDTH)
    console.print("\n[bold]Sizao 四早[/bold]  a recorded room fire through the whole real path\n")
    folder = private_place("demo")
    try:
        return Demo(console, speed).run(folder)
    except (ServerError, SizaoError) as error:
        console.print(f"[red]demo failed:[/red] {error}\n  logs: {folder}")
        return 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
