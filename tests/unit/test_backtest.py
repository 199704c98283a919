"""What two sets of rules say, compared; and the file that changes them."""

from dataclasses import replace

import numpy as np
import pytest
from fix_detect import Point, registry
from hypothesis import given
from hypothesis import strategies as st

from detectors import backtest, changes, rules
from detectors.backtest import Incident, Raise, Verdicts, What
from detectors.sets import sets_of
from detectors.state import setup_of
from sizao.errors import BadInput

SECOND_US = 1_000_000
T0_US = 1_767_261_600 * SECOND_US
SHIPPED = rules.discover()


def a_raise(at_s=0.0, *, rule="heat_rise", tier="alarm", device=7, site=3, kind="fire", onset=""):
    at_us = T0_US + round(at_s * SECOND_US)
    subject = f"point:{device}"
    onset = onset or f"{rule}.{tier}.{subject}.{kind}.{at_us}"
    return Raise(onset, at_us, rule, kind, tier, subject, site, device, self_test=False)


def whats(old, new, within_s=600):
    return [(pair.what, pair.later_s) for pair in backtest.compare(old, new, within_s)]


def test_each_raise_is_the_same_moved_missed_or_raised():
    old = [a_raise(0), a_raise(5000), a_raise(9000, device=8)]
    new = [a_raise(0), a_raise(4940), a_raise(20_000, device=8)]
    assert whats(old, new) == [
        (What.SAME, 0), (What.MOVED, -60), (What.MISSED, 0), (What.RAISED, 0),
    ]  # fmt: skip


def test_another_rule_that_says_it_is_no_miss_but_the_same_rule_goes_first():
    old = [a_raise(0)]
    assert whats(old, [a_raise(30, rule="heat_fixed")]) == [(What.MOVED, 30)]
    both = [a_raise(30, rule="heat_fixed"), a_raise(50)]
    (moved, raised) = backtest.compare(old, both, 600)
    assert (moved.new, raised.one) == (both[1], both[0])


@pytest.mark.parametrize("other", [{"device": 8}, {"tier": "early"}, {"kind": "co"}])
def test_another_device_tier_or_kind_is_another_raise(other):
    assert whats([a_raise(0)], [a_raise(1, **other)]) == [(What.MISSED, 0), (What.RAISED, 0)]


def test_what_is_farther_than_asked_is_another_raise():
    assert whats([a_raise(0)], [a_raise(61)], 60) == [(What.MISSED, 0), (What.RAISED, 0)]
    assert whats([a_raise(0)], [a_raise(60)], 60) == [(What.MOVED, 60)]


SAID = st.lists(
    st.builds(
        a_raise,
        st.integers(0, 3000),
        rule=st.sampled_from(["heat_rise", "heat_fixed"]),
        device=st.integers(1, 2),
    ),
    unique_by=lambda one: one.onset,
    max_size=12,
)


@given(SAID, SAID)
def test_every_raise_is_in_one_pair_and_no_pair_is_farther_apart_than_asked(old, new):
    pairs = backtest.compare(old, new, 120)
    assert sorted(pair.old for pair in pairs if pair.old) == sorted(old)
    assert sorted(pair.new for pair in pairs if pair.new) == sorted(new)
    for pair in pairs:
        if pair.what is What.MOVED:
            assert abs(pair.later_s) <= 120
            assert (pair.old.device, pair.old.tier) == (pair.new.device, pair.new.tier)
    same = [pair for pair in pairs if pair.what is What.SAME]
    assert len(same) == len({one.onset for one in old} & {one.onset for one in new})


FIRE = Incident("f" * 32, 3, "fire", "real", "fire", T0_US, T0_US + 900 * SECOND_US)


def judged(old, new, *incidents):
    pairs = backtest.compare(old, new, 60)
    return backtest.judged(pairs, Verdicts(incidents or [FIRE], 60))


def test_a_fire_that_only_the_rules_in_force_alarm_at_is_missed():
    (one,) = judged([a_raise(0)], [a_raise(0, tier="early")])
    assert one.missed
    (one,) = judged([a_raise(0, tier="early")], [])
    assert one.missed


def test_a_fire_that_another_device_finds_later_is_late_and_not_missed():
    (one,) = judged([a_raise(10), a_raise(500)], [a_raise(130, device=8, tier="urgent")])
    assert not one.missed
    assert one.later_s == 120


def test_a_raise_belongs_to_the_incident_of_its_site_kind_and_time():
    assert judged([a_raise(-61), a_raise(961), a_raise(5, site=4), a_raise(5, kind="co")], []) == []
    open_too = replace_incident(id="0" * 32, verdict="", onset_us=T0_US + 100 * SECOND_US)
    (one,) = judged([a_raise(100)], [], open_too, FIRE)
    assert one.incident is FIRE


