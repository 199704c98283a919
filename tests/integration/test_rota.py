"""A rota against the areas of a real registry."""

import pytest
from typer.testing import CliRunner

from alerting import rota_commands
from sizao.errors import BadInput

ROTA = """\
zone: Asia/Shanghai
people:
  - {name: li, verified: "2026-02-01", voice: true}
  - {name: wang, verified: "2026-02-01"}
teams:
  - name: station
    level: community
    department: fire
    areas: [s]
    shifts: [{begins: "08:00", ends: "08:00", people: [li, wang]}]
"""


def check(office, text):
    words = "check", office.file("rota.yaml", text), "--from", "2026-03-02"
    done = CliRunner().invoke(
        rota_commands.app,
        [*map(str, words), "--config", str(office.config)],
        catch_exceptions=False,
    )
    return done.stdout


def test_every_community_is_asked_and_every_area_known(office):
    office.settle()
    # Bound to the street, a team of the community's level is there for its community.
    assert "1 communities have 2 verified people" in check(office, ROTA)
    with pytest.raises(BadInput, match=r"teams.0.areas.0: got 't', expected a name that is known"):
        check(office, ROTA.replace("[s]", "[t]"))
    with pytest.raises(BadInput, match="c: Mon 2026-03-02 00:00 to Mon 00:00: 0 of 2 people"):
        check(office, ROTA.replace("[s]", "[b1]"))
