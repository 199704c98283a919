"""A test build of `sizao` with one guard taken out: the product itself has no switch for that.

    python tests/chaos/guards.py GUARD bridge --config FILE        GUARD: a name below, or `none`;
                                                                 or a library that shall hang

Whatever a guard is made of must be there, else the build refuses to start: a guard that was moved
would otherwise be proved by a run that took out nothing.
"""

import asyncio
import sys

REQUEST_TIMEOUT_MS = 60_000  # in every build: a directed run holds Kafka's answers back
HANGS_NOW = "this build hangs from now on"
WORKS_FIRST = 20  # calls, before a library hangs


def acknowledge_after_kafka() -> None:
    """PUBACK as soon as a batch is planned."""
    from ingest.lane import LaneLoop

    settle, write = LaneLoop._settle, LaneLoop._write

    async def early(self, effects) -> None:
        settle(self, effects)
        await write(self, effects)

    def once(self, effects) -> None:
        if not effects.records:
            settle(self, effects)

    LaneLoop._write, LaneLoop._settle = early, once


def connection_epoch() -> None:
    """All connections count as one, so that a late PUBACK goes out on whichever is open."""
    from ingest.mqtt.client import Connection

    begin = Connection.__init__

    def same(self, settings, *, epoch: int, **rest) -> None:
        assert epoch
        begin(self, settings, epoch=1, **rest)

    Connection.__init__ = same


def compare_and_set() -> None:
    """The archive moves its offsets from wherever they stand."""
    from ingest import archive_store

    guarded = "AND next_offset = %s"
    assert guarded in archive_store._MOVE
    anywhere = archive_store._MOVE.replace(guarded, "AND next_offset >= 0 * %s::bigint")
    archive_store._MOVE = anywhere


def dedupe() -> None:
    """Nothing counts as delivered again."""
    from ingest import archive_batch
    from ingest.redelivered import Parted

    assert archive_batch.part
    archive_batch.part = lambda frames: Parted(plain=list(frames), again=[], untimed=0)


def hang_bridge() -> None:
    """The producer's library never returns, after a while: aiokafka#1101."""
    from sizao.kafka import Producer

    Producer.send = _hanging(Producer.send)


def hang_archive() -> None:
    """The consumer's library never brings anything again: aiokafka#1154."""
    from ingest import archive

    class Stuck(archive.Reader):
        fetch = _hanging(archive.Reader.fetch)

    archive.Reader = Stuck


def _hanging(call):
    calls = 0

    async def hang(self, *given, **named):
        nonlocal calls
        calls += 1
        if calls > WORKS_FIRST:
            sys.stderr.write(f"{HANGS_NOW}\n")
            await asyncio.Event().wait()
        return await call(self, *given, **named)

    return hang


HANGS = {one.__name__: one for one in (hang_bridge, hang_archive)}
GUARDS = {
    one.__name__: one
    for one in (acknowledge_after_kafka, connection_epoch, compare_and_set, dedupe)
}


def main() -> None:
    """Take the guard out, then be `sizao`."""
    from sizao import cli, kafka

    assert kafka._REQUEST_TIMEOUT_MS
    kafka._REQUEST_TIMEOUT_MS = REQUEST_TIMEOUT_MS
    guard = sys.argv.pop(1)
    if guard != "none":
        (GUARDS | HANGS)[guard]()
    cli.main()


if __name__ == "__main__":
    main()
