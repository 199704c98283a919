"""`sizao evaluate`, end to end: recorded fires, a made-up quiet room and a kettle."""

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pyarrow.parquet as pq
import pytest
from fix_pack import NIST, calm, table, write
from typer.testing import CliRunner

from deploy.local.fire import PACK as FSRI
from detectors import commands, rules, state
from detectors.evaluation import evaluate, pack, protocol, stress, trial, watch
from detectors.rule import Finding
from detectors.rules import heat_fixed
from sizao.signal import Kind, Phase, Tier
from sizao.units import Lane

SETUP = state.setup_of(rules.discover())
STEAM = np.concatenate([np.full(120, 20.0), np.linspace(20, 35, 15), np.full(60, 22.0)])


@pytest.fixture(scope="module")
def made_up(tmp_path_factory):
    """A quiet room with a sensor that flickers, and a kettle that is labelled."""
    folder = tmp_path_factory.mktemp("packs")
    flicker = np.where(np.arange(240) % 30 < 2, 200.0, 20.0)
    time_s = np.arange(240) * 10.0
    quiet = write(
        folder / "quiet",
        table([calm("d1", for_s=2400), ("t", "d2", time_s, flicker)]),
        devices='d1,z,r,,room sensor\nd2,z,r,,"faulty, flickers"\n',
        name="quiet",
    )
    time_s = np.arange(len(STEAM)) * 10.0
    kettle = write(
        folder / "kettle",
        table([("t", "d1", time_s, STEAM)]),
        devices="d1,z,r,,room sensor\n",
        events="t,1200,steam_start,d1,\nt,1350,steam_end,d1,\n",
        name="kettle",
        kind="nuisance",
    )
    return quiet, kettle


def run(*arguments):
    done = CliRunner().invoke(commands.app, ["evaluate", *(str(one) for one in arguments)])
    assert done.exit_code == 0, done.output
    return done.output


@pytest.fixture(scope="module")
def scored(made_up, tmp_path_factory):
    out = tmp_path_factory.mktemp("out")
    alarms, page = out / "alarms.parquet", out / "report.html"
    said = run(FSRI, NIST, *made_up, "--alarms", alarms, "--report", page, "--json")
    return json.loads(said), pq.read_table(alarms), page.read_text("utf-8")


def test_the_reference_figures_of_the_home_fires_come_out(scored):
    """docs/packs.md, nist_smoke_alarms_a: a second at most beside them."""
    fires = scored[0]["fires"]["nist_smoke_alarms_a"]
    expected = {
        "fixed 57": (0.0, 0.625, 335, 211),
        "fixed 57, twice": (0.0, 0.5625, 363, 221),
        "A1R": (0.375, 1, 135, 140),
        "A1R, guarded": (0.3125, 1, 145, 150),
        "vendor 46/56": (0.125, 0.75, 272, 190),
        "rise 4 K": (0.5625, 1, 110, 100),
        "heat_rise early": (0.5625, 1, 110, 100),
        "rise 6 K": (0.5625, 1, 124, 120),
        "heat_rise alarm": (0.5625, 1, 120, 110),
        "heat_zone alarm": (0.5625, 1, 120, 110),
        "heat_cusum early": (0.5625, 1, 108.5, 100),
        "heat_rate alarm": (0.0625, 0.8125, 252, 195),
        "v1 alarm": (0.375, 1, 134, 130),
        "heat_fixed urgent": (0.0, 0.5625, 362, 216),
    }
    for name, (share, found, mean_s, median_s) in expected.items():
        line = fires["devices"][name]
        assert (line["units"], line["before"]) == (16, 0)
        assert (line["share_120"], line["share_600"]) == pytest.approx((share, found), abs=1e-3)
        assert line["mean_s"] == pytest.approx(mean_s, abs=0.6)
        assert line["median_s"] == pytest.approx(median_s, abs=0.6)
    for name, mean_s in (("A1R", 80), ("zone 3 x 1.5 K", 94), ("rise 4 K", 54)):
        assert fires["zones"][name]["mean_s"] == pytest.approx(mean_s, abs=0.6)
    lead = fires["leads"]["sizao alarm"]["A1R, guarded"]
    assert lead["mean_s"] == pytest.approx(46.7, abs=0.5)  # 33 by heat alone
    assert lead["median_s"] == 40
    assert lead["mean_s_95"] == pytest.approx([36.7, 53.3], abs=1)


