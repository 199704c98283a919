"""Payloads that name their devices: whose is which value, and what nobody takes."""

import json

import pytest
from fix_batch import BATCHES, DEVICES, TOPIC
from fix_bridge import BATCH, HEAT, SMOKE_HEAT, T0_US, Device, message, shown, small
from hypothesis import given

from ingest.decode import decode
from ingest.device_types.payload import ROWS_MAX
from ingest.device_types.reasons import Reason
from sizao.units import Lane

DISTRICT = small(
    Device("h1"),
    Device("t1", BATCH, carrier="gw", partition=1),
    Device("t2", BATCH, carrier="gw", partition=2),
    *DEVICES,
)
TELEMETRY, ALARM = Lane.TELEMETRY, Lane.ALARM
A1, A2, I1 = 4, 5, 6


def one(topic, payload, lane=TELEMETRY):
    return decode(DISTRICT, lane, [message(topic, payload)])


def refused(topic, payload, lane=TELEMETRY):
    (found,) = one(topic, payload, lane).refused
    return found


def test_a_batch_beside_single_devices_on_a_topic_that_fits_both_patterns():
    batch = BATCH.replace("up/{carrier}/telemetry\n", "up/{carrier}/telemetry/batch\n")
    batch = batch.replace("up/gw-01/telemetry\n", "up/gw-01/telemetry/batch\n")
    district = small(Device("h1"), Device("t1", batch))
    topic = "up/c1/telemetry/batch"
    decoded = decode(district, TELEMETRY, [message(topic, b'{"keys":["t1"],"temperatures":[5]}')])
    assert [row[:2] for row in shown(district.view, decoded)] == [("t1", "temperature_c")]
    assert not decoded.refused
    single = decode(district, TELEMETRY, [message("up/c1/telemetry/h1", b'{"temperature":5}')])
    assert [row[:2] for row in shown(district.view, single)] == [("h1", "temperature_c")]


def test_a_batch_in_columns():
    payload = '{"keys": ["t2", "t1"], "times": 1772352000000, "temperatures": [20, 21]}'
    decoded = one("up/gw/telemetry", payload)
    assert shown(DISTRICT.view, decoded) == [
        ("t2", "temperature_c", 20.0),
        ("t1", "temperature_c", 21.0),
    ]
    assert decoded.partition.tolist() == [2, 1]
    assert decoded.event_us.tolist() == [T0_US] * 2


def test_a_gateway_that_names_others_than_last_time_is_heard_anew():
    """The last list of each is remembered; carriers of one tick do not borrow each other's."""
    district = small(
        *(Device(key, BATCH, carrier=carrier) for carrier in ("g1", "g2") for key in ("t1", "t2"))
    )

    def said(*payloads):
        told = [
            message(topic, json.dumps({"keys": keys, "temperatures": [value] * len(keys)}))
            for topic, keys, value in payloads
        ]
        decoded = decode(district, TELEMETRY, told)
        faults = [fault.where for refused in decoded.refused for fault in refused.faults]
        return decoded.point.tolist(), decoded.value.tolist(), sorted(faults)

    one, two = "up/g1/telemetry", "up/g2/telemetry"
    for _ in range(2):
        assert said((one, ["t1", "t2"], 5), (two, ["t1", "t2"], 6)) == (
            [1, 2, 3, 4], [5, 5, 6, 6], [],
        )  # fmt: skip
        assert said((one, ["t2", "t1"], 5), (two, ["t2", "x"], 6)) == ([2, 1, 4], [5, 5, 6], ["x"])
        assert said((one, ["t2"], 7)) == ([2], [7], [])
        assert said((one, [1, 2], 7)) == ([], [], ["1", "2"])


