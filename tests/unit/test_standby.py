"""When a bridge that stands by may take over."""

import pytest
from pydantic import ValidationError

from ingest.settings import BridgeSettings
from ingest.standby import LOOK_S_MAX, Standby, Wait
from sizao import log
from sizao.clock import Rising, now_us
from sizao.kafka import KafkaSettings
from sizao.metrics import Metrics
from sizao.service import Service


def wait():
    return Wait(silent_s=10, since_s=0, looked_s=0)


def looks(one, *steps):
    return [one.look(now_s, heard=heard) for now_s, heard in steps]


def test_only_after_so_long_a_silence():
    assert (
        looks(wait(), (1, True), (3, False), (6, False), (9, False), (10.9, False)) == [False] * 5
    )
    assert looks(wait(), (1, True), (3, False), (6, False), (9, False), (11, False))[-1]


def test_a_heartbeat_begins_it_anew():
    assert not looks(wait(), (3, False), (6, False), (9, True), (12, False), (15, False))[-1]


def test_who_could_not_look_knows_nothing():
    """Kafka was away, or we stood still: the active one gets to speak first."""
    one = wait()
    assert not looks(one, (3, False), (3 + LOOK_S_MAX + 7, False))[-1]
    assert looks(one, (16, False), (19, False), (22, False), (23, False)) == [
        False,
        False,
        False,
        True,
    ]


@pytest.mark.parametrize(
    ("always", "why", "waits"),
    [
        (False, "", False),
        (False, "the broker is silent", False),
        (False, "broker: session taken over", True),
        (True, "", True),
        (True, "read: Connection reset by peer", True),
    ],
)
def test_who_waits(always, why, waits):
    service = Service("bridge", log.setup("bridge"), Metrics("bridge"))
    one = Standby(service, KafkaSettings(), "b0.alarm", always=always, wait_s=10)
    assert one.waits(why) is waits


def test_who_goes_on_for_another_is_never_behind_it():
    rising = Rising()
    ahead = now_us() + 3_600_000_000
    rising.not_before(ahead)
    assert rising.now_us() == ahead + 1
    rising.not_before(0)
    assert rising.now_us() == ahead + 2


def test_a_protocol_that_does_not_say_who_took_the_session_has_no_standby():
    with pytest.raises(ValidationError, match=r"3\.1\.1 does not say"):
        BridgeSettings.model_validate({"mqtt": {"version": "3.1.1"}, "bridge": {"standby": True}})
