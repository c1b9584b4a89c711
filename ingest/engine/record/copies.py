"""Changes copies together with their rows: one process at a time, and after a kill in between nothing has changed.

Files and rows cannot change in one step. So whoever renames or unlinks copies holds a lock from then until the rows are
committed, and keeps the bytes of the present copies that it replaces. Whoever takes the lock and finds its intent knows
that the holder before did not come to its end: what is no longer what its row says is put back, and what stands in the
place of a pruned copy goes (docs/decisions/0015).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field
from math import inf
from pathlib import Path

from ingest.catalog.catalog import Catalog
from ingest.errors import LockedError
from ingest.observe.logs import log
from ingest.store.locks import CopiesLock
from ingest.store.paths import is_place
from ingest.store.undo_log import Replaced, UndoLog
from ingest.system.failpoints import failpoint
from ingest.tasks.stop import Stop

COPIES_PATIENCE = 900.0
"""Seconds that a batch of another process is waited for: one barrier of a slow disk may take minutes."""
STOPPED_PATIENCE = 1.0
"""So long once the run is asked to stop: a batch that is nearly done, but not a process that hangs."""
SAID_SECONDS = 5.0
"""After which it is said who is waited for."""
_HANGS = "If it hangs, end it: whatever it was at is finished or undone after it."
_PAUSE = 0.01
"""Seconds between two tries to get the lock."""


@dataclass
class Copies:
    """The copies of one source in one data directory, from here on; `close` gives up their lock."""

    catalog: Catalog
    source_id: int
    undo_log: UndoLog
    stop: Stop | None = None
    waiting: str = ""
    """Who is waited for, once that takes long; empty: nobody."""
    _lock: CopiesLock = field(init=False)

    def __post_init__(self) -> None:
        locks = self.undo_log.data_dir / ".ingest" / "locks"
        self._lock = CopiesLock(locks / f"{self.undo_log.directory}-copies.lock")

    @property
    def shared(self) -> bool:
        """Whether another process has changed copies since this was made: rows read before may be out of date."""
        return self._lock.shared

    @asynccontextmanager
    async def changing(self) -> AsyncIterator[None]:
        """Files are renamed or unlinked, and their rows committed, inside; an exception leaves it to the next holder to
        undo what was replaced.

        Raises:
            LockedError: another process has it and does not move. InterruptedRun: so it is, and a stop was requested.
            DiskError, DatabaseError: what a killed process left could not be undone.
        """
        await self._take()
        try:
            if self.undo_log.is_left():
                await self._undo()
            yield
            if self.undo_log.is_left():
                await asyncio.to_thread(self.undo_log.drop)
        except asyncio.CancelledError:
            raise  # a thread may still be at it: the lock goes with the process, or with `close`
        except BaseException:
            self._lock.give_back()
            raise
        else:
            self._lock.give_back()

    @asynccontextmanager
    async def still(self) -> AsyncIterator[None]:
        """Nobody is between a file and its row inside, and nothing is to be changed there either; for one at a time.

        Raises:
            LockedError: somebody is. DiskError, DatabaseError: as `changing`.
        """
        await self._take(0.0)
        if self.undo_log.is_left():
            self._lock.give_back()
            async with self.changing():
                pass
            await self._take(0.0)
        try:
            yield
        finally:
            self._lock.give_back()

    def close(self) -> None:
        self._lock.close()

    async def _take(self, patience: float | None = None) -> None:
        now, most = asyncio.get_running_loop().time, COPIES_PATIENCE if patience is None else patience
        began, stopped_at = now(), inf
        try:
            while not self._lock.take():
                failpoint("copies.waiting")
                waited = now() - began
                said = f"process {self._lock.holder()} has been changing copies for {waited:.0f} s"
                if waited >= most:
                    raise LockedError(said, hint=_HANGS)
                if self.stop is not None and self.stop.requested:
                    stopped_at = min(stopped_at, now())
                    if now() - stopped_at >= STOPPED_PATIENCE:
                        raise self.stop.error
                if waited >= SAID_SECONDS and not self.waiting:
                    log().warning("copies_locked", message=f"{said}; it is waited for", hint=_HANGS)
                self.waiting = said if waited >= SAID_SECONDS else ""
                await asyncio.sleep(_PAUSE)
        finally:
            self.waiting = ""

    async def _undo(self) -> None:
        left = await asyncio.to_thread(self.undo_log.left)
        rows = await self.catalog.copies_recorded(self.source_id, [copy.key for copy in left])
        recorded = {Replaced(key, path): digest for key, path, digest in rows}
        pruned = {key for key, _, digest in rows if digest is None}  # it may have been about to come back elsewhere
        directory = self.undo_log.directory
        recorded |= {copy: None for copy in left if copy.key in pruned and is_place(copy.local_path, directory)}
        for copy in await asyncio.to_thread(self.undo_log.undo, recorded):
            log().info("replacement_undone", key=copy.key, message="the run that placed it ended before its row did")
        await asyncio.to_thread(self.undo_log.drop)


async def undo_left(catalog: Catalog, source_id: int, data_dir: Path, directory: str, stop: Stop) -> None:
    """Undoes what a killed run left between files and rows, before another run looks at either.

    Raises:
        LockedError, InterruptedRun, DiskError, DatabaseError: as `Copies.changing`.
    """
    undo_log = UndoLog(data_dir, directory)
    if undo_log.is_left():
        with closing(Copies(catalog, source_id, undo_log, stop)) as copies:
            async with copies.changing():
                pass
