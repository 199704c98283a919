"""Settings of a process: one YAML file for all of them (`sizao.document`), and the environment.

A restart with a bad file runs on the last good set, which is kept beside the process's state.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    model_validator,
)

from sizao.document import Fault, Located, Model, Path_, one_of, parse, read, validate
from sizao.errors import BadInput

ENVIRONMENT_PREFIX = "SIZAO_"
SECTIONS = (
    "kafka",
    "database",
    "mqtt",
    "mqtt_files",
    "bridge",
    "detect",
    "alert",
    "archive",
    "console",
    "contacts",
    "watch_disks",
)
"""Top-level keys of the settings file; each process reads those that its model names."""
_SECTIONS = f"expected sections: {', '.join(SECTIONS)}"


class HttpSettings(BaseModel):
    """Where a process serves /metrics, /healthz, /readyz and /progress."""

    model_config = ConfigDict(extra="forbid")

    host: str = "127.0.0.1"
    port: int = Field(default=0, ge=0, le=65535, description="0 takes a free one and logs it")


def _absolute(path: Path) -> Path:
    if not path.is_absolute():
        raise ValueError(f"{path}: expected an absolute path, such as /var/lib/kafka")
    return path


class WatchDisks(BaseModel):
    """`watch_disks:` of the settings file. The volumes of our own state are watched in any case."""

    model_config = ConfigDict(extra="forbid")

    early_percent: float = Field(default=80.0, ge=50, le=100, description="told as early")
    alarm_percent: float = Field(default=90.0, ge=50, le=100, description="told as alarm")
    volumes: dict[
        Annotated[str, StringConstraints(pattern=r"^[a-z0-9_-]{1,32}$")],
        Annotated[Path, AfterValidator(_absolute)],
    ] = Field(
        default={}, max_length=16, description="name: a local folder on a volume of the servers"
    )

    @model_validator(mode="after")
    def _rising(self) -> WatchDisks:
        if self.early_percent > self.alarm_percent:
            raise ValueError("early_percent lies above alarm_percent")
        return self


def load(path: Path, model: type[Model], environment: Mapping[str, str] = os.environ) -> Model:
    """Settings of one process: the file's sections that `model` names, then the environment.

    `SIZAO_KAFKA__BOOTSTRAP=host:port` overrides `kafka: bootstrap:`. Raises BadInput.
    """
    return _load(path, model, environment)[0]


def _load(path: Path, model: type[Model], environment: Mapping[str, str]) -> tuple[Model, Located]:
    located = parse(read(path), str(path))
    if not isinstance(located.data, dict):
        raise BadInput("\n".join(located.told(str(path), [((), _SECTIONS)])))
    strangers = [key for key in located.data if key not in SECTIONS]
    if strangers:
        faults = [
            ((key,), f"got an unknown section, expected {one_of(str(key), SECTIONS)}")
            for key in strangers
        ]
        raise BadInput("\n".join(located.told(str(path), [*located.faults, *faults])))
    data = {key: item for key, item in located.data.items() if key in model.model_fields}
    for name, text in environment.items():
        section, _, key = name.removeprefix(ENVIRONMENT_PREFIX).lower().partition("__")
        if name.startswith(ENVIRONMENT_PREFIX) and key and section in model.model_fields:
            given = data.get(section) or {}
            data[section] = {**given, key: text} if isinstance(given, dict) else given
    return validate(replace(located, data=data), model, str(path)), located


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
