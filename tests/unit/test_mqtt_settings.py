"""What `mqtt:` of the settings file must not say, and what goes with the broker's own."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from ingest.mqtt.settings import MqttSettings


@pytest.mark.parametrize(
    "wrong",
    [
        {"tls": {"certificate_file": "c"}},
        {"tls": {"key_file": "k"}},
        {"username": "", "password_file": "p"},
        {"version": "4"},
        {"packet_bytes_max": 1},
    ],
)
def test_settings_that_do_not_go_together_are_refused(wrong):
    with pytest.raises(ValidationError):
        MqttSettings(**wrong)


def test_the_version_may_be_written_as_a_number():
    assert MqttSettings(version=5).version == "5"


def test_whatever_the_shipped_broker_takes_in_the_bridge_can_hold():
    """Else one packet would cut it off for as long as it waits in the session."""
    shipped = Path(__file__).parents[2] / "deploy" / "mosquitto" / "mosquitto.conf"
    lines = [line.split() for line in shipped.read_text().splitlines()]
    (largest,) = [int(words[1]) for words in lines if words[:1] == ["max_packet_size"]]
    (payload,) = [int(words[1]) for words in lines if words[:1] == ["message_size_limit"]]
    ours = MqttSettings().packet_bytes_max
    assert payload + 65_535 < largest < ours - 100  # what a broker may add on the way
