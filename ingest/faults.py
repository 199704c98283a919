"""What is wrong with a file of rows: every fault at once, up to a bound, each with its place."""

from __future__ import annotations

import difflib
from bisect import bisect_left
from collections.abc import Collection
from typing import NamedTuple

from sizao.errors import BadInput

SHOWN_MAX = 200  # more than anybody reads; the rest is counted
_KEPT_MAX = 20 * SHOWN_MAX  # a file of 400,000 bad rows must not fill the memory
_COMPARED_MAX = 2_000  # names that one wrong word is compared with: 20 ms
_AROUND = 200


class Fault(NamedTuple):
    """`place` is the row's number in its file, 0 for the file as a whole."""

    place: int
    column: int
    text: str
    word: str
    known: Collection[str]


class Faults:
    """Collects faults in any order and tells them in the order of the file."""

    def __init__(self, name: str, unit: str, columns: Collection[str]) -> None:
        """`name` is the file's, `unit` stands before a row's number: "" for a line."""
        self._name = name
        self._unit = unit
        self._columns = list(columns)
        self._kept: list[Fault] = []
        self._count = 0
        self._names: dict[int, Names] = {}

    def __len__(self) -> int:
        """How many there are, those included that will not be shown."""
        return self._count

    def add(
        self, place: int, column: str, text: str, word: str = "", known: Collection[str] = ()
    ) -> None:
        """One more fault; the name of `known` that is nearest to `word` is told with it."""
        if column not in self._columns:
            self._columns.append(column)
        self._kept.append(Fault(place, self._columns.index(column), text, word, known))
        self._count += 1
        if len(self._kept) > _KEPT_MAX:
            self._kept.sort(key=lambda fault: fault[:2])
            del self._kept[SHOWN_MAX:]

    def raise_any(self) -> None:
        """Raise BadInput if there is a fault: one a line, the first 200, the rest as a number."""
        if not self._count:
            return
        self._kept.sort(key=lambda fault: fault[:2])
        lines = [self._line(fault) for fault in self._kept[:SHOWN_MAX]]
        if self._count > len(lines):
            lines.append(f"{self._name}: ... and {self._count - len(lines):,} more faults")
        raise BadInput("\n".join(lines))

    def _line(self, fault: Fault) -> str:
        place = f":{self._unit}{fault.place}" if fault.place else ""
        near = self._nearest(fault.word, fault.known) if fault.word and fault.known else ""
        hint = f"; nearest: {near}" if near else ""
        return f"{self._name}{place}: {self._columns[fault.column]}: {fault.text}{hint}"

    def _nearest(self, word: str, known: Collection[str]) -> str:
        names = self._names.get(id(known))  # the kept faults keep `known` alive
        if names is None:
            names = self._names[id(known)] = Names(known)
        return names.nearest(word)


class Names:
    """Known names, to find the one that somebody meant.

    Of many names only those are compared that stand beside it in the alphabet, read from either
    end: a slip leaves the beginning or the end as it was.
    """

    def __init__(self, known: Collection[str]) -> None:
        """Many names are sorted once, 0.2 s for 100,000."""
        self._few = sorted(set(known)) if len(known) <= _COMPARED_MAX else []
        self._ahead = [] if self._few else sorted(known)
        self._behind = [] if self._few else sorted(name[::-1] for name in known)

    def nearest(self, word: str) -> str:
        """The name most like `word`, "" if none is."""
        names = self._few
        if not names:
            behind = _beside(word[::-1], self._behind)
            names = sorted({*_beside(word, self._ahead), *(name[::-1] for name in behind)})
        found = difflib.get_close_matches(word, names, n=1)
        return found[0] if found else ""


def nearest(word: str, known: Collection[str]) -> str:
    """The known name most like `word`, "" if none is."""
    return Names(known).nearest(word)


def _beside(word: str, ordered: list[str]) -> list[str]:
    place = bisect_left(ordered, word)
    return ordered[max(0, place - _AROUND) : place + _AROUND]
