"""What files would change: told from one view of the registry, without a database."""

import pytest
from fix_bridge import HEAT, SMOKE_HEAT, Device, registry

from ingest.type_plan import Status, plan, told
from sizao.errors import BadInput
from sizao.registry.write import DetectorRow

# `registry` names its types by number: type.1 is the first device's.
OURS = HEAT.replace("generic.heat", "type.1").replace("heat_detector: yes", "heat_detector: no")
HEARD = DetectorRow("ear", 1, "telemetry", [13], "Somebody is there")
HEAT_RULE = DetectorRow("heat", 1, "telemetry", [1], "It is hot")


def made(documents, *devices, allow_removal=False, detectors=(HEARD, HEAT_RULE)):
    view = registry(devices).newest
    return plan(documents, view, detectors, allow_removal=allow_removal)


def test_only_words_are_a_new_version_and_change_nothing_else():
    done = made([("f", OURS + "# a note\n")], Device("a", OURS), Device("b", OURS, state="retired"))
    (change,) = done.changes
    assert (change.status, change.version) == (Status.CHANGED, 2)
    assert (change.devices, change.in_service, change.meaning) == (2, 1, ("its words only",))
    assert (done.points_begin, done.points_end) == (0, 0)
    assert [row.name for row in done.draft.change.types] == ["type.1"]
    assert told(done) == [
        "f: type.1: changed, version 2; 2 devices (1 in service)",
        "  says       its words only",
    ]


def test_what_is_as_it_was_is_no_part_of_the_change():
    done = made([("f", OURS), ("g", SMOKE_HEAT)], Device("a", OURS))
    assert [one.status for one in done.changes] == [Status.SAME, Status.NEW]
    assert [row.name for row in done.draft.change.types] == ["generic.smoke_heat"]
    assert (done.draft.added, done.draft.altered, done.draft.same) == (1, 0, 1)
    assert not done.draft.empty
    assert made([("f", OURS)], Device("a", OURS)).draft.empty


def test_detectors_start_and_stop_with_the_quantities_that_they_read():
    smoke = SMOKE_HEAT.replace("generic.smoke_heat", "type.1")
    (change,) = made([("f", smoke)], Device("a", OURS), allow_removal=True).changes
    assert change.begin == ("smoke_od_per_m", "heard", "fire_state")
    assert ([one.name for one in change.start], [one.name for one in change.stop]) == (["ear"], [])
    (change,) = made([("f", OURS)], Device("a", smoke), allow_removal=True).changes
    assert ([one.name for one in change.start], [one.name for one in change.stop]) == ([], ["ear"])


def test_devices_that_do_not_speak_hold_up_no_removal():
    smoke = SMOKE_HEAT.replace("generic.smoke_heat", "type.1")
    done = made([("f", OURS)], Device("a", smoke, state="planned"))
    assert done.points_end == 3
    with pytest.raises(BadInput, match="which 1 devices in service measure by version 1"):
        made([("f", OURS)], Device("a", smoke, state="isolated"))


def test_a_type_in_force_that_nobody_can_read_any_more_is_told():
    with pytest.raises(BadInput, match=r"cannot be read any more.*expected --allow-removal"):
        made([("f", OURS)], Device("a", "name: [of another age"))
    done = made([("f", OURS)], Device("a", "name: [of another age"), allow_removal=True)
    assert done.changes[0].meaning == (
        "the document in force cannot be read any more: which points begin and end?",
    )


def test_a_gas_detector_needs_the_gas_of_each_device():
    gas = OURS.replace(
        "expected_interval_s:",
        "  gas_lel_pct: {pointer: /gas, unit: ppm, optional: yes}\nexpected_interval_s:",
    ).replace("heat_detector: no", "gas_detector: yes")  # fmt: skip
    with pytest.raises(
        BadInput, match=r"f:\d+: gas_detector: got 'yes', but 1 devices .*a under c1"
    ):
        made([("f", gas)], Device("a", OURS))
