"""The words that a person reads, in Chinese and English. Pure.

What it is and how sure, the place to the room, how many devices, when, and whether it comes late.
Anything that is not real says so first, in words: vendors of short messages restrict brackets.
"""

from __future__ import annotations

from collections import defaultdict
from datetime import UTC, datetime, timedelta

from alerting.corroborate import is_loss
from alerting.model import Nature, What
from alerting.notice import Notice, clean, place_en, place_zh
from sizao.signal import Kind, Tier
from sizao.system.board import Rule

LANGUAGES = ("zh", "en")

_KIND = {
    "zh": {
        Kind.FIRE: "火警",
        Kind.GAS: "燃气泄漏",
        Kind.CO: "一氧化碳超标",
        Kind.UNREAD: "无法识别的报警",
        Kind.SYSTEM: "本系统故障",
    },
    "en": {
        Kind.FIRE: "FIRE",
        Kind.GAS: "GAS LEAK",
        Kind.CO: "CARBON MONOXIDE",
        Kind.UNREAD: "UNREADABLE ALARM",
        Kind.SYSTEM: "SYSTEM FAILURE",
    },
}
_TIER = {
    "zh": {Tier.EARLY: "预警", Tier.ALARM: "报警", Tier.URGENT: "紧急"},
    "en": {Tier.EARLY: "early warning", Tier.ALARM: "alarm", Tier.URGENT: "urgent"},
}
_FIRST = {
    "zh": {
        Nature.REAL: "",
        Nature.DRILL: "演练,不是真实火情。",
        Nature.TEST: "测试,无需出动。",
        Nature.CANARY: "系统自检,无需出动。",
    },
    "en": {
        Nature.REAL: "",
        Nature.DRILL: "DRILL, this is not a real event. ",
        Nature.TEST: "TEST, no action needed. ",
        Nature.CANARY: "SELF-CHECK, no action needed. ",
    },
}
_WHAT = {
    "zh": {
        What.JOINED: "又有设备报警。",
        What.RAISED: "警情升级。",
        What.RENEWED: "设备再次报警。",
    },
    "en": {
        What.JOINED: " Another device.",
        What.RAISED: " Raised.",
        What.RENEWED: " It alarms again.",
    },
}
_LOST = {
    "zh": "升温设备失联或损坏,可能已被烧毁。",
    "en": " A device that was rising is lost; it may have burnt.",
}
_BESIDE = {
    "zh": {
        Kind.WATER: "现场有喷淋水流或水泵启动。",
        Kind.OFFLINE: "现场网关失联,部分设备无法监测。",
    },
    "en": {
        Kind.WATER: " Water flows or a pump runs there.",
        Kind.OFFLINE: " A gateway there is silent; some devices are not heard.",
    },
}
"""What a signal that is no incident adds to one."""
_DO = {
    "zh": {
        Kind.FIRE: "请立即核实,见火先拨119。",
        Kind.GAS: "请立即核实,勿动开关,通风撤离。",
        Kind.CO: "请立即核实,通风撤离,有人不适拨120。",
    },
    "en": {
        Kind.FIRE: " Verify now; if you see fire, call 119 first.",
        Kind.GAS: " Verify now; touch no switches, air the place, leave.",
        Kind.CO: " Verify now; air the place, leave, call 120 if anyone is unwell.",
    },
}
_WRONG = {
    "zh": {
        Rule.DROPPED: "MQTT服务器丢弃了{dropped}条消息",
        Rule.SESSION: "MQTT服务器丢失了{session}的会话,未取走的消息已丢失",
        Rule.UNWATCHED: "无法监视MQTT服务器:{fault}",
        Rule.DISK: "磁盘{volume}已用{used_percent}%({holds})",
        Rule.UNSEEN: "无法查看磁盘({holds}):{fault}",
        Rule.SETTINGS: "{stage}的配置文件有错,仍按上次的正确配置运行",
    },
    "en": {
        Rule.DROPPED: "the MQTT broker dropped {dropped} messages",
        Rule.SESSION: "the MQTT broker lost the session of {session} and what it held",
        Rule.UNWATCHED: "the MQTT broker cannot be watched: {fault}",
        Rule.DISK: "disk {volume} is {used_percent} % full ({holds})",
        Rule.UNSEEN: "the disk of {holds} cannot be looked at: {fault}",
        Rule.SETTINGS: "{stage} runs on its last good settings, the file is wrong",
    },
}
_NOWHERE = {"zh": "位置未知", "en": "place unknown"}


