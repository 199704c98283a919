"""The bench's own arithmetic: CPU per process, slope, verdict."""

import json
import os
from xml.etree import ElementTree as ET

import jsonschema
import pytest

from deploy.local import bench_district, bench_proc, bench_registry, bench_report
from deploy.local.bench_district import Size
from deploy.local.bench_result import (
    FILE,
    Result,
    Rows,
    Run,
    Spread,
    knee,
    line,
    mark,
    schema_text,
    verdict,
)
from deploy.local.bench_shapes import PROFILES, Shaper
from deploy.local.bench_watch import late_us, spread
from deploy.local.load_payload import Form, maker
from deploy.local.places import REPOSITORY
from ingest.check import check
from ingest.device_types.compiled import compile_type
from ingest.device_types.payload import reader
from ingest.onboarding import operators
from sizao.errors import BadInput


def test_cpu_of_this_process_grows_with_its_work():
    before = bench_proc.sample({"me": os.getpid()})
    while bench_proc.sample({"me": os.getpid()}).cpu_s["me"] < before.cpu_s["me"] + 0.05:
        sum(range(10_000))
    after = bench_proc.sample({"me": os.getpid(), "gone": 2**22 + 1})
    assert after.cpu_s["gone"] == 0
    assert after.busy_s >= before.busy_s
    assert bench_proc.memory_mb({"me": os.getpid()})["me"] > 10


def run(name="x", rate=2000, percent=5.0, **changes):
    heard = Spread(count=3, p50=1.0, p99=2.0, max=3.0)
    said = {
        "name": name, "messages_per_s": rate, "readings_per_message": 1, "payload": "json",
        "payload_bytes": 48, "tls": False, "connections": 2, "tick_ms": (20, 20), "seconds": 10.0,
        "readings": rate * 10, "frames": 500, "rss_mb": {"bridge": 90},
        "cpu_percent": {"bridge": percent, "mosquitto": 2 * percent},
        "cpu_us_per_reading": {"bridge": percent * 1e4 / rate, "mosquitto": 2e4 * percent / rate},
        "machine_percent": {"busy": 50.0, "others": 1.0},
        "generator": {"messages": 5, "acknowledged": 5},
        "rows": rows(), "fires": 3, "sensor_to_signal_ms": heard, "sensor_to_page_ms": heard,
        "pages_refused": {},
    }  # fmt: skip
    return Run(**said | changes)


def rows(**changes):
    said = {"acknowledged": 15, "stored": 15, "sampled": 5, "distinct": 5}
    return Rows(**said | {"sample_divisor": 3, "stored_after_s": 0.5} | changes)


def test_the_line_through_the_rates_parts_fixed_cost_from_cost_of_a_reading():
    fixed, each_us = 5.0, 3.0
    runs = [run(rate=rate, percent=fixed + each_us * rate / 1e4) for rate in (2000, 5000, 8000)]
    slopes, at_no_load = line(runs)
    assert slopes["bridge"] == pytest.approx(each_us)
    assert at_no_load["bridge"] == pytest.approx(fixed)


def test_one_rate_makes_no_line():
    assert line([run(), run()]) == ({}, {})


def result(*runs, **changes):
    said = {
        "profile": "quick", "at": "2026-03-01T08:00:00+00:00", "devices": 9, "runs": runs,
        "machine": {**bench_proc.machine(), "modified": True}, "idle_percent": {"bridge": 1.0},
        "idle_rss_mb": {"bridge": 80}, "slope_us": {"bridge": 3.0}, "fixed_percent": {"bridge": 5},
        "knee_per_s": 8000, "marks": [mark("m", 1.0, 2.0, "us"), mark("n", 0.0, 2.0, "us")],
        "wrong": [], "seconds": 1.0,
    }  # fmt: skip
    return Result(**said | changes)


def test_a_result_is_of_the_published_schema_and_can_be_shown():
    one = result(run("low"), run("high", 8000, 9.0))
    jsonschema.validate(json.loads(one.model_dump_json(by_alias=True)), Result.model_json_schema())
    shown = bench_report.markdown(one)
    assert "| low | 2,000 | 2 | no | json 48 | 20 | 1/2/3 |" in shown
    assert "| m | 2 us | 1 | yes |" in shown
    assert "| n | 2 us | 0 | **no** |" in shown
    assert "bridge 0.5" in shown
    drawn = ET.fromstring(bench_report.plot(one))
    assert len(drawn.findall(".//{*}title")) == 2 * 8


def test_a_result_without_runs_can_be_shown():
    assert bench_report.markdown(result(marks=[]))
    ET.fromstring(bench_report.plot(result()))


def test_the_published_schema_is_in_step():
    published = (REPOSITORY / "docs" / FILE).read_text("utf-8")
    command = "python -m deploy.local.bench --schema > docs/bench.schema.json"
    assert published == schema_text(), f"the models have changed: {command}"


