"""What the page says, in both languages, and the lines of an incident's story. Pure."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

WORDS: dict[str, tuple[str, str]] = {
    "fire": ("火警", "Fire"),
    "gas": ("燃气", "Gas"),
    "co": ("一氧化碳", "CO"),
    "unread": ("无法识别", "Unread"),
    "system": ("系统", "System"),
    "urgent": ("紧急", "Urgent"),
    "alarm": ("报警", "Alarm"),
    "early": ("预警", "Early"),
    "real": ("真实", "Real"),
    "drill": ("演练", "Drill"),
    "test": ("测试", "Test"),
    "canary": ("自检", "Canary"),
    "open": ("未确认", "Not acknowledged"),
    "acknowledged": ("已确认", "Acknowledged"),
    "closed": ("已关闭", "Closed"),
    "opened": ("发生", "Opened"),
    "joined": ("新设备", "Device joined"),
    "raised": ("升级", "Raised"),
    "renewed": ("再次报警", "Alarms again"),
    "verdict": ("研判", "Verdict"),
    "false_alarm": ("误报", "False alarm"),
    "fault": ("故障", "Fault"),
    "accepted": ("已送达", "Accepted"),
    "due": ("发送中", "Sending"),
    "refused": ("被拒收", "Refused"),
    "expired": ("超时", "Expired"),
    "cancelled": ("已取消", "Cancelled"),
}

_LINES_MAX = 60


def age(ms: int) -> str:
    """m:ss, or h:mm:ss."""
    seconds = max(ms, 0) // 1000
    hours, minutes = seconds // 3600, seconds // 60 % 60
    return f"{hours}:{minutes:02}:{seconds % 60:02}" if hours else f"{minutes}:{seconds % 60:02}"


def clock(ms: int, utc_offset_min: int) -> str:
    """Time of day on the district's clock."""
    moment = datetime.fromtimestamp(ms // 1000, UTC) + timedelta(minutes=utc_offset_min)
    return f"{moment:%H:%M:%S}"


def both(word: str) -> str:
    """Chinese and English of a closed word."""
    zh, en = WORDS.get(word, (word, word))
    return f"{zh} {en}"


def lines(
    one: dict[str, Any], history: list[dict[str, Any]], pages: list[dict[str, Any]]
) -> list[dict[str, Any]]:
    """The story of one incident, newest first: transitions and pages."""
    found = [
        {
            "at_us": line["at_us"],
            "what": both(line["what"]),
            "text": _transition(line),
            "good": True,
        }
        for line in history
        if line["incident"] == one["id"]
    ]
    for page in pages:
        if page["incident"] != one["id"]:
            continue
        tries = len(page["ledger"])
        last = page["ledger"][-1]["outcome"] if page["ledger"] else None
        text = f"{page['responder']} · {page['channel']} · {tries} 次 tries"
        if last and last != "accepted":
            text += f" · {last}"
        found.append(
            {
                "at_us": page["ended_us"] or page["made_us"],
                "what": both(page["state"]),
                "text": text,
                "good": page["state"] == "accepted",
            }
        )
    return sorted(found, key=lambda line: -int(line["at_us"]))[:_LINES_MAX]


def _transition(line: dict[str, Any]) -> str:
    if line["what"] == "verdict":
        cause = line["payload"].get("cause", "")
        return f"{both(line['after']['verdict'])} · {line['actor']}" + (
            f" · {cause}" if cause else ""
        )
    if line["cause_kind"] == "action":
        return str(line["actor"])
    return f"{both(line['after']['tier'])} · {line['payload'].get('rule', '')}"
