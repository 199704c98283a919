"""Who is told, and why."""

from __future__ import annotations

import hypothesis.strategies as st
import pytest
from hypothesis import given

from alerting.model import Key, Nature, What
from alerting.policy import Responder, Why, route, urgency
from sizao.signal import Kind, Tier

PATH = frozenset({"D", "ST", "C1", "S1"})


def responder(name="a", area="C1", kinds=(Kind.FIRE,), min_tier=Tier.ALARM, natures=("real",)):
    return Responder(
        name=name,
        area=area,
        kinds=frozenset(kinds),
        natures=frozenset(Nature(nature) for nature in natures),
        min_tier=min_tier,
        language="zh",
        channels=("webhook",),
    )


def told(
    *responders, what=What.OPENED, kind=Kind.FIRE, nature=Nature.REAL, tier=Tier.ALARM, areas=PATH
):
    picks = route(
        responders, what=what, key=Key(1, kind, nature), tier=tier, areas=areas, district="D"
    )
    return [(pick.responder.name, pick.why) for pick in picks]


@pytest.mark.parametrize("area", ["D", "ST", "C1", "S1"])
def test_an_area_and_all_above_it_are_told(area):
    assert told(responder(area=area)) == [("a", Why.BOUND)]


@pytest.mark.parametrize("what", [What.JOINED, What.RAISED])
def test_news_page_again(what):
    assert told(responder(), what=what) == [("a", Why.BOUND)]


@pytest.mark.parametrize("what", [What.ACKNOWLEDGED, What.VERDICT, What.CLOSED])
def test_what_people_did_pages_nobody(what):
    assert told(responder(), what=what) == []


@pytest.mark.parametrize("nature", [Nature.TEST, Nature.CANARY, Nature.DRILL])
def test_what_is_not_real_pages_only_those_who_asked_for_it(nature):
    marked = responder("b", natures=(nature,))
    assert told(responder(), marked, nature=nature) == [("b", Why.BOUND)]
    assert told(marked, nature=Nature.REAL) == []


def test_an_early_signal_follows_policy():
    assert told(responder(), tier=Tier.EARLY) == []
    assert told(responder(min_tier=Tier.EARLY), tier=Tier.EARLY) == [("a", Why.BOUND)]


def test_a_real_fire_is_never_muted_by_tier_kind_or_place():
    urgent_only = responder(min_tier=Tier.URGENT)
    assert told(urgent_only) == [("a", Why.BELOW_TIER)]
    assert told(responder(kinds=(Kind.GAS,))) == [("a", Why.OTHER_KIND)]
    elsewhere, top = responder("b", area="C2"), responder("c", area="D", kinds=(Kind.GAS,))
    assert told(elsewhere, top, areas=frozenset({"ST", "C9"})) == [("c", Why.NO_AREA)]
    assert told(elsewhere) == [("b", Why.NO_AREA)]


def test_gas_may_be_filtered():
    assert told(responder(), kind=Kind.GAS) == []


def test_an_unknown_place_is_a_matter_of_the_district():
    assert told(responder(area="D"), responder("b"), areas=frozenset()) == [("a", Why.BOUND)]


_responders = st.lists(
    st.builds(
        responder,
        name=st.sampled_from("abcd"),
        area=st.sampled_from(["D", "C1", "C2", "S1"]),
        kinds=st.sets(st.sampled_from([Kind.FIRE, Kind.GAS]), min_size=1),
        min_tier=st.sampled_from(Tier),
        natures=st.sets(st.sampled_from(["real", "test"]), min_size=1),
    ),
    max_size=5,
)


@given(
    _responders, st.sampled_from([Tier.ALARM, Tier.URGENT]), st.sampled_from([PATH, frozenset()])
)
def test_whoever_takes_real_ones_hears_of_a_real_fire_when_nobody_else_does(people, tier, areas):
    picks = told(*people, tier=tier, areas=areas)
    assert bool(picks) == any(Nature.REAL in one.natures for one in people)


def test_real_before_the_rest_then_tier_then_fire_first():
    order = [
        urgency(Key(1, kind, nature), tier)
        for nature, tier, kind in [
            (Nature.CANARY, Tier.URGENT, Kind.FIRE),
            (Nature.REAL, Tier.EARLY, Kind.GAS),
            (Nature.REAL, Tier.EARLY, Kind.FIRE),
            (Nature.REAL, Tier.ALARM, Kind.GAS),
            (Nature.REAL, Tier.ALARM, Kind.FIRE),
            (Nature.REAL, Tier.URGENT, Kind.CO),
            (Nature.REAL, Tier.URGENT, Kind.FIRE),
        ]
    ]
    assert order == sorted(set(order))
