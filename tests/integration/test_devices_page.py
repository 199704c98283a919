"""docs/devices.md, line by line: its files are imported, and every shell line does what it says."""

import re
import shlex
from pathlib import Path

import numpy as np

from ingest.coordinates import Crs, shifted
from ingest.settings import CredentialSettings, MqttFilesSection
from sizao import clock
from sizao.settings import parse

PAGE = (Path(__file__).parents[2] / "docs" / "devices.md").read_text("utf-8")


def blocks(kind: str) -> list[str]:
    return re.findall(rf"^```{kind}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def test_every_shell_line_of_the_page_is_true(office, broker, monkeypatch):
    monkeypatch.chdir(office.folder)
    monkeypatch.setattr(clock, "now_us", lambda: 0)  # 08:00 in China
    areas, devices = blocks("csv")
    office.file("areas.csv", areas)
    office.file("devices.csv", devices)
    lines = [shlex.split(line)[1:] for block in blocks("sh") for line in block.splitlines()]
    said = [office.run(*words) for words in lines]
    three = "devices.csv: 3 devices: 3 added, 0 changed, 0 as they were, 2 carriers made"
    assert said[:11] == [
        "areas.csv: 6 areas: 6 added, 0 changed, 0 as they were; dry run, nothing is changed",
        "areas.csv: 6 areas: 6 added, 0 changed, 0 as they were; generation 2",
        "areas.geojson: 6 areas",
        f"{three}; dry run, nothing is changed",
        f"{three}; generation 3",
        "devices.parquet: 3 devices",
        "h1 under h1 is in b1-f3; generation 4",
        "h1 under h1 is isolated; generation 5",
        "h1 under h1 is in_service; generation 6",
        "h9 has the place of h1; generation 7",
        "h9 under h9 is retired; generation 8",
    ]
    wait = "; they wait for `sizao devices credentials reload`"
    away = (
        "the broker is away for about 0.3 s, then its clients come back, for 0.0 s if all are here"
    )
    told = [line for text in said[11:] for line in text.split("\n")]
    assert [
        line for line in told if not line.startswith("in force: the broker answered after")
    ] == [
        f"2 new passwords in new.csv{wait}",
        f"2 users new, 0 changed, 0 gone, access rules changed; 5 lines: {away}",
        "waits for 02:00-04:00, in 18 h 0 min; --now does not",
        f"2 users new, 0 changed, 0 gone, access rules changed; 5 lines: {away}",
        "carrier h2 is revoked; generation 9",
        f"1 removed{wait}",
        f"0 users new, 0 changed, 1 gone; 4 lines: {away}",
        "carrier h2 is trusted; generation 10",
        f"1 new passwords in h2.csv{wait}",
    ]


def test_the_settings_of_the_page_are_read():
    (text,) = blocks("yaml")
    section = CredentialSettings.model_validate(parse(text, "page").data).mqtt_files
    assert (section.window, section.utc_offset_min) == ("02:00-04:00", 480)
    assert section.reload == MqttFilesSection(passwords="p", acl="a").reload


def test_the_refusals_of_the_page_are_what_is_said(office, monkeypatch):
    monkeypatch.chdir(office.folder)
    areas, devices = blocks("csv")
    office.run("areas", "import", office.file("areas.csv", areas), "--crs", "wgs84")
    command = ("devices", "import", "devices.csv", "--create-carriers", "--crs", "wgs84")
    wrong = devices.replace("generic.heat,b1-f3-302", "generic.haet,b1-f3-302")
    office.file("devices.csv", wrong + "h3,h3,generic.heat,b1-f3,,,,\n")
    said = office.refused(*command)
    lon, lat = shifted(np.array([135.1001]), np.array([20.1001]), Crs.GCJ02)
    office.file("devices.csv", devices.replace("135.1001,20.1001", f"{lon[0]},{lat[0]}"))
    said += office.refused(*command)
    (shown,) = (block for block in blocks("") if "generic.haet" in block)
    assert said == shown.splitlines()
