"""A YAML text as plain data with the line of every key, checked against a pydantic model.

One reader for everything people write: settings, device types, responders. YAML 1.2; duplicate and
unknown keys are errors; every fault of a file is told at once, as `file:line: key: got what,
expected what; nearest known name`.
"""

from __future__ import annotations

import difflib
import math
import re
import types
import typing
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode
from ruamel.yaml.reader import ReaderError

from sizao.errors import BadInput

BYTES_MAX = 1 << 20
NODES_MAX = 1 << 18  # values of a file; each alias counts all that it stands for

Model = TypeVar("Model", bound=BaseModel)
Path_ = tuple[str | int, ...]
Fault = tuple[Path_, str]
"""A key of a file, and what is wrong with it."""

_SHOWN_MAX = 60
_FITS = f"expected at most {BYTES_MAX}, and few levels"
_YAML = "tag:yaml.org,2002:"
_MERGE = f"{_YAML}merge"
_WORDS_TAGS = {f"{_YAML}{kind}" for kind in ("int", "float", "bool", "null", "timestamp")}
_PLAIN_TAGS = {*_WORDS_TAGS, "!", *(f"{_YAML}{kind}" for kind in ("str", "map", "seq"))}
_WORDS: dict[str, Any] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys((".nan", ".NaN", ".NAN"), math.nan),
} | {
    form: word == "true"
    for word in ("true", "false")
    for form in (word, word.title(), word.upper())
}
_WHOLE = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_REAL = re.compile(
    r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)"
)
_QUOTED = re.compile(r"'([^']*)'")
# Words of the YAML library -> what to do about it.
_YAML_HINTS = {
    "'\\t'": "spaces to indent with, not a tab",
    "cannot start any token": "quotes around a text that begins so",
    "mapping values are not allowed": "quotes around a text that has a colon and a space in it,"
    " and keys of one map indented alike",
    "another document": "one document a file",
    "undefined alias": "an anchor of that name before it",
    "could not find expected ':'": "a colon and a space after the key",
    "unexpected end of stream": "the quotes to be closed",
    "special characters": "text without control characters",
}
# pydantic's kinds of error -> what is expected there.
_EXPECTED = {
    "string_type": "text in quotes",
    **dict.fromkeys(("int_type", "int_parsing", "int_from_float"), "a whole number"),
    **dict.fromkeys(("float_type", "float_parsing"), "a number"),
    "finite_number": "a finite number",
    **dict.fromkeys(("bool_type", "bool_parsing"), "true or false"),
    "list_type": "a list",
    **dict.fromkeys(("dict_type", "model_type", "model_attributes_type"), "a map of keys"),
    "greater_than": "more than {gt}",
    "greater_than_equal": "at least {ge}",
    "less_than": "less than {lt}",
    "less_than_equal": "at most {le}",
    "string_too_long": "at most {max_length} characters",
    "string_too_short": "at least {min_length} characters",
    "string_pattern_mismatch": "a text that fits {pattern}",
    "too_long": "at most {max_length}",
    "too_short": "at least {min_length}",
    **dict.fromkeys(
        ("datetime_type", "datetime_parsing", "datetime_from_date_parsing"),
        "a time such as 2026-03-01T08:00:00Z",
    ),
    **dict.fromkeys(
        ("date_type", "date_parsing", "date_from_datetime_parsing", "date_from_datetime_inexact"),
        "a date such as 2026-03-01",
    ),
}


