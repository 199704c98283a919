"""A recorded fire from the sensor to the responder, through every real process."""

import asyncio
import json
import urllib.request
from collections import Counter
from contextlib import ExitStack

import psycopg
import pytest
from fix_stack import eventually, whole_log

from alerting.model import PAGED
from deploy.local import district as districts
from deploy.local import fire as fires
from deploy.local import traffic
from deploy.local.fleet import Fleet
from deploy.local.patience import wait_for
from deploy.local.receiver import Receiver
from detectors import rules
from detectors.offline import fold_records
from detectors.state import setup_of
from sizao import clock, signal
from sizao.db import connected
from sizao.kafka import KafkaSettings
from sizao.registry.load import load
from sizao.units import BY_NAME

SECOND_US = traffic.SECOND_US
HISTORY_S = 1200
BURNS_S = 170  # past the static limit at all four sensors


class Town:
    """The demo's district on a test's stack, and its fire."""

    def __init__(self, stack, within: ExitStack):
        self.stack = stack
        self.district = districts.build()
        self.fire = fires.load()
        stack.settle(self.district)
        self.receivers = {}
        for name, tier in (("operator", "early"), ("station", "alarm")):
            self.receivers[name] = within.enter_context(Receiver())
            url = self.receivers[name].url
            self.receivers[name].secret = stack.add_responder(name, "demo", url, tier)
        mosquitto = stack.servers.mosquitto
        self.fleet = Fleet(mosquitto.host, mosquitto.port)
        within.callback(self.fleet.close)
        self.end_us = clock.now_us()
        self.ignition_us = self.end_us - BURNS_S * SECOND_US
        start_us = self.ignition_us - HISTORY_S * SECOND_US
        self.messages = sorted(
            [
                *traffic.quiet(self.district, start_us, self.end_us),
                *traffic.burning(
                    self.district,
                    self.fire,
                    self.ignition_us,
                    from_us=start_us,
                    until_us=self.end_us,
                ),
            ]
        )

    def play(self, from_us: int = 0, until_us: int = 1 << 62) -> Counter[int]:
        """Publish what lies between two times, as fast as it goes; readings in it by quantity."""
        readings: Counter[int] = Counter()
        for number, message in enumerate(self.messages):
            if from_us <= message.at_us < until_us:
                self.fleet.publish(message.user, message.topic, message.payload)
                readings.update(BY_NAME[name].code for name in quantities(message))
                if number % 100 == 0:
                    self.fleet.turn(0)
        self.fleet.settle(60)
        return readings

    def tiers(self, name: str) -> list[str]:
        return [page.tier for page in self.receivers[name].pages.accepted]


def quantities(message: traffic.Message) -> list[str]:
    """What a payload of the simulation holds."""
    payload = json.loads(message.payload)
    if "temperatures" in payload:
        return ["temperature_c"] * len(payload["temperatures"])
    if "event" in payload:
        return ["fire_state", "fault_state", "tamper_state", "battery_pct"]
    return ["temperature_c"] + (["fire_state", "smoke_od_per_m"] if "state" in payload else [])


@pytest.fixture
def within():
    with ExitStack() as opened:
        yield opened


def rows(stack, query: str) -> list[tuple]:
    with psycopg.connect(stack.servers.postgres.dsn(stack.database_name)) as connection:
        return connection.execute(query).fetchall()


