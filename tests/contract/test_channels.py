"""Every channel file meets the same receiver, which answers as receivers do."""

from __future__ import annotations

import asyncio
import socket

import pytest
from fix_alerting import OLD_SECRET, SECRET, make_signal, receiver, view

from alerting import channels
from alerting import notice as notices
from alerting.book import Book
from alerting.ledger import Letter, Outcome
from alerting.model import Nature
from sizao import clock, http
from sizao.errors import BadInput

DEADLINE_S = 0.5
ANSWERS = [
    (200, Outcome.ACCEPTED),
    (202, Outcome.ACCEPTED),
    (204, Outcome.ACCEPTED),
    (400, Outcome.REFUSED),
    (401, Outcome.REFUSED),
    (404, Outcome.REFUSED),
    (410, Outcome.GONE),
    ((429, {"Retry-After": "7"}), Outcome.THROTTLED),
    (500, Outcome.SERVER_ERROR),
    (503, Outcome.SERVER_ERROR),
    ("hang", Outcome.UNKNOWN),
    ("reset", Outcome.UNKNOWN),
    ("drip", Outcome.UNKNOWN),
    ((301, {"Location": "/elsewhere"}), Outcome.REDIRECTED),
    ((308, {"Location": "/elsewhere"}), Outcome.REDIRECTED),
]


def _webhook(url, folder):
    secret = folder / "secret"
    secret.write_text(f"{SECRET}\n{OLD_SECRET}\n")
    return {"url": url, "secret_file": str(secret)}


# How to point a channel at the receiver: a new channel file needs a line here.
ADDRESS = {"webhook": _webhook}


@pytest.fixture(params=channels.names())
def name(request):
    return request.param


def letter(way):
    book = Book()
    transition = book.hear(make_signal(), Nature.REAL, clock.now_us())[0]
    (incident,) = book.newest.values()
    notice = notices.build(view(), incident, transition, list(incident.known.values()))
    body = way.render(notice, "zh", 480)
    return Letter(id="m" * 32, body=body.encode(), at_us=clock.now_us())


async def attempt(name, url, folder):
    async with http.Client() as client:
        way = channels.module(name).make(client)
        return await way.send(ADDRESS[name](url, folder), letter(way), DEADLINE_S)


@pytest.mark.parametrize(("said", "outcome"), ANSWERS)
async def test_every_answer_has_its_outcome(name, said, outcome, tmp_path):
    with receiver(lambda *_: said) as station:
        began_s = clock.monotonic_s()
        answer = await attempt(name, station.url, tmp_path)
        took_s = clock.monotonic_s() - began_s
        assert answer.outcome is outcome
        assert took_s < DEADLINE_S + 0.5
        assert len(station.got) == 1, "a redirect is not followed, nothing is repeated"
        if isinstance(said, int):
            assert answer.status == said


async def test_retry_after_is_handed_on(name, tmp_path):
    with receiver(lambda *_: (429, {"Retry-After": "7"})) as station:
        assert (await attempt(name, station.url, tmp_path)).retry_after_s == 7.0


async def test_nobody_there_is_unreachable(name, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    answer = await attempt(name, f"http://127.0.0.1:{port}/", tmp_path)
    assert answer.outcome is Outcome.UNREACHABLE
    assert answer.detail


async def test_what_is_no_address_is_an_answer_and_no_crash(name):
    async with http.Client() as client:
        way = channels.module(name).make(client)
        answer = await way.send({"nonsense": 1}, letter(way), DEADLINE_S)
    assert answer.outcome is Outcome.NO_ADDRESS


async def test_cancelled_it_leaves_nothing_behind(name, tmp_path):
    with receiver(lambda *_: "hang") as station:
        before = asyncio.all_tasks()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await attempt(name, station.url, tmp_path)
        assert asyncio.all_tasks() == before


def test_an_address_that_cannot_work_is_refused_at_import(name, tmp_path):
    where = ADDRESS[name]("http://127.0.0.1:1/", tmp_path)
    channels.module(name).check(where)
    (tmp_path / "secret").write_text("")
    with pytest.raises(BadInput):
        channels.module(name).check(where)


def test_the_body_is_at_most_20_kb(name):
    assert len(letter(channels.module(name).make(http.Client())).body) <= 20_000


def test_every_file_has_an_address_here():
    assert sorted(ADDRESS) == channels.names()
