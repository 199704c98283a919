"""From a draft to a generation of the registry: read, decide, apply, and once more if raced."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pydantic import BaseModel

from ingest.draft import Draft
from sizao.db import Connection, DatabaseSettings, connected
from sizao.errors import Raced
from sizao.registry.load import load
from sizao.registry.model import View
from sizao.registry.write import apply, partitions_of
from sizao.topics import PARTITIONS_DEFAULT

_TRIES = 3


class RegisterSettings(BaseModel):
    """What the registry's commands read of the settings file."""

    database: DatabaseSettings = DatabaseSettings()


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What was decided, and the generation in force after it."""

    draft: Draft
    generation: int


async def view_of(connection: Connection) -> View:
    """The district as it is now, without its points. Raises Retriable, Permanent."""
    registry = await load(connection, PARTITIONS_DEFAULT, points=False)
    return registry.newest


async def register(
    settings: DatabaseSettings,
    decide: Callable[[View], Draft],
    cause: str,
    *,
    dry_run: bool = False,
    step: Callable[[str], None] = lambda _: None,
) -> Outcome:
    """Apply what `decide` makes of the registry, in one transaction; a dry run only decides.

    Somebody else's change between reading and writing makes it read and decide again, three times
    at most. Raises BadInput, Raced, Retriable; nothing is changed then, nor when it is cancelled.
    """
    async with connected(settings, "register") as connection:
        for left in reversed(range(_TRIES)):
            step("reading the registry")
            view = await view_of(connection)
            step("checking")
            draft = decide(view)
            if dry_run or draft.empty:
                return Outcome(draft=draft, generation=view.generation)
            step(f"storing {draft.altered + draft.added:,} rows")
            try:
                generation = await apply(
                    connection,
                    draft.change,
                    cause=cause,
                    partitions=await partitions_of(connection, None),
                    based_on=view.generation,
                )
            except Raced:
                if not left:
                    raise
            else:
                return Outcome(draft=draft, generation=generation)
    raise AssertionError("unreachable")