def post(url: str, body: dict) -> tuple[int, dict]:
    request = urllib.request.Request(
        url, data=json.dumps(body).encode(), headers={"content-type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        return answer.status, json.loads(answer.read())


def test_a_recorded_fire_reaches_the_responders_once_signed_and_explained(stack, within):
    town = Town(stack, within)
    stack.start()
    town.fleet.connect(stack.carriers)
    readings = town.play()
    assert town.receivers["station"].wait_for("urgent", 30)
    # Played at once, the urgent page overtakes the others, as it should; all of them arrive.
    undelivered = "SELECT count(*) FROM message WHERE state <> 'accepted'"
    eventually(lambda: rows(stack, undelivered) == [(0,)], 15, "every page accepted")
    told = "SELECT what, after ->> 'tier' FROM transition ORDER BY version"
    # A page for each step at alarm tier or above. A device may join between the alarm and the
    # urgent, as the readings of four devices come: that is a step, and a page, of its own.
    paged = [tier for what, tier in rows(stack, told) if what in PAGED]
    assert sorted(town.tiers("station")) == sorted(tier for tier in paged if tier != "early")
    assert sorted(town.tiers("operator")) == sorted(paged)
    assert set(paged) == {"early", "alarm", "urgent"}
    assert rows(stack, told)[0] == ("opened", "early")
    assert [tier for what, tier in rows(stack, told) if what == "raised"] == ["alarm", "urgent"]
    for process in stack.processes.values():  # the console notices nothing of its own
        assert json.loads(process.page("/readyz")).get("system", {}) == {}
    assert not any(receiver.pages.refused for receiver in town.receivers.values())
    pages = town.receivers["operator"].pages.accepted
    first = next(page.body["data"] for page in pages if page.tier == "early")
    assert first["site"]["code"] == town.district.burning_site
    assert first["place"]["zh"].endswith("201室")
    assert first["evidence"]["values"]["rise_k"] >= 4
    ids = [page.id for name in town.receivers for page in town.receivers[name].pages.accepted]
    assert len(set(ids)) == len(ids)

    incidents = rows(stack, "SELECT kind, nature, state, tier, members FROM incident")
    assert incidents == [("fire", "real", "open", "urgent", 4)]
    attempts = "SELECT count(*), count(DISTINCT message), min(outcome) FROM message_attempt"
    assert rows(stack, attempts) == [(len(ids), len(ids), "accepted")]

    # Every reading is in the time-series store, once.
    stored = "SELECT p.quantity, count(*) FROM reading JOIN point p ON p.id = point GROUP BY 1"
    if not wait_for(lambda: dict(rows(stack, stored)) == readings, 30):
        assert dict(rows(stack, stored)) == readings
    doubled = "SELECT point, event FROM reading GROUP BY 1, 2 HAVING count(*) > 1"
    assert rows(stack, doubled) == []

    acknowledge_and_close(stack)


def acknowledge_and_close(stack) -> None:
    """A person takes the incident at the console, says what it is, closes it."""
    with urllib.request.urlopen(f"{stack.console_url}api/incidents", timeout=10) as answer:
        (incident,) = json.loads(answer.read())["incidents"]
    base = f"{stack.console_url}api/incidents/{incident['id']}"
    status, taken = post(
        f"{base}/acknowledge",
        {"action": "a-1", "expected_version": incident["version"], "actor": "Li"},
    )
    assert status == 200
    said = {"action": "a-2", "expected_version": taken["version"], "actor": "Li", "verdict": "fire"}
    _, judged = post(f"{base}/verdict", said | {"cause": "foam furniture"})
    post(f"{base}/close", {"action": "a-3", "expected_version": judged["version"], "actor": "Li"})
    assert rows(stack, "SELECT state, verdict FROM incident") == [("closed", "fire")]
    told = whole_log_of_incidents(stack)
    eventually(lambda: whole_log_of_incidents(stack)[-1:] == ["closed"], 15, f"published: {told}")
    assert whole_log_of_incidents(stack)[0] == "opened"


def whole_log_of_incidents(stack) -> list[str]:
    kafka = KafkaSettings(bootstrap=stack.servers.addresses.kafka_bootstrap)
    records = whole_log(kafka, ["sizao.incidents.v1"])
    return [json.loads(record.value)["what"] for record in records]


@pytest.mark.parametrize("snapshot_s", [0.2, 3600], ids=["from a snapshot", "warmed up anew"])
def test_a_killed_detect_says_what_an_offline_fold_says(stack, within, clean_topics, snapshot_s):
    stack.overrides["detect"] = {"snapshot_s": snapshot_s, "commit_s": 0.2}
    stack.configure()
    town = Town(stack, within)
    stack.start()
    town.fleet.connect(stack.carriers)
    middle_us = town.ignition_us + 80 * SECOND_US  # the early warning is out, the alarm is not
    town.play(until_us=middle_us)
    assert town.receivers["operator"].wait_for("early", 30)
    stack.processes["detect"].child.kill()
    town.play(from_us=middle_us)
    stack.processes["detect"].start()
    assert town.receivers["station"].wait_for("urgent", 30)

    async def registry():
        async with connected(stack.database(), "test") as connection:
            return await load(connection, 4)

    known = asyncio.run(registry())
    setup = setup_of(rules.discover(), ["b0"])

    def same() -> bool:
        """The log goes on (heartbeats), so compare until both have seen the same."""
        said = {}
        for record in whole_log(clean_topics, ["sizao.signals.v1", "sizao.conditions.v1"]):
            found = signal.decode(record.value, record.headers)
            assert said.setdefault(found.id, record.value) == record.value, "one id, two contents"
        frames = whole_log(clean_topics, ["sizao.readings.v1", "sizao.alarms.v1"])
        expected = {one.id: signal.encode(one) for one in fold_records(frames, known, setup)}
        assert len(expected) >= 10
        return said == expected

    eventually(same, 30, "signals equal to the offline fold")
