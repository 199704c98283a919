"""The door of alert for what is handed over: who gets in, what is answered, what is stored."""

import asyncio
import base64
import socket

import pytest
from fix_alerting import make_signal
from fix_handover import KEY, SECRET

from alerting import handover as doors
from sizao import clock, signal
from sizao import http as signing
from sizao import service as services
from sizao.errors import Raced, Refused, Retriable


async def test_signals_are_stored_before_the_answer(door):
    one, two = make_signal(1), make_signal(2)
    assert await door.post(one, two) == (200, {"stored": 2, "refused": 0})
    assert door.store.taken == [one, two]
    assert door.service.progress["handover.in"]
    assert await asyncio.to_thread(door.counted, "stored") == 1


async def test_nothing_is_answered_before_it_is_stored(door):
    door.store.gate.clear()
    async with asyncio.TaskGroup() as group:
        asked = group.create_task(door.post(make_signal(1)))
        await asyncio.sleep(0.1)  # an answer that came too early would be here by now
        assert not asked.done()
        door.store.gate.set()
    assert asked.result()[0] == 200


@pytest.mark.parametrize(
    ("more", "fault"),
    [
        ({"key": b"x" * 32}, "another secret"),
        ({"at_s": 1_700_000_000}, "clocks"),
        ({"at_s": 99_999_999_999_999}, "clocks"),
    ],
)
async def test_a_stranger_gets_401_and_why(door, more, fault):
    status, said = await door.post(make_signal(1), **more)
    assert status == 401
    assert fault in said["fault"]
    assert door.store.taken == []
    assert await asyncio.to_thread(door.counted, "unauthorized") == 1


async def test_without_a_signature_401(door):
    body = signal.encode_handed([make_signal(1)])
    status, said = await asyncio.to_thread(door.ask, body, {})
    assert (status, said["fault"][:10]) == (401, "not signed")


async def test_a_body_that_was_changed_on_its_way_is_a_strangers(door):
    body = signal.encode_handed([make_signal(1)])
    headers = signing.signed_headers([KEY], "one", clock.now_us() // 1_000_000, body)
    status, _ = await asyncio.to_thread(door.ask, body.replace(b"alarm", b"early"), headers)
    assert status == 401


async def test_during_a_rotation_either_secret_does(door):
    fresh = b"n" * 32
    door.secret_file.write_text(f"{SECRET}whsec_{base64.b64encode(fresh).decode()}\n")
    assert (await door.post(make_signal(1), key=fresh))[0] == 200
    assert (await door.post(make_signal(2)))[0] == 200


async def test_without_a_readable_secret_503(door):
    door.secret_file.unlink()
    status, said = await door.post(make_signal(1))
    assert status == 503
    assert "cannot be read" in said["fault"]
    assert await asyncio.to_thread(door.counted, "no_secret") == 1


async def test_a_body_beyond_the_bound_is_not_read(door):
    size = {"Content-Length": str(signal.HANDED_BYTES_MAX + 1)}
    status, said = await asyncio.to_thread(door.ask, b"", size, length=False)
    assert (status, said) == (413, {"fault": f"{signal.HANDED_BYTES_MAX} bytes fit"})
    assert await asyncio.to_thread(door.counted, "too_large") == 1


@pytest.mark.parametrize("length", [{}, {"Content-Length": "-1"}, {"Content-Length": "1e3"}])
async def test_a_body_without_a_length_is_not_read(door, length):
    status, _ = await asyncio.to_thread(door.ask, b"", length, length=False)
    assert status == 411


async def test_what_is_no_hand_over_is_400(door):
    status, _ = await door.post(body=b'{"version": 9, "signals": []}')
    assert status == 400
    assert await asyncio.to_thread(door.counted, "malformed") == 1


async def test_more_than_four_at_once_are_sent_away(door):
    door.store.gate.clear()
    async with asyncio.TaskGroup() as group:
        asked = [group.create_task(door.post(make_signal(n))) for n in range(doors.AT_ONCE)]
        async with asyncio.timeout(10):
            while door.service.doors and _free(door):  # noqa: ASYNC110 - threads fill the room
                await asyncio.sleep(0.005)
        status, _ = await door.post(make_signal(9))
        assert status == 429
        door.store.gate.set()
    assert {task.result()[0] for task in asked} == {200}
    assert (await door.post(make_signal(9)))[0] == 200


async def test_strangers_who_drip_their_bodies_hold_no_place(door):
    said = b"POST %s HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nx" % (
        signal.HANDED_PATH.encode()
    )
    dripping = [socket.create_connection(("127.0.0.1", door.page.port)) for _ in range(8)]
    try:
        for one in dripping:
            one.sendall(said)
        # Behind them in the queue of connections: by its answer all of them have been taken on.
        await asyncio.to_thread(door.scrape)
        assert (await door.post(make_signal(1)))[0] == 200
    finally:
        for one in dripping:
            one.close()


def _free(door):
    return door.service.doors[signal.HANDED_PATH].__self__._room._value


async def test_while_the_store_is_away_503_and_then_it_is_stored(door):
    door.store.faults = [Retriable("the database is away")]
    status, said = await door.post(make_signal(1))
    assert (status, said) == (503, {"fault": "the database is away"})
    assert (await door.post(make_signal(1)))[0] == 200


async def test_a_store_that_hangs_ends_with_503_at_the_deadline(door, monkeypatch):
    monkeypatch.setattr(doors, "DEADLINE_S", 0.05)
    door.store.gate.clear()
    status, said = await door.post(make_signal(1))
    assert status == 503
    assert "not stored within" in said["fault"]


async def test_a_race_with_the_log_is_run_again(door):
    door.store.faults = [Raced("opened by the consumer")]
    assert (await door.post(make_signal(1)))[0] == 200


async def test_one_that_the_store_never_takes_costs_its_neighbour_nothing(door):
    bad = make_signal(1)

    def refuse(items):
        return Refused("no") if any(one.signal.id == bad.id for one in items) else None

    door.store.faults = [refuse] * 4
    assert await door.post(bad, make_signal(2)) == (200, {"stored": 1, "refused": 1})
    assert [one.device for one in door.store.taken] == [2]


async def test_one_that_the_store_takes_without_its_evidence_is_stored_so(door):
    door.store.faults = [Refused("jsonb"), Refused("jsonb")]
    assert (await door.post(make_signal(1)))[0] == 200
    assert [one.evidence for one in door.store.taken] == [{}]


async def test_connections_are_bounded_in_number_and_time(door, monkeypatch):
    monkeypatch.setattr(services, "_HTTP_WHOLE_S", 0.2)
    idle = [socket.create_connection(("127.0.0.1", door.page.port)) for _ in range(40)]
    try:

        def cut(one):
            one.settimeout(10)
            return one.recv(1) == b""

        # Those beyond the bound are cut at once, the others when their time is over.
        assert all(await asyncio.to_thread(lambda: [cut(one) for one in idle]))
    finally:
        for one in idle:
            one.close()
    assert (await door.post(make_signal(1)))[0] == 200
