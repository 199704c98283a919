"""deploy/local/setup.sh on machines that are not there: every program it calls is a fake.

The script is copied into a house of the test's own, its paths of the system lead into a root of
the test's own, and the fakes write into a file what they were called with.
"""

import os
import re
import signal
import subprocess
from pathlib import Path

import pytest

from deploy.local.patience import wait_for
from deploy.local.places import REPOSITORY

READY_S = 20
CALLED = 'echo "${0##*/} $*" >>"$MACHINE/calls"\n'
PYTHON = """case "$*" in
  *version_info*) [ -e "$MACHINE/old-${0##*/}" ] || echo "$0" ;;
  *ensurepip*) [ -e "$MACHINE/venv" ] ;;
  "-m venv "*)
    mkdir -p "$3/bin"
    cp "$MACHINE/bin/nothing" "$3/bin/python"
    cp "$MACHINE/bin/uv" "$3/bin/uv" ;;
esac
"""
APT = """case "$*" in
  *install*)
    [ ! -e "$MACHINE/hang" ] || { touch "$MACHINE/hangs"; sleep 60; }
    for word; do case "$word" in
      *-venv) touch "$MACHINE/venv" ;;
      mosquitto)
        touch "$MACHINE/dpkg/mosquitto"
        cp "$MACHINE/bin/nothing" "$MACHINE/usr/sbin/mosquitto" ;;
      postgresql*)
        touch "$MACHINE/dpkg/postgresql-common"
        mkdir -p "$MACHINE/etc/postgresql-common" ;;
    esac; done
    case "$*" in *" postgresql "* | *" postgresql")
      mkdir -p "$MACHINE/usr/lib/postgresql/15/bin"
      cp "$MACHINE/bin/initdb15" "$MACHINE/usr/lib/postgresql/15/bin/initdb" ;;
    esac ;;
esac
"""
FAKES = {
    "nothing": "",
    "apt-get": APT,
    "apt-cache": 'cat "$MACHINE/offers"\n',
    "dpkg": "",
    "dpkg-query": '[ -e "$MACHINE/dpkg/${!#}" ] && printf installed\n',
    "getent": "",
    "id": "echo 0\n",
    "initdb14": 'echo "initdb (PostgreSQL) 14.9"\n',
    "initdb15": 'echo "initdb (PostgreSQL) 15.14"\n',
    "java": """{
  [ ! -e "$MACHINE/picked" ] || echo "Picked up JAVA_TOOL_OPTIONS: -Dhome=\\"11\\""
  echo 'openjdk version "17.0.15" 2025-04-15'
} >&2
""",
    "mvn": 'for word; do case "$word" in *Directory=*) mkdir -p "${word#*=}" ;; esac; done\n',
    "python3": PYTHON,
    "python3.12": PYTHON,
    "python3.13": "exit 1\n",
    "python3.14": "exit 1\n",
    "systemctl": "",
    "uv": '[ "$1" != venv ] || "$MACHINE/bin/python3" -m venv .venv\n',
}


