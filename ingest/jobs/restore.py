"""Brings pruned copies back by their source path, and says plainly what cannot be brought back as it was."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

from ingest.catalog import queries
from ingest.catalog.queries import CopyRow
from ingest.errors import NoSuchKey, ObjectChanged, RowNotFound
from ingest.jobs.batches import BatchBuilder
from ingest.jobs.fetch import Fetch
from ingest.jobs.options import RestoreOptions
from ingest.jobs.pipeline import GRACE, concurrency_for, log_outcome, log_retry
from ingest.jobs.recorder import Recorder
from ingest.jobs.run import Run, execute
from ingest.jobs.stop import Stop
from ingest.jobs.transfers import Transfer, TransferPool
from ingest.model import CatalogRow, Counts, Download, Outcome, RemoteObject, RunReport, State, Status
from ingest.observe.logs import log
from ingest.observe.progress import Progress
from ingest.plan.concurrency import RetryBudget
from ingest.settings import Settings
from ingest.source.paths import spellings
from ingest.source.reader import BucketReader
from ingest.store.files import FileStore

_BATCH = 500


class _SameVersionOnly(Fetch):
    """A restore never takes another version in the place of the recorded one."""

    async def newest(self, remote: RemoteObject) -> RemoteObject:
        raise ObjectChanged(f"{remote.key!r}: changed at source; `ingest sync` takes the new version")


async def restore(settings: Settings, options: RestoreOptions, *, progress: Progress, stop: Stop) -> RunReport:
    """Restores the copies of `options`. A key that the catalog does not know ends the run before any download."""
    spelled = [spellings(key, settings.required("bucket")) for key in options.keys]
    arguments: dict[str, object] = {"keys": list(options.keys), "prefix": options.prefix, "to": options.to}

    async def work(run: Run) -> None:
        target = Path(options.to).absolute() if options.to else settings.data_dir
        store = FileStore(target, settings.required("bucket"))
        try:
            concurrency = concurrency_for(None)
            async with BucketReader(settings, connections=concurrency.ceiling) as bucket:
                transfer = Transfer(_SameVersionOnly(bucket, store), concurrency, RetryBudget(), log_retry)
                await _restore(run, options, spelled, store, transfer)
        finally:
            store.close()

    return await execute("restore", settings, arguments, work, lock="retention", progress=progress, stop=stop)


async def _restore(
    run: Run, options: RestoreOptions, spelled: list[list[str]], store: FileStore, transfer: Transfer
) -> None:
    counts = run.counts
    tallied = Counts()

    def committed(outcome: Outcome) -> None:
        log_outcome(outcome)
        remote = outcome.action.remote if isinstance(outcome.action, Download) else None
        if outcome.copy is not None:
            counts.restored += 1
            counts.bytes += outcome.received
        else:
            counts.failed += 1
            if remote is not None and isinstance(outcome.error, NoSuchKey):
                log().error("gone_at_source", key=remote.key, message=f"{remote.key}: gone at source")
        if remote is not None:
            run.progress.finished(remote.size, failed=outcome.status is Status.FAILED)

    builder = BatchBuilder(run.id, run.source.id, run.source.bucket, downloaded="restored")
    recorder = Recorder(run.catalog, store, builder, tallied, committed, keeps_rows=bool(options.to))
    recorder.start()

    pool = TransferPool(transfer, recorder.add, transfer.concurrency)
    try:
        async for row in _wanted(run, options, spelled):
            run.stop.raise_if_requested()
            await recorder.room()
            run.progress.planned(1, row.remote.size)
            known = CatalogRow(row.remote.key, row.remote.size, row.remote.etag, row.state, row.gone, row.local_path, 0)
            await pool.submit(Download(row.remote, None if options.to else known, "restore"))
        await pool.drain()
    finally:
        await pool.stop(GRACE)
        await recorder.close()


async def _wanted(run: Run, options: RestoreOptions, spelled: list[list[str]]) -> AsyncIterator[CopyRow]:
    catalog, source_id = run.catalog, run.source.id
    if spelled:
        found = await queries.copies_of(catalog, source_id, [key for keys in spelled for key in keys])
        known = [next((key for key in keys if key in found), None) for keys in spelled]
        unknown = [keys[0] for keys, key in zip(spelled, known, strict=True) if key is None]
        if unknown:
            raise RowNotFound(f"{unknown[0]!r} is not in the catalog; nothing was restored")
        for key in dict.fromkeys(key for key in known if key is not None):
            row = found[key]
            if row.state == State.PRESENT and not row.pruning and not options.to:
                run.counts.kept += 1
                log().info("already_present", key=key)
                continue
            yield row
    if options.prefix is None:
        return
    after = ""
    states = [State.PRUNED, State.PRESENT] if options.to else [State.PRUNED]
    while rows := await queries.copies(catalog, source_id, states, after=after, limit=_BATCH, prefix=options.prefix):
        after = rows[-1].remote.key
        for row in rows:
            yield row
