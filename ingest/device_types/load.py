"""From text to a checked device type: every fault of a file at once, each with its line."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from itertools import combinations

from pydantic import ValidationError

from ingest.device_types.consistency import faults as faults_between
from ingest.device_types.salvage import salvage
from ingest.device_types.schema import CARRIER, KEY, DeviceType, Topic
from sizao.document import Fault, parse
from sizao.errors import BadInput
from sizao.units import Lane

NOWHERE: Mapping[str, str] = {}
# Nothing else in a file refers to these, so the rest can be checked without them.
_STAND_INS = {"name": "none", "expected_interval_s": 1, "repeats": False}
_ALONE = ("description", "examples")


def load(text: str, name: str) -> DeviceType:
    """Read one device-type file; `name` stands in its faults. Raises BadInput, all faults in it."""
    try:
        return _good(text)
    except BadInput:
        return _load(text, name)


# One file is read at its check, at each of its examples and at each new generation of a registry,
# and reading YAML costs 50 ms. What is good is good under any name.
@lru_cache(maxsize=256)
def _good(text: str) -> DeviceType:
    return _load(text, "device type")


def _load(text: str, name: str) -> DeviceType:
    located = parse(text, name)
    sound, faults = salvage(located, DeviceType, _STAND_INS, _ALONE)
    if sound is not None:
        faults += sound.true_of(faults_between(sound.model))
    if faults or sound is None:
        raise BadInput("\n".join(located.told(name, faults)))
    return sound.model


def topics_of(text: str) -> list[tuple[str, Lane]]:
    """Pattern and lane of the topics of a document that may be broken; [] where it has none.

    The lane is alarm where the document names none that is known: it may never be shed.
    """
    try:
        data = parse(text, "device type").data
    except BadInput:
        return []
    topics = data.get("topics") if isinstance(data, dict) else None
    found = []
    for said in topics if isinstance(topics, list) else []:
        topic = said if isinstance(said, dict) else {"pattern": said}
        lane = Lane.TELEMETRY if topic.get("lane") == Lane.TELEMETRY else Lane.ALARM
        try:
            known = Topic.model_validate({"pattern": topic.get("pattern"), "lane": lane})
        except ValidationError:
            continue
        found.append((known.pattern, lane))
    return found


def conflicts(types: Mapping[str, DeviceType], texts: Mapping[str, str] = NOWHERE) -> list[str]:
    """Faults that only a set of types shows: one name twice, one topic in two lanes.

    `types`: label (a file's name) -> type, `texts`: label -> its text, for the lines. A topic in
    two lanes would reach both connections, and each of its messages would be counted twice or not
    at all.
    """
    found: list[str] = []
    for (one, first), (two, second) in combinations(sorted(types.items()), 2):
        faults: list[Fault] = []
        if first.name == second.name:
            said = f"got {second.name}, which is also the name of {one}, expected another name"
            faults.append((("name",), said))
        for index, mine in enumerate(second.topics):
            for theirs in first.topics:
                if theirs.lane is not mine.lane and overlap(theirs.pattern, mine.pattern):
                    said = f"but {theirs.pattern} of {one} is of lane {theirs.lane}"
                    fault = f"got {mine.lane} for {mine.pattern}, {said}; expected the same lane"
                    faults.append((("topics", index, "lane"), fault))
        if faults:
            found += parse(texts.get(two, ""), two).told(two, faults)
    return found


def overlap(one: str, two: str) -> bool:
    """Whether some topic fits both patterns."""
    pairs = list(zip(one.split("/"), two.split("/"), strict=False))
    return one.count("/") == two.count("/") and all(
        left == right or {left, right} & {CARRIER, KEY} for left, right in pairs
    )
