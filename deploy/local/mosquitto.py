"""Mosquitto, privately: no anonymous access, loopback only, a session outlives kill -9."""

from __future__ import annotations

import secrets
import signal
from collections.abc import Mapping
from pathlib import Path

from deploy.local.certificate import certificate
from deploy.local.failure import ServerError
from deploy.local.gates import mqtt_gate
from deploy.local.patience import wait_for
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
from ingest.credentials import SALT_BYTES, hashed

READY_S = 20.0
SAVE_S = 10.0  # the persistence file must appear so soon after SIGUSR1
GATE_USER = "sizao-gate"


def hash_password(password: str) -> str:
    """Return the entry for Mosquitto's password file."""
    return hashed(password, secrets.token_bytes(SALT_BYTES))


class Mosquitto:
    """One private Mosquitto. Port, users and data stay over stop, kill and start."""

    def __init__(self, folder: Path, port: int | None = None) -> None:
        self.folder = folder
        self.user = server_user("mosquitto")
        self.data = folder / "data"
        self._ports = Ports(folder, ("PORT", "TLS_PORT"), (port, None))
        self._tls = False
        self._users: dict[str, str] = {}
        self._acl = ""
        self._gate_password = ""
        self.extra = ""
        """Lines of its configuration behind the shipped ones, e.g. a listener with TLS."""
        folder.mkdir(parents=True, exist_ok=True)
        self.child = Child("Mosquitto", log=folder / "mosquitto.log", pid_file=folder / "pid")

    @property
    def host(self) -> str:
        """Address it listens on."""
        return HOST

    @property
    def port(self) -> int:
        """Port it listens on; chosen at the first start if none was given."""
        return self._ports["PORT"]

    @property
    def tls_port(self) -> int:
        """Port of its TLS listener, after `secure`."""
        return self._ports["TLS_PORT"]

    @property
    def authority(self) -> Path:
        """Whom its clients must trust for TLS, after `secure`."""
        return self.folder / "tls" / "certificate.pem"

    def secure(self) -> None:
        """Listen with TLS too from the next start on."""
        certificate(self.folder / "tls", HOST, self.user)
        self._tls = True

    def set_users(self, users: Mapping[str, str], acl: str) -> None:
        """Replace all users (name to password) and the access rules.

        `acl` is the text of Mosquitto's acl_file; whatever it does not allow is refused. A running
        broker is started again: its clients have to come back, sessions and queues stay.

        Not by SIGHUP. 2.0.11 then disconnects every offline session whose password it cannot check
        again (changed, or restored from disk, where passwords are not kept), puts it into its list
        of expiries a second time, and frees only one of the two when the client returns: it crashed
        seconds later, twice, with what it had acknowledged (session_expiry__remove).
        """
        for name in users:
            if not name or ":" in name or "\n" in name or name == GATE_USER:
                raise ServerError(f"{name!r} cannot be a user's name in Mosquitto")
        self._users, self._acl = dict(users), acl
        if self.child.alive():
            self.restart()

    def _write_users(self) -> None:
        """Write both files. The gate's new password works only once they are loaded."""
        self._gate_password = secrets.token_urlsafe(24)
        users = {GATE_USER: self._gate_password, **self._users}
        lines = "".join(f"{name}:{hash_password(word)}\n" for name, word in users.items())
        hand_over(self.folder / "passwords", lines, self.user)
        hand_over(self.folder / "acl", self._acl.rstrip("\n") + "\n", self.user)

    def start(self) -> None:
        """Start and wait until clients are served and sessions can be saved."""
        program = find_program("mosquitto")
        self.child.recover()
        data_folder(self.data, self.user)
        self._write_users()
        self._ports.start(self.child, lambda: self._launch(program))
        try:
            self._prove_saving()
        except ServerError:
            self.child.kill()
            raise

    def relaunch(self) -> None:
        """Stop and start on the files as they lie there, whoever wrote them last."""
        program = find_program("mosquitto")
        self.stop()
        self._ports.start(self.child, lambda: self._launch(program))

    def _launch(self, program: Path) -> None:
        """Write the configuration for the present port, start, wait for a CONNACK."""
        config = self.folder / "mosquitto.conf"
        values = {"HOST": HOST, "DATA": self.data, **self._ports.values()}
        values |= {"PASSWORDS": self.folder / "passwords", "ACL": self.folder / "acl"}
        template = read_template("mosquitto/mosquitto.conf")
        if self._tls:
            template += read_template("mosquitto/tls.conf")
            values["TLS"] = self.folder / "tls"
        hand_over(config, f"{fill(template, values)}\n{self.extra}\n", self.user)
        self.child.start([program, "-c", config], user=self.user, env={}, cwd=self.data)
        self.child.wait_ready(self._connected, READY_S)

    def _connected(self) -> str | None:
        return mqtt_gate(HOST, self.port, GATE_USER, self._gate_password)

    def _saved(self) -> tuple[int, int] | None:
        """Which persistence file there is: it is replaced whole each time."""
        try:
            status = (self.data / "mosquitto.db").stat()
        except FileNotFoundError:
            return None
        return status.st_ino, status.st_mtime_ns

    def _prove_saving(self) -> None:
        """Without rights to its folder the broker runs on happily and merely logs that."""
        before = self._saved()
        self.child.signal(signal.SIGUSR1)
        if not wait_for(lambda: self._saved() not in {None, before}, SAVE_S):
            raise ServerError(
                "Mosquitto cannot save its sessions: it would lose what it has acknowledged.\n"
                f"{self.child.tail()}\n",
                where=str(self.child.log),
                knob=f"its user must be able to write {self.data}, and the disk have room",
            )

    def stop(self) -> None:
        """Stop; it saves everything before it ends."""
        self.child.terminate()

    def kill(self) -> None:
        """End it as a crash would (SIGKILL)."""
        self.child.kill()

    def restart(self) -> None:
        """Stop if it runs, and start on the same port and data."""
        self.stop()
        self.start()