def test_a_key_that_only_equals_a_number_is_no_key_and_spoils_no_later_batch():
    district = small(*(Device(key, BATCH, carrier="gw") for key in ("1", "2")))

    def said(keys):
        payload = f'{{"keys":{keys},"temperatures":[5,6]}}'
        decoded = decode(district, TELEMETRY, [message("up/gw/telemetry", payload)])
        return decoded.point.tolist(), [one.reason for one in decoded.refused]

    for wrong in ("[1.0,2]", "[true,2]"):
        assert said(wrong) == ([2], [Reason.WRONG_TYPE])
        assert said("[1,2]") == ([1, 2], [])
        assert said(wrong) == ([2], [Reason.WRONG_TYPE])


def test_a_strangers_key_in_a_batch_does_not_stop_its_neighbours():
    decoded = one("up/gw/telemetry", '{"keys": ["h1", "x", "t1"], "temperatures": [1, 2, 3]}')
    assert shown(DISTRICT.view, decoded) == [("t1", "temperature_c", 3.0)]
    assert set(decoded.refused[0].faults) == {
        (Reason.NOT_YOURS, "h1", 0),
        (Reason.UNKNOWN_DEVICE, "x", 0),
    }


def test_two_types_share_a_topic_that_names_devices_in_the_payload():
    text = HEAT.replace("telemetry/{key}", "telemetry").replace(
        "format: json", "format: json\nkey: /id"
    )
    other = text.replace("generic.heat", "a.b").replace("/temperature", "/t")
    place = small(Device("a", text), Device("b", other))
    payloads = ['{"id": "a", "temperature": 1}', '{"id": "b", "t": 2}', '{"id": "c"}', "x"]
    decoded = decode(place, TELEMETRY, [message("up/c1/telemetry", one) for one in payloads])
    assert shown(place.view, decoded) == [("a", "temperature_c", 1.0), ("b", "temperature_c", 2.0)]
    assert [(found.message, found.reason) for found in decoded.refused] == [
        (2, Reason.UNKNOWN_DEVICE),
        (3, Reason.NOT_JSON),
    ]


@pytest.mark.parametrize(
    ("payload", "reason", "devices"),
    [
        # Another type's device, which that type cannot read here.
        ({"keys": ["i1"], "state": ["alarm"], "smoke": [1]}, Reason.MISSING_FIELD, {I1}),
        ({"keys": ["i1"], "ids": 5, "state": ["alarm"]}, Reason.WRONG_TYPE, {I1}),
        # Read by its own type, but not this key.
        (
            {"keys": ["a1", "i1"], "ids": ["a2"], "state": ["normal", "alarm"], "smoke": [1, 1]},
            Reason.MISSING_FIELD,
            {A2, I1},
        ),
        # Values and nobody whose they are.
        ({"keys": [], "state": ["alarm"], "smoke": [1]}, Reason.UNEQUAL_COLUMNS, {0}),
        ({"keys": [], "state": "alarm"}, Reason.UNEQUAL_COLUMNS, {0}),
        ({"keys": [], "ids": [], "state": ["alarm"]}, Reason.UNEQUAL_COLUMNS, {0}),
        ({"keys": [], "ids": "i1", "state": []}, Reason.WRONG_TYPE, {0}),
        ({"keys": [None], "state": ["alarm"], "smoke": [1]}, Reason.MISSING_FIELD, {0}),
        # Each device tells for itself, and a stranger does not stand for the others.
        ({"keys": ["a1", "a2"], "state": ["?", "!"]}, Reason.UNKNOWN_STATE, {A1, A2}),
        ({"keys": ["x", "a2"], "state": ["?", "!"]}, Reason.UNKNOWN_DEVICE, {0, A2}),
        ({"keys": ["a1", "a2"], "state": ["alarm"]}, Reason.UNEQUAL_COLUMNS, {A1, A2}),
    ],
)  # fmt: skip
def test_no_word_of_an_alarm_batch_is_lost_without_a_trace(payload, reason, devices):
    found = refused(TOPIC, json.dumps(payload), ALARM)
    assert reason in {fault.reason for fault in found.faults}
    assert set(found.devices) == devices


