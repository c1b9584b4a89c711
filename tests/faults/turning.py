"""A database that goes back to what it was: as when a standby takes over that had not heard of the last transactions.

On PostgreSQL another database comes under the same name, and every session ends, as in a failover; on SQLite somebody
puts a backup into the file while runs are at work on it, as the shell's ``.restore`` does.
"""

from __future__ import annotations

import asyncio
import itertools
import sqlite3
from collections.abc import Coroutine
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import asyncpg

from tests.faults.databases import sqlite_file

_numbers = itertools.count(1)
_END_SESSIONS = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1 AND pid <> pg_backend_pid()"


@dataclass
class Turning:
    """`keep` what the database holds now, then `turn` it back to that; nothing of this process runs meanwhile."""

    url: str
    home: Path
    _kept: str = ""

    def keep(self) -> None:
        self._kept = f"kept_{next(_numbers)}"
        file = sqlite_file(self.url)
        if file is not None:
            _copy(file, self.home / self._kept)
        else:
            _alone(self._keep())

    def turn(self) -> None:
        file = sqlite_file(self.url)
        if file is not None:
            _copy(self.home / self._kept, file)
        else:
            _alone(self._turn())

    async def ask(self, query: str) -> Any:
        """One value, by a session of its own."""
        file = sqlite_file(self.url)
        if file is not None:
            with closing(sqlite3.connect(file)) as opened:
                return opened.execute(query).fetchone()[0]
        connection = await asyncpg.connect(self.url.replace("+asyncpg", ""))
        try:
            return await connection.fetchval(query)
        finally:
            await connection.close()

    def tell(self, statement: str) -> None:
        """Has the database changed by somebody else; nothing of this process runs meanwhile."""
        file = sqlite_file(self.url)
        if file is None:
            _alone(self._tell(statement))
            return
        with closing(sqlite3.connect(file, timeout=30)) as opened, opened:
            opened.execute(statement)

    @property
    def _name(self) -> str:
        return urlsplit(self.url).path.lstrip("/")

    async def _beside(self) -> asyncpg.Connection:
        return await asyncpg.connect(urlunsplit(urlsplit(self.url)._replace(scheme="postgresql", path="/postgres")))

    async def _tell(self, statement: str) -> None:
        connection = await asyncpg.connect(self.url.replace("+asyncpg", ""))
        await connection.execute(statement)
        await connection.close()

    async def _keep(self) -> None:
        connection = await self._beside()
        await connection.execute(_END_SESSIONS.replace("$1", f"'{self._name}'"))
        await connection.execute(f"CREATE DATABASE {self._kept} TEMPLATE {self._name}")
        await connection.close()

    async def _turn(self) -> None:
        connection = await self._beside()
        await connection.execute(_END_SESSIONS.replace("$1", f"'{self._name}'"))
        async with connection.transaction():
            await connection.execute(f"ALTER DATABASE {self._name} RENAME TO lost_{self._kept}")
            await connection.execute(f"ALTER DATABASE {self._kept} RENAME TO {self._name}")
        await connection.close()


def _copy(source: Path, target: Path) -> None:
    with closing(sqlite3.connect(source)) as one, closing(sqlite3.connect(target, timeout=30)) as other:
        one.backup(other)


def _alone(work: Coroutine[Any, Any, None]) -> None:
    """In a loop of its own, while this thread, and with it every run in it, waits."""
    failed: list[BaseException] = []

    def run() -> None:
        try:
            asyncio.run(work)
        except BaseException as error:  # noqa: BLE001 - raised below
            failed.append(error)

    thread = Thread(target=run)
    thread.start()
    thread.join()
    if failed:
        raise failed[0]
