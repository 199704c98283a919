"""Passwords and access rules as Mosquitto's files have them: what is not ours stays as it is."""

import base64
import hashlib

import pytest
from fix_bridge import BATCH, HEAT, SMOKE_HEAT, Device, registry
from hypothesis import given
from hypothesis import strategies as st

from ingest import credentials
from ingest.credentials import GONE, Broker, access, entries, merged
from sizao.errors import BadInput

NAME = st.text(
    st.characters(exclude_characters=":\n#/+", exclude_categories=["C", "Z"]), min_size=1
)
WORD = st.sampled_from(["$7$101$c2FsdA==$aGFzaA==", "x", GONE])
LINE = st.one_of(
    st.binary(max_size=12).filter(lambda raw: b"\n" not in raw),
    st.sampled_from([b"# note: me", b"nobody", b"", b"bridge:$7$1$a$b", b"\xff\xfe:hash"]),
)


@given(st.lists(LINE), st.dictionaries(NAME, WORD))
def test_other_lines_stay_in_their_order_and_ours_are_what_was_asked(lines, changes):
    raw = b"".join(line + b"\n" for line in lines)
    after = merged(raw, changes)
    ours = {name.encode() for name in changes}

    def others(content):
        rest = content.removesuffix(b"\n").split(b"\n") if content else []
        return [
            one for one in rest if one.partition(b":")[0].strip() not in ours or b":" not in one
        ]

    assert others(after) == others(raw)
    found = entries(after)
    assert {name: found.get(name, GONE) for name in changes} == changes
    assert merged(after, changes) == after
    assert entries(credentials.waiting(changes)) == changes


def test_an_entry_is_changed_where_it_stands_and_its_double_goes():
    raw = b"# head\na:1\nbridge:2\n a :3\nb:4"
    assert merged(raw, {"a": "9", "c": "8"}) == b"# head\na:9\nbridge:2\nb:4\nc:8\n"
    assert merged(raw, {"a": GONE}) == b"# head\nbridge:2\nb:4\n"
    assert merged(b"", {}) == b""


def test_a_hash_is_that_of_mosquitto_passwd():
    word = credentials.hashed("secret", bytes(12))
    digest = hashlib.pbkdf2_hmac("sha512", b"secret", bytes(12), 101)
    kind, rounds, salt, shown = word.split("$")[1:]
    assert (kind, rounds, salt) == ("7", "101", "AAAAAAAAAAAAAAAA")
    assert len(shown) == 88
    assert base64.b64decode(shown) == digest


def test_a_password_is_all_of_the_bits_that_were_drawn():
    asked = []

    def draw(count):
        asked.append(count)
        return bytes(range(count))

    word = credentials.draw_password(draw)
    assert asked == [20]
    assert asked[0] * 8 >= 128
    assert base64.b32decode(word.upper()) == bytes(range(20))
    assert word.isalnum()


def test_our_rules_stand_once_where_they_stood():
    foreign = b"# mine\npattern write old/%u/#\nuser boss\ntopic readwrite down/#\n"
    once = access(foreign, "bridge")
    assert once.startswith(foreign)
    rules = [line for line in once.split(b"\n") if not line.startswith(b"#")][3:]
    assert rules == [
        b"pattern write up/%u/#",
        b"pattern read down/%u/#",
        b"user bridge",
        b"topic read up/#",
        b"topic read $SYS/broker/#",
        b"",
    ]
    later = once + b"user late\ntopic read x\n"
    assert access(later, "bridge") == later
    assert access(later, "b2") == later.replace(b"user bridge", b"user b2")
    assert access(access(b"", "b"), "b") == access(b"", "b")


def test_a_sharded_broker_asks_for_rights_with_the_mount_point():
    lines = access(b"", "bridge", ["s0/", "s1/"]).split(b"\n")
    assert b"pattern write s0/up/%u/#" in lines
    assert b"pattern read s1/down/%u/#" in lines
    assert b"topic read s1/up/#" in lines
    assert not any(line.endswith(b" up/#") or b" up/%u" in line for line in lines)


def test_rules_for_everybody_that_are_not_ours_are_told():
    mine = access(b"pattern read up/#\npattern write up/%u/#\nuser x\ntopic read #\n", "bridge")
    assert credentials.foreign_patterns(mine, "bridge") == ["pattern read up/#"]


