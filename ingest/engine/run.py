"""What every command that changes something shares: catalog, source, lock, the run's row, its heartbeat and its end."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

from ingest.catalog import sources
from ingest.catalog.catalog import Catalog, Source
from ingest.catalog.sql.continuity import Continuity
from ingest.catalog.sql.driver import RunLock
from ingest.engine.installation import opened
from ingest.engine.record.copies import undo_left
from ingest.engine.record.patient import MOVED
from ingest.engine.standing import found_behind, turned_back
from ingest.errors import (
    CatalogWentBack,
    ConnectionRefused,
    ConnectionTimedOut,
    CredentialsError,
    DatabaseError,
    ExitCode,
    IngestError,
    InterruptedRun,
    LockedError,
    NameNotResolved,
    NoSuchBucket,
    SettingsError,
    TlsError,
    TooManyFiles,
    exhausted,
)
from ingest.model import Counts, RunReport, RunStatus
from ingest.observe.logs import bound_to_run, log
from ingest.observe.progress import Progress, Silence
from ingest.settings import Settings
from ingest.source.clock import Clock, utc_now
from ingest.store.last_run import note_end, note_mark, noted
from ingest.store.locks import file_lock
from ingest.store.temporaries import sweep_left
from ingest.system.failpoints import failpoint
from ingest.system.redaction import protecting, redact_causes
from ingest.tasks.stop import Stop
from ingest.tasks.threads import until_ended

_HEARTBEAT_SECONDS = 15.0
"""Often enough that nothing in between takes the lock's connection for one that nobody needs."""
_NO_WRITE = (DatabaseError, TooManyFiles)
"""Why the catalog takes no note of the run itself."""
_NEVER_ANSWERED = (
    ConnectionRefused,
    ConnectionTimedOut,
    CredentialsError,
    NameNotResolved,
    NoSuchBucket,
    SettingsError,
    TlsError,
)
"""With what a run ends that has met no server with this bucket."""


@dataclass(frozen=True)
class Run:
    """A run under way."""

    settings: Settings
    catalog: Catalog
    source: Source
    continuity: Continuity
    report: RunReport
    progress: Progress
    stop: Stop
    clock: Clock
    """Ours, beside the server's: what is recorded of a copy is dated by it."""
    behind: bool = False
    """The catalog is older than what runs have left in the data directory: a backup of it was put back, or its server
    has forgotten something."""

    @property
    def id(self) -> int:
        return self.continuity.run_id

    @property
    def counts(self) -> Counts:
        return self.report.counts


async def execute(
    command: str,
    settings: Settings,
    arguments: Mapping[str, object],
    work: Callable[[Run], Awaitable[None]],
    *,
    lock: str | None,
    progress: Progress | None = None,
    stop: Stop | None = None,
    clock: Callable[[], datetime] = utc_now,
) -> RunReport:
    """Runs `work` under the lock named `lock` (None: several may run at once), and records what came of it.
    Nothing is shown without `progress`, and nothing ends it without `stop`. `clock` is this machine's.

    Never raises an `IngestError`: it is in the report, with the exit code that follows.
    """
    report, progress, stop = RunReport(command), progress or Silence(), stop or Stop()
    started = time.monotonic()
    try:
        async with AsyncExitStack() as stack:
            # First, since what closing the rest has to say is shown as well.
            stack.enter_context(protecting(settings.secrets))
            catalog, source = await stack.enter_async_context(opened(settings))
            stack.enter_context(stop.calling(catalog.driver.hurry))
            held: RunLock | None = None
            if lock is not None:
                lock_file = settings.own_dir / "locks" / f"{source.directory}-{lock}.lock"
                stack.enter_context(file_lock(lock_file, command))
                held = await stack.enter_async_context(catalog.lock(f"{lock} of source {source.id}"))
            failpoint("run.locked")
            before = noted(settings.data_dir)  # asked first: a run that begins after this one may end before it
            standing = await catalog.standing(before.marks)
            record = await catalog.begin_run(command, arguments, source, alone=lock is not None)
            report.run_id = record.run_id
            if held is not None:
                held.run = record
            failpoint("run.started")
            stack.enter_context(bound_to_run(report.run_id))
            # Of a new source nothing whole was ever seen, and its run may be taken back.
            behind = not source.is_new and await found_behind(catalog, settings.data_dir, record, before, standing)
            beside = Clock(source.clock_at, clock)
            run = Run(settings, catalog.of_run(record), source, record, report, progress, stop, beside, behind)
            await _work(run, catalog, held, work)
            error = report.error
            if source.is_new and isinstance(error, _NEVER_ANSWERED) and not getattr(error, "answered_before", False):
                await _disown(settings, catalog, source, report)
            elif not behind:
                note_end(settings.data_dir, record.mark)
    except IngestError as error:
        report.error = report.error or error
    finally:
        report.seconds = round(time.monotonic() - started, 3)
        conclude(report)
    return report


