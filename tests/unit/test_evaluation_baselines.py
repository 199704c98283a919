"""The protocol's sensor and the simple detectors, by example."""

import numpy as np
import pytest
from fix_pack import calm, table, write

from detectors.evaluation import baselines, pack, protocol


def every(period_s, *values):
    return np.arange(len(values)) * float(period_s), np.array(values, float)


def fires_at(baseline, period_s, *values):
    return np.flatnonzero(baseline(*every(period_s, *values))).tolist()


def test_a_lag_follows_a_step_and_a_ramp_exactly():
    step = protocol.lagged(np.array([0.0, 1e-9, 30.0]), np.array([0.0, 1.0, 1.0]), 30.0)
    assert step[-1] == pytest.approx(1 - np.exp(-1), abs=1e-6)
    seconds = np.arange(0.0, 600.0)
    ramp = protocol.lagged(seconds, seconds, 30.0)
    assert ramp[-1] == pytest.approx(seconds[-1] - 30.0, abs=1e-3)


def test_a_sensor_reads_in_step_with_the_record_and_nothing_inside_a_gap():
    time_s = np.array([3.0, 17.0, 80.0, 101.0])
    at_s, value = protocol.read(time_s, np.array([0.0, 14.0, 77.0, 98.0]), 10.0)
    assert at_s.tolist() == [10, 80, 90, 100]  # 17 to 80 is longer than a minute
    assert value.tolist() == [7, 77, 87, 97]
    one_s, _ = protocol.read(np.array([20.0]), np.array([5.0]), 10.0)
    assert one_s.tolist() == [20]


def test_a_reading_is_as_fine_as_its_sensor():
    assert protocol.rounded("temperature_c", np.array([20.04, 20.06])).tolist() == [20.0, 20.1]
    assert protocol.rounded("smoke_od_per_m", np.array([0.0604])).tolist() == [0.06]
    assert protocol.rounded("co_ppm", np.array([14.6])).tolist() == [15]
    assert protocol.rounded("humidity_pct", np.array([40.123])).tolist() == [40.123]


def test_ten_kelvin_over_the_quiet_minute_before_make_a_fire_that_counts():
    time_s, value = every(10, 20, 25, 20, 20, 20, 20, 30.0)
    assert protocol.eligible(time_s, value, ignition_s=55.0)
    assert not protocol.eligible(time_s, value, ignition_s=15.0)  # 20 and 25 lie before
    assert not protocol.eligible(time_s, value, ignition_s=-541.0)  # 600 s are over
    # No lead-in: the first value is the start.
    assert protocol.eligible(*every(10, 20, 30), ignition_s=0.0)
    assert not protocol.eligible(*every(10, 21, 30.9), ignition_s=0.0)


def test_a_fire_gets_history_and_lag_but_a_prepared_one_is_fed_as_it_is(tmp_path):
    time_s = np.arange(0.0, 100.0)
    step = np.where(time_s < 50, 20.04, 80.0)
    for name, more in (("bare", {}), ("ready", {"prepared": {"shift_s": 0}})):
        write(
            tmp_path / name,
            table([("t", "d1", time_s, step), ("t", "low", time_s, step)]),
            devices="d1,z,r,2.4,ceiling\nlow,z,r,1.0,tree\n",
            events="t,50,ignition,,\n",
            name=name,
            kind="fire",
            **more,
        )
    (fed,) = protocol.feed(pack.load(tmp_path / "bare"))
    assert fed.eligible
    assert len(fed.channel.time_s) == 120 + 10
    assert (fed.channel.time_s[0], fed.channel.time_s[-1]) == (-1200, 90)
    assert (fed.channel.value[:125] == 20.0).all()
    assert fed.channel.value[-1] == pytest.approx(20 + 60 * (1 - np.exp(-41 / 30)), abs=0.5)
    ready = protocol.feed(pack.load(tmp_path / "ready"))
    assert [one.channel.device for one in ready] == ["d1", "low"]
    assert [one.eligible for one in ready] == [True, False]
    assert (ready[0].channel.value == step.astype(np.float32)).all()
    assert len(protocol.feed(pack.load(tmp_path / "bare"), 5.0)[0].channel.time_s) == 240 + 20


