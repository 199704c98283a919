"""What is handed over past Kafka bears the ids that detect gives the same; golden requests."""

import base64
import contextlib
import json
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pytest
from fix_bridge import SMOKE_HEAT, T0_US, Device, message, registry
from hypothesis import given
from hypothesis import strategies as st

from detectors import rules
from detectors.offline import fold_records
from detectors.state import setup_of
from ingest.decode import decode
from ingest.handover import DIRECT, FIXED, Lookout, signal_of
from ingest.plan import Desk, plan
from ingest.routes import district
from sizao import http, signal
from sizao.errors import BadRecord
from sizao.kafka import Outgoing
from sizao.signal import SignalFault
from sizao.units import Lane

GOLDEN = json.loads((Path(__file__).parents[1] / "data" / "handover.json").read_text("utf-8"))
KNOWN = registry([Device("a", SMOKE_HEAT), Device("b", SMOKE_HEAT)])
PLACE = district(KNOWN.newest)
SECOND_US = 1_000_000
# Seconds to the message before. No sum of them lies within seconds of the ten minutes after which
# an alarm is over by arrival: what is looked at ahead of Kafka is cut otherwise than the frames.
GAPS_S = (0.2, 0.2, 70, 170, 640, 2000, 7300)


@dataclass(frozen=True)
class Step:
    gap_s: float
    key: str
    state: str
    temperature: float
    again: bool


STEPS = st.lists(
    st.builds(
        Step,
        gap_s=st.sampled_from(GAPS_S),
        key=st.sampled_from("ab"),
        state=st.sampled_from(["normal", "normal", "alarm", "alarm", "hushed", "test"]),
        temperature=st.sampled_from([20.0, 43.0, 50.0, 54.0, 60.0, 60.0, 61.0, 90.0]),
        again=st.booleans(),
    ),
    min_size=1,
    max_size=40,
)


@dataclass
class Numbered:
    """A record as the log has it."""

    topic: str
    partition: int
    offset: int
    value: bytes
    headers: list


def messages_of(steps):
    """In batches that arrive within a second."""
    at_us, last, batches = T0_US, {}, []
    for step in steps:
        at_us += round(step.gap_s * SECOND_US)
        body = json.dumps({"state": step.state, "smoke": 1, "temperature": step.temperature})
        dup = step.again and step.key in last
        body = last[step.key] if dup else body
        last[step.key] = body
        one = message(f"up/c1/alarm/{step.key}", body, at_us=at_us, dup=dup)
        if batches and at_us - batches[-1][0].arrived_us <= SECOND_US:
            batches[-1].append(one)
        else:
            batches.append([one])
    return batches


def through_the_log(batches):
    """Ids and phases that detect says of what the devices said; heartbeats move its clock."""
    desk = Desk(bridge="b0", lane=Lane.ALARM, sequence=0)
    written: list[Outgoing] = []
    for batch in batches:
        before_us = batch[0].arrived_us - 1000
        quiet = plan(
            desk, PLACE, [], lambda at=before_us: at, now_s=before_us / 1e6, listening=True
        )
        said = plan(desk, PLACE, batch, lambda: 0, now_s=before_us / 1e6, listening=False)
        written += [*quiet.records, *said.records]
    records = [
        Numbered(one.topic, one.partition, offset, one.value, one.headers)
        for offset, one in enumerate(written)
    ]
    found = fold_records(records, KNOWN, setup_of(rules.discover()))
    return {
        (one.rule, one.phase, one.id)
        for one in found
        if (one.rule, one.rule_version) in {DIRECT, FIXED}
        and one.evidence.get("decided_by") != "silence"  # the log's clock says that, no message
    }


def past_the_log(batches):
    lookout, found = Lookout(), []
    for batch in batches:
        lookout.look(PLACE.view, batch, decode(PLACE, Lane.ALARM, batch))
        found += lookout.take(1000)
    said = [signal_of(PLACE.view, one) for one in found]
    return {(one.rule, one.phase, one.id) for one in said}


