"""The archive's side of the database: rows and offsets in one transaction.

Theory of operation: `archive_offset` says which record of a partition comes next. A batch moves it
from where the batch began to where it ended, `WHERE next_offset = began`, and stores the rows in
the same transaction. If another archive was faster, or a commit that looked failed had succeeded,
the update finds nothing, the transaction is undone and `Moved` is raised: the caller reads the
place again. So a row is stored exactly once without a unique index. It would be so with
`synchronous_commit = off` too (rows and place are lost together and read again: tested); it stays
on, because at two commits a second it costs nothing and spares the second reading.

Rows that MQTT delivered again are staged beside, what is in the table already is taken out of the
stage, and the rest is stored (ingest/redelivered.py). The update above locks the partition's place,
so nobody else can store the same rows meanwhile.

A row that the table refuses for its content makes `store` raise Refused. Asked again with
`careful`, it halves the batch until the row stands alone, keeps it in `reading_refused`, and stores
its neighbours, all in the one transaction.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import astuple, dataclass, field

import msgspec

from ingest import rollup_rows
from ingest.archive_place import Place, Repair
from ingest.redelivered import Span
from ingest.rollup_parts import Parts
from ingest.rows import COLUMNS, COPY, Row, Rows
from sizao.db import Connection, DatabaseSettings, connected, translated
from sizao.errors import Refused, Retriable, SizaoError
from sizao.kafka import Partition

_PLACES = """
    SELECT topic, partition, next_offset, writer, sequence, received_us, writers::text, repair::text
    FROM archive_offset WHERE (topic, partition) IN (
        SELECT * FROM unnest(%s::text[], %s::integer[]))"""
_FIRST = """
    INSERT INTO archive_offset (topic, partition, next_offset) VALUES (%s, %s, %s)
    ON CONFLICT DO NOTHING"""
_MOVE = """
    UPDATE archive_offset SET next_offset = %s, writer = %s, sequence = %s, received_us = %s,
        writers = %s::jsonb, repair = %s::jsonb, moved_at = now()
    WHERE topic = %s AND partition = %s AND next_offset = %s"""

_STAGE = """
    CREATE TEMP TABLE IF NOT EXISTS reading_again (LIKE reading INCLUDING CONSTRAINTS)
    ON COMMIT DELETE ROWS"""
_COPY_STAGE = f"COPY reading_again ({COLUMNS}) FROM STDIN (FORMAT binary)"
# A time is told in microseconds: to_timestamp() of a float would lose the last of them.
_SPAN = """
    r.received >= 'epoch'::timestamptz + %s * interval '1 microsecond'
    AND r.received < 'epoch'::timestamptz + %s * interval '1 microsecond'"""
_SAME = "r.point = a.point AND r.event = a.event AND r.value = a.value"
# There is one good way each: a span by BRIN, its rows looked up in a hash of the stage; late rows
# by their index, for each row of the stage. Without statistics of the newest partition the planner
# sorts the span on disk, or reads all of the hour (measured: 10 s instead of 1.2).
_PLAN = """
    SET LOCAL enable_seqscan = off; SET LOCAL enable_mergejoin = off;
    SET LOCAL enable_hashjoin = {}; SET LOCAL enable_nestloop = {}"""
_BY_HASH, _BY_INDEX = _PLAN.format("on", "off"), _PLAN.format("off", "on")
_TAKE_OUT = f"DELETE FROM reading_again a USING reading r WHERE {_SPAN} AND {_SAME}"
_TAKE_OUT_LATE = f"{_TAKE_OUT} AND r.flags & 1 <> 0"
_ONCE = f"""
    SELECT DISTINCT ON (point, event, value) {COLUMNS}
    FROM reading_again ORDER BY point, event, value, received"""
_STORE_AGAIN = f"INSERT INTO reading ({COLUMNS}) {_ONCE}"
_ROLL_UP_AGAIN = rollup_rows.INSERT.format(readings=f"FROM ({_ONCE}) r", origin="0")
_REFUSED = """
    INSERT INTO reading_refused (received_us, event_us, point, value, flags, why)
    VALUES (%s, %s, %s, %s, %s, %s)"""

CULPRITS_MAX = 100
"""Of one batch. When the table refuses more, it is not the rows' fault."""
_writers = msgspec.json.Decoder(dict[str, int])
_repair = msgspec.json.Decoder(Repair)


