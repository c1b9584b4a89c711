"""PostgreSQL on asyncpg: few rows pipelined, many by COPY; retried after a lost connection or a conflict."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from functools import lru_cache
from itertools import count
from operator import itemgetter
from typing import Any

import asyncpg

from ingest.catalog.lane import Dialect, Insert, Rows, Statement, T, Transaction
from ingest.catalog.target import Target
from ingest.errors import DatabaseError

_CONNECTIONS = 8
_PAUSES = (0.1, 0.3, 1.0, 2.0, 4.0)
"""Seconds before each further try: a restart of the server is survived, a server that stays away is not waited for."""

COPY_FROM = 4_000
"""Rows of one insert from which COPY is worth its temporary table: the batches of a listing, not those of downloads."""
_LOCK_PAUSES = (0.0, 0.1, 0.2, 0.4)
"""Before each try: the server may take a moment to see that a holder was killed."""
_TRY_LOCK = "SELECT pg_try_advisory_lock(hashtextextended($1, 0))"
_MAY_COPY = "SELECT has_database_privilege(current_database(), 'TEMP')"

POSTGRES = Dialect(
    is_postgres=True,
    among="= ANY (?)",
    listed=list,
    time=lambda moment: moment,
)


class PostgresLane:
    """See `Lane`."""

    dialect = POSTGRES

    def __init__(self, target: Target, pool: asyncpg.Pool) -> None:
        self._target = target
        self._pool = pool
        self._may_copy: bool | None = None
        """Whether temporary tables may be made; None until it matters."""

    @classmethod
    @asynccontextmanager
    async def open(cls, target: Target) -> AsyncIterator[PostgresLane]:
        with target.translated():
            pool = await asyncpg.create_pool(min_size=1, max_size=_CONNECTIONS, **target.connect)
        try:
            yield cls(target, pool)
        finally:
            with suppress(Exception):  # the server may be gone; nothing waits in these connections
                await asyncio.wait_for(pool.close(), 5.0)
            pool.terminate()

    async def fetch(self, sql: str, *values: Any) -> Rows:
        async def attempt() -> Rows:
            with self._target.translated():
                async with self._pool.acquire() as connection:
                    return [tuple(row) for row in await connection.fetch(numbered(sql), *values)]

        return await _patiently(attempt)

    async def write(self, transaction: Transaction[T]) -> T:
        committing = False

        async def attempt() -> T:
            nonlocal committing
            with self._target.translated():
                async with self._pool.acquire() as connection:
                    scope = connection.transaction()
                    await scope.start()
                    try:
                        result = await self._drive(connection, transaction)
                    except BaseException:
                        with suppress(Exception):  # a lost connection has rolled back by itself
                            await scope.rollback()
                        raise
                    committing = True
                    await scope.commit()
                    return result

        # Lost while it was committing, nobody knows whether it is written: that is for the next run to find out.
        return await _patiently(attempt, unless=lambda: committing)

    async def _drive(self, connection: Any, transaction: Transaction[T]) -> T:
        steps = transaction(POSTGRES)
        rows: Rows = []
        try:
            statement: Statement = next(steps)
            while True:
                if statement.rows is None:
                    found = await connection.fetch(numbered(statement.sql), *statement.values)
                    rows = [tuple(row) for row in found]
                else:
                    await self._run_for_each(connection, statement, statement.rows)
                    rows = []
                statement = steps.send(rows)
        except StopIteration as end:
            result: T = end.value
            return result

    async def _run_for_each(self, connection: Any, statement: Statement, rows: Sequence[tuple[Any, ...]]) -> None:
        insert = statement.insert
        if insert is None or len(rows) < COPY_FROM or _repeats(insert, rows):
            await connection.executemany(numbered(statement.sql), rows)
        elif not insert.unique:
            await connection.copy_records_to_table(insert.table, records=rows, columns=insert.columns)
        else:
            if self._may_copy is None:
                self._may_copy = await connection.fetchval(_MAY_COPY)
            if self._may_copy:
                await _copy(connection, insert, rows)
            else:
                await connection.executemany(numbered(statement.sql), rows)

    @asynccontextmanager
    async def lock(self, name: str) -> AsyncIterator[bool]:
        """An advisory lock, on a connection of its own: it dies with the connection."""
        got = False
        with self._target.translated():
            connection = await asyncpg.connect(**self._target.connect)
            for pause in _LOCK_PAUSES:
                await asyncio.sleep(pause)
                if got := bool(await connection.fetchval(_TRY_LOCK, f"ingest {name}")):
                    break
        try:
            yield got
        finally:
            with suppress(Exception):  # the lock ends with the connection in any case
                await asyncio.wait_for(connection.close(), 5.0)
            connection.terminate()


@lru_cache(maxsize=256)
def numbered(sql: str) -> str:
    """``?`` as ``$1``, ``$2`` …: no statement of ours has a question mark in a literal."""
    numbers = count(1)
    return "".join(f"${next(numbers)}" if letter == "?" else letter for letter in sql)


def _repeats(insert: Insert, rows: Sequence[tuple[Any, ...]]) -> bool:
    """Whether two rows are for one row of the table: a single statement may touch none of them twice."""
    if not insert.unique:
        return False
    unique = itemgetter(*map(insert.columns.index, insert.unique))
    return len(set(map(unique, rows))) < len(rows)


async def _copy(connection: Any, insert: Insert, rows: Sequence[tuple[Any, ...]]) -> None:
    """By way of a temporary table, since COPY itself knows no conflicts."""
    like = f"SELECT {', '.join(insert.columns)} FROM {insert.table} WITH NO DATA"  # noqa: S608 - names from our code only
    await connection.execute(f"CREATE TEMPORARY TABLE incoming ON COMMIT DROP AS {like}")
    await connection.copy_records_to_table("incoming", records=rows, columns=insert.columns, schema_name="pg_temp")
    await connection.execute(f"{insert.out_of('pg_temp.incoming')}; DROP TABLE pg_temp.incoming")


async def _patiently(attempt: Callable[[], Awaitable[T]], unless: Callable[[], bool] = lambda: False) -> T:
    for pause in _PAUSES:
        try:
            return await attempt()
        except DatabaseError as error:
            if not error.retryable or unless():
                raise
            await asyncio.sleep(pause * random.uniform(0.5, 1.5))  # noqa: S311 - jitter, no secret
    return await attempt()
