"""`sizao device-type new`: whatever it writes is good at once."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from ingest import skeleton
from ingest.check import check
from ingest.commands import app
from ingest.device_types import json_schema
from ingest.device_types.load import load
from ingest.device_types.schema import Format
from ingest.field_names import _NUMBERS, _STATES
from sizao.errors import BadInput
from sizao.units import BY_NAME, conversion

SAMPLE = {
    "imei": "860000000000001",
    "ts": 1772352000123,
    "data": {"temp": 70.5, "RH": 40, "fw": "1.2.0", "humidity": 41, "probes": [1, 2]},
    "smoke_alarm": False,
    "battery_mV": 3012,
    "odd\u2028name": 5,
}


def made(sample=SAMPLE, topic=None):
    text = skeleton.from_sample("acme.x1", json.dumps(sample).encode(), topic)
    assert check([("x1", text)]) == []
    return text, load(text, "x1")


def test_a_sample_gives_the_quantities_that_its_names_tell():
    text, kind = made()
    assert {name: (one.pointer, one.unit) for name, one in kind.quantities.items()} == {
        "temperature_c": ("/data/temp", "degC"),
        "humidity_pct": ("/data/RH", "%"),
        "fire_state": ("/smoke_alarm", "state"),
        "battery_v": ("/battery_mV", "mV"),
    }
    assert (kind.time.pointer, kind.time.format) == ("/ts", "unix_ms")
    assert [(one.pattern, one.lane) for one in kind.topics] == [
        ("up/{carrier}/alarm/{key}", "alarm")
    ]
    assert [(one.quantity, one.value) for one in kind.examples[0].readings] == [
        ("temperature_c", 70.5),
        ("humidity_pct", 40),
        ("fire_state", 0),
        ("battery_v", 3.012),
    ]
    assert text.startswith("# yaml-language-server: $schema=../device-type.schema.json\n")


def test_what_no_name_tells_stays_as_a_comment_with_its_value():
    text, _ = made()
    lines = [line.strip() for line in text.splitlines() if line.startswith("  #   ")]
    assert lines == [
        '#   /imei  "860000000000001"',
        '#   /data/fw  "1.2.0"',
        "#   /data/humidity  41",
        "#   /data/probes  [1, 2]",
        "#   /odd\\U00002028name  5",
    ]


def test_a_sample_without_a_name_that_tells_still_gives_a_good_file():
    text, kind = made({"a": 1, "b": {"c": "x"}})
    assert list(kind.quantities) == ["temperature_c"]
    assert "#   /b/c" in text


def test_a_list_of_names_and_values_and_numbers_as_text():
    pairs = [{"k": "smoke", "v": "0.12"}, {"k": "temp", "v": "21.5"}, {"k": "bat", "v": "n/a"}]
    text, kind = made({"imei": "A-17", "items": pairs, "twice": [{"n": "co", "v": 1}] * 2})
    assert {name: (one.pointer, one.text) for name, one in kind.quantities.items()} == {
        "smoke_od_per_m": ("/items/[k=smoke]/v", True),
        "temperature_c": ("/items/[k=temp]/v", True),
    }
    assert '#   /items/[k=bat]/v  "n/a"' in text
    assert '#   /twice  [{"n": "co", "v": 1}, {"n": "co", "v": 1}]' in text
    assert [round(one.value, 6) for one in kind.examples[0].readings] == [0.012, 21.5]


def test_a_topic_as_it_came_becomes_a_pattern():
    _, kind = made(topic="up/platform/telemetry/860000000000001")
    assert kind.topics[0].pattern == "up/{carrier}/telemetry/{key}"
    assert "fire_state" not in kind.quantities  # it needs a topic of lane alarm
    _, kind = made(topic="up/platform/alarm")
    assert (kind.topics[0].pattern, kind.key) == ("up/{carrier}/alarm", "/imei")
    assert kind.examples[0].readings[0].key in {None, "860000000000001"}


@pytest.mark.parametrize(
    ("sample", "topic", "said"),
    [
        (b"[1]", None, "--sample: got a list, expected one JSON object"),
        (b"{", None, "--sample: got no JSON"),
        (b"{}", "up/a/telemetry", "--topic: got 'up/a/telemetry', expected the device's key"),
        (b"{}", "sensors/a", "--topic: got 'sensors/a', expected up/CARRIER/"),
    ],
)
def test_what_cannot_be_a_sample_is_refused(sample, topic, said):
    with pytest.raises(BadInput) as refusal:
        skeleton.from_sample("acme.x1", sample, topic)
    assert str(refusal.value).startswith(said)


NAMES = st.sampled_from([*_NUMBERS, *_STATES, "ts", "time", "id", "sn", "", "a/b", "[x=1]", "~"])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
    | st.sampled_from([0, 1, 10**400, 1772352000, 1772352000000, "2026-03-01T16:00:00", "alarm"]),
    lambda inner: st.dictionaries(NAMES | st.text(max_size=5), inner, max_size=4)
    | st.lists(inner | st.fixed_dictionaries({"k": NAMES, "v": inner}), max_size=3),
    max_leaves=12,
)  # fmt: skip


@settings(max_examples=60)
@given(st.dictionaries(NAMES | st.text(max_size=5), VALUES, max_size=8), st.booleans())
def test_any_object_gives_a_good_file(sample, ascii_only):
    payload = json.dumps(sample, ensure_ascii=ascii_only).encode()
    text = skeleton.from_sample("acme.x1", payload, None)
    assert check([("x1", text)]) == []
    text.encode()


def test_the_names_tell_quantities_and_units_that_there_are():
    for guess in _NUMBERS.values():
        conversion(guess.unit, BY_NAME[guess.quantity])
    assert all(BY_NAME[name].unit == "state" for name in _STATES.values())


@pytest.mark.parametrize("kind", Format)
def test_every_format_has_a_template_that_is_good_at_once(kind, tmp_path):
    def run(*words):
        return CliRunner().invoke(app, ["device-type", *map(str, words)], catch_exceptions=False)

    done = run("new", "acme.room-1", "--format", kind.value, "--out", tmp_path)
    file = tmp_path / "acme" / "room-1.yaml"
    assert done.exit_code == 0
    assert str(file) in done.stdout
    assert run("check", file).exit_code == 0
    assert load(file.read_text(), "f").format is kind
    assert load(file.read_text(), "f").name == "acme.room-1"
    shown = run("test", file)
    assert (shown.exit_code, "2 of 2 examples come true" in shown.stdout) == (0, True)
    hint = file.read_text().splitlines()[0].removeprefix("# yaml-language-server: $schema=")
    assert (file.parent / hint).read_text() == json_schema.text()
    with pytest.raises(BadInput, match="there already"):
        run("new", "acme.room-1", "--out", tmp_path)


def test_a_template_takes_its_topic(tmp_path):
    words = ["device-type", "new", "acme.x", "--topic", "up/x/alarm/y", "--out", str(tmp_path)]
    assert CliRunner().invoke(app, words).exit_code == 0
    kind = load((tmp_path / "acme" / "x.yaml").read_text(), "f")
    assert [(one.pattern, one.lane) for one in kind.topics] == [
        ("up/{carrier}/alarm/{key}", "alarm")
    ]


def test_a_gateway_s_sample_says_whose_it_is():
    text, kind = made({"who": {"dev": "A-1"}, "state of things": 7}, "up/gw/alarm")
    assert kind.key == "/who/dev"
    assert '"who": {"dev": "dev-1"}' in text  # the example that was made up is somebody's too
