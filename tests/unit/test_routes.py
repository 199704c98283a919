"""Which topics a bridge asks for: all that its registry knows, readable or not."""

import pytest
from fix_bridge import DOCUMENTS, Device, message, registry, shown, small

from ingest.check import check
from ingest.decode import decode
from ingest.device_types.reasons import Reason
from ingest.routes import district
from sizao.units import Lane

TELEMETRY, ALARM = Lane.TELEMETRY, Lane.ALARM
ZIGBEE = DOCUMENTS["heiman/hs1sa.yaml"]
GATEWAY = DOCUMENTS["generic/smoke_gateway.yaml"]
FIRE = '{"smoke": true}'


def broken(text):
    """As a program sees it whose schema is not the one by which it was applied."""
    return text.replace("expected_interval_s:", "interval_of_another_age:")


def refused(place, topic, payload):
    (found,) = decode(place, ALARM, [message(topic, payload)]).refused
    return found.reason, found.devices


def test_a_type_that_does_not_compile_keeps_its_topics():
    # Else the bridge gives up their filters: the broker acknowledges each alarm and drops it.
    place = small(Device("h1"), Device("z1", broken(ZIGBEE), carrier="z"))
    assert list(place.broken) == ["type.2"]
    assert place.filters(ALARM) == ("up/+/alarm/#", "up/+/zigbee2mqtt/+")
    assert refused(place, "up/z/zigbee2mqtt/z1", FIRE) == (Reason.BROKEN_TYPE, (2,))
    assert refused(place, "up/z/zigbee2mqtt/z2", FIRE) == (Reason.UNKNOWN_DEVICE, (0,))


def test_a_payload_that_names_devices_of_a_type_that_does_not_compile():
    said = '{"time": 1772352000, "keys": ["a", "b"], "states": [1, 1]}'
    place = small(Device("a", broken(GATEWAY)))
    assert refused(place, "up/c1/alarm", said) == (Reason.BROKEN_TYPE, (0,))
    other = GATEWAY.replace("name: generic.", "name: other.")
    place = small(Device("a", broken(GATEWAY)), Device("b", other))
    decoded = decode(place, ALARM, [message("up/c1/alarm", said)])
    assert ("b", "fire_state", 1.0) in shown(place.view, decoded)
    assert (Reason.BROKEN_TYPE, "a", 1) in decoded.refused[0].faults


@pytest.mark.parametrize(
    ("topics", "found"),
    [
        ("[{pattern: 'up/{carrier}/a/{key}', lane: alarm, more: 1}, 7]", [(ALARM, "up/+/a/+")]),
        ("[{pattern: 'up/{carrier}/a/{key}', lane: fast}]", [(ALARM, "up/+/a/+")]),
        ("[{pattern: 'up/{carrier}/a', lane: telemetry}, {pattern: '#'}]", [(TELEMETRY, "up/+/a")]),
        ("['up/{carrier}/a', {lane: alarm}]", [(ALARM, "up/+/a")]),
        ("{}", []),
        ("[", []),
    ],
)
def test_what_can_be_read_of_broken_topics_is_subscribed_to(topics, found):
    place = small(Device("h1", f"topics: {topics}"))
    base = {"up/+/alarm/#", "up/+/telemetry/#"}
    own = [(lane, one) for lane in Lane for one in place.filters(lane) if one not in base]
    assert own == found


def test_a_type_without_a_device_has_its_topics_all_the_same():
    known = registry([Device("h1"), Device("z1", ZIGBEE)])
    tables = known.tables | {"device": known.tables["device"].slice(0, 1)}
    place = district(type(known)(generation=1, partitions=4, tables=tables).newest)
    assert place.filters(ALARM) == ("up/+/alarm/#", "up/+/zigbee2mqtt/+")
    assert refused(place, "up/c1/zigbee2mqtt/z1", FIRE) == (Reason.UNKNOWN_DEVICE, (0,))


@pytest.mark.parametrize(
    "level",
    ["a\\tb", "a\\x7f", "\\x85", "\\ud800", "\\ufdd0", "\\ufffe", "\\U0001ffff", "a" * 4096],
)
def test_a_topic_that_no_broker_takes_is_refused(level):
    # It would drop the lane's connection, and again at each return: every fire of the district.
    text = ZIGBEE.replace("up/{carrier}/zigbee2mqtt/{key}", f'"up/{{carrier}}/{level}/{{key}}"')
    assert any(
        "topics.0.pattern" in fault and "expected" in fault for fault in check([("z", text)])
    )
    place = small(Device("h1"), Device("z1", text, carrier="z"))
    assert place.filters(ALARM) == ("up/+/alarm/#",)


def test_a_topic_of_more_levels_than_the_broker_takes_is_refused():
    text = ZIGBEE.replace("zigbee2mqtt/{key}", "a/" * 197 + "{key}")
    assert not any("pattern" in fault for fault in check([("z", text)]))
    text = text.replace("a/{key}", "a/a/{key}")
    assert any("at most 200 levels" in fault for fault in check([("z", text)]))


@pytest.mark.parametrize("level", ["烟感", "a b", "\ufeffa", "é", "$x", "😀"])
def test_any_other_text_is_a_level(level):
    text = ZIGBEE.replace("zigbee2mqtt", level)
    assert small(Device("z1", text)).filters(ALARM)[1] == f"up/+/{level}/+"
