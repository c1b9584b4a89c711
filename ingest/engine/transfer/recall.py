"""Brings single copies back on the way to their delivery: by the same path as a restore, one at a time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from ingest.catalog.copies import copies_of
from ingest.engine.record.batch_builder import BatchBuilder
from ingest.engine.record.recorder import Recorder, Taken
from ingest.engine.run import Run
from ingest.engine.transfer.fetch import SameVersionOnly
from ingest.engine.transfer.session import log_outcome, log_retry
from ingest.engine.transfer.transfer import Transfer
from ingest.errors import IngestError, ObjectChanged, RowNotFound, SourceError
from ingest.model import Counts, Download, LocalCopy, Outcome, Reason
from ingest.plan.concurrency import Concurrency, RetryBudget
from ingest.source.patient import PatientBucket
from ingest.store.files import FileStore, Staged
from ingest.system.failpoints import failpoint

_AT_ONCE = 16


@dataclass
class Recall:
    """Opens the bucket when the first copy is asked for. Call it with a key; use `recalling` to make one."""

    run: Run
    store: FileStore
    stack: AsyncExitStack
    _waiting: dict[int, tuple[Download, asyncio.Future[Outcome]]] = field(default_factory=dict)
    """By the identity of an action, which is held so that it stays unique: two may want one key at once."""
    _opening: asyncio.Lock = field(default_factory=asyncio.Lock)
    _limit: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(_AT_ONCE))
    _transfer: Transfer | None = None
    _builder: BatchBuilder | None = None
    _recorder: Recorder | None = None

    async def __call__(self, key: str, etag: str) -> LocalCopy:
        """The durable copy of this version, and its row.

        Raises:
            NoSuchKey: gone at source. ObjectChanged: another version stands there, or is recorded. IngestError: other.
        """
        found = await copies_of(self.run.catalog, self.run.source.id, [key])
        if key not in found:
            raise RowNotFound(f"{key!r} is not in the catalog")
        row = found[key]
        failpoint("recall.read")
        if row.remote.etag != etag:
            raise ObjectChanged(f"{key!r}: another version is recorded")
        async with self._limit:
            outcome = await self._take(Download(row.remote, row.decided_on, Reason.RESTORE))
        if outcome.copy is None:
            raise outcome.error or SourceError(f"{key!r} could not be brought back")
        return outcome.copy

    async def _take(self, action: Download) -> Outcome:
        async with self._opening:
            if self._transfer is None or self._builder is None:
                self._transfer, self._builder = await self._open()
        result = await self._transfer(action)
        recorder = self._recording(self._builder)
        recorded: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self._waiting[id(action)] = action, recorded
        recorder.add(result)
        failed = asyncio.ensure_future(recorder.failed())
        either: set[asyncio.Future[Any]] = {recorded, failed}
        try:
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        finally:
            failed.cancel()
            self._waiting.pop(id(action), None)
        if not recorded.done():
            if isinstance(result, Taken) and isinstance(result.staged, Staged):
                self.store.discard(result.staged)
            await self._give_up(recorder)
            raise recorder.failure or IngestError("recording ended")
        return recorded.result()

    async def _open(self) -> tuple[Transfer, BatchBuilder]:
        etags = await self.run.catalog.etags(self.run.source.id)
        clock = self.run.clock
        opening = PatientBucket.open(self.run.settings.source, connections=_AT_ONCE, etags=etags, clock=clock)
        reader = await self.stack.enter_async_context(opening)
        self.stack.push_async_callback(self._close)
        transfer = Transfer(SameVersionOnly(reader, self.store), Concurrency.fixed(_AT_ONCE), RetryBudget(), log_retry)
        source = self.run.source
        where = self.run.id, source.id, source.bucket
        return transfer, BatchBuilder(*where, downloaded="restored", etags=etags, now=clock.now)

    def _recording(self, builder: BatchBuilder) -> Recorder:
        """What records now: another one after one that failed, since what failed it may be over."""
        if self._recorder is None:
            recorder = Recorder(self.run.catalog, self.store, builder, Counts(), self._committed)
            recorder.start(self.run.stop)
            self._recorder = recorder
        return self._recorder

    async def _give_up(self, recorder: Recorder) -> None:
        """Each who waited for it is told of its failure, and the run need not end with it."""
        if self._recorder is recorder:
            self._recorder = None
        with suppress(IngestError):
            await recorder.close()

    async def _close(self) -> None:
        if self._recorder is not None:
            await self._recorder.close()

    def _committed(self, outcome: Outcome) -> None:
        log_outcome(outcome)
        if isinstance(outcome.action, Download):
            if outcome.copy is not None:
                self.run.counts.restored += 1
                self.run.counts.bytes += outcome.received
            _, waiting = self._waiting.get(id(outcome.action), (None, None))
            if waiting is not None and not waiting.done():
                waiting.set_result(outcome)


@asynccontextmanager
async def recalling(run: Run, store: FileStore) -> AsyncIterator[Recall]:
    async with AsyncExitStack() as stack:
        yield Recall(run, store, stack)
