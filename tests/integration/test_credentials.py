"""Credentials as the command writes them, before a real Mosquitto: who gets in, and how far."""

import fcntl
import os
import resource
from contextlib import ExitStack, closing

import pytest
from fix_broker import ACL, BOSS, BRIDGE, WORDS, Client, configured, handed_over
from fix_register import AREAS
from paho.mqtt.enums import MQTTProtocolVersion

from sizao import clock
from sizao.errors import Permanent

COUNT = 20
NAMES = [f"d{number:02}" for number in range(COUNT)]
NOT_AUTHORIZED = 0x87


@pytest.fixture
def district(office, broker):
    """Twenty devices, each with a connection of its own."""
    office.run("areas", "import", office.file("areas.csv", AREAS), "--crs", "wgs84")
    rows = "".join(f"{name},{name},generic.smoke_heat,b2\n" for name in NAMES)
    file = office.file("devices.csv", f"key,carrier,type,area\n{rows}")
    office.run("devices", "import", file, "--create-carriers")
    return office


def credentials(office, *words):
    return office.run("devices", "credentials", *words)


def handed(office, *words):
    """Passwords made and in force; the installer's rows."""
    file = office.folder / "new.csv"
    credentials(office, *words, "--hand-over", file)
    credentials(office, "reload", "--now")
    return handed_over(file)


def test_only_the_own_topic_gets_through(district, broker):
    rows = handed(district, "--missing")
    assert list(rows) == NAMES
    own = {name: f"up/{name}/alarm/{name}" for name in NAMES}
    assert {name: row["publish"] for name, row in rows.items()} == own
    for version in (MQTTProtocolVersion.MQTTv311, MQTTProtocolVersion.MQTTv5):
        with ExitStack() as stack:

            def client(name, password, of=version, opened=stack):
                return opened.enter_context(closing(Client(broker, name, password, of)))

            bridge, boss = (client(name, WORDS[name]) for name in (BRIDGE, BOSS))
            bridge.subscribe("#")
            boss.subscribe("down/#")
            devices = {name: client(name, rows[name]["password"]) for name in NAMES}
            publish_everywhere(devices, own, five=version == MQTTProtocolVersion.MQTTv5)
            # A publisher's words are routed in order, and all of these are acknowledged.
            devices[NAMES[0]].publish(own[NAMES[0]], "end")
            bridge.wait(lambda heard=bridge: (own[NAMES[0]], "end") in heard.came)
            assert sorted(bridge.came[:-1]) == sorted((own[name], name) for name in NAMES)
            hear_only_their_own(devices, boss)


def publish_everywhere(devices, own, *, five):
    for name, device in devices.items():
        for topic in [*own.values(), f"down/{name}/x", "down/x", "up", "$SYS/x"]:
            device.publish(topic, name)
    for name, device in devices.items():
        denied = {topic for topic, code in device.published().items() if code == NOT_AUTHORIZED}
        if five:  # MQTT 3.1.1 has no way to say so
            assert denied == device.published().keys() - {own[name]}
        else:
            assert not denied


def hear_only_their_own(devices, boss):
    """Whatever they subscribe to: 2.0 takes every filter, and asks for the right at each word."""
    for name, device in devices.items():
        device.subscribe("#", "up/#", "down/#", f"down/{name}/#", "$SYS/#", "+/+/+")
    assert not boss.came
    for text in ("word", "end"):
        for name in devices:
            boss.publish(f"down/{name}/x", text)
    for name, device in devices.items():
        topic = f"down/{name}/x"
        device.wait(lambda one=device, of=topic: (of, "end") in one.came)
        assert {topic for topic, _ in device.came} == {topic}


def test_a_new_password_is_in_force_after_the_reload_and_the_rest_stays(district, broker):
    files = broker.folder / "passwords", broker.folder / "acl"
    before = [file.read_text() for file in files]
    owner = files[0].stat()
    file = district.folder / "one.csv"
    said = credentials(district, "--carrier", "d01", "--hand-over", file)
    assert said == "1 new passwords in one.csv; they wait for `sizao devices credentials reload`"
    assert [file.read_text() for file in files] == before
    word = handed_over(file)["d01"]["password"]
    assert Client(broker, "d01", word).refused
    said = credentials(district, "reload", "--now").splitlines()
    assert said[0].startswith("1 users new, 0 changed, 0 gone, access rules changed; 4 lines:")
    assert "the broker is away for about 0.3 s" in said[0]
    assert said[1].startswith("in force: the broker answered after ")
    with closing(Client(broker, "d01", word)) as device:
        assert not device.refused
    assert files[0].read_text().startswith(before[0])
    assert files[1].read_text().startswith(ACL)
    now = files[0].stat()
    assert (now.st_uid, now.st_gid, now.st_mode) == (owner.st_uid, owner.st_gid, owner.st_mode)
    assert word not in "".join(file.read_text() for file in files)
    assert credentials(district, "reload", "--now") == "nothing waits"