def test_quiet_rooms_are_fed_as_recorded(tmp_path):
    folder = write(tmp_path / "p", table([calm()]), devices="d1,z,r,,room sensor\n")
    (fed,) = protocol.feed(pack.load(folder))
    assert fed.channel.time_s.tolist() == np.arange(0.0, 1200.0, 10.0).tolist()


def test_fixed_limits():
    assert fires_at(baselines.fixed_57, 10, 56.9, 57.0, 90) == [1, 2]
    assert fires_at(baselines.HEAT["fixed 57, twice"], 10, 57, 20, 57, 57) == [3]
    assert fires_at(baselines.HEAT["fixed 54, twice"], 10, 54, 53.9, 54, 54) == [3]


def test_rate_of_rise_looks_at_the_newest_reading_a_minute_old():
    quiet = [20.0] * 6
    assert fires_at(baselines.a1r, 10, *quiet, 28.3) == [6]
    assert fires_at(baselines.a1r, 10, *quiet, 28.2) == []
    assert fires_at(baselines.a1r, 10, *quiet[1:], 40.0) == []  # no reading is a minute old
    # Read every 40 s, the newest that is a minute old is 80 s old: 8.3 K a minute are 11.1 K.
    assert fires_at(baselines.a1r, 40, 20, 20, 31.0) == []
    assert fires_at(baselines.a1r, 40, 20, 20, 31.1) == [2]
    assert fires_at(baselines.HEAT["A1R, guarded"], 10, *quiet, 28.3, 28.3) == [7]


def test_the_vendors_limit_falls_while_it_gets_warmer_fast():
    slow = [45.0] * 6
    assert fires_at(baselines.vendor, 10, *slow, 48.9) == []
    assert fires_at(baselines.vendor, 10, *slow, 49.0) == [6]
    assert fires_at(baselines.vendor, 10, 56.0) == [0]


def test_the_rise_over_an_own_baseline():
    held, raw = baselines.rises_k(*every(10, 20, 21, 23, 60, 22))
    assert held[1] == 1
    base = 20 + 1 * 10 / 610
    assert held[2] == pytest.approx(23 - base)
    base += 2 * 10 / 610  # clipped at 2 K
    assert held[3] == pytest.approx(23 - base)  # a jump is held for one reading
    assert raw[3] == pytest.approx(60 - base)
    base += 2 * 10 / 610
    assert held[4] == pytest.approx(22 - base)
    _, raw = baselines.rises_k(*every(10, 20, 15, 15))
    assert raw[2] == pytest.approx(15 - (20 - 5 * 10 / 160))  # it falls four times as fast
    assert baselines.rises_k(np.array([0.0, 1801.0]), np.array([20.0, 30.0]))[1].tolist() == [0, 0]


def test_six_kelvin_twice_have_no_jump_hold():
    assert fires_at(baselines.rise_6_twice, 10, 20, 60, 60) == [2]
    assert fires_at(baselines.rise_6, 10, 20, 60, 60) == [2]
    assert fires_at(baselines.rise_4, 10, 20, 24.0, 24.0) == [1]
    assert fires_at(baselines.v1_alarm, 10, 54, 54) == [1]


def test_smoke_gas_and_their_joins():
    assert fires_at(baselines.od_06, 10, 0.059, 0.06) == [1]
    assert fires_at(baselines.SMOKE["OD 0.12, twice"], 10, 0.12, 0.12) == [1]
    assert fires_at(baselines.co_rise, 10, 2, 16, 17) == [2]
    joined = baselines.evidence_sum(np.array([3.0, 3.0, -9.0]), np.array([0.03, 0.029, 0.06]))
    assert joined.tolist() == [True, False, True]
    # 0.1 per m is 20.57 % a metre.
    smoky = np.full(3, 0.1)
    assert baselines.product(smoky, np.array([0.48, 0.49, -5.0])).tolist() == [False, True, False]


def test_the_newest_value_of_another_channel():
    other_s, other = np.array([5.0, 15.0]), np.array([1.0, 2.0])
    assert baselines.latest(np.array([0.0, 5.0, 14.0, 99.0]), other_s, other).tolist() == [
        0, 1, 1, 2,
    ]  # fmt: skip
