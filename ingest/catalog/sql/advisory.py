"""A run's lock in PostgreSQL: an advisory lock on a session of its own, which also carries the run's heartbeat.

The lock ends with its session, and whoever comes next may have it then. So a session that breaks is noticed: at once
where the server ends it, at a heartbeat's deadline where a firewall does. Nothing is written from then on until the
lock is ours again, as after a restart of the server. It is not once another run has had it in between: that one has
marked ours as interrupted.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, NoReturn

from ingest.catalog.sql.continuity import Continuity
from ingest.catalog.sql.deadlines import Deadlines
from ingest.catalog.sql.driver import T, Transaction
from ingest.catalog.sql.sessions import CLOSE_SECONDS, connect
from ingest.catalog.sql.url import Target
from ingest.errors import CatalogWentBack, DatabaseError, LockLost
from ingest.model import RunStatus

_PAUSES = (0.0, 0.1, 0.2, 0.4)
"""Before each try: the server may take a moment to see that a holder was killed."""
_TAKE = "SELECT pg_try_advisory_lock(hashtextextended($1, 0))"
_FREE = "SELECT pg_advisory_unlock_all()"
_STATUS = "SELECT status, written FROM runs WHERE id = $1 AND started_at = $2"
_AGAIN_SECONDS = 1.0
_BEAT_SECONDS = 15.0
"""For each answer to a heartbeat: small statements, which wait for a batch of the same source at most."""

RunOn = Callable[[Any, Transaction[Any], Callable[[], None]], Awaitable[Any]]
"""Runs a transaction on a session; the last argument is called with each answer."""


class AdvisoryLock:
    """See `RunLock`. Every method raises `DatabaseError` when the database fails."""

    def __init__(self, target: Target, deadlines: Deadlines, name: str, run_on: RunOn) -> None:
        self._target = target
        self._deadlines = deadlines
        self._name = name
        self._run_on = run_on
        self._connection: Any = None
        self._ours = asyncio.Event()
        self._answered_at = 0.0
        """When the lock's session last answered, by the loop's clock."""
        self._broken = asyncio.Event()
        self._guarding: asyncio.Task[NoReturn] | None = None
        self.run: Continuity | None = None

    async def take(self) -> bool:
        """Whether nobody else holds it."""
        got = await self._deadlines.patiently(self._try)
        if got:
            self._guarding = asyncio.create_task(self._guard())
        return got

    async def beat(self, transaction: Transaction[T]) -> T:
        """Runs a transaction on the lock's own session: it shows that the lock is ours still."""
        await self.sure()
        try:
            with self._target.translated():
                async with self._deadlines.limit(min(_BEAT_SECONDS, self._deadlines.answer)) as answered:
                    result: T = await self._run_on(self._connection, transaction, answered)
                    self._answered_at = _now()
                    return result
        except DatabaseError as error:
            if error.retryable:  # whatever is wrong with this session, another one will show it
                self._connection.terminate()
            raise

    async def sure(self) -> None:
        """Waits until the lock is ours, should it be in doubt.

        Raises:
            LockLost: it is not any more.
        """
        if self._ours.is_set() or self._guarding is None:
            return
        again = asyncio.ensure_future(self._ours.wait())
        try:
            await asyncio.wait({again, self._guarding}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            again.cancel()
        if self._guarding.done():
            self._guarding.result()

    async def lost(self) -> None:
        """See `RunLock`."""
        if self._guarding is not None:
            await asyncio.shield(self._guarding)

    async def close(self) -> None:
        """Gives the lock up; it ends with its session in any case."""
        if self._guarding is not None:
            self._guarding.cancel()
            await asyncio.wait({self._guarding})
            self._guarding.cancelled() or self._guarding.exception()  # seen
        if self._connection is None:
            return
        self._connection.remove_termination_listener(self._ended)
        if self._ours.is_set():
            with suppress(Exception):  # a pooler may keep the session, and would keep the lock with it
                async with asyncio.timeout(min(CLOSE_SECONDS, self._deadlines.answer)):
                    await self._connection.execute(_FREE)
                    await self._connection.close()
        self._connection.terminate()

    async def _try(self) -> bool:
        """One session, and a few tries at the lock on it; it is kept when it has the lock, or is to say who has."""
        with self._target.translated():
            async with self._deadlines.limit():
                connection = await connect(self._target, self._deadlines)
                try:
                    got = await self._had(connection)
                except BaseException:
                    connection.terminate()
                    raise
        if not got:
            connection.terminate()
            return False
        self._connection = connection
        self._broken.clear()
        connection.add_termination_listener(self._ended)
        self._answered_at = _now()
        self._ours.set()
        return True

    async def _had(self, connection: Any) -> bool:
        for pause in _PAUSES:
            await asyncio.sleep(pause)
            if await connection.fetchval(_TAKE, f"ingest {self._name}"):
                return self.run is None or await _is_on_record(connection, self.run)
        return False

    def _ended(self, _connection: Any) -> None:
        self._ours.clear()
        self._broken.set()

    async def _guard(self) -> NoReturn:
        while True:
            await self._broken.wait()
            await self._regain()

    async def _regain(self) -> None:
        """
        Raises:
            LockLost: another session has the lock, or has had it, or the database stays away. CatalogWentBack: it is
                back, and has forgotten what the run had written.
        """
        silent_since = self._answered_at
        while True:
            # A session of ours that is not known to be over yet is over in less time than a server that starts anew.
            patience, reason = self._deadlines.answer, "another session has it"
            try:
                if await self._try():
                    return
            except CatalogWentBack:
                raise
            except DatabaseError as error:
                patience, reason = self._deadlines.patience, error.message
            if _now() + _AGAIN_SECONDS > silent_since + patience or self._deadlines.is_hurried:
                raise LockLost(f"the lock `{self._name}` was lost with its connection: {reason}")
            await asyncio.sleep(_AGAIN_SECONDS)


async def _is_on_record(connection: Any, run: Continuity) -> bool:
    """Whether no other run has had the lock. Raises `CatalogWentBack`."""
    row = await connection.fetchrow(_STATUS, run.run_id, run.started_at)
    run.require(None if row is None else row["written"])
    return bool(row["status"] == RunStatus.RUNNING)


def _now() -> float:
    return asyncio.get_running_loop().time()
