"""The nightly run, and the backfill: the same work over another window and under another lock.

Shard -> Page -> Pair -> Action -> Outcome -> Batch -> RunReport
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from ingest.catalog import overview
from ingest.engine.options import SyncOptions
from ingest.engine.prefixes import is_on_record, read_selection, warn_of_nothing, warn_of_selection
from ingest.engine.record.page_notes import Tallied
from ingest.engine.record.places import Places
from ingest.engine.run import Run, execute
from ingest.engine.scan.lister import Lister
from ingest.engine.scan.resuming import take_up
from ingest.engine.scan.scan import LISTERS, scan
from ingest.engine.scan.vanished import Vanished
from ingest.engine.transfer.session import Session, SessionOptions, transferring, without_leftovers
from ingest.errors import (
    AccessDenied,
    DiskError,
    IngestError,
    InterruptedRun,
    OutOfOrder,
    ServerFault,
    SourceError,
    TooManyGone,
    UnexpectedResponse,
)
from ingest.figures import Figures
from ingest.model import (
    Action,
    CatalogRow,
    Counts,
    Download,
    MarkGone,
    Outcome,
    Page,
    Record,
    RunReport,
    Shard,
    Skip,
    Status,
)
from ingest.observe.logs import log
from ingest.observe.progress import Progress
from ingest.plan.cursors import Part
from ingest.plan.decide_page import decide_page
from ingest.plan.page_memory import filters_of
from ingest.plan.resuming import Cursor
from ingest.plan.storable import refusal
from ingest.plan.tally import tally_many, tally_plan
from ingest.settings import Settings
from ingest.source.patient import PatientBucket
from ingest.store.files import FileStore
from ingest.store.last_run import note_end
from ingest.system.failpoints import failpoint
from ingest.tasks.stop import Stop


@dataclass(slots=True)
class SyncFigures(Figures):
    """Of sync and backfill."""

    dry_run: bool | None = None
    unannounced: int | None = None
    """Downloads that no message has named, where there is a topic."""


async def sync(
    settings: Settings,
    options: SyncOptions | None = None,
    *,
    progress: Progress | None = None,
    stop: Stop | None = None,
) -> RunReport:
    """Downloads what is new or changed, and records everything listed.

    Without `options` that is the whole bucket. Nothing is shown without `progress`, and `stop` is how another task ends
    the run. Whatever goes wrong is in the report's `status` and `error`: no `IngestError` is raised.
    """
    return await _run("sync", settings, options, progress, stop)


async def backfill(
    settings: Settings,
    options: SyncOptions | None = None,
    *,
    progress: Progress | None = None,
    stop: Stop | None = None,
) -> RunReport:
    """Downloads a window of the past. Its lock is its own, so it never keeps the nightly sync out."""
    return await _run("backfill", settings, options, progress, stop)


async def _run(
    command: str, settings: Settings, chosen: SyncOptions | None, progress: Progress | None, stop: Stop | None
) -> RunReport:
    options = chosen or SyncOptions()
    options = replace(options, arguments=options.record())

    async def work(run: Run) -> None:
        if options.dry_run:
            run.report.figures = SyncFigures(dry_run=True)
        started = datetime.now(UTC)
        await _take_all(run, await _with_lost_deliveries(run, options))
        if settings.kafka_topic and not options.dry_run:
            unannounced = await overview.unannounced(run.catalog, run.source.id, started)
            run.report.figures = SyncFigures(unannounced=unannounced)

    return await execute(command, settings, options.arguments, work, lock=command, progress=progress, stop=stop)


async def _take_all(run: Run, options: SyncOptions) -> None:
    """Lists, decides, transfers and records, and says when nothing is left to do.

    Raises:
        IngestError: what ended the run; everything finished before is recorded.
    """
    how = SessionOptions(
        transfers=options.transfers,
        listers=options.listers or LISTERS,
        bwlimit=options.bwlimit,
        deliver_to=options.deliver_to,
    )

    def committed(outcome: Outcome) -> None:
        if isinstance(outcome.error, DiskError) and not outcome.error.of_one_object:
            # What stands in one object's way is its own; a failing disk is everyone's.
            session.pool.give_up(outcome.error)

    with without_leftovers(FileStore(run.settings.data_dir, run.source.directory)) as store:
        async with transferring(run, PatientBucket, store, how, committed) as session:
            options = replace(options, selection=await read_selection(run, options.selection, session.bucket))
            options, resumed = await take_up(run, options)
            session.fetch.adopting = await _may_adopt(run, store)
            await _list_and_drain(run, options, session, resumed)
        run.stop.raise_if_requested()
        if _nothing_works(run.counts, session.pool.last_error):
            session.pool.raise_if_hopeless()
        if resumed:  # what was left of a listing says nothing of the whole
            return
        await warn_of_selection(run, options.selection, datetime.now(UTC))
        nothing_left = not run.counts.failed and options.selection.takes_everything
        if nothing_left and options.selection.roots == [""] and not options.dry_run:
            await run.catalog.complete(run.source.id, datetime.now(UTC))
            note_end(run.settings.data_dir, run.continuity.mark, whole=True)
            failpoint("sync.completed")
            store.sweep(all_done=True)


async def _may_adopt(run: Run, store: FileStore) -> bool:
    """Whether copies may be in place that no row names: then their places are known before the first download."""
    if store.was_empty or not (run.source.is_new or run.behind or await run.catalog.last_run_died(run.source.id)):
        return False
    await Places(run.catalog, store.taken).refresh()
    return True


async def _list_and_drain(
    run: Run, options: SyncOptions, session: Session[PatientBucket], resumed: Sequence[Cursor]
) -> None:
    """Where a part of the listing fails, what the others show is downloaded all the same."""
    failure: SourceError | None = None
    with closing(Vanished(options.max_gone)) as vanished:
        try:
            await session.during(_SyncSink(run, options, session, vanished, resumed).scan())
        except SourceError as error:
            failure = error
        try:
            await session.drain()
        except InterruptedRun as stopped:
            raise failure or stopped from None  # what went wrong before is the reason
    if failure is not None:
        raise failure


@dataclass
class _SyncSink:
    """What is done with the pages of the listing: see `PageSink`."""

    run: Run
    options: SyncOptions
    session: Session[PatientBucket]
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
        lister = Lister(self.session.bucket, run.catalog, run.source, self, options.listers or LISTERS)
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
            await self.session.recorder.ready()
            # What an event or another run has recorded since is newer than this listing.
            now = await run.catalog.rows_for(run.source.id, [row.key for row in rows])
            failpoint("gone.read")
            for row in rows:
                if self.options.dry_run:
                    self._show(MarkGone(row))
                elif now.get(row.key) == row:
                    self.session.record(Outcome(MarkGone(row), Status.DONE))
        return None

    async def plan(self, shards: Sequence[Shard]) -> None:
        """See `PageSink`."""
        if shards and not self.options.dry_run:
            await self.run.catalog.plan_shards(self.run.id, shards)
            failpoint("shards.planned")

    def open(self, part: Part) -> None:
        """See `PageSink`."""
        if not self.options.dry_run:
            self.session.recorder.open(part)

    def seal(self, part: Part) -> None:
        """See `PageSink`."""
        if not self.options.dry_run:
            self.session.recorder.seal(part)

    async def take(self, page: Page, rows: dict[str, CatalogRow], part: Part, *, all_rows: bool) -> Sequence[str]:
        """See `PageSink`."""
        await self.session.recorder.ready()
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
        part.expect(len(downloads))
        self.run.progress.planned(len(downloads), sum(action.remote.size for action in downloads))
        for action in downloads:
            await self.session.submit(action, part)
        return found.without_copy

    async def count(self, unchanged: int, skipped: int, part: Part) -> None:
        """See `PageSink`."""
        await self.session.recorder.ready()
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
            part.expect()
            self.session.record(result, part)

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


async def _with_lost_deliveries(run: Run, options: SyncOptions) -> SyncOptions:
    """What a catalog has forgotten it has also forgotten to hand over: that is put in line once more, at least once
    delivered, where this source's objects are handed over at all."""
    target = run.settings.verify_url
    if not run.behind or options.deliver_to or not target:
        return options
    handed_over = await overview.hands_over(run.catalog, run.source.id, target)
    return replace(options, deliver_to=target) if handed_over else options


def _nothing_works(counts: Counts, last: IngestError | None) -> bool:
    """Beside copies that are there one object that fails says nothing of the source, nor do answers, however many: the
    same objects are refused every night, also when there is nothing else to do. No answer says something."""
    if counts.downloaded or counts.adopted:
        return False
    if counts.unchanged:
        return counts.failed > 1 and not isinstance(last, AccessDenied | ServerFault | UnexpectedResponse)
    return counts.failed > 0