def test_smoke_stands_beside_the_real_alarms(scored):
    smoke = scored[0]["smoke"]["nist_smoke_alarms_a"]
    assert (smoke["units"], smoke["with_photoelectric"]) == (18, 14)
    expected = {
        "OD 0.06": (17, 153, 7),
        "OD 0.06, twice": (16, 184, 4),
        "OD 0.12, twice": (16, 203, 0),
        "sum rule": (18, 114, 8),
        "sum rule, twice": (18, 124, 6),
        "rise 4 K": (18, 117, 6),
        "A1R": (16, 187, 4),
        "fixed 57": (10, 364, 0),
        "ionisation (real)": (14, 86, 14),
        "photoelectric (real)": (14, 129, 14),
    }
    for name, (found, mean_s, first) in expected.items():
        line = smoke["rules"][name]
        assert (line["found"], line["first_or_tied"]) == (found, first), name
        assert line["mean_s"] == pytest.approx(mean_s, abs=0.6), name


def test_quiet_rooms_count_by_class_and_a_kettle_counts_apart(scored):
    quiet = scored[0]["quiet"]
    indoor, faulty = quiet["quiet"]["indoor"], quiet["quiet"]["faulty"]
    assert indoor["device_years"] == pytest.approx(2390 / (365.25 * 86400), rel=1e-2)
    assert indoor["rules"]["sizao alarm"]["count"] == 0
    # Every five minutes, so one alarm; the fixed rule needs no history.
    assert faulty["rules"]["sizao urgent"]["count"] == 1
    assert faulty["rules"]["fixed 57"]["count"] == 1
    assert (faulty["devices"], faulty["said_faulty"]) == (1, 1)
    assert quiet["kettle"]["indoor"]["rules"]["sizao alarm"]["count"] == 0
    nuisance = scored[0]["nuisance"]
    assert nuisance["episodes"] == 1
    assert nuisance["rules"]["sizao alarm"] == 1
    assert nuisance["rules"]["sizao urgent"] == nuisance["rules"]["fixed 57"] == 0


def test_marks_say_what_was_wanted_and_what_came(scored):
    reached = {one["name"]: one["reached"] for one in scored[0]["marks"]}
    assert reached["eligible devices found within 600 s, alarm tier"]
    assert reached["false alarms of quiet rooms, indoor"]
    assert not reached["nuisance episodes that alarm, of 1"]
    assert not reached["alarms of faulty devices"]
    assert not any("photoelectric" in name for name in reached)  # only at 5 s
    named = json.loads(run(NIST, "--sampling", 5, "--json"))["marks"]
    photo = [one for one in named if "photoelectric" in one["name"]]
    assert ["early" in one["name"] for one in photo] == [True, False]
    assert all(one["wanted"] == ">= 0.79" for one in photo)
    assert [one["got"] for one in photo] == pytest.approx([13 / 14, 11 / 14], abs=1e-6)
    assert all(one["reached"] for one in photo)
    assert not any("false alarms" in one["name"] for one in named)
    (lead,) = [one for one in named if one["name"].startswith("mean lead")]
    assert lead["got"] == pytest.approx(47.2, abs=0.5)  # 30 by heat alone
    assert lead["reached"]


def test_the_table_of_alarms_holds_every_raise(scored):
    result, alarms, _ = scored
    assert alarms.column_names[:6] == ["pack", "test", "device", "time_s", "tier", "rule"]
    rows = alarms.to_pylist()
    assert len(rows) == sum(one["raises"] for one in result["packs"])
    assert {row["tier"] for row in rows} == {"early", "alarm", "urgent", "fault"}
    first = next(row for row in rows if (row["pack"], row["rule"]) == ("kettle", "heat_rise"))
    assert (first["test"], first["device"], first["rule"]) == ("t", "d1", "heat_rise")
    assert STEAM[round(first["time_s"] / 10)] - 20 >= 4


def test_the_page_needs_nothing_else(scored):
    page = scored[2]
    assert page.count("<svg") == 2
    assert "http" not in page.replace("http://www.w3.org/2000/svg", "")
    assert "<script" not in page
    for word in ("sizao alarm", "nist_smoke_alarms_a: smoke", "ignition", "MIT"):
        assert word in page


def test_the_same_seed_gives_the_same_intervals_and_the_text_is_markdown(made_up):
    once, again, other = (run(NIST, "--json", "--seed", seed) for seed in (1, 1, 2))
    assert once == again
    assert once != other
    assert "| sizao alarm | 16 | 0 | 18.8 % | 68.8 % |" in run(NIST)


