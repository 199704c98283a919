"""A revoked carrier: nothing it says is read, and an alarm is still no mere reject."""

import itertools

import pytest
from fix_bridge import BATCH, HEAT, SMOKE_HEAT, T0_US, Device, message, registry

from ingest.device_types.reasons import Reason
from ingest.devices import Known
from ingest.lifecycle import revoke
from ingest.plan import Desk, plan
from ingest.routes import district
from sizao import signal
from sizao.errors import BadInput
from sizao.signal import SubjectType
from sizao.topics import SIGNALS
from sizao.units import Lane

DEVICES = [
    Device("h1", HEAT),
    Device("s1", SMOKE_HEAT),
    Device("t1", BATCH, carrier="gw"),
    Device("h2", HEAT, carrier="c2"),
]
SAID = [
    ("up/c1/telemetry/h1", '{"temperature": 50}', Lane.TELEMETRY),
    ("up/c1/alarm/s1", '{"state": "alarm"}', Lane.ALARM),
    ("up/gw/telemetry", '{"keys": ["t1"], "temperatures": [1]}', Lane.TELEMETRY),
    ("up/c1/telemetry/nobody", "no JSON", Lane.TELEMETRY),
    ("up/c1/alarm/no/such/topic", "", Lane.ALARM),
]


def said(place, topic, payload, lane):
    desk = Desk(bridge="b0", lane=lane, sequence=T0_US)
    clock = itertools.count(T0_US).__next__
    return plan(desk, place, [message(topic, payload)], clock, now_s=100.0, listening=False)


@pytest.mark.parametrize(("topic", "payload", "lane"), SAID)
def test_the_next_generation_refuses_all_of_it_and_another_reads_it_again(topic, payload, lane):
    before = said(district(registry(DEVICES).newest), topic, payload, lane)
    assert Reason.REVOKED not in before.rejects
    revoked = district(registry(DEVICES, 2, revoked=["c1", "gw"]).newest)
    for _ in range(2):  # a topic that leads nowhere is looked at each time
        assert dict(said(revoked, topic, payload, lane).rejects) == {Reason.REVOKED: 1}
    again = said(district(registry(DEVICES, 3).newest), topic, payload, lane)
    assert (again.readings, again.rejects) == (before.readings, before.rejects)


def test_others_speak_on():
    place = district(registry(DEVICES, revoked=["c1", "gw"]).newest)
    effects = said(place, "up/c2/telemetry/h2", '{"temperature": 50}', Lane.TELEMETRY)
    assert (effects.readings, dict(effects.rejects)) == (1, {})


def test_its_alarm_is_an_unread_signal_of_the_carrier():
    place = district(registry(DEVICES, revoked=["c1"]).newest)
    effects = said(place, "up/c1/alarm/s1", '{"state": "alarm"}', Lane.ALARM)
    (told,) = [
        signal.decode(one.value, one.headers)
        for one in effects.records
        if one.topic == SIGNALS.name
    ]
    assert (told.subject.type, told.subject.id) == (SubjectType.CARRIER, "c1")
    assert told.evidence["reason"] == Reason.REVOKED
    assert (effects.readings, effects.unread) == (0, 1)


def test_what_is_revoked_already_is_no_change():
    known = Known(registry(DEVICES, revoked=["c1"]).newest)
    assert revoke(known, "c1", revoked=True).empty
    assert not revoke(known, "c1", revoked=False).empty
    assert not revoke(known, "c2", revoked=True).empty
    with pytest.raises(BadInput, match="unknown carrier: 'c3'"):
        revoke(known, "c3", revoked=True)
