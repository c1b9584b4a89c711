"""The engine of sync and backfill: list, join, decide, transfer, record.

Shard -> Page -> Pair -> Action -> Outcome -> Batch -> RunReport
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime

from ingest.errors import IngestError, SourceError
from ingest.jobs.batches import BatchBuilder
from ingest.jobs.crawl import LISTERS, Crawl
from ingest.jobs.fetch import Fetch
from ingest.jobs.options import SyncOptions
from ingest.jobs.recorder import Recorder
from ingest.jobs.run import Run
from ingest.jobs.tickets import Ticket
from ingest.jobs.transfers import Transfer, TransferPool
from ingest.model import Action, CatalogRow, Download, MarkGone, Outcome, Page, Pair, Shard, Skip, Status
from ingest.observe.logs import log
from ingest.plan.concurrency import Concurrency, RetryBudget
from ingest.plan.policy import decide
from ingest.plan.tally import tally_plan
from ingest.source.reader import BucketReader
from ingest.store.files import FileStore

MOST_TRANSFERS = 256
GRACE = 5.0
"""Seconds that transfers under way get when the run is asked to stop."""


def concurrency_for(transfers: int | None) -> Concurrency:
    """A fixed level, or one that finds itself within what the file descriptors allow."""
    import resource

    if transfers is not None:
        return Concurrency.fixed(transfers)
    descriptors = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return Concurrency(ceiling=max(24, min(MOST_TRANSFERS, descriptors // 4)))


def log_retry(action: Download, error: IngestError, attempt: int, pause: float) -> None:
    log().warning(
        "retry", key=action.remote.key, error=error.code, message=error.message, attempt=attempt, pause=round(pause, 2)
    )


def log_outcome(outcome: Outcome) -> None:
    if outcome.status is Status.FAILED and outcome.remote is not None and outcome.error is not None:
        log().error(
            "object_failed",
            key=outcome.remote.key,
            error=outcome.error.code,
            message=outcome.error.message,
            attempts=outcome.attempts,
        )
    elif isinstance(outcome.action, Download) and outcome.copy is not None:
        log().debug("object_downloaded", key=outcome.action.remote.key, size=outcome.copy.size)


@dataclass
class Pipeline:
    """One pass over a selection of the bucket."""

    run: Run
    options: SyncOptions
    bucket: BucketReader
    pool: TransferPool
    recorder: Recorder

    async def crawl(self) -> None:
        """Lists, decides and hands on, until the listing ends.

        Raises:
            IngestError: a listing failed, or what it hands to has stopped.
        """
        shards, resumed = await self._shards()
        crawl = Crawl(
            self.bucket,
            self.run.catalog,
            self.run.source,
            self._take_pairs,
            self._take_missing,
            listers=self.options.listers or LISTERS,
            resumed=resumed,
        )
        try:
            await crawl.run(shards, self._plan)
        except* IngestError as group:
            raise _first(group) from group
        self.run.progress.listing_done()

    async def _shards(self) -> tuple[Sequence[Shard], frozenset[Shard]]:
        if self.options.resume:
            run_id = await self.run.catalog.resumable(
                self.run.source.id, self.run.report.command, self.options.arguments
            )
            if run_id is not None:
                cursors = await self.run.catalog.cursors(run_id)
                shards = [shard._replace(start_after=cursor) for shard, cursor, done in cursors if not done]
                log().info("resuming", of_run=run_id, shards=len(shards), finished=len(cursors) - len(shards))
                if cursors:
                    return shards, frozenset(shard for shard in shards if shard.start_after)
            log().info("nothing_to_resume", message="no unfinished run with the same arguments; starting anew")
        return [Shard(prefix, level=True) for prefix in self.options.selection.roots], frozenset()

    async def _plan(self, shards: Sequence[Shard]) -> None:
        if shards and not self.options.dry_run:
            await self.run.catalog.plan_shards(self.run.id, shards)

    async def _take_pairs(self, page: Page, pairs: Sequence[Pair]) -> None:
        await self.recorder.room()
        self.run.progress.listed(len(page.objects))
        self._refuse(page)
        ticket = Ticket(page.shard, page.last_key, page.complete)
        downloads: list[Download] = []
        if not self.options.dry_run:
            self.recorder.open(ticket)
        for pair in pairs:
            for action in decide(pair, self.options.selection):
                if self.options.dry_run:
                    self._show(action)
                elif isinstance(action, Download):
                    downloads.append(action)
                else:
                    done = Status.SKIPPED if isinstance(action, Skip) else Status.DONE
                    ticket.remaining += 1
                    self.recorder.add(Outcome(action, done), ticket)
        ticket.remaining += len(downloads)
        if not self.options.dry_run:
            self.recorder.seal(ticket)
        self.run.progress.planned(len(downloads), sum(action.remote.size for action in downloads))
        for action in downloads:
            await self.pool.submit(action, ticket)

    def _refuse(self, page: Page) -> None:
        """Keys that are no UTF-8 cannot be named, neither in the catalog nor in a request: each is a failed object."""
        for raw in page.undecodable:
            log().error("object_failed", key=repr(raw), error="undecodable_key", message="the key is not UTF-8")
        counts, number = self.run.counts, len(page.undecodable)
        counts.listed += number
        counts.new += number
        counts.failed += number

    async def _take_missing(self, rows: Sequence[CatalogRow]) -> None:
        await self.recorder.room()
        for row in rows:
            if self.options.dry_run:
                self._show(MarkGone(row))
            else:
                self.recorder.add(Outcome(MarkGone(row), Status.DONE))

    def _show(self, action: Action) -> None:
        tally_plan(self.run.counts, action)
        if self.options.on_action is not None and not isinstance(action, Skip):
            self.options.on_action(action)


async def run_pipeline(run: Run, options: SyncOptions) -> None:
    """Opens what the engine needs, runs it, and drains and records whatever happens.

    Raises:
        IngestError: what ended the run; everything finished before is recorded.
    """
    settings = run.settings
    concurrency = concurrency_for(options.transfers)
    async with AsyncExitStack() as stack:
        store = FileStore(settings.data_dir, settings.required("bucket"))
        stack.callback(store.close)
        store.sweep()
        bucket = await stack.enter_async_context(BucketReader(settings, connections=concurrency.ceiling + LISTERS))
        adopting = run.source.is_new or await run.catalog.last_run_died(run.source.id)
        fetch = Fetch(bucket, store, adopting=adopting)

        def committed(outcome: Outcome) -> None:
            log_outcome(outcome)
            if isinstance(outcome.action, Download):
                run.progress.finished(outcome.action.remote.size, failed=outcome.status is Status.FAILED)

        builder = BatchBuilder(run.id, run.source.id, run.source.bucket, deliver_to=options.deliver_to)
        recorder = Recorder(run.catalog, store, builder, run.counts, committed)
        recorder.start()
        transfer = Transfer(fetch, concurrency, RetryBudget(), log_retry)
        pool = TransferPool(transfer, recorder.add, concurrency)
        await _drive(run, Pipeline(run, options, bucket, pool, recorder))
        nothing_left = not run.counts.failed and options.selection.takes_everything
        if nothing_left and options.selection.roots == [""] and not options.dry_run:
            await run.catalog.complete(run.source.id, datetime.now(UTC))


async def _drive(run: Run, pipeline: Pipeline) -> None:
    """Crawls until the end or until asked to stop; then drains the transfers and closes the recorder."""
    crawling = asyncio.create_task(pipeline.crawl())
    stopping = asyncio.create_task(run.stop.wait())
    recording = asyncio.create_task(pipeline.recorder.failed())
    failure: IngestError | None = None
    try:
        await asyncio.wait({crawling, stopping, recording}, return_when=asyncio.FIRST_COMPLETED)
        if crawling.done():
            failure = await _result(crawling)
            if failure is None or isinstance(failure, SourceError):
                drained = asyncio.create_task(pipeline.pool.drain())
                await asyncio.wait({drained, stopping, recording}, return_when=asyncio.FIRST_COMPLETED)
                failure = (await _result(drained) if drained.done() else await _cancel(drained)) or failure
    finally:
        for task in (crawling, stopping, recording):
            await _cancel(task)
        await pipeline.pool.stop(0.0 if failure is not None and not isinstance(failure, SourceError) else GRACE)
        await pipeline.recorder.close()
    if failure is not None:
        raise failure
    run.stop.raise_if_requested()
    if run.counts.failed and not run.counts.downloaded:
        pipeline.pool.raise_if_hopeless()


async def _result(task: asyncio.Task[None]) -> IngestError | None:
    try:
        await task
    except IngestError as error:
        return error
    return None


async def _cancel(task: asyncio.Task[None]) -> IngestError | None:
    task.cancel()
    await asyncio.wait({task})
    if not task.cancelled() and isinstance(error := task.exception(), IngestError):
        return error
    return None


def _first(group: BaseExceptionGroup[IngestError]) -> IngestError:
    first: BaseException = group
    while isinstance(first, BaseExceptionGroup):
        first = first.exceptions[0]
    assert isinstance(first, IngestError)  # noqa: S101 - `except*` let only these in
    return first
