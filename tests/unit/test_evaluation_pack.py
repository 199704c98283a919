"""A broken pack is refused: where, what was got, what was expected."""

import subprocess
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fix_pack import NIST, calm, table, write

from deploy.local.fire import PACK as FSRI
from detectors.evaluation import pack
from sizao.errors import BadInput

GOOD = table([calm(for_s=30), calm(test="u", for_s=20)])


def test_the_recorded_packs_are_whole():
    nist, fsri = pack.load(NIST), pack.load(FSRI)
    assert (nist.kind, nist.redistributable, len(nist.tests)) == ("fire", True, 3)
    assert sum(len(channel.time_s) for channel in nist.channels) == 19825
    assert fsri.ignition_s("RedAccent_Closed_Corner_3") > 0
    assert {channel.quantity for channel in fsri.channels} == {"temperature_c"}
    assert "LICENSE.md" in {path.name for path in NIST.iterdir()}


@pytest.mark.parametrize(
    ("file", "old", "new", "expected"),
    [
        ("pack.json", '"quiet"', '"loud"', "pack.json:kind: got 'loud', expected one of fire"),
        ("pack.json", '"kind"', '"kin"', "pack.json:kind: got None, expected one of fire"),
        ("pack.json", "true", '"yes"', "pack.json:redistributable: got 'yes', expected true or"),
        ("pack.json", "10.0", "0", "pack.json:sampling_s: got 0, expected seconds, more than 0"),
        ("pack.json", "10.0", "true", "pack.json:sampling_s: got True, expected seconds"),
        ("pack.json", "{", "[", "pack.json:2:8: got"),
        ("devices.csv", "d1,z,r,2.4", "d1,z,r,high", "devices.csv:2: got 'high', expected height"),
        ("devices.csv", "d2", "d1", "devices.csv:3: got 'd1', expected a device name that no"),
        ("devices.csv", "d2,z,r,2.4,ceiling", "d2,z", "devices.csv:3: got '2 fields', expected"),
        ("devices.csv", "zone", "area", "devices.csv:1: got 'device,area,room,height_m,note'"),
        ("devices.csv", "d1,z", 'd1,"z', "devices.csv:3: got 'unexpected end of data'"),
        ("events.csv", "20,end", "soon,end", "events.csv:3: got 'soon', expected time_s in sec"),
        ("events.csv", "20,end", "nan,end", "events.csv:3: got 'nan', expected time_s in seconds"),
        ("events.csv", "u,20", "v,20", "events.csv:3: got 'v', expected a test of readings.parq"),
        ("events.csv", "30,end,", "30,end,d9", "events.csv:2: got 'd9', expected a device of dev"),
        ("events.csv", "30,end", "30,", "events.csv:2: got '', expected an event"),
    ],
)
def test_a_broken_text_file(tmp_path, file, old, new, expected):
    devices = "d1,z,r,2.4,ceiling\nd2,z,r,2.4,ceiling\n"
    write(tmp_path, GOOD, devices=devices, events="t,30,end,,\nu,20,end,,\n")
    pack.load(tmp_path)
    text = (tmp_path / file).read_text("utf-8")
    assert old in text
    (tmp_path / file).write_text(text.replace(old, new, 1), "utf-8")
    with pytest.raises(BadInput) as refused:
        pack.load(tmp_path)
    assert expected in str(refused.value)


def _without(column):
    return GOOD.drop_columns([column])


def _with(column, values):
    return GOOD.set_column(GOOD.column_names.index(column), column, pa.array(values))


@pytest.mark.parametrize(
    ("readings", "expected"),
    [
        (_without("value"), "readings.parquet:value: got 'test, device, quantity, time_s'"),
        (_with("value", ["20"] * 5), "readings.parquet:value: got 'string', expected a number"),
        (_with("test", [1] * 5), "readings.parquet:test: got 'int64', expected string"),
        (_with("value", [20.0, None, 1, 1, 1]), "value: row 1: got None, expected a value; a miss"),
        (_with("value", [20.0, 1, float("nan"), 1, 1]), "value: row 2: got nan, expected a finite"),
        (_with("time_s", [0.0, 20, 10, 0, 10]), "time_s: row 2: got '10.0 after 20.0', expected"),
        (_with("time_s", [0.0, 10, 10, 0, 10]), "time_s: row 2: got '10.0 again', expected one"),
        (_with("test", ["t", "u", "u", "t", "t"]), "time_s: row 4"),
        (_with("device", ["d1", "d1", "d7", "d1", "d1"]), "device: row 2: got 'd7', expected a de"),
        (GOOD.slice(0, 0), "readings.parquet:test: got 'no row', expected readings"),
    ],
)
def test_broken_readings(tmp_path, readings, expected):
    if "row 4" in expected:
        readings = readings.set_column(3, "time_s", pa.array([0.0, 1, 2, 3, 4]))
        expected = "test: row 3: got 't again', expected rows sorted by test, then time"
    write(tmp_path, readings)
    with pytest.raises(BadInput) as refused:
        pack.load(tmp_path)
    assert expected in str(refused.value)


@pytest.mark.parametrize(
    ("events", "got"),
    [("t,5,ignition,,\n", "0 ignition events"), ("t,5,ignition,,\n" * 2, "2 ignition events")],
)
def test_every_test_of_a_fire_pack_burns_once(tmp_path, events, got):
    write(tmp_path, GOOD, kind="fire", events=events)
    with pytest.raises(BadInput, match=rf"events.csv:event: got '{got}', expected one, for test"):
        pack.load(tmp_path)


@pytest.mark.parametrize("name", ["pack.json", "readings.parquet", "devices.csv", "events.csv"])
def test_a_file_that_is_not_there_or_not_readable(tmp_path, name):
    write(tmp_path, GOOD)
    (tmp_path / name).write_bytes(b"\xff\xfe\x00")
    with pytest.raises(BadInput, match=name):
        pack.load(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(BadInput, match=name):
        pack.load(tmp_path)


def test_plain_strings_and_more_columns_do_as_well(tmp_path):
    plain = GOOD.append_column("room", pa.array(["x"] * 5))
    plain = plain.set_column(0, "test", plain["test"].cast(pa.string()))
    write(tmp_path, plain, title="with a mark")
    text = (tmp_path / "devices.csv").read_bytes()
    (tmp_path / "devices.csv").write_bytes(b"\xef\xbb\xbf" + text.replace(b"\n", b"\r\n"))
    assert len(pack.load(tmp_path).channels) == 2
    assert pq.read_table(tmp_path / "readings.parquet").num_columns == 6


def test_the_command_refuses_in_one_line_with_exit_code_2(tmp_path):
    write(tmp_path, GOOD, kind="fire")
    done = subprocess.run(
        [sys.executable, "-m", "sizao.cli", "evaluate", str(NIST), str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert not done.stdout
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"{tmp_path / 'events.csv'}:event: got '0 ignition events'")
