"""Takes recorded versions again, never another one in their place: what restore, repair and a delivery share."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from ingest.catalog.copies import CopyRow, copies_of
from ingest.engine.record.recorder import INTERVAL, Taken
from ingest.engine.run import Run
from ingest.engine.transfer.session import Session, SessionOptions, transferring, without_leftovers
from ingest.errors import IngestError, NoSuchKey, ObjectChanged, RowNotFound, SourceError
from ingest.model import Download, LocalCopy, Outcome, Reason, Status
from ingest.observe.logs import log
from ingest.plan.checks import check_for
from ingest.plan.etags import is_same
from ingest.source.patient import PatientBucket
from ingest.store.files import FileStore
from ingest.store.placing import Strangers
from ingest.system.failpoints import failpoint

_AT_ONCE = 16
"""Copies that are brought back for deliveries."""
_GATHER_SECONDS = INTERVAL
"""That each of them waits for others to be recorded with it."""


@dataclass(frozen=True)
class Refetch:
    """Many copies, by rows that were read. `keeps_rows` writes files only, and leaves the catalog as it is."""

    session: Session[PatientBucket]
    keeps_rows: bool

    async def submit(self, row: CopyRow, reason: Reason) -> None:
        """Waits for a place in the queue.

        Raises:
            IngestError: recording ended, or the disk failed.
        """
        await self._announce(row)
        await self.session.submit(Download(row.remote, None if self.keeps_rows else row.decided_on, reason))
        failpoint("restore.submitted")

    async def refuse(self, row: CopyRow, reason: Reason, error: IngestError) -> None:
        """As one that was submitted and failed, without a download. Raises as `submit`."""
        await self._announce(row)
        self.session.record(Outcome(Download(row.remote, None, reason), Status.FAILED, row.remote, error=error))

    async def take_up(self, row: CopyRow) -> bool:
        """Whether the file at the copy's place is the version that the bucket holds now, which is not the recorded one:
        then that is recorded, as after a database has forgotten the newer row.

        Raises:
            IngestError: recording ended.
        """
        session, wanted = self.session, row.remote
        if row.local_path is None or session.store.taken is not None:  # there a file may be another key's as well
            return False
        try:
            newest = await session.fetch.as_it_is(wanted)
        except SourceError:
            return False  # its download meets the same, and says so
        if is_same(newest.etag, wanted.etag) and newest.size == wanted.size:
            return False
        check = check_for(newest.etag, newest.size)
        found = await asyncio.to_thread(session.store.adopt_at, row.local_path, newest.size, check)
        if found is not None:
            await session.recorder.ready()
            session.record(Taken(Download(wanted, row.decided_on, Reason.REPAIR), newest, found, 1, 0))
        return found is not None

    async def _announce(self, row: CopyRow) -> None:
        await self.session.recorder.ready()
        self.session.run.progress.planned(1, row.remote.size)


@asynccontextmanager
async def refetching(
    run: Run,
    target: Path,
    committed: Callable[[Outcome], None],
    *,
    called: str,
    strangers: Strangers = Strangers.NONE,
    bwlimit: int | None = None,
    deliver_to: str = "",
) -> AsyncIterator[Refetch]:
    """Transfers into the store at `target`; what was submitted is recorded when the block is left.

    `committed` sees each outcome once it is recorded; the audit trail has the copies as `called`. Where there may be
    `strangers`, `target` is none of the catalog's, and no row is written. What turns out to be a newer version than the
    recorded one is put in line for `deliver_to`.
    """
    how = SessionOptions(
        refetched_as=called, keeps_rows=strangers is not Strangers.NONE, bwlimit=bwlimit, deliver_to=deliver_to
    )

    def seen(outcome: Outcome) -> None:
        remote = outcome.remote
        if remote is not None and isinstance(outcome.error, NoSuchKey):
            log().error("gone_at_source", key=remote.key, message=f"{remote.key}: gone at source")
        elif remote is not None and isinstance(outcome.error, ObjectChanged):
            log().error("changed_at_source", key=remote.key, message=f"{remote.key}: changed at source")
        committed(outcome)

    with without_leftovers(FileStore(target, run.source.directory, strangers)) as store:
        async with transferring(run, PatientBucket, store, how, seen) as session:
            yield Refetch(session, how.keeps_rows)
            await session.drain()
            failpoint("restore.downloaded")


@dataclass
class SingleRefetch:
    """Single copies, on the way to their delivery. Opens the bucket when the first one is asked for, by a key. Use
    `refetching_singly` to make one."""

    run: Run
    store: FileStore
    _stack: AsyncExitStack
    _session: Session[PatientBucket] | None = None
    _opening: asyncio.Lock = field(default_factory=asyncio.Lock)
    _limit: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(_AT_ONCE))

    async def __call__(self, key: str, etag: str) -> LocalCopy:
        """The durable copy of this version, and its row.

        Raises:
            NoSuchKey: gone at source. ObjectChanged: another version stands there, or is recorded. IngestError: other.
        """
        row = (await copies_of(self.run.catalog, self.run.source.id, [key])).get(key)
        if row is None:
            raise RowNotFound(f"{key!r} is not in the catalog")
        failpoint("recall.read")
        if row.remote.etag != etag:
            raise ObjectChanged(f"{key!r}: another version is recorded")
        async with self._limit:
            session = await self._open()
            outcome = await session.one(Download(row.remote, row.decided_on, Reason.RESTORE))
        if outcome.copy is None:
            raise outcome.error or SourceError(f"{key!r} could not be brought back")
        return outcome.copy

    async def _open(self) -> Session[PatientBucket]:
        async with self._opening:
            if self._session is None:
                how = SessionOptions(refetched_as="restored", transfers=_AT_ONCE, interval=_GATHER_SECONDS)
                opening = transferring(self.run, PatientBucket, self.store, how, self._committed)
                self._session = await self._stack.enter_async_context(opening)
        return self._session

    def _committed(self, outcome: Outcome) -> None:
        if outcome.copy is not None:
            self.run.counts.restored += 1
            self.run.counts.bytes += outcome.received


@asynccontextmanager
async def refetching_singly(run: Run, store: FileStore) -> AsyncIterator[SingleRefetch]:
    """`store` is somebody else's, who closes it."""
    async with AsyncExitStack() as stack:
        yield SingleRefetch(run, store, stack)
