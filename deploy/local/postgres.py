"""PostgreSQL, privately: loopback only, passwords by scram, every commit on the disk."""

from __future__ import annotations

import secrets
import shutil
import signal
from pathlib import Path

from deploy.local import gates
from deploy.local.failure import ServerError
from deploy.local.places import (
    HOST,
    data_folder,
    fill,
    find_program,
    hand_over,
    read_template,
    server_user,
)
from deploy.local.ports import Ports
from deploy.local.process import Child
from deploy.local.tool import run_tool

READY_S = 60.0  # replaying max_wal_size after a crash takes some seconds
GRACE_S = 20.0
SUPERUSER = "sizao"


def installed() -> tuple[Path, ...]:
    """Folders of the installed versions, newest first (Debian keeps them off PATH)."""
    found = Path("/usr/lib/postgresql").glob("*/bin")
    versions = [(int(path.parent.name), path) for path in found if path.parent.name.isdigit()]
    return tuple(path for _, path in sorted(versions, reverse=True))


class Postgres:
    """One private PostgreSQL. Port, password and data stay over stop, kill and start."""

    def __init__(self, folder: Path, port: int | None = None) -> None:
        self.folder = folder
        self.user = server_user("postgres")
        self.data = folder / "data"
        self._ports = Ports(folder, ("PORT",), (port,))
        folder.mkdir(parents=True, exist_ok=True)
        self.child = Child(
            "PostgreSQL",
            log=folder / "postgres.log",
            pid_file=folder / "pid",
            # Fast shutdown: SIGTERM would wait until the last client has gone by itself.
            stop_signal=signal.SIGINT,
            grace_s=GRACE_S,
        )

    @property
    def host(self) -> str:
        """Address it listens on."""
        return HOST

    @property
    def port(self) -> int:
        """Port it listens on; chosen at the first start if none was given."""
        return self._ports["PORT"]

    @property
    def superuser(self) -> str:
        """Name of the account that owns everything."""
        return SUPERUSER

    @property
    def password(self) -> str:
        """Random, made with the data, readable to whoever may read the run's folder as us."""
        return (self.folder / "password").read_text("ascii").strip()

    def dsn(self, dbname: str = "postgres") -> str:
        """Return a connection address for database `dbname`; it holds the password."""
        return f"postgresql://{SUPERUSER}:{self.password}@{HOST}:{self.port}/{dbname}"

    def create_database(self, name: str) -> str:
        """Create database `name`, unless it is there, and return its address."""
        gates.make_database(self.dsn(), name)
        return self.dsn(name)

    def drop_database(self, name: str) -> None:
        """Drop database `name` if it is there, whoever is still connected."""
        gates.drop_database(self.dsn(), name)

    def start(self) -> None:
        """Start, making a new cluster if there is none, and wait until it answers queries."""
        program = find_program("postgres", installed(), "postgresql")
        self.child.recover()
        data_folder(self.data, self.user)
        if not (self.folder / "password").exists():
            self._initdb()
        self._ports.start(self.child, lambda: self._launch(program))

    def _launch(self, program: Path) -> None:
        values = {"HOST": HOST, **self._ports.values()}
        config = self.folder / "sizao.conf"
        hand_over(config, fill(read_template("postgres/postgresql.conf"), values), self.user)
        self.child.start(
            [program, "-D", self.data],
            user=self.user,
            env={"LANG": "C.UTF-8", "PATH": "/usr/bin:/bin"},
            cwd=self.data,
        )
        self.child.wait_ready(lambda: gates.postgres_gate(self.dsn()), READY_S)

    def _initdb(self) -> None:
        """Make a cluster. The password file is written last: it marks the cluster as whole.

        What a run that was killed on the way has left never held data, and is made anew.
        """
        password = self.folder / "password.new"
        if any(self.data.iterdir()):
            if not password.exists():
                raise ServerError(
                    f"{self.data} holds a cluster whose password is lost",
                    knob=f"remove {self.folder} and start again",
                )
            shutil.rmtree(self.data)
            data_folder(self.data, self.user)
        hand_over(password, secrets.token_urlsafe(24) + "\n", self.user)
        command: list[str | Path] = [find_program("initdb", installed(), "postgresql")]
        command += ["-D", self.data, "-U", SUPERUSER, "--pwfile", password]
        command += ["--auth", "scram-sha-256", "--encoding", "UTF8", "--locale", "C.UTF-8"]
        # A new cluster that a power cut takes is simply made again.
        command += ["--no-sync", "--no-instructions"]
        run_tool(self.user, command, self.folder / "initdb.log", self.data)
        with (self.data / "postgresql.conf").open("a", encoding="utf-8") as own:
            own.write(f"\ninclude '{self.folder / 'sizao.conf'}'\n")
        password.replace(self.folder / "password")

    def stop(self) -> None:
        """Stop at once, in an orderly way; clients are sent away."""
        self.child.terminate()

    def kill(self) -> None:
        """End it as a crash would (SIGKILL to the postmaster); its backends end with it."""
        self.child.kill()

    def restart(self) -> None:
        """Stop if it runs, and start on the same port and data."""
        self.stop()
        self.start()
