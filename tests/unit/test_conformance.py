"""EN 54-5 through the shipped rules: windows of response, and what must stay silent."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from detectors import rules, state
from detectors.evaluation import conformance
from detectors.evaluation.conformance import Case

PAGE = Path(__file__).parents[2] / "docs" / "en54-5.md"
SETUP = state.setup_of(rules.discover())


def test_the_formula_gives_the_norms_upper_limits():
    times = np.arange(0.0, 3000.0, 0.1)
    for heat_class, over_k, tau_s in (("A1", 40.0, 20.0), ("B", 45.0, 60.0)):
        for rate in conformance.RATES_K_PER_MIN:
            shown_k = conformance.ramp_c(times, 0.0, rate, tau_s)
            reached_s = times[np.searchsorted(shown_k, over_k)]
            assert reached_s == pytest.approx(conformance.limits_s(heat_class, rate)[1], abs=0.6)


def test_every_class_keeps_its_window_at_every_rate_and_the_page_says_so():
    rows = conformance.table(SETUP)
    assert [one for one in rows if not one.within] == []
    assert len(rows) == 8 * 6
    assert conformance.markdown(rows) in PAGE.read_text("utf-8")


def test_two_kelvin_a_minute_for_a_quarter_of_an_hour_trip_no_differential_path():
    found = conformance.said(conformance.ramp("A1", 2, 20.0), SETUP)
    rate = [one for alarms in found.values() for one in alarms if one.rule == "heat_rate"]
    fixed = [one for alarms in found.values() for one in alarms if one.rule == "heat_fixed"]
    assert [one.time_s for one in rate if one.time_s <= 900] == []
    assert len(fixed) == conformance.PHASES  # 54 degC are reached: the ramp was fed


def test_one_hot_sample_is_nothing():
    times = np.arange(-3600.0, 600.0, 10.0)
    cases = [
        Case(f"{name} {shown}", name, times, np.where(times == 0, shown, 25.0))
        for name in ("A1", "A2", "A1S", "B")
        for shown in (60.0, 110.0, 200.0)
    ]
    assert [one for alarms in conformance.said(cases, SETUP).values() for one in alarms] == []


def test_a_plunge_into_hot_air_says_nothing_of_a_detector_of_class_s():
    classes = ("A1S", "BS", "GS")
    cases = [
        one for name in classes for tau_s in (0.0, 20.0) for one in conformance.plunge(name, tau_s)
    ]
    found = conformance.said(cases, SETUP)
    assert [one for alarms in found.values() for one in alarms] == []
    without = conformance.said(conformance.plunge("A1", 20.0), SETUP)
    assert all(alarms for alarms in without.values())  # the plunge was fed
