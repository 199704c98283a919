"""The loop of detect over a log in memory: what hangs, fails, changes or is another log."""

import asyncio
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
import structlog
from fix_detect import Point, registry
from fix_log import Log

from detectors import detect as loop
from detectors import features, placing, snapshot
from detectors.rule import Column
from detectors.rules import heat_rise
from detectors.settings import DetectSettings
from sizao import service as services
from sizao import signal
from sizao.errors import Retriable
from sizao.metrics import Metrics
from sizao.registry import cache
from sizao.service import LostProgress, Service
from sizao.topics import ALARMS, READINGS
from sizao.units import Lane

KNOWN = registry([Point(1), Point(2), Point(9, "fire_state")])
HEAT, STATE = (READINGS.name, 0), (ALARMS.name, 0)
DEADLINE_S = 10


@pytest.fixture
async def log(monkeypatch):
    made = Log()
    for module in (loop, placing):
        monkeypatch.setattr(module, "Reader", made.reader)
    monkeypatch.setattr(loop, "Producer", made.producer)
    return made


@pytest.fixture
def settings(tmp_path):
    cache.save(KNOWN, tmp_path)
    return DetectSettings.model_validate(
        {
            "database": {"port": 1},
            "detect": {"state": tmp_path, "snapshot_s": 3600, "commit_s": 0.01},
        }
    )


def made(settings) -> tuple[loop.Detect, Service]:
    service = Service("detect", structlog.get_logger(), Metrics("detect"))
    return loop.Detect(service, settings), service


@asynccontextmanager
async def detecting(settings):
    """detect beside the test; if it ends, so does the test."""
    detect, service = made(settings)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(detect.run())
        yield detect, service
        task.cancel()


async def until(holds):
    async with asyncio.timeout(DEADLINE_S):
        while not holds():  # noqa: ASYNC110 - what is waited for tells nobody
            await asyncio.sleep(0.005)


def told(log, **wanted):
    said = [signal.decode(one.value, one.headers) for one in log.told]
    return [one for one in said if all(getattr(one, name) == what for name, what in wanted.items())]


def hot(log, from_s=0.0, point=1):
    for at_s in (from_s, from_s + 1):
        log.write(*HEAT, [(point, at_s, 90.0)], at_s)


def count_of(service, name, **labels):
    return service.metrics.registry.get_sample_value(f"sizao_detect_{name}_total", labels or None)


async def test_what_is_read_is_said_and_committed(log, settings):
    hot(log)
    async with detecting(settings) as (_, service):
        await until(lambda: log.committed.get(HEAT) == 2)
        assert len(told(log, rule="heat_fixed")) == 1
        assert service.progress.keys() == {"telemetry.in", "signals.out"}
        log.write(*STATE, [(9, 2, 1.0)], 2)
        await until(lambda: told(log, rule="direct"))
        assert service.progress.keys() == {"alarm.in", "telemetry.in", "signals.out"}


async def test_a_commit_that_hangs_holds_up_nothing(log, settings):
    """Seen: with the group's coordinator away each commit held detection up for five seconds."""
    hanging = asyncio.Event()
    log.before["commit"] = hanging.wait
    hot(log)
    async with detecting(settings):
        await until(lambda: told(log))
        await until(lambda: len(told(log)) == 1)
        hot(log, 10, point=2)
        await until(lambda: len(told(log, phase="raise")) == 2)
        assert log.committed == {}
        del log.before["commit"]
        hanging.set()
        await until(lambda: log.committed.get(HEAT) == 4)


async def test_a_group_that_never_answers_ends_the_process_if_kafka_does(
    log, settings, monkeypatch
):
    """Seen: the stage was idle while folds are placed, and detect waited, alive, for ever."""
    monkeypatch.setattr(services, "_SURE_S", 0.1)
    monkeypatch.setattr(services, "_WATCH_S", 0.01)

    async def refused():
        raise Retriable("no coordinator")

    log.before["committed"] = refused
    detect, service = made(settings)
    for stage in service.stages.values():
        stage.limit_s = 0.1
    async with asyncio.timeout(DEADLINE_S):
        with pytest.raises(ExceptionGroup) as ended:
            await _watched(detect, service)
    assert ended.group_contains(LostProgress, match="stage read")


async def _watched(detect, service):
    async with asyncio.TaskGroup() as group:
        group.create_task(detect.run())
        group.create_task(services.watch(service))


async def test_it_is_ready_again_with_the_first_record_after_an_outage(log, settings):
    """Seen: in a quiet district /readyz said 503 for ever after Kafka had been away for 30 s."""
    async with detecting(settings) as (detect, service):
        await until(lambda: service.ready["kafka"])

        async def away():
            raise Retriable("away")

        log.before["ends"] = away
        with pytest.raises(Retriable):
            await detect._read_probe()
        assert not service.ready["kafka"]
        del log.before["ends"]
        log.write(*HEAT, [], 1)
        await until(lambda: service.ready["kafka"])


async def test_a_probe_says_nothing_before_it_knows(log, settings):
    async with detecting(settings) as (detect, service):
        await until(lambda: detect._placed)
        asked, go_on = asyncio.Event(), asyncio.Event()

        async def slowly():
            asked.set()
            await go_on.wait()

        log.before["start"] = slowly
        async with asyncio.TaskGroup() as group:
            probing = group.create_task(_refused(detect._read_probe()))
            await asked.wait()
            assert service.ready["kafka"]
            go_on.set()
        assert "nothing to read" in probing.result()
        assert service.ready["kafka"]


