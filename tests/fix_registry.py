"""A small district in a real PostgreSQL, for the tests of the registry."""

import pytest
from psycopg.conninfo import conninfo_to_dict

from sizao import db
from sizao.registry.write import AreaRow, CarrierRow, Change, DeviceRow, TypeRow, apply
from sizao.units import BY_NAME

TEMPERATURE, FIRE = BY_NAME["temperature_c"].code, BY_NAME["fire_state"].code
PLACES = Change(
    areas=[
        AreaRow("room", "site-1", "unit", "302室", "Room 302"),  # before its parent, on purpose
        AreaRow("d", "", "district", "区", "District"),
        AreaRow("s", "d", "street", "街道", "Street"),
        *(AreaRow(f"site-{n}", "s", "site", f"{n}号", f"No. {n}", 152.0, 25.0) for n in range(8)),
    ],
    carriers=[CarrierRow("gateway", "site-1"), CarrierRow("platform")],
    types=[TypeRow("heat", "name: heat", [TEMPERATURE]), TypeRow("smoke", "name: s", [FIRE, 13])],
)
DEVICES = Change(
    devices=[
        DeviceRow("a", "gateway", "heat", "room", 1, lon=152.0, lat=25.0),
        DeviceRow("b", "gateway", "heat", "site-2", 3),
        DeviceRow("a", "platform", "smoke", "site-3", mark="test"),
    ]
)


@pytest.fixture
def settings(postgres_db, tmp_path):
    parts = conninfo_to_dict(postgres_db)
    password = tmp_path / "password"
    password.write_text(parts["password"])
    return db.DatabaseSettings(
        host=parts["host"],
        port=int(parts["port"]),
        name=parts["dbname"],
        user=parts["user"],
        password_file=str(password),
    )


@pytest.fixture
async def connection(settings):
    async with db.connected(settings, "test") as opened:
        await db.migrate(opened)
        yield opened


async def change(connection, what, partitions=4):
    return await apply(connection, what, cause="test", partitions=partitions)
