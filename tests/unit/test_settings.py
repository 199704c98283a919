from pathlib import Path

import pytest
from pydantic import BaseModel, ConfigDict, Field

from sizao import document, settings
from sizao.errors import BadInput


class Kafka(BaseModel):
    model_config = ConfigDict(extra="forbid")

    bootstrap: str = "127.0.0.1:9092"
    retries: int = Field(default=3, ge=0, le=10)


class Topic(BaseModel):
    model_config = ConfigDict(extra="forbid")

    pattern: str
    lane: str


class Tls(BaseModel):
    ca_file: Path | None = None


class Database(BaseModel):
    password_file: str | None = None
    tls: Tls | None = None


class Process(BaseModel):
    model_config = ConfigDict(extra="forbid")

    kafka: Kafka = Kafka()
    database: Database = Database()
    bridge: dict[str, Topic] | None = None


def write(folder, text):
    path = folder / "sizao.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def faults(path, model=Process, environment=None):
    with pytest.raises(BadInput) as refusal:
        settings.load(path, model, environment or {})
    return str(refusal.value).replace(str(path), "FILE").splitlines()


def test_a_file_and_the_environment_make_the_settings(tmp_path):
    path = write(tmp_path, "kafka:\n  retries: 5\nalert:\n  unread: here\n")
    found = settings.load(path, Process, {"SIZAO_KAFKA__BOOTSTRAP": "k:1", "PATH": "x"})
    assert found.kafka == Kafka(bootstrap="k:1", retries=5)


def test_every_fault_is_reported_at_once_with_its_line(tmp_path):
    path = write(tmp_path, "kafka:\n  bootstrp: k:1\n  retries: 11\n")
    assert faults(path) == [
        "FILE:2: kafka.bootstrp: got an unknown key, expected one of bootstrap, retries; nearest: bootstrap",  # noqa: E501
        "FILE:3: kafka.retries: got 11, expected at most 10",
    ]


def test_faults_deep_in_a_map_name_their_line(tmp_path):
    path = write(
        tmp_path, "bridge:\n  a: {pattern: x, lane: y}\n  b:\n    pattern: x\n    lan: y\n"
    )
    assert faults(path) == [
        "FILE:3: bridge.b.lane: got nothing, expected this key",
        "FILE:5: bridge.b.lan: got an unknown key, expected one of lane, pattern; nearest: lane",
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("kafak:\n  retries: 1\n", "FILE:1: kafak: got an unknown section"),
        ("kafka:\n  retries: 1\n  retries: 2\n", "FILE:2: kafka.retries: got it twice, in line 3"),
        ("kafka: [\n", "FILE:1: "),
        ("just a word\n", "FILE:1: (file): got 'just a word', expected sections"),
        ("kafka:\n  retries: yes\n", "FILE:2: kafka.retries: "),  # YAML 1.2: a word, no boolean
    ],
)
def test_a_slip_is_told_with_file_line_and_key(tmp_path, text, expected):
    assert faults(write(tmp_path, text))[0].startswith(expected)


def test_a_missing_or_huge_file_is_bad_input(tmp_path):
    assert "cannot be read" in faults(tmp_path / "none.yaml")[0]
    huge = write(tmp_path, "# " + "x" * document.BYTES_MAX)
    assert "at most" in faults(huge)[0]


def test_the_first_start_is_strict_and_a_restart_runs_on_the_last_good(tmp_path):
    state = tmp_path / "state"
    bad = "kafka:\n  retries: many\n"
    path = write(tmp_path, bad)
    with pytest.raises(BadInput):
        settings.load_or_last_good(path, Process, state)
    write(tmp_path, "kafka:\n  retries: 7\n")
    good, wrong = settings.load_or_last_good(path, Process, state)
    assert (good.kafka.retries, wrong) == (7, "")
    write(tmp_path, bad)
    kept, wrong = settings.load_or_last_good(path, Process, state)
    assert kept.kafka.retries == 7
    assert "kafka.retries" in wrong


def test_a_restart_without_a_change_writes_nothing(tmp_path):
    """A full disk must not stop it."""
    file, state = tmp_path / "sizao.yaml", tmp_path / "state"
    file.write_text("kafka: {retries: 5}\n")
    settings.load_or_last_good(file, Process, state)
    (state / "last-good-settings.new").mkdir()  # whoever writes fails
    assert settings.load_or_last_good(file, Process, state)[0].kafka.retries == 5


ABSENT = "No such file or directory; expected a file that can be read"
NAMES_FILES = "database:\n  password_file: {0}/secret\n  tls:\n    ca_file: {0}/ca\n"


def first_faults(path, state, check=lambda _: []):
    with pytest.raises(BadInput) as refusal:
        settings.load_or_last_good(path, Process, state, check)
    return str(refusal.value).replace(str(path), "FILE").splitlines()


