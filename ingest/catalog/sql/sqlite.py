"""SQLite on the standard library: one thread that writes, one that reads beside it (write-ahead log)."""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
import time
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from typing import Any

from ingest.catalog.sql.continuity import Continuity
from ingest.catalog.sql.driver import Dialect, Rows, Statement, T, Transaction, speller, sqlite_time
from ingest.catalog.sql.strangers import require_ours
from ingest.catalog.sql.url import Target
from ingest.errors import CatalogWentBack

BUSY_TIMEOUT_MS = 30_000
PRAGMAS = (
    f"busy_timeout={BUSY_TIMEOUT_MS}",
    "journal_mode=WAL",
    "synchronous=FULL",
    "foreign_keys=ON",
    "cache_size=-16000",
)

SQLITE = Dialect(
    is_postgres=False,
    listed=json.dumps,
    time=sqlite_time,
    spell=speller(
        numbered=False,
        among="IN (SELECT value FROM json_each(?))",
        now="strftime('%Y-%m-%d %H:%M:%f000', 'now')",
        later="strftime('%Y-%m-%d %H:%M:%f000', 'now', printf('%+.3f seconds', ?))",
        **dict.fromkeys(("for_update", "skip_locked", "no_key_update"), ""),  # whoever writes has the file alone
    ),
)


class SqliteDriver:
    """See `Driver`."""

    dialect = SQLITE
    is_read_only = False

    def __init__(self, target: Target) -> None:
        self._target = target
        self._writer = _connect(target.file, strangers_to=target.shown)
        self._reader = _connect(target.file)
        self._writing = ThreadPoolExecutor(1, "catalog-writes")
        self._reading = ThreadPoolExecutor(1, "catalog-reads")
        self._file = _number_of(target.file)

    @classmethod
    @asynccontextmanager
    async def open(cls, target: Target) -> AsyncIterator[SqliteDriver]:
        with target.translated():
            driver = cls(target)
        try:
            yield driver
        finally:
            for thread in (driver._reading, driver._writing):  # what they are at is finished first
                await asyncio.to_thread(thread.shutdown)
            driver._reader.close()
            driver._writer.close()

    async def fetch(self, sql: str, *values: Any, leisurely: bool = False) -> Rows:
        with self._target.translated():
            return await asyncio.get_running_loop().run_in_executor(self._reading, self._fetch, sql, values)

    async def write(self, transaction: Transaction[T], *, leisurely: bool = False) -> T:
        with self._target.translated():
            return await asyncio.get_running_loop().run_in_executor(self._writing, self._write, transaction)

    @asynccontextmanager
    async def lock(self, name: str) -> AsyncIterator[HeldElsewhere]:
        """SQLite has none: the file lock beside the data is the only one."""
        yield HeldElsewhere(self)

    def hurry(self) -> None:
        """What a thread waits for it waits for: as long as another program holds the file, and no longer than that."""

    def _fetch(self, sql: str, values: tuple[Any, ...]) -> Rows:
        return self._reader.execute(SQLITE.spell(sql), values).fetchall()

    def _write(self, transaction: Transaction[T]) -> T:
        connection = self._writer
        if _number_of(self._target.file) != self._file:  # what is written to a file without a name is lost with it
            raise CatalogWentBack(f"{self._target.shown}: the file was removed or replaced while it was open")
        # A transaction that reads first and writes later would fail as "locked" without waiting: lock at once.
        connection.execute("BEGIN IMMEDIATE")
        try:
            result = _drive(connection, transaction)
            connection.execute("COMMIT")
        except BaseException:
            with suppress(sqlite3.Error):  # some faults have rolled back already
                connection.execute("ROLLBACK")
            raise
        return result


class HeldElsewhere:
    """See `RunLock`: nothing takes a file lock from its holder."""

    def __init__(self, driver: SqliteDriver) -> None:
        self._driver = driver
        self.run: Continuity | None = None

    async def beat(self, transaction: Transaction[T]) -> T:
        return await self._driver.write(transaction)

    async def lost(self) -> None:
        await asyncio.get_running_loop().create_future()  # for ever


def _connect(file: str, *, strangers_to: str = "") -> sqlite3.Connection:
    """`strangers_to` is the name of a file that may be another application's still: then nothing in it is changed."""
    connection = sqlite3.connect(file, isolation_level=None, check_same_thread=False, cached_statements=256)
    try:
        _set(connection, PRAGMAS[0])
        if strangers_to:
            require_ours(connection, strangers_to)
        for pragma in PRAGMAS[1:]:
            _set(connection, pragma)
    except BaseException:
        connection.close()
        raise
    return connection


def _number_of(file: str) -> tuple[int, int] | None:
    """What tells a file from another one that comes to its name; None where there is none."""
    try:
        found = os.stat(file)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _set(connection: sqlite3.Connection, pragma: str) -> None:
    """Waits by itself, as SQLite does for anything but a change of the journal's mode."""
    until = time.monotonic() + BUSY_TIMEOUT_MS / 1000
    while True:
        try:
            connection.execute(f"PRAGMA {pragma}")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > until:
                raise
            time.sleep(0.01)
        else:
            return


def _drive(connection: sqlite3.Connection, transaction: Transaction[T]) -> T:
    steps = transaction(SQLITE)
    rows: Rows = []
    try:
        statement: Statement = next(steps)
        while True:
            if statement.rows is None:
                rows = connection.execute(SQLITE.spell(statement.sql), statement.values).fetchall()
            else:
                connection.executemany(SQLITE.spell(statement.sql), statement.rows)
                rows = []
            statement = steps.send(rows)
    except StopIteration as end:
        result: T = end.value
        return result