class Machine:
    """A bare Debian 12 with Python 3.11 and Java 17 as the script sees it."""

    def __init__(self, folder: Path):
        self.root = folder / "machine"
        self.house = folder / "house"
        for name in ("bin", "dpkg", "usr/sbin", "usr/lib/postgresql", "usr/lib/jvm", "etc"):
            (self.root / name).mkdir(parents=True)
        for name, body in FAKES.items():
            program = self.root / "bin" / name
            program.write_text(f"#!/bin/bash\n{CALLED}{body}")
            program.chmod(0o755)
        self.offers("15+248+deb12u1")
        (self.root / "etc/os-release").write_text("ID=debian\nVERSION_ID=12\n")
        self.policy = self.root / "usr/sbin/policy-rc.d"
        for name in ("deploy/local/uv.txt", "deploy/kafka/pom.xml", "pyproject.toml"):
            self._copy(name, (REPOSITORY / name).read_text())
        self._copy("requirements/run.txt", "")
        script = (REPOSITORY / "deploy/local/setup.sh").read_text()
        for outside in ("/usr/", "/etc/", "/sbin"):
            script = re.sub(rf"(?<![\w}}]){outside}", f"{self.root}{outside}", script)
        self.script = self._copy("deploy/local/setup.sh", script)

    def _copy(self, name: str, content: str) -> Path:
        file = self.house / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)
        return file

    def offers(self, version: str) -> None:
        """What apt would install as postgresql."""
        words = f"postgresql:\n  Installed: (none)\n  Candidate: {version}\n  Version table:\n"
        (self.root / "offers").write_text(words)

    def has(self, *names: str) -> None:
        """Mark a package, or one of the fakes' moods."""
        for name in names:
            (self.root / name).touch()

    def start(self) -> subprocess.Popen[str]:
        return subprocess.Popen(
            ["bash", str(self.script), "run"],
            env={"PATH": f"{self.root}/bin:/usr/bin:/bin", "MACHINE": str(self.root), "LANG": "C"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def run(self) -> tuple[int, str]:
        with self.start() as running:
            words, _ = running.communicate(timeout=READY_S)
        return running.returncode, words

    def kill_while_installing(self) -> None:
        """As a power cut would: nothing of it gets to any trap."""
        self.has("hang")
        with self.start() as running:
            assert wait_for((self.root / "hangs").exists, READY_S)
            os.killpg(running.pid, signal.SIGKILL)
        (self.root / "hang").unlink()

    def called(self, program: str) -> list[str]:
        """Arguments of each call of a program."""
        lines = (self.root / "calls").read_text().splitlines()
        return [
            line.removeprefix(f"{program} ") for line in lines if line.startswith(f"{program} ")
        ]

    def disabled(self) -> list[str]:
        return [words.removeprefix("disable ") for words in self.called("systemctl")]


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_a_bare_machine_gets_what_is_missing_and_no_service(machine: Machine) -> None:
    code, words = machine.run()
    assert code == 0, words
    assert "will install, by apt-get: python3-venv mosquitto postgresql\n" in words
    assert machine.disabled() == ["mosquitto", "postgresql"]
    assert not machine.policy.exists()
    calls = (machine.root / "calls").read_text()
    assert machine.run() == (0, "")
    assert "apt-get" not in (machine.root / "calls").read_text().removeprefix(calls)


def test_a_service_that_was_there_before_is_not_disabled(machine: Machine) -> None:
    machine.has("dpkg/postgresql-common")
    older = machine.root / "usr/lib/postgresql/14/bin"
    older.mkdir(parents=True)
    (machine.root / "bin/initdb14").rename(older / "initdb")
    code, words = machine.run()
    assert code == 0, words
    assert "postgresql" in words
    assert machine.disabled() == ["mosquitto"]


def test_an_interrupted_installation_is_put_right_though_nothing_is_missing_now(machine) -> None:
    machine.policy.write_text("#!/bin/sh\n# the administrator's own\n")
    machine.kill_while_installing()
    assert "sizao-setup" in machine.policy.read_text()
    # What apt was about to do, done by hand, or by the end of the interrupted apt itself.
    machine.has("venv", "dpkg/mosquitto", "dpkg/postgresql-common")
    for fake, program in (("nothing", "usr/sbin/mosquitto"), ("initdb15", "bin/initdb")):
        (machine.root / program).write_bytes((machine.root / "bin" / fake).read_bytes())
        (machine.root / program).chmod(0o755)
    code, words = machine.run()
    assert code == 0, words
    assert "putting that right" in words
    assert machine.called("dpkg") == ["--configure -a"]
    assert machine.disabled() == ["mosquitto", "postgresql"]
    assert "administrator" in machine.policy.read_text()
    assert machine.run() == (0, "")


def test_a_policy_that_is_left_over_is_lifted(machine: Machine) -> None:
    assert machine.run()[0] == 0
    machine.policy.write_text("#!/bin/sh\n# sizao-setup: no service starts\nexit 101\n")
    assert machine.run()[0] == 0
    assert not machine.policy.exists()


def test_java_s_options_do_not_hide_its_version(machine: Machine) -> None:
    machine.has("picked")
    code, words = machine.run()
    assert code == 0, words
    assert "jre" not in words


def test_too_old_a_postgresql_is_refused_before_anything_is_installed(machine: Machine) -> None:
    machine.offers("14+238")
    code, words = machine.run()
    assert code == 1
    assert words.splitlines()[-1] == (
        "setup: apt offers PostgreSQL 14+238 here, needed is 15 or newer:"
        " Debian 12, Ubuntu 24.04 or newer"
    )
    assert not any("install" in call for call in machine.called("apt-get"))
    assert not machine.policy.exists()


def test_the_chosen_python_gets_its_own_venv(machine: Machine) -> None:
    machine.has("old-python3")
    code, words = machine.run()
    assert code == 0, words
    assert "will install, by apt-get: python3.12-venv mosquitto" in words