def replace_incident(**changed):
    return FIRE._replace(**changed)


def test_counts_stand_by_community_rule_and_tier_and_in_sums():
    old = [a_raise(0), a_raise(5000, site=4, device=9)]
    new = [a_raise(30), a_raise(0, rule="heat_fixed", tier="urgent")]
    found = backtest.tallies(backtest.compare(old, new, 600), {3: "c1", 4: "c2"})
    assert {row: (one.in_force, one.changed, one.raised, one.missed, one.later_s)
            for row, one in found.items()} == {
        ("", "", ""): (2, 2, 1, 1, [30]),
        ("", "heat_rise", "alarm"): (2, 1, 0, 1, [30]),
        ("", "heat_fixed", "urgent"): (0, 1, 1, 0, []),
        ("c1", "", ""): (1, 2, 1, 0, [30]),
        ("c1", "heat_rise", "alarm"): (1, 1, 0, 0, [30]),
        ("c1", "heat_fixed", "urgent"): (0, 1, 1, 0, []),
        ("c2", "", ""): (1, 0, 0, 1, []),
        ("c2", "heat_rise", "alarm"): (1, 0, 0, 1, []),
    }  # fmt: skip
    told = found["", "", ""].plain(0.5)
    assert (told["later_s_median"], told["in_force_per_device_year"]) == (30, 4)


# --- the file -----------------------------------------------------------------------------------


def parameter(number, name, value, scope="district", scope_id=0, to_minute=0):
    return {
        "id": number, "rule": "heat_rise", "parameter": name, "scope": scope,
        "scope_id": scope_id, "value": value, "from_minute": 0, "to_minute": to_minute,
        "days": 127, "offset_minutes": 480,
    }  # fmt: skip


def test_a_file_stands_for_what_is_set_for_the_district_and_leaves_rules_out():
    text = "heat_rise:\n  alarm_rise_k: 5.5\n  clear_s: 240\nsensor_fault: off\n"
    found = changes.read(text, "r.yaml", SHIPPED)
    shipped = setup_of(SHIPPED)
    left = {one.NAME for one in found.setup(shipped).rules}
    assert {one.NAME for one in shipped.rules} - left == {"sensor_fault"}
    assert found.plain() == {
        "heat_rise": {"alarm_rise_k": 5.5, "clear_s": 240}, "sensor_fault": "off"
    }  # fmt: skip
    before = [
        parameter(1, "alarm_rise_k", 8),
        parameter(2, "early_rise_k", 5),
        parameter(3, "alarm_rise_k", 7, to_minute=360),
        parameter(4, "alarm_rise_k", 9, scope="device", scope_id=1002),
    ]
    view = replace(registry([Point(1), Point(2)]).at(1), parameters=before)
    after = found.view(view)
    assert {row["id"] for row in after.parameters} == {2, 3, 4, 5, 6}
    sets = sets_of(after, np.array([1001, 1002], np.int32), SHIPPED, shipped.params)
    own = sets.by_rule["heat_rise"]
    noon_us = 12 * 3600 * SECOND_US
    chosen = [own.sets[one].params for one in own.at(sets.kind, np.array([noon_us] * 2))]
    assert [one.alarm_rise_k for one in chosen] == [5.5, 9]
    assert [(one.clear_s, one.early_rise_k) for one in chosen] == [(240, 5)] * 2
    assert view.parameters == before


def test_every_fault_of_a_file_is_told_at_once_with_its_line():
    text = """heat_rize: off
heat_rise:
  alarm_rise: 5
  early_rise_k: warm
  clear_s: 30.5
  alarm_rise_k: 40
heat_fixed: no
sensor_fault: {}
heat_rise: off
"""
    with pytest.raises(BadInput) as told:
        changes.read(text, "r.yaml", SHIPPED)
    lines = str(told.value).splitlines()
    assert [line.split(": ")[0] + " " + line.split(": ")[1] for line in lines] == [
        "r.yaml:1 heat_rize", "r.yaml:2 heat_rise", "r.yaml:3 heat_rise.alarm_rise",
        "r.yaml:4 heat_rise.early_rise_k", "r.yaml:5 heat_rise.clear_s",
        "r.yaml:6 heat_rise.alarm_rise_k", "r.yaml:7 heat_fixed", "r.yaml:8 sensor_fault",
    ]  # fmt: skip
    assert "nearest: heat_rise" in lines[0]
    assert "nearest: alarm_rise_k" in lines[2]


@pytest.mark.parametrize(
    "text", ["", "[]", "heat_rise", "heat_rise: [1]", "heat_rise: {clear_s: -1}"]
)
def test_a_file_that_says_nothing_of_rules_is_refused(text):
    with pytest.raises(BadInput, match=r"r\.yaml:1: "):
        changes.read(text, "r.yaml", SHIPPED)