def test_each_of_two_types_takes_its_own_of_a_shared_alarm_topic():
    for payload, key in (({"keys": ["a1"]}, "a1"), ({"ids": ["i1"]}, "i1")):
        decoded = one(TOPIC, json.dumps(payload | {"state": ["alarm"]}), ALARM)
        assert (key, "fire_state", 1.0) in shown(DISTRICT.view, decoded)
        assert not any(found.unread for found in decoded.refused)


def test_a_batch_of_nothing_says_nothing():
    for payload in ({"keys": [], "ids": []}, {"keys": [], "ids": [], "state": [], "time": "now"}):
        decoded = one(TOPIC, json.dumps(payload), ALARM)
        assert (len(decoded.point), decoded.refused) == (0, [])


def test_a_key_that_its_type_looks_for_elsewhere_is_no_fault():
    text = SMOKE_HEAT.replace("alarm/{key}", "alarm").replace(
        "format: json", "format: json\nkey: /id"
    )
    other = text.replace("generic.", "other.").replace("key: /id", "key: /imei")
    place = small(Device("a", text), Device("b", other))
    payload = '{"imei": "b", "state": "alarm", "smoke": 0}'
    decoded = decode(place, ALARM, [message("up/c1/alarm", payload)])
    assert ("b", "fire_state", 1.0) in shown(place.view, decoded)
    assert decoded.refused == []
    for bad in ("{}", '{"id": ["a"], "imei": null}', '{"id": true}'):
        (found,) = decode(place, ALARM, [message("up/c1/alarm", bad)]).refused
        assert (found.whole, found.devices) == (True, (0,))


def test_words_that_only_look_like_a_key_are_no_key():
    place = small(
        Device("None", BATCH), Device("True", BATCH), Device("1.5", BATCH), Device("7", BATCH)
    )
    payload = '{"keys": [null, true, 1.5, 7], "temperatures": [1, 2, 3, 4]}'
    decoded = decode(place, TELEMETRY, [message("up/c1/telemetry", payload)])
    assert shown(place.view, decoded) == [("7", "temperature_c", 4.0)]


def test_the_faults_of_a_payload_are_bounded_and_no_device_falls_out(monkeypatch):
    monkeypatch.setattr("ingest.refused.FAULTS_MAX", 5)
    strangers = [f"x{n}" for n in range(50)]
    keys = [*strangers, "a1", "a2"]
    payload = {"keys": keys, "state": ["?"] * len(keys), "smoke": ["?"] * len(keys)}
    found = refused(TOPIC, json.dumps(payload), ALARM)
    assert set(found.devices) == {0, A1, A2}
    assert {Reason.UNKNOWN_DEVICE, Reason.UNKNOWN_STATE, Reason.WRONG_TYPE} <= {
        fault.reason for fault in found.faults
    }
    assert len(found.faults) < 20


@given(BATCHES)
def test_every_device_that_an_alarm_batch_names_has_a_row_or_is_told_of(said):
    decoded = one(TOPIC, json.dumps(said), ALARM)
    named = {"a1": A1, "a2": A2, "i1": I1}
    lists = [said[name] for name in ("keys", "ids") if isinstance(said.get(name), list)]
    keys = {key for keys in lists for key in keys if isinstance(key, str)}
    answered = set(DISTRICT.view.point_device[decoded.point].tolist())
    for found in decoded.refused:
        answered |= set(named.values()) if found.whole else set(found.devices)
    assert {named[key] for key in keys & named.keys()} <= answered


def test_too_many_rows_in_a_batch():
    keys = ["t1"] * (ROWS_MAX + 1)
    payload = json.dumps({"keys": keys, "temperatures": [1] * len(keys)}, separators=(",", ":"))
    assert refused("up/gw/telemetry", payload).reason is Reason.TOO_MANY_ROWS
