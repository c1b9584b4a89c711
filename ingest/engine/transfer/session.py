"""Open transfers: from the run's bucket into a store and the catalog, and closed in an order that loses nothing.

Everything that takes objects goes through a session: sync and backfill, restore, repair, events, and a delivery whose
copy is damaged.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator, Mapping
from contextlib import asynccontextmanager, closing, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Generic, TypeVar

from ingest.engine.record.batch_builder import Announced, BatchBuilder
from ingest.engine.record.page_notes import Tallied
from ingest.engine.record.recorder import INTERVAL, Recorder, Taken
from ingest.engine.run import Run
from ingest.engine.transfer.fetch import Fetch, SameVersionOnly
from ingest.engine.transfer.pool import TransferPool
from ingest.engine.transfer.transfer import Transfer
from ingest.errors import IngestError, InterruptedRun, NoSuchKey, SourceError
from ingest.model import Counts, Download, Outcome, Status
from ingest.observe.logs import log
from ingest.plan.concurrency import Concurrency, RetryBudget
from ingest.plan.cursors import Part
from ingest.source.patient import PatientBucket
from ingest.store.files import FileStore, Staged
from ingest.tasks.threads import ends_first

B = TypeVar("B", bound=PatientBucket)
MOST_TRANSFERS = 256
GRACE = 5.0
"""Seconds that transfers under way get when the run is asked to stop."""


@dataclass(frozen=True, kw_only=True)
class SessionOptions:
    """What the sessions of different commands differ in."""

    refetched_as: str = ""
    """What the audit trail calls recorded versions that are taken again: then no other version is taken in their place,
    and whoever asks counts them. Empty: objects are taken as they are, and counted by the run."""
    keeps_rows: bool = False
    """Writes files only, and leaves the catalog as it is."""
    deliver_to: str = ""
    """The service that every copy taken is put in line for; none when empty."""
    announced: Mapping[str, Announced] = field(default_factory=dict)
    """What events say of keys (see `BatchBuilder`)."""
    transfers: int | None = None
    """At once; None: a level that finds itself."""
    listers: int = 0
    """Requests that are under way beside the transfers'."""
    bwlimit: int | None = None
    """Bytes a second, over all transfers."""
    patience: float | None = None
    """Seconds for which a bucket may be away, instead of the setting's."""
    interval: float = INTERVAL
    """Seconds after which what is transferred is recorded, however little it is."""


@dataclass
class Session(Generic[B]):
    """Use `transferring` to open one. `committed` sees each outcome once it is recorded."""

    run: Run
    store: FileStore
    bucket: B
    fetch: Fetch
    transfer: Transfer
    recording: Callable[[Callable[[Outcome], None]], Recorder]
    committed: Callable[[Outcome], None]

    def __post_init__(self) -> None:
        self.pool = TransferPool(self.transfer, self.record, self.transfer.concurrency)
        self._awaited: dict[int, tuple[Download, asyncio.Future[Outcome]]] = {}
        """By the identity of an action, which is held so that it stays unique: two may want one key at once."""
        self._start_recording()

    def submit(self, action: Download, part: Part | None = None) -> Awaitable[None]:
        """Waits for a place in the queue: what is listed and not downloaded yet never piles up.

        Raises:
            IngestError: the transfers have stopped.
        """
        return self.pool.submit(action, part)

    def record(self, result: Outcome | Taken | Tallied, part: Part | None = None) -> None:
        """Takes what came of an object: see `Recorder.add`."""
        self.recorder.add(result, part)

    async def one(self, action: Download) -> Outcome:
        """What came of a single object, once that is recorded.

        Raises:
            IngestError: it could not be recorded, as nothing else of that moment. What comes later may be.
        """
        result = await self.transfer(action)
        recorder = self.recorder
        recorded: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self._awaited[id(action)] = action, recorded
        recorder.add(result)
        if await ends_first(recorded, recorder.failed()):
            return recorded.result()
        del self._awaited[id(action)]
        if isinstance(result, Taken) and isinstance(result.staged, Staged):
            self.store.discard(result.staged)
        with suppress(IngestError):
            await recorder.close()
        if self.recorder is recorder:
            self._start_recording()
        raise recorder.failure or IngestError("recording ended")

    async def during(self, work: Coroutine[Any, Any, None]) -> None:
        """Awaits `work`, which is cancelled once the run is asked to stop, or recording has ended.

        Raises:
            IngestError: why `work` or recording has ended. InterruptedRun: asked to stop.
        """
        working = asyncio.create_task(work)
        if not await ends_first(working, self.run.stop.wait(), self.recorder.failed()):
            self.run.stop.raise_if_requested()
            await self.recorder.close()
        working.result()

    async def drain(self) -> None:
        """Waits until everything that was submitted is staged. Raises as `during`."""
        await self.during(self.pool.drain())

    async def __aenter__(self) -> Session[B]:
        return self

    async def __aexit__(self, _: object, error: BaseException | None, __: object) -> None:
        """What is under way gets a moment to end where it still can, and what was finished is recorded in any case."""
        hopeless = isinstance(error, IngestError) and not isinstance(error, SourceError | InterruptedRun)
        try:
            if self.run.stop.requested:
                self.bucket.abandon(self.run.stop.error)
            await self.pool.stop(0.0 if hopeless else GRACE)
        finally:
            await self.recorder.close()
        if isinstance(self.pool.failure, IngestError) and (error is None or isinstance(error, InterruptedRun)):
            raise self.pool.failure  # it showed only when the last files were put in their places

    def _start_recording(self) -> None:
        """Anew after a recorder that has failed: what failed it may be over."""
        recorder = self.recording(self._committed)
        recorder.start(self.run.stop)
        self.recorder = recorder

    def _committed(self, outcome: Outcome) -> None:
        _log_outcome(outcome)
        _, waiting = self._awaited.pop(id(outcome.action), (None, None)) if self._awaited else (None, None)
        if waiting is not None:
            if not waiting.done():
                waiting.set_result(outcome)
        elif isinstance(outcome.action, Download):
            self.run.progress.finished(outcome.action.remote.size, failed=outcome.status is Status.FAILED)
        self.committed(outcome)


