"""`sizao explain` and `sizao backtest` over a recorded fire in a real PostgreSQL."""

import asyncio
import json

import pyarrow.parquet as pq
import pytest
from fix_town import at_us
from typer.testing import CliRunner

from detectors import archived
from detectors.commands import app
from sizao import db
from sizao.errors import BadInput, Retriable
from sizao.signal import Phase, Tier

FIRE, WARM = "f" * 32, "0" * 32
INCIDENT = """
    INSERT INTO incident (id, site, kind, nature, tier, state, verdict, version, opened_us,
        onset_us, last_us, changed_us, closed_us, late, deciding, members)
    SELECT %s, id, 'fire', 'real', 'alarm', 'closed', %s, 1, 1, %s, %s, 1, 1, false, '', 1
    FROM area WHERE code = %s"""
WINDOW = """
    INSERT INTO evidence_window (incident, site, onset_us, from_us, until_us, version, copied_us)
    SELECT id, site, onset_us, 0, 1, 1, 1 FROM incident WHERE id = %s"""
KEEP = """
    INSERT INTO incident_reading (incident, point, event, received, value, flags)
    SELECT %s, point, event, received, value, flags FROM reading"""


async def run(*words, code=0):
    done = await asyncio.to_thread(CliRunner().invoke, app, list(words))
    if isinstance(done.exception, BadInput):
        raise done.exception
    assert done.exit_code == code, (done.output, done.exception)
    return done.stdout


async def explained(town, signal, *words, code=0):
    text = await run("explain", signal, "--config", town.config, "--json", *words, code=code)
    return json.loads(text)


async def backtested(town, rules, *words):
    file = town.folder / "rules.yaml"
    file.write_text(rules)
    span = ("--from", "2026-01-01T09:00:00Z", "--to", "2026-01-01T10:20:00Z")
    return await run("backtest", "--config", town.config, "--rules", str(file), *span, *words)


async def judged_so(connection):
    """People call the fire a fire, and the boiler room a false alarm."""
    for name, verdict, site, at_s in (
        (FIRE, "fire", "burns", 60),
        (WARM, "false_alarm", "warms", -1500),
    ):
        times = at_us(at_s), at_us(at_s + 300)
        await connection.execute(INCIDENT, (name, verdict, *times, site))


async def test_signals_come_out_of_the_archive_again_bit_for_bit(town):
    edges = [one for one in town.said if one.phase is not Phase.REFRESH]
    assert {one.rule for one in edges} >= {"direct", "heat_rise", "heat_fixed"}
    assert {one.phase for one in edges} == {Phase.RAISE, Phase.CLEAR}
    for said in edges:
        told = await explained(town, said.id)
        assert told["recomputed"]["verdict"] == "equal", told
        assert told["signal"]["id"] == said.id
        groups = told["evidence"].values()
        assert {name: one for each in groups for name, one in each.items()} == said.evidence
        assert said.phase is Phase.CLEAR or said.event_us in {
            one["event_us"] for one in told["samples"]
        }
    alarm = town.raises()[0]
    assert (await explained(town, alarm.onset))["signal"]["id"] == alarm.id
    assert (await explained(town, alarm.id[:12].upper()))["signal"]["id"] == alarm.id
    words = await run("explain", alarm.id, "--config", town.config)
    assert "302\u5ba4 (room)" in words
    assert "recomputed  equal" in words
    assert "alarm_rise_k 5.5, confirm_rise_k 4" in words
    told = await explained(town, alarm.id)
    assert told["rule_parameters"] == alarm.evidence["rule_parameters"]
    near = (await explained(town, alarm.id, "--back", "0.5", code=1))["recomputed"]
    assert (near["verdict"], near["why"][:9]) == ("differs", "the same "), near
    apart = {one["name"]: one["by"] for one in near["differences"]}
    assert 0.001 < apart["baseline_c"] < 0.2, near
    with pytest.raises(BadInput, match=r"no such record or onset in the table `signal`.*10:10"):
        await explained(town, "a" * 32)
    with pytest.raises(BadInput, match="hex digits"):
        await explained(town, "heat_rise")


async def test_what_was_never_read_is_told_and_evidence_outlives_the_table(town, connection):
    (urgent, *_) = town.raises("heat_fixed", Tier.URGENT)
    await judged_so(connection)
    await connection.execute(WINDOW, (FIRE,))
    await connection.execute(KEEP, (FIRE,))
    await connection.execute("DROP TABLE reading_20260101_09")
    await connection.execute("UPDATE signal SET incident = %s WHERE id = %s", (FIRE, urgent.id))
    told = (await explained(town, urgent.id))["recomputed"]
    assert told["verdict"] == "equal"
    assert told["raw_rows"] > 50
    assert told["evidence_rows"] > 500
    await connection.execute("DELETE FROM incident_reading")
    await connection.execute("DELETE FROM reading WHERE point = %s", (int(urgent.subject.id),))
    told = (await explained(town, urgent.id, code=1))["recomputed"]
    assert told["why"] == "no record of heat_fixed about this subject comes out"
    await connection.execute("TRUNCATE reading")
    told = (await explained(town, urgent.id, code=1))["recomputed"]
    assert told["verdict"] == "impossible"


