"""Who keeps what alert decides: PostgreSQL, or the ledger on the local disk while that is away.

PostgreSQL counts as away when a call of ours has failed for AWAY_S, whatever the reason: a server
that is gone, one that holds the connection and says nothing, a lock that nobody lets go, a schema
that is broken. Then everything goes on in the ledger, by the same code over what is mirrored there,
until all of it is merged back. A start is a return too: it begins as if PostgreSQL had been away.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import TypeVar

from alerting import mirror, outbox, reconcile, store
from alerting.disk_ledger import DiskLedger
from alerting.disk_thread import Disk, NoDisk
from alerting.fold import Changes, Item, Move, OffsetMoved, Partition, Taken, World
from alerting.ledger import Answer, MessageState, Next
from alerting.outbox import Claim, Record
from alerting.rows import Row
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
_FLIP_S = 3.0  # decisions wait so long at most while the ledger hands over
_NO_MOVES: Mapping[Partition, Move] = MappingProxyType({})
Result = TypeVar("Result")


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
        compose: World,
        series: Series,
        news: Callable[[], None],
    ) -> None:
        """`ledger`: its file and bound in MiB. `holder` names this process' claims. `news` is told
        that something may have to be sent or published. Nothing is opened yet.
        """
        self._service = service
        self._database = database
        self._pool = pool
        self._disk = Disk(*ledger, service=service, series=series)
        self._holder = holder
        self._compose = compose
        self._series = series
        self._news = news
        self._turn = asyncio.Lock()  # nothing is decided while the ledger hands over
        self.away = True
        service.needs("database")

    # ---- life

    async def open(self) -> None:
        """Return within AWAY_S, or serve on the ledger: a table that somebody holds, a name server
        that hangs, or much to merge, is no reason to wait. Without a ledger, wait.
        """
        await self._disk.open()
        if not self._disk.primed:
            await self._service.patiently("database", self._return)
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(AWAY_S):
                if await self._returned():
                    return
        self._left("PostgreSQL was away at the start")

    async def run(self) -> None:
        """Mirror while PostgreSQL is there, and come back to it. Cancelled: nothing is lost."""
        try:
            while True:
                if self.away:
                    await asyncio.sleep(_RETURN_S)
                    await self._returned()
                elif not self._disk.there:
                    await asyncio.sleep(_RENEW_S)
                    await self._disk.open()
                else:
                    await self._renew()
                    await asyncio.sleep(_RENEW_S)
                await self._gauge()
        finally:
            self._disk.close()

    async def _gauge(self) -> None:
        if not self._disk.there:
            return
        try:
            waiting, size = await self._disk.do(lambda one: (one.waiting(), one.size()))
        except NoDisk:
            return
        self._series.ledger_waiting.set(waiting)
        self._series.ledger_bytes.set(size)
        if self.away:
            self._service.facts["ledger"] = {"in_force": True, "waiting": waiting}
        elif not self._disk.whole:
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
            self._disk.tell(partial(DiskLedger.mirror, changes=changes))
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
        except TooSlow as error:
            if len(items) > 1:
                raise Refused(f"too much for one statement: {error}") from error
            raise

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
            self._disk.tell(partial(DiskLedger.ended, message=done.id))
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
        records = await self._disk.do(DiskLedger.unpublished)
        if records:
            await publish(records)
            await self._disk.do(partial(DiskLedger.published, records=records))
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
        """Raises Refused and OffsetMoved of the batch; whatever else PostgreSQL says (rights, a
        table that is not there) is an absence: alert ended over a question of its gauge.
        """
        began_s = clock.monotonic_s()
        while True:
            if self.away:
                async with self._turn:
                    if self.away:
                        return await self._disk.do(on_disk)
            try:
                with translated():
                    async with self._pool.connection() as connection:
                        return await on_database(connection)
            except (Refused, OffsetMoved):
                raise
            except (Retriable, Permanent) as error:
                if not self._disk.primed:
                    raise Retriable(str(error)) from error
                if clock.monotonic_s() - began_s >= AWAY_S:
                    self._left(str(error))
                else:
                    await asyncio.sleep(_RETRY_S)

    def _left(self, why: str) -> None:
        if not self._service.facts.get("database_away"):
            self._service.logger.warning("PostgreSQL is away: the ledger decides", error=why)
        self.away = True
        self._disk.let_go()  # before anything is decided there
        self._service.ready["database"] = False
        self._service.facts["database_away"] = why
        self._service.facts["ledger"] = {"in_force": True}
        self._series.away.set(1)

    # ---- mirroring

    async def _renew(self) -> None:
        """What changed in PostgreSQL without us. What we store meanwhile is told behind the look:
        with looks thrown away for it, a storm was never mirrored again.
        """
        try:
            if self._disk.whole:
                await self._disk.do(DiskLedger.handed_over)
            self._disk.hold()
            known = await self._disk.do(DiskLedger.known)
            with enduring():
                async with self._pool.connection() as connection:
                    seen = await mirror.look(
                        connection, known, clock.now_us(), whole=self._disk.whole
                    )
            if not self._disk.holds:  # PostgreSQL went away, or too much was told
                return
            self._disk.whole = False  # from here on each batch is told again, behind this
            await self._disk.do(partial(DiskLedger.renew, seen=seen))
            self._disk.primed = True
        except NoDisk:
            self._disk.whole = True
        except Retriable as error:
            if not self.away:
                self._disk.fault(f"not mirrored: {error}", LedgerFault.LOOK)
        finally:
            self._disk.let_go()

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
        """Merge, hand over; then PostgreSQL keeps everything again, and is mirrored anew. Killed
        anywhere, it is begun again. Raises Retriable.

        A ledger whose disk fails is left behind: PostgreSQL's own offsets stand where it went away,
        so Kafka says everything again, and the same ids come of it.
        """
        with enduring():
            async with connected(
                self._database, f"{self._service.name}-merge", answer_s=_MERGE_ANSWER_S
            ) as connection:
                await connection.execute("SELECT 1 FROM alert_offset LIMIT 1")
                try:
                    while self._disk.there and (
                        await self._merge(connection) or await self._ended(connection)
                    ):
                        pass
                    await self._flip()
                except NoDisk:
                    self.away = False
                except TimeoutError as error:
                    raise Retriable(f"not merged within {_FLIP_S:g} s") from error
        if self._service.facts.pop("database_away", None):
            self._service.logger.info("PostgreSQL is back, the ledger is merged")
        self._disk.whole = True
        self._service.ready["database"] = True
        self._series.away.set(0)
        self._news()

    async def _merge(self, connection: Connection) -> int:
        what = await self._disk.do(lambda one: reconcile.told(one.ask))
        if not what.signals:
            return 0
        now_us = clock.now_us()
        refused = await reconcile.merge(connection, what, self._compose, self._holder, now_us)
        for signal in refused:
            self._service.logger.error("refused by the database, passed over", signal=signal)
        self._series.ledger_refused.inc(len(refused))
        await self._disk.do(
            partial(DiskLedger.merged, signals=[str(r["id"]) for r in what.signals])
        )
        return len(what.signals)

    async def _ended(self, connection: Connection) -> int:
        """Hand a piece of the pages and attempts over that nobody changes any more."""
        some = (reconcile.PIECE,)
        delivery = await self._disk.do(lambda one: one.ask(reconcile.ENDED, some))
        attempts = await self._disk.do(lambda one: one.ask(reconcile.ENDED_ATTEMPTS, some))
        if delivery or attempts:
            await self._hand_over(connection, delivery, attempts, {})
            ended = partial(DiskLedger.handed, delivery=delivery, attempts=attempts)
            await self._disk.do(ended)
        return len(delivery) + len(attempts)

    async def _hand_over(
        self,
        connection: Connection,
        delivery: Sequence[Row],
        attempts: Sequence[Row],
        offsets: Mapping[Partition, tuple[int, int]],
    ) -> None:
        await reconcile.hand_over(
            connection,
            delivery=delivery,
            attempts=attempts,
            offsets=offsets,
            holder=self._holder,
            now_us=clock.now_us(),
        )

    async def _flip(self) -> None:
        """The last of it, while nothing is decided: on a connection that is cut all the sooner."""
        async with (
            connected(self._database, f"{self._service.name}-flip", answer_s=ANSWER_S) as brisk,
            self._turn,
            asyncio.timeout(_FLIP_S),
        ):
            while self._disk.there and await self._merge(brisk):
                pass
            if self._disk.there:
                delivery = await self._disk.do(lambda one: one.ask(reconcile.DELIVERY))
                attempts = await self._disk.do(lambda one: one.ask(reconcile.ATTEMPTS))
                offsets = await self._disk.do(DiskLedger.offsets)
                await self._hand_over(brisk, delivery, attempts, offsets)
                await self._disk.do(DiskLedger.handed_over)
            self.away = False
