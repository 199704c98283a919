"""`sizao rules` against a real PostgreSQL: set, load, view, show; and what nobody can set."""

import asyncio
import json
import re
import shlex
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest
from fix_registry import DEVICES, PLACES, TEMPERATURE, change
from typer.testing import CliRunner

from detectors import rules, sets, tuning
from detectors.catalogue import rows as catalogue
from detectors.commands import app
from sizao import db
from sizao.errors import BadInput
from sizao.registry import cache
from sizao.registry.load import load
from sizao.registry.write import (
    AreaRow,
    CarrierRow,
    Change,
    DetectorRow,
    DeviceRow,
    ParameterRow,
    TakenRow,
    TypeRow,
    store_catalogue,
)

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


async def sizao(config, *words: str, fails: type[Exception] | None = None) -> str:
    """Output of the command, or what it says when it fails."""
    command = ["rules", *words, "--config", str(config)]
    done = await asyncio.to_thread(CliRunner().invoke, app, command)
    if fails is not None:
        assert isinstance(done.exception, fails), (done.exception, done.output)
        return str(done.exception)
    assert done.exception is None, (done.exception, done.output)
    return done.output


async def shown(config, name: str, *words: str):
    found = json.loads(await sizao(config, "show", "heat_rise", "--json", *words))
    (rule,) = found["rules"]
    return next(one for one in rule["parameters"] if one["name"] == name), rule


async def test_what_is_set_is_loaded_and_shown_with_where_it_comes_from(house, settings, tmp_path):
    why = ("--why", "trucks idle here", "--by", "Li")
    said = await sizao(house, "set", "heat_rise", "early_rise_k=5", "--district", *why)
    assert said == "heat_rise: 2 devices, 2 points are judged otherwise; generation 3\n"
    await sizao(house, "set", "heat_rise", "early_rise_k=6", "--site", "site-1", *why)
    night = ("--between", "22:00-06:00", "--days", "mon-fri")
    await sizao(house, "set", "heat_rise", "early_rise_k=2.5", "--device", "b", *night, *why)

    async with db.connected(settings, "test") as connection:
        registry = await load(connection, 4)
    cache.save(registry, tmp_path / "kept")
    for known in (registry, cache.restore(tmp_path / "kept")):
        view = known.newest
        device = view.roster["gateway"]["a"]
        (found,) = tuning.sets_in(view, RULE, ("device", device))
        assert found.params == RULE.Params(early_rise_k=6.0)
        assert found.digest == sets.set_of(RULE, found.params).digest
        assert known.at(2).parameters == []

    value, rule = await shown(house, "early_rise_k", "--device", "gateway/a")
    assert (value["value"], value["from"], value["shipped"]) == (6.0, "site site-1", 4.0)
    assert (value["low"], value["high"], value["unit"]) == (2.0, 8.0, "K")
    assert [each["rule_parameters"] for each in rule["sets"]] == [found.digest]
    assert [(row["who"], row["why"]) for row in rule["rows"]] == [("Li", "trucks idle here")] * 2
    value, rule = await shown(house, "early_rise_k", "--device", "b")
    assert (value["value"], value["from"]) == (5.0, "district")
    assert value["windows"] == [
        {"when": "22:00-06:00 mon,tue,wed,thu,fri +08:00", "value": 2.5, "from": "device gateway/b"}
    ]
    assert len(rule["sets"]) == 2
    then, _ = await shown(house, "early_rise_k", "--device", "b", "--generation", "3")
    assert (then["value"], then["windows"]) == (5.0, [])
    table = await sizao(house, "show", "heat_rise")
    assert "by Li: trucks idle here" in table
    assert "smoke_threshold: as shipped" in await sizao(house, "show")


async def test_a_dry_run_changes_nothing_and_unset_ends(house):
    why = ("--why", "test")
    for_room = ("heat_rise", "early_rise_k=6", "--area", "room", *why)
    said = json.loads(await sizao(house, "set", *for_room, "--dry-run", "--json"))
    assert (said["devices"], said["points"], said["generation"]) == (1, 1, 2)
    assert (await shown(house, "early_rise_k", "--area", "room"))[0]["from"] == "shipped"
    await sizao(house, "set", *for_room)
    assert "0 devices" in await sizao(house, "set", *for_room)  # nothing new: no generation
    said = await sizao(house, "unset", "heat_rise", "early_rise_k", "--area", "room", *why)
    assert said.endswith("1 devices, 1 points are judged otherwise; generation 4\n")
    assert (await shown(house, "early_rise_k", "--area", "room"))[0]["from"] == "shipped"
    told = await sizao(house, "unset", "heat_rise", "--area", "room", *why, fails=BadInput)
    assert "nothing is set at this scope" in told


async def test_what_will_not_do_is_refused_before_anything_is_asked_of_the_database(house):
    for words, told in (
        (("heat_rize", "early_rise_k=5", "--district"), "nearest: heat_rise"),
        (("heat_rise", "early_rise_k=50", "--district"), "expected 2 to 8 K"),
        (("heat_rise", "early_rise_k=5"), "got 0 scopes"),
        (("heat_rise", "early_rise_k=5", "--site", "site-11"), "nearest: site-1"),
        (("heat_rise", "early_rise_k=5", "--device", "a"), "under gateway, platform"),
    ):
        assert told in await sizao(house, "set", *words, "--why", "test", fails=BadInput)


