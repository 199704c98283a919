"""The words, to the letter, and what hostile names cannot do to them."""

from __future__ import annotations

import json

import hypothesis.strategies as st
import pytest
from fix_alerting import make_signal, view
from hypothesis import given, settings

from alerting import channels, texts
from alerting import notice as notices
from alerting.book import Book
from alerting.model import Nature, Transition
from sizao import http
from sizao.signal import Kind, Phase, Tier

T0 = 1_760_000_000_000_000  # 2025-10-09 16:53:20 in China
MINUTE = 60_000_000


def notice(*found, nature=Nature.REAL, after=1_000_000, names=None):
    book, last = Book(), None
    for one in found or [make_signal()]:
        effects = book.hear(one, nature, one.event_us + after)
        last = next((e for e in effects if isinstance(e, Transition)), last)
    (incident,) = book.newest.values()
    return notices.build(view(names), incident, last, list(incident.known.values()))


def text(language, *found, **more):
    return texts.text(notice(*found, **more), language, 480)


def test_a_fire_in_chinese():
    assert text("zh") == (
        "火警(报警):坂田街道岗头社区中心围五巷8号3楼302,共1个设备,16:53。请立即核实,见火先拨119。"
    )


def test_a_fire_in_english():
    assert text("en") == (
        "FIRE, alarm: Room 302, 3F, No. 8 Lane 5, Gangtou Community, Bantian Street; 1 device;"
        " 16:53. Verify now; if you see fire, call 119 first."
    )


def test_a_late_one_says_how_late():
    assert ",延迟7分钟收到。" in text("zh", after=7 * MINUTE + 1)
    assert ", received 7 min late." in text("en", after=7 * MINUTE + 1)


def test_one_of_yesterday_says_the_date():
    assert "2025-10-09 16:53" in text("zh", after=24 * 60 * MINUTE)


def test_news_is_named():
    early = make_signal(tier=Tier.EARLY)
    assert "警情升级。" in text("zh", early, make_signal(at=T0 + 1))
    second = make_signal(2, at=T0 + 11 * MINUTE, tier=Tier.EARLY)
    assert "又有设备报警。" in text("zh", early, second)
    assert "共2个设备" in text("zh", early, second)
    assert " Another device." in text("en", early, second)


def test_what_lies_beside_a_fire_is_named():
    early = make_signal(tier=Tier.EARLY)
    water = make_signal(9, at=T0 + MINUTE, kind=Kind.WATER)
    assert "火警(紧急)" in text("zh", early, water)
    assert "16:54。现场有喷淋水流或水泵启动。请立即核实" in text("zh", early, water)
    assert " Water flows or a pump runs there." in text("en", early, water)
    lost = make_signal(at=T0 + 60 * MINUTE, onset=T0 + MINUTE, kind=Kind.OFFLINE, tier=Tier.EARLY)
    assert "警情升级。升温设备失联或损坏,可能已被烧毁。" in text("zh", early, lost)
    assert " Raised. A device that was rising is lost; it may have burnt." in text(
        "en", early, lost
    )


@pytest.mark.parametrize("nature", [Nature.TEST, Nature.DRILL, Nature.CANARY])
@pytest.mark.parametrize("language", texts.LANGUAGES)
def test_what_is_not_real_says_so_first_and_asks_for_nothing(nature, language):
    said = text(language, nature=nature)
    assert said.startswith(("测试", "演练", "系统自检", "TEST", "DRILL", "SELF-CHECK"))
    assert "119" not in said


@pytest.mark.parametrize("kind", [Kind.FIRE, Kind.GAS, Kind.CO, Kind.UNREAD, Kind.SYSTEM])
@pytest.mark.parametrize("tier", Tier)
def test_every_kind_and_tier_has_words(kind, tier):
    one = make_signal(kind=kind, tier=tier)
    assert len(text("zh", one)) > 10
    assert len(text("en", one)) > 10


def test_an_unknown_place_is_said():
    assert "位置未知" in text("zh", make_signal(0, site=0))
    assert "place unknown" in text("en", make_signal(99, site=99))


def test_what_concerns_the_district_names_it():
    assert "系统故障(报警):示范区,共1个设备" in text("zh", make_signal(0, site=1, kind=Kind.SYSTEM))


def render(one):
    return channels.module("webhook").make(http.Client()).render(one, "zh", 480)


def test_the_body_is_a_cloud_event_and_a_standard_webhook():
    event = json.loads(render(notice()))
    assert {"specversion", "id", "source", "type"} <= set(event)
    assert {"type", "timestamp", "data"} <= set(event)
    assert event["time"] == "2025-10-09T08:53:20.000000Z"
    data = event["data"]
    assert data["coordinates"] == [114.06, 22.65]
    assert [area["level"] for area in data["site"]["path"]][:2] == ["district", "street"]
    assert data["times"]["received"] == "2025-10-09T08:53:20.000000Z"
    assert data["late"] is False


def test_a_body_stays_below_20_kb_whatever_the_names():
    found = [
        make_signal(device, at=T0 + device, evidence={f"k{n}": "𠮷" * 5000 for n in range(16)})
        for device in range(1, 60)
    ]
    one = notice(*found, names="𠮷" * 5000)
    assert len(render(one).encode()) <= 20_000


@settings(deadline=None, max_examples=60)
@given(st.text(max_size=60), st.text(max_size=60))
def test_hostile_names_bring_no_control_characters(name, evidence):
    one = notice(make_signal(evidence={evidence or "k": evidence}), names=name)
    for language in texts.LANGUAGES:
        assert texts.text(one, language, 480).isprintable()
    assert all(ord(char) >= 32 for char in render(one))


@given(st.integers(0, (1 << 62) - 1))
def test_any_time_has_words(at):
    assert notices.iso(at).endswith("Z")
    book = Book()
    effects = book.hear(make_signal(at=at), Nature.REAL, T0)
    (incident,) = book.newest.values()
    one = notices.build(view(), incident, effects[0], ())
    assert texts.text(one, "zh", 480)


def test_a_clear_makes_no_notice():
    book = Book()
    assert len(book.hear(make_signal(phase=Phase.CLEAR), Nature.REAL, T0)) == 1
