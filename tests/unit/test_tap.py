"""What a tap listens to, what of a message is its device's, and what a slow terminal misses."""

import pytest
from fix_bridge import BATCH, HEAT, SMOKE_HEAT, Device, message, small
from typer.testing import CliRunner

from ingest import explain, tap
from ingest.commands import app
from sizao.errors import BadInput
from sizao.units import Lane

PLACE = small(
    Device("h1", HEAT),
    Device("h1", HEAT, carrier="c2"),
    Device("s1", SMOKE_HEAT),
    Device("smoke-17", SMOKE_HEAT, carrier="carrier-7"),
    Device("t1", BATCH, carrier="gw"),
    Device("t2", BATCH, carrier="gw"),
)


def of(name, carrier=""):
    return tap.target(PLACE.view, name, carrier)


def test_a_device_by_its_key_or_with_its_carrier():
    assert of("s1").carrier == "c1"
    assert of("c2/h1") == of("h1", "c2")
    assert of("c2/h1").device == 2


@pytest.mark.parametrize(
    ("name", "carrier", "told"),
    [
        ("h1", "", "under several carriers, expected one of c1/h1, c2/h1"),
        ("smoke-71", "", "unknown device: 'smoke-71'; nearest: smoke-17; one that nobody has"),
        ("t1", "c1", "unknown device: 't1'"),
        ("h1", "carier-7", "unknown carrier: 'carier-7'; nearest: carrier-7"),
    ],
)
def test_what_is_no_device_is_told(name, carrier, told):
    with pytest.raises(BadInput) as refusal:
        of(name, carrier)
    assert told in str(refusal.value)


def test_topics_of_the_device_or_of_its_gateway():
    assert tap.filters_of(PLACE, of("s1")) == ("up/c1/alarm/s1",)
    assert tap.filters_of(PLACE, of("t1")) == ("up/gw/telemetry",)


def test_a_filter_under_which_no_device_speaks_is_refused():
    assert [tap.filter_of(one) for one in ("up/c1/#", "#")] == ["up/c1/#", "#"]
    for bad in ("$SYS/#", "down/c1/#", "up/c1#"):
        with pytest.raises(BadInput, match="--topic"):
            tap.filter_of(bad)


def test_either_a_device_or_a_topic(tmp_path):
    for words in ([], ["h1", "--topic", "#"]):
        done = CliRunner().invoke(app, ["tap", *words, "--config", str(tmp_path)])
        assert "expected either a DEVICE" in str(done.exception)


def test_a_key_that_is_no_level_of_a_topic_taps_the_carrier():
    place = small(Device("a/b", HEAT))
    assert tap.filters_of(place, tap.target(place.view, "a/b", "")) == ("up/c1/telemetry/+",)


def test_a_device_of_a_broken_type_is_told_why():
    text = HEAT.replace("unit: degC", "unit: C")
    place = small(Device("h1", text.replace("pattern:", "topic:")))
    with pytest.raises(BadInput, match="expected this key"):
        tap.filters_of(place, tap.target(place.view, "h1", ""))
    # With its topics, what it says is shown as it came.
    place = small(Device("h1", text))
    one = tap.target(place.view, "h1", "")
    assert tap.filters_of(place, one) == ("up/c1/telemetry/h1",)
    said = tap.shown(place, message("up/c1/telemetry/h1", "{}"), one)
    assert said.refused == ["broken_type: type.1 (h1)"]


def test_of_a_batch_only_the_devices_own_words():
    said = message("up/gw/telemetry", '{"keys": ["t1", "t2", "x"], "temperatures": [21, "2", 23]}')
    one, two = tap.shown(PLACE, said, of("t1")), tap.shown(PLACE, said, of("t2"))
    assert [words.words for words in one.readings] == [
        "t1 temperature_c 21 degC, 2026-03-01T08:00:00.000Z (no_device_time)"
    ]
    assert one.refused == []
    assert (two.readings, two.refused) == ([], ["wrong_type: temperature_c (t2)"])
    everything = tap.shown(PLACE, said, None)
    assert everything.refused == ["unknown_device: x", "wrong_type: temperature_c (t2)"]


def test_a_batch_that_nobody_can_read_is_everybodys():
    assert tap.shown(PLACE, message("up/gw/telemetry", "["), of("t1")).refused
    assert tap.shown(PLACE, message("up/gw/telemetry", '{"keys": []}'), of("t1")).empty


def test_the_lane_is_that_of_the_topic():
    found = tap.shown(PLACE, message("up/c1/alarm/s1", '{"state": "alarm", "smoke": 1}'), None)
    assert [words.state for words in found.readings if words.state] == ["alarm"]
    assert tap.lane_of(PLACE, b"up/c9/alarm/none") is Lane.ALARM
    assert tap.lane_of(PLACE, b"up/c9/x") is Lane.TELEMETRY


def test_a_file_judges_instead_of_the_registry():
    said = message("up/c1/telemetry/h1", '{"temp": 50}')
    assert tap.shown(PLACE, said, of("c1/h1")).refused == ["missing_field: temperature_c (h1)"]
    text = HEAT.replace("pointer: /temperature", "pointer: /temp")
    found = tap.shown_by(text, "new.yaml", said, "h1")
    assert [words.value for words in found.readings] == [50.0]
    unknown = message("up/nobody/telemetry/new", '{"temp": 50}')
    assert [words.device for words in tap.shown_by(text, "new.yaml", unknown, "").readings] == [
        "new"
    ]


def test_what_the_terminal_has_no_room_for_is_counted(monkeypatch):
    monkeypatch.setattr(tap, "WAITING_MAX", 3)
    waiting = tap.Waiting()
    for number in range(5):
        assert waiting.take(message("up/a/b", str(number)))
    assert (waiting.heard, waiting.missed) == (5, 2)
    assert [waiting.next().payload for _ in range(3)] == [b"0", b"1", b"2"]
    assert waiting.next() is None
    assert waiting.size == 0


def test_nor_for_so_many_bytes(monkeypatch):
    monkeypatch.setattr(tap, "WAITING_BYTES_MAX", 100)
    waiting = tap.Waiting()
    for _ in range(3):
        waiting.take(message("up/a/b", "x" * 90))
    assert (len(waiting.messages), waiting.missed) == (1, 2)


# --- words ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("payload", "width", "shown"),
    [
        (b'{"a": 1}', 20, '{"a": 1}'),
        ("温度".encode(), 20, "温度"),
        (b"\x00\xff\x10", 20, "00 ff 10"),
        (b"x" * 30, 10, "xxxxxxx..."),
        (b"a\tb\nc", 20, "a\\tb\\nc"),
        ("火".encode() * 100, 10, "火火火火火火火..."),
        (b"\x1b[2J", 20, "1b 5b 32 4a"),
        (b"", 20, ""),
    ],
)
def test_a_payload_in_one_line(payload, width, shown):
    assert explain.raw(payload, width) == shown


def test_nothing_moves_the_cursor():
    assert explain.printable("a\x1b[2Jb\u202e") == "a\\x1b[2Jb\\u202e"


def test_a_hex_dump_is_exact():
    payload = bytes(range(40))
    lines = list(explain.hex_dump(payload))
    assert [line[:8] for line in lines] == ["00000000", "00000010", "00000020"]
    assert bytes.fromhex("".join(line[10:57] for line in lines)) == payload
    assert lines[2].endswith(" !\"#$%&'")


def test_an_instant_that_is_no_date():
    assert explain.instant(0) == "1970-01-01T00:00:00.000Z"
    assert explain.instant(1 << 62) == f"{1 << 62} us"