@dataclass(frozen=True, slots=True)
class Located:
    """Plain data of a YAML text, the line (from 1) on which each path begins, faults of the YAML.

    The faults leave data behind: whoever validates it tells them together with its own.
    """

    data: Any
    lines: dict[Path_, int]
    faults: tuple[Fault, ...] = ()

    def line(self, path: Path_) -> int:
        """Line of a path, or of its nearest parent that stands in the file."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, 1)

    def told(self, name: str, faults: Iterable[Fault]) -> list[str]:
        """A line for each fault in the order of the file; what stands there is said with it."""
        return [
            f"{name}:{self.line(path)}: {'.'.join(map(str, path)) or '(file)'}: {text}"
            for path, text in sorted(
                ((path, self._with_got(path, text)) for path, text in faults),
                key=lambda fault: self.line(fault[0]),
            )
        ]

    def _with_got(self, path: Path_, text: str) -> str:
        if text.startswith("got "):
            return text
        data = self.data
        for part in path:
            known = data if isinstance(data, dict) else dict(enumerate(data or ()))
            data = known.get(part)
        return f"got {shown(data)}, {text}"


def shown(data: Any) -> str:
    """What stands in a file, as people name it; long texts are cut."""
    if data is None:
        return "nothing"
    if isinstance(data, bool):
        return str(data).lower()
    if isinstance(data, dict | list):
        return "a map of keys" if isinstance(data, dict) else "a list"
    text = repr(data)
    return text if len(text) <= _SHOWN_MAX else f"{text[:_SHOWN_MAX]}..."


def read(path: Path) -> str:
    """Text of a file, its first MiB and one more. Raises BadInput naming it."""
    try:
        with path.open(encoding="utf-8-sig") as file:
            return file.read(BYTES_MAX + 1)
    except (OSError, UnicodeDecodeError) as error:
        said = f"got a file that cannot be read ({error}), expected one in UTF-8"
        raise BadInput(f"{path}:1: (file): {said}") from error


def parse(text: str, name: str) -> Located:
    """Read YAML. Raises BadInput with `name:line` for what is no YAML, or over 1 MiB."""
    if len(text) > BYTES_MAX:
        raise BadInput(f"{name}:1: (file): got {len(text)} characters, {_FITS}")
    reading = _Reading()
    try:
        data = reading.plain(YAML(typ="rt", pure=True).compose(text), ())
    except MarkedYAMLError as error:
        # What is never closed is told where it began, not where the file ends.
        mark = error.context_mark if "end" in str(error.problem) else error.problem_mark
        line = min((mark or error.problem_mark).line, text.rstrip().count("\n")) + 1
        raise BadInput(f"{name}:{line}: (file): {_broken(str(error.problem))}") from error
    except ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise BadInput(f"{name}:{line}: (file): {_broken(str(error.reason))}") from error
    except (YAMLError, ValueError) as error:
        raise BadInput(f"{name}:1: (file): {_broken(str(error))}") from error
    except RecursionError as error:
        raise BadInput(f"{name}:1: (file): got lists in lists beyond reason, {_FITS}") from error
    return Located(data, reading.lines, tuple(reading.faults))


def _broken(problem: str) -> str:
    hint = next((hint for words, hint in _YAML_HINTS.items() if words in problem), "valid YAML")
    return f"got broken YAML ({problem}), expected {hint}"


class _Reading:
    """From YAML's nodes to plain data, by YAML 1.2's core schema, as an editor reads it.

    The library's own constructor takes 0_02 for 2 and a date for no text, expands what refers to
    itself for ever, and stops at the first key that stands twice.
    """

    def __init__(self) -> None:
        self.lines: dict[Path_, int] = {}
        self.faults: list[Fault] = []
        self._left = NODES_MAX
        self._above: list[Node] = []

    def plain(self, node: Node | None, path: Path_) -> Any:
        """Data of a node. Raises ValueError for more than any file may hold."""
        self._left -= 1
        if self._left < 0:
            raise ValueError(f"over {NODES_MAX} values, aliases counted")
        if node is None:
            return None
        if node.tag not in _PLAIN_TAGS:
            self.faults.append((path, f"got the tag {node.tag}, expected a value without one"))
        if isinstance(node, ScalarNode):
            return _scalar(node)
        self.lines.setdefault(path, node.start_mark.line + 1)
        if any(node is above for above in self._above):
            self.faults.append((path, "got an alias of what it stands in, expected a value"))
            return None
        self._above.append(node)
        data = self._map(node, path) if isinstance(node, MappingNode) else self._list(node, path)
        self._above.pop()
        return data

    def _list(self, node: Node, path: Path_) -> list[Any]:
        for index, item in enumerate(node.value):
            self.lines[*path, index] = item.start_mark.line + 1
        return [self.plain(item, (*path, index)) for index, item in enumerate(node.value)]

    def _map(self, node: MappingNode, path: Path_) -> dict[Any, Any]:
        data: dict[Any, Any] = {}
        merged: dict[Any, Any] = {}
        for at, value in node.value:
            if not isinstance(at, ScalarNode):
                self.faults.append((path, "got a key that is a list or a map, expected a word"))
            elif at.tag == _MERGE:  # what it brings stands elsewhere, and yields to what is here
                for one in value.value if isinstance(value, SequenceNode) else [value]:
                    brought = self.plain(one, (*path, "<<"))
                    merged = (brought if isinstance(brought, dict) else {}) | merged
            elif (key := _scalar(at)) in data:
                text = f"got it twice, in line {at.start_mark.line + 1} too, expected it once"
                self.faults.append(((*path, key), text))
            else:
                self.lines[*path, key] = at.start_mark.line + 1
                data[key] = self.plain(value, (*path, key))
        return data | {key: value for key, value in merged.items() if key not in data}


def _scalar(node: ScalarNode) -> Any:
    """A word of the core schema: true, 12, 0x1F, 1e3, null; all else is text, and so is `yes`."""
    text = str(node.value)
    if node.tag not in _WORDS_TAGS:
        return text
    if text in _WORDS:
        return _WORDS[text]
    try:
        if _WHOLE.fullmatch(text):
            return int(text) if text.lstrip("+-").isdecimal() else int(text, 0)
        return float(text.lower().replace(".inf", "inf")) if _REAL.fullmatch(text) else text
    except ValueError:  # thousands of digits
        return text


def validate(located: Located, model: type[Model], name: str) -> Model:
    """Check data against a model. Raises BadInput with one line per fault."""
    faults = list(located.faults)
    try:
        valid = model.model_validate(located.data)
    except ValidationError as error:
        faults += faults_of(error, located, model)
    if faults:
        raise BadInput("\n".join(located.told(name, faults)))
    return valid


def faults_of(error: ValidationError, located: Located, model: type[BaseModel]) -> list[Fault]:
    """Pydantic's errors in our words, one for each place: a union has one for each of its kinds."""
    told = {path for path, _ in located.faults}
    got: dict[Path_, str] = {}
    wanted: dict[Path_, dict[str, None]] = {}
    for fault in error.errors(include_url=False):
        path, location = path_in(located.data, fault["loc"]), fault["loc"]
        if fault["type"] == "missing":
            path, what, wants = (*path, location[-1]), "nothing", "this key"
        elif fault["type"] == "extra_forbidden":
            what, wants = "an unknown key", one_of(location[-1], _fields(model, location[:-1]))
        elif "[key]" in location:
            what, wants = f"the key {shown(fault['input'])}", _wants(fault)
        else:
            what, wants = _got(fault), _wants(fault)
        if what != "nothing" or path not in told:  # what could not be read is no second fault
            got[path] = what
            wanted.setdefault(path, {})[wants] = None
    for kinds in wanted.values():
        if _EXPECTED["float_type"] in kinds:
            kinds.pop(_EXPECTED["int_type"], None)
    return [(path, f"got {got[path]}, expected {' or '.join(wanted[path])}") for path in got]


