"""A fold with parameters that people have set: by place, by generation, over a restart."""

from datetime import UTC, datetime

import pytest
from fix_detect import SECOND_US, T0_US, cold, frame, run, setup, told
from fix_parameters import district, row

from detectors import rules, sets, snapshot, tuning
from sizao.registry.model import FOREVER
from sizao.signal import encode

QUIET = [(point, 60.0 * k, 20.0) for k in range(30) for point in (1, 2, 3)]
RISE = [(point, 1800 + 10.0 * k, 20.0 + 1.1 * k) for k in range(1, 6) for point in (1, 2, 3)]
STREAM = QUIET + RISE  # 1.1 K every 10 s, to 25.5 degC
RULE = next(rule for rule in rules.discover() if rule.NAME == "heat_rise")


def limit(number, place, value, **more):
    return row(number, "heat_rise", "early_rise_k", place, value, **more)


def raises(signals):
    return [
        (each.subject.id, (each.event_us - T0_US) // SECOND_US - 1800, each.evidence["limit_k"])
        for each in signals
        if (each.rule, each.phase, each.tier) == ("heat_rise", "raise", "early")
    ]


def test_two_sites_are_judged_by_their_own_limits_and_others_as_shipped():
    known = district([limit(1, ("area", 5), 2.0), limit(2, ("area", 6), 3.0)])
    said = run(cold(known), [frame([each]) for each in STREAM])
    assert raises(said) == [("1", 20, 2.0), ("2", 30, 3.0), ("3", 40, 4.0)]
    mine = [each for each in said if each.rule == "heat_rise"]
    digests = {each.subject.id: each.evidence["rule_parameters"] for each in mine}
    assert len(set(digests.values())) == 3
    view = known.at(1)
    for point, digest in digests.items():
        (found,) = tuning.sets_in(view, RULE, ("device", 1000 + int(point)))
        assert found.digest == digest == sets.set_of(RULE, found.params).digest


def test_how_a_frame_is_cut_changes_nothing_where_sets_differ():
    known = district([limit(1, ("area", 5), 2.0), limit(2, ("area", 6), 3.0)])
    apart = run(cold(known), [frame([each], received_s=9000) for each in STREAM])
    at_once = run(cold(known), [frame(STREAM, received_s=9000)])
    assert sorted(map(encode, apart)) == sorted(map(encode, at_once))


def test_late_readings_are_judged_by_the_set_of_their_point():
    """heat_fixed takes nothing but how far apart late readings may be."""
    known = district([row(1, "heat_fixed", "late_apart_s", ("area", 5), 60.0)])
    newest = [(point, 1000.0, 20.0) for point in (1, 2)]
    hot = [(point, at, 80.0) for at in (500.0, 600.0) for point in (1, 2)]
    said = run(cold(known), [frame([each], received_s=1000) for each in [*newest, *hot]])
    assert [one for one in told(said) if one[0] == "heat_fixed"] == [
        ("heat_fixed", "urgent", "raise", "2", 600.0)
    ]


def grown(*, of_site: float = 2.0):
    """Site 5 gets a lower limit with generation 2, and with 3 none of its own."""
    return district([limit(1, ("area", 5), of_site, from_gen=2, to_gen=3)], generation=3)


def frames_of(changes):
    """The stream by a frame each 10 s or 60 s; `changes`: generation from a time on."""
    frames = []
    for at in sorted({at for _, at, _ in STREAM}):
        generation = max(number for number, since in changes.items() if at >= since)
        frames += [frame([each for each in STREAM if each[1] == at], generation=generation)]
    return frames


def test_a_change_holds_from_the_first_frame_that_carries_its_generation():
    known = grown()
    for since, at, limit_k in ((0, 20, 2.0), (1815, 20, 2.0), (1825, 30, 2.0), (1841, 40, 4.0)):
        fold = cold(known, generation=1)
        said = run(fold, frames_of({1: 0, 2: since}), known)
        assert raises(said)[0] == ("1", at, limit_k)
    fold = cold(known, generation=1)
    assert raises(run(fold, frames_of({1: 0, 2: 900, 3: 1815}), known))[0] == ("1", 40, 4.0)


def test_a_replay_judges_as_the_first_run_did():
    """The first run learns generations one by one; a replay knows all of them from the start."""
    frames = frames_of({1: 0, 2: 900, 3: 1825})
    first = cold(district([]), generation=1)
    said = run(first, [each for each in frames if each.generation == 1])
    known = grown()
    said += run(first, [each for each in frames if each.generation > 1], known)
    assert [encode(each) for each in said] == [
        encode(each) for each in run(cold(known, generation=1), frames, known)
    ]


@pytest.mark.parametrize("at", [20, 31, 33])
def test_a_snapshot_goes_on_under_a_newer_generation(at):
    known, frames = grown(), frames_of({1: 0, 2: 900, 3: 1815})
    whole = run(cold(known, generation=1), frames, known)
    fold = cold(known, generation=1)
    before = run(fold, frames[:at], known)
    again, blocks = snapshot.unpack(snapshot.pack(fold), known, setup())
    assert not blocks
    assert [encode(each) for each in before + run(again, frames[at:], known)] == [
        encode(each) for each in whole
    ]


def test_an_onset_that_is_on_survives_another_limit():
    """No second raise, and it is over when what is then in force calls it calm."""
    known = district([limit(1, ("district", 0), 7.0, from_gen=2)], generation=2)
    calm = [(1, 1850 + 10.0 * k, 23.2) for k in range(1, 40)]  # 3.2 K: over half of 4, not of 7
    frames = [frame([each]) for each in STREAM if each[0] == 1]
    fold = cold(known, generation=1)
    said = run(fold, frames + [frame([each]) for each in calm[:19]], known)
    assert said[0].phase == "raise"
    assert "clear" not in {each.phase for each in said}
    after = run(fold, [frame([each], generation=2) for each in calm[19:]], known)
    said, after = ([each for each in some if each.rule == "heat_rise"] for some in (said, after))
    assert {each.onset for each in said + after} == {said[0].onset}
    assert after[-1].phase == "clear"
    assert after[-1].evidence["limit_k"] == 7.0


def test_hours_are_those_of_the_event_and_not_of_its_arrival():
    hour = datetime.fromtimestamp((T0_US // SECOND_US) + 1800, UTC)
    begin = hour.hour * 60 + hour.minute
    inside = {"from_minute": begin, "to_minute": (begin + 10) % 1440}
    known = district([limit(1, ("area", 5), 2.0, **inside, to_gen=FOREVER)])
    now = run(cold(known), [frame([each]) for each in STREAM])
    late = run(cold(known), [frame([each], received_s=40_000) for each in STREAM])
    assert raises(now) == raises(late) == [("1", 20, 2.0), ("2", 40, 4.0), ("3", 40, 4.0)]