def text(notice: Notice, language: str, utc_offset_min: int) -> str:
    """One paragraph. `utc_offset_min`: of the district's clock (480 for China)."""
    return _zh(notice, utc_offset_min) if language == "zh" else _en(notice, utc_offset_min)


def _zh(notice: Notice, utc_offset_min: int) -> str:
    key, tier = notice.incident.key, notice.incident.tier
    late = f",延迟{notice.late_min}分钟收到" if notice.late_min else ""
    return (
        f"{_FIRST['zh'][key.nature]}{_KIND['zh'][key.kind]}({_TIER['zh'][tier]}):"
        f"{place_zh(notice.path) or _NOWHERE['zh']},"
        f"{_wrong(notice, 'zh') or f'共{notice.incident.members}个设备'},"
        f"{_clock(notice, utc_offset_min)}{late}。"
        f"{_news(notice, 'zh')}{_todo(notice, 'zh')}"
    )


def _en(notice: Notice, utc_offset_min: int) -> str:
    key, tier, count = notice.incident.key, notice.incident.tier, notice.incident.members
    devices = f"{count} device{'s' * (count != 1)}"
    late = f", received {notice.late_min} min late" if notice.late_min else ""
    return (
        f"{_FIRST['en'][key.nature]}{_KIND['en'][key.kind]}, {_TIER['en'][tier]}:"
        f" {place_en(notice.path) or _NOWHERE['en']};"
        f" {_wrong(notice, 'en') or devices};"
        f" {_clock(notice, utc_offset_min)}{late}."
        f"{_news(notice, 'en')}{_todo(notice, 'en')}"
    )


def _wrong(notice: Notice, language: str) -> str:
    """What is wrong with ourselves, of the signal that it is about; "" of anything else."""
    signal = notice.transition.signal
    if signal is None or signal.kind is not Kind.SYSTEM or signal.rule not in _WRONG[language]:
        return ""
    said = {name: clean(str(item)) for name, item in signal.evidence.items()}
    said["stage"] = clean(signal.subject.id.partition("/")[0])
    return _WRONG[language][Rule(signal.rule)].format_map(defaultdict(str, said))


def _news(notice: Notice, language: str) -> str:
    """What has changed: by the kind of the signal where it is not the incident's own."""
    signal, what = notice.transition.signal, _WHAT[language].get(notice.transition.what, "")
    if signal is None or signal.kind is notice.incident.key.kind:
        return what
    if is_loss(signal):
        return what + _LOST[language]
    return _BESIDE[language].get(signal.kind, what)


def _todo(notice: Notice, language: str) -> str:
    """What to do: only where it is real."""
    key = notice.incident.key
    return _DO[language].get(key.kind, "") if key.nature is Nature.REAL else ""


def _clock(notice: Notice, utc_offset_min: int) -> str:
    """Event time on the district's clock; with the date when it was another day."""
    offset = timedelta(minutes=utc_offset_min)
    bounded_us = min(max(notice.transition.event_us, 0), 253_000_000_000_000_000)
    event = datetime.fromtimestamp(bounded_us // 1_000_000, UTC) + offset
    now = datetime.fromtimestamp(notice.transition.at_us // 1_000_000, UTC) + offset
    return f"{event:%H:%M}" if event.date() == now.date() else f"{event:%Y-%m-%d %H:%M}"
