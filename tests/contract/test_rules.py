"""Every file in detectors/rules/ keeps the contract of a rule (detectors/rule.py)."""

import ast
import dataclasses
import inspect
import re
from pathlib import Path

import numpy as np
import pytest
from fix_detect import T0_US, Point, frame, registry, run

from detectors import channels, features, rules, seen, snapshot
from detectors import state as folds
from detectors.batch import Rows
from detectors.beside import beside_of
from detectors.features import Heat
from detectors.parameters import taken
from detectors.rule import Points, empty_block, hear_of, joins, key_of, late_of, tick_of
from sizao.units import BY_NAME, Lane

SHIPPED = rules.discover()
EACH = pytest.mark.parametrize("rule", SHIPPED, ids=[rule.NAME for rule in SHIPPED])
READERS = [rule for rule in SHIPPED if rule.READS]
"""Silence alone makes one speak that only hears: tests/unit/test_rule_offline.py."""
EACH_READER = pytest.mark.parametrize("rule", READERS, ids=[rule.NAME for rule in READERS])
UNITS = {
    "k", "c", "s", "m", "ma", "kpa", "ppm", "pct", "samples", "count", "share", "deg", "h",
}  # fmt: skip
PARTS = ("Fire signature:", "Misses:", "Source:", "Worked example")
QUIET_BAD = {
    "temperature_c": (20.0, 90.0),
    "smoke_od_per_m": (0.0, 0.5),
    "co_ppm": (1.0, 400.0),
    "gas_lel_pct": (0.0, 60.0),
    "residual_current_ma": (20.0, 400.0),
    "cable_temperature_c": (40.0, 120.0),
    "pressure_kpa": (300.0, 20.0),
    "level_m": (2.5, 0.1),
    "surface_temperature_c": (25.0, 200.0),
    "fire_state": (0.0, 1.0),
    "fault_state": (0.0, 1.0),
    "tilt_deg": (0.4, 40.0),
    "flow_m3_per_h": (0.0, 20.0),
    "heard": (1.0, 1.0),
}
"""A quiet hundred readings of the first quantity that a rule reads, and as bad as it gets."""
STEP_S = {"tank_level": 7200.0}  # between readings, where it is not 10: a day of quiet is its least
THREE = {"heat_zone"}
"""Rules that hear of nothing where there are only two points; and what one says hangs on others."""
BREAKS = {
    "sensor_fault": (90.0, 20.0, 90.0, 20.0, 90.0, 20.0, 90.0, 20.0, 90.0, 20.0),
    "condition": (1.0,) * 10,
}
"""Where a fire is not as bad as it gets."""


def quantity_of(rule):
    return "fire_state" if rule.LANE is Lane.ALARM else (*rule.READS, "heard")[0]


def two_points(quantity):
    return Points(
        quantity=np.array([BY_NAME[quantity].code] * 2, np.int16),
        heat_limit_c=np.array([54.0, 54.0], np.float32),
        static_only=np.zeros(2, np.bool_),
        device=np.array([1, 2], np.int32),
        area=np.array([3, 3], np.int32),
        site=np.array([2, 2], np.int32),
        site_count=np.array([2, 2], np.int32),
    )


def points_of(rule):
    points = two_points(quantity_of(rule))
    if not joins(rule):
        return points
    names = [BY_NAME[name].code for name in rule.READS[:2]] * 2
    device, site = np.array([1, 1, 2, 2], np.int32), np.full(4, 2, np.int32)
    quantity, never = np.array(names, np.int16), np.zeros(4, np.bool_)
    beside = beside_of(quantity, device, site, site, never)
    return dataclasses.replace(points, quantity=quantity, device=device, beside=beside)


def ids_of(rule):
    return (1, 2, 3) if rule.NAME in THREE else (1, 2)


def points_by_kind(rule):
    """Quantities, each with its points; of a place the second stands two points after the first."""
    if not joins(rule):
        return [(quantity_of(rule), ids_of(rule))]
    return [(kind, (1 + 2 * place, 2 + 2 * place)) for place, kind in enumerate(rule.READS[:2])]


def known_by(rule):
    """Devices with a point each, or with one of each kind that a rule over places needs."""
    if not joins(rule):
        return registry([Point(point, quantity_of(rule)) for point in ids_of(rule)])
    return registry(
        Point(point, kind, device=1 + (point + 1) % 2)
        for kind, ids in points_by_kind(rule)
        for point in ids
    )


POINTS = two_points("temperature_c")


def rows_of(values, at_s=0.0):
    return Rows(
        received_us=T0_US,
        slot=np.arange(len(values), dtype=np.int64),
        event_us=np.full(len(values), T0_US + int(at_s * 1e6)),
        value=np.array(values, np.float32),
        flags=np.zeros(len(values), np.uint8),
    )


