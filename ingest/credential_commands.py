"""`sizao devices credentials`: passwords of carriers made, handed over, and put in force."""

from __future__ import annotations

import asyncio
import fcntl
import os
import secrets
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, NamedTuple

import typer

from ingest import credentials as rules
from ingest import sheet
from ingest.credentials import GONE, SALT_BYTES, Broker
from ingest.register_commands import Config, progress, view_now
from ingest.settings import CredentialSettings
from sizao import clock
from sizao.errors import BadInput, Permanent
from sizao.registry.model import View
from sizao.settings import load

credentials = typer.Typer(help="Passwords of carriers, for the broker and for who installs them.")

_AGAIN_S = 0.02
_MINUTE_US = 60_000_000


class Files(NamedTuple):
    """Mosquitto's files, and beside them what waits."""

    passwords: Path
    waiting: Path
    acl: Path


@credentials.callback(invoke_without_command=True)
def make_command(
    context: typer.Context,
    carrier: Annotated[list[str] | None, typer.Option(help="new password for this one")] = None,
    hand_over: Annotated[
        Path | None, typer.Option(help="CSV for the installer, must not exist yet")
    ] = None,
    missing: Annotated[bool, typer.Option("--missing", help="who has none")] = False,  # noqa: FBT002 - typer reads the default from here
    every: Annotated[bool, typer.Option("--all", help="everybody, anew")] = False,  # noqa: FBT002 - typer reads the default from here
    prune: Annotated[bool, typer.Option("--prune", help="remove who may have none")] = False,  # noqa: FBT002 - typer reads the default from here
    config: Annotated[Path | None, typer.Option("--config", envvar="SIZAO_CONFIG")] = None,
) -> None:
    """Make passwords, and remove those of revoked and retired carriers; `reload` brings them in."""
    if context.invoked_subcommand is not None:
        return
    makes = [bool(carrier), missing, every].count(True)
    if config is None or makes > 1 or not (makes or prune) or bool(makes) is not bool(hand_over):
        raise BadInput(
            "expected --config, one of --carrier NAME (more than once), --missing, --all with"
            " --hand-over FILE, or --prune"
        )
    settings = load(config, CredentialSettings)
    if hand_over is not None and hand_over.exists():
        raise BadInput(f"{hand_over}: is there already, expected a new name")
    with progress() as step, _held(config, settings) as files:
        step("reading the registry")
        view, bridge = view_now(config), settings.mqtt.username
        live, pending = _entries(files)
        users = {name for name, word in (live | pending).items() if word != GONE}
        gone = rules.surplus(view, users, bridge) if prune else []
        names = rules.chosen(view, users, bridge, carrier or [], missing=missing) if makes else []
        passwords = {name: rules.draw_password(secrets.token_bytes) for name in names}
        step(f"hashing {len(passwords):,} passwords")
        changes = dict.fromkeys(gone, GONE)
        for name, password in passwords.items():
            changes[name] = rules.hashed(password, secrets.token_bytes(SALT_BYTES))
        step("writing")
        if hand_over is not None and passwords:
            _hand_over(hand_over, view, passwords, settings)
        if changes:
            with _undone(hand_over if passwords else None):
                _replace(files.waiting, rules.waiting(pending | changes), like=files.passwords)
    _tell(hand_over, len(passwords), len(gone), prune=prune)


def _tell(hand_over: Path | None, made: int, gone: int, *, prune: bool) -> None:
    parts = []
    if hand_over is not None:
        parts.append(f"{made:,} new passwords" + (f" in {hand_over}" if made else ""))
    if prune:
        parts.append(f"{gone:,} removed")
    end = "; they wait for `sizao devices credentials reload`" if made or gone else ""
    typer.echo(", ".join(parts) + end)


@credentials.command("reload")
def reload_command(
    config: Config,
    now: Annotated[bool, typer.Option("--now", help="whatever the time is")] = False,  # noqa: FBT002 - typer reads the default from here
) -> None:
    """Put in force what waits, in the window of `mqtt_files` or at once; says the stall first.

    A broker that does not come back gets its old files again.
    """
    settings = load(config, CredentialSettings)
    with _held(config, settings) as files:
        live, pending = _entries(files)
        rights = _read(files.acl)
        mounts = settings.mqtt_files.mount_points
        fresh = rules.access(rights, settings.mqtt.username, mounts)
        for rule in rules.foreign_patterns(rights, settings.mqtt.username, mounts):
            typer.echo(f"{files.acl}: kept, though it gives every device more: {rule}", err=True)
        if not files.waiting.exists() and fresh == rights:
            typer.echo("nothing waits")
            return
        after = {name for name, word in (live | pending).items() if word != GONE}
        if settings.mqtt.username not in after:
            text = f"has no entry of {settings.mqtt.username}, expected the bridge's own"
            raise BadInput(f"{files.passwords}: {text} (mosquitto_passwd): it would be shut out")
        typer.echo(_prediction(live, pending, len(after), rights_too=fresh != rights))
        wait_min = _opens_in_min(settings)
        if wait_min and not now:
            when = f"{wait_min // 60} h {wait_min % 60} min"
            typer.echo(f"waits for {settings.mqtt_files.window}, in {when}; --now does not")
            return
        _put_in_force(files, settings, fresh)


def _prediction(
    live: dict[str, str], pending: dict[str, str], users: int, *, rights_too: bool
) -> str:
    new = sum(word != GONE and name not in live for name, word in pending.items())
    gone = sum(word == GONE and name in live for name, word in pending.items())
    changed = sum(word != GONE and name in live for name, word in pending.items())
    away_s, back_s = rules.stall(users)
    return (
        f"{new:,} users new, {changed:,} changed, {gone:,} gone"
        f"{', access rules changed' if rights_too else ''}; {users:,} lines: the broker is away for"
        f" about {away_s:.1f} s, then its clients come back, for {back_s:.1f} s if all are here"
    )


