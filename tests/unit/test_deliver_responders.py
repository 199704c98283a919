"""Responders' files: every fault with its line, the nearest name, and no secret."""

from __future__ import annotations

import textwrap

import pytest
from fix_alerting import SECRET

from alerting import responders
from sizao.errors import BadInput

AREAS = {"D", "C1", "S1"}
GOOD = """
responders:
  - name: station-1
    area: C1
    kinds: [fire, gas]
    min_tier: early
    channels:
      - {channel: webhook, url: "http://127.0.0.1:1/a", secret_file: key}
      - {channel: webhook, name: second, url: "https://b.example/", secret_file: key}
"""


@pytest.fixture
def read(tmp_path):
    (tmp_path / "key").write_text(SECRET)

    def go(text):
        file = tmp_path / "r.yaml"
        file.write_text(textwrap.dedent(text).lstrip())
        return responders.read(file, AREAS)

    return go


def faults(read, *changes):
    text = GOOD
    for old, new in changes:
        assert old in text
        text = text.replace(old, new, 1)
    with pytest.raises(BadInput) as said:
        read(text)
    return str(said.value).splitlines()


def test_a_good_file(read, tmp_path):
    (one,) = read(GOOD)
    assert one.natures == ["real"]
    assert one.language == "zh"
    assert [way["name"] for way in one.channels] == ["webhook", "second"]
    assert one.channels[0]["secret_file"] == str(tmp_path / "key")


@pytest.mark.parametrize(
    ("old", "new", "line", "said"),
    [
        ("area: C1", "area: C11", 3, "responders.0.area: unknown 'C11'"),
        ("area: C1", "area: C11", 3, "nearest: C1"),
        ("gas]", "gass]", 4, "responders.0.kinds.1: unknown 'gass'"),
        ("gas]", "gass]", 4, "nearest: gas"),
        ("gas]", "offline]", 4, "expected one of co, fire, gas, system, unread"),
        (
            "min_tier: early",
            "min_tier: soon",
            5,
            "got 'soon', expected one of early, alarm, urgent",
        ),
        ("min_tier: early", "min_teir: early", 5, "nearest: min_tier"),
        ("channel: webhook,", "channel: webhok,", 7, "nearest: webhook"),
        ("http://127.0.0.1:1/a", "ftp://a/", 7, "channels.0.url: expected http://host/path"),
        ("http://127.0.0.1:1/a", "http://u:pass@a/", 7, "would end in the database"),
        ("secret_file: key}", "secret_fiel: key}", 7, "nearest: secret_file"),
        ("secret_file: key}", "secret_file: none}", 7, "cannot be read"),
        ("name: second, ", "", 8, "a second channel 'webhook'; give it a name:"),
        ("name: station-1", "name: ''", 2, "responders.0.name"),
        ("name: second", "name: ''", 8, "channels.1.name: got ''"),
        ("name: second", "name: {a: 1}", 8, "channels.1.name: got"),
        ("name: second", f"name: {'x' * 65}", 8, "expected 1 to 64 letters"),
        ("name: second", 'name: "a\\0b"', 8, "channels.1.name: got"),
        ("secret_file: key}", 'secret_file: "a\\0b"}', 7, "cannot be read"),
    ],
)
def test_each_fault_has_its_line_and_the_nearest_name(read, old, new, line, said):
    text = "\n".join(faults(read, (old, new)))
    assert f"r.yaml:{line}: " in text
    assert said in text
    assert SECRET not in text


def test_all_faults_are_told_at_once(read):
    lines = faults(read, ("area: C1", "area: X"), ("gas]", "gass]"), ("http://127", "ftp://127"))
    assert len(lines) == 3


def test_a_name_stands_once(read):
    with pytest.raises(BadInput, match="'station-1' stands twice"):
        read(GOOD + GOOD.replace("responders:\n", ""))


@pytest.mark.parametrize("text", ["", "responders: []", "responders: 5", "a: 1", "[1]"])
def test_what_is_no_file_of_responders(read, text):
    with pytest.raises(BadInput, match=r"r\.yaml:1"):
        read(text)
