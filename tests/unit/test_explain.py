"""Whether a signal that comes out of the archive is the one that was said."""

import pytest
from fix_detect import Point, registry

from detectors import explain, rules
from detectors.explain import Verdict
from sizao.signal import Kind, Phase, Subject, SubjectType, Tier, make

SHIPPED = rules.discover()
EVIDENCE = {
    "quantity": "temperature_c", "values": [25.0, 31.5], "baseline_c": 20.0, "warm": True,
    "value_us": 1_000_000, "limit_k": 6.0, "margin_k": 5.5,
}  # fmt: skip


def said(evidence=None, **more):
    known = {
        "rule": "heat_rise", "rule_version": version("heat_rise"), "kind": Kind.FIRE,
        "tier": Tier.ALARM, "phase": Phase.RAISE,
        "subject": Subject(type=SubjectType.POINT, id="1"), "site": 5, "device": 1001,
        "onset_us": 1_000_000, "event_us": 1_000_000, "received_us": 1_500_000, "generation": 1,
        "evidence": EVIDENCE | (evidence or {}),
    }  # fmt: skip
    return make(**known | more)


def version(name):
    return next(rule.VERSION for rule in SHIPPED if name == rule.NAME)


def test_the_same_record_is_equal_whenever_it_was_said():
    assert explain.compare(said(), [said(received_us=9_000_000)]).verdict is Verdict.EQUAL


@pytest.mark.parametrize(
    ("changed", "verdict"),
    [
        ({"baseline_c": 20.0004}, Verdict.CLOSE),
        ({"baseline_c": 20.0004, "values": [25.0, 31.5001]}, Verdict.CLOSE),
        ({"baseline_c": 20.1}, Verdict.DIFFERS),
        ({"values": [25.0, 31.6]}, Verdict.DIFFERS),
        ({"values": [31.5]}, Verdict.DIFFERS),
        ({"value_us": 1_000_001}, Verdict.DIFFERS),
        ({"warm": False}, Verdict.DIFFERS),
        ({"quantity": "co_ppm"}, Verdict.DIFFERS),
        ({"neighbours": [21.0]}, Verdict.DIFFERS),
    ],
)
def test_a_number_may_differ_by_little_and_nothing_else_at_all(changed, verdict):
    outcome = explain.compare(said(), [said(changed)])
    assert outcome.verdict is verdict
    assert {one.name for one in outcome.differences} == set(changed)


def test_without_the_record_the_nearest_of_the_subject_is_named():
    other = said(onset_us=11_000_000, event_us=11_000_000)
    outcome = explain.compare(said(), [replaced(other), other])
    assert outcome.verdict is Verdict.DIFFERS
    assert f"+10.0 s, id {other.id}" in outcome.why
    assert "no record of heat_rise" in explain.compare(said(), []).why


def replaced(one):
    return said(tier=Tier.EARLY, onset_us=one.onset_us - 1, event_us=one.event_us - 1)


@pytest.mark.parametrize(
    ("one", "why"),
    [
        (said(rule="board"), "no rule over readings"),
        (said(rule_version=999), "version 999"),
        (said(subject=Subject(type=SubjectType.ZONE, id="1")), "expected a point or a device"),
        (said(subject=Subject(type=SubjectType.POINT, id="77")), "not in the registry"),
        (said(generation=9), "before 9"),
        (said(), ""),
    ],
)
def test_what_cannot_be_recomputed_is_said_with_its_reason(one, why):
    found = explain.hindrance(one, SHIPPED, registry([Point(1)]).at(1))
    assert (why in found) if why else not found


def test_evidence_is_told_by_what_it_is():
    found = explain.grouped(EVIDENCE)
    assert {name: list(keys) for name, keys in found.items()} == {
        "samples": ["values", "value_us"], "baseline": ["baseline_c"], "limit": ["limit_k"],
        "margin": ["margin_k"], "neighbours": [], "other": ["quantity", "warm"],
    }  # fmt: skip
