"""What `mqtt:` of the settings file must not say."""

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
