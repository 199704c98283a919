"""The broker's counter of dropped messages: each is news once, over its restarts and ours."""

import asyncio

import pytest

from ingest import broker_watch
from ingest.broker import DROPPED, STORED, UPTIME, Dropped, Kept, kept_of, number_of
from ingest.broker_watch import BrokerWatch
from ingest.mqtt.client import Batch
from ingest.mqtt.settings import MqttSettings
from sizao import log
from sizao.metrics import Metrics
from sizao.service import Service
from sizao.signal import Tier
from sizao.system.board import Board

T0 = 1_772_352_000_000_000
S = 1_000_000


class Watch:
    """A watcher as the loop drives it; `told`: the log has what was said."""

    def __init__(self, kept=None):
        self.dropped = Dropped(kept)
        self.stands = False

    def hears(self, dropped, *, at_s, booted_s=0, connected=False, told=True):
        """What it says: how many people are told of, None for nothing."""
        one = self.dropped
        if connected:
            one.connected()
        one.hear(UPTIME, at_s - booted_s, T0 + at_s * S)
        one.hear(DROPPED, dropped, T0 + at_s * S)
        said = None
        if one.grown():
            said, self.stands = one.said - one.base, True
        one.settle(stands=self.stands, told=told)
        return said

    def over(self):
        self.stands = False
        self.dropped.settle(stands=False, told=False)


def test_what_was_dropped_before_we_first_came_is_no_news():
    watch = Watch()
    assert watch.hears(500, at_s=100, connected=True) is None
    assert watch.hears(540, at_s=105) == 40
    assert watch.hears(540, at_s=110) is None
    assert watch.hears(560, at_s=115) == 60


def test_after_it_is_over_only_what_is_new_counts():
    watch = Watch(Kept(500, T0))
    assert watch.hears(540, at_s=105, connected=True) == 40
    watch.over()
    assert watch.hears(541, at_s=900) == 1


def test_who_was_away_finds_out_when_it_comes_back():
    first = Watch(Kept(0, T0))
    assert first.hears(7, at_s=50, connected=True) == 7
    assert first.dropped.kept.dropped == 7
    assert Watch(first.dropped.kept).hears(20, at_s=500, connected=True) == 13


def test_what_the_log_does_not_have_is_not_kept_and_said_again():
    first = Watch(Kept(0, T0))
    assert first.hears(7, at_s=50, connected=True, told=False) == 7
    assert first.dropped.kept == Kept(0, T0)
    assert Watch(first.dropped.kept).hears(7, at_s=90, connected=True) == 7


@pytest.mark.parametrize("after", [3, 7, 9])
def test_a_broker_that_was_started_again_counts_from_nothing(after):
    watch = Watch(Kept(0, T0))
    assert watch.hears(7, at_s=200, connected=True) == 7
    watch.over()
    assert watch.hears(after, at_s=400, booted_s=390, connected=True) == after
    away = Watch(Kept(7, T0))
    assert away.hears(after, at_s=400, booted_s=390, connected=True) == after


def test_a_start_alone_is_no_news_and_a_connection_anew_neither():
    watch = Watch(Kept(7, T0))
    assert watch.hears(7, at_s=100, connected=True) is None
    assert watch.hears(0, at_s=400, booted_s=390, connected=True) is None
    assert watch.hears(0, at_s=410, booted_s=390, connected=True) is None
    assert watch.dropped.kept == Kept(0, T0 + 390 * S)


def test_one_number_alone_says_nothing():
    one = Dropped(Kept(0, T0))
    one.connected()
    one.hear(DROPPED, 9, T0)
    one.hear(STORED, 5, T0)
    assert not one.grown()
    assert one.settle(stands=False, told=False) is None


@pytest.mark.parametrize(
    ("payload", "number"),
    [
        (b"17", 17),
        (b"17 seconds", 17),
        (b"", None),
        (b"-1", None),
        (b"1e9", None),
        (b"9" * 40, None),
    ],
)
def test_only_counts_are_numbers(payload, number):
    assert number_of(payload) == number


@pytest.mark.parametrize("text", ["", "1", "1 2 3", "a b", "-1 2"])
def test_a_damaged_file_is_none(text):
    assert kept_of(text) is None
    assert kept_of("7 12") == Kept(7, 12)


class Cut:
    """A connection that is taken, and cut at once."""

    def __init__(self, _settings, **_):
        self.dead = ""

    async def open(self):
        pass

    def read(self, _packets, _bytes):
        self.dead = "broker: quota exceeded"
        return Batch([], 0, 0)

    def ignore(self, *_):
        pass

    subscribe = acknowledge = tend = ignore

    def flush(self):
        pass

    close = flush


async def test_a_broker_that_takes_each_connection_and_cuts_it_is_one_trouble(
    monkeypatch, tmp_path
):
    said = []
    service = Service("bridge", log.setup("bridge"), Metrics("bridge"))
    for name, value in (("Connection", Cut), ("UNWATCHED_S", 0.02)):
        monkeypatch.setattr(broker_watch, name, value)
    for name in ("_TICK_S", "_RETURN_S"):
        monkeypatch.setattr(broker_watch, name, 0.001)
    say = Board.say

    def noted(board, rule, subject, tier, *rest):
        said.append((tier, say(board, rule, subject, tier, *rest)))

    monkeypatch.setattr(Board, "say", noted)
    async with asyncio.TaskGroup() as group:
        watch = group.create_task(BrokerWatch(service, MqttSettings(), tmp_path).run())
        async with asyncio.timeout(10):
            while len(said) < 20:  # noqa: ASYNC110 - a plain list
                await asyncio.sleep(0.001)
        watch.cancel()
    assert said == [(Tier.ALARM, True)] + [(Tier.ALARM, False)] * (len(said) - 1)