class Moved(SizaoError):
    """Another archive, or a commit of ours that looked failed, has moved an offset."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """From the offset that the database should still have to a new place."""

    expected: int
    place: Place


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """Rows to store. `again` may be stored already: first deliveries lie in `in_time`, or are
    flagged late and lie in `late`; `days`: of their events, since 1970. `parts`: roll-ups of rows
    of `plain`.
    """

    plain: Rows
    again: Rows
    in_time: Sequence[Span]
    late: Sequence[Span]
    parts: Sequence[Parts] = ()
    days: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Culprit:
    """A row that the table refused, and its words."""

    row: Row
    why: str


@dataclass(slots=True)
class Outcome:
    """What became of a load: rows stored, of `again` stored and found, refused."""

    stored: int = 0
    again: int = 0
    found: int = 0
    culprits: list[Culprit] = field(default_factory=list)


class Store:
    """One dedicated connection, opened when needed, dropped after an error. Used by one task.

    `stepped` is called whenever the server has answered: what takes many steps is not stuck.
    """

    # Beyond the server's own time-out for a statement: then the connection is half-open, and
    # psycopg would wait for ever. It takes 10 s more to give up (psycopg#1371, reliability.md M17).
    margin_s = 5.0

    def __init__(
        self, settings: DatabaseSettings, stepped: Callable[[], None] = lambda: None
    ) -> None:
        """Connects at the first use."""
        self._settings = settings
        self._stepped = stepped
        self._step_s = settings.statement_timeout_ms / 1000 + self.margin_s
        self._deadline: asyncio.Timeout | None = None
        self._open = AsyncExitStack()
        self._connection: Connection | None = None
        self._covered: set[int] = set()

    async def close(self) -> None:
        """Drop the connection; the next use makes another."""
        self._connection = None
        self._covered.clear()
        await self._open.aclose()

    @asynccontextmanager
    async def _transaction(self) -> AsyncIterator[Connection]:
        """A transaction; an error or a cancellation undoes it and drops the connection.

        Raises Retriable when the server does not answer in time: each step has its deadline.
        """
        try:
            async with asyncio.timeout(self._step_s) as self._deadline:
                if self._connection is None:
                    self._connection = await self._open.enter_async_context(
                        connected(self._settings, "archive")
                    )
                with translated():
                    async with self._connection.transaction():
                        yield self._connection
                        self._step()
        except TimeoutError as error:
            await self.close()
            raise Retriable(f"PostgreSQL: no answer within {self._step_s:g} s") from error
        except BaseException:
            await self.close()
            raise

    def _step(self, longer_s: float = 0.0) -> None:
        """The server has answered: the next step has a deadline of its own."""
        assert self._deadline is not None
        self._deadline.reschedule(asyncio.get_running_loop().time() + self._step_s + longer_s)
        self._stepped()

    async def partitions(self) -> int:
        """How many partitions the district has. Raises Retriable before the first registry."""
        async with self._transaction() as connection:
            cursor = await connection.execute("SELECT partitions FROM district")
            row = await cursor.fetchone()
        if row is None:
            raise Retriable("the district has no registry yet; import one")
        return int(row[0])

    async def places(self, firsts: Mapping[Partition, int]) -> dict[Partition, Place]:
        """Where to read on; a partition never stored begins at its offset in `firsts`."""
        wanted = sorted(firsts)
        async with self._transaction() as connection:
            cursor = connection.cursor()
            await cursor.executemany(_FIRST, [(*pair, firsts[pair]) for pair in wanted])
            topics, numbers = zip(*wanted, strict=True)
            await cursor.execute(_PLACES, (list(topics), list(numbers)))
            rows = await cursor.fetchall()
        return {(row[0], row[1]): _place(*row[2:]) for row in rows}

    async def cover(self, hours: Iterable[int], hour_us: int) -> None:
        """Make sure that partitions for these hours (since 1970) exist."""
        missing = sorted(set(hours) - self._covered)
        if not missing:
            return
        seconds = [hour * hour_us // 1_000_000 for hour in missing]
        async with self._transaction() as connection:
            await connection.execute(
                "SELECT reading_cover(array_agg(to_timestamp(s))) FROM unnest(%s::bigint[]) s",
                (seconds,),
            )
        self._covered.update(missing)

    async def store(
        self, moves: Mapping[Partition, Move], load: Load | None, *, careful: bool = False
    ) -> Outcome:
        """Move the offsets, and store a load of rows, or neither.

        Raises Moved, Retriable; Refused for a row's content unless `careful`. After Retriable or a
        cancellation the transaction may have been committed: repeat it, and Moved tells.
        """
        outcome = Outcome()
        async with self._transaction() as connection:
            await move_offsets(connection, moves)
            if load is not None:
                put = self._put_carefully if careful else self._put
                outcome.culprits += await put(connection, COPY, load.plain)
                outcome.stored = load.plain.count - len(outcome.culprits)
                if load.again.count:
                    await connection.execute(_STAGE)
                    refused = await put(connection, _COPY_STAGE, load.again)
                    outcome.culprits += refused
                    outcome.again = await self._store_again(connection, load)
                    outcome.found = load.again.count - len(refused) - outcome.again
                    outcome.stored += outcome.again
                await self._put_parts(connection, load.parts)
                await _keep(connection, outcome.culprits)
        return outcome

    async def _put(self, connection: Connection, copy: str, rows: Rows) -> list[Culprit]:
        """One COPY; no row of it is refused, or all are."""
        if rows.count:
            async with connection.cursor().copy(copy.encode()) as sink:
                await sink.write(rows.buffer)
            self._step()
        return []

    async def _put_parts(self, connection: Connection, parts: Iterable[Parts]) -> None:
        """One COPY after the other."""
        for one in parts:
            for buffer in rollup_rows.build(one):
                async with connection.cursor().copy(rollup_rows.COPY.encode()) as sink:
                    await sink.write(buffer)
                self._step()

    async def _put_carefully(self, connection: Connection, copy: str, rows: Rows) -> list[Culprit]:
        """COPY in halves, in quarters, until what is refused stands alone; returns that.

        Raises Retriable beyond CULPRITS_MAX: better to wait for a person than to lose a batch.
        """
        culprits: list[Culprit] = []
        ranges = [(0, rows.count)] if rows.count else []
        while ranges:
            first, end = ranges.pop()
            try:
                with translated():
                    async with (
                        connection.transaction(),
                        connection.cursor().copy(copy.encode()) as sink,
                    ):
                        await sink.write(rows.part(first, end))
            except Refused as error:
                middle = (first + end) // 2
                if end - first > 1:
                    ranges += [(middle, end), (first, middle)]
                    continue
                culprits.append(Culprit(row=rows.row(first), why=str(error)))
                if len(culprits) > CULPRITS_MAX:
                    raise Retriable(f"over {CULPRITS_MAX} readings refused: {error}") from error
            finally:
                self._step()
        return culprits

    async def _store_again(self, connection: Connection, load: Load) -> int:
        """Store what is staged and not in the table yet; returns how many rows that is."""
        looks = ((_BY_HASH, _TAKE_OUT, load.in_time), (_BY_INDEX, _TAKE_OUT_LATE, load.late))
        for plan, take_out, spans in looks:
            await connection.execute(plan.encode())
            for span in spans:
                await connection.execute(take_out.encode(), span)
                self._step()
        stored = (await connection.execute(_STORE_AGAIN.encode())).rowcount
        if stored:
            await connection.execute(_ROLL_UP_AGAIN.encode())
        return stored


async def move_offsets(connection: Connection, moves: Mapping[Partition, Move]) -> None:
    """Raises Moved where one does not stand where it is expected."""
    # Sorted: two archives lock in the same order.
    parameters = [_parameters(pair, moves[pair]) for pair in sorted(moves)]
    cursor = connection.cursor()
    await cursor.executemany(_MOVE, parameters)
    if cursor.rowcount != len(moves):
        raise Moved(f"{cursor.rowcount} of {len(moves)} offsets stood where expected")


async def _keep(connection: Connection, culprits: Sequence[Culprit]) -> None:
    if culprits:
        said = [(*astuple(one.row), one.why) for one in culprits]
        await connection.cursor().executemany(_REFUSED, said)


def _place(
    next_offset: int, writer: str, sequence: int, received_us: int, writers: str, repair: str | None
) -> Place:
    return Place(
        next_offset=next_offset,
        writer=writer,
        sequence=sequence,
        received_us=received_us,
        writers=_writers.decode(writers),
        repair=None if repair is None else _repair.decode(repair),
    )


def _parameters(pair: Partition, move: Move) -> tuple[str | int | None, ...]:
    place = move.place
    return (
        place.next_offset,
        place.writer,
        place.sequence,
        place.received_us,
        msgspec.json.encode(place.writers).decode(),
        None if place.repair is None else msgspec.json.encode(place.repair).decode(),
        *pair,
        move.expected,
    )
