"""Our own processes beside the servers: configured, migrated, started, stopped.

Each is the real `sizao` command as a process of its own under a guard, ready when `/readyz` says
so. Passwords are random and made with the run; they stand in files of its folder, 0600.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import secrets
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ruamel.yaml import YAML

from deploy.local.district import District, build
from deploy.local.failure import ServerError
from deploy.local.places import HOST, REPOSITORY, free_ports, hand_over
from deploy.local.process import Child
from deploy.local.servers import Servers
from sizao.db import DatabaseSettings, connected
from sizao.registry.write import Change, apply
from sizao.topics import PARTITIONS_DEFAULT

DATABASE = "sizao"
BRIDGE_USER = "sizao-bridge"
PROCESSES = ("archive", "alert", "detect", "bridge", "console")
"""In the order in which they are started: those who listen before those who speak."""
READY_S = 60.0
HTTP_S = 3.0
COMMAND_S = 180.0

# A carrier publishes and hears under its own name only; the bridge hears all that comes up.
ACL = f"""user {BRIDGE_USER}
topic read up/#
topic read $SYS/broker/#
topic write down/#
pattern write up/%u/#
pattern read down/%u/#
"""


@dataclass
class Process:
    """One of ours; a `Part` of `make up`."""

    name: str
    config: Path
    port: int
    child: Child
    shown: str = ""
    entry: tuple[str, ...] = ("-m", "sizao.cli")  # a test may begin it in another way

    @property
    def log(self) -> Path:
        """Where its words go."""
        return self.child.log

    @property
    def address(self) -> str:
        """Where a person looks: the console's page, else what the process says of itself."""
        return self.shown or f"http://{HOST}:{self.port}/readyz"

    @property
    def pid(self) -> int:
        """Process id now, 0 if it does not run."""
        return self.child.pid

    def start(self) -> None:
        """Start and wait until ready."""
        self.launch()
        self.wait()

    def wait(self) -> None:
        """Wait until ready."""
        self.child.wait_ready(self.missing, READY_S)

    def launch(self) -> None:
        """Start and do not wait."""
        command = [sys.executable, *self.entry, self.name, "--config", str(self.config)]
        self.child.start(command, user=None, env=environment(), cwd=self.config.parent)

    def stop(self) -> None:
        """Stop in an orderly way."""
        self.child.terminate()

    def page(self, path: str) -> str:
        """Text of one of its pages, also when it answers 503."""
        try:
            with urllib.request.urlopen(f"http://{HOST}:{self.port}{path}", timeout=HTTP_S) as got:
                return str(got.read().decode())
        except urllib.error.HTTPError as error:
            with error:
                return error.read().decode()

    def missing(self) -> str | None:
        """What it waits for, None when it is ready."""
        try:
            content = json.loads(self.page("/readyz"))
        except (OSError, ValueError) as error:
            return f"{self.name}: {error}"
        away = [name for name, there in content["ready"].items() if not there]
        return f"{self.name} waits for {', '.join(away)}" if away else None


def environment() -> dict[str, str]:
    """What a process of ours gets of our environment: nothing but the way to Python."""
    kept = ("PATH", "LANG", "HOME", "TZ", "VIRTUAL_ENV")
    return {name: os.environ[name] for name in kept if name in os.environ} | {
        "PYTHONPATH": str(REPOSITORY),
        "PYTHONUTF8": "1",
        "PYTHONUNBUFFERED": "1",
    }