def _got(fault: ErrorDetails) -> str:
    if fault["type"] in {"too_short", "too_long"}:
        return f"{fault['ctx']['actual_length']} of them"
    return shown(fault["input"])


def _wants(fault: ErrorDetails) -> str:
    """What would do, for any kind of error; pydantic's own words where we have none."""
    context = fault.get("ctx", {})
    if fault["type"] in {"enum", "literal_error"}:
        return one_of(fault["input"], _QUOTED.findall(context["expected"]))
    words = _EXPECTED.get(fault["type"])
    if words is not None:
        return words.format(**context)
    return fault["msg"].removeprefix("Value error, ").removeprefix("expected ")


def one_of(word: Any, known: Iterable[str]) -> str:
    """The known names, and the one that is most like `word`."""
    known = list(known)
    near = difflib.get_close_matches(str(word), known, n=1)
    names = f"one of {', '.join(known)}" if known else "none"
    return names + (f"; nearest: {near[0]}" if near else "")


def path_in(data: Any, location: Path_) -> Path_:
    """Those parts of a pydantic location that lead through the data (unions add others)."""
    path: list[str | int] = []
    for part in location:
        in_map = isinstance(data, dict) and part in data
        if in_map or (isinstance(data, list) and isinstance(part, int) and part < len(data)):
            path.append(part)
            data = data[part]
    return tuple(path)


def _fields(model: Any, location: Path_) -> list[str]:
    """Field names known at a location, for the nearest-name hint; empty where unclear."""
    for part in location:
        fields = getattr(_plainest(model), "model_fields", None)
        if fields is None:
            model = (typing.get_args(_plainest(model)) or (None,))[-1]
        elif part in fields:
            model = fields[part].annotation
    return sorted(getattr(_plainest(model), "model_fields", {}))


def _plainest(model: Any) -> Any:
    """Optional[X] and X | None as X."""
    while typing.get_origin(model) in {typing.Union, types.UnionType}:
        model = next(one for one in typing.get_args(model) if one is not type(None))
    return model