def test_tests_that_burn_at_once_do_not_hear_each_other(tmp_path):
    time_s = np.arange(0.0, 1400.0, 10.0)
    hot = np.where(time_s < 1300, 20.0, 80.0)
    folder = write(
        tmp_path / "p",
        table([("a", "d1", time_s, hot), calm("d1", test="b", for_s=1400)]),
        name="p",
    )
    (judged,) = evaluate.judge([folder], SETUP, 10.0)
    assert {(alarm.test, alarm.device) for alarm in judged.alarms} == {("a", "d1")}
    assert [(one.tier, one.time_s) for one in judged.alarms if one.rule == "heat_fixed"] == [
        ("urgent", 1310.0)
    ]


def test_a_zone_counts_where_somebody_could_have_found_the_fire(tmp_path):
    time_s = np.arange(0.0, 300.0)
    hot = np.where(time_s < 50, 20.0, 120.0)
    cool = np.full(300, 20.0)
    folder = write(
        tmp_path / "p",
        table([("t", "d1", time_s, hot), ("t", "d2", time_s, cool), ("t", "d3", time_s, cool)]),
        devices="d1,hall,r,2.4,ceiling\nd2,hall,r,2.4,ceiling\nd3,attic,r,2.4,ceiling\n",
        events="t,50,ignition,,\n",
        kind="fire",
    )
    fires = json.loads(run(folder, "--json"))["fires"]["made_up"]
    units = {level: fires[level]["sizao early"]["units"] for level in ("devices", "zones", "tests")}
    assert units == {"devices": 1, "zones": 1, "tests": 1}
    assert fires["zones"]["sizao early"]["mean_s"] == fires["devices"]["sizao early"]["mean_s"]


def test_frames_hold_a_second_each_and_every_reading_once(tmp_path):
    time_s = np.arange(0.0, 3.0, 0.5)
    said = table([("t", "d1", time_s, time_s), ("t", "d2", time_s + 0.1, time_s)])
    folder = write(tmp_path / "p", said, devices="d1,z,r,,\nd2,z,r,,\n")
    frames = list(watch.frames_of(watch.stream_of(pack.load(folder).channels)))
    assert [frame.rows for frame in frames] == [4, 4, 4]
    assert [frame.sequence for frame in frames] == [0, 1, 2]
    event_us = np.concatenate([frame.event_us for frame in frames])
    assert (np.diff(event_us) >= 0).all()
    assert all(frame.received_us == frame.event_us[-1] for frame in frames)


def test_silence_behind_the_end_of_a_record_is_not_the_sensors(tmp_path):
    """Tests run at once, so the clock of a longer one goes on over one that has ended."""

    def offline(block, params, clock_us, points, slots):
        if clock_us != watch.T0_US + 1190 * watch.SECOND_US:
            return []
        said = {"kind": Kind.OFFLINE, "tier": Tier.EARLY, "phase": Phase.RAISE, "evidence": {}}
        return [Finding(slot=at, onset_us=clock_us, event_us=clock_us, **said) for at in (0, 1)]

    rule = SimpleNamespace(
        NAME="offline", VERSION=1, LANE=Lane.TELEMETRY, READS=("temperature_c",), MEMORY_S=0,
        COLUMNS=(), Params=dict, step=lambda block, params, rows, points: [], tick=offline,
    )  # fmt: skip
    folder = write(tmp_path / "p", table([calm(test="short", for_s=100), calm(test="long")]))
    one = pack.load(folder)
    (alarm,) = watch.watch(one, one.channels, state.setup_of([rule]))
    assert (alarm.test, alarm.device, alarm.tier, alarm.time_s) == ("long", "d1", "fault", 1190)


def test_a_fire_that_heats_nobody_leaves_its_lines_and_marks_empty(tmp_path):
    time_s = np.arange(0.0, 300.0)
    smoke = np.where(time_s < 50, 0.0, 0.2)
    folder = write(
        tmp_path / "p",
        table([("t", "d1", time_s, smoke)], quantity="smoke_od_per_m"),
        events="t,50,ignition,,\n",
        kind="fire",
    )
    page = tmp_path / "page.html"
    result = json.loads(run(folder, "--json", "--stress", "--report", page))
    assert result["fires"]["all"]["devices"]["sizao alarm"] == {"units": 0, "before": 0}
    assert result["smoke"]["made_up"]["rules"]["OD 0.06"]["found"] == 1
    assert not any("lead" in one["name"] or "found" in one["name"] for one in result["marks"])
    assert page.read_text("utf-8").count("<svg") == 2