async def _refused(probe) -> str:
    try:
        await probe
    except Retriable as error:
        return str(error)
    return ""


async def test_it_begins_anew_when_the_first_import_fixes_the_number_of_partitions(log, settings):
    """Seen: started before the first import, detect read four partitions of eight for ever."""
    async with detecting(settings) as (detect, service):
        await until(lambda: detect._placed)
        assert len(log.readers[-1]) == 2 * 4
        more = registry([Point(1), Point(2, partition=6)], generation=2)
        detect._source._take(replace(more, partitions=8))
        await until(lambda: len(log.readers[-1]) == 2 * 8)
        for at_s in (0, 1):
            log.write(READINGS.name, 6, [(2, at_s, 90.0)], at_s, generation=2)
        await until(lambda: told(log))
        assert told(log)[0].subject.id == "2"
        assert f"{READINGS.name}/6" in service.facts["partitions"]


# --- another log ---------------------------------------------------------------------------------


async def test_a_log_that_came_back_shorter_and_has_grown_past_us_is_read_from_its_start(
    log, settings
):
    for at_s in range(5):
        log.write(*HEAT, [(1, at_s, 20.0)], at_s, sequence=at_s)
    async with detecting(settings):
        await until(lambda: log.committed.get(HEAT) == 5)
    kept = log.records.pop(HEAT)
    hot(log, 10)
    for at_s in range(20, 30):
        log.write(*HEAT, [(1, at_s, 20.0)], at_s, sequence=at_s)
    async with detecting(settings) as (_, service):
        await until(lambda: log.committed.get(HEAT) == 12)
        assert count_of(service, "gaps", reason="replaced") == 1
    assert len(told(log, rule="heat_fixed", phase="raise")) == 1
    # The same log is no gap, from a snapshot or from memory.
    async with detecting(settings) as (detect, service):
        await until(lambda: detect._placed)
        log.write(*HEAT, [(1, 40, 20.0)], 40, sequence=40)
        await until(lambda: log.committed.get(HEAT) == 13)
        assert count_of(service, "gaps", reason="replaced") == 0
    assert len(kept) == 5


# --- rules of another version ---------------------------------------------------------------------


def quiet(log, from_s, to_s):
    """Point 1 at 20 degC, point 2 burning."""
    for at_s in range(from_s, to_s, 60):
        log.write(*HEAT, [(1, at_s, 20.0), (2, at_s, 90.0)], at_s, sequence=at_s)


async def run_over(log, settings):
    async with detecting(settings) as (_, service):
        await until(lambda: log.committed.get(HEAT) == log.end(HEAT))
        return count_of(service, "frames")


async def test_features_of_another_version_are_warm_and_what_is_on_stays_on(
    log, settings, monkeypatch
):
    """Seen: after an upgrade no rise was found for ten minutes."""
    quiet(log, 0, 7200)
    await run_over(log, settings)
    (before,) = told(log, rule="heat_fixed", phase="raise")
    log.told.clear()
    monkeypatch.setattr(features, "COLUMNS", (*features.COLUMNS, Column("new_c", "float32")))
    for at_s, value in ((7200, 22.0), (7260, 27.0), (7320, 29.0)):
        log.write(*HEAT, [(1, at_s, value), (2, at_s, 90.0)], at_s, sequence=at_s)
    folded = await run_over(log, settings)
    assert folded == 31 + 3  # half an hour in silence, from the snapshot back
    assert [one.tier for one in told(log, rule="heat_rise", phase="raise")] == ["early", "alarm"]
    refreshed = told(log, rule="heat_fixed")
    assert [one.phase for one in refreshed] == ["refresh"] * 3
    assert {one.onset for one in refreshed} == {before.onset}


async def test_a_rule_of_another_version_knows_what_is_on(log, settings, monkeypatch):
    quiet(log, 0, 1200)
    for at_s, value in ((1200, 25.0), (1260, 27.0)):
        log.write(*HEAT, [(1, at_s, value), (2, at_s, 90.0)], at_s, sequence=at_s)
    await run_over(log, settings)
    log.told.clear()
    monkeypatch.setattr(heat_rise, "VERSION", 2)
    log.write(*HEAT, [(1, 1320, 28.0), (2, 1320, 90.0)], 1320, sequence=1320)
    await run_over(log, settings)
    # Its own early began in the silent half hour and goes on; nothing is raised a second time.
    said = [(one.rule, one.rule_version, str(one.phase)) for one in told(log)]
    assert ("heat_rise", 2, "refresh") in said
    assert not [line for line in said if line[2] == "raise" and line[0] != "heat_rise"]


async def test_killed_in_the_warm_up_it_warms_up_again(log, settings, monkeypatch):
    quiet(log, 0, 7200)
    await run_over(log, settings)
    log.told.clear()
    monkeypatch.setattr(features, "COLUMNS", (*features.COLUMNS, Column("new_c", "float32")))
    detect, _ = made(settings)
    await detect._source.open()
    await detect._open()
    await detect._place([HEAT])
    fold = detect._folds[HEAT]
    assert (fold.kept is not None, fold.speaks) == (True, False)
    detect._snapshots.last([fold])  # what is not warm is not kept
    found = snapshot.restore(settings.detect.state, Lane.TELEMETRY, 0, KNOWN, detect._setup)
    assert found.cold == ["features@1"]
    await detect._close_reader()
