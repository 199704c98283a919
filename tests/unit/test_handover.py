"""What a lane finds to hand over: order, what Kafka has meanwhile, what is remembered."""

import json

import numpy as np
import pytest
from fix_bridge import DOCUMENTS, HEAT, SMOKE_HEAT, T0_US, Device, message, small

from ingest.decode import decode
from ingest.handover import Lookout, Rank, signal_of
from sizao.signal import MINUTE_US, Kind, Phase, Tier
from sizao.units import Lane

PLACE = small(Device("a", SMOKE_HEAT), Device("b", SMOKE_HEAT), Device("h", HEAT))
VIEW = PLACE.view
SECOND_US = 1_000_000


def say(key, at_s, *, state="normal", temperature=20.0, dup=False):
    body = json.dumps({"state": state, "smoke": 1, "temperature": temperature})
    at_us = T0_US + round(at_s * SECOND_US)
    return message(f"up/c1/alarm/{key}", body, at_us=at_us, dup=dup)


def measure(at_s, temperature, *, dup=False):
    body = json.dumps({"temperature": temperature})
    at_us = T0_US + round(at_s * SECOND_US)
    return message("up/c1/telemetry/h", body, at_us=at_us, dup=dup)


def look(lookout, *messages, lane=Lane.ALARM):
    lookout.look(VIEW, messages, decode(PLACE, lane, messages))


def taken(lookout, count=100):
    return [signal_of(VIEW, one) for one in lookout.take(count)]


def test_an_alarm_is_said_with_its_device_and_site():
    lookout = Lookout()
    look(lookout, say("a", 0), say("a", 1, state="alarm"))
    (one,) = taken(lookout)
    assert (one.kind, one.tier, one.phase, one.self_test) == (
        Kind.FIRE, Tier.ALARM, Phase.RAISE, False,
    )  # fmt: skip
    assert (one.site, one.device, one.onset_us) == (5, 1, T0_US + SECOND_US)
    assert one.evidence["handed_over"]
    assert taken(lookout) == []


def test_an_alarm_that_began_before_the_silence_goes_on_under_its_onset():
    lookout = Lookout()
    look(lookout, say("a", 0, state="alarm"))
    lookout.settle(T0_US)
    look(lookout, say("a", 70, state="alarm"))
    (one,) = taken(lookout)
    assert (one.phase, one.onset_us) == (Phase.REFRESH, T0_US)


def test_a_device_that_goes_on_is_said_once_a_minute():
    lookout = Lookout()
    for second in range(0, 180, 5):
        look(lookout, say("a", second, state="alarm"))
    assert [one.event_us // MINUTE_US - T0_US // MINUTE_US for one in taken(lookout)] == [0, 1, 2]


def test_what_devices_say_comes_first_then_limits_then_self_tests():
    lookout = Lookout()
    look(lookout, say("b", 0, state="test"), say("a", 1, temperature=60))
    look(lookout, say("a", 2, temperature=60))
    look(lookout, say("a", 3, state="alarm"))
    assert [one.rank for one in lookout.take(100)] == [Rank.SAID, Rank.LIMIT, Rank.REST]


def test_what_kafka_has_got_is_not_handed_over():
    lookout = Lookout()
    look(lookout, say("a", 0, state="alarm"))
    look(lookout, say("b", 1, state="alarm"))
    lookout.settle(T0_US)
    assert [one.device for one in taken(lookout)] == [2]


def test_what_was_not_handed_over_is_taken_again_unless_kafka_has_got_it():
    lookout = Lookout()
    for second, key in enumerate("ab"):
        look(lookout, say(key, second, state="alarm"))
    both = lookout.take(100)
    lookout.put_back(both)
    assert lookout.take(100) == both
    lookout.settle(T0_US)
    lookout.put_back(both)
    assert lookout.take(100) == both[1:]
    assert lookout.waiting == 0


def test_two_hot_readings_over_the_telemetry_lane_one_of_them_before_the_silence():
    lookout = Lookout()
    look(lookout, measure(0, 60), lane=Lane.TELEMETRY)
    lookout.settle(T0_US)
    look(lookout, measure(10, 61), lane=Lane.TELEMETRY)
    (one,) = taken(lookout)
    assert (one.rule, one.tier, one.onset_us) == ("heat_fixed", Tier.URGENT, T0_US + 10 * SECOND_US)
    assert one.evidence["values"] == [60.0, 61.0]


@pytest.mark.parametrize(
    "messages",
    [
        (measure(0, 60), measure(10, 20), measure(20, 60)),
        (measure(0, 60), measure(10, 60, dup=True)),  # one reading, delivered twice
        (measure(0, 53.9), measure(10, 53.9)),
    ],
    ids=["cool between", "redelivered", "below"],
)
def test_no_limit_hit(messages):
    lookout = Lookout()
    look(lookout, *messages, lane=Lane.TELEMETRY)
    assert taken(lookout) == []


def test_a_humidity_of_sixty_is_no_heat():
    place = small(Device("i", DOCUMENTS["generic/indoor_climate.yaml"]))
    said = {"temperature": 20, "humidity": 60, "co2": 900}
    body = json.dumps({"deviceInfo": {"devEui": "i"}, "fCnt": 1, "fPort": 2, "object": said})
    messages = [message("up/c1/lorawan/i/up", body, at_us=T0_US + number) for number in range(3)]
    decoded = decode(place, Lane.ALARM, messages)
    assert (decoded.value == 60).sum() == 3
    lookout = Lookout()
    lookout.look(place.view, messages, decoded)
    assert lookout.waiting == 0
    assert not lookout.busy.any()


def test_messages_looked_at_ahead_are_passed_over_later():
    lookout = Lookout()
    batch = [say("a", 0, state="alarm"), say("b", 0.5, state="alarm"), say("a", 1)]
    look(lookout, *batch[:2])
    look(lookout, *batch)
    assert [(one.device, one.phase) for one in taken(lookout)] == [
        (1, Phase.RAISE),
        (2, Phase.RAISE),
        (1, Phase.CLEAR),
    ]
    look(lookout, *batch)
    assert lookout.waiting == 0


def test_memory_ends_with_the_alarm():
    lookout = Lookout()
    look(lookout, say("a", 0, state="alarm"), say("b", 0.1, temperature=60))
    assert np.count_nonzero(lookout.busy) == 2
    look(lookout, say("b", 700), say("b", 800))
    look(lookout, say("b", 900))
    assert lookout.hot  # it fell by 40 K: that is remembered for a while, see ingest/flicker.py
    look(lookout, *(say("b", 900 + 1700 * more) for more in range(1, 4)))
    assert not lookout.said
    assert not lookout.hot
    assert not lookout.busy.any()


def test_after_ten_minutes_of_silence_an_alarm_is_a_new_one():
    lookout = Lookout()
    look(lookout, say("a", 0, state="alarm"))
    look(lookout, say("a", 601, state="alarm"))
    assert [one.onset_us - T0_US for one in taken(lookout)] == [0, 601 * SECOND_US]
