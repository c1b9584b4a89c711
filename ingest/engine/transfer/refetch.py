"""Takes recorded versions again: what restore and repair share. Another version is never taken in their place."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from ingest.catalog.copies import CopyRow
from ingest.engine.record.batch_builder import BatchBuilder
from ingest.engine.record.recorder import Recorder, Taken
from ingest.engine.run import Run
from ingest.engine.transfer.fetch import SameVersionOnly
from ingest.engine.transfer.session import GRACE, concurrency_for, log_outcome, log_retry
from ingest.engine.transfer.transfer import Transfer, TransferPool
from ingest.errors import IngestError, NoSuchKey, ObjectChanged, SourceError
from ingest.model import Counts, Download, Outcome, Reason, Status
from ingest.observe.logs import log
from ingest.plan.checks import check_for
from ingest.plan.concurrency import RetryBudget
from ingest.plan.etags import is_same
from ingest.source.patient import PatientBucket
from ingest.store.files import FileStore
from ingest.store.placing import Strangers
from ingest.system.failpoints import failpoint


@dataclass(frozen=True)
class Refetch:
    """Open transfers into `store`. `keeps_rows` writes files only, and leaves the catalog as it is."""

    run: Run
    store: FileStore
    recorder: Recorder
    pool: TransferPool
    fetch: SameVersionOnly
    keeps_rows: bool

    async def submit(self, row: CopyRow, reason: Reason) -> None:
        """Waits for a place in the queue.

        Raises:
            IngestError: recording ended, or the disk failed.
        """
        remote = row.remote
        await self.recorder.ready()
        self.run.progress.planned(1, remote.size)
        await self.pool.submit(Download(remote, None if self.keeps_rows else row.decided_on, reason))
        failpoint("restore.submitted")

    async def take_up(self, row: CopyRow) -> bool:
        """Whether the file at the copy's place is the version that the bucket holds now, which is not the recorded one:
        then that is recorded, as after a database has forgotten the newer row.

        Raises:
            IngestError: recording ended.
        """
        if row.local_path is None or self.store.taken is not None:  # there a file may be another key's as well
            return False
        wanted = row.remote
        try:
            newest = await self.fetch.as_it_is(wanted)
        except SourceError:
            return False  # its download meets the same, and says so
        if is_same(newest.etag, wanted.etag) and newest.size == wanted.size:
            return False
        check = check_for(newest.etag, newest.size)
        found = await asyncio.to_thread(self.store.adopt_at, row.local_path, newest.size, check)
        if found is not None:
            await self.recorder.ready()
            self.recorder.add(Taken(Download(wanted, row.decided_on, Reason.REPAIR), newest, found, 1, 0))
        return found is not None

    async def refuse(self, row: CopyRow, reason: Reason, error: IngestError) -> None:
        """As one that was submitted and failed, without a download. Raises as `submit`."""
        await self.recorder.ready()
        self.run.progress.planned(1, row.remote.size)
        action = Download(row.remote, None, reason)
        self.recorder.add(Outcome(action, Status.FAILED, row.remote, error=error))

    async def drain(self) -> None:
        """Waits until everything that was submitted is staged.

        Raises:
            IngestError: the disk failed, or the run was asked to stop.
        """
        drained = asyncio.ensure_future(self.pool.drain())
        stopping = asyncio.ensure_future(self.run.stop.wait())
        try:
            await asyncio.wait({drained, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if drained.done():
                await drained
                failpoint("restore.downloaded")
            else:
                self.run.stop.raise_if_requested()
        finally:
            drained.cancel()
            stopping.cancel()


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
    store = FileStore(target, run.source.directory, strangers)
    keeps_rows = strangers is not Strangers.NONE
    try:
        store.sweep()
        concurrency = concurrency_for(None)
        etags = await run.catalog.etags(run.source.id)
        opening = PatientBucket.open(
            run.settings.source,
            connections=concurrency.ceiling,
            bwlimit=bwlimit,
            etags=etags,
            clock=run.clock,
            on_overload=concurrency.overloaded,
        )
        async with opening as bucket:
            fetch = SameVersionOnly(bucket, store)
            transfer = Transfer(fetch, concurrency, RetryBudget(), log_retry)
            where = run.id, run.source.id, run.source.bucket
            builder = BatchBuilder(*where, downloaded=called, etags=etags, deliver_to=deliver_to, now=run.clock.now)

            def seen(outcome: Outcome) -> None:
                _log(outcome)
                if outcome.remote is not None:
                    run.progress.finished(outcome.remote.size, failed=outcome.status is Status.FAILED)
                committed(outcome)

            recorder = Recorder(run.catalog, store, builder, Counts(), seen, keeps_rows=keeps_rows)
            recorder.start(run.stop)
            pool = TransferPool(transfer, recorder.add, concurrency)
            open_transfers = Refetch(run, store, recorder, pool, fetch, keeps_rows)
            try:
                yield open_transfers
                await open_transfers.drain()
            finally:
                try:
                    if run.stop.requested:
                        bucket.abandon(run.stop.error)
                    await open_transfers.pool.stop(GRACE)
                finally:
                    await recorder.close()
    finally:
        store.close()


def _log(outcome: Outcome) -> None:
    log_outcome(outcome)
    remote = outcome.remote
    if remote is None:
        return
    if isinstance(outcome.error, NoSuchKey):
        log().error("gone_at_source", key=remote.key, message=f"{remote.key}: gone at source")
    elif isinstance(outcome.error, ObjectChanged):
        log().error("changed_at_source", key=remote.key, message=f"{remote.key}: changed at source")
