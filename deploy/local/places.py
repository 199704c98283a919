"""Where a run keeps its files, and as whom its servers run."""

from __future__ import annotations

import fcntl
import hashlib
import os
import pwd
import random
import shutil
import socket
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from deploy.local.failure import ServerError
from deploy.local.identity import identify, stop_below

REPOSITORY = Path(__file__).resolve().parents[2]
BUILD = REPOSITORY / "build"
ELSEWHERE = Path("/var/tmp")  # noqa: S108 - survives a reboot; ownership is checked in `_claim`
HOST = "127.0.0.1"
# Below the kernel's range for outgoing connections (32768 on Linux): a port in that range can be
# taken by any client's connection while its server is down, and the server could not come back.
PORT_FIRST, PORT_LAST = 20_000, 32_000
PORT_TRIES = 200
ACCOUNTS = ("mosquitto", "postgres", "sizao-kafka")  # as whom the servers run when root starts them


@dataclass(frozen=True, kw_only=True)
class User:
    """The unprivileged account one server runs as."""

    name: str
    uid: int
    gid: int


def server_user(name: str) -> User | None:
    """Return the account `name` if we are root, None if the server runs as ourselves."""
    if os.geteuid() != 0:
        return None
    try:
        found = pwd.getpwnam(name)
    except KeyError:
        raise ServerError(
            f"there is no user {name!r}, and no server of ours runs as root",
            knob="run deploy/local/setup.sh run",
        ) from None
    return User(name=found.pw_name, uid=found.pw_uid, gid=found.pw_gid)


def _allows(path: Path, user: User, want: int) -> bool:
    """Whether the mode bits of `path` give `user` the rights `want` (r=4, w=2, x=1)."""
    status = path.stat()
    if status.st_uid == user.uid:
        bits = status.st_mode >> 6
    elif status.st_gid == user.gid:
        bits = status.st_mode >> 3
    else:
        bits = status.st_mode
    return bits & want == want


def reachable(path: Path, user: User | None) -> bool:
    """Whether `user` can walk down to `path`; folders that do not exist yet are made by us."""
    if user is None:
        return True
    return all(_allows(folder, user, 1) for folder in (path, *path.parents) if folder.exists())


def readable(folder: Path, user: User | None) -> bool:
    """Whether `user` can reach `folder` and read every file in it."""
    if user is None:
        return True
    return (
        reachable(folder, user)
        and _allows(folder, user, 4)
        and all(_allows(file, user, 4) for file in folder.iterdir())
    )


def _claim(folder: Path) -> Path:
    """Make a folder that servers may walk through; refuse one that somebody else put there."""
    folder.mkdir(parents=True, exist_ok=True)
    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid():
        raise ServerError(f"{folder} is not a folder of ours", knob="remove it, or set SIZAO_RUN")
    folder.chmod(0o755)
    return folder


def private_place(name: str) -> Path:
    """Return the run folder `name`, made if missing.

    build/run/NAME in the repository, or, when a server's user cannot get there (a repository
    under /root), a folder in /var/tmp whose name is stable for this repository. The variable
    SIZAO_RUN puts it anywhere else.
    """
    accounts = [server_user(account) for account in ACCOUNTS]
    chosen = os.environ.get("SIZAO_RUN")
    if chosen:
        home = Path(chosen).resolve()
    elif all(reachable(BUILD / "run", account) for account in accounts):
        home = _claim(BUILD / "run")
    else:
        home = _claim(elsewhere())
    place = _claim(home / name)
    for account in accounts:
        if not reachable(place, account):
            raise ServerError(
                f"{place} cannot be reached by the user {account.name if account else ''}",
                knob="give every folder above it the right to be walked (x), or set SIZAO_RUN",
            )
    return place


def elsewhere() -> Path:
    """Where runs go when the repository cannot be reached: stable for this repository."""
    mark = hashlib.sha256(str(REPOSITORY).encode()).hexdigest()[:8]
    return ELSEWHERE / f"sizao-{mark}"


