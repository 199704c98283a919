import asyncio
import io
import json
import logging
import os
import signal
import urllib.error
import urllib.request

import pytest

from sizao import clock, log, service
from sizao.errors import BadInput, Permanent, Retriable
from sizao.metrics import Metrics
from sizao.settings import HttpSettings


@pytest.fixture
def one():
    return service.Service("test", log.setup("test", io.StringIO()), Metrics("test"))


@pytest.fixture
def page(one):
    served = service.Page(one, HttpSettings())
    yield served
    served.close()


def get(page, path):
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{page.port}{path}", timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


async def away():
    raise Retriable("away")


async def answers():
    return None


async def test_patience_outlasts_a_dependency_and_tells_readiness(one, monkeypatch):
    monkeypatch.setattr(service, "_BACKOFF_S", (0.001, 0.002))
    seen = []

    async def attempt():
        seen.append(one.ready.get("kafka"))
        if len(seen) < 4:
            raise Retriable("not yet")
        return "here"

    assert await one.patiently("kafka", attempt) == "here"
    assert seen == [None, False, False, False]
    assert one.ready == {"kafka": True}


async def test_patience_ends_at_once_on_what_can_never_succeed(one):
    async def attempt():
        raise Permanent("no such topic")

    with pytest.raises(Permanent):
        await one.patiently("kafka", attempt)


async def test_a_stuck_stage_ends_the_process_only_when_its_dependency_answers(one, monkeypatch):
    monkeypatch.setattr(service, "_WATCH_S", 0.001)
    monkeypatch.setattr(service, "_SURE_S", 0.01)
    stage = one.stage("frames", away, limit_s=0.01)
    stage.begin()
    with pytest.raises(TimeoutError):  # away: degraded, not restarted
        await asyncio.wait_for(service.watch(one), 0.1)
    stage.probe = answers
    with pytest.raises(service.LostProgress, match="frames"):
        await asyncio.wait_for(service.watch(one), 5)


async def test_a_dependency_that_was_away_for_long_leaves_time_to_come_back(one, monkeypatch):
    """Seen: PostgreSQL away for 42 s with a fire waiting; its return ended `alert`."""
    monkeypatch.setattr(service, "_WATCH_S", 0.001)
    monkeypatch.setattr(service, "_SURE_S", 0.2)
    asked = []

    async def comes_and_goes():
        asked.append(1)
        if len(asked) % 20:
            raise Retriable("away")

    stage = one.stage("store", comes_and_goes, limit_s=0.01)
    stage.begin()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(service.watch(one), 0.3)
    assert len(asked) > 20
    stage.probe = answers
    # What waited gets through: the patience was right.
    asyncio.get_running_loop().call_later(0.05, stage.moved)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(service.watch(one), 0.4)


async def test_a_moving_stage_is_left_alone(one, monkeypatch):
    monkeypatch.setattr(service, "_WATCH_S", 0.001)
    stage = one.stage("frames", answers, limit_s=0.01)
    stage.begin()
    stage.moved()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(service.watch(one), 0.1)


def test_the_pages(one, page):
    one.ready = {"kafka": True, "mqtt": False}
    one.facts["generation"] = 7
    one.metrics.counter("frames", "Frames written.").inc()
    one.passed("alarm.in")
    one.holds("alarm", clock.monotonic_s() - 3)
    one.holds("telemetry", None)
    status, text = get(page, "/readyz")
    assert (status, json.loads(text)) == (
        503,
        {"ready": {"began": False, "kafka": True, "mqtt": False}, "generation": 7},
    )
    one.began = True
    assert get(page, "/readyz")[0] == 503
    one.ready["mqtt"] = True
    assert get(page, "/readyz")[0] == 200
    assert "sizao_test_frames_total 1.0" in get(page, "/metrics")[1]
    told = json.loads(get(page, "/progress")[1])
    assert told["record_age_s"].keys() == {"alarm.in"}
    assert told["oldest_unacknowledged_s"] == {"alarm": pytest.approx(3, abs=1), "telemetry": 0}
    assert get(page, "/else")[0] == 404
    assert get(page, "/healthz")[0] == 503  # the loop never turned


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (None, service.DONE),
        (BadInput("x"), service.BAD_INPUT),
        (Permanent("x"), service.FAILED),
        (ValueError("x"), service.FAILED),
        (service.LostProgress("x"), service.LOST_PROGRESS),
    ],
)
def test_exit_codes(error, code):
    async def body(_):
        if error is not None:
            raise error

    assert service.run("test", HttpSettings(), body) == code


def test_bad_input_on_the_last_good_settings_tells_of_the_bad_file_too(capsys):
    """Somebody corrects the port, slips with the pen, and is told of the old port only."""

    async def body(_):
        raise BadInput("port taken")

    wrong = "sizao.yaml:3: bridge.prt: unknown key"
    assert service.run("test", HttpSettings(), body, wrong) == service.BAD_INPUT
    told = json.loads(capsys.readouterr().err.splitlines()[-1])["fault"]
    assert told == f"port taken; and the settings file is not in force: {wrong}"


def test_an_error_inside_a_task_group_keeps_its_code():
    async def body(_):
        async with asyncio.TaskGroup() as group:
            group.create_task(failing())

    async def failing():
        raise BadInput("deep")

    assert service.run("test", HttpSettings(), body) == service.BAD_INPUT


def test_sigterm_is_an_orderly_end_and_cleans_up():
    cleaned = []

    async def body(_):
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            await asyncio.Event().wait()
        finally:
            cleaned.append(True)

    assert service.run("test", HttpSettings(), body) == service.DONE
    assert cleaned == [True]


def test_a_taken_port_is_bad_input(page):
    async def body(_):
        pass

    assert service.run("other", HttpSettings(port=page.port), body) == service.BAD_INPUT


def test_a_payload_cannot_forge_a_log_line_and_libraries_cannot_flood():
    out = io.StringIO()
    logger = log.setup("test", out)
    logger.info("reject", payload='x\n{"event": "all is well"}', long="y" * 10_000)
    for _ in range(200):
        logging.getLogger("aiokafka.conn").error("Connect attempt failed")
    lines = out.getvalue().splitlines()
    assert len(lines) == 2
    assert json.loads(lines[0])["payload"] == 'x\n{"event": "all is well"}'
    assert len(json.loads(lines[0])["long"]) < 1_000
