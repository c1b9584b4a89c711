"""PostgreSQL on asyncpg: pipelined batches, retried when the connection was lost or two transactions collided."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from functools import lru_cache
from itertools import count
from typing import Any

import asyncpg

from ingest.catalog.lane import Dialect, Rows, Statement, T, Transaction
from ingest.catalog.target import Target
from ingest.errors import DatabaseError

_CONNECTIONS = 8
_PAUSES = (0.1, 0.3, 1.0, 2.0, 4.0)
"""Seconds before each further try: a restart of the server is survived, a server that stays away is not waited for."""

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
                        result = await _drive(connection, transaction)
                    except BaseException:
                        with suppress(Exception):  # a lost connection has rolled back by itself
                            await scope.rollback()
                        raise
                    committing = True
                    await scope.commit()
                    return result

        # Lost while it was committing, nobody knows whether it is written: that is for the next run to find out.
        return await _patiently(attempt, unless=lambda: committing)

    @asynccontextmanager
    async def lock(self, name: str) -> AsyncIterator[bool]:
        """An advisory lock, on a connection of its own: it dies with the connection."""
        with self._target.translated():
            connection = await asyncpg.connect(**self._target.connect)
            got = await connection.fetchval("SELECT pg_try_advisory_lock(hashtextextended($1, 0))", f"ingest {name}")
        try:
            yield bool(got)
        finally:
            with suppress(Exception):  # the lock ends with the connection in any case
                await asyncio.wait_for(connection.close(), 5.0)
            connection.terminate()


@lru_cache(maxsize=256)
def numbered(sql: str) -> str:
    """``?`` as ``$1``, ``$2`` …: no statement of ours has a question mark in a literal."""
    numbers = count(1)
    return "".join(f"${next(numbers)}" if letter == "?" else letter for letter in sql)


async def _drive(connection: Any, transaction: Transaction[T]) -> T:
    steps = transaction(POSTGRES)
    rows: Rows = []
    try:
        statement: Statement = next(steps)
        while True:
            sql = numbered(statement.sql)
            if statement.rows is None:
                rows = [tuple(row) for row in await connection.fetch(sql, *statement.values)]
            else:
                await connection.executemany(sql, statement.rows)
                rows = []
            statement = steps.send(rows)
    except StopIteration as end:
        result: T = end.value
        return result


async def _patiently(attempt: Callable[[], Awaitable[T]], unless: Callable[[], bool] = lambda: False) -> T:
    for pause in _PAUSES:
        try:
            return await attempt()
        except DatabaseError as error:
            if not error.retryable or unless():
                raise
            await asyncio.sleep(pause * random.uniform(0.5, 1.5))  # noqa: S311 - jitter, no secret
    return await attempt()