def inputs_of(rule, values, at_s=0.0):
    """What the rule's `step` is handed; thermometers have been at 20 degC for an hour."""
    if joins(rule):
        block, points = empty_block(channels.COLUMNS, 4), points_of(rule)
        rows = rows_of(values, at_s)
        rows = dataclasses.replace(rows, slot=np.array([0, 2][: len(values)], np.int64))
        block["watched"][:] = True
        moved = channels.move(block, channels.Params(), rows, points.beside, again=False)
        return seen.see(block, channels.Params(), moved, points.beside), points
    if rule.READS != ("temperature_c",):
        return rows_of(values, at_s), points_of(rule)
    block = empty_block(features.COLUMNS, 2)
    for name, item in (("x_c", 20.0), ("baseline_c", 20.0), ("age_s", 3600.0)):
        block[name][:] = item
    block["last_us"][:] = T0_US - 10_000_000
    block["seed_us"][:] = T0_US - 3_600_000_000
    return features.update(block, features.Params(), rows_of(values, at_s)), POINTS


def arrays_of(rows):
    fields = [getattr(rows, field.name) for field in dataclasses.fields(rows)]
    return [each for each in fields if isinstance(each, np.ndarray)]


def test_every_file_is_found_and_named_after_its_rule():
    files = sorted(path.stem for path in Path(rules.__file__).parent.glob("*.py"))
    assert [rule.NAME for rule in SHIPPED] == [name for name in files if name != "__init__"]


@EACH
def test_it_says_who_it_is(rule):
    assert re.fullmatch(r"[a-z][a-z0-9_]+", rule.NAME)
    assert isinstance(rule.VERSION, int)
    assert rule.VERSION >= 1
    assert isinstance(rule.READS, tuple)
    assert {BY_NAME[name].lane for name in rule.READS} <= {rule.LANE}
    assert rule.READS or hear_of(rule) is not None
    assert 0 < rule.MEMORY_S <= 7 * 86400
    assert inspect.isfunction(rule.step)


@EACH
def test_its_docstring_says_what_it_finds_and_what_it_misses(rule):
    missing = [part for part in PARTS if part not in rule.__doc__]
    assert not missing


@EACH
def test_params_are_frozen_and_name_their_units(rule):
    params = rule.Params()
    fields = dataclasses.fields(rule.Params)
    assert fields
    for field in fields:
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(params, field.name, 1)
        assert isinstance(getattr(params, field.name), int | float)
        assert field.name.rsplit("_", 1)[-1] in UNITS, field.name


@EACH
def test_each_parameter_has_bounds_with_a_reason_around_what_is_shipped(rule):
    known = taken(rule)
    assert set(known) == {field.name for field in dataclasses.fields(rule.Params)}
    assert set(getattr(rule, "BOUNDS", {})) <= set(known)
    for one in known.values():
        assert one.bound.low <= one.shipped <= one.bound.high or not one.shipped, one.name
        assert len(one.bound.reason) > 8
        assert one.fault(one.shipped) == ""


def worst_sets(rule):
    """Every parameter at either end, alone and all together."""
    known = taken(rule).values()
    low = {one.name: one.of(one.bound.low) for one in known}
    high = {one.name: one.of(one.bound.high) for one in known}
    yield from (low, high)
    yield from ({name: end[name]} for end in (low, high) for name in end)


@EACH_READER
def test_nobody_can_set_it_to_never(rule):
    """A hundred quiet readings, long enough for any baseline, then far worse than any limit."""
    readings, known, slow_s = [], known_by(rule), STEP_S.get(rule.NAME, 60.0)
    fast_s = STEP_S.get(rule.NAME, 10.0)
    for kind, ids in points_by_kind(rule):
        quiet, bad = QUIET_BAD[kind]
        worst = [bad + (bad - quiet)] * 10 if bad > quiet else [0.0] * 10
        worst = BREAKS.get(rule.NAME, worst) * 2
        readings += [(point, -slow_s * k, quiet) for k in range(99, -1, -1) for point in ids]
        readings += [(point, fast_s * k, each) for k, each in enumerate(worst, 1) for point in ids]
    for given in worst_sets(rule):
        params = dataclasses.replace(rule.Params(), **given)
        setup = dataclasses.replace(folds.setup_of([rule]), params={rule.NAME: params})
        said = run(folds.start(rule.LANE, 0, known.at(1), setup), [frame(readings)])
        assert any(each.phase == "raise" for each in said), given


