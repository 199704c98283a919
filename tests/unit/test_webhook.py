"""The signature to the last digit, the secrets, and the addresses that are refused."""

from __future__ import annotations

import base64
import datetime as dt

import pytest
import standardwebhooks
from fix_alerting import OLD_SECRET, SECRET
from pydantic import ValidationError

from alerting.channels.webhook import Address
from sizao import clock
from sizao.errors import BadInput
from sizao.http import read_secrets, sign


def test_the_signature_is_this_one():
    key = base64.b64decode(SECRET.removeprefix("whsec_"))
    when = dt.datetime.fromtimestamp(1614265330, tz=dt.UTC)
    body = b'{"test": 2432232314}'
    signature = sign([key], "msg_p5jXN8AQM9LWM0D4loKWxJek", int(when.timestamp()), body)
    theirs = standardwebhooks.Webhook(SECRET).sign(
        "msg_p5jXN8AQM9LWM0D4loKWxJek", when, body.decode()
    )
    assert signature == theirs
    assert signature == "v1,nyCqwbaEvcD+GcBc8jTPZXOmdUuaMaA1uPvwUo5WlEs="


def test_during_a_rotation_each_key_verifies(tmp_path):
    file = tmp_path / "keys"
    file.write_text(f"{SECRET}\n{OLD_SECRET}\n")
    now_s = clock.now_us() // 1_000_000
    headers = {
        "webhook-id": "m1",
        "webhook-timestamp": str(now_s),
        "webhook-signature": sign(read_secrets(file), "m1", now_s, b"{}"),
    }
    for secret in (SECRET, OLD_SECRET):
        standardwebhooks.Webhook(secret).verify(b"{}", headers)
    stranger = "whsec_" + base64.b64encode(b"x" * 32).decode()
    with pytest.raises(standardwebhooks.WebhookVerificationError):
        standardwebhooks.Webhook(stranger).verify(b"{}", headers)


@pytest.mark.parametrize(
    "content",
    [
        "",
        "secret",
        "whsec_",
        "whsec_!!!!",
        "whsec_" + base64.b64encode(b"x" * 23).decode(),
        "whsec_" + base64.b64encode(b"x" * 65).decode(),
        "\n".join([SECRET] * 5),
        base64.b64encode(b"x" * 32).decode(),
        "whsec_密码",
    ],
)
def test_a_bad_secret_file_is_named_and_its_content_is_not(content, tmp_path):
    file = tmp_path / "keys"
    file.write_text(content)
    with pytest.raises(BadInput) as said:
        read_secrets(file)
    assert str(file) in str(said.value)
    assert len(content) < 8 or content not in str(said.value)


@pytest.mark.parametrize("size", [24, 64])
def test_24_to_64_bytes_do(size, tmp_path):
    file = tmp_path / "keys"
    file.write_text("whsec_" + base64.b64encode(b"x" * size).decode())
    assert read_secrets(file) == [b"x" * size]


@pytest.mark.parametrize(
    "url",
    [
        "ftp://a/", "//a/", "a", "http://", "http:///x", "http://a b/", "http://u:p@a/",
        "http://u@a/", "http://a/#f", "http://a:0/", "http://a:99999/", "http://a/\n", "http://[a/",
        "https://a/" + "x" * 2000, "file:///etc/passwd",
    ],
)  # fmt: skip
def test_urls_that_are_refused(url):
    with pytest.raises(ValidationError):
        Address(url=url, secret_file="s")


@pytest.mark.parametrize("url", ["http://a/", "https://a.example:8443/b?c=d", "http://[::1]:80/"])
def test_urls_that_will_do(url):
    assert Address(url=url, secret_file="s").url == url