@dataclass
class Stack:
    """Settings, secrets and processes of one run."""

    servers: Servers
    folder: Path
    database_name: str = DATABASE
    overrides: dict[str, dict[str, object]] = field(default_factory=dict)  # by section
    http_port: int = 0
    processes: dict[str, Process] = field(default_factory=dict)
    carriers: dict[str, str] = field(default_factory=dict)  # MQTT user: password

    @property
    def config(self) -> Path:
        """The settings file of all five."""
        return self.folder / "sizao.yaml"

    @property
    def console_url(self) -> str:
        """The console's page."""
        return f"http://{HOST}:{self.http_port}/"

    def database(self) -> DatabaseSettings:
        """How to reach the run's database."""
        at = self.servers.addresses
        return DatabaseSettings(
            host=at.postgres_host,
            port=at.postgres_port,
            name=self.database_name,
            user=at.postgres_user,
            password_file=str(self.folder / "database-password"),
        )

    def configure(self) -> None:
        """Write secrets and settings, and make the database. What is there already is kept."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self._secret("database-password", self.servers.postgres.password)
        bridge = self._secret("bridge-password")
        self._key("handover-key")
        known = self.folder / "carriers.json"
        if known.exists():
            self.carriers = json.loads(known.read_text("utf-8"))
        self.servers.mosquitto.set_users({**self.carriers, BRIDGE_USER: bridge}, ACL)
        self.servers.postgres.create_database(self.database_name)
        ports = free_ports(len(PROCESSES) + 1)
        self.http_port = ports.pop()
        self._write(dict(zip(PROCESSES, ports, strict=True)))
        for name, port in zip(PROCESSES, ports, strict=True):
            child = Child(
                name, log=self.folder / f"{name}.log", pid_file=self.folder / f"{name}.pid"
            )
            shown = self.console_url if name == "console" else ""
            self.processes[name] = Process(name, self.config, port, child, shown=shown)

    def _secret(self, name: str, content: str = "") -> str:
        file = self.folder / name
        if content or not file.exists():
            hand_over(file, (content or secrets.token_urlsafe(24)) + "\n", None)
        return file.read_text("utf-8").strip()

    def _key(self, name: str) -> Path:
        """The file of a signing key, made once."""
        file = self.folder / name
        if not file.exists():
            key = base64.b64encode(secrets.token_bytes(32)).decode()
            hand_over(file, f"whsec_{key}\n", None)
        return file

    def _write(self, ports: dict[str, int]) -> None:
        at = self.servers.addresses
        sections: dict[str, object] = {
            "kafka": {"bootstrap": at.kafka_bootstrap},
            "database": json.loads(self.database().model_dump_json()),
            "mqtt": {
                "host": at.mqtt_host,
                "port": at.mqtt_port,
                "username": BRIDGE_USER,
                "password_file": str(self.folder / "bridge-password"),
            },
        }
        key = {"secret_file": str(self.folder / "handover-key")}
        own: dict[str, dict[str, object]] = {
            "alert": {"handover": key},
            "bridge": {"handover": {"url": f"http://{HOST}:{ports['alert']}", **key}},
        }
        for name, port in ports.items():
            http = {"http": {"host": HOST, "port": port}}
            sections[name] = {**http, **own.get(name, {}), **self.overrides.get(name, {})}
        if "console" in ports:
            sections["console"] = {**dict(sections["console"]), "port": self.http_port}  # type: ignore[call-overload]
        servers = (self.servers.kafka, self.servers.postgres, self.servers.mosquitto)
        volumes = {one.folder.name: str(one.folder) for one in servers}
        sections["watch_disks"] = {"volumes": volumes, **self.overrides.get("watch_disks", {})}
        with self.config.open("w", encoding="utf-8") as file:
            YAML(typ="safe").dump(sections, file)

    def command(self, *words: str) -> str:
        """Run a `sizao` command to its end. Raises ServerError with what it said."""
        done = subprocess.run(
            [sys.executable, "-m", "sizao.cli", *words, "--config", str(self.config)],
            env=environment(),
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=COMMAND_S,
            check=False,
        )
        if done.returncode:
            raise ServerError(f"sizao {words[0]} ended with {done.returncode}: {done.stderr}")
        return done.stdout

    def register(self, change: Change, cause: str) -> int:
        """Merge a change into the registry; new carriers get their password."""

        async def merge() -> int:
            async with connected(self.database(), "register") as connection:
                await connection.execute("SET statement_timeout = '180s'")  # 400,000 in the bench
                return await apply(connection, change, cause=cause, partitions=PARTITIONS_DEFAULT)

        generation = asyncio.run(merge())
        for carrier in change.carriers:
            self.carriers.setdefault(carrier.name, secrets.token_urlsafe(16))
        self.register_users()
        return generation

    def register_users(self) -> None:
        """Tell the broker of the carriers and their passwords; it starts again."""
        hand_over(self.folder / "carriers.json", json.dumps(self.carriers), None)
        bridge = (self.folder / "bridge-password").read_text("utf-8").strip()
        self.servers.mosquitto.set_users({**self.carriers, BRIDGE_USER: bridge}, ACL)

    def settle(self, district: District) -> int:
        """Register a district: places and carriers, then devices."""
        self.register(district.change("places"), "demo district")
        return self.register(district.change("devices"), "demo district")

    def add_responder(self, name: str, area: str, url: str, min_tier: str) -> str:
        """Import one webhook responder; returns its signing secret."""
        secret_file = self._key(f"responder-{name}-key")
        file = self.folder / f"responder-{name}.yaml"
        with file.open("w", encoding="utf-8") as out:
            channel = {"channel": "webhook", "url": url, "secret_file": str(secret_file)}
            responder = {
                "name": name,
                "area": area,
                "kinds": ["fire"],
                "min_tier": min_tier,
                "channels": [channel],
            }
            YAML(typ="safe").dump({"responders": [responder]}, out)
        self.command("responders", "import", str(file))
        return secret_file.read_text("utf-8").strip()

    def start(self) -> None:
        """Start all five; wait until each is ready."""
        for process in self.processes.values():
            process.launch()
        for process in self.processes.values():
            process.wait()

    def stop(self) -> None:
        """Stop all five, speakers first."""
        for process in reversed(self.processes.values()):
            process.stop()


@dataclass
class Devices:
    """The simulated district as a `Part`: 2,000 devices, a fire, and the station's receiver."""

    stack: Stack
    district: District
    receiver_port: int
    child: Child
    name: str = "devices"

    @property
    def log(self) -> Path:
        """Where its words go."""
        return self.child.log

    @property
    def address(self) -> str:
        """Where its responder takes pages; what came stands in its log."""
        return f"http://{HOST}:{self.receiver_port}/page"

    @property
    def pid(self) -> int:
        """Process id now, 0 if it does not run."""
        return self.child.pid

    def wait(self) -> None:
        """It connects by itself, and again when the broker was away."""

    def launch(self) -> None:
        """Start and do not wait."""
        mosquitto = self.stack.servers.mosquitto
        command = [sys.executable, "-m", "deploy.local.simulate", str(self.stack.folder)]
        command += [str(mosquitto.port), str(self.receiver_port)]
        self.child.start(command, user=None, env=environment(), cwd=self.stack.folder)

    def stop(self) -> None:
        """Stop in an orderly way."""
        self.child.terminate()


def parts(servers: Servers, folder: Path) -> Sequence[Sequence[Process | Devices]]:
    """For `make up`, one group after the other is ready: our five processes, then a district with a
    fire. (Devices that spoke before the bridge had a session spoke to nobody: no room had a
    baseline, and the fire was first seen at 54 degC.)
    """
    stack = Stack(servers, folder / "sizao")
    stack.configure()
    stack.command("migrate")
    district = build()
    stack.settle(district)
    (port,) = free_ports(1)
    stack.add_responder("station", "demo", f"http://{HOST}:{port}/page", "alarm")
    child = Child(
        "devices", log=stack.folder / "devices.log", pid_file=stack.folder / "devices.pid"
    )
    return [list(stack.processes.values()), [Devices(stack, district, port, child)]]
