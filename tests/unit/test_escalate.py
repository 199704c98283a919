"""Steps in time: none twice, none missing, silence only after an answer."""

import hypothesis.strategies as st
import pytest
from hypothesis import given

from alerting.escalate import NUMBER_MAX, Progress, decide
from alerting.plan import By, Class, Page, Plan, Step, To, expand
from alerting.policy_file import read_policy
from alerting.working_days import MINUTE_US, SECOND_US

POLICY = read_policy()
DWELLING = expand(POLICY, Class.SMOKE_DWELLING, night=False, facts=frozenset())
BEGUN = 1_000 * MINUTE_US


def at(second):
    return BEGUN + round(second * SECOND_US)


def progress(sent=(), **other):
    """`sent`: number -> second."""
    return Progress(
        begun_us=BEGUN, sent={number: at(second) for number, second in dict(sent).items()}, **other
    )


def numbers(found):
    return [one.number for one in found.due]


def test_the_first_step_is_due_at_once_and_the_call_20_s_later():
    found = decide(DWELLING, progress(), at(0))
    assert (numbers(found), found.wake_us) == ([0], at(20))
    assert numbers(decide(DWELLING, progress({0: 0}), at(19.999))) == []
    assert numbers(decide(DWELLING, progress({0: 0}), at(20))) == [1]


def test_nobody_answers_street_then_district_then_district_each_minute():
    sent = {}
    heard = []
    for second in range(400):
        for one in decide(DWELLING, progress(sent), at(second)).due:
            sent[one.number] = second
            heard.append((second, one.number, one.step.level))
    assert heard == [
        (0, 0, ""), (20, 1, ""), (60, 2, "street"), (120, 3, "district"),
        (180, 4, "district"), (240, 5, "district"), (300, 6, "district"), (360, 7, "district"),
    ]  # fmt: skip


def test_an_operators_click_raises_to_nobody_but_the_station_is_called_all_the_same():
    answered = progress({0: 0}, answered=frozenset({To.OPERATOR}))
    found = decide(DWELLING, answered, at(500))
    assert (numbers(found), found.wake_us) == ([1], None)
    assert [page.to for page in found.due[0].step.pages] == [To.STATION]
    theirs = progress({0: 0}, answered=frozenset({To.STATION}))
    assert numbers(decide(DWELLING, theirs, at(500))) == []


def test_who_cannot_be_reached_is_not_waited_for():
    lost = progress({0: 0}, unreachable=frozenset({0}))
    found = decide(DWELLING, lost, at(1))
    assert (numbers(found), found.wake_us) == ([2], at(20))
    worse = progress({0: 0, 2: 1}, unreachable=frozenset({0, 2}))
    assert numbers(decide(DWELLING, worse, at(2))) == [3]


def test_a_call_of_the_first_row_does_not_put_off_the_repeat_of_a_level_that_came_before_it():
    lost = {"unreachable": frozenset({0, 2})}
    sent = {0: 0, 2: 4, 3: 8}
    assert decide(DWELLING, progress(sent, **lost), at(9)).wake_us == at(20)
    found = decide(DWELLING, progress(sent, **lost), at(20))
    assert (numbers(found), found.wake_us) == ([1], at(68))


def test_after_an_hour_away_each_level_goes_once_and_one_repeat():
    found = decide(DWELLING, progress({0: 0}), at(3600))
    assert numbers(found) == [1, 2, 3]
    assert found.wake_us == at(3660)
    sent = {0: 0, 1: 20, 2: 60, 3: 120}
    again = decide(DWELLING, progress(sent), at(3600))
    assert numbers(again) == [3 + 58]
    assert again.wake_us == at(3660)


def test_a_clock_that_goes_back_sends_nothing_twice():
    sent = {0: 0, 1: 20, 2: 60, 3: 120, 4: 180}
    for second in range(-3600, 239):
        assert numbers(decide(DWELLING, progress(sent), at(second))) == []


def test_the_numbers_end_where_the_column_does():
    plan = expand(POLICY, Class.FIRE_URGENT, night=True, facts=frozenset())
    last = plan.steps[-1].number
    sent = dict.fromkeys(range(last + 1), 0)
    end = at((NUMBER_MAX - last) * 60)
    assert numbers(decide(plan, progress(sent), end)) == [NUMBER_MAX]
    assert decide(plan, progress(sent), end + MINUTE_US).wake_us is None


PAGES = (Page(to=To.STATION, by=(By.SMS,)),)


@st.composite
def plans(draw):
    firsts = sorted(draw(st.sets(st.integers(0, 59), min_size=1, max_size=4)) | {0})
    raise_after_s, repeat_s = draw(st.integers(10, 60)), draw(st.integers(10, 60))
    levels = draw(st.integers(1, 3))
    steps = [Step(number=n, after_s=s, level="", pages=PAGES) for n, s in enumerate(firsts)]
    steps += [
        Step(number=len(firsts) + n, after_s=(n + 1) * raise_after_s, level=f"l{n}", pages=PAGES)
        for n in range(levels)
    ]
    return Plan(steps=tuple(steps), raise_after_s=raise_after_s, repeat_s=repeat_s)


@given(
    plans(),
    st.lists(st.integers(0, 40), max_size=60),
    st.sets(st.integers(0, 8)),
    st.integers(0, 1500) | st.none(),
)
def test_no_step_twice_none_missing_and_a_minute_never_passes_in_silence(
    plan, pauses, deaf, answer_s
):
    """Asked at the time that it says or some seconds later, as often as anything else happens."""
    now, sent, answered = 0, {}, False
    lateness, wake = iter(pauses), 0
    while now < 900:
        lost = frozenset(number for number in sent if number in deaf)
        answered = answer_s is not None and now >= answer_s
        state = progress(
            sent, unreachable=lost, answered=frozenset({To.OPERATOR}) if answered else frozenset()
        )
        found = decide(plan, state, at(now))
        for one in found.due:
            assert one.number not in sent
            assert one.due_us <= at(now)
            sent[one.number] = now
        again = decide(plan, progress(sent, unreachable=lost, answered=state.answered), at(now))
        assert not [one for one in again.due if one.number not in deaf and not lost]
        if found.wake_us is None:
            break
        assert found.wake_us > at(now)
        wake = (found.wake_us - BEGUN) / SECOND_US
        assert wake - now <= 60
        now = wake + next(lateness, 0)
    levels = [step.number for step in plan.steps if step.level]
    if answer_s is None or answer_s >= 900:
        assert set(range(levels[-1] + 1)) <= sent.keys()
    else:
        assert all(
            second < max(answer_s, 1) or number < levels[0] for number, second in sent.items()
        )


@pytest.mark.parametrize("row", [Class.EARLY, Class.SYSTEM, Class.LIMIT, Class.FAULT])
def test_what_raises_to_nobody_ends_with_its_first_steps(row):
    plan = expand(POLICY, row, night=True, facts=frozenset())
    found = decide(plan, progress(), at(0))
    assert (numbers(found), found.wake_us) == ([0], None)
    assert decide(plan, progress({0: 0}), at(9999)).due == ()
