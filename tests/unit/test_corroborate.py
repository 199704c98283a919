"""What several devices say together, line by line of the table in alerting/corroborate.py."""

from __future__ import annotations

import itertools

import pytest
from fix_alerting import view
from fix_incident import MINUTE, T0, Desk, make

from alerting.model import Became, Nature, Place, State, Verdict, What
from alerting.place import NOWHERE, place_of
from sizao.registry.model import CHARGING
from sizao.signal import Kind, Phase, Subject, SubjectType, Tier

HOUR = 60 * MINUTE
SHED = Place(charging=True)


def floor(number):
    return Place(floor=number)


def water(at=T0, device=90, **more):
    return make(device, at=at, kind=Kind.WATER, **more)


def lost(device=1, *, since, at=None, **more):
    """Offline, an hour after it fell silent."""
    at = since + HOUR if at is None else at
    return make(
        device, at=at, onset=since, kind=Kind.OFFLINE, tier=Tier.EARLY, rule="offline", **more
    )


def broken(device=1, *, at, quantity="fault_state", rule="condition"):
    said = {"quantity": quantity}
    return make(device, at=at, kind=Kind.FAULT, tier=Tier.EARLY, rule=rule, evidence=said)


def early(device=1, at=T0, **more):
    return make(device, at=at, tier=Tier.EARLY, **more)


# -- two that are early


@pytest.mark.parametrize(
    ("first", "second", "tier"),
    [
        (3, 3, Tier.ALARM),
        (3, 4, Tier.ALARM),
        (-1, 1, Tier.ALARM),
        (-2, -1, Tier.ALARM),
        (4, 3, Tier.EARLY),  # fire spreads upwards
        (3, 5, Tier.EARLY),
        (3, None, Tier.EARLY),
        (None, None, Tier.ALARM),  # a shop has no floors
    ],
)
def test_two_early_on_a_floor_or_the_next_above_are_an_alarm(first, second, tier):
    signals = [(early(1), floor(first)), (early(2, T0 + MINUTE), floor(second))]
    for order in itertools.permutations(signals):
        desk = Desk()
        for one, place in order:
            desk.hear(one, place=place)
        assert desk.incident.tier is tier
        assert desk.whats == [What.OPENED, What.RAISED if tier is Tier.ALARM else What.JOINED]
        assert desk.incident.alarm_member == ""


@pytest.mark.parametrize(
    ("minutes", "second", "tier"),
    [
        (10, {}, Tier.ALARM),
        (11, {}, Tier.EARLY),
        (1, {"device": 1}, Tier.EARLY),  # the same one again
        (1, {"rule": "heat_zone"}, Tier.EARLY),  # a house that is heated
        (1, {"rule": "heat_cusum"}, Tier.EARLY),
        (1, {"evidence": {"steam_hpa_per_k": 2.5}}, Tier.EARLY),
        (1, {"site": 8}, Tier.EARLY),
    ],
)
def test_they_are_near_in_time_and_speak_for_themselves(minutes, second, tier):
    desk = Desk()
    desk.hear(early(1), place=floor(3))
    desk.hear(early(**{"device": 2, "at": T0 + minutes * MINUTE, **second}), place=floor(3))
    assert {one.tier for one in desk.book.newest.values()} == {tier}


def test_one_that_spoke_for_its_neighbours_is_no_second_until_it_speaks_for_itself():
    desk = Desk()
    desk.hear(early(1, rule="heat_zone"))
    desk.hear(early(2, T0 + MINUTE))
    assert desk.incident.tier is Tier.EARLY
    desk.hear(early(1, T0 + 2 * MINUTE))
    assert desk.incident.tier is Tier.ALARM


def test_a_test_is_no_second_of_a_fire():
    desk = Desk()
    desk.hear(early(1))
    desk.hear(early(2, T0 + MINUTE), Nature.TEST)
    assert {one.tier for one in desk.book.newest.values()} == {Tier.EARLY}


# -- where e-bikes are charged


def test_an_alarm_where_bikes_are_charged_is_urgent_at_the_first_device():
    desk = Desk()
    desk.hear(early(), place=SHED)
    assert desk.incident.tier is Tier.EARLY
    desk.hear(make(at=T0 + MINUTE), place=SHED)
    assert desk.incident.tier is Tier.URGENT
    assert desk.whats == [What.OPENED, What.RAISED]


def test_gas_where_bikes_are_charged_is_what_it_says():
    desk = Desk()
    desk.hear(make(kind=Kind.GAS), place=SHED)
    assert desk.incident.tier is Tier.ALARM


# -- water


@pytest.mark.parametrize("tier", list(Tier))
@pytest.mark.parametrize("minutes", [-10, 0, 10])
def test_water_beside_a_fire_is_urgent_whichever_comes_first(tier, minutes):
    for order in itertools.permutations((make(tier=tier), water(T0 + minutes * MINUTE))):
        desk = Desk()
        for one in order:
            desk.hear(one)
        assert desk.incident.tier is Tier.URGENT
        assert desk.incident.state is State.OPEN


@pytest.mark.parametrize(
    "other",
    [
        {"at": T0 + 11 * MINUTE},
        {"at": T0 - 11 * MINUTE},
        {"site": 8},
        {"phase": Phase.CLEAR},
        {"self_test": True},
    ],
)
def test_other_water_is_a_matter_of_its_own(other):
    nature = Nature.TEST if other.get("self_test") else Nature.REAL
    for order in itertools.permutations(((make(), Nature.REAL), (water(**other), nature))):
        desk = Desk()
        for one, of in order:
            desk.hear(one, of)
        assert desk.incident.tier is Tier.ALARM
        assert desk.whats == [What.OPENED]
        assert Became.SLOW in desk.became


