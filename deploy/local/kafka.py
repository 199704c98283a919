"""Apache Kafka, privately: one KRaft node from the jars of deploy/kafka/pom.xml."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import uuid
from base64 import urlsafe_b64encode
from pathlib import Path

from deploy.local.failure import ServerError
from deploy.local.gates import kafka_gate
from deploy.local.places import (
    BUILD,
    HOST,
    REPOSITORY,
    data_folder,
    fill,
    hand_over,
    read_template,
    readable,
    server_user,
)
from deploy.local.ports import Ports
from deploy.local.process import Child
from deploy.local.tool import run_tool

READY_S = 60.0  # 2 s on a free machine, 4 s after kill -9
GRACE_S = 15.0
JAVA_MIN = 17
ACCOUNT = "sizao-kafka"


def find_java() -> Path:
    """Return a Java that is new enough, the one on PATH first."""
    tried = []
    on_path = shutil.which("java")
    candidates = [Path(on_path)] if on_path else []
    candidates += sorted(Path("/usr/lib/jvm").glob("*/bin/java"))
    for candidate in candidates:
        said = subprocess.run(
            [str(candidate), "-version"], capture_output=True, text=True, check=False, timeout=30
        ).stderr
        if (found := re.search(r'version "(\d+)', said)) and int(found[1]) >= JAVA_MIN:
            return candidate
        tried.append(str(candidate))
    raise ServerError(
        f"no Java of at least {JAVA_MIN}" + (f", only {', '.join(tried)}" if tried else ""),
        knob="run deploy/local/setup.sh run (package default-jre-headless)",
    )


# Tests and demos write records of past years. Kafka's first look for expired ones, half a minute
# after its start, took them away in the middle of a test, now and then.
_PRIVATE = "log.initial.task.delay.ms=3600000\n"


class Kafka:
    """One private broker. Ports and data stay over stop, kill and start."""

    def __init__(self, folder: Path, port: int | None = None) -> None:
        self.folder = folder
        self.user = server_user(ACCOUNT)
        self.data = folder / "data"
        self._ports = Ports(folder, ("PORT", "CONTROLLER_PORT"), (port, None))
        folder.mkdir(parents=True, exist_ok=True)
        self.child = Child(
            "Kafka", log=folder / "kafka.log", pid_file=folder / "pid", grace_s=GRACE_S
        )

    @property
    def port(self) -> int:
        """Port of the broker; chosen at the first start if none was given."""
        return self._ports["PORT"]

    @property
    def bootstrap(self) -> str:
        """What a client takes as bootstrap servers."""
        return f"{HOST}:{self.port}"

    def start(self) -> None:
        """Start, formatting new storage, and wait until records can be produced."""
        java = find_java()
        self.child.recover()
        data_folder(self.data, self.user)
        self._ports.start(self.child, lambda: self._launch(java))

    def _launch(self, java: Path) -> None:
        libs = self._libs()
        config = self._configure()
        if not (self.data / "meta.properties").exists():
            self._format(java, libs, config)
        options = self._jvm_options()
        self.child.start(
            [java, *options, "-cp", f"{libs}/*", "kafka.Kafka", config],
            user=self.user,
            env={"LANG": "C.UTF-8", "PATH": "/usr/bin:/bin"},
            cwd=self.data,
        )
        cluster = self._cluster()
        self.child.wait_ready(lambda: kafka_gate(self.bootstrap, cluster), READY_S)

    def _cluster(self) -> str:
        """Id of our cluster, as `_format` gave it to the storage."""
        text = (self.data / "meta.properties").read_text("utf-8")
        found = re.search(r"^cluster\.id=(.+)$", text, re.MULTILINE)
        return found[1].strip() if found else ""

    def _libs(self) -> Path:
        """Return the jars, copied beside the data if the broker's user cannot read ours."""
        libs = BUILD / "kafka" / "libs"
        if not libs.is_dir():
            raise ServerError(f"{libs} is not there", knob="run deploy/local/setup.sh run")
        if readable(libs, self.user):
            return libs
        copies = self.folder.parent.parent / "kafka-libs"
        if sorted(p.name for p in copies.glob("*.jar")) != sorted(
            p.name for p in libs.glob("*.jar")
        ):
            # Under a name of our own first: another run may be doing the same at this moment.
            new = copies.with_name(f"kafka-libs.{os.getpid()}")
            shutil.copytree(libs, new)
            for path in (new, *new.iterdir()):
                path.chmod(0o755 if path.is_dir() else 0o644)
            shutil.rmtree(copies, ignore_errors=True)
            try:
                new.replace(copies)
            except OSError:  # the other one was quicker; its copy is the same
                shutil.rmtree(new)
        return copies

    def _configure(self) -> Path:
        """Write the broker's settings and its logging for the present ports."""
        values = {"HOST": HOST, "DATA": self.data, **self._ports.values()}
        config = self.folder / "server.properties"
        text = fill(read_template("kafka/server.properties"), values) + _PRIVATE
        hand_over(config, text, self.user)
        logging = read_template("kafka/log4j2.properties")
        hand_over(self.folder / "log4j2.properties", logging, self.user)
        return config

    def _jvm_options(self) -> list[str]:
        """Return the JVM's options: the profile, our logging, a temporary folder of its own."""
        lines = (REPOSITORY / "deploy/kafka/jvm.options").read_text("utf-8").splitlines()
        options = [line for line in lines if line.startswith("-")]
        scratch = data_folder(self.folder / "tmp", self.user)
        return [
            *options,
            f"-Djava.io.tmpdir={scratch}",
            f"-Dlog4j2.configurationFile={self.folder / 'log4j2.properties'}",
        ]

    def _format(self, java: Path, libs: Path, config: Path) -> None:
        """Format new storage as a quorum of one."""
        cluster = urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        # StorageTool takes an id with a leading dash for an option.
        cluster = "S" + cluster[1:] if cluster.startswith("-") else cluster
        command: list[str | Path] = [
            java,
            *self._jvm_options(),
            "-cp",
            f"{libs}/*",
            "kafka.tools.StorageTool",
        ]
        command += ["format", "--standalone", "-t", cluster, "-c", config]
        run_tool(self.user, command, self.folder / "format.log", self.data)

    def stop(self) -> None:
        """Stop in an orderly way."""
        self.child.terminate()

    def kill(self) -> None:
        """End it as a crash would (SIGKILL)."""
        self.child.kill()

    def restart(self) -> None:
        """Stop if it runs, and start on the same ports and data."""
        self.stop()
        self.start()
