"""SQLAlchemy's engine, for migrations and for what people ask now and then."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from sqlalchemy import Table, event, text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import URL
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from ingest.catalog.sql.deadlines import LEISURE, Deadlines
from ingest.catalog.sql.driver import T, Transaction
from ingest.catalog.sql.sqlite import PRAGMAS, SQLITE
from ingest.catalog.sql.url import Target

CONNECTIONS = 3


def create_engine(url: str, *, asked: bool = False, address: str = "") -> AsyncEngine:
    """An engine for ``sqlite+aiosqlite`` or ``postgresql+asyncpg``; nothing is connected yet.

    `asked` is as in `Target`; `address` is how a SQLite file is to be opened that can only be read.
    """
    target = Target.of(url, asked=asked)  # both ways to the database read its URL alike
    if target.is_postgres:
        return create_async_engine(
            URL.create("postgresql+asyncpg"),
            async_creator=partial(_connect, target),
            pool_size=CONNECTIONS,
            max_overflow=0,
            pool_pre_ping=True,
            hide_parameters=True,
        )
    file = URL.create("sqlite+aiosqlite", database=address or target.file, query={"uri": "true"} if address else {})
    engine = create_async_engine(file, pool_size=4, max_overflow=4, hide_parameters=True)
    event.listen(engine.sync_engine, "connect", partial(_prepare_sqlite, PRAGMAS[:1] if address else PRAGMAS))
    event.listen(engine.sync_engine, "begin", _begin_sqlite)
    return engine


async def _connect(target: Target) -> Any:
    from ingest.catalog.sql.sessions import connect

    return await connect(target, Deadlines(target.answer), command_timeout=LEISURE)


def _prepare_sqlite(pragmas: Sequence[str], connection: Any, _record: object) -> None:
    connection.isolation_level = None  # SQLAlchemy's own BEGIN below: sqlite3's would come too late for a write lock
    cursor = connection.cursor()
    for pragma in pragmas:
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin_sqlite(connection: Any) -> None:
    # A transaction that reads first and writes later would fail as "locked" without waiting: take the write lock now.
    writes = connection.get_execution_options().get("writes")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def upsert(connection: AsyncConnection, table: Table) -> Any:
    """An ``INSERT … ON CONFLICT`` of the connection's dialect, still without its conflict clause."""
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    return dialect.insert(table)


async def lock_source(connection: AsyncConnection, source_id: int) -> None:
    """Before rows of `objects` are written here: the source's row first, as each batch does, so that a batch and this
    transaction never wait in a circle. SQLite has one writer at a time."""
    if connection.dialect.name == "postgresql":
        await connection.execute(text("SELECT 1 FROM sources WHERE id = :id FOR NO KEY UPDATE"), {"id": source_id})


def _as_written(sql: str) -> str:
    return sql


async def within(connection: AsyncConnection, transaction: Transaction[T]) -> T:
    """Runs a transaction of our driver as a part of SQLAlchemy's own."""
    dialect, spell = SQLITE, _as_written
    if connection.dialect.name == "postgresql":
        from ingest.catalog.sql.postgres import POSTGRES, numbered

        dialect, spell = POSTGRES, numbered
    steps = transaction(dialect)
    try:
        statement = next(steps)
        while True:
            if statement.rows is None:
                result = await connection.exec_driver_sql(spell(statement.sql), tuple(statement.values))
                rows = [tuple(row) for row in result] if result.returns_rows else []
            else:
                await connection.exec_driver_sql(spell(statement.sql), [tuple(row) for row in statement.rows])
                rows = []
            statement = steps.send(rows)
    except StopIteration as end:
        value: T = end.value
        return value
