"""Where a value stands in a payload: JSON pointers (RFC 6901) with two additions.

    /data/temperature             a member of a member
    /samples/0/value              an element of a list by its number
    /data/[name=smoke]/value      the element of a list whose member `name` is `smoke`
    $/imei                        from the payload's root, where a type has `items`

Two elements that fit and differ are ambiguous: which of them is true cannot be told, and the one
that was passed over might say fire.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from ingest.device_types.verdicts import AMBIGUOUS_VALUE

ROOT = "$"

_LEVEL = r"/(?:\[[^\[\]=/]+=[^\[\]/]+\]|(?:[^~/\[]|~[01])(?:[^~/]|~[01])*)"
_POINTER = re.compile(rf"\$?(?:{_LEVEL})+")
_INDEX_DIGITS_MAX = 5


class Pick(NamedTuple):
    """The element of a list whose `member` is `value`; a number on the wire fits by its digits."""

    member: str
    value: str


class Way(NamedTuple):
    """A parsed pointer. `from_root`: from the payload, not from the item."""

    from_root: bool
    parts: tuple[str | Pick, ...]

    @property
    def plain(self) -> bool:
        """Whether it is a JSON pointer and nothing more."""
        return not self.from_root and not any(isinstance(part, Pick) for part in self.parts)


def checked(text: str) -> str:
    """Raise ValueError when the text is no pointer."""
    if not _POINTER.fullmatch(text):
        raise ValueError(
            "expected a JSON pointer such as /data/temperature or /data/[name=smoke]/value"
        )
    return text


def parse(text: str) -> Way:
    """The way of a checked pointer."""
    from_root = text.startswith(ROOT)
    return Way(from_root, tuple(_part(part) for part in text.lstrip(ROOT).split("/")[1:]))


def _part(text: str) -> str | Pick:
    if text.startswith("["):
        member, _, value = text[1:-1].partition("=")
        return Pick(member, value)
    return text.replace("~1", "/").replace("~0", "~")


def walk(tree: Any, parts: tuple[str | Pick, ...]) -> Any:
    """What stands there; None where nothing does."""
    for part in parts:
        if isinstance(part, Pick):
            tree = _picked(tree, part)
        elif isinstance(tree, dict):
            tree = tree.get(part)
        elif isinstance(tree, list) and part.isdecimal() and len(part) <= _INDEX_DIGITS_MAX:
            tree = tree[int(part)] if int(part) < len(tree) else None
        else:
            return None
        if tree is None or tree is AMBIGUOUS_VALUE:
            return tree
    return tree


def _picked(tree: Any, pick: Pick) -> Any:
    if not isinstance(tree, list):
        return None
    fitting = [
        element
        for element in tree
        if isinstance(element, dict) and _text(element.get(pick.member)) == pick.value
    ]
    if not fitting:
        return None
    alike = all(element == fitting[0] for element in fitting)
    return fitting[0] if alike else AMBIGUOUS_VALUE


def _text(value: Any) -> str | None:
    if isinstance(value, str):
        return value
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else None
