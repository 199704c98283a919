"""Webhook: Standard Webhooks headers around a CloudEvents 1.0 JSON body.

The body is both: CloudEvents attributes, and `type`, `timestamp`, `data` of Standard Webhooks. Any
receiver verifies it with existing code. `webhook-id` is the message's id and stays over all
repeats; `webhook-timestamp` is of the attempt. Only 2xx is success; redirects are not followed.
"""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

import msgspec
from pydantic import BaseModel, ConfigDict, ValidationError, field_validator

from alerting import notice as notices
from alerting import texts
from alerting.ledger import DETAIL_CHARS_MAX, Answer, Letter, Outcome, outcome_of, retry_after_s
from alerting.notice import Notice
from sizao import http
from sizao.errors import BadInput, Retriable
from sizao.http import read_secrets, signed_headers

BODY_BYTES_MAX = 20_000
URL_CHARS_MAX = 2_000


class Address(BaseModel):
    """What a responder's entry gives: where to, and the file with the signing secrets.

    The file holds one secret a line (`whsec_` and base64 of 24 to 64 bytes); during a rotation the
    new one and the old, and every page is signed with each.
    """

    model_config = ConfigDict(extra="forbid")

    url: str
    secret_file: str

    @field_validator("url")
    @classmethod
    def _url(cls, url: str) -> str:
        try:
            parts = urlsplit(url)
            usable = parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0
        except ValueError:
            usable = False
        if not usable or len(url) > URL_CHARS_MAX or not url.isprintable() or " " in url:
            raise ValueError("expected http://host/path or https://host/path")
        if parts.username is not None or parts.password is not None or parts.fragment:
            raise ValueError("a user, password or fragment in the URL would end in the database")
        return url


def check(address: dict[str, object]) -> None:
    """Raise BadInput when a page to this address could not even be signed."""
    read_secrets(Path(Address.model_validate(address).secret_file))


class Webhook:
    """The channel."""

    def __init__(self, client: http.Client) -> None:
        """`client` is the caller's to close."""
        self._client = client

    def render(self, notice: Notice, language: str, utc_offset_min: int) -> str:
        """The body, below 20 kB: devices are left out from the end until it fits."""
        data = notices.facts(notice)
        data["language"] = language
        data["text"] = {name: texts.text(notice, name, utc_offset_min) for name in texts.LANGUAGES}
        devices = data["devices"]
        assert isinstance(devices, list)
        body = msgspec.json.encode(_event(notice, data))
        while len(body) > BODY_BYTES_MAX and devices:
            del devices[len(devices) // 2 :]
            body = msgspec.json.encode(_event(notice, data))
        if len(body) > BODY_BYTES_MAX:
            data["evidence"], data["site"] = {}, {"id": notice.incident.key.site}
            body = msgspec.json.encode(_event(notice, data))
        assert len(body) <= BODY_BYTES_MAX, "what is left has bounds far below"
        return body.decode()

    async def send(self, address: dict[str, object], letter: Letter, deadline_s: float) -> Answer:
        """One attempt. Cancelled, the receiver may or may not have it; raises nothing else."""
        try:
            where = Address.model_validate(address)
            keys = read_secrets(Path(where.secret_file))
        except ValidationError:
            return Answer(outcome=Outcome.NO_ADDRESS, detail="the stored address is no webhook's")
        except BadInput as error:
            return Answer(outcome=Outcome.NO_ADDRESS, detail=str(error)[:DETAIL_CHARS_MAX])
        timestamp_s = letter.at_us // 1_000_000
        headers = {
            "content-type": "application/cloudevents+json; charset=utf-8",
            "user-agent": "sizao",
            **signed_headers(keys, letter.id, timestamp_s, letter.body),
        }
        if letter.dedup_unknown:
            headers["sizao-dedup"] = "unknown"
        try:
            response = await self._client.post(
                where.url, body=letter.body, headers=headers, deadline_s=deadline_s
            )
        except http.NoConnection as error:
            return Answer(outcome=Outcome.UNREACHABLE, detail=notices.clean(str(error)))
        except Retriable as error:
            return Answer(outcome=Outcome.UNKNOWN, detail=notices.clean(str(error)))
        return Answer(
            outcome=outcome_of(response.status),
            status=response.status,
            retry_after_s=retry_after_s(response.headers.get("retry-after")),
        )


def _event(notice: Notice, data: dict[str, object]) -> dict[str, object]:
    transition = notice.transition
    return {
        "specversion": "1.0",
        "id": transition.id,
        "source": notices.CE_SOURCE,
        "type": notices.event_type(transition.what),
        "subject": transition.incident,
        "time": notices.iso(transition.event_us),
        "timestamp": notices.iso(transition.at_us),
        "datacontenttype": "application/json",
        "dataschema": notices.CE_SCHEMA,
        "data": data,
    }


def make(client: http.Client) -> Webhook:
    """The channel of this file."""
    return Webhook(client)
