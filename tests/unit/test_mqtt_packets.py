"""Our MQTT against paho's, on the same bytes both ways, and against bytes that are none."""

import pytest
from fix_mqtt import Reference
from hypothesis import given
from hypothesis import strategies as st
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

from ingest.mqtt import packets
from ingest.mqtt.packets import Answer, Connack, Disconnect, ProtocolError, Version
from ingest.mqtt.stream import DUP, Stream

LONGEST = 70_000
versions = st.sampled_from(Version)
numbers = st.integers(1, 65_535)
words = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=40)
topics = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\0+#"), min_size=1, max_size=200
)


def user_properties(pairs):
    made = Properties(PacketTypes.PUBLISH)
    made.UserProperty = pairs
    made.ContentType = "text/plain"
    made.MessageExpiryInterval = 7
    return made


def heard(found):
    """As `Reference.heard` says it."""
    dups = [bool(head & DUP) for head in found.heads]
    return list(zip(found.topics, found.payloads, dups, found.numbers, strict=True))


def cut(data, places):
    """The same bytes in pieces."""
    ends = sorted({min(place, len(data)) for place in places} | {len(data)})
    return [data[start:end] for start, end in zip([0, *ends], ends, strict=False)]


def fed(stream, pieces, packets_max=1000, bytes_max=1 << 30):
    """All that a stream finds; the fault is the last."""
    found = []
    for piece in pieces:
        rest = piece
        while rest:
            count = min(len(rest), len(stream.free))
            stream.free[:count] = rest[:count]
            stream.filled(count)
            rest = rest[count:]
            while True:
                found.append(stream.walk(packets_max, bytes_max))
                assert found[-1].packets <= packets_max
                if found[-1].fault:
                    return found
                if not found[-1].packets:
                    break
    return found


messages = st.lists(
    st.tuples(
        topics,
        st.binary(max_size=300) | st.integers(16_000, 17_000).map(bytes),
        st.sampled_from([0, 1]),
        st.booleans(),
        numbers,
        st.none() | st.lists(st.tuples(words, words), min_size=1, max_size=4),
    ),
    max_size=12,
)


@given(versions, messages, st.lists(st.integers(0, 4000), max_size=30), st.integers(1, 5))
def test_what_paho_publishes_both_read_alike(version, sent, places, packets_max):
    """Whatever the pieces in which it comes, and however little is read at a time."""
    sender, reader = Reference(version), Reference(version)
    for topic, payload, qos, dup, number, pairs in sent:
        five = version is Version.V5 and pairs is not None
        sender.publish(
            topic, payload, qos, dup and qos > 0, number, user_properties(pairs) if five else None
        )
    data = bytes(sender.wire.sent)
    assert reader.hear(data)
    assert len(reader.heard) == len(sent)
    stream = Stream(version, LONGEST)
    found = fed(stream, cut(data, places), packets_max)
    assert [one for part in found for one in heard(part)] == reader.heard
    assert sum(part.size for part in found) == sum(len(t) + len(p) for t, p, *_ in reader.heard)
    assert not any(part.fault for part in found)


codes = st.lists(st.sampled_from([0, 1, 0x80, 0x87]), min_size=1, max_size=4)


@given(versions, st.sampled_from([0x90, 0xB0]), numbers, codes, st.lists(st.integers(0, 20)))
def test_answers_are_read_as_paho_reads_them(version, head, number, said, places):
    if version is Version.V3:
        said = [0x80 if code == 0x87 else code for code in said]
    said = [] if version is Version.V3 and head == 0xB0 else said
    if head == 0xB0:  # reason codes of an UNSUBACK
        said = [0x11 if code in {1, 0x80} else code for code in said]
    middle = b"\x00" if version is Version.V5 else b""
    body = number.to_bytes(2, "big") + middle + bytes(said)
    data = bytes([head, len(body)]) + body + b"\xd0\x00"
    reader = Reference(version)
    assert reader.hear(data)
    if version is Version.V5 or head == 0x90:
        assert reader.heard == [(number, said)]
    found = [
        one for part in fed(Stream(version, LONGEST), cut(data, places)) for one in part.controls
    ]
    assert found == [Answer(number, bytes(said), head == 0x90)]


@given(
    versions,
    words,
    words,
    st.none() | words,
    st.integers(0, 65_535),
    st.sampled_from([0, 1, 604_800]),
    numbers,
)
def test_we_connect_byte_by_byte_as_paho_does(
    version, client_id, username, password, keepalive_s, session_s, window
):
    reference = Reference(version)
    reference.client._client_id = client_id.encode()
    password = password if username else None
    if username:
        reference.client.username_pw_set(username, password)
    reference.client._clean_start = reference.client._clean_session = session_s == 0
    reference.client._connect_properties = Properties(PacketTypes.CONNECT)
    reference.client._connect_properties.SessionExpiryInterval = session_s
    reference.client._connect_properties.ReceiveMaximum = window
    reference.client._send_connect(keepalive_s)
    ours = packets.connect(
        version,
        client_id,
        username=username,
        password=password,
        keepalive_s=keepalive_s,
        session_s=session_s,
        window=window,
    )
    assert ours == bytes(reference.wire.sent)


