"""Hands copies to the verification service: a run that drains the outbox, and the dispatcher for others to run."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass

from ingest.catalog import outbox
from ingest.delivery.service import Service
from ingest.engine.options import DeliverOptions
from ingest.engine.record.copies import Copies
from ingest.engine.run import Run, execute
from ingest.engine.transfer.refetch import refetching_singly
from ingest.figures import Figures
from ingest.model import DeliveryState, RunReport
from ingest.observe.logs import log
from ingest.observe.progress import Progress
from ingest.outbox.dispatcher import SOON, Dispatcher
from ingest.settings import Settings
from ingest.store.files import FileStore
from ingest.tasks.stop import Stop

__all__ = ["Dispatcher", "deliver", "dispatching"]


@dataclass(slots=True)
class DeliverFigures(Figures):
    """Of an earlier VERIFY_URL."""

    waiting_elsewhere: int
    refused_elsewhere: int


@asynccontextmanager
async def dispatching(
    run: Run, store: FileStore, *, limit: int | None = None, patience: float = SOON
) -> AsyncIterator[Dispatcher]:
    """A dispatcher for the run's source and VERIFY_URL, with everything it needs; call its `run`."""
    with closing(Copies(run.catalog, run.source.id, store.undo_log, run.stop)) as copies:
        told = run.settings
        async with Service(told.service, told.source) as service, refetching_singly(run, store) as recall:
            yield Dispatcher(
                run.catalog,
                run.source,
                store,
                copies,
                service,
                run.id,
                recall=recall,
                counts=run.counts,
                limit=limit,
                patience=patience,
            )


async def deliver(
    settings: Settings,
    options: DeliverOptions | None = None,
    *,
    progress: Progress | None = None,
    stop: Stop | None = None,
) -> RunReport:
    """Delivers what is due, and waits a while for what is due soon.

    Raises:
        SettingsError: VERIFY_URL is not set.
    """
    settings.required("verify_url")
    options = options or DeliverOptions()
    arguments: dict[str, object] = {"limit": options.limit, "again": [state.value for state in options.again]}

    async def work(run: Run) -> None:
        store = FileStore(settings.data_dir, run.source.directory)
        try:
            async with dispatching(run, store, limit=options.limit, patience=options.patience) as dispatcher:
                await _prepare(run, dispatcher, options)
                await dispatcher.run(run.stop, until_empty=True)
        finally:
            store.close()
        counts = run.counts
        waiting = await outbox.totals(run.catalog, run.source.id)
        counts.pending = waiting.get(DeliveryState.PENDING, 0)
        counts.failed = counts.rejected + counts.dead - dispatcher.superseded + len(dispatcher.postponed)
        run.stop.raise_if_requested()
        if dispatcher.trouble is not None:
            raise dispatcher.trouble

    return await execute("deliver", settings, arguments, work, lock="deliver", progress=progress, stop=stop)


async def _prepare(run: Run, dispatcher: Dispatcher, options: DeliverOptions) -> None:
    box = dispatcher.outbox
    if options.take_over:
        log().info("taken_over", deliveries=await box.take_over(options.again))
    if options.again:
        log().info("taken_up_again", deliveries=await box.reopen(options.again))
    found = await box.elsewhere()
    elsewhere = found.pop(DeliveryState.PENDING, 0)
    if elsewhere:
        log().warning("waiting_elsewhere", deliveries=elsewhere, message="for an earlier VERIFY_URL; see --take-over")
    if found:
        said = "by an earlier VERIFY_URL, or given up there; see --take-over with --again"
        log().info("refused_elsewhere", **{state.value: count for state, count in found.items()}, message=said)
    run.report.figures = DeliverFigures(elsewhere, sum(found.values()))
    waiting = (await outbox.totals(run.catalog, run.source.id)).get(DeliveryState.PENDING, 0)
    run.progress.planned(waiting - elsewhere, 0)
    dispatcher.on_concluded = lambda one: run.progress.finished(0, failed=one.state is not DeliveryState.DELIVERED)