@asynccontextmanager
async def transferring(
    run: Run, kind: type[B], store: FileStore, how: SessionOptions, committed: Callable[[Outcome], None]
) -> AsyncIterator[Session[B]]:
    """A session into `store`, from a bucket of this `kind`. When the block is left it is closed, and all is recorded
    that was finished; `drain` first, to have all finished that was submitted.

    Raises:
        IngestError: it cannot be opened, or what was finished cannot be recorded.
    """
    concurrency = concurrency_for(how.transfers)
    etags = await run.catalog.etags(run.source.id)
    opening = kind.open(
        run.settings.source,
        connections=concurrency.ceiling + how.listers,
        bwlimit=how.bwlimit,
        etags=etags,
        clock=run.clock,
        patience=how.patience,
        on_overload=concurrency.overloaded,
    )
    builder = BatchBuilder(
        run.id,
        run.source.id,
        run.source.bucket,
        downloaded=how.refetched_as or "downloaded",
        deliver_to=how.deliver_to,
        etags=etags,
        now=run.clock.now,
        announced=how.announced,
    )
    where, counts = (run.catalog, store, builder), Counts() if how.refetched_as else run.counts
    recording = partial(Recorder, *where, counts, keeps_rows=how.keeps_rows, interval=how.interval)
    async with opening as bucket:
        fetch = (SameVersionOnly if how.refetched_as else Fetch)(bucket, store)
        transfer = Transfer(fetch, concurrency, RetryBudget(), _log_retry)
        async with Session(run, store, bucket, fetch, transfer, recording, committed) as session:
            yield session


@contextmanager
def without_leftovers(store: FileStore) -> Iterator[FileStore]:
    """`store` without what runs that are gone have left behind; it is closed in the end."""
    with closing(store):
        store.sweep()
        yield store


def concurrency_for(transfers: int | None) -> Concurrency:
    """A fixed level, or one that finds itself within what the file descriptors allow."""
    import resource

    if transfers is not None:
        return Concurrency.fixed(transfers)
    descriptors = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return Concurrency(ceiling=max(24, min(MOST_TRANSFERS, descriptors // 4)))


def _log_retry(action: Download, error: IngestError, attempt: int, pause: float) -> None:
    log().warning(
        "retry", key=action.remote.key, error=error.code, message=error.message, attempt=attempt, pause=round(pause, 2)
    )


def _log_outcome(outcome: Outcome) -> None:
    if outcome.status is Status.FAILED and outcome.remote is not None and outcome.error is not None:
        log().error(
            "object_failed",
            key=outcome.remote.key,
            error=outcome.error.code,
            message=outcome.error.message,
            attempts=outcome.attempts,
        )
    elif isinstance(outcome.action, Download) and outcome.action.is_listed and isinstance(outcome.error, NoSuchKey):
        said = "it was listed, and is gone; should it be listed again, and still not be there, it fails"
        log().info("object_gone", key=outcome.action.remote.key, message=said)
    elif isinstance(outcome.action, Download) and outcome.copy is not None:
        log().debug(
            "object_adopted" if outcome.adopted else "object_downloaded",
            key=outcome.action.remote.key,
            size=outcome.copy.size,
        )
