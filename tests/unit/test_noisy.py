"""Who speaks too often: budgets, backlogs, what is told of it, and that others notice nothing."""

import itertools

import pytest
from fix_bridge import BATCH, SMOKE_STATE, T0_US, Device, message, small
from hypothesis import given
from hypothesis import strategies as st

from ingest import noisy as noisies
from ingest import rejects
from ingest.device_types.reasons import Reason
from ingest.noisy import Budget, Noisy
from ingest.plan import Desk, plan
from sizao.topics import REJECTS
from sizao.units import Lane

PLACE = small(
    Device("h1", partition=1),
    Device("h2", partition=2),
    Device("s1", SMOKE_STATE),
    Device("t1", BATCH, carrier="gw"),
    Device("t2", BATCH, carrier="gw2"),
)
BUDGET = Budget(
    device_per_s=2,
    device_burst=10,
    carrier_per_s=4,
    carrier_burst=20,
    roster_per_s=0.0,
    roster_burst=0.0,
)
HOT = '{"temperature": 50}'
H1, H2 = "up/c1/telemetry/h1", "up/c1/telemetry/h2"


def admitted(noisy, place, said, now_s, *, listening=True):
    leads = place.leads(Lane.TELEMETRY, said)
    kept, told = noisy.admit(place, Lane.TELEMETRY, said, now_s, leads=leads, listening=listening)
    return [said[at] for at in kept.tolist()], told


def passed(noisy, topics, now_s=100.0, *, listening=True, payload=HOT, place=PLACE):
    """How many of these are let pass, in one tick."""
    said = [message(topic, payload, at_us=T0_US + n) for n, topic in enumerate(topics)]
    heard, told = admitted(noisy, place, said, now_s, listening=listening)
    assert [one for one in said if one in heard] == list(heard), "in their order"
    return len(heard), told


def test_a_device_has_a_burst_and_then_its_rate():
    noisy = Noisy(BUDGET)
    assert passed(noisy, [H1] * 30)[0] == 10
    assert passed(noisy, [H1] * 30, 100.5)[0] == 1
    assert passed(noisy, [H1] * 30, 102.5)[0] == 4
    for second in range(103, 200):
        passed(noisy, [], float(second))
    assert passed(noisy, [H1] * 30, 200.0)[0] == 10


def test_a_neighbour_has_its_own():
    noisy = Noisy(BUDGET)
    assert passed(noisy, [H1, H2] * 9)[0] == 18
    assert passed(noisy, [H1] * 50 + [H2], 100.1)[0] == 2


def test_many_kilobytes_count_as_many_messages():
    noisy = Noisy(BUDGET)
    assert passed(noisy, [H1] * 9, payload="x" * 8192)[0] == 3
    assert passed(noisy, [H2] * 9, payload="x" * 4095)[0] == 9


def test_a_carrier_has_one_for_what_names_its_devices_inside():
    noisy = Noisy(BUDGET)
    raw = '{"keys": ["t1"], "temperatures": [1]}'
    assert passed(noisy, ["up/gw/telemetry"] * 50, payload=raw)[0] == 20
    assert passed(noisy, ["up/gw2/telemetry"] * 5, payload=raw)[0] == 5


def test_what_leads_nowhere_is_its_carrier_s_and_leaves_its_devices_alone():
    noisy = Noisy(BUDGET)
    nowhere = [f"up/c1/telemetry/x{n}" for n in range(50)]
    assert passed(noisy, nowhere)[0] == 20
    assert passed(noisy, [H1] * 5)[0] == 5
    assert passed(noisy, ["up/stranger/telemetry/x"] * 5)[0] == 5


def test_a_platform_may_speak_for_each_of_its_roster():
    place = small(*(Device(f"t{n}", BATCH, carrier="gw") for n in range(100)))
    said = ["up/gw/telemetry"] * 200
    noisy = Noisy(Budget(carrier_per_s=1, carrier_burst=20, roster_per_s=0.5, roster_burst=0.8))
    assert passed(noisy, said, place=place)[0] == 100
    assert passed(noisy, said, 101.0, place=place)[0] == 51


def test_nor_does_it_matter_that_it_spoke_before_its_devices_were_imported():
    noisy = Noisy(Budget(carrier_per_s=1, carrier_burst=10, roster_per_s=0.5, roster_burst=1.0))
    passed(noisy, ["up/gw/telemetry"], 100.0, place=small(Device("h1")))
    place = small(*(Device(f"t{n}", BATCH, carrier="gw") for n in range(100)))
    assert passed(noisy, ["up/gw/telemetry"] * 200, 101.0, place=place)[0] == 9 + 51


@pytest.mark.parametrize(
    ("devices", "count", "per_s"),
    [
        pytest.param(50_000, 300_000, 20_000, id="a platform after an hour, 6 words each"),
        pytest.param(50, 86_400, 1_000, id="a gateway after a day, a batch each second"),
    ],
)
def test_who_was_away_loses_nothing(devices, count, per_s):
    place = small(*(Device(f"t{n}", BATCH, carrier="gw") for n in range(devices)))
    noisy, now_s = Noisy(Budget()), 100.0
    for _ in range(0, count, per_s):
        now_s += 1.0
        said = [message("up/gw/telemetry", "x" * 3_000)] * per_s
        heard, told = admitted(noisy, place, said, now_s)
        assert (len(heard), told) == (per_s, [])


