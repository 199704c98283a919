"""What chatty libraries say is bounded, and what was held back is counted."""

import io
import json
import logging

from sizao import clock, log


def lines(out):
    return [json.loads(line)["event"] for line in out.getvalue().splitlines()]


def test_a_library_that_writes_180_lines_a_second_gets_one_in_ten(monkeypatch):
    now_s = 100.0
    monkeypatch.setattr(clock, "monotonic_s", lambda: now_s)
    before = logging.getLogger().handlers[:]
    out = io.StringIO()
    try:
        log.setup("test", out)
        chatty, other = logging.getLogger("aiokafka.conn"), logging.getLogger("asyncio")
        for number in range(1_800):
            now_s = 100.0 + number / 180
            chatty.error("no connection to %s", "broker:9092")
        other.error("another library is not held back by it")
        now_s = 110.0
        chatty.error("no connection to %s", "broker:9092")
    finally:
        logging.getLogger().handlers[:] = before
    assert lines(out) == [
        "no connection to broker:9092",
        "another library is not held back by it",
        "no connection to broker:9092 [1799 more held back]",
    ]
