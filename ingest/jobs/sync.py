"""The nightly run, and the backfill: the same engine over another window and under another lock."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

from ingest.catalog import overview
from ingest.engine.options import SyncOptions
from ingest.engine.pipeline import run_pipeline
from ingest.engine.run import Run, execute
from ingest.figures import SyncFigures
from ingest.model import RunReport
from ingest.observe.progress import Progress
from ingest.settings import Settings
from ingest.tasks.stop import Stop


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
        await run_pipeline(run, await _with_lost_deliveries(run, options))
        if settings.kafka_topic and not options.dry_run:
            unannounced = await overview.unannounced(run.catalog, run.source.id, started)
            run.report.figures = SyncFigures(unannounced=unannounced)

    return await execute(command, settings, options.arguments, work, lock=command, progress=progress, stop=stop)


async def _with_lost_deliveries(run: Run, options: SyncOptions) -> SyncOptions:
    """What a catalog has forgotten it has also forgotten to hand over: that is put in line once more, at least once
    delivered, where this source's objects are handed over at all."""
    target = run.settings.verify_url
    if not run.behind or options.deliver_to or not target:
        return options
    handed_over = await overview.hands_over(run.catalog, run.source.id, target)
    return replace(options, deliver_to=target) if handed_over else options