def test_water_that_goes_on_and_ends_is_told_once():
    desk = Desk()
    desk.hear(early())
    desk.hear(water(T0 + MINUTE))
    desk.hear(water(T0 + 2 * MINUTE, onset=T0 + MINUTE, phase=Phase.REFRESH))
    desk.hear(water(T0 + 3 * MINUTE, onset=T0 + MINUTE, phase=Phase.CLEAR))
    assert desk.whats == [What.OPENED, What.RAISED]
    assert desk.became[-2:] == [Became.SAME, Became.CLEARED]
    assert desk.incident.known["device:90"].cleared_us == T0 + 3 * MINUTE
    assert desk.incident.last_us == T0  # water does not prolong the fire


def test_water_after_the_close_is_no_fire():
    desk = Desk()
    desk.hear(make())
    desk.hear(water(T0 + MINUTE))
    desk.close()
    desk.hear(water(T0 + 2 * MINUTE, onset=T0 + MINUTE, phase=Phase.REFRESH))
    desk.hear(water(T0 + 5 * MINUTE, device=91))
    assert desk.became[-2:] == [Became.AFTER_CLOSE, Became.SLOW]
    assert desk.incident.state is State.CLOSED


# -- a rise just before the loss


@pytest.mark.parametrize("fault", [lost(since=T0 + 5 * MINUTE), broken(at=T0 + 5 * MINUTE)])
def test_a_device_that_rose_and_is_lost_is_an_alarm_whichever_comes_first(fault):
    for order in itertools.permutations((early(), fault)):
        desk = Desk()
        for one in order:
            desk.hear(one)
        assert desk.incident.tier is Tier.ALARM
        assert desk.incident.alarm_member == "device:1"
        assert desk.incident.known["device:1"].tier is Tier.ALARM
        assert desk.incident.members == 1


def test_a_second_device_in_alarm_when_it_is_lost_is_urgent():
    desk = Desk()
    desk.hear(early(1))
    desk.hear(make(2, at=T0 + 2 * MINUTE), place=floor(9))
    desk.hear(lost(1, since=T0 + 3 * MINUTE))
    assert desk.incident.tier is Tier.URGENT


@pytest.mark.parametrize(
    "fault",
    [
        lost(since=T0 + 11 * MINUTE),  # long after
        lost(since=T0 - MINUTE),  # before
        lost(2, since=T0 + MINUTE),  # another
        broken(at=T0 + MINUTE, quantity="battery_state"),
        broken(at=T0 + MINUTE, rule="sensor_fault"),  # flickers, and rises all day
    ],
)
def test_other_faults_are_work_orders(fault):
    for order in itertools.permutations((early(), fault)):
        desk = Desk()
        for one in order:
            desk.hear(one)
        assert desk.whats == [What.OPENED]
        assert desk.incident.tier is Tier.EARLY
        assert Became.SLOW in desk.became


def test_who_had_cooled_down_is_offline_only():
    desk = Desk()
    desk.hear(early())
    desk.hear(early(at=T0 + 4 * MINUTE, onset=T0, phase=Phase.CLEAR))
    desk.hear(lost(since=T0 + 5 * MINUTE))
    assert (desk.became[-1], desk.incident.tier) == (Became.SLOW, Tier.EARLY)


def test_who_alarmed_and_was_torn_off_the_ceiling_pages_no_second_time():
    desk = Desk()
    desk.hear(make())
    desk.act(What.ACKNOWLEDGED)
    desk.act(What.VERDICT, verdict=Verdict.FALSE_ALARM, cause="cooking")
    desk.hear(lost(since=T0 + MINUTE))
    assert desk.became[-1] is Became.SLOW
    assert desk.incident.verdict is Verdict.FALSE_ALARM


def test_what_a_person_closed_stays_closed():
    desk = Desk()
    desk.hear(early())
    desk.close()
    desk.hear(lost(since=T0 + MINUTE))
    assert (desk.became[-1], desk.incident.state) == (Became.SLOW, State.CLOSED)


def test_a_lost_device_that_speaks_again_has_cleared():
    desk = Desk()
    desk.hear(early())
    desk.hear(lost(since=T0 + MINUTE))
    desk.hear(lost(since=T0 + MINUTE, at=T0 + 2 * HOUR, phase=Phase.CLEAR))
    assert desk.became[-1] is Became.CLEARED
    assert desk.incident.known["device:1"].cleared_us == T0 + 2 * HOUR


# -- the gateway


def gateway(since, name="gw"):
    subject = Subject(type=SubjectType.CARRIER, id=name)
    return make(0, at=since + HOUR, onset=since, kind=Kind.OFFLINE, rule="carrier_offline",
                subject=subject)  # fmt: skip


def test_a_gateway_that_falls_silent_in_a_fire_of_its_site_joins_it():
    for since, home, told in (
        (T0 + MINUTE, 7, True), (T0 + MINUTE, 8, False), (T0 + MINUTE, 0, False),
        (T0 + HOUR, 7, False),
    ):  # fmt: skip
        desk = Desk()
        desk.hear(make())
        desk.hear(gateway(since), place=Place(carrier="gw", carrier_site=home))
        assert (desk.whats[1:] == [What.JOINED]) is told
        assert desk.incident.tier is Tier.ALARM


# -- where it stands


def test_the_place_comes_of_the_registry():
    known = view()
    assert place_of(known, make(1)) == Place(carrier="gw", roster=60)
    assert place_of(known, make(61)) == place_of(known, make(0)) == NOWHERE
    assert place_of(known, gateway(T0)) == Place(carrier="gw")
    known = view(floor=3, use=CHARGING)
    assert place_of(known, make(1)) == Place(floor=3, charging=True, carrier="gw", roster=60)
