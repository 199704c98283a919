"""docs/device-types.md, word for word: from an unknown payload to its first reading."""

import re
import shlex
import subprocess
import sys
import threading
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from fix_bridge_rig import PASSWORD, Publisher
from fix_register import AREAS
from ruamel.yaml import YAML

from deploy.local.patience import wait_for
from deploy.local.stack import environment
from ingest.device_types.layout import Layout, faults
from sizao import clock

PAGE = (Path(__file__).parents[2] / "docs" / "device-types.md").read_text("utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
GATEWAY, TOPIC = "acme-gw", "up/acme-gw/alarm"
LIVE_S = 10.0
COMMAND_S = 60.0


def blocks(kind):
    return [text for found, text in BLOCKS if found == kind]


class Walk:
    """Somebody who follows the page in a folder of their own."""

    def __init__(self, stack):
        self.stack = stack

    def shell(self):
        """Run the next block; what its lines said."""
        return [self.run(line) for line in next(self._shells).splitlines()]

    _shells = iter(())

    def begin(self):
        self._shells = iter(blocks("sh"))

    def run(self, line):
        name, *words = shlex.split(line)
        assert name == "sizao"
        done = subprocess.run(
            [sys.executable, "-m", "sizao.cli", *words],
            env=environment() | {"SIZAO_CONFIG": str(self.stack.config)},
            cwd=self.stack.folder,
            capture_output=True,
            text=True,
            timeout=COMMAND_S,
            check=False,
        )
        assert done.returncode == 0, (line, done.stdout, done.stderr)
        return done.stdout

    def write(self, name, text):
        path = self.stack.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")


@pytest.fixture
def walk(stack):
    """A district that knows its places, a broker that knows the gateway, and nothing else."""
    stack.carriers[GATEWAY] = PASSWORD
    stack.register_users()
    (stack.folder / "areas.csv").write_text(AREAS, "utf-8")
    stack.command("areas", "import", "areas.csv", "--crs", "wgs84")
    for name in ("archive", "bridge"):
        stack.processes[name].start()
    return Walk(stack)


@contextmanager
def speaking(stack, payload):
    """The gateway, saying the same twice a second."""
    mosquitto, over = stack.servers.mosquitto, threading.Event()
    publisher = Publisher(mosquitto.host, mosquitto.port, GATEWAY)

    def speak():
        number = 0
        while not over.wait(0.5):
            number += 1
            publisher.publish(TOPIC, payload, number)

    thread = threading.Thread(target=speak)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        publisher.close()


def test_from_an_unknown_payload_to_the_first_reading(walk):
    stack, (payload,) = walk.stack, blocks("json")
    file = "types/acme/smoke.yaml"
    walk.begin()
    with speaking(stack, payload.strip()):
        (said,) = walk.shell()  # tap, before anybody has registered anything
        assert "A-0017" in said
        walk.write("sample.json", payload)
        walk.shell()  # new
        skeleton = (stack.folder / file).read_text("utf-8")
        assert "acme.smoke" in skeleton
        walk.run(f"sizao device-type check {file}")
        walk.write(file, blocks("yaml")[0])
        checked, tested, planned, applied = walk.shell()
        assert checked
        assert tested
        assert "acme.smoke" in planned
        assert "acme.smoke" in applied
        walk.write("devices.csv", blocks("csv")[0])
        began_s = clock.monotonic_s()
        said = walk.shell()  # import, tap
        assert "1 added" in said[0]
        assert "21.5" in said[1]
        found = {}

        def there():
            with psycopg.connect(stack.database().conninfo("test")) as connection:
                rows = connection.execute(blocks("sql")[0].encode()).fetchall()
            found.update({quantity: round(value, 4) for _, quantity, value, _ in rows})
            return found

        assert wait_for(there, LIVE_S - (clock.monotonic_s() - began_s)), "not in ten seconds"
    _, applied, listed = walk.shell()
    assert "29 new" in applied
    assert "acme.smoke" in listed
    assert "generic.heat" in listed
    assert found == {
        "fire_state": 0.0,
        "smoke_od_per_m": 0.012,
        "temperature_c": 21.5,
        "battery_pct": 93.0,
    }


def test_the_layout_of_the_page_is_one():
    (said,) = (text for text in blocks("yaml") if text.startswith("format: binary"))
    layout = Layout.model_validate(YAML(typ="safe", pure=True).load(said)["layout"])
    assert list(faults(layout)) == []