@given(versions, numbers, st.lists(topics, min_size=1, max_size=5))
def test_we_subscribe_and_unsubscribe_byte_by_byte_as_paho_does(version, number, filters):
    reference = Reference(version)
    five = version is Version.V5
    options = SubscribeOptions(qos=1, retainHandling=2) if five else 1
    reference.client._last_mid = number - 1
    encoded = [(one.encode(), options) for one in filters]
    none = Properties(PacketTypes.SUBSCRIBE)
    reference.client._send_subscribe(dup=False, topics=encoded, properties=none)
    assert packets.subscribe(version, number, filters) == bytes(reference.wire.sent)
    reference.wire.sent.clear()
    reference.client._last_mid = number - 1
    none = Properties(PacketTypes.UNSUBSCRIBE)
    encoded = [one.encode() for one in filters]
    reference.client._send_unsubscribe(dup=False, topics=encoded, properties=none)
    assert packets.unsubscribe(version, number, filters) == bytes(reference.wire.sent)


@given(numbers)
def test_we_acknowledge_ping_and_leave_byte_by_byte_as_paho_does(number):
    reference = Reference(Version.V5)
    reference.client.ack(number, 1)
    reference.client._send_pingreq()
    reference.client._send_disconnect()
    assert packets.ACKS[number] + packets.PING + packets.GOODBYE == bytes(reference.wire.sent)


def connack_properties(**said):
    made = Properties(PacketTypes.CONNACK)
    for name, value in said.items():
        setattr(made, name, value)
    return bytes(made.pack())


def test_what_a_broker_grants_is_read_among_all_that_it_may_say():
    properties = connack_properties(
        SessionExpiryInterval=5,
        ReceiveMaximum=20,
        MaximumQoS=1,
        RetainAvailable=1,
        MaximumPacketSize=1000,
        AssignedClientIdentifier="auto-1",
        TopicAliasMaximum=10,
        ReasonString="你好",
        UserProperty=[("a", "b"), ("c", "d")],
        WildcardSubscriptionAvailable=1,
        SubscriptionIdentifierAvailable=1,
        SharedSubscriptionAvailable=1,
        ServerKeepAlive=9,
        ResponseInformation="r",
        ServerReference="s",
        AuthenticationMethod="m",
        AuthenticationData=b"\x00\x01",
    )
    body = b"\x01\x00" + properties
    assert packets.control(Version.V5, 0x20, body) == Connack(
        session_present=True, code=0, reason="你好", keepalive_s=9, packet_bytes_max=1000
    )
    for end in range(len(body)):
        with pytest.raises(ProtocolError):
            packets.control(Version.V5, 0x20, body[:end])


def test_a_broker_says_why_it_goes():
    made = Properties(PacketTypes.DISCONNECT)
    made.ReasonString = "over there"
    made.SessionExpiryInterval = 1
    body = b"\x9d" + bytes(made.pack())
    gone = packets.control(Version.V5, 0xE0, body)
    assert gone == Disconnect(0x9D, "over there")
    assert packets.words(gone.code, gone.reason) == "server moved (over there)"
    assert packets.words(0xFE) == "reason 0xfe"
    assert packets.control(Version.V5, 0xE0, b"\x8b") == Disconnect(0x8B, "")


@pytest.mark.parametrize(("code", "told"), [(0, ""), (5, "not authorized"), (77, "return code 77")])
def test_a_refusal_of_3_1_1_is_told_in_words(code, told):
    answer = packets.control(Version.V3, 0x20, bytes([0, code]))
    assert packets.refusal(Version.V3, answer) == told


MALFORMED = [
    (5, "c0 00", "a PINGREQ"),
    (5, "00 00", "a packet of no type"),
    (5, "93 00", "first byte 0x93"),
    (5, "d0 01 00", "a PINGRESP with content"),
    (5, "20 00", "ends too early"),
    (5, "20 03 02 00 00", "flags 0x02"),
    (5, "20 03 00 00 05", "longer than their packet"),
    (5, "20 04 00 00 00 00", "behind the properties"),
    (5, "20 05 00 00 02 7f 00", "property 0x7f"),
    (5, "20 07 00 00 04 27 00 00 01", "property 0x27"),
    (4, "20 03 00 00 00", "more than two bytes"),
    (5, "90 03 00 01 00", "without codes"),
    (4, "b0 03 00 01 00", "with codes"),
    (4, "e0 00", "3.1.1"),
    (5, "36 00", "QoS 3"),
    (5, "34 05 00 01 74 00 01 00", "QoS 2"),
    (5, "30 03 00 00 00", "without a topic"),
    (4, "30 02 00 00", "without a topic"),
    (4, "30 00", "without a topic"),
    (4, "30 01 00", "without a topic"),
    (4, "30 03 00 02 74", "without a topic"),
    (5, "30 03 00 01 74", "without a topic"),
    (4, "32 04 00 01 74 00", "without a topic"),
    (4, "32 05 00 01 74 00 00", "identifier 0"),
    (5, "30 05 00 01 74 02 01", "longer than their packet"),
    (5, "30 08 00 01 74 ff ff ff ff 01", "more than four bytes"),
    (5, "30 ff ff ff ff 01", "more than four bytes"),
    (5, "30 f1 a2 04", "mqtt.packet_bytes_max is 70000"),
    (5, "d0 f1 a2 04", "mqtt.packet_bytes_max is 70000"),
]