@EACH
def test_it_is_pure(rule):
    tree = ast.parse(Path(rule.__file__).read_text(encoding="utf-8"))
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import)
                for alias in node.names}  # fmt: skip
    imported |= {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    ours = {name for name in imported if name.split(".")[0] in {"sizao", "detectors"}}
    assert ours <= {
        "detectors", "detectors.batch", "detectors.channels", "detectors.features",
        "detectors.hot", "detectors.jumps", "detectors.latch", "detectors.level",
        "detectors.moisture", "detectors.neighbours", "detectors.onset", "detectors.places",
        "detectors.rule", "detectors.seen", "detectors.slow", "detectors.verify",
        "sizao.frame", "sizao.limits", "sizao.signal", "sizao.units",
    }  # fmt: skip
    allowed = {"__future__", "dataclasses", "functools", "math", "numpy", "numpy.typing"}
    assert imported - ours <= allowed


@EACH
def test_its_state_is_arrays_of_declared_types(rule):
    block = empty_block(rule.COLUMNS, 3)
    assert len(block) == len(rule.COLUMNS)
    for column in rule.COLUMNS:
        assert block[column.name].shape == (3,)
        assert block[column.name].dtype == column.dtype
        assert block[column.name].dtype.kind in "biuf"


@EACH
def test_no_rows_say_nothing_and_change_nothing(rule):
    rows, points = inputs_of(rule, [])
    block = empty_block(rule.COLUMNS, len(points.quantity))
    assert rule.step(block, rule.Params(), rows, points) == []
    tick = tick_of(rule)
    if tick is not None:
        assert tick(block, rule.Params(), T0_US, points, None) == []
        assert tick(block, rule.Params(), T0_US, points, np.arange(2)) == []
    assert not any(column.any() for column in block.values())


@EACH
def test_step_changes_nothing_of_its_input(rule):
    rows, points = inputs_of(rule, [QUIET_BAD[quantity_of(rule)][1]] * 2)
    handed = [*arrays_of(rows), points.quantity, points.heat_limit_c]
    before = [each.copy() for each in handed]
    for each in handed:
        each.flags.writeable = False
    block = empty_block(rule.COLUMNS, len(points.quantity))
    rule.step(block, rule.Params(), rows, points)
    assert all(np.array_equal(a, b) for a, b in zip(before, handed, strict=True))


@EACH
def test_late_readings_alone_change_nothing_of_their_input(rule):
    late = late_of(rule)
    if late is None:
        return
    block = empty_block(features.COLUMNS, 2)
    block["last_us"][:] = T0_US + 10_000_000
    _, rows, _ = features.split(block, features.Params(), rows_of([90.0, 20.0]))
    for each in arrays_of(rows):
        each.flags.writeable = False
    late(empty_block(rule.COLUMNS, 2), rule.Params(), rows, POINTS)


def fire_frames(rule):
    """A hundred quiet frames and then as bad as it gets, for all its points."""
    streams, step_s = [], STEP_S.get(rule.NAME, 10.0)
    for kind, ids in points_by_kind(rule):
        quiet, bad = QUIET_BAD[kind]
        values = [quiet] * 100 + list(BREAKS.get(rule.NAME, [bad] * 10))
        streams += [(point, values) for point in ids]
    return [
        frame([(point, step_s * k, values[k]) for point, values in streams])
        for k in range(len(streams[0][1]))
    ]


@EACH_READER
def test_it_speaks_at_a_fire_with_evidence_that_fits_the_contract(rule):
    # signal.decode checks keys, bounds, finite numbers and ids; see tests of the contract.
    from sizao import signal

    setup = folds.setup_of([rule])
    fold = folds.start(rule.LANE, 0, known_by(rule).at(1), setup)
    said = run(fold, fire_frames(rule))
    assert said
    for each in said:
        value = signal.encode(each)
        assert signal.decode(value, signal.headers(each, value)) == each
        assert {"quantity", "unit"} <= set(each.evidence)
        assert each.evidence["unit"] == BY_NAME[each.evidence["quantity"]].unit
        assert each.rule_version == rule.VERSION


@EACH
def test_its_state_survives_a_snapshot_in_the_middle_of_the_fire(rule):
    setup, known = folds.setup_of([rule]), known_by(rule)
    frames = fire_frames(rule)
    whole = run(folds.start(rule.LANE, 0, known.at(1), setup), frames)
    for at in range(99, 110):
        fold = folds.start(rule.LANE, 0, known.at(1), setup)
        before = run(fold, frames[:at])
        again, cold = snapshot.unpack(snapshot.pack(fold), known, setup)
        assert not cold
        assert key_of(rule) in again.blocks
        assert before + run(again, frames[at:]) == whole


@EACH
def test_it_keeps_points_apart(rule):
    if rule.NAME in THREE:
        return
    setup, known = folds.setup_of([rule]), known_by(rule)
    frames = fire_frames(rule)
    alone = [
        frame([(int(point), (int(at) - T0_US) / 1e6, float(value))
               for point, at, value in zip(each.point, each.event_us, each.value, strict=True)
               if point % 2])
        for each in frames
    ]  # fmt: skip
    fold = folds.start(rule.LANE, 0, known.at(1), setup)
    both = run(folds.start(rule.LANE, 0, known.at(1), setup), frames)
    assert run(fold, alone) == [each for each in both if int(each.subject.id) % 2]


def test_heat_is_what_the_contract_test_hands_over():
    rows, _ = inputs_of(next(rule for rule in SHIPPED if rule.NAME == "heat_rise"), [20.0])
    assert isinstance(rows, Heat)
