"""One loader for everything people write in YAML: settings, device types, responders.

YAML 1.2; duplicate and unknown keys are errors; every fault of a file is reported at once, as
`file:line: key: what, expected, nearest known name`. A restart with a bad settings file runs on the
last good set, which is kept beside the process's state.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import os
import types
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from sizao.errors import BadInput

FILE_BYTES_MAX = 1 << 20
ENVIRONMENT_PREFIX = "SIZAO_"
SECTIONS = ("kafka", "database", "mqtt", "bridge", "detect", "alert", "archive", "console")
"""Top-level keys of the settings file; each process reads those that its model names."""

Model = TypeVar("Model", bound=BaseModel)
Path_ = tuple[str | int, ...]
Fault = tuple[Path_, str]
"""A key of the settings file and what is wrong with it; () where the text says itself where."""


class HttpSettings(BaseModel):
    """Where a process serves /metrics, /healthz, /readyz and /progress."""

    model_config = ConfigDict(extra="forbid")

    host: str = "127.0.0.1"
    port: int = Field(default=0, ge=0, le=65535, description="0 takes a free one and logs it")


@dataclass(frozen=True, slots=True)
class Located:
    """Plain data of a YAML text, and the line (from 1) on which each path begins."""

    data: Any
    lines: dict[Path_, int]

    def line(self, path: Path_) -> int:
        """Line of a path, or of its nearest parent that stands in the file."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, 1)


def parse(text: str, name: str) -> Located:
    """Read YAML. Raises BadInput with `name:line` for bad syntax, duplicates, or over 1 MiB."""
    if len(text) > FILE_BYTES_MAX:
        raise BadInput(f"{name}: {len(text)} characters; at most {FILE_BYTES_MAX} fit")
    try:
        tree = YAML(typ="rt").load(text)
    except MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise BadInput(f"{name}:{line}: {error.problem or error}, expected valid YAML") from error
    except (YAMLError, ValueError, RecursionError) as error:
        raise BadInput(f"{name}: {error}") from error
    lines: dict[Path_, int] = {}
    return Located(_plain(tree, (), lines), lines)


def _plain(node: Any, path: Path_, lines: dict[Path_, int]) -> Any:
    if isinstance(node, CommentedMap):
        lines.setdefault(path, node.lc.line + 1)
        for key in node:
            if key in node.lc.data:  # a merged key (<<) stands elsewhere
                lines[*path, key] = node.lc.key(key)[0] + 1
        return {key: _plain(item, (*path, key), lines) for key, item in node.items()}
    if isinstance(node, CommentedSeq):
        lines.setdefault(path, node.lc.line + 1)
        for index in range(len(node)):
            lines[*path, index] = node.lc.item(index)[0] + 1
        return [_plain(item, (*path, index), lines) for index, item in enumerate(node)]
    if isinstance(node, str):
        return str(node)
    if isinstance(node, float):
        return float(node)
    return int(node) if isinstance(node, int) and not isinstance(node, bool) else node


def validate(located: Located, model: type[Model], name: str) -> Model:
    """Check data against a model. Raises BadInput with one line per fault."""
    try:
        return model.model_validate(located.data)
    except ValidationError as error:
        raise BadInput("\n".join(_faults(error, located, model, name))) from error


def _faults(
    error: ValidationError, located: Located, model: type[BaseModel], name: str
) -> Iterator[str]:
    for fault in error.errors(include_url=False):
        path = tuple(part for part in fault["loc"] if part in _keys_of(located.data, fault["loc"]))
        shown = ".".join(str(part) for part in fault["loc"]) or "(file)"
        text = fault["msg"].removeprefix("Value error, ")
        if fault["type"] == "extra_forbidden":
            text = "unknown key"
            known = sorted(_fields(model, fault["loc"][:-1]))
            near = difflib.get_close_matches(str(fault["loc"][-1]), known, n=1)
            text += f", expected one of {', '.join(known)}" if known else ""
            text += f"; nearest: {near[0]}" if near else ""
        elif fault["type"] != "missing" and not isinstance(fault["input"], dict | list):
            text += f", got {fault['input']!r}"
        yield f"{name}:{located.line(path)}: {shown}: {text}"


def _keys_of(data: Any, location: Path_) -> set[str | int]:
    """Those parts of a pydantic location that are keys of the data (unions add others)."""
    keys: set[str | int] = set()
    for part in location:
        in_map = isinstance(data, dict) and part in data
        if in_map or (isinstance(data, list) and isinstance(part, int) and part < len(data)):
            keys.add(part)
            data = data[part]
    return keys


def _fields(model: Any, location: Path_) -> set[str]:
    """Field names known at a location, for the nearest-name hint; empty where unclear."""
    for part in location:
        fields = getattr(_plainest(model), "model_fields", None)
        if fields is None:
            model = (typing.get_args(_plainest(model)) or (None,))[-1]
        elif part in fields:
            model = fields[part].annotation
    return set(getattr(_plainest(model), "model_fields", {}))


