"""The ledger behind its own thread: one call at a time, in order, none waited for without end."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TypeVar

from alerting.disk_ledger import DiskLedger, LedgerFull, is_damage, open_ledger
from alerting.series import LedgerFault, Series
from sizao import clock
from sizao.errors import Retriable
from sizao.service import Service

_ANSWER_S = 5.0
_HELD_MAX = 500  # told beside a look: seconds of a storm's pages, and a few batches of 1 MB
_PENDING_MAX = 600  # on their way to the mirror; behind a slow disk it is made anew
_SAY_S = 60.0
Result = TypeVar("Result")


class NoDisk(Retriable):
    """The ledger does not serve: there is none, its disk is full, or it does not answer."""


class Disk:
    """The ledger of one process, or none while it cannot be had.

    `primed`: it has mirrored PostgreSQL once, so that it may decide. `whole`: what is mirrored has
    a gap, and nothing more is told until a look has replaced all of it.
    """

    def __init__(self, path: Path, size_mib: int, *, service: Service, series: Series) -> None:
        """Nothing is opened yet."""
        self._path = path
        self._size_mib = size_mib
        self._service = service
        self._series = series
        self._ledger: DiskLedger | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="ledger")
        self._pending = 0
        self._held: list[Callable[[DiskLedger], None]] | None = None
        self._said_s: float | None = None
        self.primed = False
        self.whole = True

    @property
    def there(self) -> bool:
        """Whether there is a ledger."""
        return self._ledger is not None

    async def open(self) -> None:
        """Without success the process goes on without: another one of its name has the file, or the
        disk does not serve. Call again to try again.
        """
        try:
            self._ledger = await self._on_thread(partial(open_ledger, self._path, self._size_mib))
            self.primed = await self.do(lambda one: one.primed)
        except (sqlite3.Error, OSError, Retriable) as error:
            self.fault(f"{self._path}: {error}; without a ledger a fire waits for PostgreSQL")

    def close(self) -> None:
        """Whatever is under way ends by itself."""
        if self._ledger is not None:
            self._thread.submit(self._ledger.close)
        self._thread.shutdown(wait=False)

    async def do(self, call: Callable[[DiskLedger], Result]) -> Result:
        """One call, in turn. A disk that hangs is left waiting. Raises NoDisk, or what the call
        raises on purpose.
        """
        if self._ledger is None:
            raise NoDisk("PostgreSQL is away, and there is no ledger")
        try:
            async with asyncio.timeout(_ANSWER_S):
                return await self._on_thread(partial(call, self._ledger))
        except TimeoutError as error:
            self.fault("the disk does not answer")
            raise NoDisk(f"the ledger's disk did not answer within {_ANSWER_S:g} s") from error
        except (Retriable, sqlite3.Error) as error:
            self._failed(error)
            raise NoDisk(str(error)) from error

    async def _on_thread(self, call: Callable[[], Result]) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self._thread, call)

    def tell(self, call: Callable[[DiskLedger], None]) -> None:
        """Mirror something, behind the normal path: that neither waits for it nor fails with it."""
        if self._held is not None and len(self._held) < _HELD_MAX:
            self._held.append(call)
            return
        if self.whole or self._pending >= _PENDING_MAX or self._held is not None:
            self.whole = True  # a gap would never close: offsets behind it would hide it
            self._held = None
            return
        self._submit(call)

    def hold(self) -> None:
        """A look begins: what is told waits, because the look may be older."""
        self._held = []

    @property
    def holds(self) -> bool:
        """Whether the look that began is still good: all that was told beside it is there."""
        return self._held is not None

    def let_go(self) -> None:
        """The look is in the ledger, or of no use: what was told beside it follows."""
        held, self._held = self._held or [], None
        if not self.whole:
            for call in held:
                self._submit(call)

    def _submit(self, call: Callable[[DiskLedger], None]) -> None:
        if self._ledger is None:
            return
        self._pending += 1
        loop = asyncio.get_running_loop()

        def done(ended: Future[None]) -> None:
            with contextlib.suppress(RuntimeError):  # the loop has ended with the process
                loop.call_soon_threadsafe(self._mirrored, ended)

        self._thread.submit(call, self._ledger).add_done_callback(done)

    def _mirrored(self, job: Future[None]) -> None:
        self._pending -= 1
        error = None if job.cancelled() else job.exception()
        if error is not None:
            self.whole = True
            self._held = None
            self._failed(error)

    def _failed(self, error: BaseException) -> None:
        """A file that turns out to be damaged is set aside, and `open` makes it anew: what it held
        is in PostgreSQL, or in Kafka behind PostgreSQL's offsets.
        """
        self.fault(str(error), _reason(error))
        if self._ledger is not None and is_damage(error):
            self._thread.submit(self._ledger.set_aside)
            self._ledger = None
            self.primed, self.whole = False, True

    def fault(self, text: str, reason: LedgerFault = LedgerFault.DISK) -> None:
        """Counted each time, said in `/readyz`, logged at most once a minute."""
        self._series.ledger_faults.add(reason)
        self._service.facts["ledger"] = {"fault": text}
        now_s = clock.monotonic_s()
        if self._said_s is None or now_s - self._said_s >= _SAY_S:
            self._said_s = now_s
            self._service.logger.error("ledger", fault=text)


def _reason(error: BaseException) -> LedgerFault:
    return LedgerFault.FULL if isinstance(error, LedgerFull) else LedgerFault.DISK
