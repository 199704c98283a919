"""The bench's own arithmetic: CPU per process, slope, verdict."""

import os

import pytest

from deploy.local import bench_district, bench_proc, bench_registry
from deploy.local.bench import table, verdict
from deploy.local.bench_load import slope
from deploy.local.bench_watch import spread_ms


def test_cpu_of_this_process_grows_with_its_work():
    before = bench_proc.sample({"me": os.getpid()})
    while bench_proc.sample({"me": os.getpid()}).cpu_s["me"] < before.cpu_s["me"] + 0.05:
        sum(range(10_000))
    after = bench_proc.sample({"me": os.getpid(), "gone": 2**22 + 1})
    assert after.cpu_s["gone"] == 0
    assert after.busy_s >= before.busy_s
    assert bench_proc.memory_mb({"me": os.getpid()})["me"] > 10


def run(name, rate, percent):
    return {
        "name": name,
        "seconds": 10.0,
        "readings": rate * 10,
        "cpu_percent": {"bridge": percent},
        "cpu_us_per_reading": {"bridge": percent * 1e4 / rate},
        "machine_percent": {"busy": 50.0, "others": 1.0},
        "generator": {"messages": 5, "acknowledged": 5},
    }


def test_slope_is_free_of_the_fixed_cost():
    fixed, each_us = 5.0, 3.0
    low, high = (run("x", rate, fixed + each_us * rate / 1e4) for rate in (2000, 8000))
    assert slope(low, high)["bridge"] == pytest.approx(each_us)


def result(**changes):
    heard = {"count": 3, "p50": 1.0, "p99": 2.0, "max": 3.0}
    latency = {
        "fires": 3,
        "sensor_to_signal_ms": heard,
        "sensor_to_page_ms": heard,
        "pages_refused": {},
        "run": run("latency", 1000, 5.0),
    }
    return {
        "idle": {"cpu_percent": {"bridge": 1.0}},
        "latency": [{**latency, **changes.pop("latency", {})}],
        "runs": [run("low", 2000, 6.0), run("high", 8000, 9.0)],
        "slope_us_per_reading": {"bridge": 1.0},
        "counts": {"acknowledged": 15, "stored": 15, "distinct": 15},
        **changes,
    }


def test_whole_counts_are_fine_however_slow():
    assert verdict(result()) == []
    assert "bridge" in table(result())


@pytest.mark.parametrize(
    "wrong",
    [
        {"counts": {"acknowledged": 15, "stored": 14, "distinct": 14}},
        {"counts": {"acknowledged": 15, "stored": 16, "distinct": 15}},
        {"latency": {"sensor_to_signal_ms": {"count": 2}}},
        {"latency": {"sensor_to_page_ms": {"count": 0}}},
        {"latency": {"pages_refused": {"signature": 1}}},
        {"runs": [{**run("low", 2000, 6.0), "generator": {"messages": 5, "acknowledged": 4}}]},
    ],
)
def test_a_wrong_count_is_told(wrong):
    assert len(verdict(result(**wrong))) == 1


def test_spread():
    assert spread_ms([]) == {"count": 0}
    assert spread_ms(range(1000, 101_000, 1000)) == {
        "count": 100, "p50": 50.5, "p99": 99.0, "max": 100.0,
    }  # fmt: skip


def test_each_burning_device_has_a_site_and_a_carrier_of_its_own():
    made = bench_district.build(3)
    rows = [row for row in made.rows if (row.carrier, [row.key]) in made.burning]
    assert len({row.area for row in rows}) == len({row.carrier for row in rows}) == 3
    assert len(made.rows) == 4_000 + 80 * 50 + 3


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