def test_whole_counts_are_fine_however_slow():
    assert verdict([run()]) == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"rows": rows(stored=14)},
        {"rows": rows(stored=16)},
        {"rows": rows(distinct=4)},
        {"sensor_to_signal_ms": Spread(count=2)},
        {"sensor_to_page_ms": Spread(count=0)},
        {"pages_refused": {"signature": 1}},
        {"generator": {"messages": 5, "acknowledged": 4}},
    ],
)
def test_a_wrong_count_is_told(wrong):
    assert len(verdict([run(), run(**wrong)])) == 1


def test_the_knee_is_the_highest_rate_in_time():
    late = Spread(count=3, p50=900.0, p99=1500.0, max=2000.0)
    runs = [run(rate=10), run(rate=30), run(rate=40, sensor_to_signal_ms=late)]
    assert knee([*runs, run(rate=90, readings_per_message=50)], 1000.0) == 30
    assert knee([], 1000.0) == 0


def test_a_load_that_was_ended_early_is_slow_not_wrong():
    late = Spread(count=2, p50=5000.0, p99=6000.0, max=6000.0)
    said = {"messages": 9, "said": 5, "acknowledged": 5}
    ended = run(
        rate=50, ended_after_s=7.5, generator=said, sensor_to_signal_ms=late,
        sensor_to_page_ms=late,
    )  # fmt: skip
    assert verdict([ended]) == []
    assert len(verdict([ended.model_copy(update={"generator": said | {"acknowledged": 4}})])) == 1
    assert len(verdict([ended.model_copy(update={"sensor_to_page_ms": Spread(count=1)})])) == 1
    assert knee([run(rate=10), ended], 10_000.0) == 10
    assert "x was ended after 7.5 s" in bench_report.markdown(result(ended))


def test_lateness_is_that_of_the_newest_signal_or_of_the_silence():
    assert late_us([], 1_000, 4_000) == 3_000
    assert late_us([(1_000, 3_500)], 1_000, 4_000) == 2_500
    assert late_us([(3_400, 3_500)], 1_000, 9_000) == 5_500
    assert late_us([(100, 200)], 1_000, 1_500) == 500, "a signal of before says nothing"


def test_a_profile_is_cut_to_the_shapes_that_are_named():
    full = PROFILES["full"]
    assert full.only([]) is full
    some = full.only(["lone-20k", "json-15k-tls"])
    assert [step.name for step in some.steps] == ["lone-20k", "json-15k-tls"]
    assert some.fires == sum(step.fires for step in some.steps)
    with pytest.raises(BadInput, match="json-2k"):
        PROFILES["quick"].only(["lone-20k"])


def test_spread():
    assert spread([]) == Spread(count=0)
    assert spread(range(1000, 101_000, 1000)) == Spread(count=100, p50=50.5, p99=99.0, max=100.0)


@pytest.mark.parametrize("name", PROFILES)
def test_every_device_that_burns_in_a_profile_burns_once(name):
    profile = PROFILES[name]
    size = Size(sensors=8, connections=4, gateways=2, lone=3)
    made = bench_district.build(size, profile.fires)
    shaper = Shaper(district=made, warm_s=profile.warm_s)
    burnt = []
    for step in (*profile.steady, *profile.free, *profile.knee):
        shape = shaper.shape(step)
        assert shape.devices[0] in getattr(made, step.what)
        burnt += [keys[0] for _, keys in shape.devices[len(shape.devices) - shape.fires :]]
    assert len(set(burnt)) == len(burnt) == profile.fires


def test_each_burning_device_has_a_site_and_a_carrier_of_its_own():
    made = bench_district.build(Size(sensors=9, connections=4, gateways=2, lone=3), 3)
    burning = [row for row in made.rows if (row.carrier, [row.key]) in made.burning]
    assert len({row.area for row in burning}) == len({row.carrier for row in burning}) == 3
    assert len(made.rows) == 9 + 3 + 2 * 2 * 50 + 3
    assert len({row.carrier for row in made.rows}) == len(made.carriers) == 4 + 3 + 2 * 2 + 3


def test_what_a_packed_gateway_says_is_read_by_its_type():
    documents = operators(bench_district.TYPES)
    assert check(documents) == []
    ((name, text),) = documents
    payload = maker(["00010000", "00010001"], Form.BINARY)(21.5, 1_772_352_000_123_000)
    parts, refused = reader(*compile_type(text, name)).read([payload])
    assert not refused
    found = [[list(slot) for slot in part.slots] for part in parts]
    assert ["00010000", "00010001"] in found[0]
    assert [2150, 2150] in found[0]


def test_the_files_of_the_registry_bench(tmp_path):
    areas, first, second = (tmp_path / name for name in ("a.csv", "d.csv", "d2.csv"))
    assert bench_registry.write_areas(areas, 400) == 1 + 11 + 111 + 20 * 5
    bench_registry.write_devices(first, 400)
    bench_registry.write_devices(second, 400, moved=True)
    one, two = first.read_text().splitlines(), second.read_text().splitlines()
    assert len(one) == len(two) == 401
    assert sum(left != right for left, right in zip(one, two, strict=True)) == 4
    codes = {line.split(",")[0] for line in areas.read_text().splitlines()}
    assert {line.split(",")[3] for line in one[1:] + two[1:]} <= codes
