"""Where a process gets its registry: the database, polled, and the disk cache behind it."""

from __future__ import annotations

import asyncio
from pathlib import Path

from sizao.db import DatabaseSettings, connected
from sizao.errors import Permanent, Retriable
from sizao.registry import cache
from sizao.registry.load import load, newest_generation
from sizao.registry.model import Registry
from sizao.service import Service
from sizao.topics import PARTITIONS_DEFAULT

POLL_S = 2.0
_LOAD_DEADLINE_S = 60.0


class Source:
    """Holds the registry that the database has now. Swapped whole, never changed in place.

    A database restored from a backup has an older generation than we: it is the truth all the same,
    and what it lost is no longer known here. A fold never goes back: it keeps the view that it has
    until a generation above that comes, so that after a restore `detect` is to be started again.
    Restore in one transaction: half a backup would be taken for the whole, but for an empty one,
    which counts as away.
    """

    def __init__(self, service: Service, database: DatabaseSettings, folder: Path) -> None:
        """`folder` keeps the cache; nothing is read yet."""
        self._service = service
        self._database = database
        self._folder = folder
        self._current: Registry | None = None
        self._changed = asyncio.Event()
        self._asked = asyncio.Event()
        service.needs("registry")

    @property
    def current(self) -> Registry:
        """The newest registry; `open` must have returned."""
        assert self._current is not None, "open() first"
        return self._current

    async def open(self) -> Registry:
        """First load: the database if it answers at once, else the cache, else wait for it."""
        try:
            await self._refresh()
            self._service.ready["registry"] = True
        except Retriable as error:
            cached = await asyncio.to_thread(cache.restore, self._folder)
            if cached is None:
                await self._service.patiently("registry", self._refresh)
            else:
                self._service.ready["registry"] = False
                self._service.logger.warning(
                    "registry from cache", generation=cached.generation, error=str(error)
                )
                self._take(cached)
        return self.current

    async def follow(self) -> None:
        """Poll for ever; a database that is away leaves the last registry in force."""
        while True:
            try:
                async with asyncio.timeout(POLL_S):
                    await self._asked.wait()
            except TimeoutError:
                pass
            self._asked.clear()
            await self._service.patiently("registry", self._refresh)

    async def wait_for(self, generation: int, deadline_s: float) -> bool:
        """Poll at once and wait until `generation` is known; False when the deadline passes."""
        try:
            async with asyncio.timeout(deadline_s):
                while self.current.generation < generation:
                    self._asked.set()
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            return False
        return True

    async def _refresh(self) -> None:
        try:
            async with (
                asyncio.timeout(_LOAD_DEADLINE_S),
                connected(self._database, self._service.name) as connection,
            ):
                newest = await newest_generation(connection)
                if self._current is not None and newest == self._current.generation:
                    return
                self._back(newest)
                fresh = await load(connection, PARTITIONS_DEFAULT)
        except TimeoutError as error:
            raise Retriable(f"registry not loaded within {_LOAD_DEADLINE_S:g} s") from error
        except Permanent as error:
            # A database without our tables, or with damaged ones, is away: it stops no fire path.
            raise Retriable(str(error)) from error
        try:
            await asyncio.to_thread(cache.save, fresh, self._folder)
        except OSError as error:
            self._service.logger.error("registry cache not written", error=str(error))
        self._take(fresh)

    def _back(self, newest: int) -> None:
        """Say that the database has gone back. Raises Retriable where it is empty."""
        known = 0 if self._current is None else self._current.generation
        if newest >= known:
            return
        if newest == 0:
            raise Retriable(f"the database holds no registry; generation {known} stays in force")
        self._service.logger.error(
            "the registry went back: start detect again", generation=newest, before=known
        )

    def _take(self, registry: Registry) -> None:
        self._current = registry
        self._service.facts["generation"] = registry.generation
        self._changed.set()
