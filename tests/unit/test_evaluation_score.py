"""Every statistic against numbers worked by hand."""

import math

import numpy as np
import pytest

from detectors.evaluation import score
from detectors.evaluation.score import Delays

NAN = math.nan


def delays(*units):
    tests, values = zip(*units, strict=True)
    return Delays(np.array(tests), np.array(values, float))


@pytest.mark.parametrize(
    ("alarms", "expected"),
    [([30, 50], 20), ([10], 0), ([], 600), ([700], 600), ([609.9], 599.9), ([5, 30], NAN)],
)
def test_a_delay_counts_from_ignition_and_a_miss_is_600(alarms, expected):
    assert score.delay_s(np.array(alarms, float), 10.0) == pytest.approx(expected, nan_ok=True)


def test_a_line_of_the_table():
    line = score.summary(delays((0, 30), (0, 90), (1, 600), (1, NAN)), score.draws_of(2, 1))
    assert (line["units"], line["before"]) == (4, 1)
    shares = [line[f"share_{limit}"] for limit in (60, 120, 300, 600)]
    assert shares == pytest.approx([1 / 3, 2 / 3, 2 / 3, 2 / 3])
    assert line["mean_s"] == 240  # (30 + 90 + 600) / 3
    assert line["median_s"] == 90
    assert line["p90_s"] == pytest.approx(498)  # 0.8 of the way from 90 to 600
    # Drawn twice, the first test gives 60 and the second 600; a quarter of the draws each.
    assert line["mean_s_95"] == (60, 600)


def test_nobody_heard_is_a_line_without_figures():
    assert score.summary(delays((0, NAN)), score.draws_of(1, 1)) == {"units": 1, "before": 1}


def test_the_bootstrap_draws_tests_and_never_their_devices():
    one = score.draws_of(1, seed=3)
    values, test = np.array([0.0, 10.0]), np.array([0, 0])
    assert score.mean_interval(values, test, one) == (5, 5)
    assert score.median_interval(np.array([1.0, 9.0, 2.0]), np.array([0, 0, 0]), one) == (2, 2)
    two = score.draws_of(2, seed=3)
    assert (two.sum(axis=1) == 2).all()
    # Mean 0 or 10 in a quarter of the draws each, 2.5 in the rest.
    values, test = np.array([0.0, 0.0, 0.0, 10.0]), np.array([0, 0, 0, 1])
    assert score.mean_interval(values, test, two) == (0, 10)
    assert (score.draws_of(2, seed=3) == two).all()
    assert (score.draws_of(2, seed=4) != two).any()


def test_the_bootstrap_of_many_equal_tests_is_the_normal_one():
    random = np.random.default_rng(0)
    values, test = random.normal(100, 10, 400), np.arange(400)
    low, high = score.mean_interval(values, test, score.draws_of(400, 1))
    error = values.std() / 20
    assert low == pytest.approx(values.mean() - 1.96 * error, abs=0.15 * error)
    assert high == pytest.approx(values.mean() + 1.96 * error, abs=0.15 * error)


def test_leads_are_means_of_tests_and_medians_of_pairs():
    rule = delays((0, 10), (0, 20), (1, 600), (1, NAN), (0, 5))
    baseline = delays((0, 30), (0, 60), (1, 600), (1, 10), (0, NAN))
    line = score.lead(rule, baseline, score.draws_of(2, 1))
    assert line["pairs"] == 3
    assert line["mean_s"] == 15  # the first test's 20 and 40, the second's 0
    assert line["median_s"] == 20
    assert line["worst_s"] == 0
    assert line["mean_s_95"] == (0, 30)
    assert score.lead(delays((0, NAN)), delays((0, 1)), score.draws_of(1, 1)) == {"pairs": 0}


def test_behind_looks_only_where_both_find():
    rule, baseline = delays((0, 30), (0, 600), (1, 50)), delays((0, 20), (0, 20), (1, 80))
    assert score.behind_s(rule, baseline) == 10
    assert score.behind_s(delays((0, 600)), delays((0, 600))) == -math.inf


def test_alarms_up_to_30_min_apart_are_one():
    assert score.onsets(np.array([3700.0, 0.0, 1800.0])).tolist() == [0, 3700]
    assert score.onsets(np.zeros(0)).tolist() == []


def test_a_long_gap_is_one_interval_of_device_time():
    time_s = np.array([0.0, 10.0, 20.0, 30.0, 1030.0, 1130.0])
    # Ten seconds is usual: 1,000 s count as 10, 100 s are no more than ten intervals.
    assert score.device_years(time_s) * score.YEAR_S == pytest.approx(140)
    assert score.device_years(time_s[:1]) == 0


@pytest.mark.parametrize(
    ("count", "low", "high"),
    # Garwood's table; none: the rule of three.
    [(0, 0, 3), (1, 0.0253, 5.572), (6, 2.202, 13.059), (16, 9.145, 25.983), (100, 81.36, 121.63)],
)
def test_poisson_intervals_are_those_of_the_table(count, low, high):
    assert score.poisson_interval(count) == pytest.approx((low, high), rel=2e-4, abs=1e-4)
