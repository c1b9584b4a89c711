"""The engine of sync and backfill: list, join, decide, transfer, record.

Shard -> Page -> Pair -> Action -> Outcome -> Batch -> RunReport
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack, closing
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from ingest.engine.options import SyncOptions
from ingest.engine.prefixes import is_on_record, read_selection, warn_of_nothing, warn_of_selection
from ingest.engine.record.batch_builder import BatchBuilder
from ingest.engine.record.page_notes import Tallied
from ingest.engine.record.places import Places
from ingest.engine.record.recorder import Recorder
from ingest.engine.run import Run
from ingest.engine.scan.lister import Lister
from ingest.engine.scan.resuming import take_up
from ingest.engine.scan.scan import LISTERS, scan
from ingest.engine.scan.vanished import Vanished
from ingest.engine.transfer.fetch import Fetch
from ingest.engine.transfer.session import GRACE, concurrency_for, log_outcome, log_retry
from ingest.engine.transfer.transfer import Transfer, TransferPool
from ingest.errors import (
    AccessDenied,
    DiskError,
    IngestError,
    OutOfOrder,
    ServerFault,
    SourceError,
    TooManyGone,
    UnexpectedResponse,
)
from ingest.model import (
    Action,
    CatalogRow,
    Counts,
    Download,
    MarkGone,
    Outcome,
    Page,
    Record,
    Shard,
    Skip,
    Status,
)
from ingest.observe.logs import log
from ingest.plan.concurrency import RetryBudget
from ingest.plan.cursors import Part
from ingest.plan.decide_page import decide_page
from ingest.plan.page_memory import filters_of
from ingest.plan.resuming import Cursor
from ingest.plan.storable import refusal
from ingest.plan.tally import tally_many, tally_plan
from ingest.source.patient import PatientBucket
from ingest.store.files import FileStore
from ingest.store.progress import note_end
from ingest.system.failpoints import failpoint


@dataclass
class Pipeline:
    """One pass over a selection of the bucket."""

    run: Run
    options: SyncOptions
    bucket: PatientBucket
    pool: TransferPool
    recorder: Recorder
    vanished: Vanished
    resumed: Sequence[Cursor] = ()
    """The plan of the run that this one goes on with."""

    def __post_init__(self) -> None:
        self._unmet = set(self.options.selection.roots)
        """Prefixes of which nothing has been listed yet."""

    async def scan(self) -> None:
        """Lists, decides and hands on, until the listing ends.

        Raises:
            IngestError: a listing failed, or what it hands to has stopped.
        """
        run, options = self.run, self.options
        lister = Lister(self.bucket, run.catalog, run.source, self, options.listers or LISTERS)
        filters, roots = filters_of(options.selection), options.selection.roots
        failure: SourceError | None = None
        try:
            await scan(lister, roots, self.resumed, filters, remembers=options.page_memory)
        except SourceError as error:
            failure = error
        failpoint("shards.listed")
        run.progress.listing_done()
        if not any(isinstance(error, OutOfOrder) for error in (failure, *lister.failures)):
            failure = await self._mark_gone() or failure
        if failure is not None:
            raise failure
        for root in sorted(self._unmet):
            if not await is_on_record(run.catalog, run.source.id, root):
                warn_of_nothing(root, run.source.bucket)

    async def _mark_gone(self) -> SourceError | None:
        """Everything that the listing did not show where it was whole; or why none of it is marked."""
        run, told = self.run, self.options.arguments.get("prefix")
        try:
            await self.vanished.check(lambda: run.catalog.unmarked(run.source.id, told))
        except TooManyGone as refused:
            run.counts.unmarked = self.vanished.gone
            return refused
        for rows in self.vanished.batches():
            await self.recorder.ready()
            # What an event or another run has recorded since is newer than this listing.
            now = await run.catalog.rows_for(run.source.id, [row.key for row in rows])
            failpoint("gone.read")
            for row in rows:
                if self.options.dry_run:
                    self._show(MarkGone(row))
                elif now.get(row.key) == row:
                    self.recorder.add(Outcome(MarkGone(row), Status.DONE))
        return None

    async def plan(self, shards: Sequence[Shard]) -> None:
        """See `PageSink`."""
        if shards and not self.options.dry_run:
            await self.run.catalog.plan_shards(self.run.id, shards)
            failpoint("shards.planned")

    def open(self, part: Part) -> None:
        """See `PageSink`."""
        if not self.options.dry_run:
            self.recorder.open(part)

    def seal(self, part: Part) -> None:
        """See `PageSink`."""
        if not self.options.dry_run:
            self.recorder.seal(part)

    async def take(self, page: Page, rows: dict[str, CatalogRow], part: Part, *, all_rows: bool) -> Sequence[str]:
        """See `PageSink`."""
        await self.recorder.ready()
        self.run.progress.listed(len(page.objects))
        self._refuse(page)
        self._saw(page.shard, len(page.objects) + len(page.undecodable), sum(not row.gone for row in rows.values()))
        part.shows(page)
        found = decide_page(page.objects, rows, self.options.selection, all_rows=all_rows, seen_before=page.seen_before)
        self._add(Tallied(found.unchanged, len(found.skipped), found.known), part)
        self.vanished.set_aside(found.gone)
        downloads: list[Download] = []
        for action in found.actions:
            if self.options.dry_run:
                self._show(action)
            elif isinstance(action, Download):
                downloads.append(action)
            else:
                self._add(Outcome(action, Status.DONE), part)
        part.remaining += len(downloads)
        self.run.progress.planned(len(downloads), sum(action.remote.size for action in downloads))
        for action in downloads:
            await self.pool.submit(action, part)
        return found.without_copy

    async def count(self, unchanged: int, skipped: int, part: Part) -> None:
        """See `PageSink`."""
        await self.recorder.ready()
        self.run.progress.listed(unchanged + skipped)
        self._saw(part.shard, unchanged + skipped, unchanged + skipped)
        self._add(Tallied(unchanged, skipped), part)

    def _saw(self, shard: Shard, listed: int, live: int) -> None:
        self.vanished.saw(listed, live)
        if listed and self._unmet:
            self._unmet -= {root for root in self._unmet if shard.prefix.startswith(root)}

    def missing(self, rows: Sequence[CatalogRow]) -> None:
        """See `PageSink`."""
        self.vanished.saw(0, len(rows))
        self.vanished.set_aside(rows)

    def _add(self, result: Outcome | Tallied, part: Part) -> None:
        if self.options.dry_run and isinstance(result, Tallied):
            tally_many(self.run.counts, result.unchanged, result.skipped + len(result.known))
            for remote in result.known:
                self._show_line(Record(remote, str(self.options.selection.unwanted(remote))))
        else:
            part.remaining += 1
            self.recorder.add(result, part)

    def _refuse(self, page: Page) -> None:
        """Keys that the catalog cannot keep, or that no request can name: each is a failed object."""
        for raw in page.undecodable:
            code, message = refusal(raw)
            log().error("object_failed", key=repr(raw)[2:-1], error=code, message=message)
        counts, number = self.run.counts, len(page.undecodable)
        counts.listed += number
        counts.new += number
        counts.failed += number

    def _show(self, action: Action) -> None:
        tally_plan(self.run.counts, action)
        self._show_line(action)

    def _show_line(self, action: Action) -> None:
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
        store = FileStore(settings.data_dir, run.source.directory)
        stack.callback(store.close)
        store.sweep()
        connections = concurrency.ceiling + LISTERS
        etags = await run.catalog.etags(run.source.id)
        opening = PatientBucket.open(
            settings.source,
            connections=connections,
            bwlimit=options.bwlimit,
            etags=etags,
            clock=run.clock,
            on_overload=concurrency.overloaded,
        )
        bucket = await stack.enter_async_context(opening)
        options = replace(options, selection=await read_selection(run, options.selection, bucket))
        options, resumed = await take_up(run, options)
        adopting = not store.was_empty and (
            run.source.is_new or run.behind or await run.catalog.last_run_died(run.source.id)
        )
        if adopting:
            await Places(run.catalog, store.taken).refresh()
        fetch = Fetch(bucket, store, adopting=adopting)

        def committed(outcome: Outcome) -> None:
            log_outcome(outcome)
            if isinstance(outcome.action, Download):
                run.progress.finished(outcome.action.remote.size, failed=outcome.status is Status.FAILED)
            if isinstance(outcome.error, DiskError) and not outcome.error.of_one_object:
                pool.give_up(outcome.error)  # what stands in one object's way is its own; a failing disk is everyone's

        where, target = (run.id, run.source.id, run.source.bucket), options.deliver_to
        builder = BatchBuilder(*where, deliver_to=target, etags=etags, now=run.clock.now)
        recorder = Recorder(run.catalog, store, builder, run.counts, committed)
        recorder.start(run.stop)
        transfer = Transfer(fetch, concurrency, RetryBudget(), log_retry)
        pool = TransferPool(transfer, recorder.add, concurrency)
        vanished = stack.enter_context(closing(Vanished(options.max_gone)))
        await _drive(run, Pipeline(run, options, bucket, pool, recorder, vanished, resumed))
        if resumed:  # what was left of a listing says nothing of the whole
            return
        await warn_of_selection(run, options.selection, datetime.now(UTC))
        nothing_left = not run.counts.failed and options.selection.takes_everything
        if nothing_left and options.selection.roots == [""] and not options.dry_run:
            await run.catalog.complete(run.source.id, datetime.now(UTC))
            note_end(run.settings.data_dir, run.record.mark, whole=True)
            failpoint("sync.completed")
            store.sweep(all_done=True)


async def _drive(run: Run, pipeline: Pipeline) -> None:
    """Scans until the end or until asked to stop; then drains the transfers and closes the recorder."""
    scanning = asyncio.create_task(pipeline.scan())
    stopping = asyncio.create_task(run.stop.wait())
    recording = asyncio.create_task(pipeline.recorder.failed())
    tasks = [scanning, stopping, recording]
    failure: IngestError | None = None
    try:
        await asyncio.wait({scanning, stopping, recording}, return_when=asyncio.FIRST_COMPLETED)
        if scanning.done():
            failure = await _result(scanning)
            if failure is None or isinstance(failure, SourceError):
                drained = asyncio.create_task(pipeline.pool.drain())
                tasks.append(drained)
                await asyncio.wait({drained, stopping, recording}, return_when=asyncio.FIRST_COMPLETED)
                failure = (await _result(drained) if drained.done() else await _cancel(drained)) or failure
    finally:
        try:
            for task in tasks:
                await _cancel(task)
            if run.stop.requested:
                pipeline.bucket.abandon(run.stop.error)
            await pipeline.pool.stop(0.0 if failure is not None and not isinstance(failure, SourceError) else GRACE)
        finally:
            await pipeline.recorder.close()
    if failure is None and isinstance(pipeline.pool.failure, IngestError):
        failure = pipeline.pool.failure  # it showed only when the last files were put in their places
    if failure is not None:
        raise failure
    run.stop.raise_if_requested()
    if _nothing_works(run.counts, pipeline.pool.last_error):
        pipeline.pool.raise_if_hopeless()


def _nothing_works(counts: Counts, last: IngestError | None) -> bool:
    """Beside copies that are there one object that fails says nothing of the source, nor do answers, however many: the
    same objects are refused every night, also when there is nothing else to do. No answer says something."""
    if counts.downloaded or counts.adopted:
        return False
    if counts.unchanged:
        return counts.failed > 1 and not isinstance(last, AccessDenied | ServerFault | UnexpectedResponse)
    return counts.failed > 0


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
