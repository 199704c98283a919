"""From text to a checked device type: every fault of a file at once, each with its line."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations

from ingest.device_types.consistency import faults
from ingest.device_types.schema import CARRIER, KEY, DeviceType
from sizao.document import parse, validate
from sizao.errors import BadInput


def load(text: str, name: str) -> DeviceType:
    """Read one device-type file; `name` stands in its faults. Raises BadInput, all faults in it."""
    located = parse(text, name)
    device_type = validate(located, DeviceType, name)
    wrong = [
        f"{name}:{located.line(path)}: {'.'.join(str(part) for part in path)}: {fault}"
        for path, fault in faults(device_type)
    ]
    if wrong:
        raise BadInput("\n".join(wrong))
    return device_type


def conflicts(types: Mapping[str, DeviceType]) -> list[str]:
    """Faults that only a set of types shows: one name twice, one topic in two lanes.

    `types`: label (a file's name) -> type. A topic in two lanes would reach both connections, and
    each of its messages would be counted twice or not at all.
    """
    found = []
    for (one, first), (two, second) in combinations(sorted(types.items()), 2):
        if first.name == second.name:
            found.append(f"{two}:1: name: {second.name} is also the name of {one}")
        for index, mine in enumerate(second.topics):
            found += [
                f"{two}:1: topics.{index}.lane: {mine.pattern} is of lane {mine.lane}, but"
                f" {theirs.pattern} of {one} is of lane {theirs.lane}; expected the same lane"
                for theirs in first.topics
                if theirs.lane is not mine.lane and overlap(theirs.pattern, mine.pattern)
            ]
    return found


def overlap(one: str, two: str) -> bool:
    """Whether some topic fits both patterns."""
    pairs = list(zip(one.split("/"), two.split("/"), strict=False))
    return one.count("/") == two.count("/") and all(
        left == right or {left, right} & {CARRIER, KEY} for left, right in pairs
    )
