"""When a device that stays bad is a fault, how long, and that a second look says the same again."""

from fix_quality import DAY, UTC8_MIN, roster

from ingest.quality_clock import DAY_US, SECOND_US
from ingest.quality_fault import Day, judge
from sizao import signal
from sizao.signal import Phase
from sizao.topics import CONDITIONS

OFFSET_US = UTC8_MIN * 60 * SECOND_US
PLACE = roster((0, 60, 2), (0, 60, 2), (0, 60, 1), (0, 60, 0), generation=9)
GOOD = Day(
    bad_before=False, why=[], received=1440, expected=1440.0, missed=0, rejects=0, out_of_range=0,
    corrected=0, stuck=0,
)  # fmt: skip
SILENT = GOOD._replace(why=["silent"], received=0, missed=1440)
GAPS = GOOD._replace(why=["gaps"], received=720, missed=700)
AGAIN = GAPS._replace(bad_before=True)


def told(days, since=(), day=DAY):
    found = judge(PLACE, day, days, dict(since), OFFSET_US)
    return found, [(one.phase, one.device) for one in found.signals]


def test_a_silent_day_is_a_fault_at_once_and_another_when_it_stays():
    assert told({1: SILENT, 2: GAPS})[1] == [(Phase.RAISE, 1)]
    assert told({1: SILENT, 2: AGAIN})[1] == [(Phase.RAISE, 1), (Phase.RAISE, 2)]
    assert told({2: GOOD._replace(bad_before=True)})[1] == []


def test_the_onset_is_the_first_bad_day_s_start():
    found, _ = told({1: SILENT, 2: AGAIN})
    assert found.begun == {1: DAY, 2: DAY - 1}
    assert [one.onset_us + OFFSET_US for one in found.signals] == [DAY * DAY_US, (DAY - 1) * DAY_US]
    assert {one.event_us + OFFSET_US for one in found.signals} == {(DAY + 1) * DAY_US}


def test_it_goes_on_while_days_are_bad_and_ends_with_the_first_good_one():
    open_since = {1: DAY - 3, 2: DAY - 3}
    found, said = told({1: GAPS, 2: GOOD}, since=open_since)
    assert said == [(Phase.REFRESH, 1), (Phase.CLEAR, 2)]
    assert (found.begun, found.ended) == ({}, [2])
    assert told({}, since=open_since)[1] == [], "a day on which nobody listened says nothing"


def test_one_onset_from_raise_to_clear():
    raised = judge(PLACE, DAY, {2: AGAIN}, {}, OFFSET_US)
    later = judge(PLACE, DAY + 1, {2: AGAIN}, raised.begun, OFFSET_US)
    cleared = judge(PLACE, DAY + 2, {2: GOOD}, raised.begun, OFFSET_US)
    said = [*raised.signals, *later.signals, *cleared.signals]
    assert len({one.onset for one in said}) == 1
    assert len({one.id for one in said}) == 3
    assert judge(PLACE, DAY, {2: AGAIN}, {}, OFFSET_US) == raised


def test_isolated_and_retired_devices_say_nothing_and_what_was_open_ends():
    assert told({3: SILENT, 4: SILENT})[1] == []
    found, said = told({3: SILENT}, since={3: DAY - 1, 4: DAY - 1, 99: DAY - 1})
    assert said == [(Phase.CLEAR, 3), (Phase.CLEAR, 4), (Phase.CLEAR, 99)]
    assert found.ended == [3, 4, 99]


def test_a_signal_of_conditions_with_its_figures():
    (one,) = told({1: SILENT})[0].signals
    assert signal.topic_of(one.kind) is CONDITIONS
    value = signal.encode(one)
    assert signal.decode(value, signal.headers(one, value, "archive")) == one
    said = (one.evidence["why"], one.evidence["expected"], one.evidence["missed"], one.site)
    assert said == ("silent", 1440.0, 1440, 7)
    assert one.evidence["missed_share_min"] == 0.1