@given(steps=STEPS)
def test_ids_are_those_of_detect_for_the_same_messages(steps):
    batches = messages_of(steps)
    assert past_the_log(batches) == through_the_log(batches)


@given(steps=STEPS)
def test_what_was_looked_at_ahead_says_nothing_else_and_nothing_twice(steps):
    batches = messages_of(steps)
    single = [[one] for batch in batches for one in batch]
    assert past_the_log([*single, *batches]) == through_the_log(batches)


def test_a_sensor_that_flickers_is_not_handed_over_before_detect_would_say_it():
    values = (20, 90, 20, 90, 91, 20, 90, 91)
    steps = [Step(70, "a", "normal", value, again=False) for value in values]
    batches = messages_of(steps)
    assert past_the_log(batches) == through_the_log(batches) == set()
    steps += [Step(70, "a", "normal", 90, again=False)] * 12
    batches = messages_of(steps)
    found = past_the_log(batches)
    assert found == through_the_log(batches)
    assert ("heat_fixed", "raise") in {(rule, str(phase)) for rule, phase, _ in found}


def test_they_agree_on_a_fire_that_both_find():
    steps = [
        Step(1, "a", "normal", 20, again=False),
        Step(3, "a", "alarm", 60, again=False),
        Step(61, "a", "alarm", 61, again=False),
        Step(3, "b", "test", 20, again=False),
        Step(3, "a", "normal", 20, again=False),
    ]
    batches = messages_of(steps)
    said = sorted((rule, str(phase)) for rule, phase, _ in past_the_log(batches))
    assert said == [
        ("direct", "clear"),
        ("direct", "raise"),
        ("direct", "raise"),
        ("direct", "refresh"),
        ("heat_fixed", "raise"),
    ]
    assert past_the_log(batches) == through_the_log(batches)


def handed():
    fire, test = messages_of(
        [
            Step(1, "a", "alarm", 20, again=False),
            Step(3, "b", "test", 20, again=False),
        ]
    )
    lookout = Lookout()
    for batch in (fire, test):
        lookout.look(PLACE.view, batch, decode(PLACE, Lane.ALARM, batch))
    return [signal_of(PLACE.view, one) for one in lookout.take(10)]


def test_a_request_is_these_bytes_for_ever():
    body = signal.encode_handed(handed())
    assert body.decode() == GOLDEN["body"]
    key = base64.b64decode(GOLDEN["secret"].removeprefix("whsec_"))
    headers = http.signed_headers([key], GOLDEN["headers"]["webhook-id"], 1_772_352_010, body)
    assert headers == GOLDEN["headers"]
    assert http.fault_of([key], headers, body, 1_772_352_010.5) is None


def test_a_golden_request_stays_readable():
    found, faults = signal.decode_handed(GOLDEN["body"].encode())
    assert (found, faults) == (handed(), [])


def test_one_bad_signal_costs_its_neighbours_nothing():
    good = handed()[0]
    forged = msgspec.structs.replace(good, device=good.device, onset="0" * 32)
    nameless = {"rule": "direct"}
    odd = msgspec.json.encode({"version": 1, "signals": [nameless, forged, good]})
    found, faults = signal.decode_handed(odd)
    assert found == [good]
    assert [one.reason for one in faults] == [SignalFault.NOT_JSON, SignalFault.ID]


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", SignalFault.NOT_JSON),
        (b"[]", SignalFault.NOT_JSON),
        (b'{"version":1}', SignalFault.NOT_JSON),
        (b"[" * 100_000, SignalFault.NOT_JSON),
        (b'{"version":2,"signals":[]}', SignalFault.HEADERS),
        (b'{"version":1,"signals":[%b]}' % b",".join([b"{}"] * 501), SignalFault.TOO_LARGE),
    ],
)
def test_what_is_no_request_is_refused_with_its_reason(body, reason):
    with pytest.raises(BadRecord) as refused:
        signal.decode_handed(body)
    assert refused.value.reason == reason


@given(body=st.binary(max_size=200))
def test_nothing_else_ever_comes_out(body):
    with contextlib.suppress(BadRecord):
        signal.decode_handed(body)
