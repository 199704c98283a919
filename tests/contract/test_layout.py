"""The laws of the house that import-linter cannot see (docs/design.md, section 3)."""

import ast
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

HOUSE = Path(__file__).parents[2]
ROOMS = ("sizao", "ingest", "detectors", "alerting", "deploy", "tests")
TOP = {
    ".ci", ".gitignore", "CHANGELOG.md", "LICENSE", "Makefile", "README.md", "docs",
    "pyproject.toml", "requirements", *ROOMS,
}  # fmt: skip

# A new file here needs an ADR that says why no room can own it.
SIZAO = {
    "__init__.py", "cli.py", "clock.py", "db.py", "document.py", "errors.py", "frame.py", "http.py",
    "kafka.py", "limits.py", "log.py", "metrics.py", "records.py", "service.py", "settings.py",
    "signal.py", "topics.py", "units.py", "registry/__init__.py", "registry/cache.py",
    "registry/load.py", "registry/merge.py", "registry/model.py", "registry/source.py",
    "registry/write.py", "system/__init__.py", "system/board.py", "system/tell.py",
}  # fmt: skip

# The only door to each client library. Tests and deploy/ stand outside of the house.
DOORS = {
    "aiokafka": {"sizao/kafka.py"},
    "cryptography": {"alerting/vault.py"},
    "psycopg": {"sizao/db.py"},
    "psycopg_pool": {"sizao/db.py"},
    "httpx": {"sizao/http.py"},
    "paho": set(),  # reads for the tests and simulated devices; no room publishes yet
    "prometheus_client": {"sizao/metrics.py"},
    "structlog": {"sizao/log.py"},
    "ruamel": {"sizao/document.py"},
    "fastapi": {"alerting/console/"},
    "uvicorn": {"alerting/console/"},
}
FORBIDDEN_NAMES = {"utils", "util", "helpers", "helper", "common", "misc"}
LINES_MAX = 400
FUNCTION_LINES_MAX = 50


# What is made here and never kept (.gitignore). Walked rather than asked of git: a bare machine
# that got the files as an archive has neither git nor a repository.
MADE = {".git", ".venv", "build", "dist", "__pycache__"}


def tracked() -> list[Path]:
    """Every file of the house, relative to it."""
    found = []
    for folder, inner, names in os.walk(HOUSE):
        inner[:] = [
            name
            for name in inner
            if name not in MADE and not name.endswith(("_cache", ".egg-info", ".hypothesis"))
        ]
        # In a second work tree of a repository .git is a file.
        found += [(Path(folder) / name).relative_to(HOUSE) for name in names if name not in MADE]
    return sorted(found)


FILES = tracked()
MODULES = [path for path in FILES if path.suffix == ".py"]


def imports(path: Path) -> set[str]:
    tree = ast.parse((HOUSE / path).read_text(encoding="utf-8"))
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return found


def test_every_file_has_a_room():
    strangers = {path.parts[0] for path in FILES} - TOP
    assert not strangers, f"{strangers}: put it into a room, or say in docs/design.md what it is"


def test_sizao_is_a_closed_list():
    there = {
        path.relative_to("sizao").as_posix()
        for path in MODULES
        if path.parts[0] == "sizao" and "migrations" not in path.parts
    }
    assert there == SIZAO, "a file in sizao/ needs an ADR (docs/adr) and a line in this list"


@pytest.mark.parametrize("library", DOORS)
def test_each_client_library_has_one_door(library):
    doors = tuple(DOORS[library])
    users = {
        path.as_posix()
        for path in MODULES
        if path.parts[0] not in {"tests", "deploy"}
        and any(name.split(".")[0] == library for name in imports(path))
    }
    others = {user for user in users if not user.startswith(doors)}
    assert not others, f"{library} has its door in {doors}; {others} open a second one"


def test_names_are_nouns_of_the_field():
    vague = [path for path in MODULES if path.stem in FORBIDDEN_NAMES]
    assert not vague, "name the noun; if there is none, the code belongs where it is called"


def test_files_stay_short():
    long = {
        path.as_posix(): count
        for path in MODULES
        if (count := len((HOUSE / path).read_text(encoding="utf-8").splitlines())) > LINES_MAX
    }
    assert not long, f"split by noun: {long}"


