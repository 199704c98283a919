"""Who keeps what alert decides: PostgreSQL, or the ledger on the local disk while that is away.

PostgreSQL counts as away when a call of ours has failed for AWAY_S, whatever the reason: a server
that is gone, one that holds the connection and says nothing, a lock that nobody lets go, a schema
that is broken. Then everything goes on in the ledger, by the same code over what is mirrored there,
until all of it is merged back. A start is a return too: it begins as if PostgreSQL had been away.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import TypeVar

from alerting import mirror, outbox, reconcile, store
from alerting.disk_ledger import DiskLedger, LedgerFull, open_ledger
from alerting.fold import Changes, Compose, Item, Move, OffsetMoved, Partition, Taken
from alerting.ledger import Answer, MessageState, Next
from alerting.outbox import Claim, Record
from alerting.series import LedgerFault, Series
from sizao import clock
from sizao.db import Connection, DatabaseSettings, Pool, connected, enduring, translated
from sizao.errors import Permanent, Raced, Refused, Retriable, TooSlow
from sizao.service import Service

AWAY_S = 2.0
ANSWER_S = 2.0
"""Of one statement: what takes longer is cut. A batch has statements of 500 rows, 0.1 s each."""
_RETRY_S = 0.2
_RENEW_S = 2.0
_RETURN_S = 1.0
_MERGE_ANSWER_S = 12.0  # beyond the statement's own time-out: nobody waits for it
_FLIP_S = 10.0  # decisions wait so long at most while the ledger hands over
_DISK_S = 5.0
_PENDING_MAX = 100  # batches on their way to the mirror; behind a slow disk it is made anew
_SAY_S = 60.0
_NO_MOVES: Mapping[Partition, Move] = MappingProxyType({})
Result = TypeVar("Result")


class NoDisk(Retriable):
    """The ledger does not serve: there is none, its disk is full, or it does not answer."""


class Keeper:
    """One process' store, whichever it is at the time."""

    def __init__(
        self,
        *,
        service: Service,
        database: DatabaseSettings,
        pool: Pool,
        ledger: tuple[Path, int],
        holder: str,
        compose: Compose,
        series: Series,
        news: Callable[[], None],
    ) -> None:
        """`ledger`: its file and bound in MiB. `holder` names this process' claims. `news` is told
        that something may have to be sent or published. Nothing is opened yet.
        """
        self._service = service
        self._database = database
        self._pool = pool
        self._place = ledger
        self._holder = holder
        self._compose = compose
        self._series = series
        self._news = news
        self._ledger: DiskLedger | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="ledger")
        self._turn = asyncio.Lock()  # nothing is decided while the ledger hands over
        self._pending = 0
        self._told = 0  # batches and ends mirrored: a look that began before one is stale
        self._whole = True
        self._said_s = 0.0
        self.away = True
        service.needs("database")

    # ---- life

    async def open(self) -> None:
        """Return at once, or serve on the ledger. With neither, as at a first start, wait."""
        path, size_mib = self._place
        try:
            self._ledger = await self._on_thread(partial(open_ledger, path, size_mib))
        except (sqlite3.Error, OSError) as error:
            self._fault(f"{path}: {error}; without a ledger a fire waits for PostgreSQL")
        if await self._returned():
            return
        if self._ledger is not None and await self._disk(lambda one: one.primed):
            self._left("PostgreSQL was away at the start")
        else:
            await self._service.patiently("database", self._return)

    async def run(self) -> None:
        """Mirror while PostgreSQL is there, and come back to it. Cancelled: nothing is lost."""
        try:
            while True:
                await asyncio.sleep(_RETURN_S if self.away else _RENEW_S)
                if self.away:
                    await self._returned()
                elif self._ledger is not None:
                    await self._renew()
                await self._gauge()
        finally:
            self._thread.shutdown(wait=False)

    async def _gauge(self) -> None:
        if self._ledger is None:
            return
        try:
            waiting, size = await self._disk(lambda one: (one.waiting(), one.size()))
        except Retriable as error:
            self._fault(str(error))
            return
        self._series.ledger_waiting.set(waiting)
        self._series.ledger_bytes.set(size)
        if self.away:
            self._service.facts["ledger"] = {"in_force": True, "waiting": waiting}
        elif not self._whole:
            self._service.facts.pop("ledger", None)

    # ---- the store, for consumers and for whoever hands signals over

    async def take(
        self, items: Sequence[Item], moves: Mapping[Partition, Move] = _NO_MOVES
    ) -> Taken:
        """Store one batch, once, and count it. Safe to repeat: what is stored already changes
        nothing. Cancelled: stored whole or not at all.

        Raises Refused for what PostgreSQL never takes, OffsetMoved when it was stored by another,
        Retriable while neither PostgreSQL nor the disk serves.
        """

        def on_disk(ledger: DiskLedger) -> tuple[Changes, bool]:
            changes = ledger.take(moves, items, clock.now_us(), self._compose)
            return changes, False

        changes, mirrored = await self._either(partial(self._store, items, moves), on_disk)
        if mirrored:
            self._mirror(partial(DiskLedger.mirror, changes=changes))
        else:
            self._series.ledger_taken.inc(len(changes.taken.recorded))
        self._series.took(changes.taken)
        if changes.taken.transitions:
            self._news()
        return changes.taken

    async def _store(
        self, items: Sequence[Item], moves: Mapping[Partition, Move], connection: Connection
    ) -> tuple[Changes, bool]:
        try:
            again = partial(store.take, connection, moves, items, clock.now_us(), self._compose)
            try:
                return await again(), True
            except Raced:  # another alert has opened the same incident: now it is there to join
                return await again(), True
        except (Refused, OffsetMoved):
            raise
        except TooSlow as error:
            if len(items) > 1:
                raise Refused(f"too much for one statement: {error}") from error
            raise
        except Permanent as error:
            raise Retriable(f"not the records' fault, nothing is skipped: {error}") from error

    async def offsets(self) -> dict[Partition, tuple[int, int]]:
        """Next offset and newest arrival (ms) of every partition ever consumed."""
        return await self._either(store.offsets, DiskLedger.offsets)

    async def probe(self) -> None:
        """Whether PostgreSQL answers the pool. Raises Retriable."""
        with translated():
            async with self._pool.connection() as connection:
                await connection.execute("SELECT 1")

    # ---- what leaves the house, for delivery and publishing

    async def claim(self, *, lease_us: int, limit: int, under_way: Collection[str]) -> list[Claim]:
        """As `alerting.outbox.claim`. `under_way`: what this process is sending already."""
        now_us = clock.now_us()
        bounds = {"now_us": now_us, "lease_us": lease_us, "limit": limit}

        async def on_database(connection: Connection) -> list[Claim]:
            with enduring():
                return await outbox.claim(connection, self._holder, **bounds)

        def on_disk(ledger: DiskLedger) -> list[Claim]:
            return ledger.claim(self._holder, under_way=under_way, **bounds)

        return await self._either(on_database, on_disk)

    async def record(self, done: Claim, answer: Answer) -> Next:
        """As `alerting.outbox.record`, wherever `done` was claimed."""
        now_us = clock.now_us()

        async def on_database(connection: Connection) -> tuple[Next, bool]:
            with enduring():
                return await outbox.record(connection, done, self._holder, answer, now_us), True

        def on_disk(ledger: DiskLedger) -> tuple[Next, bool]:
            return ledger.record(done, answer, now_us), False

        following, mirrored = await self._either(on_database, on_disk)
        if mirrored and following.state is not MessageState.DUE:
            self._mirror(partial(DiskLedger.ended, message=done.id))
        return following

    async def release(self) -> None:
        """As `alerting.outbox.release`."""
        now_us = clock.now_us()

        async def on_database(connection: Connection) -> None:
            with enduring():
                await outbox.release(connection, self._holder, now_us)

        await self._either(on_database, lambda one: one.release(self._holder, now_us))

    async def drain(self, publish: Callable[[list[Record]], Awaitable[None]]) -> int:
        """As `alerting.outbox.drain`. Its failures say nothing about PostgreSQL: it waits for Kafka
        inside. From the ledger a record may come twice, under the same id.
        """
        if not self.away:
            with enduring():
                async with self._pool.connection() as connection:
                    return await outbox.drain(connection, publish)
        records = await self._disk(DiskLedger.unpublished)
        if records:
            await publish(records)
            await self._disk(partial(DiskLedger.published, records=records))
        return len(records)

    async def depth(self) -> tuple[int, int, float]:
        """As `alerting.outbox.depth`."""
        now_us = clock.now_us()
        return await self._either(
            partial(outbox.depth, now_us=now_us), lambda one: one.depth(now_us)
        )

    # ---- which of the two

    async def _either(
        self,
        on_database: Callable[[Connection], Awaitable[Result]],
        on_disk: Callable[[DiskLedger], Result],
    ) -> Result:
        began_s = clock.monotonic_s()
        while True:
            if self.away:
                async with self._turn:
                    if self.away:
                        return await self._disk(on_disk)
            try:
                with translated():
                    async with self._pool.connection() as connection:
                        return await on_database(connection)
            except Retriable as error:
                if self._ledger is None:
                    raise
                if clock.monotonic_s() - began_s >= AWAY_S:
                    self._left(str(error))
                else:
                    await asyncio.sleep(_RETRY_S)

    async def _on_thread(self, call: Callable[[], Result]) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self._thread, call)

    async def _disk(self, call: Callable[[DiskLedger], Result]) -> Result:
        """One call of the ledger, in turn. A disk that hangs is left waiting."""
        if self._ledger is None:
            raise NoDisk("PostgreSQL is away, and there is no ledger")
        try:
            async with asyncio.timeout(_DISK_S):
                return await self._on_thread(partial(call, self._ledger))
        except TimeoutError as error:
            self._fault("the disk did not answer")
            raise NoDisk(f"the ledger's disk did not answer within {_DISK_S:g} s") from error
        except (Retriable, sqlite3.Error) as error:
            self._fault(str(error), full=isinstance(error, LedgerFull))
            raise NoDisk(str(error)) from error

    def _left(self, why: str) -> None:
        if not self._service.facts.get("database_away"):
            self._service.logger.warning("PostgreSQL is away: the ledger decides", error=why)
        self.away = True
        self._service.ready["database"] = False
        self._service.facts["database_away"] = why
        self._service.facts["ledger"] = {"in_force": True}
        self._series.away.set(1)

    def _fault(self, text: str, *, full: bool = False) -> None:
        """Counted each time, said in `/readyz`, logged at most once a minute."""
        self._series.ledger_faults.add(LedgerFault.FULL if full else LedgerFault.DISK)
        self._service.facts["ledger"] = {"in_force": self.away, "fault": text}
        if clock.monotonic_s() - self._said_s >= _SAY_S or not self._said_s:
            self._said_s = clock.monotonic_s()
            self._service.logger.error("ledger", fault=text)

    # ---- mirroring

    def _mirror(self, call: Callable[[DiskLedger], None]) -> None:
        """Behind the normal path, which neither waits for it nor fails with it."""
        if self._ledger is None:
            return
        self._told += 1
        if self._whole or self._pending >= _PENDING_MAX:
            self._whole = True  # a gap would never close: offsets behind it would hide it
            return
        self._pending += 1
        loop = asyncio.get_running_loop()
        job = self._thread.submit(call, self._ledger)

        def done(ended: Future[None]) -> None:
            with contextlib.suppress(RuntimeError):  # the loop has ended with the process
                loop.call_soon_threadsafe(self._mirrored, ended)

        job.add_done_callback(done)

    def _mirrored(self, job: Future[None]) -> None:
        self._pending -= 1
        error = None if job.cancelled() else job.exception()
        if error is not None:
            self._whole = True
            self._fault(str(error), full=isinstance(error, LedgerFull))

    async def _renew(self) -> None:
        """What changed in PostgreSQL without us. A look beside which we stored something is stale;
        what it would have brought comes with the next.
        """
        told = self._told
        try:
            known = await self._disk(DiskLedger.known)
            with enduring():
                async with self._pool.connection() as connection:
                    seen = await mirror.look(connection, known, clock.now_us(), whole=self._whole)
            if told == self._told and not self.away:
                if self._whole:
                    await self._disk(DiskLedger.handed_over)
                await self._disk(partial(DiskLedger.renew, seen=seen))
                self._whole = False
        except Retriable:
            return  # told where it matters: by whoever stores, or by the ledger itself

    # ---- coming back

    async def _returned(self) -> bool:
        try:
            await self._return()
        except Retriable as error:
            if self._service.facts.get("database_away"):
                self._service.facts["database_away"] = str(error)
            return False
        return True

    async def _return(self) -> None:
        """Merge, hand over, mirror anew; then PostgreSQL keeps everything again. Killed anywhere,
        it is begun again. Raises Retriable.

        A ledger whose disk fails is left behind: PostgreSQL's own offsets stand where it went away,
        so Kafka says everything again, and the same ids come of it.
        """
        with enduring():
            async with connected(
                self._database, f"{self._service.name}-merge", answer_s=_MERGE_ANSWER_S
            ) as connection:
                await connection.execute("SELECT 1 FROM alert_offset LIMIT 1")
                try:
                    while self._ledger is not None and await self._merge(connection):
                        pass
                    async with self._turn, asyncio.timeout(_FLIP_S):
                        if self._ledger is not None:
                            await self._flip(connection)
                        self.away = False
                except NoDisk:
                    self._whole, self.away = True, False
                except TimeoutError as error:
                    raise Retriable(f"not merged within {_FLIP_S:g} s") from error
        if self._service.facts.pop("database_away", None):
            self._service.logger.info("PostgreSQL is back, the ledger is merged")
        self._service.ready["database"] = True
        self._series.away.set(0)
        self._news()

    async def _merge(self, connection: Connection) -> int:
        what = await self._disk(lambda one: reconcile.told(one.ask))
        if not what.signals:
            return 0
        now_us = clock.now_us()
        refused = await reconcile.merge(connection, what, self._compose, self._holder, now_us)
        for signal in refused:
            self._service.logger.error("refused by the database, passed over", signal=signal)
        self._series.ledger_refused.inc(len(refused))
        await self._disk(partial(DiskLedger.merged, signals=[str(r["id"]) for r in what.signals]))
        return len(what.signals)

    async def _flip(self, connection: Connection) -> None:
        """The last of it, while nothing is decided."""
        while await self._merge(connection):
            pass
        delivery = await self._disk(lambda one: one.ask(reconcile.DELIVERY))
        attempts = await self._disk(lambda one: one.ask(reconcile.ATTEMPTS))
        await reconcile.hand_over(
            connection,
            delivery=delivery,
            attempts=attempts,
            offsets=await self._disk(DiskLedger.offsets),
            holder=self._holder,
            now_us=clock.now_us(),
        )
        await self._disk(DiskLedger.handed_over)
        seen = await mirror.look(connection, mirror.Known(), clock.now_us(), whole=True)
        await self._disk(partial(DiskLedger.renew, seen=seen))
        self._whole = False