def run_places(prefix: str = "") -> Iterator[Path]:
    """Run folders named `prefix`...; a folder without a lock is not a run's."""
    for home in (BUILD / "run", elsewhere()):
        yield from (file.parent for file in sorted(home.glob(f"{prefix}*/lock")))


def in_use(place: Path) -> bool:
    """Whether a run holds the lock, or the process runs after which the folder is named.

    A run of the tests (`test-PID-...`) may be between two starts, and hold no lock just now.
    """
    named = place.name.split("-")[1:2]
    if named and named[0].isdigit() and identify(int(named[0])):
        return True
    try:
        RunLock(place).release()
    except ServerError:
        return True
    return False


def sweep(prefix: str = "") -> None:
    """Remove the run folders named `prefix`... that nobody uses, and what still runs in them."""
    for place in run_places(prefix):
        if not in_use(place):
            remove_run(place)


def remove_run(folder: Path) -> None:
    """Remove a run's folder. Whoever is named in it is stopped first: without its pid file nobody
    would ever find it again.
    """
    stop_below(folder)
    shutil.rmtree(folder, ignore_errors=True)


def data_folder(path: Path, user: User | None) -> Path:
    """Make a folder for one server's data: only its user gets in."""
    path.mkdir(parents=True, exist_ok=True)
    if user:
        os.chown(path, user.uid, user.gid)
    path.chmod(0o700)
    return path


def hand_over(file: Path, content: str, user: User | None) -> None:
    """Write a file for one server's user alone, whole or not at all."""
    new = file.with_name(file.name + ".new")
    new.unlink(missing_ok=True)
    fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with os.fdopen(fd, "w", encoding="utf-8") as sink:
        sink.write(content)
        if user:
            os.fchown(sink.fileno(), user.uid, user.gid)
    new.replace(file)


def read_template(name: str) -> str:
    """Read a server's configuration from deploy/, e.g. "mosquitto/mosquitto.conf"."""
    return (REPOSITORY / "deploy" / name).read_text("utf-8")


def fill(template: str, values: dict[str, object]) -> str:
    """Replace each @NAME@; a name left over is a fault of the template."""
    for name, value in values.items():
        template = template.replace(f"@{name}@", str(value))
    left = [word for word in template.split() if word.startswith("@") and word.endswith("@")]
    if left:
        raise ServerError(f"configuration template has no value for {left[0]}")
    return template


def find_program(name: str, folders: tuple[Path, ...] = (), package: str = "") -> Path:
    """Find a server's program on PATH, in `folders`, or where Debian hides such programs."""
    path = os.pathsep.join(
        [*map(str, folders), os.environ.get("PATH", ""), "/usr/local/sbin", "/usr/sbin", "/sbin"]
    )
    found = shutil.which(name, path=path)
    if not found:
        raise ServerError(
            f"the program {name!r} is not installed",
            knob=f"run deploy/local/setup.sh run (package {package or name})",
        )
    return Path(found)


def free_ports(count: int) -> list[int]:
    """Return ports of the loopback that were free a moment ago, all different."""
    held: list[socket.socket] = []
    try:
        for port in random.SystemRandom().sample(range(PORT_FIRST, PORT_LAST), PORT_TRIES):
            probe = socket.socket()
            held.append(probe)
            try:
                probe.bind((HOST, port))
            except OSError:
                held.pop().close()
            if len(held) == count:
                return [one.getsockname()[1] for one in held]
    finally:
        for one in held:
            one.close()
    raise ServerError(f"no {count} free ports among {PORT_FIRST} to {PORT_LAST} on {HOST}")


class RunLock:
    """One run at a time in a folder. The kernel lifts the lock when its holder is gone."""

    def __init__(self, folder: Path) -> None:
        """Take the lock. Raises ServerError if another process has it."""
        self._file = (folder / "lock").open("a+", encoding="ascii")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._file.seek(0)
            holder = self._file.read().strip() or "unknown"
            self._file.close()
            raise ServerError(
                f"another run uses {folder} (process {holder})", knob="make down, or wait for it"
            ) from None
        self._file.truncate(0)
        self._file.write(f"{os.getpid()}\n")
        self._file.flush()

    def release(self) -> None:
        """Let the next run have the folder."""
        self._file.close()