def _plainest(model: Any) -> Any:
    """Optional[X] and X | None as X."""
    while typing.get_origin(model) in {typing.Union, types.UnionType}:
        model = next(one for one in typing.get_args(model) if one is not type(None))
    return model


def read(path: Path) -> str:
    """Text of a file. Raises BadInput naming it."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"{path}: cannot be read: {error}") from error


def load(path: Path, model: type[Model], environment: Mapping[str, str] = os.environ) -> Model:
    """Settings of one process: the file's sections that `model` names, then the environment.

    `SIZAO_KAFKA__BOOTSTRAP=host:port` overrides `kafka: bootstrap:`. Raises BadInput.
    """
    return _load(path, model, environment)[0]


def _load(path: Path, model: type[Model], environment: Mapping[str, str]) -> tuple[Model, Located]:
    located = parse(read(path), str(path))
    if not isinstance(located.data, dict):
        raise BadInput(f"{path}:1: (file): expected sections: {', '.join(SECTIONS)}")
    strangers = [key for key in located.data if key not in SECTIONS]
    if strangers:
        near = {key: difflib.get_close_matches(str(key), SECTIONS, n=1) for key in strangers}
        raise BadInput(
            "\n".join(
                f"{path}:{located.line((key,))}: {key}: unknown section, expected one of"
                f" {', '.join(SECTIONS)}" + (f"; nearest: {near[key][0]}" if near[key] else "")
                for key in strangers
            )
        )
    data = {key: item for key, item in located.data.items() if key in model.model_fields}
    for name, text in environment.items():
        section, _, key = name.removeprefix(ENVIRONMENT_PREFIX).lower().partition("__")
        if name.startswith(ENVIRONMENT_PREFIX) and key and section in model.model_fields:
            given = data.get(section) or {}
            data[section] = {**given, key: text} if isinstance(given, dict) else given
    return validate(Located(data, located.lines), model, str(path)), located


def state_folder(config: Path, process: str, chosen: Path = Path()) -> Path:
    """Where a process keeps snapshots, caches and its last good settings.

    What its section says, else `SIZAO_STATE/<process>`, else `state/<process>`; a relative path
    counts from the settings file, never from wherever the process was started.
    """
    if chosen != Path():
        return config.parent / chosen
    return config.parent / os.environ.get(f"{ENVIRONMENT_PREFIX}STATE", "state") / process


def _nothing(_: BaseModel) -> Iterable[Fault]:
    return ()


def load_or_last_good(
    path: Path,
    model: type[Model],
    state: Path,
    check: Callable[[Model], Iterable[Fault]] = _nothing,
) -> tuple[Model, str]:
    """Settings and what is wrong with the file ("" when it is good).

    Strict at the first start. Afterwards a bad file leaves the last good settings in force (kept in
    `state`, with their hash), so that a slip of the pen cannot stop a running district. Good is
    what can be read, names files that are there (keys that end in `_file`), and passes the
    process's own `check`. Kept before that, a start that failed left settings behind that had never
    run, and the next slip of the pen ran on them.
    """
    kept = state / "last-good-settings.json"
    last_good = _kept(kept, model)
    try:
        settings, located = _load(path, model, os.environ)
        if settings != last_good:
            _prove([*_unreadable(settings, ()), *check(settings)], located, path)
    except BadInput as error:
        if last_good is None:
            raise
        return last_good, str(error)
    if settings != last_good:  # else nothing is written: a full disk must not stop a restart
        _keep(kept, settings)
    return settings, ""


def _unreadable(settings: BaseModel, key: Path_) -> Iterator[Fault]:
    """The files that settings name and that are not there."""
    for name, value in settings:
        if isinstance(value, BaseModel):
            yield from _unreadable(value, (*key, name))
        elif name.endswith("_file") and value is not None:
            try:
                with Path(value).open("rb"):
                    pass
            except OSError as error:
                yield (*key, name), f"{value}: {error.strerror}; expected a file that can be read"


def _prove(faults: Sequence[Fault], located: Located, path: Path) -> None:
    """Raise BadInput with all faults, each with its place."""
    lines = [
        f"{path}:{located.line(key)}: {'.'.join(map(str, key))}: {text}" if key else text
        for key, text in faults
    ]
    if lines:
        raise BadInput("\n".join(lines))


def _keep(kept: Path, settings: BaseModel) -> None:
    text = settings.model_dump_json()
    kept.parent.mkdir(parents=True, exist_ok=True)
    fresh = kept.with_suffix(".new")
    fresh.write_text(
        json.dumps({"settings": text, "sha256": hashlib.sha256(text.encode()).hexdigest()}),
        encoding="utf-8",
    )
    fresh.replace(kept)


def _kept(kept: Path, model: type[Model]) -> Model | None:
    """The last good settings; None when there are none, or they were damaged."""
    try:
        record = json.loads(kept.read_text(encoding="utf-8"))
        if hashlib.sha256(record["settings"].encode()).hexdigest() != record["sha256"]:
            return None
        return model.model_validate_json(record["settings"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
