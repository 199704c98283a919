"""Parameters of rules: what may be set, when it holds, and whose word counts."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from fix_parameters import AREAS, HOMES, KINDS, NIGHT, district, row
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors import rules, sets, tuning
from detectors.batch import Rows
from detectors.parameters import Window, ignored, minute_of_week, rows_of, taken
from detectors.tuning import Where
from sizao.errors import BadInput
from sizao.registry.model import LEVELS

RULES = rules.discover()
RULE = next(rule for rule in RULES if rule.NAME == "heat_rise")
SMOKE = next(rule for rule in RULES if rule.NAME == "smoke_threshold")
SHIPPED = {rule.NAME: rule.Params() for rule in RULES}
MONDAY = datetime(2026, 3, 2, tzinfo=UTC)
MINUTE_US = 60_000_000


def us(moment: datetime) -> int:
    return int(moment.timestamp()) * 1_000_000


# --- what a person may say ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["early_rise=3"], "nearest: early_rise_k"),
        (["early_rise_k"], "expected NAME=VALUE"),
        (["early_rise_k=warm"], "got 'warm', expected a number"),
        (["early_rise_k=nan"], "expected 2 to 8 K"),
        (["early_rise_k=900"], "got 900, expected 2 to 8 K: rooms"),
        (["alarm_samples_count=0"], "expected 1 to 2"),
        (["alarm_samples_count=1.5"], "expected a whole number"),
        (["clear_s=60", "clear_s=70"], "twice"),
    ],
)
def test_a_value_that_will_not_do_is_told_with_what_will(words, told):
    with pytest.raises(BadInput, match=told):
        tuning.values_of(RULE, words)


def test_all_faults_are_told_at_once_and_good_values_pass():
    with pytest.raises(BadInput, match=r"early_rise_k.*\n.*rearm_s"):
        tuning.values_of(RULE, ["early_rise_k=9", "rearm_s=1"])
    assert tuning.values_of(RULE, ["early_rise_k=5.5", "clear_s=60"]) == {
        "early_rise_k": 5.5,
        "clear_s": 60.0,
    }


def test_what_the_bridge_says_too_stays_as_shipped():
    fixed = next(rule for rule in RULES if rule.NAME == "heat_fixed")
    with pytest.raises(BadInput, match="expected 2, as shipped: the bridge"):
        tuning.values_of(fixed, ["samples_count=1"])


def test_an_unknown_rule_is_told_with_the_nearest():
    with pytest.raises(BadInput, match="nearest: heat_rise"):
        tuning.rule_named("heat_rize", RULES)


@pytest.mark.parametrize(
    ("between", "days", "told"),
    [
        ("22-6", "", "such as 22:00-06:00"),
        ("24:00-06:00", "", "such as"),
        ("25:00-06:00", "", "such as"),
        ("08:00-08:00", "", "empty"),
        ("", "mon-fry", "such as mon-fri"),
        ("", "weekend", "such as mon-fri"),
    ],
)
def test_hours_that_cannot_be_read_are_refused(between, days, told):
    with pytest.raises(BadInput, match=told):
        tuning.window_of(between, days, 0)


@pytest.mark.parametrize(
    ("between", "days", "shown"),
    [
        ("", "", "always"),
        ("22:00-06:00", "", "22:00-06:00 +08:00"),
        ("18:30-24:00", "fri-mon", "18:30-24:00 mon,fri,sat,sun +08:00"),
        ("", "sat,sun", "00:00-24:00 sat,sun +08:00"),
    ],
)
def test_hours_are_shown_as_they_are_said(between, days, shown):
    assert tuning.shown_window(tuning.window_of(between, days, 480)) == shown


def test_scopes_are_found_or_told():
    view = district([]).at(1)
    assert tuning.place_of(view, Where(district=True)) == ("district", 0)
    assert tuning.place_of(view, Where(area="a1")) == ("district", 0)
    assert tuning.place_of(view, Where(area="a2")) == ("area", 2)
    assert tuning.place_of(view, Where(site="a5")) == ("area", 5)
    assert tuning.place_of(view, Where(type="t2")) == ("type", 2)
    assert tuning.place_of(view, Where(device="k4")) == ("device", 1004)
    assert tuning.place_of(view, Where(device="c/k4")) == ("device", 1004)
    for where, told in (
        (Where(), "got 0 scopes"),
        (Where(district=True, site="a5"), "got 2 scopes"),
        (Where(site="a2"), "--site a2: not registered"),
        (Where(type="t22"), "nearest: t2"),
        (Where(device="k77"), "not registered"),
        (Where(device="d/k4"), "under carrier d"),
    ):
        with pytest.raises(BadInput, match=told):
            tuning.place_of(view, where)


# --- when -----------------------------------------------------------------------------------------

windows = st.builds(
    Window,
    from_minute=st.integers(0, 1439),
    to_minute=st.integers(0, 1439),
    days=st.integers(1, 127),
    offset_minutes=st.sampled_from([0, 480, -570, 840, -840, 1]),
)


def holds(window: Window, moment: datetime) -> bool:
    """The plain reading of a window."""
    local = moment + timedelta(minutes=window.offset_minutes)
    minute, today = local.hour * 60 + local.minute, local.weekday()
    first, last = window.from_minute, window.to_minute
    if first < last:
        return bool(window.days >> today & 1) and first <= minute < last
    began_today = bool(window.days >> today & 1) and minute >= first
    return began_today or (bool(window.days >> (today - 1) % 7 & 1) and minute < last)


@settings(max_examples=200)
@given(windows, st.integers(0, 20 * 365 * 1440))
def test_a_window_holds_when_a_person_would_say_so(window, minute):
    moment = datetime(2020, 1, 1, tzinfo=UTC) + timedelta(minutes=minute)
    (place,) = minute_of_week(np.array([us(moment)]))
    assert window.week()[place] == holds(window, moment)


def test_a_night_reaches_over_midnight_and_over_the_week():
    night = Window(from_minute=NIGHT[0], to_minute=NIGHT[1], days=1 << 6)  # begins on Sundays
    week = night.week()
    assert week[:361].tolist() == [True] * 360 + [False]
    assert week[-121:].tolist() == [False] + [True] * 120


# --- whose word counts ----------------------------------------------------------------------------

places = st.sampled_from([
    ("district", 0), *(("area", one) for one in AREAS), ("type", 1), ("type", 2),
    *(("device", 1000 + point) for point in HOMES),
])  # fmt: skip
set_rows = st.lists(
    st.tuples(
        st.sampled_from(["early_rise_k", "alarm_rise_k"]),
        places,
        st.integers(4, 8),
        st.one_of(st.just(Window()), windows),
    ),
    max_size=14,
)


def told_by_hand(rows, point: int, moment: datetime) -> dict[str, float]:
    """The order of docs/rules.md, one question after another."""
    found = {}
    area, path = HOMES[point], []
    while area:
        path.append(area)
        area = AREAS[area][0]
    site = LEVELS.index("site")
    order = [("device", 1000 + point)]
    order += [("area", a) for a in path if LEVELS.index(AREAS[a][1]) >= site]
    order += [("type", KINDS[point])]
    order += [("area", a) for a in path if LEVELS.index(AREAS[a][1]) < site]
    order += [("district", 0)]
    for place in order:
        for always in (False, True):
            for number, (name, of, value, window) in reversed(list(enumerate(rows))):
                if of == place and window.always is always and holds(window, moment):
                    found.setdefault(name, (number, value))
    return {name: value for name, (_, value) in found.items()}


@settings(max_examples=60, deadline=None)
@given(set_rows, st.lists(st.integers(0, 3 * 10080), min_size=6, max_size=6))
def test_by_arrays_is_what_one_question_after_another_says(chosen, minutes):
    rows = [
        row(number, "heat_rise", name, place, float(value), from_minute=window.from_minute,
            to_minute=window.to_minute, days=window.days, offset_minutes=window.offset_minutes)
        for number, (name, place, value, window) in enumerate(chosen, 1)
    ]  # fmt: skip
    view = district(rows).at(1)
    moments = [MONDAY + timedelta(minutes=minute) for minute in minutes]
    device = np.array([1000 + point for point in HOMES], np.int32)
    found = sets.sets_of(view, device, [RULE], SHIPPED)
    readings = Rows(
        received_us=0,
        slot=np.arange(6, dtype=np.int64),
        event_us=np.array([us(moment) for moment in moments], np.int64),
        value=np.zeros(6, np.float32),
        flags=np.zeros(6, np.uint8),
    )
    seen = {}
    for used, some in found.split(RULE, readings):
        for slot in some.slot.tolist():
            assert slot not in seen
            seen[slot] = used
    for slot, (point, moment) in enumerate(zip(HOMES, moments, strict=True)):
        said = told_by_hand(chosen, point, moment)
        expected = {name: getattr(SHIPPED["heat_rise"], name) for name in taken(RULE)} | said
        assert {name: getattr(seen[slot].params, name) for name in expected} == expected
        assert seen[slot].digest == sets.set_of(RULE, seen[slot].params).digest
        # A signal's digest is found again from the registry alone.
        chain = tuning.sets_in(view, RULE, ("device", 1000 + point))
        assert seen[slot] in chain


def test_by_the_clock_slots_are_split_like_rows():
    rows = [row(1, "direct", "hold_s", ("type", 2), 600.0)]
    rows += [row(2, "heat_rise", "clear_s", ("type", 2), 60.0, from_minute=0, to_minute=60)]
    view = district(rows).at(1)
    device = np.array([1000 + point for point in HOMES], np.int32)
    found = sets.sets_of(view, device, RULES, SHIPPED)
    direct = next(rule for rule in RULES if rule.NAME == "direct")
    assert [slots for _, slots in found.slots(direct, us(MONDAY))] == [None]
    said = {used.params.clear_s: slots.tolist() for used, slots in found.slots(RULE, us(MONDAY))}
    assert said == {60: [2, 3], 180: [0, 1, 4, 5]}
    later = us(MONDAY + timedelta(hours=1))
    assert [used.params.clear_s for used, _ in found.slots(RULE, later)] == [180]


def test_slots_are_split_anew_only_where_a_window_begins_or_ends():
    """Each second anew, 1.2 million slots took 70 to 100 ms of it."""
    rows = [row(1, "heat_rise", "clear_s", ("type", 2), 60.0, from_minute=0, to_minute=60)]
    view = district(rows).at(1)
    found = sets.sets_of(
        view, np.array([1000 + point for point in HOMES], np.int32), RULES, SHIPPED
    )
    first = found.slots(RULE, us(MONDAY))
    assert found.slots(RULE, us(MONDAY + timedelta(minutes=59))) is first
    outside = found.slots(RULE, us(MONDAY + timedelta(hours=1)))
    assert found.slots(RULE, us(MONDAY + timedelta(hours=23))) is outside
    again = found.slots(RULE, us(MONDAY + timedelta(hours=24)))
    assert [slots.tolist() for _, slots in again] == [slots.tolist() for _, slots in first]


def test_one_set_for_all_costs_no_look_at_all():
    view = district([row(1, "heat_rise", "early_rise_k", ("district", 0), 5.0)]).at(1)
    found = sets.sets_of(view, np.array([1001, 1002], np.int32), RULES, SHIPPED)
    assert found.by_rule["heat_rise"].plan is None
    assert found.by_rule["heat_rise"].sets[0].params.early_rise_k == 5.0
    assert all(own.plan is None for own in found.by_rule.values())


def test_rows_that_this_program_does_not_take_have_no_effect_and_are_told():
    rows = [
        row(1, "heat_rise", "gone_k", ("district", 0), 5.0),
        row(2, "gone", "early_rise_k", ("district", 0), 5.0),
        row(3, "heat_rise", "early_rise_k", ("area", 5), 99.0),
        row(4, "heat_rise", "early_rise_k", ("district", 0), 5.0),
    ]
    view = district(rows).at(1)
    assert [one.id for one in ignored(rows_of(view), RULES)] == [1, 2, 3]
    found = sets.sets_of(view, np.array([1001], np.int32), RULES, SHIPPED)
    assert found.by_rule["heat_rise"].sets[0].params.early_rise_k == 5.0


# --- a change -------------------------------------------------------------------------------------


def changed(view, place, values, window=tuning.ALWAYS, rule=RULE):
    rows = tuning.to_set(view, rule, place, values, window, who="t", why="w")
    then = tuning.after(view, rows)
    return then, tuning.effect(view, then, rule)


def test_a_dry_run_counts_who_is_judged_otherwise():
    view = district([row(1, "heat_rise", "early_rise_k", ("device", 1004), 6.0)]).at(1)
    then, effect = changed(view, ("area", 5), {"early_rise_k": 6.0})  # 4 has it, 1 and 5 get it
    assert (effect.devices, effect.points, effect.sets) == (2, 2, 2)
    _, same = changed(then, ("area", 9), {"early_rise_k": 6.0})
    assert (same.devices, same.points) == (0, 0)
    _, night = changed(then, ("type", 2), {"early_rise_k": 3.0}, tuning.window_of("22:00-06:00",
                       "", 480))  # fmt: skip
    assert (night.devices, night.sets) == (1, 3)
    _, none = changed(view, ("district", 0), {"alarm_per_m": 0.15}, rule=SMOKE)
    assert (none.devices, none.points) == (0, 0)


def test_windows_of_a_scope_may_not_overlap_but_may_be_altered():
    view = district([]).at(1)
    night = tuning.window_of("22:00-06:00", "", 480)
    then, _ = changed(view, ("area", 5), {"early_rise_k": 6.0}, night)
    for between in ("05:00-07:00", "00:00-01:00"):
        with pytest.raises(BadInput, match=r"22:00-06:00 \+08:00 is set at this scope already"):
            changed(then, ("area", 5), {"early_rise_k": 3.0}, tuning.window_of(between, "", 480))
    again, _ = changed(then, ("area", 5), {"early_rise_k": 7.0}, night)
    assert [one.value for one in rows_of(again)] == [7.0]
    changed(then, ("area", 5), {"early_rise_k": 3.0}, tuning.window_of("06:00-07:00", "", 480))
    changed(then, ("area", 6), {"early_rise_k": 3.0}, tuning.window_of("05:00-07:00", "", 480))


def test_what_is_unset_was_set():
    view = district([]).at(1)
    then, _ = changed(view, ("area", 5), {"early_rise_k": 6.0, "clear_s": 60.0})
    said = {"who": "t", "why": "w"}
    rows = tuning.to_unset(then, RULE, ("area", 5), ["clear_s"], None, **said)
    assert [one.parameter for one in rows_of(tuning.after(then, rows))] == ["early_rise_k"]
    rows = tuning.to_unset(then, RULE, ("area", 5), [], None, **said)
    assert not tuning.after(then, rows).parameters
    for place, names, told in ((("area", 6), [], "nothing"), (("area", 5), ["rearm_s"], "rearm_s")):
        with pytest.raises(BadInput, match=f"{told} is set at this scope"):
            tuning.to_unset(then, RULE, place, names, None, **said)


def test_more_sets_than_a_fold_can_hold_at_speed_are_refused():
    with pytest.raises(BadInput, match="65 different sets of parameters in the district"):
        tuning.check(tuning.Effect(devices=1, points=1, sets=65), RULE)
