"""Opens the database, and turns its driver's errors into ours without ever showing a password."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import event, exc
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from ingest.errors import DatabaseBusy, DatabaseError

_BUSY_TIMEOUT_MS = 30_000
_DIALECT_NAMES = re.compile(r"^(?:\([^)]*\)\s*|<class '[^']*'>:\s*)+")


def create_engine(url: str) -> AsyncEngine:
    """An engine for ``sqlite+aiosqlite`` or ``postgresql+asyncpg``; nothing is connected yet."""
    parsed = make_url(url)
    if parsed.get_backend_name() != "sqlite":
        return create_async_engine(parsed, pool_size=8, max_overflow=8, pool_pre_ping=True, hide_parameters=True)
    engine = create_async_engine(parsed, pool_size=4, max_overflow=4, hide_parameters=True)
    event.listen(engine.sync_engine, "connect", _prepare_sqlite)
    event.listen(engine.sync_engine, "begin", _begin_sqlite)
    return engine


def _prepare_sqlite(connection: Any, _record: object) -> None:
    connection.isolation_level = None  # SQLAlchemy's own BEGIN below: sqlite3's would come too late for a write lock
    cursor = connection.cursor()
    for pragma in (
        "journal_mode=WAL",
        "synchronous=FULL",
        f"busy_timeout={_BUSY_TIMEOUT_MS}",
        "foreign_keys=ON",
        "cache_size=-16000",
    ):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin_sqlite(connection: Any) -> None:
    # A transaction that reads first and writes later would fail as "locked" without waiting: take the write lock now.
    writes = connection.get_execution_options().get("writes")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


@contextmanager
def translated(url: str) -> Iterator[None]:
    """Everything that a driver raises becomes a `DatabaseError` of one line."""
    try:
        yield
    except exc.DBAPIError as error:
        raise _translate(str(error.orig or error), url) from error
    except (exc.SQLAlchemyError, OSError) as error:
        raise _translate(str(error), url) from error
    except Exception as error:
        # asyncpg raises its own classes while it connects, before SQLAlchemy wraps them.
        if type(error).__module__.partition(".")[0] in ("asyncpg", "sqlite3"):
            raise _translate(str(error), url) from error
        raise


def _translate(reason: str, url: str) -> DatabaseError:
    parsed = make_url(url)
    shown = parsed.render_as_string(hide_password=True)
    line = _DIALECT_NAMES.sub("", reason).split("\n")[0].strip()
    if parsed.password:
        line = line.replace(str(parsed.password), "***")
    lowered = line.lower()
    message = f"{shown}: {line}"
    if "locked" in lowered or "serialize" in lowered or "deadlock" in lowered:
        return DatabaseBusy(message, hint="Another program holds the database; run again when it has ended.")
    if "no such table" in lowered or ("relation" in lowered and "does not exist" in lowered):
        return DatabaseError(message, hint="Run `ingest db upgrade`.")
    if "unable to open database file" in lowered or "readonly" in lowered:
        return DatabaseError(message, hint="Check that the file and its directory can be written by this user.")
    if "not a database" in lowered:
        return DatabaseError(message, hint="The file is not a SQLite database; check DATABASE_URL.")
    return DatabaseError(message)