@pytest.mark.parametrize(("level", "data", "why"), MALFORMED)
def test_what_the_standard_forbids_is_a_fault_that_says_what(level, data, why):
    good = b"\x30\x04\x00\x01tp" if level == 4 else b"\x30\x05\x00\x01t\x00p"
    found = fed(Stream(Version(level), LONGEST), [good + bytes.fromhex(data) + b"\0" * 200])
    # Some of them are whole only with bytes that follow.
    assert [one.fault for one in found if one.fault], found
    assert why in next(one.fault for one in found if one.fault)
    assert next(one.payloads for one in found if one.payloads)[0] == b"p", "what came before"


heads = st.sampled_from([0x20, 0x30, 0x32, 0x33, 0x3A, 0x90, 0xB0, 0xD0, 0xE0]) | st.integers(
    0, 255
)
wild = st.binary(max_size=400) | st.lists(
    st.builds(
        lambda head, body, off: bytes([head, max(len(body) + off, 0) & 0x7F]) + body,
        heads,
        st.binary(max_size=40),
        st.sampled_from([0, 0, 0, -1, 1]),
    )
).map(b"".join)


@given(versions, wild, st.lists(st.integers(0, 400)), st.integers(1, 4), st.integers(1, 50))
def test_whatever_comes_ends_in_packets_or_in_a_fault(version, data, places, few, little):
    """Never an error, never more than it was asked for; the pieces change nothing."""
    whole = fed(Stream(version, 100), [data])
    pieces = fed(Stream(version, 100), cut(data, places), few, little)
    assert [one for part in pieces for one in heard(part)] == [
        one for part in whole for one in heard(part)
    ]
    assert [one for part in pieces for one in part.controls] == [
        one for part in whole for one in part.controls
    ]
    assert not data or pieces[-1].fault == whole[-1].fault


@given(versions, wild)
def test_what_paho_refuses_we_do_not_take_for_a_message(version, data):
    """And what both take, they take alike. paho is more lenient: it reads what is wrong, too."""
    reference = Reference(version)
    try:
        fine = reference.hear(data)
    except Exception:  # noqa: BLE001 - it raises whatever it likes at malformed bytes
        fine = False
    found = fed(Stream(version, 1 << 20), [data])
    ours = [one for part in found for one in heard(part)]
    theirs = [one for one in reference.heard if isinstance(one[0], bytes)]
    assert ours == theirs[: len(ours)] or not fine


@pytest.mark.parametrize("length", [3, 127, 128, 129, 16_383, 16_384, 16_385, LONGEST])
def test_a_length_of_one_two_or_three_bytes_is_read(length):
    data = b"\x30" + packets.varint(length) + b"\x00\x01t" + bytes(length - 3) + b"\xd0\x00"
    found = Stream(Version.V3, LONGEST)
    found.free[: len(data)] = data
    found.filled(len(data))
    one = found.walk(9, 1 << 30)
    assert (one.payloads, one.packets, one.fault) == ([bytes(length - 3)], 2, "")


def test_a_packet_beyond_the_bound_is_refused_even_when_it_is_there():
    data = b"\x30" + packets.varint(LONGEST + 1) + b"\x00\x01t" + bytes(LONGEST - 2)
    found = fed(Stream(Version.V3, LONGEST), [data])
    assert (
        found[-1].fault == "protocol error: a packet of 70001 bytes; mqtt.packet_bytes_max is 70000"
    )
    assert not found[-1].topics


def test_a_packet_of_the_largest_size_comes_in_small_pieces():
    stream = Stream(Version.V3, LONGEST)
    payload = bytes(LONGEST - 3)
    data = b"\x30" + packets.varint(LONGEST) + b"\x00\x01t" + payload
    found = fed(stream, [data[at : at + 999] for at in range(0, len(data), 999)])
    assert [one.payloads for one in found if one.payloads] == [[payload]]


def test_a_stream_holds_a_packet_and_a_mebibyte_at_most():
    """Nothing is read: then there is no more room, and what is there is whole packets."""
    stream = Stream(Version.V3, LONGEST)
    message = b"\x30\x04\x00\x01tp"
    size = len(stream.free)
    assert size == LONGEST + (1 << 20)
    stream.free[: size // 6 * 6] = message * (size // 6)
    stream.filled(size // 6 * 6)
    stream.filled(len(stream.free))
    assert not stream.free
    assert len(stream.walk(10, 1 << 30).topics) == 10
    assert len(stream.free) == 60