def test_revoked_and_retired_carriers_lose_theirs(district, broker):
    rows = handed(district, "--all")
    district.run("devices", "revoke", "d01", "--reason", "lost")
    district.run("devices", "retire", "d02", "--carrier", "d02")
    assert credentials(district, "--prune").startswith("2 removed")
    said = credentials(district, "reload", "--now")
    assert said.startswith("0 users new, 0 changed, 2 gone; 21 lines")
    words = {name: rows[name]["password"] for name in ("d00", "d01", "d02")} | WORDS
    with ExitStack() as stack:
        clients = {
            name: stack.enter_context(closing(Client(broker, name, word)))
            for name, word in words.items()
        }
        assert [name for name, one in clients.items() if one.refused] == ["d01", "d02"]
    again = district.folder / "again.csv"
    assert credentials(district, "--missing", "--hand-over", again) == "0 new passwords"
    assert not again.exists()
    refusal = district.refused(
        *("devices", "credentials", "--carrier", "d01", "--carrier", "d02", "--hand-over", again)
    )
    assert [line.split(",")[0] for line in refusal] == [
        "carrier 'd01': is revoked",
        "carrier 'd02': has no device that is not retired",
    ]


def test_a_reload_waits_for_its_window_and_gives_the_old_files_back(district, broker, monkeypatch):
    files = broker.folder / "passwords", broker.folder / "acl"
    before = [file.read_bytes() for file in files]
    named = {"passwords": str(files[0]), "acl": str(files[1])}
    credentials(district, "--missing", "--hand-over", district.folder / "new.csv")
    monkeypatch.setattr(clock, "now_us", lambda: utc_us("17:59"))  # 01:59 in China
    said = credentials(district, "reload").splitlines()
    assert said[0].startswith("20 users new")
    assert said[1] == "waits for 02:00-04:00, in 0 h 1 min; --now does not"
    monkeypatch.setattr(clock, "now_us", lambda: utc_us("18:00"))
    configured(district, broker, **named, reload=["false"])
    with pytest.raises(Permanent, match="false: exit code 1; false: exit code 1; what waited"):
        credentials(district, "reload")
    assert [file.read_bytes() for file in files] == before
    configured(district, broker, **named)
    assert "in force" in credentials(district, "reload")
    assert [file.read_bytes() for file in files] != before
    assert not (broker.folder / "passwords.next").exists()


def test_a_reload_that_would_shut_the_bridge_out_is_refused(district, broker):
    credentials(district, "--missing", "--hand-over", district.folder / "new.csv")
    passwords = broker.folder / "passwords"
    others = [line for line in passwords.read_text().splitlines() if not line.startswith(BRIDGE)]
    passwords.write_text("".join(f"{line}\n" for line in others))
    before = passwords.read_bytes()
    (line,) = district.refused("devices", "credentials", "reload", "--now")
    assert "passwords: has no entry of bridge, expected the bridge's own" in line
    assert passwords.read_bytes() == before


@pytest.mark.parametrize("space", [200, 2_200])
def test_a_full_disk_leaves_nothing_behind(district, broker, space):
    """Full while the installer's file is written, and while the broker's is."""
    file = district.folder / "new.csv"
    before = {one.name for one in broker.folder.iterdir()}
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (space, limits[1]))
    try:
        with pytest.raises(Permanent, match="cannot be written: File too large"):
            credentials(district, "--missing", "--hand-over", file)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not file.exists()
    assert {one.name for one in broker.folder.iterdir()} <= before | {"mosquitto.db"}
    assert credentials(district, "--missing", "--hand-over", file).startswith("20 new passwords")


def utc_us(time):
    hours, minutes = time.split(":")
    return (int(hours) * 60 + int(minutes)) * 60_000_000


def test_what_cannot_be_is_refused_and_changes_nothing(district, broker):
    file = district.file("there.csv", "mine")
    run = district.refused
    command = "devices", "credentials"
    assert run(*command, "--all", "--hand-over", file) == [
        "there.csv: is there already, expected a new name"
    ]
    assert file.read_text() == "mine"
    for words in ([], ["--all"], ["--prune", "--hand-over", "x.csv"], ["--all", "--missing"]):
        assert run(*command, *words)[0].startswith("expected --config, one of --carrier NAME")
    folder = os.open(broker.folder, os.O_RDONLY)
    fcntl.flock(folder, fcntl.LOCK_EX)
    (line,) = run(*command, "--prune")
    assert line.endswith("another command is at it, expected to be alone")
    os.close(folder)
    configured(district, broker, passwords="none", acl="acl")
    (line,) = run(*command, "--prune")
    assert line.startswith("sizao.yaml: mqtt_files.passwords: none: no such file")
    configured(district, broker, passwords="p", acl="a", window="2 to 4")
    (line,) = run(*command, "--prune")
    assert "mqtt_files.window: got '2 to 4', expected a time of day as 02:00-04:00" in line
    district.configure()
    (line,) = run(*command, "--prune")
    assert "mqtt_files" in line
    assert not (broker.folder / "passwords.next").exists()
