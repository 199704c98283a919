"""Which dead letters are asked for, and what a slip of the pen is told."""

import pytest

from ingest.device_types.reasons import Reason
from ingest.reject_search import Where, fits, place, reasons_of, span_us, topic_filter, where
from ingest.rejects import Reject
from sizao.errors import BadInput
from sizao.units import Lane


def reject(**said):
    return Reject(
        **{
            "payload": b"x",
            "reason": Reason.WRONG_TYPE,
            "detail": "wrong_type: temperature_c; bad_time: time",
            "topic": b"up/c1/telemetry/h1",
            "arrived_us": 1,
            "carrier": "c1",
            "lane": Lane.TELEMETRY,
            "device": 5,
            "bridge": "b0",
            "dup": False,
            "stored": b"",
        }
        | said
    )


@pytest.mark.parametrize(
    ("words", "takes"),
    [
        ([], True),
        (["reason=wrong_type"], True),
        (["reason=bad_time"], True),  # the second of its faults
        (["reason=not_json"], False),
        (["reason=not_json", "reason=wrong_type"], True),
        (["reason=wrong_type", "carrier=c2"], False),
        (["carrier=c1", "lane=telemetry"], True),
        (["lane=alarm"], False),
        (["topic=up/+/telemetry/#"], True),
        (["topic=up/c2/#", "topic=up/c1/#"], True),
        (["topic=up/c1/telemetry"], False),
    ],
)
def test_where(words, takes):
    assert where(words).takes(reject(), ()) is takes


def test_a_device_is_found_by_its_id_and_where_nobody_knows_it_by_its_topic():
    asked = where(["device=h1"])
    assert asked.takes(reject(), {5})
    assert not asked.takes(reject(), {6})  # another of the same key
    assert asked.takes(reject(device=0), ())
    assert not asked.takes(reject(device=0, topic=b"up/c1/telemetry/h2"), ())


def test_a_reason_is_a_word_of_its_own():
    found = reasons_of(reject(detail="unknown_device: not_json"))
    assert found == {Reason.WRONG_TYPE, Reason.UNKNOWN_DEVICE}


@pytest.mark.parametrize(
    ("word", "told"),
    [
        (
            "reson=x",
            "unknown key 'reson', expected one of reason, carrier, device, lane, topic; near",
        ),
        ("reason=wrong_typ", "unknown reason 'wrong_typ', expected one of too_large"),
        ("reason=wrong_typ", "nearest: wrong_type"),
        ("lane=alarms", "nearest: alarm"),
        ("reason", "expected KEY=VALUE"),
        ("carrier=", "expected KEY=VALUE"),
        ("topic=a/b#", "expected an MQTT topic filter"),
        ("topic=#/a", "expected an MQTT topic filter"),
    ],
)
def test_a_slip_is_told_with_what_is_known(word, told):
    with pytest.raises(BadInput) as refusal:
        where([word])
    assert told in str(refusal.value)


def test_nothing_asked_is_nothing():
    assert not where([])
    assert Where() == where([])
    assert where(["lane=alarm"])


@pytest.mark.parametrize(
    ("topic_filter", "topic", "takes"),
    [
        ("#", "a/b", True),
        ("a/#", "a", True),
        ("a/#", "a/b/c", True),
        ("a/#", "ab", False),
        ("a/+", "a/b", True),
        ("a/+", "a/b/c", False),
        ("a/+/c", "a//c", True),
        ("a/b", "a/b", True),
        ("a/b/c", "a/b", False),
    ],
)
def test_topic_filters(topic_filter, topic, takes):
    assert fits(topic_filter, topic) is takes


def test_a_filter_with_a_half_level_wild_card_is_none():
    assert topic_filter("up/+/#", "--topic") == "up/+/#"
    for bad in ("up/a+", "up/#/x", ""):
        with pytest.raises(BadInput, match="--topic"):
            topic_filter(bad, "--topic")


def test_spans():
    assert span_us("90s") == 90_000_000
    assert span_us("24h") == 86_400_000_000
    assert span_us("14d") == 14 * 86_400_000_000
    for bad in ("", "1", "h", "15d", "-1h", "1 h"):
        with pytest.raises(BadInput, match="--since"):
            span_us(bad)


def test_ids():
    assert place("2:1047") == (2, 1047)
    for bad in ("", "2", "2:", "2:x", "a:1"):
        with pytest.raises(BadInput, match="expected an id"):
            place(bad)
