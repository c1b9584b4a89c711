"""A SQLite catalog that can only be read: on a disk that is mounted so, or by a user who may not write where it lies.

SQLite reads a write-ahead log by an index beside it, which it makes where there is none. Here it cannot, so:

| beside the file | it is opened |
|---|---|
| a log and its index, as while somebody writes, or after a kill | as it is |
| no log, or one without a byte: all is in the file | as one that nobody changes, and again should somebody do so |
| a log without its index, as a backup may have it | in a copy of both, which is removed again |
"""

from __future__ import annotations

import asyncio
import os
import shutil
import sqlite3
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, asynccontextmanager, contextmanager
from typing import Any
from urllib.parse import quote

from ingest.catalog.sql.driver import Rows, RunLock, T, Transaction
from ingest.catalog.sql.sqlite import BUSY_TIMEOUT_MS, SQLITE
from ingest.catalog.sql.strangers import require_ours
from ingest.catalog.sql.url import Target
from ingest.errors import DatabaseBusy, DatabaseError

_LOG, _INDEX, _JOURNAL = "-wal", "-shm", "-journal"
_UNOPENED = (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY)
_TRIES = 5
_PAUSE = 0.05
"""Seconds that a writer needs to make, or to remove, what lies beside the file."""


class ReadOnlyDriver:
    """See `Driver`: it only fetches. A question that is answered while somebody writes is asked again."""

    dialect = SQLITE
    is_read_only = True

    def __init__(self, target: Target) -> None:
        self._target = target
        self._thread = ThreadPoolExecutor(1, "catalog-reads")
        self._open()

    @classmethod
    @asynccontextmanager
    async def open(cls, target: Target) -> AsyncIterator[ReadOnlyDriver]:
        with target.translated():
            driver = cls(target)
        try:
            yield driver
        finally:
            await asyncio.to_thread(driver._thread.shutdown)
            driver._closing.close()

    async def fetch(self, sql: str, *values: Any, leisurely: bool = False) -> Rows:
        with self._target.translated():
            return await asyncio.get_running_loop().run_in_executor(self._thread, self._fetch, sql, values)

    async def write(self, transaction: Transaction[T], *, leisurely: bool = False) -> T:
        raise DatabaseError(f"{self._target.shown} can only be read here", hint="Nothing of it was changed.")

    @asynccontextmanager
    async def lock(self, name: str) -> AsyncIterator[RunLock | None]:
        raise DatabaseError(f"{self._target.shown} can only be read here", hint="Nothing of it was changed.")
        yield  # what makes this a generator

    def hurry(self) -> None:
        """There is nothing that anybody waits for."""

    def _fetch(self, sql: str, values: tuple[Any, ...]) -> Rows:
        for _ in range(_TRIES):
            try:
                found = self._connection.execute(SQLITE.spell(sql), values).fetchall()
            except sqlite3.DatabaseError:
                if not self._has_changed():
                    raise
            else:
                if not self._has_changed():
                    return found
            self._closing.close()
            self._open()
        raise DatabaseBusy(f"{self._target.shown}: it was written to while it was read", hint="Ask again.")

    def _open(self) -> None:
        for _ in range(_TRIES - 1):
            try:
                return self._try()
            except (sqlite3.OperationalError, FileNotFoundError) as error:
                if isinstance(error, sqlite3.OperationalError) and error.sqlite_errorcode & 0xFF not in _UNOPENED:
                    raise
            time.sleep(_PAUSE)  # somebody has just begun to write, or ended
        self._try()

    def _try(self) -> None:
        file = os.path.realpath(self._target.file)
        self._seen = None
        with ExitStack() as stack:
            if _size(file + _LOG) and not os.path.exists(file + _INDEX):
                self._address = _address(_copied(file, stack.enter_context(_directory())), "mode=ro")
            elif _size(file + _LOG) or os.path.exists(file + _JOURNAL):
                self._address = _address(file, "mode=ro")
            else:
                self._seen = _state(file)
                self._address = _address(file, "mode=ro&immutable=1")
            self._connection = stack.enter_context(_connected(self._address, self._target.shown))
            self._closing = stack.pop_all()

    def _has_changed(self) -> bool:
        return self._seen is not None and self._seen != _state(self._target.file)


def _directory() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="ingest-")


@contextmanager
def _connected(address: str, shown: str) -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(address, uri=True, isolation_level=None, check_same_thread=False)
    try:
        connection.execute(f"PRAGMA busy_timeout={BUSY_TIMEOUT_MS}")
        require_ours(connection, shown)
        yield connection
    finally:
        connection.close()


def _address(file: str, how: str) -> str:
    return f"file:{quote(file)}?{how}"


def _state(file: str) -> tuple[int, int, int]:
    found = os.stat(file)
    return found.st_ino, found.st_size, found.st_mtime_ns


def _size(file: str) -> int:
    try:
        return os.stat(file).st_size
    except FileNotFoundError:
        return 0


def _copied(file: str, directory: str) -> str:
    copy = os.path.join(directory, "catalog.db")
    shutil.copyfile(file, copy)
    shutil.copyfile(file + _LOG, copy + _LOG)
    return copy