def _opens_in_min(settings: CredentialSettings) -> int:
    section = settings.mqtt_files
    minute = clock.now_us() // _MINUTE_US + section.utc_offset_min
    return rules.opens_in(rules.window(section.window), minute % 1440)


def _put_in_force(files: Files, settings: CredentialSettings, rights: bytes) -> None:
    """Both files, then the broker; what waits is forgotten once it serves. Raises Permanent."""
    if not files.waiting.exists():  # so that a kill from here on leaves something that waits
        _replace(files.waiting, b"", like=files.passwords)
    old = {path: _read(path) for path in (files.passwords, files.acl)}
    pending = rules.entries(_read(files.waiting))
    _replace(files.passwords, rules.merged(old[files.passwords], pending), like=files.passwords)
    _replace(files.acl, rights, like=files.passwords)
    began_s = clock.monotonic_s()
    wrong = _reload(settings)
    if not wrong:
        files.waiting.unlink()
        typer.echo(f"in force: the broker answered after {clock.monotonic_s() - began_s:.1f} s")
        return
    for path, raw in old.items():
        _replace(path, raw, like=files.passwords)
    again = _reload(settings) or "with its old files it is back"
    raise Permanent(f"{wrong}; {again}; what waited still waits in {files.waiting}")


def _reload(settings: CredentialSettings) -> str:
    """Run the operator's command and wait for the broker; what went wrong, or ""."""
    section = settings.mqtt_files
    words = " ".join(section.reload)
    until_s = clock.monotonic_s() + section.reload_s
    try:
        done = subprocess.run(  # noqa: S603 - the operator's own command, no shell
            section.reload, capture_output=True, check=False, timeout=section.reload_s
        )
    except OSError as error:
        return f"{words}: {error.strerror}"
    except subprocess.TimeoutExpired:
        return f"{words}: not done within {section.reload_s} s"
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip()
        return f"{words}: exit code {done.returncode} {said}".rstrip()
    left_s = until_s - clock.monotonic_s()
    if asyncio.run(_served(settings.mqtt.host, settings.mqtt.port, left_s)):
        return ""
    return f"{words}: the broker did not answer within {section.reload_s} s"


async def _served(host: str, port: int, deadline_s: float) -> bool:
    """Whether somebody listens there. A broker that cannot read its files does not start."""
    try:
        async with asyncio.timeout(deadline_s):
            while True:
                try:
                    _, writer = await asyncio.open_connection(host, port)
                except OSError:
                    await asyncio.sleep(_AGAIN_S)
                else:
                    writer.close()
                    return True
    except TimeoutError:
        return False


# -- files ---------------------------------------------------------------------------------------


@contextmanager
def _held(config: Path, settings: CredentialSettings) -> Iterator[Files]:
    """The files, for one command at a time. Raises BadInput when they are not there, or held."""
    section = settings.mqtt_files
    passwords, acl = (config.parent / one for one in (section.passwords, section.acl))
    if not passwords.is_file():
        text = f"no such file, expected one that has {settings.mqtt.username} (mosquitto_passwd)"
        raise BadInput(f"{config}: mqtt_files.passwords: {passwords}: {text}")
    passwords = passwords.resolve()  # a link stays one
    folder = os.open(passwords.parent, os.O_RDONLY)  # the files themselves are replaced
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield Files(passwords, passwords.with_name(f"{passwords.name}.next"), acl.resolve())
    except BlockingIOError:
        raise BadInput(f"{passwords}: another command is at it, expected to be alone") from None
    finally:
        os.close(folder)


def _entries(files: Files) -> tuple[dict[str, str], dict[str, str]]:
    """Of the broker, and of what waits."""
    return rules.entries(_read(files.passwords)), rules.entries(_read(files.waiting))


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""


def _replace(path: Path, raw: bytes, *, like: Path) -> None:
    """Write a file whole or not at all. Owner and mode stay, or are those of `like`.

    The broker reads it as its own user. Raises Permanent (disk full).
    """
    model = (path if path.exists() else like).stat()
    fresh = path.with_name(f"{path.name}.new")
    fresh.unlink(missing_ok=True)
    handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with _undone(fresh):
        with os.fdopen(handle, "wb") as file:
            os.fchown(handle, model.st_uid, model.st_gid)
            os.fchmod(handle, model.st_mode & 0o777)
            file.write(raw)
            file.flush()
            os.fsync(handle)
        fresh.replace(path)


@contextmanager
def _undone(path: Path | None) -> Iterator[None]:
    """If what follows fails, the file is removed: half of it, or passwords that nobody knows of.

    An OSError becomes Permanent.
    """
    try:
        yield
    except BaseException as error:
        if path is not None:
            path.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise Permanent(f"{path}: cannot be written: {error.strerror}") from error
        raise


def _hand_over(
    path: Path, view: View, passwords: dict[str, str], settings: CredentialSettings
) -> None:
    """For this user's eyes alone. Raises BadInput when the file is there already."""
    section = settings.mqtt_files
    broker = Broker(
        section.device_host or settings.mqtt.host, section.device_port or settings.mqtt.port
    )
    columns = rules.hand_over(view, passwords, broker)
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise BadInput(f"{path}: is there already, expected a new name") from None
    with _undone(path), os.fdopen(handle, "wb") as file:
        file.write(sheet.csv_of(columns))
        file.flush()
        os.fsync(handle)