def test_a_prepared_pack_scores_as_the_one_it_was_made_of(tmp_path):
    bare = pack.load(NIST)
    shift_s = 1200.0
    traces = [
        (one.channel.test, one.channel.device, one.channel.time_s + shift_s, one.channel.value)
        for one in protocol.feed(bare)
        if one.channel.quantity == "temperature_c"
    ]
    names = sorted({device for _, device, _, _ in traces})
    ready = write(
        tmp_path / "ready",
        table(traces),
        devices="".join(f"{name},{bare.devices[name].zone},,,ceiling\n" for name in names),
        events="".join(
            f"{test},{bare.ignition_s(test) + shift_s},ignition,,\n" for test in bare.tests
        ),
        name="ready",
        kind="fire",
        prepared={"shift_s": shift_s, "lag_s": 30, "period_s": 10},
    )
    result = json.loads(run(NIST, ready, "--json"))["fires"]
    bare_lines, lines = result["nist_smoke_alarms_a"]["devices"], result["ready"]["devices"]
    with_smoke = {"sizao early", "sizao alarm"}  # which is not in the prepared pack
    of_smoke = {f"{rule} {tier}" for rule in ("smoke_threshold", "fusion_sum")
                for tier in ("early", "alarm")}  # fmt: skip
    assert set(bare_lines) - set(lines) == of_smoke
    for name in set(lines) - with_smoke:
        assert lines[name] == bare_lines[name], name


def test_devices_that_speak_for_themselves_are_fed_to_their_own_lane(tmp_path):
    said = table([("t", "d1", [0.0, 7.0, 9.0], [0.0, 1.0, 1.0])], quantity="fire_state")
    one = pack.load(write(tmp_path / "p", said))
    alarms = watch.watch(one, one.channels, SETUP)
    assert [(each.rule, each.tier, each.time_s) for each in alarms] == [("direct", "alarm", 7.0)]
    assert trial.shipped(alarms)["sizao early"]["t", "d1"].tolist() == [7.0]


def test_what_is_wrong_with_a_sensor_alarms_nobody():
    fault = watch.Alarm("p", "t", "d1", 5.0, watch.FAULT, "stuck", "fault")
    other = watch.Alarm("p", "t", "d1", 6.0, "alarm", "residual", "electrical")
    said = trial.shipped([fault, other])
    assert sorted(said) == ["residual alarm", "stuck fault"]


def test_trouble_on_the_way_is_counted_apart_from_what_was_recorded():
    result = json.loads(run(NIST, "--stress", "--json"))
    plain = json.loads(run(NIST, "--json"))
    assert result["fires"] == plain["fires"]
    assert "stress" not in plain
    delay = result["stress"]["delay"]
    assert list(delay) == list(stress.TROUBLE)
    assert delay["one in ten twice"]["sizao alarm"]["most_s"] == 0
    assert delay["5 % lost"]["sizao alarm"]["units"] == 16
    means_s = [delay[name]["sizao alarm"]["mean_s"] for name in ("5 % lost", "all three")]
    assert 0 <= means_s[0] < means_s[1]
    for line in result["stress"]["corrupt"].values():
        assert line["devices"] == 18
        assert set(line["raised"].values()) == {0}
    assert "| all three | sizao alarm | 16 | 0 |" in run(NIST, "--stress")


def test_trouble_is_what_it_says_it_is():
    count = 10_000
    time_us = np.arange(count) * 10 * watch.SECOND_US
    ids = np.arange(count, dtype=np.uint32)
    stream = watch.Stream(ids, time_us, np.zeros(count, np.float32), time_us)
    random = np.random.default_rng(5)
    assert len(stress.lost(random, stream).point) == pytest.approx(0.95 * count, abs=100)
    late = stress.late(random, stream)
    over_us = late.arrival_us - late.event_us
    assert (late.event_us == time_us).all()
    assert (over_us.min(), over_us.max()) == pytest.approx((0, 60e6), abs=1e5)
    twice = stress.twice(random, stream)
    assert len(twice.point) == pytest.approx(1.1 * count, abs=150)
    assert (np.bincount(twice.point) <= 2).all()
    struck = stress._struck({8: 75e6}, 200.0, stream)
    assert np.flatnonzero(struck.value).tolist() == [8]  # its reading at 80 s
    assert not stress._struck({8: 85e6}, 200.0, stream).value.any()  # it has none later


def test_one_corrupt_reading_would_show():
    unguarded = replace(
        SETUP, params={**SETUP.params, heat_fixed.NAME: heat_fixed.Params(samples_count=1)}
    )
    trials = evaluate.judge([NIST], unguarded, 10.0)
    line = stress._corrupt(trials, unguarded, 200.0)
    assert line["raised"] == {"sizao early": 18, "sizao alarm": 18, "sizao urgent": 18}


def test_two_packs_of_one_name_are_refused(tmp_path):
    done = CliRunner().invoke(commands.app, ["evaluate", str(NIST), str(NIST)])
    assert "which another pack of this run has too" in str(done.exception)
