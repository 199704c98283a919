"""The shipped policy, row by row, and what is said of a bad one."""

# ruff: noqa: E501 - a fault and what is said of it are one line of a table

from pathlib import Path

import jsonschema
import pytest

from alerting import policy_commands
from alerting.plan import Class, Fact, classify, expand
from alerting.policy_file import SCHEMA_FILE, SHIPPED, read_policy, schema_text
from sizao.document import parse
from sizao.errors import BadInput
from sizao.signal import Kind, Tier

HOUSE = Path(__file__).parents[2]
GOLDEN = HOUSE / "tests" / "data" / "policy_plans.txt"
TEXT = SHIPPED.read_text("utf-8")


def test_every_row_of_the_table_makes_the_plan_that_is_written_down():
    """Whoever changes the policy sees here what that does to people. Look, then run
    `sizao policy show > tests/data/policy_plans.txt`.
    """
    assert policy_commands.text(read_policy()) == GOLDEN.read_text("utf-8")


@pytest.mark.parametrize("kind", Kind)
@pytest.mark.parametrize("tier", Tier)
def test_every_signal_has_a_row(kind, tier):
    row = classify(kind, tier, frozenset())
    assert expand(read_policy(), row, night=True, facts=frozenset()).steps


@pytest.mark.parametrize(
    ("kind", "tier", "facts", "row"),
    [
        (Kind.FIRE, Tier.EARLY, [Fact.LONE_SMOKE], Class.EARLY),
        (Kind.FIRE, Tier.ALARM, [Fact.LONE_SMOKE], Class.SMOKE_DWELLING),
        (Kind.FIRE, Tier.ALARM, [], Class.FIRE_ALARM),
        (Kind.FIRE, Tier.URGENT, [Fact.LONE_SMOKE], Class.FIRE_URGENT),
        (Kind.GAS, Tier.URGENT, [], Class.GAS),
        (Kind.OFFLINE, Tier.ALARM, [Fact.WHOLE_BUILDING], Class.FAULT),
    ],
)
def test_which_row(kind, tier, facts, row):
    assert classify(kind, tier, frozenset(facts)) is row


def faults(tmp_path, text):
    path = tmp_path / "policy.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(BadInput) as refusal:
        read_policy(path)
    return str(refusal.value).replace(f"{tmp_path}/", "").splitlines()


@pytest.mark.parametrize(
    ("after", "old", "new", "said"),
    [
        (
            "",
            "{to: street,",
            "{to: streat,",
            "levels.street.0.to: got 'streat', expected one of operator,",
        ),
        (
            "",
            "by: [siren]",
            "by: [sms]",
            "levels.district.1.by.0: got 'sms', expected for sounders one of siren",
        ),
        (
            "",
            "raise_after_s: 60",
            "raise_after_s: 90",
            "raise_after_s: got 90, expected at most 60",
        ),
        (
            "",
            "within_s: 90",
            "within_s: 120",
            "deadlines.verdict.within_s: got 120, expected at most 90",
        ),
        (
            "",
            "  co:\n",
            "  c0:\n",
            "classes.c0: got an unknown key, expected one of co, early, fault,",
        ),
        (
            "  smoke_dwelling:",
            "{to: station, by: [sms]}",
            "{to: occupant, by: [sms]}",
            "classes.smoke_dwelling.day: got a list, expected a page to the station at once: others are told beside it, never instead",
        ),
        (
            "  smoke_dwelling:",
            "after_s: 20",
            "after_s: 30",
            "classes.smoke_dwelling.day: got a list, expected the station to be called (voice) within 20 s",
        ),
        (
            "  fire_alarm:",
            "night:\n",
            "night: same\n    xnight:\n",
            "classes.fire_alarm.xnight: got an unknown key,",
        ),
        (
            "  fire_urgent:",
            "levels: [district]",
            "levels: []",
            "classes.fire_urgent.levels: got a list, expected district at least: fire_urgent must not fall silent",
        ),
        (
            "  fire_alarm:",
            "[street, district]",
            "[district, street]",
            "classes.fire_alarm.levels: got a list, expected levels that rise, each once: community, street, district",
        ),
        (
            "  fire_alarm:",
            "[street, district]",
            "[street]",
            "classes.fire_alarm.levels: got a list, expected district at the end: it is the one that repeats",
        ),
        (
            "  gas:",
            "department: gas, ",
            "",
            "classes.gas.day.1.department: got nothing, expected this key, as it is to one",
        ),
        (
            "  co:",
            "to: occupant",
            "to: maintainer",
            "classes.co.day.1.advice: got 'co', expected none but for an occupant",
        ),
        (
            "  fire_alarm:",
            "to: station, by: [sms]",
            "to: station, by: [sms], only: main",
            "classes.fire_alarm.day.2.only: got 'main', expected none: a page of fire_alarm depends on nothing",
        ),
        (
            "  fault:",
            "night:\n",
            "night:\n      - {to: street, by: [sms]}\n",
            "classes.fault.night: got a list, expected nobody woken at night for fault",
        ),
    ],
)
def test_a_fault_is_told(tmp_path, after, old, new, said):
    head, mark, rest = TEXT.partition(f"\n{after}") if after else ("", "", TEXT)
    assert old in rest
    text = head + mark + rest.replace(old, new, 1)
    found = faults(tmp_path, text)
    assert any(said in line for line in found), found
    line = text[: text.index(rest.replace(old, new, 1))].count("\n")
    assert all(int(fault.split(":")[1]) >= line for fault in found)


def test_a_night_that_only_sends_a_message_is_refused_where_day_is_the_same(tmp_path):
    head, mark, rest = TEXT.partition("  fire_alarm:")
    night = rest.index("    night:\n")
    text = head + mark + rest[:night] + "    night: same\n\n" + rest[rest.index("  fire_urgent:") :]
    (said,) = faults(tmp_path, text)
    assert said.endswith(
        "classes.fire_alarm.night: got 'same', expected the station to be called (voice) at once"
    )


def test_the_published_schema_is_in_step():
    published = (HOUSE / "docs" / SCHEMA_FILE).read_text("utf-8")
    assert published == schema_text(), "sizao policy schema > docs/policy.schema.json"
    assert jsonschema.Draft202012Validator(parse(published, "").data).is_valid(parse(TEXT, "").data)
