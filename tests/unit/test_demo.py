"""The demo's own parts: the recorded fire, the district, the traffic, the receiver."""

import base64
import io
import json
from collections import Counter
from datetime import UTC, datetime
from types import SimpleNamespace

import numpy as np
import pytest
from rich.console import Console
from standardwebhooks.webhooks import Webhook

from deploy.local import district as districts
from deploy.local import fire as fires
from deploy.local import traffic
from deploy.local.demo import Tempo
from deploy.local.failure import ServerError
from deploy.local.receiver import Pages, Receiver, verify
from deploy.local.timeline import Row, clocked, verdict

SECRET = "whsec_" + base64.b64encode(b"0123456789abcdef0123456789abcdef").decode()
NOW_US = 1_772_352_000_000_000


def test_the_recorded_fire_is_what_a_housed_sensor_reports():
    fire = fires.load()
    assert len(fire.traces) == 4
    assert fire.licence.startswith("MIT")
    for trace in fire.traces:
        assert np.allclose(np.diff(trace.time_s), fires.PERIOD_S)
        assert trace.temperature_c[0] < 25
        assert trace.temperature_c.max() > 57
        assert 90 < trace.first_at(57.0) < 240
        assert trace.first_at(5000.0) is None


def test_a_conventional_detector_is_not_made_to_wait_for_our_next_report():
    trace = fires.Trace("a", np.array([-10.0, 0.0, 10.0, 20.0]), np.array([60.0, 50.0, 54.0, 66.0]))
    assert trace.first_at(57.0) == pytest.approx(12.5)
    assert trace.first_at(50.0) == 0.0


def test_an_unknown_test_is_refused_with_those_that_are_there():
    with pytest.raises(ServerError, match="RedAccent_Closed_Corner_3"):
        fires.load(test="campfire")


def test_the_district_is_as_large_as_promised_and_always_the_same():
    one, other = districts.build(), districts.build()
    assert (one.areas, one.devices, one.carriers) == (other.areas, other.devices, other.carriers)
    levels = Counter(area.level for area in one.areas)
    assert (levels["street"], levels["community"], len(one.devices)) == (11, 111, 2000)
    state_only = len(one.keys_of(districts.STATE))
    assert state_only > len(one.devices) / 2
    assert len({area.name_zh for area in one.areas if area.level == "community"}) == 111
    assert all(area.name_zh and area.name_en for area in one.areas)
    assert all(area.lon and area.lat for area in one.areas if area.level == "site")


def test_quiet_traffic_comes_in_order_under_its_own_names():
    district = districts.build()
    messages = list(traffic.quiet(district, NOW_US, NOW_US + 120 * traffic.SECOND_US))
    assert messages == sorted(messages)
    assert len({message.payload for message in messages}) > 1000
    carriers = {row.name for row in district.carriers}
    for message in messages:
        assert message.topic.startswith(f"up/{message.user}/")
        assert message.user in carriers
        assert NOW_US <= message.at_us < NOW_US + 120 * traffic.SECOND_US
    heard = [message for message in messages if message.user in districts.PLATFORMS]
    assert len(heard) == 1600


def test_the_fire_plays_its_record_after_a_steady_room():
    district, fire = districts.build(), fires.load()
    start_us = NOW_US - 600 * traffic.SECOND_US
    messages = list(traffic.burning(district, fire, NOW_US, from_us=start_us))
    times = [message.at_us for message in messages]
    assert times == sorted(times)
    assert start_us <= times[0] < start_us + 10 * traffic.SECOND_US
    values = [json.loads(message.payload)["temperature"] for message in messages]
    assert max(values) == max(float(trace.temperature_c.max()) for trace in fire.traces)
    assert len(set(values[:100])) <= len(fire.traces)


def test_clocks_meet_at_the_end():
    tempo = Tempo(end_us=NOW_US, speed=10.0)
    assert tempo.device_us(NOW_US) == tempo.wall_us(NOW_US) == NOW_US
    assert tempo.device_us(NOW_US - 1_000_000) == NOW_US - 10_000_000
    assert tempo.wall_us(tempo.device_us(NOW_US - 12_345)) == NOW_US - 12_345
    assert (clocked(75.5), clocked(-5)) == ("+1:15.5", "-0:05.0")


def signed(body: bytes, at_s: float, secret: str = SECRET) -> dict[str, str]:
    moment = datetime.fromtimestamp(at_s, UTC)
    return {
        "webhook-id": "m1",
        "webhook-timestamp": str(int(at_s)),
        "webhook-signature": Webhook(secret).sign("m1", moment, body.decode()),
    }


def test_the_receiver_takes_what_the_reference_library_signs():
    body, now_s = b'{"data": {"tier": "alarm"}}', NOW_US / 1e6
    receiver = Receiver(SECRET)
    assert receiver.take(signed(body, now_s), body, NOW_US) == ""
    assert receiver.wait_for("alarm", 0)
    other = "whsec_" + base64.b64encode(b"f" * 32).decode()
    refused = {
        "signature": (signed(body, now_s, other), body),
        "timestamp": (signed(body, now_s - 301), body),
        "malformed": ({}, body),
    }
    for reason, (headers, content) in refused.items():
        assert receiver.take(headers, content, NOW_US) == reason
    assert verify(SECRET, signed(body, now_s), body + b" ", now_s) == "signature"
    assert receiver.pages.refused == dict.fromkeys(refused, 1)
    receiver._server.server_close()


def judged(*rows: Row, refused: dict[str, int] | None = None) -> tuple[int, str]:
    """Exit code and words of a demo whose 57 degC detector would sound after 150 s."""
    told = io.StringIO()
    receivers = {
        "operator": SimpleNamespace(pages=Pages()),
        "station": SimpleNamespace(pages=Pages(refused=refused or {})),
    }
    code = verdict(Console(file=told, width=200), [*rows], receivers, 150.0, 4_321)
    return code, told.getvalue().strip()


EARLY = Row(40.0, "page", "operator has the early page")


@pytest.mark.parametrize(
    ("at_s", "words"), [(100.0, "50 s before"), (200.0, "50 s after"), (150.0, "0 s after")]
)
def test_the_page_is_counted_from_when_a_detector_would_have_sounded(at_s, words):
    code, said = judged(EARLY, Row(at_s, "page", "station has the alarm page"))
    assert code == 0
    assert f"The station knew {words} a 57 °C detector would have sounded." in said
    assert "4,321 messages" in said


def test_a_demo_without_the_stations_alarm_page_has_failed():
    for rows in ([], [EARLY], [EARLY, Row(90.0, "page", "station has the urgent page")]):
        code, said = judged(*rows)
        assert (code, said) == (1, "The alarm page did not arrive.")


def test_a_demo_with_a_refused_page_has_failed():
    arrived = Row(100.0, "page", "station has the alarm page")
    code, said = judged(EARLY, arrived, refused={"signature": 1})
    assert code == 1
    assert "refused" in said
    assert "signature" in said
