"""A district of files: the registry's commands against a database of the test's own."""

import asyncio
from pathlib import Path

import pytest
from ruamel.yaml import YAML
from typer.testing import CliRunner

from ingest.commands import app
from ingest.onboarding import load_all, points_needed, shipped
from sizao import db
from sizao.errors import BadInput
from sizao.registry.load import load
from sizao.registry.write import CarrierRow, Change, TypeRow, apply

# In the open Philippine Sea, inside of the box in which GCJ-02 shifts.
AREAS = """\
code,parent,level,name_zh,name_en,floor,lon,lat
d,,district,示范区,Demo District,,,
s,d,street,榕荫街道,Rongyin Street,,,
c,s,community,金湖社区,Jinhu Community,,,
b1,c,site,1号楼,No. 1,,135.1,20.1
b1-f-1,b1,floor,地下一层,Basement,-1,,
b1-f3,b1,floor,3楼,Floor 3,3,,
b1-f3-302,b1-f3,unit,302室,Room 302,,,
b2,c,site,2号楼,No. 2,,135.2,20.2
"""
DEVICES = """\
key,carrier,type,area,heat_class,state,lon,lat
t1,gateway,generic.gateway_batch,b1-f3,,,135.1001,20.1001
h1,h1,generic.heat,b1-f3-302,A1R,,,
h2,h2,generic.heat,b2,B,planned,135.2001,20.2
861,platform,generic.smoke_state,b1-f3-302,,,,
861,gateway,generic.smoke_state,b2,,,,
"""


class Office:
    """Somebody at a command line: files in, words and exit code out."""

    def __init__(self, settings: db.DatabaseSettings, folder: Path) -> None:
        self.settings = settings
        self.folder = folder
        self.config = folder / "sizao.yaml"
        self.configure()

    def configure(self, **sections) -> None:
        """Write the settings file: the database, and what else a command reads."""
        with self.config.open("w") as file:
            YAML(typ="safe").dump({"database": self.settings.model_dump(), **sections}, file)

    def file(self, name: str, content: str) -> Path:
        path = self.folder / name
        path.write_text(content, encoding="utf-8")
        return path

    def run(self, *words) -> str:
        """What a command says; raises what it raises."""
        done = CliRunner().invoke(
            app, [*map(str, words), "--config", str(self.config)], catch_exceptions=False
        )
        assert done.exit_code == 0, done.output
        return done.stdout.replace(f"{self.folder}/", "").strip()

    def refused(self, *words) -> list[str]:
        """Lines of the refusal."""
        with pytest.raises(BadInput) as refusal:
            self.run(*words)
        return str(refusal.value).replace(f"{self.folder}/", "").splitlines()

    def settle(self) -> None:
        """Areas, carriers and devices; generation 3."""
        self.run("areas", "import", self.file("areas.csv", AREAS), "--crs", "wgs84")
        self.run(
            *("devices", "import", self.file("devices.csv", DEVICES), "--crs", "wgs84"),
            "--create-carriers",
        )

    def registry(self):
        async def read():
            async with db.connected(self.settings, "test") as connection:
                return await load(connection, 4)

        return asyncio.run(read())


@pytest.fixture
def office(settings, tmp_path) -> Office:
    """Schema, the shipped types and a few carriers; generation 1."""
    types = [TypeRow(name, text, points_needed(text)) for name, text in load_all(shipped())]
    carriers = [CarrierRow("gateway"), CarrierRow("platform")]

    async def begin() -> None:
        async with db.connected(settings, "test") as connection:
            await db.migrate(connection)
            await apply(
                connection, Change(types=types, carriers=carriers), cause="test", partitions=4
            )

    asyncio.run(begin())
    return Office(settings, tmp_path)