DEVICES = [
    Device("h1", HEAT, carrier="h1"),
    Device("s1", SMOKE_HEAT, carrier="two"),
    Device("s2", SMOKE_HEAT, carrier="two"),
    Device("h3", HEAT, carrier="two"),
    Device("t1", BATCH, carrier="gw"),
    Device("old", HEAT, carrier="old", state="retired"),
    Device("lost", HEAT, carrier="lost"),
]


def view(*more, revoked=("lost",)):
    return registry([*DEVICES, *more], revoked=revoked).newest


def test_who_may_have_a_password():
    assert credentials.entitled(view()) == {"h1", "two", "gw"}
    users = ["bridge", "h1", "old", "lost", "boss"]
    assert credentials.surplus(view(), users, "bridge") == ["lost", "old"]
    late = Device("k", carrier="bridge", state="retired")
    assert credentials.surplus(view(late), users, "bridge") == ["lost", "old"]


@pytest.mark.parametrize(
    ("named", "missing", "expected"),
    [
        ([], False, ["gw", "h1", "two"]),
        ([], True, ["gw", "two"]),
        (["h1", "gw", "h1"], False, ["gw", "h1"]),
    ],
)
def test_who_gets_one(named, missing, expected):
    got = credentials.chosen(view(), {"h1", "bridge"}, "bridge", named, missing=missing)
    assert got == expected


def test_who_gets_none_is_told_with_all_others():
    place = view(Device("a:b", carrier="a:b"), Device("k", carrier="bridge"))
    with pytest.raises(BadInput) as refusal:
        credentials.chosen(
            place, (), "bridge", ["gwx", "old", "lost", "a:b", "bridge"], missing=False
        )
    said = str(refusal.value).splitlines()
    text = "Mosquitto's file cannot hold a name with a colon or a space at its end"
    assert said == [
        "unknown carrier: 'gwx'; nearest: gw",
        "carrier 'lost': is revoked, expected one that is not (sizao devices restore)",
        "carrier 'old': has no device that is not retired, expected one",
        f"carrier 'a:b': {text}, expected another (sizao devices swap)",
        "carrier 'bridge': has the name of the bridge's own user (mqtt.username)",
    ]
    with pytest.raises(BadInput, match="a:b"):  # nobody is left out silently
        credentials.chosen(place, (), "bridge", [], missing=True)


def test_the_hand_over_says_where_to_speak():
    passwords = {"h1": "p1", "two": "p2", "gw": "p3"}
    columns = credentials.hand_over(view(), passwords, Broker("mqtt.example", 8883))
    rows = list(zip(*columns.values(), strict=True))
    assert list(columns)[:5] == ["carrier", "username", "password", "host", "port"]
    at = "mqtt.example", "8883"
    assert rows == [
        ("h1", "h1", "p1", *at, "up/h1/telemetry/h1", "down/h1/#"),
        ("two", "two", "p2", *at, "up/two/alarm/{key} up/two/telemetry/h3", "down/two/#"),
        ("gw", "gw", "p3", *at, "up/gw/telemetry", "down/gw/#"),
    ]


@pytest.mark.parametrize(
    ("text", "minute", "wait"),
    [
        ("02:00-04:00", 120, 0),
        ("02:00-04:00", 239, 0),
        ("02:00-04:00", 240, 22 * 60),
        ("02:00-04:00", 60, 60),
        ("23:30-00:30", 1439, 0),
        ("23:30-00:30", 29, 0),
        ("23:30-00:30", 30, 23 * 60),
        ("00:00-00:00", 700, 0),
    ],
)
def test_the_window(text, minute, wait):
    assert credentials.opens_in(credentials.window(text), minute) == wait


@pytest.mark.parametrize("text", ["", "2-4", "02:00", "24:00-01:00", "02:60-03:00", "02:00-04:00 "])
def test_a_window_that_is_none(text):
    with pytest.raises(ValueError, match="02:00-04:00"):
        credentials.window(text)


def test_the_stall_grows_with_the_lines():
    assert credentials.stall(0) == (0.3, 0.0)
    assert credentials.stall(400_000) == pytest.approx((1.7, 80.0))
