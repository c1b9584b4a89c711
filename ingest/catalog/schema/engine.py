"""SQLAlchemy's engine, for migrations alone: everything else goes by way of `catalog.sql`."""

from __future__ import annotations

from functools import partial
from typing import Any

from sqlalchemy import NullPool, event
from sqlalchemy.engine import URL
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from ingest.catalog.sql.deadlines import Deadlines
from ingest.catalog.sql.sqlite import PRAGMAS
from ingest.catalog.sql.url import Target


def create_engine(url: str) -> AsyncEngine:
    """An engine for ``sqlite+aiosqlite`` or ``postgresql+asyncpg`` that keeps no connection and has made none yet.

    On SQLite each transaction has the write lock from its beginning.
    """
    target = Target.of(url)  # both ways to the database read its URL alike
    if target.is_postgres:
        of_asyncpg = URL.create("postgresql+asyncpg")
        connecting = partial(_connect, target)
        return create_async_engine(of_asyncpg, async_creator=connecting, poolclass=NullPool, hide_parameters=True)
    file = URL.create("sqlite+aiosqlite", database=target.file)
    engine = create_async_engine(file, poolclass=NullPool, hide_parameters=True)
    event.listen(engine.sync_engine, "connect", _prepare_sqlite)
    event.listen(engine.sync_engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN IMMEDIATE"))
    return engine


async def _connect(target: Target) -> Any:
    from ingest.catalog.sql.sessions import connect

    return await connect(target, Deadlines(target.answer))


def _prepare_sqlite(connection: Any, _record: object) -> None:
    connection.isolation_level = None  # SQLAlchemy's own BEGIN above: sqlite3's would come too late for a write lock
    cursor = connection.cursor()
    for pragma in PRAGMAS:
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()
