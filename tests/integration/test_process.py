"""One server process under its guard: refused, interrupted, stubborn, left behind."""

import os
import secrets
import signal
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from deploy.local import places
from deploy.local.__main__ import clean
from deploy.local.failure import ServerError
from deploy.local.identity import identify, read_identity, write_identity
from deploy.local.patience import wait_for
from deploy.local.places import User, reachable
from deploy.local.process import Child

GONE_S = 25.0


def parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def test_foreign_process_with_the_same_id_is_left_alone(tmp_path: Path) -> None:
    stranger = subprocess.Popen(["sleep", "60"])
    try:
        real = identify(stranger.pid)
        child = Child("nobody", log=tmp_path / "log", pid_file=tmp_path / "pid")
        for wrong in (replace(real, start_ticks=real.start_ticks - 1), replace(real, boot="other")):
            write_identity(child.pid_file, wrong)
            assert not child.recover()
            assert read_identity(child.pid_file) is None
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def test_program_that_ends_at_once_is_reported_with_its_words(tmp_path: Path) -> None:
    child = Child("Broken", log=tmp_path / "log", pid_file=tmp_path / "pid")
    child.start(["sh", "-c", "echo no such thing; exit 3"], user=None, env=os.environ, cwd=tmp_path)
    with pytest.raises(ServerError, match="no such thing"):
        child.wait_ready(lambda: "nothing yet", 10)
    with pytest.raises(ServerError, match="could not be started"):
        child.start([tmp_path / "missing"], user=None, env={}, cwd=tmp_path)


def test_stubborn_program_is_killed_after_its_grace(tmp_path: Path) -> None:
    child = Child("Stubborn", log=tmp_path / "log", pid_file=tmp_path / "pid", grace_s=0.3)
    child.start(
        ["sh", "-c", "trap '' TERM; echo on; while :; do sleep 0.1; done"],
        user=None,
        env=os.environ,
        cwd=tmp_path,
    )
    child.wait_ready(lambda: None if "on" in child.log.read_text() else "not on", 10)
    assert child.terminate(), "SIGKILL was needed"
    assert not child.alive()


def test_killed_guard_does_not_make_its_server_unstoppable(tmp_path: Path) -> None:
    child = Child("Sleeper", log=tmp_path / "log", pid_file=tmp_path / "pid")
    child.start(["sleep", "60"], user=None, env=os.environ, cwd=tmp_path)
    guard = identify(parent(child.pid))
    guard.stop(signal.SIGKILL, 5)
    server = identify(child.pid)
    assert server.alive()
    assert not child.terminate(), "an orderly stop is enough"
    assert not server.alive()


def test_secrets_of_a_server_are_on_no_command_line(tmp_path: Path) -> None:
    child = Child("Sleeper", log=tmp_path / "log", pid_file=tmp_path / "pid")
    child.start(["sleep", "60"], user=None, env={**os.environ, "WORD": "hush"}, cwd=tmp_path)
    assert b"hush" not in Path(f"/proc/{parent(child.pid)}/cmdline").read_bytes()
    child.terminate()


def test_a_folder_the_servers_cannot_reach_is_seen(tmp_path: Path) -> None:
    shut = tmp_path / "shut"
    shut.mkdir(mode=0o700)
    stranger = User(name="stranger", uid=os.geteuid() + 4242, gid=os.getegid() + 4242)
    assert not reachable(shut / "not" / "there", stranger)
    assert reachable(Path("/usr"), stranger)


def named(word: str) -> list[int]:
    """Processes with a word on their command line."""
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = file.read_bytes().split(b"\0")
        except OSError:  # it has ended
            continue
        if word.encode() in words:
            found.append(int(file.parent.name))
    return found


@pytest.mark.parametrize("caught", [True, False], ids=["Ctrl-C", "the guard says nothing in time"])
def test_a_start_that_is_given_up_leaves_no_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, caught: bool
) -> None:
    guards = []

    def report(child: Child, _fd: int) -> str:
        """The guard has been spawned, and will find nobody who listens."""
        guards.append(child._guard)
        if caught:
            raise KeyboardInterrupt
        return ""

    monkeypatch.setattr(Child, "_report", report)
    child = Child("Sleeper", log=tmp_path / "log", pid_file=tmp_path / "pid")
    mark = f"60.{secrets.randbelow(10**9):09}"
    try:
        with pytest.raises(KeyboardInterrupt if caught else ServerError):
            child.start(["sleep", mark], user=None, env=os.environ, cwd=tmp_path)
        child.terminate()
        guards[0].wait(GONE_S)
        assert named(mark) == []
    finally:
        for pid in named(mark):
            os.kill(pid, signal.SIGKILL)


def test_an_interrupted_start_is_forgotten_by_terminate(tmp_path: Path) -> None:
    child = Child("Sleeper", log=tmp_path / "log", pid_file=tmp_path / "pid")
    child.start(["sleep", "60"], user=None, env=os.environ, cwd=tmp_path)
    server, child._server = identify(child.pid), None  # as if it had not been taken down yet
    assert not child.terminate()
    assert server.wait_gone(GONE_S)


def test_an_answer_is_not_believed_when_our_own_server_has_ended(tmp_path: Path) -> None:
    child = Child("Broken", log=tmp_path / "log", pid_file=tmp_path / "pid")
    child.start(["true"], user=None, env=os.environ, cwd=tmp_path)
    assert wait_for(lambda: not child.alive(), GONE_S)
    with pytest.raises(ServerError, match="ended while starting"):
        child.wait_ready(lambda: None, 10)


def left_behind(place: Path) -> tuple[subprocess.Popen[bytes], Path]:
    """A run's folder, and a process of that run whose guard was killed with the run."""
    folder = place / "sizao"
    folder.mkdir(parents=True)
    (place / "lock").touch()
    orphan = subprocess.Popen(["sleep", "60"])
    write_identity(folder / "bridge.pid", identify(orphan.pid))
    return orphan, place


@pytest.mark.parametrize("remove", ["sweep", "remove_run"])
def test_who_still_runs_in_a_folder_is_stopped_before_it_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, remove: str
) -> None:
    monkeypatch.setattr(places, "BUILD", tmp_path)
    monkeypatch.setattr(places, "ELSEWHERE", tmp_path / "elsewhere")
    orphan, place = left_behind(tmp_path / "run" / "x")
    try:
        places.sweep("x") if remove == "sweep" else places.remove_run(place)
        assert not place.exists()
        assert identify(orphan.pid) is None
    finally:
        orphan.kill()
        orphan.wait()


def test_a_folder_in_use_is_not_swept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "BUILD", tmp_path)
    monkeypatch.setattr(places, "ELSEWHERE", tmp_path / "elsewhere")
    orphan, locked = left_behind(tmp_path / "run" / "demo")
    lock = places.RunLock(locked)
    other, between = left_behind(tmp_path / "run" / f"test-{os.getpid()}-own")
    try:
        places.sweep()
        with pytest.raises(ServerError, match=f"in use: {locked}, {between}"):
            clean()
        assert orphan.poll() is other.poll() is None
        assert locked.exists()
        assert between.exists()
    finally:
        lock.release()
        for one in (orphan, other):
            one.kill()
            one.wait()
