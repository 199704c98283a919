"""`sizao rules` against a real PostgreSQL: set, load, view, show; and what nobody can set."""

import json

import psycopg
import pytest
from fix_registry import DEVICES, PLACES, change
from typer.testing import CliRunner

from detectors import rules, sets, tuning
from detectors.catalogue import rows as catalogue
from sizao import cli, db
from sizao.errors import BadInput, Refused
from sizao.registry import cache
from sizao.registry.load import load
from sizao.registry.write import Change, DetectorRow, ParameterRow, TakenRow, store_catalogue

RULE = next(rule for rule in rules.discover() if rule.NAME == "heat_rise")


@pytest.fixture
async def house(settings, tmp_path):
    """A district with its catalogue; the settings file."""
    async with db.connected(settings, "test") as connection:
        await db.migrate(connection)
        await store_catalogue(connection, catalogue())
        await change(connection, PLACES)
        await change(connection, DEVICES)
    file = tmp_path / "sizao.yaml"
    file.write_text(
        f"database: {{host: '{settings.host}', port: {settings.port}, name: {settings.name},"
        f" user: {settings.user}, password_file: '{settings.password_file}'}}\n",
        encoding="utf-8",
    )
    return file


def sizao(config, *words: str, fails: type[Exception] | None = None) -> str:
    """Runs in a loop of its own, so from tests that have none."""
    done = CliRunner().invoke(cli.assemble(), [*words, "--config", str(config)])
    if fails is not None:
        assert isinstance(done.exception, fails), done.output
        return str(done.exception)
    assert done.exception is None, done.exception
    return done.output


def shown(config, *words: str):
    return json.loads(sizao(config, "rules", "show", "heat_rise", "--json", *words))


def value_of(found, name):
    (rule,) = found["rules"]
    return next(one for one in rule["parameters"] if one["name"] == name)