def test_a_registry_s_new_generation_gives_no_new_budget():
    noisy = Noisy(BUDGET)
    assert passed(noisy, [H1] * 30)[0] == 10
    grown = small(Device("h1"), *(Device(f"n{n}") for n in range(9)))
    assert passed(noisy, [H1] * 30, place=grown)[0] == 0
    assert passed(noisy, ["up/c1/telemetry/n8"] * 30, place=grown)[0] == 10


def test_what_the_broker_kept_while_we_were_away_is_held_against_nobody():
    noisy = Noisy(BUDGET)
    assert passed(noisy, [H1] * 10)[0] == 10
    passed(noisy, [], 100.1)
    passed(noisy, [], 150.1, listening=False)
    assert passed(noisy, [H1] * 200, 160.1)[0] == 120, "60 s at 2/s; its burst was used before"
    assert passed(noisy, [H2] * 200, 160.2)[0] == 130
    passed(noisy, [], 160.3)  # the queue is empty: back to the usual
    assert passed(noisy, ["up/c1/telemetry/x"] * 200, 160.4)[0] == 20
    assert passed(noisy, [H1] * 200, 180.4)[0] == 40, "where nothing was planned, we were away too"


def test_what_a_bridge_finds_at_its_start():
    assert passed(Noisy(BUDGET, away_s=45.0), [H1] * 200)[0] == 100


def test_a_flood_is_told_at_once_then_once_a_minute_and_to_its_end():
    noisy = Noisy(BUDGET)
    told = []
    for tenth in range(900):
        told += passed(noisy, [H1, H1, H2] if tenth % 5 == 0 else [H1] * 2, 100 + tenth / 10)[1]
    assert [one.device for one in told] == [1, 1]
    assert told[0].message.payload == HOT.encode()
    for second in range(191, 400):
        told += passed(noisy, [], float(second))[1]
    assert [(one.device, one.message.payload) for one in told[2:]] == [(1, b"")]
    let_pass = 10 + 2 * 90
    assert sum(one.count for one in told) == pytest.approx(1800 - let_pass, abs=2)
    assert not noisy._told, "forgotten when it is over"


def test_offenders_and_carriers_are_bounded(monkeypatch):
    monkeypatch.setattr(noisies, "OFFENDERS_MAX", 3)
    monkeypatch.setattr(noisies, "CARRIERS_MAX", 4)
    noisy = Noisy(BUDGET)
    for n in range(9):
        count, told = passed(noisy, [f"up/u{n}/telemetry/x"] * 25)
        assert count == 20
        assert [one.count for one in told] in ([5], [])
        assert len(noisy._told) <= 3
        assert len(noisy._slots) <= 4


def run(noisy, messages, lane=Lane.TELEMETRY):
    desk = Desk(bridge="b0", lane=lane, sequence=T0_US, noisy=noisy)
    stamp = itertools.count(T0_US).__next__
    return plan(desk, PLACE, messages, stamp, now_s=100.0, listening=False)


def test_a_plan_acknowledges_and_counts_what_it_does_not_decode():
    messages = [message(H1, HOT, at_us=T0_US + n) for n in range(30)]
    messages.insert(29, message(H2, "bad"))
    effects = run(Noisy(BUDGET), messages)
    assert list(effects.messages) == messages
    assert effects.readings == 10
    assert effects.rejects == {Reason.TOO_OFTEN: 20, Reason.NOT_JSON: 1}
    letters = [
        rejects.read(one.value, one.headers) for one in effects.records if one.topic == REJECTS.name
    ]
    assert [(one.reason, one.device, one.count) for one in letters] == [
        (Reason.TOO_OFTEN, 1, 20),
        (Reason.NOT_JSON, 2, 1),
    ]
    assert letters[1].topic == H2.encode()


def test_the_alarm_lane_has_no_budget():
    messages = [message("up/c1/alarm/s1", '{"event": "alarm"}')] * 5_000
    effects = run(None, messages, Lane.ALARM)
    assert effects.rejects == {}
    assert effects.readings >= 5_000


@given(
    st.lists(st.lists(st.sampled_from([H1, H2, "up/gw/telemetry", "up/x/y"]), max_size=40)),
    st.sampled_from([0.0, 0.25, 1.5]),
)
def test_a_bucket_for_each_asked_message_by_message(ticks, step_s):
    noisy, now_s, levels = Noisy(BUDGET), 100.0, {}
    for topics in ticks:
        now_s += step_s
        said = [message(topic, HOT, number=n) for n, topic in enumerate(topics)]
        some, _ = admitted(noisy, PLACE, said, now_s)
        expected = []
        for one in said:
            full, per_s = (10, 2) if one.topic.decode() in {H1, H2} else (20, 4)
            level, at_s = levels.get(one.topic, (full, now_s))
            level = min(full, level + (now_s - at_s) * per_s)
            if level >= 1:
                expected.append(one.packet_id)
                level -= 1
            levels[one.topic] = level, now_s
        assert [one.packet_id for one in some] == expected