async def test_a_backtest_tells_what_is_missed_moved_and_raised(town, connection, monkeypatch):
    await judged_so(connection)
    out = town.folder / "alarms.parquet"
    slower = "heat_rise: {early_rise_k: 5.5, alarm_rise_k: 9, confirm_rise_k: 8}\nheat_cusum: off"
    told = json.loads(await backtested(town, slower, "--json", "--alarms", str(out)))
    rows = {(one["community"], one["rule"], one["tier"]): one for one in told["rows"]}
    alarms = rows["c1", "heat_rise", "alarm"]
    assert (alarms["in_force"], alarms["changed"], alarms["later"]) == (4, 4, 4)
    assert 0 < alarms["later_s_median"] <= 30
    assert rows["c2", "heat_rise", "early"]["missed"] == 1
    assert rows["c1", "heat_fixed", "urgent"]["missed"] == 0
    assert [one["missed"] for one in told["fires"]] == [False]
    assert [one["missed"] for one in told["false_alarms"]] == [True]
    assert (told["devices"], told["device_years"]) == (6, pytest.approx(6 * 4800 / 31_557_600))
    written = pq.read_table(out).to_pylist()
    assert len(written) == rows["", "", ""]["in_force"]
    assert {one["verdict"] for one in written if one["site"] == "burns"} == {"fire"}
    assert {one["onset"] for one in written} == {
        one.onset for one in town.said if one.phase is Phase.RAISE
    }
    monkeypatch.setattr(archived, "ROWS_MAX", 60)  # slices are halved, and nothing else changes
    assert json.loads(await backtested(town, slower, "--json")) == told


async def test_a_missed_fire_is_said_first_and_a_community_alone_can_be_asked(town, connection):
    await judged_so(connection)
    heat = ("heat_cusum", "heat_fixed", "heat_rate", "heat_rise", "heat_zone")
    none = "{" + ", ".join(f"{name}: off" for name in (*heat, "direct")) + "}"
    words = await backtested(town, none)
    assert words.startswith(f"A REAL FIRE WOULD HAVE BEEN MISSED: incident {FIRE} at burns")
    for where in (("--community", "c2"), ("--site", "warms")):
        told = json.loads(await backtested(town, none, "--json", *where))
        assert (told["fires"], told["devices"]) == ([], 1)
        assert {one["community"] for one in told["rows"]} == {"", "c2"}
    with pytest.raises(BadInput, match="--community c3: not registered"):
        await backtested(town, none, "--community", "c3")


async def test_slices_hold_every_row_once_in_the_order_of_its_storing(
    town, settings, connection, monkeypatch
):
    cursor = await connection.execute(
        "SELECT (extract(epoch FROM received) * 1000000)::bigint, point FROM reading"
    )
    stored = await cursor.fetchall()
    first_us, last_us = min(stored)[0], max(stored)[0]  # both on an edge of the span
    monkeypatch.setattr(archived, "ROWS_MAX", 10)
    found, ends_us = [], []
    async with archived.reading_only(settings, "test") as opened:
        async for end_us, rows in archived.slices(
            opened, archived.Scope(), first_us, last_us + 1, cuts=[at_us(0)]
        ):
            assert len(rows.point) <= 10
            found += zip(rows.received_us.tolist(), rows.point.tolist(), strict=True)
            ends_us.append(end_us)
    assert found == stored
    assert at_us(0) in ends_us
    assert ends_us == sorted(set(ends_us))


async def test_a_role_that_may_only_read_is_enough_and_nothing_is_written_by_any(
    town, settings, connection, monkeypatch
):
    name = f"reader_{settings.name}"
    secret = town.folder / "reader"
    secret.write_text("only-to-read")
    await connection.execute(f"CREATE ROLE {name} LOGIN PASSWORD 'only-to-read'")
    await connection.execute(f"GRANT pg_read_all_data TO {name}")
    monkeypatch.setenv("SIZAO_DATABASE__USER", name)
    monkeypatch.setenv("SIZAO_DATABASE__PASSWORD_FILE", str(secret))
    told = await explained(town, town.raises()[0].id)
    assert told["recomputed"]["verdict"] == "equal"
    assert json.loads(await backtested(town, "heat_rise: off", "--json"))["readings"] > 1000
    async with archived.reading_only(settings, "test") as opened:
        with pytest.raises(Retriable, match="read-only"), db.translated():
            await opened.execute("DELETE FROM reading")
