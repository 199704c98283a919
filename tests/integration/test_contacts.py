"""Contacts from a file into a real PostgreSQL and, masked, out again."""

import asyncio
import json

import pytest
from typer.testing import CliRunner

from alerting.contact_commands import app
from sizao import db
from sizao.errors import BadInput

HEAD = "site,unit,role,name,phone,language,verified\n"
ROWS = (
    "b1,b1-f3-302,住户,李梅,138 0013 8000,,2020-01-01\n"
    "b1,,消防控制室,王强,0755-2890 1234,en,2026-02-01\n"
    "b2,,物业,赵倩,13900139000,,\n"
)


class Desk:
    """Somebody at `sizao contacts` in a district of two sites."""

    def __init__(self, office):
        self.office = office

    def run(self, *words):
        done = CliRunner().invoke(
            app, [*map(str, words), "--config", str(self.office.config)], catch_exceptions=False
        )
        assert done.exit_code == 0, done.output
        return done.stdout.replace(f"{self.office.folder}/", "").strip()

    def refused(self, *words):
        with pytest.raises(BadInput) as refusal:
            self.run(*words)
        return str(refusal.value).replace(f"{self.office.folder}/", "")

    def bring(self, rows, *options):
        return self.run("import", self.office.file("c.csv", HEAD + rows), *options)

    def key(self, name):
        done = CliRunner().invoke(app, ["key", str(self.office.folder / name)])
        assert done.exit_code == 0
        self.office.configure(contacts={"key_file": name})
        return done.stdout.split("key ")[1].split(";")[0]

    def table(self):
        async def dump():
            async with db.connected(self.office.settings, "test") as connection:
                cursor = await connection.execute("SELECT contact::text FROM contact ORDER BY 1")
                return [row[0] for row in await cursor.fetchall()]

        return asyncio.run(dump())


@pytest.fixture
def desk(office):
    office.settle()
    made = Desk(office)
    made.first_key = made.key("contacts.key")
    return made


def test_in_and_out_sealed_and_masked(desk):
    assert desk.bring(ROWS) == (
        f"c.csv: 3 contacts, 3 added, 0 changed, 0 removed; sealed with key {desk.first_key}"
    )
    stored = desk.table()
    for secret in ("13800138000", "李梅", b"13800138000".hex(), "李梅".encode().hex()):
        assert not any(secret in row for row in stored)
    assert desk.run("show", "b1").splitlines() == [
        "b1  control_room  王**  +86755******34  en  answered 2026-02-01",
        "b1-f3-302  occupant  李**  +86138******00  zh  answered 2020-01-01",
    ]
    assert desk.refused("show", "b11").startswith(
        "no site 'b11', expected the code of one; nearest"
    )

    # The same again changes nothing, not even the sealed bytes; a name that changed does.
    assert " 0 added, 0 changed, 0 removed" in desk.bring(ROWS)
    assert desk.table() == stored
    assert " 0 added, 1 changed, 0 removed" in desk.bring(ROWS.replace("李梅", "李海"))
    assert " 0 added, 0 changed, 1 removed" in desk.bring(ROWS.splitlines()[1] + "\n", "--replace")
    assert "赵**" in desk.run("show", "b2")  # a site that the file does not name stays


def test_a_fault_changes_nothing(desk):
    bad = desk.office.file("bad.csv", HEAD + ROWS + "b1,b9,住户,x,13800138001,,\n")
    said = desk.refused("import", bad)
    assert said == "bad.csv:5: unit: unknown 'b9', expected an area inside of b1"
    assert desk.table() == []


def test_sites_that_nobody_can_reach(desk):
    desk.bring(ROWS.replace("2026-02-01", "2020-02-01"))
    assert desk.run("report").splitlines() == [
        "2 of 2 sites have no contact that answered in 180 days",
        "  c: 2",
        "b1 1号楼: 2 contacts, the newest answered 2020-02-01",
        "b2 2号楼: 1 contacts, the newest answered never",
    ]
    told = json.loads(desk.run("report", "--json"))
    assert told["communities"] == {"c": 2}
    assert told["unreached"][1] == {
        "site": "b2", "community": "c", "contacts": 1, "verified": None,
    }  # fmt: skip


def test_another_key_is_refused_until_all_is_imported_under_it(desk):
    desk.bring(ROWS)
    kept = desk.table()
    second = desk.key("second.key")
    said = desk.refused("show", "b1")
    assert f"second.key: got key {second}, expected {desk.first_key}" in said
    only = desk.office.file("b1.csv", HEAD + ROWS.splitlines()[1] + "\n")
    said = desk.refused("import", only, "--replace")
    assert f"1 contacts of 1 sites are sealed with {desk.first_key}" in said
    assert desk.table() == kept
    assert "3 added, 0 changed, 3 removed" in desk.bring(ROWS, "--replace")
    assert "李**" in desk.run("show", "b1")
    desk.office.configure()
    assert "expected a file with the key" in desk.refused("show", "b1")