async def test_another_program_can_set_no_more_than_we(house, connection):
    one = ParameterRow("heat_rise", "early_rise_k", "district", 0, 5.0, 0, 0, 127, 0, "t", "w")
    for wrong, told in (
        ({"rule": "gone"}, "rule gone takes no parameter early_rise_k"),
        ({"parameter": "gone_k"}, "rule heat_rise takes no parameter gone_k"),
        ({"value": 50.0}, "early_rise_k = 50: expected 2 to 8"),
        ({"scope": "device", "scope_id": 77}, "device 77 is not registered"),
    ):
        with pytest.raises(BadInput, match=told):
            await change(connection, Change(parameters=[replace(one, **wrong)]))
    insert = (
        "INSERT INTO rule_parameter (id, rule, parameter, scope, scope_id, value, who, why,"
        " from_gen) VALUES (1, 'heat_rise', %s, 'district', 0, %s, 't', 'w', 3)"
    )
    for parameter, value in (("early_rise_k", 50.0), ("early_rise_k", float("nan")), ("x", 5.0),
                             ("alarm_samples_count", 1.5)):  # fmt: skip
        with pytest.raises(psycopg.errors.CheckViolation, match="no detector of this district"):
            await connection.execute(insert, (parameter, value))


async def test_a_program_that_takes_less_leaves_rows_that_can_still_be_unset(house, connection):
    row = ParameterRow("old", "limit_k", "district", 0, 5.0, 0, 0, 127, 0, "t", "w")
    taken = TakenRow("limit_k", 4.0, 2.0, 8.0, whole=False, unit="K", reason="r")
    old = DetectorRow("old", 1, "telemetry", [1], "It was", [taken])
    await store_catalogue(connection, [*catalogue(), old])
    await change(connection, Change(parameters=[row]))
    await store_catalogue(connection, catalogue())
    assert "without effect: old limit_k = 5 at district" in await sizao(house, "show")
    assert await change(connection, Change(parameters=[replace(row, value=None)])) == 4
    assert "without effect" not in await sizao(house, "show")


async def test_what_is_set_can_be_ended_when_there_is_no_room_for_more(house, connection):
    """It was refused for being too many, and with it every way back."""
    why = ("--why", "a test")
    await sizao(house, "set", "heat_rise", "early_rise_k=5", "--district", *why)
    await connection.execute(
        "INSERT INTO rule_parameter SELECT n, 'heat_rise', 'early_rise_k', 'area', n, 5, 0, 0, 127,"
        " 0, 'x', 'x', 1, NULL FROM generate_series(2, 10000) n"
    )
    said = await sizao(
        house, "set", "heat_rise", "alarm_rise_k=5", "--district", *why, fails=BadInput
    )
    assert "over 10000 parameters" in said
    await sizao(house, "unset", "heat_rise", "early_rise_k", "--district", *why)


async def test_places_that_move_take_on_what_is_set_there(house, connection):
    """Points are by device, area and type of the generation: nothing is copied at `set`."""
    await sizao(house, "set", "heat_rise", "early_rise_k=6", "--site", "site-5", "--why", "test")
    moved = DeviceRow("b", "gateway", "heat", "site-5", 3)
    await change(connection, Change(devices=[moved]))
    assert (await shown(house, "early_rise_k", "--device", "b"))[0]["from"] == "site site-5"


async def test_every_shell_line_of_the_page_is_true(house, connection):
    """docs/rules.md, line by line."""
    page = (Path(__file__).parents[2] / "docs" / "rules.md").read_text("utf-8")
    blocks = re.findall(r"^```sh\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    await change(
        connection,
        Change(
            areas=[
                AreaRow("b1", "s", "site", "1号楼", "No. 1"),
                AreaRow("b1-f3", "b1", "floor", "3楼", "Floor 3", floor=3),
            ],
            carriers=[CarrierRow("h1")],
            types=[TypeRow("generic.heat", "name: generic.heat", [TEMPERATURE])],
        ),
    )
    await change(connection, Change(devices=[DeviceRow("h1", "h1", "generic.heat", "b1-f3")]))
    said = []
    for line in "".join(blocks).splitlines():
        said += [await sizao(house, *shlex.split(line)[2:])]
    one, none = ("1 devices, 1 points", "0 devices, 0 points")
    assert [text for text in said if "judged otherwise" in text] == [
        f"heat_rise: {one} would be judged otherwise; dry run, nothing is changed\n",
        f"heat_rise: {one} are judged otherwise; generation 5\n",
        f"smoke_threshold: {none} are judged otherwise; generation 6\n",
        f"heat_rise: {none} are judged otherwise; generation 7\n",  # its building outweighs it
        f"heat_rise: {one} are judged otherwise; generation 8\n",
        f"heat_rise: {none} are judged otherwise; generation 9\n",
    ]
    assert "by Li Wei: hangs over the stove" in said[6]
