"""Our processes, each on wires of its own: `bridge-kafka`, `archive-postgres` and so on.

Kafka tells its clients where to go on, so each process has a listener of its own there, which
advertises that process's wire. The test itself talks to every server directly.
"""

from dataclasses import dataclass, field
from pathlib import Path

from chaos.wire import Wire, Wires
from ruamel.yaml import YAML

from deploy.local.kafka import Kafka
from deploy.local.places import HOST, hand_over
from deploy.local.ports import Ports
from deploy.local.servers import Servers
from deploy.local.stack import Stack

ON_KAFKA = ("bridge", "archive", "detect", "alert")
ON_POSTGRES = ("bridge", "archive", "detect", "alert", "console")
PORTS = ("PORT", "CONTROLLER_PORT", *(f"{name.upper()}_PORT" for name in ON_KAFKA))


class WiredKafka(Kafka):
    """A broker with a listener for each process, and the wire before it."""

    def __init__(self, folder: Path, wires: Wires) -> None:
        super().__init__(folder)
        self._ports = Ports(folder, PORTS, (None,) * len(PORTS))
        self.wires = {name: wires.open((HOST, 0)) for name in ON_KAFKA}

    def _configure(self) -> Path:
        """Of two lines for one setting in the file, the later one holds."""
        config = super()._configure()
        ports = self._ports.values()
        own, told, plain = [], [], ["PLAINTEXT:PLAINTEXT", "CONTROLLER:PLAINTEXT"]
        for name, port in (("PLAINTEXT", "PORT"), ("CONTROLLER", "CONTROLLER_PORT")):
            own.append(f"{name}://{HOST}:{ports[port]}")
        told += own
        for name, wire in self.wires.items():
            wire.target = (HOST, int(str(ports[f"{name.upper()}_PORT"])))
            own.append(f"{name.upper()}://{HOST}:{wire.target[1]}")
            told.append(f"{name.upper()}://{HOST}:{wire.port}")
            plain.append(f"{name.upper()}:PLAINTEXT")
        lines = [
            f"listeners={','.join(own)}",
            f"advertised.listeners={','.join(told)}",
            f"listener.security.protocol.map={','.join(plain)}",
        ]
        hand_over(config, config.read_text() + "\n".join(lines) + "\n", self.user)
        return config


class WiredServers(Servers):
    """The three servers and every wire before them."""

    def __init__(self, folder: Path, *, fresh: bool, wires: Wires) -> None:
        super().__init__(folder, fresh=fresh)
        self.kafka = WiredKafka(folder / "kafka", wires)
        self.all = (self.mosquitto, self.kafka, self.postgres)
        self.wires: dict[str, Wire] = {
            "bridge-mosquitto": wires.open((HOST, 0)),
            **{f"{name}-kafka": wire for name, wire in self.kafka.wires.items()},
            **{f"{name}-postgres": wires.open((HOST, 0)) for name in ON_POSTGRES},
        }

    def start(self):
        """Start, and let the wires end where the servers listen."""
        at = super().start()
        for name, wire in self.wires.items():
            if name.endswith("-mosquitto"):
                wire.target = (at.mqtt_host, at.mqtt_port)
            elif name.endswith("-postgres"):
                wire.target = (at.postgres_host, at.postgres_port)
        return at

    def mend(self) -> None:
        """All wires whole."""
        for wire in self.wires.values():
            wire.mend()


@dataclass
class WiredStack(Stack):
    """A stack whose processes go by their wires; a settings file for each."""

    servers: WiredServers = field()

    def configure(self) -> None:
        """As ever, and a settings file for each process beside that of the commands."""
        super().configure()
        for name, process in self.processes.items():
            process.config = self.folder / f"{name}.yaml"
            self.settle_config(name)

    def settle_config(self, name: str, **section: object) -> None:
        """Write a process's settings file; `section` goes into its own section."""
        wires = self.servers.wires
        sections = YAML(typ="safe").load(self.config)
        sections["database"]["port"] = wires[f"{name}-postgres"].port
        if name in ON_KAFKA:
            sections["kafka"]["bootstrap"] = f"{HOST}:{wires[f'{name}-kafka'].port}"
        if name == "bridge":
            sections["mqtt"]["port"] = wires["bridge-mosquitto"].port
        sections[name] |= section
        with (self.folder / f"{name}.yaml").open("w", encoding="utf-8") as file:
            YAML(typ="safe").dump(sections, file)
