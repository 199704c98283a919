"""Every process is strict at its first start: nothing is connected, nothing is kept."""

import json

import pytest
from fix_bridge import HEAT

from alerting.commands import alert_command, console_command
from detectors.commands import detect_command
from ingest.commands import archive_command, bridge_command
from sizao.errors import BadInput

COMMANDS = {
    "bridge": bridge_command,
    "archive": archive_command,
    "alert": alert_command,
    "console": console_command,
    "detect": lambda config: detect_command(config, shard=""),
}


@pytest.fixture
def config(tmp_path, monkeypatch):
    def started(name, *_):
        pytest.fail(f"{name} started")

    monkeypatch.setattr("sizao.service.run", started)
    monkeypatch.setattr("ingest.archive.run", started)
    monkeypatch.delenv("SIZAO_STATE", raising=False)
    return tmp_path / "sizao.yaml"


def faults(command, config, text):
    config.write_text(text)
    with pytest.raises(BadInput) as refusal:
        command(config)
    return str(refusal.value).replace(str(config), "FILE").splitlines()


@pytest.mark.parametrize("name", COMMANDS)
def test_a_password_file_that_is_not_there_is_told_with_its_line(name, config):
    told = faults(COMMANDS[name], config, "# first\ndatabase:\n  password_file: nowhere\n")
    assert [line.split(": nowhere")[0] for line in told] == ["FILE:3: database.password_file"]
    told = faults(COMMANDS[name], config, "databse: {}\n")
    assert told[0].startswith("FILE:1: databse: got an unknown section")


def test_all_that_is_wrong_for_a_bridge_is_told_at_once(config):
    text = "mqtt:\n  password_file: a\n  tls:\n    ca_file: b\nbridge:\n  device_types: c\n"
    told = faults(bridge_command, config, text)
    assert [line.split(": ")[:2] for line in told] == [
        ["FILE:2", "mqtt.password_file"],
        ["FILE:4", "mqtt.tls.ca_file"],
        ["FILE:6", "bridge.device_types"],
    ]


def test_a_broken_device_type_says_itself_where(config, tmp_path):
    folder = tmp_path / "types" / "acme"
    folder.mkdir(parents=True)
    (folder / "heat.yaml").write_text(HEAT.replace("unit: degC", "unit: C"))
    settings = json.dumps({"bridge": {"device_types": str(tmp_path / "types")}})
    (told,) = [one for one in faults(bridge_command, config, settings) if "got 'C'" in one]
    assert told.startswith(f"{folder / 'heat.yaml'}:")