def test_functions_stay_short():
    long = {}
    for path in MODULES:
        for node in ast.walk(ast.parse((HOUSE / path).read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                count = (node.end_lineno or 0) - node.lineno + 1
                if count > FUNCTION_LINES_MAX:
                    long[f"{path}:{node.name}"] = count
    assert not long, f"over {FUNCTION_LINES_MAX} lines: {long}"


def test_the_design_names_every_room():
    design = (HOUSE / "docs" / "design.md").read_text(encoding="utf-8")
    for room in ROOMS:
        assert f"\n{room}/" in design, f"docs/design.md section 3 does not show {room}/"


def test_locks_name_no_registry():
    for lock in (HOUSE / "requirements").glob("*.txt"):
        text = lock.read_text(encoding="utf-8")
        assert "://" not in text, f"{lock.name} names an address"
        assert "--hash=sha256:" in text


def test_every_dependency_is_locked_and_used():
    project = tomllib.loads((HOUSE / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    names = {
        dependency.split(">")[0].split("[")[0].lower() for dependency in project["dependencies"]
    }
    used = set()
    for path in MODULES:
        if path.parts[0] != "tests":
            used |= {name.split(".")[0] for name in imports(path)}
    modules = {"prometheus-client": "prometheus_client", "paho-mqtt": "paho"}
    modules |= {"ruamel.yaml": "ruamel", "psycopg-pool": "psycopg_pool"}
    idle = {name for name in names if modules.get(name, name) not in used}
    assert not idle, f"declared but never imported: {idle}"


# Folders that are on every machine, so that to name one gives nothing away.
COMMON = {
    "/", "/home", "/mnt", "/opt", "/root", "/srv", "/tmp", "/usr", "/usr/local", "/usr/src", "/var",
    "/var/tmp", str(Path.home()),
}  # fmt: skip


def text_of(path: Path) -> str:
    """Content of a text file, nothing of any other."""
    try:
        return (HOUSE / path).read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return ""


def machine_path(house: Path) -> re.Pattern[str]:
    """Where the house stands on this machine, and what stands beside it there."""
    around = {str(house)} | ({str(house.parent)} - COMMON)
    return re.compile("|".join(rf"(?<![\w.]){re.escape(one)}(?![\w-])" for one in around))


def test_no_path_of_a_machine_is_written_down():
    path_here = machine_path(HOUSE)
    found = [f"{path}: {hit[0]}" for path in FILES for hit in path_here.finditer(text_of(path))]
    assert not found


def test_a_path_of_a_machine_is_found():
    for house, text in (("/data/sizao", "see /data/sizao/docs"), ("/data/sizao", "in /data/other")):
        assert machine_path(Path(house)).search(text)
    for house, text in (("/data/sizao", "big/data/x /database"), ("/root/sizao", "/root/.m2")):
        assert not machine_path(Path(house)).search(text)


def test_property_tests_do_not_fail_because_a_machine_is_slow():
    """Seen on fresh clones: FailedHealthCheck, while hypothesis built its tables of Unicode."""
    assert settings().deadline is None
    assert HealthCheck.too_slow in settings().suppress_health_check
    assert settings().print_blob


def test_the_shipped_modules_import_without_the_rooms():
    """`sizao` alone: importing it must not pull in a room."""
    code = (
        "import sys, sizao.cli, sizao.registry.source;"
        "rooms = {'ingest', 'detectors', 'alerting', 'deploy'} & set(sys.modules);"
        "sys.exit(f'imported {rooms}' if rooms else 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=HOUSE, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_no_two_purposes_share_a_lock_of_the_database():
    """A replay of dead letters held what the exchange's records are drained under: none left."""
    owners: dict[int, list[str]] = {}
    for path in MODULES:
        if path.parts[0] in {"sizao", "ingest", "detectors", "alerting"}:
            text = (HOUSE / path).read_text(encoding="utf-8")
            for number in re.findall(r"^_\w*LOCK = (0x[\da-fA-F_]+)", text, re.MULTILINE):
                owners.setdefault(int(number, 16), []).append(str(path))
    assert len(owners) > 5
    assert {number: paths for number, paths in owners.items() if len(paths) > 1} == {}