def test_files_that_are_not_there_and_what_the_process_finds_are_told_together(tmp_path):
    path = write(tmp_path, NAMES_FILES.format(tmp_path) + "kafka:\n  retries: 5\n")
    found = [(("kafka", "retries"), "too few"), ((), "types/a.yaml:3: name: wrong")]
    assert first_faults(path, tmp_path / "state", lambda _: found) == [
        f"FILE:2: database.password_file: {tmp_path}/secret: {ABSENT}",
        f"FILE:4: database.tls.ca_file: {tmp_path}/ca: {ABSENT}",
        "FILE:6: kafka.retries: too few",
        "types/a.yaml:3: name: wrong",
    ]


def test_a_failed_first_start_leaves_no_last_good_settings(tmp_path):
    """The second try, with a slip of the pen, ran on settings that had never been in force."""
    state = tmp_path / "state"
    path = write(tmp_path, NAMES_FILES.format(tmp_path))
    first_faults(path, state)
    write(tmp_path, "kafak: {}\n")
    assert first_faults(path, state)[0].startswith("FILE:1: kafak: got an unknown section")
    write(tmp_path, "kafka: {retries: 5}\n")
    assert first_faults(path, state, lambda _: [(("kafka",), "no")]) == ["FILE:1: kafka: no"]
    write(tmp_path, "kafak: {}\n")
    assert first_faults(path, state)[0].startswith("FILE:1: kafak: got an unknown section")


def test_a_change_that_names_a_missing_file_runs_on_the_last_good(tmp_path):
    state, path = tmp_path / "state", write(tmp_path, "kafka: {retries: 5}\n")
    settings.load_or_last_good(path, Process, state)
    write(tmp_path, NAMES_FILES.format(tmp_path))
    kept, wrong = settings.load_or_last_good(path, Process, state)
    assert kept.kafka.retries == 5
    assert "sizao.yaml:2: database.password_file" in wrong
    (tmp_path / "secret").write_text("x")
    (tmp_path / "ca").write_text("x")
    good, wrong = settings.load_or_last_good(path, Process, state)
    assert (good.kafka.retries, wrong) == (3, "")


def test_a_file_that_went_away_stops_no_restart(tmp_path):
    """Whoever needs it says so and waits; the settings are as good as they were."""
    state, path = tmp_path / "state", write(tmp_path, NAMES_FILES.format(tmp_path))
    (tmp_path / "secret").write_text("x")
    (tmp_path / "ca").write_text("x")
    settings.load_or_last_good(path, Process, state)
    (tmp_path / "ca").unlink()
    refuse = [((), "asked although nothing has changed")]
    assert settings.load_or_last_good(path, Process, state, lambda _: refuse)[1] == ""


def test_a_merged_key_is_no_fault_and_a_wrong_one_names_a_line(tmp_path):
    file = tmp_path / "sizao.yaml"
    file.write_text("kafka: &k\n  retries: 5\nbridge:\n  a: {<<: *k, pattern: p, lane: x}\n")
    with pytest.raises(BadInput, match=r"sizao.yaml:4: bridge.a.retries: got an unknown key"):
        settings.load(file, Process, {})


def test_the_environment_does_not_hide_a_section_that_is_none(tmp_path):
    file = tmp_path / "sizao.yaml"
    file.write_text("kafka: 5\n")
    with pytest.raises(BadInput, match=r"sizao.yaml:1: kafka: "):
        settings.load(file, Process, {"SIZAO_KAFKA__RETRIES": "3"})


def test_damaged_last_good_settings_are_not_used(tmp_path):
    state = tmp_path / "state"
    path = write(tmp_path, "kafka:\n  retries: 7\n")
    settings.load_or_last_good(path, Process, state)
    kept = state / "last-good-settings.json"
    kept.write_text(kept.read_text().replace("7", "8", 1))
    write(tmp_path, "kafka:\n  retries: many\n")
    with pytest.raises(BadInput):
        settings.load_or_last_good(path, Process, state)


def test_state_lies_beside_the_settings_file_or_where_it_is_told(monkeypatch):
    config = Path("/etc/sizao/sizao.yaml")
    monkeypatch.delenv("SIZAO_STATE", raising=False)
    assert settings.state_folder(config, "alert") == Path("/etc/sizao/state/alert")
    assert settings.state_folder(config, "alert", Path("own")) == Path("/etc/sizao/own")
    monkeypatch.setenv("SIZAO_STATE", "/var/lib/sizao")
    assert settings.state_folder(config, "alert") == Path("/var/lib/sizao/alert")
    assert settings.state_folder(config, "alert", Path("/srv/x")) == Path("/srv/x")
