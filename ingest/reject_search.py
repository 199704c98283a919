"""Which dead letters a person asks for: `--where reason=wrong_type`, `--since 24h`. Pure."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TypeVar

from ingest.device_types.reasons import Reason
from ingest.faults import nearest
from ingest.rejects import Reject
from sizao.errors import BadInput
from sizao.topics import REJECTS
from sizao.units import Lane

KEYS = ("reason", "carrier", "device", "lane", "topic")
_SPAN = re.compile(r"(\d{1,7})([smhd])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
SPAN_US_MAX = REJECTS.retention_ms * 1000

Name = TypeVar("Name", Reason, Lane)


@dataclass(frozen=True, slots=True, kw_only=True)
class Where:
    """What is asked for; of several values of one key any will do, nothing said of a key is all.

    `devices` are keys; `topics` MQTT filters.
    """

    reasons: frozenset[Reason] = frozenset()
    carriers: frozenset[str] = frozenset()
    devices: frozenset[str] = frozenset()
    lanes: frozenset[Lane] = frozenset()
    topics: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        """Whether anything is asked."""
        return self != Where()

    def takes(self, reject: Reject, ids: Collection[int]) -> bool:
        """Whether a dead letter is asked for; `ids`: the devices that have one of the keys.

        Any of its faults may be the reason; a device nobody knows is found by its topic's levels.
        """
        topic = reject.topic.decode(errors="backslashreplace")
        of_device = reject.device in ids if reject.device else self.devices & {*topic.split("/")}
        return (
            (not self.reasons or bool(self.reasons & reasons_of(reject)))
            and (not self.carriers or reject.carrier in self.carriers)
            and (not self.devices or bool(of_device))
            and (not self.lanes or reject.lane in self.lanes)
            and (not self.topics or any(fits(one, topic) for one in self.topics))
        )


def reasons_of(reject: Reject) -> frozenset[Reason]:
    """The gravest, and those that its words name."""
    words = {part.partition(": ")[0] for part in reject.detail.split("; ")}
    return frozenset({reject.reason, *(one for one in Reason if one.value in words)})


def where(words: Sequence[str]) -> Where:
    """Read `key=value` words. Raises BadInput naming the nearest of what is known."""
    said: dict[str, list[str]] = {key: [] for key in KEYS}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals or not value:
            raise BadInput(f"--where {word!r}: expected KEY=VALUE, such as reason=wrong_type")
        if key not in said:
            raise BadInput(f"--where {word!r}: unknown key {key!r}, {_expected(key, KEYS)}")
        said[key].append(value)
    return Where(
        reasons=frozenset(_known(Reason, "reason", value) for value in said["reason"]),
        carriers=frozenset(said["carrier"]),
        devices=frozenset(said["device"]),
        lanes=frozenset(_known(Lane, "lane", value) for value in said["lane"]),
        topics=tuple(topic_filter(value, "--where topic") for value in said["topic"]),
    )


def _known(names: type[Name], key: str, value: str) -> Name:
    try:
        return names(value)
    except ValueError:
        expected = _expected(value, [one.value for one in names])
        raise BadInput(f"--where {key}={value}: unknown {key} {value!r}, {expected}") from None


def _expected(word: str, known: Sequence[str]) -> str:
    near = nearest(word, known)
    return f"expected one of {', '.join(known)}" + (f"; nearest: {near}" if near else "")


def topic_filter(text: str, option: str) -> str:
    """An MQTT topic filter. Raises BadInput."""
    levels = text.split("/")
    stray = [level for level in levels if {"+", "#"} & {*level} and len(level) > 1]
    if stray or "#" in levels[:-1] or not text or "\0" in text:
        raise BadInput(
            f"{option} {text!r}: expected an MQTT topic filter: + for one whole level, # for the"
            " rest at the end"
        )
    return text


def fits(topic_filter: str, topic: str) -> bool:
    """Whether an MQTT topic filter takes a topic."""
    wanted, levels = topic_filter.split("/"), topic.split("/")
    if wanted[-1] == "#":
        wanted = wanted[:-1]
        levels = levels[: len(wanted)]
    return len(wanted) == len(levels) and all(
        want in {"+", level} for want, level in zip(wanted, levels, strict=True)
    )


def span_us(text: str) -> int:
    """Microseconds of `90s`, `30m`, `24h`, `14d`. Raises BadInput; at most what the log keeps."""
    found = _SPAN.fullmatch(text)
    if found is None:
        raise BadInput(f"--since {text!r}: expected a number and s, m, h or d, such as 24h")
    span = int(found[1]) * _SECONDS[found[2]] * 1_000_000
    if span > SPAN_US_MAX:
        days = SPAN_US_MAX // 86_400_000_000
        raise BadInput(f"--since {text}: rejects are kept {days} days; expected at most {days}d")
    return span


def place(text: str) -> tuple[int, int]:
    """Partition and offset of an id. Raises BadInput."""
    found = re.fullmatch(r"(\d{1,6}):(\d{1,18})", text)
    if found is None:
        raise BadInput(f"{text!r}: expected an id as `rejects list` shows it, such as 2:1047")
    return int(found[1]), int(found[2])