async def _disown(settings: Settings, catalog: Catalog, source: Source, report: RunReport) -> None:
    """Nothing ever answered under this address: a mistyped one is to leave no source behind, and no directory."""
    run_id, report.run_id = report.run_id, None
    if run_id is not None:
        await catalog.driver.write(partial(sources.disown, run_id, source.id))
    with suppress(OSError):  # it was not made yet, or somebody else keeps something there
        (settings.data_dir / source.directory).rmdir()


async def _work(run: Run, catalog: Catalog, held: RunLock | None, work: Callable[[Run], Awaitable[None]]) -> None:
    log().info("run_started", command=run.report.command, bucket=run.source.bucket)
    beating = asyncio.create_task(_beat(run, held))
    try:
        await asyncio.to_thread(sweep_left, run.settings.data_dir)
        await undo_left(run.catalog, run.source.id, run.settings.data_dir, run.source.directory, run.stop)
        losing = [beating] if held is None else [beating, asyncio.ensure_future(held.lost())]
        await _unless_lost(work(run), losing)
        failpoint("run.worked")
    except IngestError as error:
        redact_causes(error)
        run.report.error = error
    except BaseException as defect:
        run.report.error = known = exhausted(defect)
        if known is None:
            run.report.error = IngestError(f"a defect: {type(defect).__name__}")
            raise
    finally:
        beating.cancel()
        await until_ended([beating])
        await asyncio.shield(_finish(run, catalog))


async def _finish(run: Run, catalog: Catalog) -> None:
    """Writes how the run ended. `catalog` is the same, for what is no transaction of the run: also a database that has
    forgotten some of those takes note of its end."""
    try:
        await _write_end(run, run.catalog)
    except MOVED as moved:
        if run.report.error is None:
            run.report.error = moved
        with suppress(*_NO_WRITE):
            await _write_end(run, catalog)
            if isinstance(moved, CatalogWentBack):
                await turned_back(catalog, run.settings.data_dir)
    except _NO_WRITE:
        pass  # it is the run's own error already, or nothing that can be helped now


async def _write_end(run: Run, catalog: Catalog) -> None:
    conclude(run.report)
    shown = run.report.error.message if run.report.error else None
    await catalog.finish_run(run.id, run.report.status, run.report.tallies, shown, run.clock.reading)
    failpoint("run.finished")


async def _unless_lost(work: Awaitable[None], losing: Sequence[asyncio.Future[Any]]) -> None:
    """Awaits `work`, which is cancelled should one of `losing` end: then the lock or the database is another's.

    Raises:
        LockLost, CatalogWentBack, SchemaAhead, SchemaMissing: it is.
    """
    working = asyncio.ensure_future(work)
    try:
        await asyncio.wait({working, *losing}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        working.cancel()
        await until_ended([working])
        lost = [one for one in losing if one.done()]
        for one in losing:
            one.cancel()
        await until_ended(losing)
    for one in lost if working.cancelled() else ():
        one.result()
    working.result()


async def _beat(run: Run, held: RunLock | None) -> None:
    """
    Raises:
        CatalogWentBack, SchemaAhead, SchemaMissing: the run has nothing more to do with this database.
    """
    while True:
        await asyncio.sleep(_HEARTBEAT_SECONDS)
        try:
            await run.catalog.heartbeat(run.id, run.clock.reading, run.counts, held)
        except MOVED:
            raise
        except _NO_WRITE:
            continue  # the recorder meets the same database, and ends the run if it must
        if not (run.behind or run.source.is_new):
            await asyncio.to_thread(note_mark, run.settings.data_dir, run.continuity.mark)


def conclude(report: RunReport) -> None:
    """Status and exit code from the error and the counts."""
    error = report.error
    if error is None:
        partial = report.counts.failed > 0
        report.status = RunStatus.PARTIAL if partial else RunStatus.OK
        report.exit_code = ExitCode.PARTIAL if partial else ExitCode.OK
        return
    report.exit_code = error.exit_code
    if isinstance(error, LockedError):
        report.status = RunStatus.LOCKED
    elif isinstance(error, InterruptedRun):
        report.status = RunStatus.INTERRUPTED
    else:
        report.status = RunStatus.PARTIAL if error.exit_code == ExitCode.PARTIAL else RunStatus.FAILED
