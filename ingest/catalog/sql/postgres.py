"""PostgreSQL on asyncpg: few rows pipelined, many by COPY; retried after a lost connection or a conflict."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial
from operator import itemgetter
from typing import Any

import asyncpg

from ingest.catalog.sql.advisory import AdvisoryLock
from ingest.catalog.sql.deadlines import LEISURE, Deadlines
from ingest.catalog.sql.driver import Dialect, Insert, Rows, Statement, T, Transaction, speller
from ingest.catalog.sql.sessions import CLOSE_SECONDS, dial, prepare, require_fitting
from ingest.catalog.sql.url import Target
from ingest.errors import DatabaseLost, DatabaseSilent

CONNECTIONS = 8
"""Of the pool, the one that a process has. With the lock's session that makes nine, and ten where a lock is taken again
on a new session while the server has not seen the old one end: no more, as the documents say."""
COPY_FROM = 4_000
"""Rows of one insert from which COPY is worth its temporary table: the batches of a listing, not those of downloads."""
_MAY_COPY = "SELECT has_database_privilege(current_database(), 'TEMP')"

POSTGRES = Dialect(
    is_postgres=True,
    listed=list,
    time=lambda moment: moment,
    spell=speller(
        numbered=True,
        among="= ANY (?)",
        now="statement_timestamp()",  # unlike `clock_timestamp` good for a search by index
        later="(statement_timestamp() + ? * interval '1 second')",
        for_update="FOR UPDATE",
        skip_locked="FOR UPDATE SKIP LOCKED",
        no_key_update="FOR NO KEY UPDATE",
    ),
)


class PostgresDriver:
    """See `Driver`."""

    dialect = POSTGRES
    is_read_only = False

    def __init__(self, target: Target, deadlines: Deadlines) -> None:
        self._target = target
        self._deadlines = deadlines
        self._locks: list[AdvisoryLock] = []
        self._may_copy: bool | None = None
        """Whether temporary tables may be made; None until it matters."""
        self._pool = asyncpg.create_pool(
            min_size=0,
            max_size=CONNECTIONS,
            init=partial(prepare, deadlines=deadlines),
            reset=_as_it_is,
            timeout=target.reach,
            connect=dial,
            **target.connect,
        )

    @classmethod
    @asynccontextmanager
    async def open(cls, target: Target) -> AsyncIterator[PostgresDriver]:
        driver = cls(target, Deadlines(target.answer))
        await driver._pool
        try:
            await driver._require_fitting()
            yield driver
        finally:
            if not driver._deadlines.given_up:
                with suppress(Exception):  # the server may be gone; nothing waits in these connections
                    await asyncio.wait_for(driver._pool.close(), CLOSE_SECONDS)
            driver._pool.terminate()

    async def _require_fitting(self) -> None:
        """Nothing is at stake yet: a server that is not there is not waited for, one that is full or starts up is."""

        away = False

        async def attempt() -> None:
            nonlocal away
            try:
                async with self._session() as (connection, _):
                    await require_fitting(connection, self._target, self._deadlines)
            except DatabaseLost:
                away = True
                raise

        await self._deadlines.patiently(attempt, unless=lambda: away)

    @asynccontextmanager
    async def _session(self, seconds: float | None = None) -> AsyncIterator[tuple[Any, Callable[[], None]]]:
        """A session of the pool, and what to call with each answer of it.

        One that is left without an answer is dropped: to cancel its statement could take as long.
        """
        with self._target.translated():
            async with self._deadlines.limit(seconds) as answered:
                connection = await self._pool.acquire()
                try:
                    yield connection, answered
                except asyncio.CancelledError:
                    connection.terminate()
                    raise
                finally:
                    await self._pool.release(connection, timeout=CLOSE_SECONDS)

    async def fetch(self, sql: str, *values: Any, leisurely: bool = False) -> Rows:
        async def attempt() -> Rows:
            async with self._session(LEISURE if leisurely else None) as (connection, _):
                return [tuple(row) for row in await connection.fetch(POSTGRES.spell(sql), *values)]

        return await self._patiently(attempt)

    async def write(self, transaction: Transaction[T], *, leisurely: bool = False) -> T:
        committing = False

        def commits() -> None:
            nonlocal committing
            committing = True

        async def attempt() -> T:
            for lock in self._locks:
                await lock.sure()
            async with self._session(LEISURE if leisurely else None) as (connection, answered):
                return await self._run_on(connection, transaction, answered, commits)

        # Lost while it was committing, nobody knows whether it is written: that is for the next run to find out.
        return await self._patiently(attempt, unless=lambda: committing)

    async def _patiently(self, attempt: Callable[[], Awaitable[T]], unless: Callable[[], bool] = lambda: False) -> T:
        async def once() -> T:
            try:
                return await attempt()
            except DatabaseSilent:
                # A firewall that forgot one has forgotten those that idle as well.
                await self._pool.expire_connections()
                raise

        return await self._deadlines.patiently(once, unless)

    async def _run_on(
        self,
        connection: Any,
        transaction: Transaction[T],
        answered: Callable[[], None],
        commits: Callable[[], None] = lambda: None,
    ) -> T:
        scope = connection.transaction()
        await scope.start()
        try:
            result = await self._drive(connection, transaction, answered)
        except Exception:
            with suppress(Exception):  # a lost connection has rolled back by itself
                await scope.rollback()
            raise
        commits()
        await scope.commit()
        return result

    async def _drive(self, connection: Any, transaction: Transaction[T], answered: Callable[[], None]) -> T:
        steps = transaction(POSTGRES)
        rows: Rows = []
        try:
            statement: Statement = next(steps)
            while True:
                if statement.rows is None:
                    found = await connection.fetch(POSTGRES.spell(statement.sql), *statement.values)
                    rows = [tuple(row) for row in found]
                else:
                    await self._run_for_each(connection, statement, statement.rows)
                    rows = []
                answered()
                statement = steps.send(rows)
        except StopIteration as end:
            result: T = end.value
            return result

    async def _run_for_each(self, connection: Any, statement: Statement, rows: Sequence[tuple[Any, ...]]) -> None:
        insert = statement.insert
        if insert is None or len(rows) < COPY_FROM or _repeats(insert, rows):
            await connection.executemany(POSTGRES.spell(statement.sql), rows)
        elif not insert.unique:
            await connection.copy_records_to_table(insert.table, records=rows, columns=insert.columns)
        else:
            if self._may_copy is None:
                self._may_copy = await connection.fetchval(_MAY_COPY)
            if self._may_copy:
                await _copy(connection, insert, rows)
            else:
                await connection.executemany(POSTGRES.spell(statement.sql), rows)

    @asynccontextmanager
    async def lock(self, name: str) -> AsyncIterator[AdvisoryLock | None]:
        """An advisory lock, on a session of its own: it dies with it."""
        lock = AdvisoryLock(self._target, self._deadlines, name, self._run_on)
        if not await lock.take():
            yield None
            return
        self._locks.append(lock)
        try:
            yield lock
        finally:
            self._locks.remove(lock)
            await lock.close()

    def hurry(self) -> None:
        self._deadlines.hurry()


async def _as_it_is(_connection: Any) -> None:
    """Between two uses a session keeps its settings; there is nothing else of ours in it, and so nothing to ask for."""


def _repeats(insert: Insert, rows: Sequence[tuple[Any, ...]]) -> bool:
    """Whether two rows are for one row of the table: a single statement may touch none of them twice."""
    if not insert.unique:
        return False
    unique = itemgetter(*map(insert.columns.index, insert.unique))
    return len(set(map(unique, rows))) < len(rows)


async def _copy(connection: Any, insert: Insert, rows: Sequence[tuple[Any, ...]]) -> None:
    """By way of a temporary table, since COPY itself knows no conflicts."""
    like = f"SELECT {', '.join(insert.columns)} FROM {insert.table} WITH NO DATA"
    await connection.execute(f"CREATE TEMPORARY TABLE incoming ON COMMIT DROP AS {like}")
    await connection.copy_records_to_table("incoming", records=rows, columns=insert.columns, schema_name="pg_temp")
    await connection.execute(f"{insert.out_of('pg_temp.incoming')}; DROP TABLE pg_temp.incoming")
