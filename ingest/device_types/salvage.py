"""What a document still says when what is wrong in it is left out, so that the rest is checked too.

Whoever has two slips in a file learns of both at once, although one of them shows only in a model
that is whole.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Generic

from pydantic import ValidationError

from sizao.document import Fault, Located, Model, Path_, faults_of, path_in

_ROUNDS_MAX = 8  # each leaves out what lacks something now; no file is nested deeper


@dataclass(frozen=True, slots=True)
class Sound(Generic[Model]):
    """A model of what is right in a file, and the paths of what was left out."""

    model: Model
    left_out: frozenset[Path_]
    _tree: Any
    _alone: frozenset[str]

    def true_of(self, faults: Iterable[Fault]) -> list[Fault]:
        """Those faults of the model that the file has too, with their paths in the file.

        One beside, above or below what was left out may come of the gap alone; so may one that
        compares a quantity, a topic or an example with the rest.
        """
        gaps = [path for path in self.left_out if path[0] not in self._alone]
        found = []
        for path, text in faults:
            there = _there(self._tree, path)
            near = any(there[: len(gap)] == gap[: len(there)] for gap in self.left_out)
            alone = path[0] == "quantities" or (path[0] == "topics" and not _names(gaps))
            if not near and (alone or not gaps):
                found.append((there, text))
        return found


def salvage(
    located: Located, model: type[Model], stand_ins: Mapping[str, Any], alone: Iterable[str]
) -> tuple[Sound[Model] | None, list[Fault]]:
    """The model of a document, with what is right of it, and every fault that one key shows.

    `stand_ins`: top keys that must be there, and what may stand for them; `alone`: those to which
    nothing else refers. None where too much is missing.
    """
    tree, faults = _tree(located.data), list(located.faults)
    left_out: set[Path_] = set()
    for turn in range(_ROUNDS_MAX):
        data = _data(tree)
        try:
            sound = model.model_validate(data)
            return Sound(sound, frozenset(left_out), tree, frozenset({*stand_ins, *alone})), faults
        except ValidationError as error:
            if not turn:
                faults += faults_of(error, located, model)
            wrong = {_there(tree, path_in(data, fault["loc"])) for fault in error.errors()}
            absent = {fault["loc"] for fault in error.errors() if fault["type"] == "missing"}
        replaced = {key for key in stand_ins if (key,) in absent}
        if any(len(path) == 1 and path[0] not in replaced for path in absent) or tree[0] is None:
            break
        tree[1].update({key: (None, stand_ins[key]) for key in replaced})
        for path in wrong - {()}:
            _leave_out(tree, path)
        left_out |= (wrong - {()}) | {(key,) for key in replaced}
    return None, faults


def _names(gaps: list[Path_]) -> bool:
    """Whether more is left out than quantities and topics: then a topic may only seem wrong."""
    return any(gap[0] not in {"quantities", "topics"} for gap in gaps)


# A tree is a leaf, or (kind, children by their key in the file): the index of a list's element
# stays what it was when others are left out.
def _tree(data: Any) -> Any:
    if isinstance(data, dict):
        return dict, {key: _tree(value) for key, value in data.items()}
    if isinstance(data, list):
        return list, {index: _tree(value) for index, value in enumerate(data)}
    return None, data


def _data(tree: Any) -> Any:
    kind, inner = tree
    if kind is dict:
        return {key: _data(child) for key, child in inner.items()}
    return [_data(child) for child in inner.values()] if kind is list else inner


def _there(tree: Any, path: Path_) -> Path_:
    """A path of the data as the file has it."""
    found: list[str | int] = []
    for part in path:
        kind, inner = tree
        key = list(inner)[int(part)] if kind is list else part
        found.append(key)
        if kind is None or key not in inner:  # a key that is not there
            return (*found, *path[len(found) :])
        tree = inner[key]
    return tuple(found)


def _leave_out(tree: Any, path: Path_) -> None:
    *above, last = path
    for part in above:
        kind, inner = tree
        if kind is None or part not in inner:  # what it stood in is left out already
            return
        tree = inner[part]
    kind, inner = tree
    if kind is not None:
        inner.pop(last, None)
